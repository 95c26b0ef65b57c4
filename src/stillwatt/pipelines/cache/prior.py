"""What a teacher tends to say after a token: the shared knowledge that rows are coded under (method.md, eq. 83).

A prior holds the mean probability of every token, and, for tokens that preceded often enough, of those tokens whose
mean differs after them. All are levels of a quarter of a nat. It is part of the cache: bytes are counted, hash in the
index.

Shapes: R rows, W tokens given of each row, V vocabulary, S contexts that have a list, E entries of all lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["LEVELS", "LEVEL_NATS", "Candidates", "Prior", "fit_prior"]

LEVEL_NATS = 0.25
LEVELS = 160
"""Levels of a mean probability: down to exp(-40)."""
_SHRINK = 3.0
"""Rows that the mean over all contexts counts for inside the mean of one."""
_LEAST_SHARE = 2.0**-20
"""What a context leaves to the tokens outside its list, at least."""
_NOTHING = 2.0**-30
"""Mass that is left to the tokens outside, so that none is impossible."""
_COMMON = 768
"""Tokens of the general mean that are candidates in every context."""

Ids = npt.NDArray[np.int32]
Small = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Candidates:
    """For each context one after the other: tokens worth asking for, the most probable first."""

    first: npt.NDArray[np.int64]
    """S + 2 places; the last list is that of all other contexts."""
    ids: Ids
    levels: Small
    above: Ids
    """[S + 1, LEVELS + 1]; how many of each list lie above a level."""


@dataclass(frozen=True)
class Prior:
    """Mean probabilities as levels."""

    vocab_size: int
    common_levels: Small
    """V; of the mean over all contexts."""
    contexts: Ids
    """S; ascending."""
    shifts: Small
    """S; levels by which a token that is in no list of that context lies below `common_levels`."""
    first: npt.NDArray[np.int64]
    """S + 1; where each list begins in the two below."""
    ids: Ids
    """E; ascending inside a list."""
    levels: Small

    def arrays(self) -> dict[str, npt.NDArray[np.integer]]:
        """What is stored; ids and lengths as differences, which pack better."""
        step = np.diff(self.ids, prepend=0)
        starts = self.first[:-1][np.diff(self.first) > 0]
        step[starts] = self.ids[starts]
        return {
            "common_levels": self.common_levels,
            "contexts": np.diff(self.contexts, prepend=0).astype("<u4"),
            "shifts": self.shifts,
            "lengths": np.diff(self.first).astype("<u4"),
            "id_low": (step & 0xFF).astype(np.uint8),
            "id_high": (step >> 8).astype("<u2"),
            "levels": self.levels,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.integer]]) -> Prior:
        """The reverse of `arrays`."""
        first = np.concatenate([[0], np.cumsum(arrays["lengths"].astype(np.int64))])
        step = (arrays["id_high"].astype(np.int64) << 8) | arrays["id_low"].astype(np.int64)
        total = np.cumsum(step)
        before = np.concatenate([[0], total])[first[:-1]]
        ids = total - np.repeat(before, np.diff(first))
        return cls(
            vocab_size=len(arrays["common_levels"]),
            common_levels=arrays["common_levels"].astype(np.uint8),
            contexts=np.cumsum(arrays["contexts"].astype(np.int64)).astype(np.int32),
            shifts=arrays["shifts"].astype(np.uint8),
            first=first,
            ids=ids.astype(np.int32),
            levels=arrays["levels"].astype(np.uint8),
        )

    @classmethod
    def flat(cls, vocab_size: int) -> Prior:
        """The prior that knows nothing: all tokens alike."""
        none = np.zeros(0, dtype=np.int32)
        level = np.full(vocab_size, _level(np.array(1.0 / vocab_size)), dtype=np.uint8)
        empty = np.zeros(0, dtype=np.uint8)
        return cls(vocab_size, level, none, empty, np.zeros(1, dtype=np.int64), none, empty)

    @cached_property
    def _slot_of(self) -> Ids:
        slots = np.full(self.vocab_size, len(self.contexts), dtype=np.int32)
        slots[self.contexts] = np.arange(len(self.contexts), dtype=np.int32)
        return slots

    def slots(self, tokens_R: npt.NDArray[np.integer]) -> Ids:
        """Which list each preceding token has; the last one where it has none of its own."""
        found: Ids = self._slot_of[tokens_R]
        return found

    @cached_property
    def candidates(self) -> Candidates:
        """The lists, each completed by the common tokens that are not in it."""
        num, most = len(self.contexts), min(_COMMON, self.vocab_size)
        common = np.lexsort((np.arange(self.vocab_size), self.common_levels))[:most].astype(np.int32)
        rank = np.full(self.vocab_size, -1, dtype=np.int32)
        rank[common] = np.arange(most)
        owner = np.repeat(np.arange(num), np.diff(self.first))
        is_listed = np.zeros((num + 1, most), dtype=np.bool_)
        at = rank[self.ids]
        is_listed[owner[at >= 0], at[at >= 0]] = True
        slot, place = np.nonzero(~is_listed)
        shifts = np.concatenate([self.shifts.astype(np.int64), [0]])
        level = np.minimum(self.common_levels[common[place]] + shifts[slot], LEVELS - 1).astype(np.uint8)
        owners = np.concatenate([owner, slot])
        levels = np.concatenate([self.levels, level])
        keys = owners * LEVELS + levels
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=(num + 1) * LEVELS).reshape(num + 1, LEVELS)
        above = np.concatenate([np.zeros((num + 1, 1), dtype=np.int64), counts.cumsum(1)], axis=1)
        first = np.concatenate([[0], np.cumsum(above[:, -1])])
        ids = np.concatenate([self.ids, common[place]])
        return Candidates(first, ids[order], levels[order], above.astype(np.int32))

    def mean_logp(self, tokens_R: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Log of the mean probability of every token, [R, V]; not normalised."""
        slots = self.slots(tokens_R)
        shifts = np.concatenate([self.shifts.astype(np.float32), [0.0]]).astype(np.float32)
        found = -LEVEL_NATS * (self.common_levels.astype(np.float32)[None, :] + shifts[slots][:, None])
        for row, slot in enumerate(slots):
            if slot < len(self.contexts):
                part = slice(int(self.first[slot]), int(self.first[slot + 1]))
                found[row, self.ids[part]] = -LEVEL_NATS * self.levels[part].astype(np.float32)
        dense: npt.NDArray[np.float32] = found.astype(np.float32)
        return dense


def fit_prior(
    tokens_R: npt.NDArray[np.integer],
    ids_RW: npt.NDArray[np.integer],
    logp_RW: npt.NDArray[np.floating],
    *,
    vocab_size: int,
    kept: int,
    least: int = 2,
    is_bigram: bool = True,
) -> Prior:
    """Take means over rows of a teacher.

    Args:
        tokens_R: The token before each row's prediction.
        ids_RW: Most probable tokens, more of them than a cache keeps; what they leave over is spread evenly.
        logp_RW: Their log-probabilities.
        vocab_size: V.
        kept: How many of them the cache keeps.
        least: A token is listed for a context once it was among the kept this often.
        is_bigram: Whether contexts have lists at all.
    """
    p_RW = np.exp(logp_RW.astype(np.float64))
    common = np.bincount(ids_RW.ravel(), weights=p_RW.ravel(), minlength=vocab_size)
    left = max(len(ids_RW) - p_RW.sum(), 0.0) + _NOTHING
    common = (common + left / vocab_size) / max(len(ids_RW), 1)
    levels = _level(common)
    flat = Prior.flat(vocab_size)
    if not is_bigram or not len(ids_RW):
        return Prior(vocab_size, levels, flat.contexts, flat.shifts, flat.first, flat.ids, flat.levels)
    width = ids_RW.shape[1]
    keys = (tokens_R.astype(np.int64)[:, None] * vocab_size + ids_RW).ravel()
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    start = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    mass = np.add.reduceat(p_RW.ravel()[order], start)
    times = np.add.reduceat(((order % width) < kept).astype(np.int64), start)
    context, token = keys[start] // vocab_size, keys[start] % vocab_size
    rows_of = np.bincount(tokens_R, minlength=vocab_size)
    mean = (mass + _SHRINK * common[token]) / (rows_of[context] + _SHRINK)
    is_listed = times >= least
    context, token, level = context[is_listed], token[is_listed], _level(mean[is_listed])
    contexts, lengths = np.unique(context, return_counts=True)
    # what a context's list leaves over, over what the general mean gives to the tokens outside it
    first = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(len(contexts)), lengths)
    left_over, outside = (
        1 - np.bincount(owner, weights=w, minlength=len(contexts)) for w in (mean[is_listed], common[token])
    )
    shift = np.rint(-np.log(np.maximum(left_over, _LEAST_SHARE) / np.maximum(outside, _LEAST_SHARE)) / LEVEL_NATS)
    return Prior(
        vocab_size,
        levels,
        contexts.astype(np.int32),
        np.clip(shift, 0, LEVELS - 1).astype(np.uint8),
        first.astype(np.int64),
        token.astype(np.int32),
        level,
    )


def _level(probability: npt.NDArray[np.floating]) -> Small:
    found: Small = np.clip(np.rint(-np.log(probability) / LEVEL_NATS), 0, LEVELS - 1).astype(np.uint8)
    return found
