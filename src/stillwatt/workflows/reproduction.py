"""One published figure beside ours, and how near it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """One published figure beside ours."""

    source: str
    what: str
    inputs: str
    unit: str
    theirs: float
    ours: float | None
    within: float
    """How far ours may lie from theirs, as a share, to count as the same."""
    why: str
    key: str = ""
    """Which headline figure of an account it answers, `ACCOUNT/FIGURE`; empty where it is one of the parts."""
    is_backwards: bool = False
    """Whether it was computed from another result of the same account, not from what that was made of."""

    @property
    def deviation(self) -> float | None:
        """Ours over theirs, less 1; None where there is nothing to compute."""
        return None if self.ours is None else self.ours / self.theirs - 1.0

    @property
    def is_reproduced(self) -> bool:
        """Whether ours is near enough to theirs."""
        return self.deviation is not None and abs(self.deviation) <= self.within


class Maker(Protocol):
    """Makes cases of one source and unit."""

    def __call__(
        self,
        what: str,
        inputs: str,
        theirs: float,
        ours: float | None,
        why: str,
        key: str = "",
        *,
        is_backwards: bool = False,
    ) -> Reproduction:
        """One case."""
        ...


def case_of(source: str, unit: str, within: float) -> Maker:
    """A maker of the cases of one source and unit: what, inputs, theirs, ours, and why they differ."""

    def made(
        what: str,
        inputs: str,
        theirs: float,
        ours: float | None,
        why: str,
        key: str = "",
        *,
        is_backwards: bool = False,
    ) -> Reproduction:
        said = {"source": source, "what": what, "inputs": inputs, "unit": unit, "why": why, "key": key}
        return Reproduction(**said, theirs=theirs, ours=ours, within=within, is_backwards=is_backwards)

    return made
