"""Tokens that nothing is expected of, coded over the whole vocabulary (method.md, eq. 85).

It is split in two equally heavy halves again and again, and each time it is said how many lie on the left. That spends
nothing on an order, which a set has not.

Shapes: R rows, K tokens of a row's set, M tokens of all rows that are coded here, V vocabulary, S parts of all rows
that are split at once.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.cache.coder import Side, binomial

__all__ = ["Halves", "code_others"]

_KEY_BITS = 63
_STEP_BITS, _ROW_BITS = 40, 16
"""Room in the key of tokens that are alone for steps and rows; beside the number of the step and a bit."""

Ints = npt.NDArray[np.int64]


class Halves:
    """The vocabulary from heavy to light, halved at equal weight until each token stands alone."""

    def __init__(self, weight_V: npt.NDArray[np.integer]) -> None:
        self.weight_V = weight_V.astype(np.int64)

    @cached_property
    def order(self) -> Ints:
        """Tokens from heavy to light."""
        return np.lexsort((np.arange(len(self.weight_V)), -self.weight_V)).astype(np.int64)

    @cached_property
    def place(self) -> Ints:
        """Where each token stands in that order."""
        found = np.empty(len(self.order), dtype=np.int64)
        found[self.order] = np.arange(len(self.order))
        return found

    @cached_property
    def cuts(self) -> Ints:
        """Where parts are cut: 2 V places.

        No two parts are cut at one place, so a part goes by its cut. At 2 c stands where the part left of c is cut, at
        2 c + 1 that right of it, at 0 the whole; or -1 less the token's place, where a part is one token.
        """
        heap, size = np.concatenate([[0], np.cumsum(self.weight_V[self.order])]), len(self.order)
        cuts = np.zeros(2 * size, dtype=np.int64)
        at, low, high = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.full(1, size)
        while len(at):
            is_alone = high - low == 1
            cuts[at[is_alone]] = -1 - low[is_alone]
            at, low, high = at[~is_alone], low[~is_alone], high[~is_alone]
            half = (heap[low] + heap[high]) // 2
            cut = np.clip(np.searchsorted(heap, half), low + 1, high - 1)
            cuts[at] = cut
            at = np.concatenate([2 * cut, 2 * cut + 1])
            low, high = np.concatenate([low, cut]), np.concatenate([cut, high])
        return cuts

    @cached_property
    def ways(self) -> _Ways:
        """The way to each token."""
        turns, lengths = np.zeros(len(self.order), dtype=np.int64), np.zeros(len(self.order), dtype=np.int64)
        at, way, step = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), 0
        while len(at) and step < _KEY_BITS:
            cut = self.cuts[at]
            is_alone = cut < 0
            ends = -1 - cut[is_alone]
            turns[ends], lengths[ends] = way[is_alone] | -1 << step, step
            cut, way = cut[~is_alone], way[~is_alone]
            at, way, step = np.concatenate([2 * cut, 2 * cut + 1]), np.concatenate([way, way | 1 << step]), step + 1
        return _Ways(turns, lengths, step if not len(at) else _KEY_BITS)


class _Ways(NamedTuple):
    """How a token is come to, by its place."""

    turns_V: Ints
    """Bit d is 0 where step d goes to the left; all bits behind the last step are 1."""
    lengths_V: Ints
    longest: int


def code_others(
    side: Side, halves: Halves, count_R: Ints, ids_RK: Ints | None, others: tuple[Ints, Ints] | None
) -> tuple[Ints, Ints, Ints]:
    """Write or read so many tokens of each row; all rows at once.

    Returns row, id and, when writing, place in the row's set.
    """
    size, cuts = len(halves.order), halves.cuts
    keys, order = None, np.zeros(0, dtype=np.int64)
    if ids_RK is not None and others is not None:
        keys = others[0] * size + halves.place[ids_RK[others]]
        order = np.argsort(keys)
        keys, order = keys[order], others[1][order]
        if _is_written(side, halves.ways, keys // size, keys % size, count_R):
            return keys // size, halves.order[keys % size], order
    row = np.flatnonzero(count_R > 0)
    count = count_R[row]
    cut, begin = np.full(len(row), cuts[0]), np.cumsum(count) - count
    found: list[Ints] = []
    while len(row):
        is_alone = cut < 0
        found.append(row[is_alone] * size - 1 - cut[is_alone])
        row, cut, count, begin = (a[~is_alone] for a in (row, cut, count, begin))
        given = None if keys is None else _lying_left(keys, begin, count, row * size + cut)
        left = _code_counts(side, count, given)
        row, count, begin = (np.concatenate(p) for p in ((row, row), (left, count - left), (begin, begin + left)))
        cut = np.concatenate([cuts[2 * cut], cuts[2 * cut + 1]])
        lives = np.flatnonzero(count)
        row, cut, count, begin = (a[lives] for a in (row, cut, count, begin))
    if keys is None:
        keys = np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
    return keys // size, halves.order[keys % size], order


def _is_written(side: Side, ways: _Ways, row_M: Ints, place_M: Ints, count_R: Ints) -> bool:
    """Write what the walk would write, from the ways to all tokens; False where these are too long.

    Tokens of a row stand in order, so a part is a stretch of them that came the same way. The walk has parts that went
    left before those that went right, of each of these likewise those that had gone left one step earlier, and at last
    one row before the other: the order of the ways' bits, read from the last step to the first. Equal counts are coded
    together.
    """
    count_bits, row_bits = int(count_R.max(initial=0)).bit_length(), len(count_R).bit_length()
    if 2 * count_bits + row_bits + ways.longest > _KEY_BITS or row_bits > _ROW_BITS or ways.longest > _STEP_BITS:
        return False
    turns_M, length_M = ways.turns_V[place_M], ways.lengths_V[place_M]
    shared_M = _shared(turns_M, row_M)
    for step in range(int(length_M.max(initial=0))):
        if length_M.min() <= step:  # who stands alone is done, and was no part of another stretch
            walks = np.flatnonzero(length_M > step)
            turns_M, length_M, shared_M, row_M = turns_M[walks], length_M[walks], shared_M[walks], row_M[walks]
        first_S = np.flatnonzero(shared_M < step)
        if len(first_S) == len(row_M):
            _write_alone(side, turns_M, length_M, row_M, step)
            break
        count_S = np.diff(first_S, append=len(row_M))
        left_S = np.add.reduceat(~(turns_M >> step) & 1, first_S)
        keys = count_S << step | turns_M[first_S] & (1 << step) - 1
        keys = np.sort((keys << row_bits | row_M[first_S]) << count_bits | left_S)
        count_S, left_S = keys >> step + row_bits + count_bits, keys & (1 << count_bits) - 1
        ends = [0, *(np.flatnonzero(np.diff(count_S)) + 1).tolist(), len(keys)]
        for begin, end in pairwise(ends):
            side.symbols(left_S[begin:end], binomial(int(count_S[begin])), end - begin)
    return True


def _write_alone(side: Side, turns_M: Ints, length_M: Ints, row_M: Ints, step: int) -> None:
    """Write what is left of the ways of tokens that are each alone in their part: all steps at once."""
    ahead_M = length_M - step
    which = np.repeat(np.arange(len(row_M)), ahead_M)
    steps = _spread(np.full(len(row_M), step), ahead_M)
    turns = turns_M[which]
    keys = (steps << _STEP_BITS | turns & (1 << steps) - 1) << _ROW_BITS | row_M[which]
    keys = np.sort(keys << 1 | ~(turns >> steps) & 1)
    side.symbols(keys & 1, binomial(1), len(keys))


def _shared(turns_M: Ints, row_M: Ints) -> npt.NDArray[np.int8]:
    """How many steps each token goes together with the one before it; -1 where that is of another row."""
    shared_M = np.full(len(row_M), -1, dtype=np.int8)
    differs = turns_M[1:] ^ turns_M[:-1]
    first = np.frexp((differs & -differs).astype(np.float64))[1] - 1
    shared_M[1:] = np.where(row_M[1:] == row_M[:-1], first, -1)
    return shared_M


def _spread(first: Ints, counts: Ints) -> Ints:
    """Places first, first + 1, .. for each list, one after the other.

    >>> _spread(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(first - (ends - counts), counts) + np.arange(total)


def _lying_left(keys: Ints, begin: Ints, count: Ints, bound: Ints) -> Ints:
    """Of each stretch of keys, how many lie below its bound."""
    if not len(begin):
        return begin
    is_left = keys[_spread(begin, count)] < np.repeat(bound, count)
    starts = np.cumsum(count) - count
    return np.add.reduceat(is_left, starts, dtype=np.int64)


def _code_counts(side: Side, count: Ints, given: Ints | None) -> Ints:
    """Write or read how many of each count lie on the left; equal counts together, as that is one call each."""
    left = np.zeros(len(count), dtype=np.int64)
    order = np.argsort(count.astype(np.uint16), kind="stable")
    numbers = np.bincount(count, minlength=1)
    ends = np.cumsum(numbers)
    for n in np.flatnonzero(numbers):
        of = order[ends[n] - numbers[n] : ends[n]]
        left[of] = side.symbols(None if given is None else given[of], binomial(int(n)), len(of))
    return left
