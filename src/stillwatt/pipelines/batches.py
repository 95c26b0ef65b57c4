"""Which prompts are written next, and which of them together.

A batch's prompts are filled up to its longest one, and what is filled up is computed like text: a batch of one long
and many short prompts wastes most of its reading. Neighbours in length waste little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["Batch", "Schedule"]

_WINDOW_BATCHES = 8
"""Batches made from prompts that follow each other in the file; more of them gain little (benchmarks/README.md)."""


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

    Where batches are padded and lengths are unlike, several batches are planned at once, from the next prompts in the
    file sorted by length; never for more than half of the missing tokens, so that texts may turn out twice as long and
    no batch has been written in vain. What comes next depends on what came before and was kept, and on nothing else:
    a resumed attempt finds the same batches.
    """

    lengths: Sequence[int]
    """Tokens of each prompt."""
    spec: GenerateSpec
    pads_batches: bool = False
    """Whether whoever writes fills a batch up to its longest prompt."""
    _round: int = 0
    _batch: int = 0
    _start: int = 0
    _tried: int = 0

    @property
    def window_batches(self) -> int:
        """Batches planned at once, at most."""
        return _WINDOW_BATCHES if self.pads_batches and len(set(self.lengths)) > 1 else 1

    def next(self, kept_tokens: int, needed_tokens: int) -> list[Batch] | None:
        """Batches that are to be written before it is asked again; None once every prompt was used in every round."""
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
        whole_batches = min(self.window_batches, wanted // 2 // self.spec.batch_size) if self._tried else 1
        return min(wanted, max(whole_batches, 1) * self.spec.batch_size)
