"""Sets of tokens, one a row, coded under the prior (method.md, eqs. 84 and 85).

First each candidate of the row's context: in the set or not. Then the others, of which there are few, over the whole
vocabulary: it is split in two equally heavy halves again and again, and each time it is said how many lie on the left.
That spends nothing on an order, which a set has not.

Shapes: R rows, N kept tokens of all rows, Q candidates of all rows, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.cache.coder import Side, binomial
from stillwatt.pipelines.cache.prior import LEVELS, Prior

__all__ = ["ELSEWHERE", "SET_LEVELS", "Kept", "SetTables", "code_sets", "spread"]

_PER_LEVEL = 2
SET_LEVELS = LEVELS // _PER_LEVEL
"""Levels of half a nat are what chances are counted for."""
ELSEWHERE = SET_LEVELS
"""The level of a token that was no candidate."""
HOPELESS = 400
"""Where no level further down has this chance, in units of 2**-16, candidates are not asked for; they are found among
the others."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SetTables:
    """Chances that a candidate is in the set, and how heavy each token is among those that were no candidates."""

    chance: npt.NDArray[np.uint16]
    """[SET_LEVELS, classes], in units of 2**-16."""
    weight: npt.NDArray[np.uint16]
    """[V], at least 1."""

    @cached_property
    def reach(self) -> Ints:
        """For each class, how many levels are worth asking for."""
        worth = self.chance >= HOPELESS
        return np.where(worth.any(0), SET_LEVELS - np.argmax(worth[::-1], axis=0), 0).astype(np.int64)

    @cached_property
    def order(self) -> Ints:
        """Tokens from heavy to light."""
        return np.lexsort((np.arange(len(self.weight)), -self.weight.astype(np.int64))).astype(np.int64)

    @cached_property
    def place(self) -> Ints:
        """Where each token stands in that order."""
        found = np.empty(len(self.order), dtype=np.int64)
        found[self.order] = np.arange(len(self.order))
        return found

    @cached_property
    def heap(self) -> Ints:
        """Weights summed along the order; V + 1 of them."""
        return np.concatenate([[0], np.cumsum(self.weight[self.order].astype(np.int64))])


@dataclass(frozen=True, slots=True)
class Kept:
    """Tokens of all rows: candidates first, then the others, each in order of rows."""

    row: Ints
    id: Ints
    level: Ints
    """Of SET_LEVELS, or ELSEWHERE."""


def spread(first: Ints, counts: Ints) -> Ints:
    """Places first, first + 1, .. for each list, one after the other.

    >>> spread(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(first - (ends - counts), counts) + np.arange(total)


def asked(
    prior: Prior, tables: SetTables, tokens_R: Ints, class_R: Ints
) -> tuple[Ints, npt.NDArray[np.int32], Ints, npt.NDArray[np.uint16]]:
    """The candidates of all rows that are worth a question: row, id, level, chance."""
    candidates, slots = prior.candidates, prior.slots(tokens_R)
    counts = candidates.above[slots, tables.reach[class_R] * _PER_LEVEL].astype(np.int64)
    at = spread(candidates.first[slots], counts)
    row_Q = np.repeat(np.arange(len(tokens_R), dtype=np.int64), counts)
    level_Q = (candidates.levels[at] // _PER_LEVEL).astype(np.int64)
    classes = tables.chance.shape[1]
    chance_Q = tables.chance.ravel()[level_Q * classes + np.repeat(class_R, counts)]
    return row_Q, candidates.ids[at], level_Q, chance_Q


def code_sets(
    side: Side,
    prior: Prior,
    tables: SetTables,
    rows: tuple[Ints, Ints, Ints],
    members: tuple[Ints, Ints] | None,
    taken: tuple[Ints, Ints] | None = None,
) -> Kept:
    """Write or read the sets of a block.

    Args:
        side: Writing or reading.
        prior: Where candidates come from.
        tables: Chances and weights.
        rows: Preceding token, class and size of each row.
        members: Row and id of what is in the sets; None when reading.
        taken: Row and id of what cannot be in them, as it is known from elsewhere.
    """
    tokens_R, class_R, size_R = rows
    row_Q, id_Q, level_Q, chance_Q = asked(prior, tables, tokens_R, class_R)
    if taken is not None:
        with _marked(taken, len(tokens_R), prior.vocab_size) as mark:
            free = ~mark[row_Q, id_Q]
        row_Q, id_Q, level_Q, chance_Q = row_Q[free], id_Q[free], level_Q[free], chance_Q[free]
    bits_Q, others = None, None
    if members is not None:
        with _marked(members, len(tokens_R), prior.vocab_size) as mark:
            bits_Q = mark[row_Q, id_Q]
            mark[row_Q, id_Q] = False
            is_other = mark[members]
        others = members[0][is_other], members[1][is_other]
    bits_Q = side.bits(bits_Q, chance_Q)
    row_N, id_N, level_N = row_Q[bits_Q], id_Q[bits_Q].astype(np.int64), level_Q[bits_Q]
    left_R = size_R - np.bincount(row_N, minlength=len(tokens_R))
    row_M, id_M = _code_others(side, tables, left_R, others)
    return Kept(
        np.concatenate([row_N, row_M]),
        np.concatenate([id_N, id_M]),
        np.concatenate([level_N, np.full(len(row_M), ELSEWHERE)]),
    )


class _Scratch(threading.local):
    """A thread's marks, all down between uses: fresh memory for each block would take longer than the marking."""

    marks = np.zeros(0, dtype=np.bool_)


_SCRATCH = _Scratch()


@contextmanager
def _marked(members: tuple[Ints, Ints], rows: int, vocab_size: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Rows by vocabulary, true at the members; marks may be taken away and none added."""
    if len(_SCRATCH.marks) < rows * vocab_size:
        _SCRATCH.marks = np.zeros(rows * vocab_size, dtype=np.bool_)
    mark = _SCRATCH.marks[: rows * vocab_size].reshape(rows, vocab_size)
    mark[members] = True
    try:
        yield mark
    finally:
        mark[members] = False


def _code_others(side: Side, tables: SetTables, count_R: Ints, others: tuple[Ints, Ints] | None) -> tuple[Ints, Ints]:
    """Halve the vocabulary until each token stands alone; all rows at once."""
    size = len(tables.weight)
    keys = None if others is None else np.sort(others[0] * size + tables.place[others[1]])
    row = np.flatnonzero(count_R > 0)
    low, high, count = np.zeros(len(row), dtype=np.int64), np.full(len(row), size), count_R[row]
    found: list[Ints] = []
    while len(row):
        is_alone = high - low == 1
        found.append(row[is_alone] * size + low[is_alone])
        row, low, high, count = row[~is_alone], low[~is_alone], high[~is_alone], count[~is_alone]
        half = (tables.heap[low] + tables.heap[high]) // 2
        middle = np.clip(np.searchsorted(tables.heap, half), low + 1, high - 1)
        given = None
        if keys is not None:
            given = np.searchsorted(keys, row * size + middle) - np.searchsorted(keys, row * size + low)
        left = _code_counts(side, count, given)
        row, count = np.concatenate([row, row]), np.concatenate([left, count - left])
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        lives = count > 0
        row, low, high, count = row[lives], low[lives], high[lives], count[lives]
    keys = np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
    return keys // size, tables.order[keys % size]


def _code_counts(side: Side, count: Ints, given: Ints | None) -> Ints:
    left = np.zeros(len(count), dtype=np.int64)
    for n in np.unique(count):
        of = np.flatnonzero(count == n)
        left[of] = side.symbols(None if given is None else given[of], binomial(int(n)), len(of))
    return left
