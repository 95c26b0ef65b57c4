"""What a training's next step, and what comes after its last one, will take: as long as what was seen of the kind."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

__all__ = ["Habits", "Like", "Pace"]

_STEPS_KEPT = 9
_GAPS_KEPT = 5
_ENDINGS_KEPT = 3
_BYTES_PER_PARAMETER = 4
_BYTES_PER_S = 500_000_000
"""What a checkpoint is taken to be written at, as long as none of that student was: 0.5 to 0.8 GB/s were seen."""


class Pace:
    """How long steps take; those on the student's own text take longer and are kept apart.

    >>> pace = Pace()
    >>> for length_s in (0.1, 0.1, 0.9, 0.1):
    ...     pace.note(length_s, is_own=False)
    >>> pace.next_s(is_own=False), pace.next_s(is_own=True)
    (0.1, 0.1)
    >>> pace.note(0.5, is_own=True)
    >>> pace.next_s(is_own=True)
    0.5
    """

    def __init__(self) -> None:
        self._lengths_s = {is_own: deque[float](maxlen=_STEPS_KEPT) for is_own in (False, True)}

    def note(self, length_s: float, *, is_own: bool) -> None:
        """Take note of how long a step took."""
        self._lengths_s[is_own].append(length_s)

    def next_s(self, *, is_own: bool) -> float:
        """Median of the latest steps of that kind, of the other one where there was none; 0 before any step."""
        seen = self._lengths_s[is_own] or self._lengths_s[not is_own]
        return statistics.median(seen) if seen else 0.0


@dataclass(frozen=True, slots=True)
class Like:
    """A stage that another one is expected to be like."""

    name: str
    cleanup_s: float
    """What it took to let go of what it held: the next one may be quicker at that."""

    def scale(self, length_s: float, cleanup_s: float) -> float:
        """What the next one takes of what this one took in so many seconds, with so many to clear up.

        >>> Like("evaluate.start", 0.25).scale(0.5, 0.125)
        0.75
        """
        return max(0.0, length_s - self.cleanup_s + cleanup_s) / length_s if length_s > 0.0 else 1.0


class Habits:
    """What stages of this study were seen to take beside their work, in seconds, and which evaluation is like which."""

    def __init__(self) -> None:
        self.cleanup_s = 0.0
        """What the latest stage took to let go of what it held."""
        self._writing_s: dict[str, float] = {}
        self._endings_s: dict[str, deque[float]] = {}
        self._evaluation: dict[str, Like] = {}
        self._gaps_s: deque[float] = deque(maxlen=_GAPS_KEPT)

    def note_gap(self, length_s: float) -> None:
        """Take note of the time between two stages."""
        self._gaps_s.append(length_s)

    def note_size(self, student: str, parameters: int) -> None:
        """Take note of a student's size: until one is written, an ordinary disk is taken to write that much."""
        self._writing_s.setdefault(student, parameters * _BYTES_PER_PARAMETER / _BYTES_PER_S)

    def note_writing(self, student: str, length_s: float) -> None:
        """Take note of how long a model of a student's size took to be written."""
        self._writing_s[student] = length_s

    def note_ending(self, student: str, length_s: float) -> None:
        """Take note of how long a training took to write its checkpoint and to clean up."""
        self._endings_s.setdefault(student, deque(maxlen=_ENDINGS_KEPT)).append(length_s)

    def note_evaluation(self, student: str, stage: str, *, is_seen: bool) -> None:
        """Take note of a stage that evaluated a student; the next one will take about as much.

        Args:
            student: Whom it evaluated.
            stage: Its name.
            is_seen: Whether it ran just now, so that what it took to clear up is known.
        """
        self._evaluation[student] = Like(stage, self.cleanup_s if is_seen else 0.0)

    @property
    def gap_s(self) -> float:
        """Between two stages."""
        return statistics.median(self._gaps_s) if self._gaps_s else 0.0

    def ending_s(self, student: str) -> float:
        """Between the last step of a student's training and its stage's end, as far as it can be known beforehand."""
        if student in self._endings_s:
            # of two the shorter: a disk that others keep busy now and then says nothing of the next time
            return statistics.median_low(self._endings_s[student])
        return self._writing_s.get(student, 0.0) + self.cleanup_s

    def evaluation(self, student: str) -> Like | None:
        """The stage that evaluated that student last; None where none has."""
        return self._evaluation.get(student)
