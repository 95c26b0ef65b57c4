"""Prompts that the teacher will not go on from: a few are left out, all of them mean that the request is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stillwatt.errors import StillwattError
from stillwatt.pipelines.batches import Batch
from stillwatt.pipelines.sampling import Written

__all__ = ["Refusals"]

_FEW = 4
"""Fewer refusals with no answer before them may be the prompts' fault; in larger batches the first one tells."""


@dataclass(slots=True)
class Refusals:
    """Which prompts were refused so far, and whether any was ever answered."""

    num_prompts: int
    numbers: dict[int, str] = field(default_factory=dict)
    """With the reason; filled by whoever judges, in the prompts' order."""
    _is_answered: bool = False
    _held: list[tuple[Batch, Sequence[Written]]] = field(default_factory=list)
    """Batches of refusals alone: not kept before there is an answer, so that a request that is mended asks anew."""

    def not_refused(self, batch: Batch) -> list[int]:
        """The batch's prompts that are still to be asked."""
        return [number for number in batch.prompts if number not in self.numbers]

    def filled_up(self, batch: Batch, written: Sequence[Written]) -> list[Written]:
        """What was written for a whole batch, given that of the prompts that were asked."""
        fresh = iter(written)
        return [
            Written(tokens=[], refusal=self.numbers[number]) if number in self.numbers else next(fresh)
            for number in batch.prompts
        ]

    def take_over(self, written: Sequence[Written]) -> None:
        """A batch of an earlier attempt; such is kept only where somebody was answered."""
        self._is_answered = self._is_answered or bool(written)

    def let_through(self, batch: Batch, written: Sequence[Written]) -> list[tuple[Batch, Sequence[Written]]]:
        """The batches that may be kept now, this one among them unless nothing has been answered yet.

        Raises:
            StillwattError: As many are refused as cannot be chance, or all there are, and none is answered.
        """
        self._held.append((batch, written))
        self._is_answered = self._is_answered or any(one.refusal is None for one in written)
        if self._is_answered:
            through, self._held = self._held, []
            return through
        reasons = [one.refusal for _, some in self._held for one in some]
        if len(reasons) >= min(_FEW, self.num_prompts):
            raise StillwattError(
                f"every one of the first {len(reasons)} prompts was refused, so that the request is wrong and not a "
                f"prompt: {reasons[-1]}"
            )
        return []
