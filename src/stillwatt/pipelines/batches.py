"""Which prompts are written next, and which of them together.

A batch's prompts are filled up to its longest one, and what is filled up is computed like text: a batch of one long
and many short prompts wastes most of its reading. Neighbours in length waste little. Several batches are planned at
once, so that they can be sorted, and written by several processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["WINDOW_BATCHES", "Batch", "Schedule"]

WINDOW_BATCHES = 8
"""Batches planned at once, at most. What a text holds hangs on it, so it hangs on nothing: not on how many write."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts written together, by their numbers."""

    round_number: int
    number: int
    """Within the round."""
    prompts: tuple[int, ...]


@dataclass(slots=True)
class Schedule:
    """Batches in order, round by round, and no more prompts than the missing tokens ask for.

    The next prompts in the file, sorted by length, are several batches; never more of them than half of the missing
    tokens ask for, so that texts may turn out twice as long and no batch has been written in vain. What comes next
    depends on what was kept of the windows before, and on nothing else: a resumed attempt finds the same batches.
    """

    lengths: Sequence[int]
    """Tokens of each prompt."""
    spec: GenerateSpec
    _round: int = 0
    _batch: int = 0
    _start: int = 0
    _tried: int = 0

    def next(self, kept_tokens: int, needed_tokens: int) -> list[Batch] | None:
        """A window: batches that are written before it is asked again; None once each prompt was used in each round."""
        if self._start >= len(self.lengths):
            self._round, self._batch, self._start = self._round + 1, 0, 0
        if self._round >= (self.spec.max_rounds if self.spec.temperature > 0.0 else min(1, self.spec.max_rounds)):
            return None
        stop = min(self._start + self._size(kept_tokens, needed_tokens), len(self.lengths))
        chosen = range(self._start, stop)
        by_length = list(chosen)
        if len(chosen) > self.spec.batch_size:
            by_length.sort(key=lambda number: -self.lengths[number])  # the batch that is not full has the shortest
        together = [
            tuple(by_length[place : place + self.spec.batch_size])
            for place in range(0, len(by_length), self.spec.batch_size)
        ]
        window = [Batch(self._round, self._batch + number, prompts) for number, prompts in enumerate(together)]
        self._tried += len(chosen)
        self._batch, self._start = self._batch + len(window), stop
        return window

    def _size(self, kept_tokens: int, needed_tokens: int) -> int:
        """As many prompts as the missing tokens take, at the yield so far (rejects included), within a window."""
        shortest = 1 + self.spec.min_new_tokens  # of the first batch's yield nothing is known yet
        yielded = max(kept_tokens / self._tried, 1.0) if self._tried else shortest
        wanted = max(1, math.ceil((needed_tokens - kept_tokens) / yielded))
        whole_batches = min(WINDOW_BATCHES, wanted // 2 // self.spec.batch_size) if self._tried else 1
        return min(wanted, max(whole_batches, 1) * self.spec.batch_size)
