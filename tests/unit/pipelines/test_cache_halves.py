"""What writes fast against what it stands for: the walk through the halves, the library's own coin, numpy's search."""

from __future__ import annotations

from collections.abc import Callable

import constriction
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.pipelines.cache import halves as module
from stillwatt.pipelines.cache.coder import TOTAL, Reading, Writing
from stillwatt.pipelines.cache.halves import Halves, code_others
from stillwatt.pipelines.cache.places import places

Ints = npt.NDArray[np.int64]

WEIGHTS: dict[str, Callable[[int, np.random.Generator], Ints]] = {
    "equal": lambda size, _: np.full(size, 9),
    "any": lambda size, rng: rng.integers(1, 1 << 16, size),
    "few heavy": lambda size, rng: np.where(rng.random(size) < 0.02, 60_000, 1),
    "ever lighter": lambda size, _: np.maximum((1 << 16) - 1 >> np.arange(size) // 3 % 17, 1),
}


def sets_of(rng: np.random.Generator, rows: int, size: int, most: int) -> Ints:
    """Sets of different sizes, filled up with -1; in no order."""
    ids = np.argsort(rng.random((rows, size)), axis=1)[:, :most]
    return np.where(np.arange(ids.shape[1]) < rng.integers(0, most + 1, (rows, 1)), ids, -1)


def written(halves: Halves, ids_RK: Ints) -> tuple[bytes, tuple[Ints, ...]]:
    side, others = Writing(), np.nonzero(ids_RK >= 0)
    found = code_others(side, halves, (ids_RK >= 0).sum(1), ids_RK, (others[0], others[1]))
    return side.finish(), found


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(WEIGHTS)),
    size=st.sampled_from([1, 2, 3, 50, 700]),
    rows=st.sampled_from([0, 1, 5, 60, 300]),
    most=st.sampled_from([0, 1, 4, 40]),
    seed=st.integers(0, 999),
)
def test_the_ways_say_what_the_walk_says(kind: str, size: int, rows: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    halves = Halves(WEIGHTS[kind](size, rng))
    ids_RK = sets_of(rng, rows, size, min(most, size))
    payload, found = written(halves, ids_RK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_is_written", lambda *_: False)
        walked, same = written(halves, ids_RK)
    assert payload == walked
    for have, want in zip(found, same, strict=True):
        assert np.array_equal(have, want)
    row_M, id_M, at_M = found
    assert np.array_equal(ids_RK[row_M, at_M], id_M)
    read_row, read_id, _ = code_others(Reading(payload), halves, (ids_RK >= 0).sum(1), None, None)
    assert np.array_equal(read_row, row_M)
    assert np.array_equal(read_id, id_M)


def test_ways_that_are_too_long_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    halves, ids_RK = Halves(rng.integers(1, 99, 400)), sets_of(rng, 20, 400, 30)
    payload, found = written(halves, ids_RK)
    for name in ("_KEY_BITS", "_STEP_BITS", "_ROW_BITS"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 3)
            walked, same = written(Halves(halves.weight_V), ids_RK)
        assert walked == payload
        assert all(np.array_equal(have, want) for have, want in zip(found, same, strict=True))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_chance_has_the_interval_it_always_had(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = rng.permutation(np.repeat(np.arange(1, TOTAL), 2)).astype(np.uint16)
    bits = rng.random(len(chance)) < (chance / TOTAL if seed else 0.5)
    side, coin = Writing(), constriction.stream.queue.RangeEncoder()
    side.bits(bits, chance)
    coin.encode(bits.astype(np.int32), constriction.stream.model.Bernoulli(perfect=False), chance / TOTAL)
    assert side.finish() == coin.get_compressed().astype("<u4").tobytes()
    assert np.array_equal(Reading(side.finish()).bits(None, chance), bits)


@given(size=st.integers(0, 200), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]), seed=st.integers(0, 99))
def test_places_are_those_of_a_plain_search(size: int, share: float, seed: int) -> None:
    is_true = np.random.default_rng(seed).random(size) < share
    assert np.array_equal(places(is_true), np.flatnonzero(is_true))
