"""One published figure beside ours, and how near it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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

    @property
    def deviation(self) -> float | None:
        """Ours over theirs, less 1; None where there is nothing to compute."""
        return None if self.ours is None else self.ours / self.theirs - 1.0

    @property
    def is_reproduced(self) -> bool:
        """Whether ours is near enough to theirs."""
        return self.deviation is not None and abs(self.deviation) <= self.within


def case_of(source: str, unit: str, within: float) -> Callable[[str, str, float, float | None, str], Reproduction]:
    """A maker of the cases of one source and unit: what, inputs, theirs, ours, and why they differ."""

    def made(what: str, inputs: str, theirs: float, ours: float | None, why: str) -> Reproduction:
        return Reproduction(
            source=source, what=what, inputs=inputs, unit=unit, theirs=theirs, ours=ours, within=within, why=why
        )

    return made
