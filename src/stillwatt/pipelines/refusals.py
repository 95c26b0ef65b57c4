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
    """Which prompts were refused so far, and how many since the last answer."""

    num_prompts: int
    numbers: dict[int, str] = field(default_factory=dict)
    """With the reason; filled by whoever judges, in the prompts' order."""
    _is_answered: bool = False
    _held: list[tuple[Batch, Sequence[Written]]] = field(default_factory=list)
    """Batches since the last answer: not kept before there is another, so that who mends the cause asks them anew."""
    _reasons: list[str] = field(default_factory=list)
    """Why the prompts of these batches were refused."""

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
        """The batches that may be kept now: this one and those before it, unless all of it is refused.

        Raises:
            StillwattError: As many are refused as cannot be chance, or all there are, and none is answered.
        """
        self._held.append((batch, written))
        if any(one.refusal is None for one in written):
            through, self._held, self._reasons, self._is_answered = self._held, [], [], True
            return through
        rows = zip(batch.prompts, written, strict=True)
        self._reasons += [one.refusal for number, one in rows if one.refusal and number not in self.numbers]
        if not self._is_answered and len(self._reasons) >= min(_FEW, self.num_prompts):
            raise StillwattError(
                f"every one of the first {len(self._reasons)} prompts was refused, so that the request is wrong and "
                f"not a prompt: {self._reasons[-1]}"
            )
        return []

    def check_end(self, missing_tokens: int) -> None:
        """Refuse to end with text that falls short, where there was no answer any more at the end.

        Raises:
            StillwattError: As many were refused in a row as cannot be chance; the same command asks these again.
        """
        if missing_tokens > 0 and len(self._reasons) >= _FEW:
            raise StillwattError(
                f"the last {len(self._reasons)} prompts that were asked were all refused, and {missing_tokens} tokens "
                f"are missing: {self._reasons[-1]}; run the recipe again when that is mended, what was answered is "
                "kept; or give other prompts"
            )
