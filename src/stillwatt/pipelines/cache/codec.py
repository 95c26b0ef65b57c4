"""Blocks of rows to bytes and back (method.md, eqs. 80 to 86); what a block is made of, and how its tables are counted.

A row has a head, a tail and draws, or some of them: `topk` and `topp` a head and a tail, `head_draws` all three,
`rs_kd` draws alone.

Shapes: R rows, K kept tokens of the head (shorter rows filled up with id -1), U different drawn tokens, V vocabulary.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.cache.coder import TOTAL, Reading, Side, Writing
from stillwatt.pipelines.cache.grid import TAIL_LEVELS, Grid
from stillwatt.pipelines.cache.prior import Prior, fit_prior
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.sets import SET_LEVELS, Kept, SetTables, asked, code_sets, marks
from stillwatt.pipelines.cache.tables import ContextTables, chances, fit_contexts

__all__ = ["CODER_FAILURES", "Codec", "Rows", "Wide", "expected_shape", "fit_codec"]

Ints = npt.NDArray[np.int64]

CODER_FAILURES = (ValueError, IndexError, KeyError, TypeError, OverflowError, AssertionError)
"""What the coder fails with where a block was written under other tables."""
_BUCKETS = 24
"""Classes of rows that values are told apart by."""
_PER_VALUE_LEVEL = 2
_VALUE_LEVELS = SET_LEVELS // _PER_VALUE_LEVEL + 1
_TAIL_BUCKET = 16
_FIT_ROWS = 256
"""Rows whose candidates are counted at once."""
_MOST_COUNTED = 8192
"""Rows that tables are counted on, at most."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as levels and counts: what the coder sees, and exactly what it gives back."""

    tokens_R: Ints
    """The token before each prediction."""
    ids_RK: Ints
    level_RK: Ints
    """Of the scheme's grid, rising along a row; 0 where the id is -1."""
    tail_R: Ints
    draw_ids_RU: Ints
    """Rising along a row, -1 at the end."""
    draw_counts_RU: Ints

    def __getitem__(self, rows: slice | Ints) -> Rows:
        return Rows(*(getattr(self, name)[rows] for name in self.__slots__))

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """Rows one after the other."""
        return cls(*(_stacked([getattr(part, name) for part in parts]) for name in cls.__slots__))

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        flat, wide = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64)
        return cls(flat, wide, wide, flat, wide, wide)

    def __len__(self) -> int:
        return len(self.tokens_R)


def _stacked(parts: list[Ints]) -> Ints:
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    filled = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in parts]
    return np.concatenate(filled)


@dataclass(frozen=True, slots=True)
class Wide:
    """More of the teacher than is kept, to learn a prior from."""

    ids_RW: npt.NDArray[np.integer]
    """Most probable first."""
    logp_RW: npt.NDArray[np.floating]

    @classmethod
    def join(cls, parts: list[Wide]) -> Wide:
        """One after the other, as wide as the narrowest."""
        if not parts:
            return cls(np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0)))
        width = min(part.ids_RW.shape[1] for part in parts)
        return cls(
            np.concatenate([part.ids_RW[:, :width] for part in parts]),
            np.concatenate([part.logp_RW[:, :width] for part in parts]),
        )


@dataclass(frozen=True)
class Codec:
    """Turns blocks of rows into bytes and back; holds what both sides know beforehand."""

    scheme: Scheme
    prior: Prior
    context_tables: Mapping[str, ContextTables]
    set_tables: Mapping[str, SetTables]

    @property
    def shape(self) -> dict[str, int]:
        """Symbols of each kind that the tables tell apart, and tokens that they weigh; see `expected_shape`."""
        tables = {name: table.frequency.shape[1] for name, table in self.context_tables.items()}
        classes = {f"{name} classes": table.chance.shape[1] for name, table in self.set_tables.items()}
        return {**tables, **classes, **{f"{name} tokens": len(t.weight) for name, t in self.set_tables.items()}}

    def encode(self, rows: Rows, bytes_of: Counter[str] | None = None) -> bytes:
        """The bytes of a block; `bytes_of` is told what they are made of, to the word."""
        side = Writing()
        self._walk(side, rows.tokens_R, rows)
        payload = side.finish()
        if bytes_of is not None:
            bytes_of.update(side.bytes_of)
        return payload

    def decode(self, payload: bytes, tokens_R: Ints) -> Rows:
        """The rows of a block; the tokens before them are known from elsewhere."""
        return self._walk(Reading(payload), tokens_R, None)

    def gives(self, rows: Rows, crc32: int) -> bool:
        """Whether rows are as many as the scheme keeps and come to the bytes of that checksum, coded anew."""
        kept_R, most = _sizes(rows.ids_RK), self.scheme.top_k
        if not ((kept_R <= most) if self.scheme.is_variable else (kept_R == most)).all():
            return False
        try:
            return zlib.crc32(self.encode(rows)) == crc32
        except CODER_FAILURES:
            return False

    def _walk(self, side: Side, tokens_R: Ints, rows: Rows | None) -> Rows:
        empty = np.zeros((len(tokens_R), 0), dtype=np.int64)
        ids_RK, level_RK, tail_R = empty, empty, np.zeros(len(tokens_R), dtype=np.int64)
        taken = None
        if self.scheme.has_head:
            ids_RK, level_RK, tail_R = self._head(side, tokens_R, rows)
            taken = ids_RK
        draw_ids_RU, draw_counts_RU = empty, empty
        if self.scheme.draws:
            draw_ids_RU, draw_counts_RU = self._draws(side, tokens_R, tail_R, taken, rows)
        return Rows(tokens_R, ids_RK, level_RK, tail_R, draw_ids_RU, draw_counts_RU)

    def _head(self, side: Side, tokens_R: Ints, rows: Rows | None) -> tuple[Ints, Ints, Ints]:
        scheme, grid, num = self.scheme, self.scheme.grid, len(tokens_R)
        nothing, zero = None, np.zeros(num, dtype=np.int64)
        least_R = self._code(side, "least", zero, nothing if rows is None else _least(rows))
        bucket_R = _bucket(least_R, grid)
        tail_R = self._code(side, "tail", bucket_R, nothing if rows is None else rows.tail_R)
        size_R = zero + scheme.top_k
        if scheme.is_variable:
            size_R = 1 + self._code(side, "size", bucket_R, nothing if rows is None else _sizes(rows.ids_RK) - 1)
        side.mark("tail and smallest value")
        about = (tokens_R, least_R, size_R)
        kept = code_sets(side, self.prior, self.set_tables["head"], about, None if rows is None else rows.ids_RK)
        side.mark("kept ids")
        given = None if rows is None else least_R[kept.row] - rows.level_RK[kept.row, kept.at]
        value_N = least_R[kept.row] - self._code(side, "value", _value_context(kept, bucket_R), given)
        side.mark("kept values")
        if rows is not None:
            return rows.ids_RK, rows.level_RK, tail_R
        ids_RK, level_RK = _as_rows(kept.row, kept.id, value_N, value_N * self.prior.vocab_size + kept.id, num)
        return ids_RK, level_RK, tail_R

    def _draws(
        self, side: Side, tokens_R: Ints, tail_R: Ints, taken_RK: Ints | None, rows: Rows | None
    ) -> tuple[Ints, Ints]:
        given_R = None if rows is None else _sizes(rows.draw_ids_RU)
        different_R = self._code(side, "different", tail_R // _TAIL_BUCKET, given_R)
        about = (tokens_R, different_R, different_R)
        given = None if rows is None else rows.draw_ids_RU
        kept = code_sets(side, self.prior, self.set_tables["draws"], about, given, taken_RK)
        side.mark("drawn ids")
        # as many different tokens as draws: each was drawn once
        is_open = np.flatnonzero(different_R[kept.row] < self.scheme.draws)
        context = _count_context(kept, different_R)[is_open]
        given = None if rows is None else rows.draw_counts_RU[kept.row[is_open], kept.at[is_open]] - 1
        found = self._code(side, "count", context, given)
        side.mark("draw counts")
        if rows is not None:
            return rows.draw_ids_RU, rows.draw_counts_RU
        count_N = np.ones(len(kept.row), dtype=np.int64)
        count_N[is_open] += found
        ids_RU, counts_RU = _as_rows(kept.row, kept.id, count_N, kept.id, len(tokens_R))
        return ids_RU, counts_RU

    def _code(self, side: Side, name: str, context: Ints, given: Ints | None) -> Ints:
        return self.context_tables[name].code(side, context, given)


def expected_shape(scheme: Scheme, vocab_size: int) -> dict[str, int]:
    """The `Codec.shape` of a scheme: tables of another one would be read as if they were its own."""
    found: dict[str, int] = {}
    if scheme.has_head:
        found = {"least": scheme.grid.size, "tail": TAIL_LEVELS, "value": scheme.grid.size}
        found |= {"head classes": scheme.grid.size, "head tokens": vocab_size}
    if scheme.is_variable:
        found["size"] = scheme.top_k + 1
    if scheme.draws:
        found |= {"different": scheme.draws + 1, "count": max(scheme.draws, 2)}
        found |= {"draws classes": scheme.draws + 1, "draws tokens": vocab_size}
    return found


def fit_codec(scheme: Scheme, rows: Rows, wide: Wide, *, vocab_size: int) -> Codec:
    """Learn the prior and the tables from the first rows of a cache.

    Tables are counted on every fourth stretch of rows, under lists made from the others: lists know their own rows
    too well. The lists that are kept are made from all.
    """
    is_counted = np.arange(len(rows)) // 64 % 4 == 3
    if len(rows) < 256:
        is_counted = np.ones(len(rows), dtype=np.bool_)
    count = np.flatnonzero(is_counted)[:_MOST_COUNTED]

    def prior_of(chosen: Ints) -> Prior:
        return fit_prior(
            rows.tokens_R[chosen], wide.ids_RW[chosen], wide.logp_RW[chosen],
            vocab_size=vocab_size, kept=scheme.listed, least=scheme.prior_least, is_bigram=scheme.is_bigram,
        )  # fmt: skip

    others = np.flatnonzero(~is_counted) if len(rows) >= 256 else count
    before, some = prior_of(others), rows[count]
    tables, sets = _count_all(scheme, before, some)
    return Codec(scheme, prior_of(np.arange(len(rows))), tables, sets)


def _count_all(scheme: Scheme, prior: Prior, rows: Rows) -> tuple[dict[str, ContextTables], dict[str, SetTables]]:
    tables, sets, grid = {}, {}, scheme.grid
    zero = np.zeros(len(rows), dtype=np.int64)
    if scheme.has_head:
        least_R = _least(rows)
        bucket_R = _bucket(least_R, grid)
        tables["least"] = fit_contexts(zero, least_R, contexts=1, coarse=1, symbols=grid.size)
        tables["tail"] = fit_contexts(bucket_R, rows.tail_R, contexts=_BUCKETS, coarse=1, symbols=TAIL_LEVELS)
        if scheme.is_variable:
            sizes = _sizes(rows.ids_RK) - 1
            tables["size"] = fit_contexts(bucket_R, sizes, contexts=_BUCKETS, coarse=1, symbols=scheme.top_k + 1)
        sets["head"], kept = _count_sets(prior, rows.tokens_R, least_R, rows.ids_RK, grid.size)
        value = least_R[kept.row] - rows.level_RK[kept.row, kept.at]
        context = _value_context(kept, bucket_R)
        tables["value"] = fit_contexts(
            context, value, contexts=_VALUE_LEVELS * _BUCKETS, coarse=_BUCKETS, symbols=grid.size
        )
    if scheme.draws:
        draws, different_R = scheme.draws, _sizes(rows.draw_ids_RU)
        context, most = rows.tail_R // _TAIL_BUCKET, TAIL_LEVELS // _TAIL_BUCKET + 1
        tables["different"] = fit_contexts(context, different_R, contexts=most, coarse=1, symbols=draws + 1)
        sets["draws"], kept = _count_sets(prior, rows.tokens_R, different_R, rows.draw_ids_RU, draws + 1)
        count = rows.draw_counts_RU[kept.row, kept.at] - 1
        tables["count"] = fit_contexts(
            _count_context(kept, different_R), count,
            contexts=_VALUE_LEVELS * _BUCKETS, coarse=_BUCKETS, symbols=max(draws, 2),
        )  # fmt: skip
    return tables, sets


def _count_sets(prior: Prior, tokens_R: Ints, class_R: Ints, ids_RK: Ints, classes: int) -> tuple[SetTables, Kept]:
    """How often candidates were in a set, by level and class; and which tokens were found outside them."""
    asked_LC, found_LC = np.zeros((SET_LEVELS, classes)), np.zeros((SET_LEVELS, classes))
    anything = SetTables(np.full((SET_LEVELS, classes), TOTAL - 1, dtype=np.uint16), np.ones(1, dtype=np.uint16))
    for part in _parts(len(tokens_R)):
        about = asked(prior, anything, tokens_R[part], class_R[part])
        every = np.arange(len(about.id_Q))
        row = about.rows(every)
        cell = about.levels(prior, every, row) * classes + class_R[part][row]
        hit = np.flatnonzero(marks(about, ids_RK[part], None, prior.vocab_size))
        asked_LC += np.bincount(cell, minlength=asked_LC.size).reshape(asked_LC.shape)
        found_LC += np.bincount(cell[hit], minlength=asked_LC.size).reshape(asked_LC.shape)
    chance = chances(asked_LC, found_LC)
    none = np.zeros(0, dtype=np.int64)
    kept = [Kept(none, none, none, none)]
    for part in _parts(len(tokens_R)):
        about = asked(prior, SetTables(chance, anything.weight), tokens_R[part], class_R[part])
        mark = marks(about, ids_RK[part], None, prior.vocab_size)
        hit = np.flatnonzero(mark)
        row, at = about.rows(hit), mark[hit].astype(np.int64) - 1
        is_other = ids_RK[part] >= 0
        is_other[row, at] = False
        other, other_at = np.nonzero(is_other)
        levels = np.concatenate([about.levels(prior, hit, row), np.full(len(other), SET_LEVELS)])
        ids = np.concatenate([about.id_Q[hit].astype(np.int64), ids_RK[part][other, other_at]])
        kept.append(Kept(np.concatenate([row, other]) + part.start, ids, levels, np.concatenate([at, other_at])))
    joined = Kept(*(np.concatenate([getattr(k, name) for k in kept]) for name in Kept.__slots__))
    outside = np.bincount(joined.id[joined.level == SET_LEVELS], minlength=prior.vocab_size)
    by_level = np.bincount(prior.common_levels, weights=outside) / np.maximum(np.bincount(prior.common_levels), 1)
    weight = 1 + np.rint(64 * (0.5 * outside + 0.5 * by_level[prior.common_levels]))
    return SetTables(chance, np.minimum(weight, TOTAL - 1).astype(np.uint16)), joined


def _parts(num: int) -> Iterator[slice]:
    return (slice(start, min(start + _FIT_ROWS, num)) for start in range(0, num, _FIT_ROWS))


def _sizes(ids_RK: Ints) -> Ints:
    sizes: Ints = (ids_RK >= 0).sum(1)
    return sizes


def _least(rows: Rows) -> Ints:
    """Level of the smallest kept probability: what tells rows apart."""
    least: Ints = np.where(rows.ids_RK >= 0, rows.level_RK, 0).max(1, initial=0)
    return least


def _bucket(least_R: Ints, grid: Grid) -> Ints:
    return least_R * _BUCKETS // grid.size


def _value_context(kept: Kept, bucket_R: Ints) -> Ints:
    return kept.level // _PER_VALUE_LEVEL * _BUCKETS + bucket_R[kept.row]


def _count_context(kept: Kept, different_R: Ints) -> Ints:
    return kept.level // _PER_VALUE_LEVEL * _BUCKETS + np.minimum(different_R[kept.row], _BUCKETS - 1)


def _as_rows(row_N: Ints, id_N: Ints, value_N: Ints, rank_N: Ints, num: int) -> tuple[Ints, Ints]:
    """Kept tokens as rows, filled up with id -1, each in rising order of `rank_N`."""
    sizes = np.bincount(row_N, minlength=num)
    order = np.argsort(row_N * (int(rank_N.max(initial=0)) + 1) + rank_N)
    width = int(sizes.max()) if num else 0
    ids, values = np.full((num, width), -1, dtype=np.int64), np.zeros((num, width), dtype=np.int64)
    at = np.arange(len(row_N)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ids[row_N[order], at], values[row_N[order], at] = id_N[order], value_N[order]
    return ids, values
