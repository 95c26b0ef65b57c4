"""Sets of tokens, one a row, coded under the prior (method.md, eqs. 84 and 85).

First each candidate of the row's context: in the set or not. Then the others, of which there are few, over the whole
vocabulary (`halves`).

Shapes: R rows, K tokens of a row's set (filled up with -1), N those of all rows, Q candidates of all rows, M tokens of
all rows that were no candidates, V vocabulary.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.cache.coder import Side
from stillwatt.pipelines.cache.halves import Halves, code_others
from stillwatt.pipelines.cache.places import places
from stillwatt.pipelines.cache.prior import LEVELS, Prior

__all__ = ["ELSEWHERE", "SET_LEVELS", "Kept", "SetTables", "code_sets"]

_PER_LEVEL = 2
SET_LEVELS = LEVELS // _PER_LEVEL
"""Levels of half a nat are what chances are counted for."""
ELSEWHERE = SET_LEVELS
"""The level of a token that was no candidate."""
HOPELESS = 400
"""Where no level further down has this chance, in units of 2**-16, candidates are not asked for; they are found among
the others."""
_TAKEN = (1 << 16) - 1
"""The mark of a token that cannot be in a set; above the places of the most that are kept."""
_MARKED_ROWS = 16
"""Rows whose marks exist at once: 1.6 MB at a vocabulary of 49,152, which stays in the processor's cache."""

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
    def halves(self) -> Halves:
        """How the vocabulary is halved, for tokens that were no candidates."""
        return Halves(self.weight)


@dataclass(frozen=True, slots=True)
class Kept:
    """Tokens of all rows: candidates first, then the others, each in order of rows."""

    row: Ints
    id: Ints
    level: Ints
    """Of SET_LEVELS, or ELSEWHERE."""
    at: Ints
    """Where each stands in its row of what was given; nothing when reading."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The candidates that are worth a question, row after row."""

    first_R: Ints
    """Where those of each row begin in `prior.candidates`."""
    counts_R: Ints
    id_Q: npt.NDArray[np.int32]
    chance_Q: npt.NDArray[np.uint16]

    def rows(self, hit_N: Ints) -> Ints:
        """Whose some of them are, which stand in their order."""
        ends_R = np.searchsorted(hit_N, np.cumsum(self.counts_R))
        return np.repeat(np.arange(len(self.counts_R)), np.diff(ends_R, prepend=0))

    def levels(self, prior: Prior, hit_N: Ints, row_N: Ints) -> Ints:
        """Of SET_LEVELS, of some of them, which belong to those rows."""
        begin_R = np.cumsum(self.counts_R) - self.counts_R
        at_N = (self.first_R - begin_R)[row_N] + hit_N
        return prior.candidates.levels[at_N].astype(np.int64) // _PER_LEVEL


def asked(prior: Prior, tables: SetTables, tokens_R: Ints, class_R: Ints) -> Asked:
    """The candidates of all rows, as far down as each row's class reaches."""
    candidates, slots = prior.candidates, prior.slots(tokens_R)
    above_RL = candidates.above[slots, ::_PER_LEVEL]
    above_RL = np.minimum(above_RL, np.take_along_axis(above_RL, tables.reach[class_R][:, None], axis=1))
    first, counts = candidates.first[slots], above_RL[:, -1].astype(np.int64)
    # lists are long and levels few: pieces are copied, nothing is looked up one by one
    pieces = [candidates.ids[start:end] for start, end in zip(first.tolist(), (first + counts).tolist(), strict=True)]
    chance_Q = np.repeat(tables.chance.T[class_R].ravel(), np.diff(above_RL, axis=1).ravel())
    return Asked(first, counts, np.concatenate([candidates.ids[:0], *pieces]), chance_Q)


def code_sets(
    side: Side,
    prior: Prior,
    tables: SetTables,
    rows: tuple[Ints, Ints, Ints],
    ids_RK: Ints | None,
    taken_RK: Ints | None = None,
) -> Kept:
    """Write or read the sets of a block.

    Args:
        side: Writing or reading.
        prior: Where candidates come from.
        tables: Chances and weights.
        rows: Preceding token, class and size of each row.
        ids_RK: What is in the sets; None when reading.
        taken_RK: What cannot be in them, as it is known from elsewhere.
    """
    tokens_R, class_R, size_R = rows
    about = asked(prior, tables, tokens_R, class_R)
    mark_Q, free, chance_Q = None, None, about.chance_Q
    if ids_RK is not None or taken_RK is not None:
        mark_Q = marks(about, ids_RK, taken_RK, prior.vocab_size)
        if taken_RK is not None:
            free = np.flatnonzero(mark_Q != _TAKEN)
            mark_Q, chance_Q = mark_Q[free], chance_Q[free]
    hit_N = places(side.bits(None if ids_RK is None or mark_Q is None else mark_Q > 0, chance_Q))
    mark_N = None if mark_Q is None else mark_Q[hit_N]
    hit_N = hit_N if free is None else free[hit_N]
    row_N, id_N = about.rows(hit_N), about.id_Q[hit_N].astype(np.int64)
    left_R = size_R - np.bincount(row_N, minlength=len(tokens_R))
    at, others = np.zeros(0, dtype=np.int64), None
    if ids_RK is not None and mark_N is not None:
        at = mark_N.astype(np.int64) - 1
        is_other_RK = ids_RK >= 0
        is_other_RK[row_N, at] = False
        row_O, at_O = np.nonzero(is_other_RK)
        others = row_O.astype(np.int64), at_O.astype(np.int64)
    row_M, id_M, at_M = code_others(side, tables.halves, left_R, ids_RK, others)
    return Kept(
        np.concatenate([row_N, row_M]),
        np.concatenate([id_N, id_M]),
        np.concatenate([about.levels(prior, hit_N, row_N), np.full(len(row_M), ELSEWHERE)]),
        np.concatenate([at, at_M]),
    )


class _Scratch(threading.local):
    """A thread's marks, all down between uses: fresh memory for each block would take longer than the marking."""

    marks = np.zeros(0, dtype=np.uint16)


_SCRATCH = _Scratch()


def marks(about: Asked, ids_RK: Ints | None, taken_RK: Ints | None, vocab_size: int) -> npt.NDArray[np.uint16]:
    """For each candidate 1 plus its place in its row's set, 0 where it is not in it, _TAKEN where it cannot be."""
    # one column more than tokens, where fillers of -1 come to lie
    width = vocab_size + 1
    if len(_SCRATCH.marks) < _MARKED_ROWS * width:
        _SCRATCH.marks = np.zeros(_MARKED_ROWS * width, dtype=np.uint16)
    mark, num = _SCRATCH.marks, len(about.counts_R)
    ends = np.concatenate([[0], np.cumsum(about.counts_R)])
    found = np.empty(len(about.id_Q), dtype=np.uint16)
    first_R = np.arange(_MARKED_ROWS) * width
    for start in range(0, num, _MARKED_ROWS):
        rows = slice(start, min(start + _MARKED_ROWS, num))
        base_R = first_R[: rows.stop - start]
        marked = []
        for ids, value in ((ids_RK, None), (taken_RK, _TAKEN)):
            if ids is not None and ids.shape[1]:
                marked.append(base_R[:, None] + ids[rows])
                mark[marked[-1]] = np.arange(1, ids.shape[1] + 1) if value is None else value
        part = slice(int(ends[rows.start]), int(ends[rows.stop]))
        mark.take(np.repeat(base_R, about.counts_R[rows]) + about.id_Q[part], out=found[part], mode="clip")
        for at in marked:
            mark[at] = 0
    return found
