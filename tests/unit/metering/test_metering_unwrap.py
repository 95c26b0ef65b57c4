from __future__ import annotations

import numpy as np

from stillwatt.metering.series import Series
from stillwatt.metering.unwrap import Unwrapped, unwrap
from stillwatt.units import NS_PER_S
from strategies import channel


def unwrapped(counts: list[float], *, modulus: int | None, unit_si: float = 1.0, seconds: float = 1.0) -> Unwrapped:
    t_ns = (np.arange(len(counts)) * seconds * NS_PER_S).astype(np.int64)
    return unwrap(Series(channel(modulus=modulus, unit_si=unit_si), t_ns, np.array(counts)))


def test_a_wrap_adds_the_modulus_once() -> None:
    found = unwrapped([90, 97, 4, 11], modulus=100)
    assert found.increments.tolist() == [7, 7, 7]
    assert found.resets.size == 0


def test_a_step_back_without_a_modulus_is_a_reset_and_never_negative() -> None:
    found = unwrapped([5_000, 5_100, 20, 120], modulus=None)
    assert found.increments.tolist() == [100, 0, 100]
    assert found.resets.tolist() == [1]


def test_a_wrap_that_would_take_megawatts_is_a_reset() -> None:
    """RAPL: 262 kJ in units of 61 uJ, back to nothing from half-way within a tenth of a second."""
    unit_j, modulus = 61e-6, 2**32
    half = modulus / 2
    found = unwrapped([half, half + 16_000, 10.0, 16_010.0], modulus=modulus, unit_si=unit_j, seconds=0.1)
    assert found.resets.tolist() == [1]


def test_a_wrap_in_the_same_counter_at_its_end_is_believed() -> None:
    unit_j, modulus = 61e-6, 2**32
    found = unwrapped([modulus - 16_000.0, 0.0, 16_000.0], modulus=modulus, unit_si=unit_j, seconds=0.1)
    assert found.increments.tolist() == [16_000, 16_000]


def test_a_span_that_may_hold_a_whole_round_has_an_unknown_distance() -> None:
    t_ns = np.array([0, 1, 2, 3, 603]) * NS_PER_S
    counts = np.array([0.0, 200.0, 400.0, 600.0, 50_000.0])
    found = unwrap(Series(channel(modulus=65_000), t_ns, counts))
    assert found.resets.tolist() == [3]
    assert found.increments.tolist() == [200, 200, 200, 0]


def test_a_count_beyond_the_modulus_cannot_be_a_wrap() -> None:
    assert unwrapped([500.0, 10.0], modulus=100).resets.tolist() == [0]
