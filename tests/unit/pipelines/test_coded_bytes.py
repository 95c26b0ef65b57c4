"""The bytes of a block, pinned: tables, prior and rows are whole numbers, so no machine's rounding reaches them."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from stillwatt.pipelines.cache.codec import Codec, Rows
from stillwatt.pipelines.cache.coder import frequencies
from stillwatt.pipelines.cache.grid import TAIL_LEVELS
from stillwatt.pipelines.cache.prior import LEVELS, Prior
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.sets import SET_LEVELS, SetTables
from stillwatt.pipelines.cache.tables import ContextTables

VOCAB, ROWS = 2000, 150
Ints = npt.NDArray[np.int64]

GOLDEN = {
    "topk": (Scheme(name="topk", top_k=40), "5cb9ce5f2602d464"),
    "topk, unigram": (Scheme(name="topk", top_k=40, prior="unigram"), "7dbb86f5163ca5af"),
    "topp": (Scheme(name="topp", top_k=40, mass=0.9), "61f276d3e405a7e3"),
    "head_draws": (Scheme(name="head_draws", top_k=9, draws=7, step=0.25), "c75d11045368c5df"),
    "rs_kd": (Scheme(name="rs_kd", draws=30), "27f6daee28ba3cda"),
}
"""As the first writer of this format wrote them. A change here is a change of the format."""


def scattered(count: int, below: int, seed: int) -> Ints:
    """Whole numbers that look like chance and are the same everywhere."""
    state = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003)) * np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(29)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(32)
    return (state % np.uint64(below)).astype(np.int64)


def fixed_prior(*, is_bigram: bool) -> Prior:
    common = (20 + scattered(VOCAB, LEVELS - 20, 1)).astype(np.uint8)
    lists = [np.unique(scattered(30 + 7 * n % 90, VOCAB, 50 + n)) for n in range(60 if is_bigram else 0)]
    lengths = np.array([len(ids) for ids in lists], dtype=np.int64)
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *lists])
    return Prior(
        vocab_size=VOCAB,
        common_levels=common,
        contexts=(np.arange(len(lists)) * 3).astype(np.int32),
        shifts=scattered(len(lists), 9, 2).astype(np.uint8),
        first=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ids=ids.astype(np.int32),
        levels=scattered(len(ids), 60, 3).astype(np.uint8),
    )


def fixed_tables(contexts: int, symbols: int, seed: int) -> ContextTables:
    counts = scattered(5 * symbols, 900, seed).reshape(5, symbols)
    return ContextTables(
        scattered(contexts, 5, seed + 1).astype(np.uint16), np.stack([frequencies(row) for row in counts])
    )


def fixed_sets(classes: int, seed: int) -> SetTables:
    # ever less likely, and hopeless from a level on that hangs on the class
    level, kind = np.arange(SET_LEVELS)[:, None], np.arange(classes)[None, :]
    falling = np.where(level < 30 + 7 * (kind % 5), (1 << 16) // (4 + level // 2 + kind % 5), 1)
    return SetTables(falling.astype(np.uint16), (1 + scattered(VOCAB, 300, seed)).astype(np.uint16))


def fixed_codec(scheme: Scheme) -> Codec:
    size, draws = scheme.grid.size, scheme.draws
    tables = {
        "least": fixed_tables(1, size, 10),
        "tail": fixed_tables(24, TAIL_LEVELS, 12),
        "size": fixed_tables(24, scheme.top_k + 1, 14),
        "value": fixed_tables((SET_LEVELS // 2 + 1) * 24, size, 16),
        "different": fixed_tables(TAIL_LEVELS // 16 + 1, draws + 1, 18),
        "count": fixed_tables((SET_LEVELS // 2 + 1) * 24, max(draws, 2), 20),
    }
    sets = {"head": fixed_sets(size, 30), "draws": fixed_sets(draws + 1, 31)}
    return Codec(scheme, fixed_prior(is_bigram=scheme.is_bigram), tables, sets)


def different_ids(rows: int, width: int, seed: int) -> Ints:
    """Some of the ids of each row are among the first in the prior, some anywhere."""
    keys = scattered(rows * VOCAB, 1 << 40, seed).reshape(rows, VOCAB)
    keys[:, : VOCAB // 8] //= 6
    return np.argsort(keys, axis=1, kind="stable")[:, :width]


def fixed_rows(scheme: Scheme) -> Rows:
    head = different_ids(ROWS, scheme.top_k + scheme.draws, 40)
    kept, drawn = head[:, : scheme.top_k], head[:, scheme.top_k :]
    level = np.sort(1 + scattered(kept.size, 40, 41).reshape(kept.shape), axis=1)
    if scheme.is_variable:
        is_in = np.arange(scheme.top_k) < 1 + scattered(ROWS, scheme.top_k, 42)[:, None]
        kept, level = np.where(is_in, kept, -1), np.where(is_in, level, 0)
    order = np.argsort(np.where(kept < 0, 1 << 48, level << 32 | kept), axis=1)
    kept, level = np.take_along_axis(kept, order, 1), np.take_along_axis(level, order, 1)
    # the draws fall on a few of those ids; the first takes what is over
    num = 1 + scattered(ROWS, max(scheme.draws, 1), 43)
    drawn = np.where(np.arange(drawn.shape[1]) < num[:, None], drawn, -1)
    counts = np.where(drawn >= 0, 1, 0)
    counts[:, :1] += scheme.draws - counts.sum(1, keepdims=True)
    order = np.argsort(np.where(drawn < 0, 1 << 32, drawn), axis=1)
    tokens = scattered(ROWS, 240, 44)
    tail = scattered(ROWS, TAIL_LEVELS, 45) if scheme.has_head else np.zeros(ROWS, dtype=np.int64)
    return Rows(tokens, kept, level, tail, np.take_along_axis(drawn, order, 1), np.take_along_axis(counts, order, 1))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_block_has_the_bytes_it_always_had(name: str) -> None:
    scheme, golden = GOLDEN[name]
    codec, rows = fixed_codec(scheme), fixed_rows(scheme)
    payload = codec.encode(rows)
    found = codec.decode(payload, rows.tokens_R)
    for field in rows.__slots__:
        want, have = getattr(rows, field), getattr(found, field)
        if want.ndim == 2:
            filler = -1 if "ids" in field else 0
            have = np.pad(have, ((0, 0), (0, want.shape[1] - have.shape[1])), constant_values=filler)
        assert (want == have).all(), field
    assert hashlib.sha256(payload).hexdigest()[:16] == golden, len(payload)
