"""Loads that alternate faster than a counter steps: what the steps' means hide (method.md, eq. 165)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes import fake_channel
from stillwatt.metering.alternation import Reach, Steps, alternation
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records import Energy, Quantity, Role
from stillwatt.units import NS_PER_MS, NS_PER_S

LOW_W, HIGH_W, STEP_S = 60.0, 460.0, 0.1


def square_j(t_s: npt.NDArray[Any], hertz: float, up: float) -> FloatArray:
    """Energy that a square wave has drawn; `up` of the time it is at `HIGH_W`."""
    turns = t_s * hertz
    high = np.floor(turns) * up + np.minimum(turns % 1.0, up)
    return np.asarray(LOW_W * t_s + (HIGH_W - LOW_W) * high / hertz)


def held(hertz: float, up: float, *, has_power: bool) -> float:
    """Share of stages of a second, anywhere, whose intervals hold what was drawn, and which say at most a quarter."""
    renewed_s = np.arange(1, 300) * STEP_S
    read_ns = np.round((renewed_s + 0.001) * NS_PER_S).astype(np.int64)
    counter = fake_channel(
        "gpu0", Quantity.ENERGY_COUNTER, unit_si=1e-3, gain_rel=0.0, update_period_ns=100 * NS_PER_MS
    )
    close_ns = np.sort(np.concatenate([read_ns + k * 4 * NS_PER_MS for k in range(-1, 2)]))
    shown_j = square_j(np.floor(close_ns / NS_PER_S / STEP_S) * STEP_S, hertz, up)
    ledger = Series(counter, close_ns, np.floor(shown_j * 1e3))
    power = replace(
        fake_channel("gpu0", Quantity.POWER, role=Role.WITNESS, gain_rel=0.0, update_period_ns=100 * NS_PER_MS),
        averaging_ns=25 * NS_PER_MS,
    )
    seen_w = (square_j(renewed_s, hertz, up) - square_j(renewed_s - 0.025, hertz, up)) / 0.025
    rng = np.random.default_rng(5)
    start_s = rng.uniform(2.0, 27.0, 100)
    owners = [[WeightedWindow(round(t * NS_PER_S), round((t + 1.0) * NS_PER_S))] for t in start_s]
    energies = estimate_many(ledger, Series(power, read_ns, seen_w) if has_power else None, owners).energies
    true_j = square_j(start_s + 1.0, hertz, up) - square_j(start_s, hertz, up)
    found = [energy for energy in energies if isinstance(energy, Energy)]
    assert all(energy.random_j < 0.25 * energy.value_j for energy in found)
    return float(np.mean([energy.low_j <= one_j <= energy.high_j for energy, one_j in zip(found, true_j, strict=True)]))


@pytest.mark.parametrize("hertz", [4.7, 6.1, 7.3, 8.1, 12.7, 17.2])
@pytest.mark.parametrize("up", [0.3, 0.5])
def test_steps_of_a_training_that_beat_with_the_counter_are_inside_the_interval(hertz: float, up: float) -> None:
    assert held(hertz, up, has_power=False) >= 0.95


@pytest.mark.parametrize("hertz", [4.7, 7.3, 9.4, 9.7, 11.1, 19.2])
def test_a_witness_shows_how_far_they_reach_even_near_the_counters_own_rate(hertz: float) -> None:
    assert held(hertz, 0.5, has_power=True) >= 0.95


def reach(
    mean_w: FloatArray, limit_w: float | None = None, gap_at: int | None = None, marks_s: tuple[float, ...] = ()
) -> Reach:
    x_ns = np.arange(mean_w.size + 1) * 100 * NS_PER_MS
    is_read = np.arange(mean_w.size) != (-1 if gap_at is None else gap_at)
    marks_ns = np.round(np.array(marks_s) * NS_PER_S).astype(np.int64)
    return alternation(Steps(x_ns, mean_w, is_read, marks_ns), None, limit_w)


def beat(turn: float, count: int = 60) -> FloatArray:
    """Means that swing by 50 W about 200 W, so many times in a step."""
    return np.asarray(200.0 + 25.0 * np.sin(2 * np.pi * turn * np.arange(count) + 0.3))


def test_the_slower_the_beat_the_more_it_hides() -> None:
    quick, slow = reach(beat(0.4)), reach(beat(0.2))
    assert np.all(quick.is_told & slow.is_told)
    assert quick.high_w.max() == pytest.approx(200.0 + 50.0 / 0.8, rel=0.1)
    assert slow.high_w.max() == pytest.approx(200.0 + 50.0 / 0.4, rel=0.1)
    assert slow.low_w.min() == pytest.approx(200.0 - 50.0 / 0.4, rel=0.1)


def test_two_levels_that_come_again_and_again_are_a_beat_too() -> None:
    levels_w = np.where(np.arange(80) % 10 < 5, 212.0, 188.0)
    assert reach(levels_w).high_w.max() > 330.0


def test_no_device_draws_more_than_its_limit() -> None:
    assert reach(beat(0.2), limit_w=250.0).high_w.max() == 250.0
    assert reach(beat(0.2), limit_w=100.0).high_w.max() == pytest.approx(200.0, abs=5.0)  # but what it was seen to


def test_a_load_that_shows_all_of_its_swing_hides_none() -> None:
    whole_w = 200.0 + 190.0 * np.sin(2 * np.pi * 0.3 * np.arange(60))
    assert reach(whole_w).high_w.max() == pytest.approx(390.0, rel=0.05)
    slow_w = np.where(np.arange(60) % 12 < 6, 380.0, 20.0)
    assert not reach(slow_w).is_told.any()


@pytest.mark.parametrize(
    "mean_w",
    [
        np.full(60, 200.0),
        np.repeat([100.0, 300.0], 30),
        200.0 + np.random.default_rng(2).uniform(-4.0, 4.0, 60),
        np.linspace(100.0, 300.0, 60),
        beat(0.4, count=15),
        np.array([]),
    ],
    ids=["constant", "a step", "jitter", "a ramp", "fewer than a row", "none"],
)
def test_other_loads_say_nothing_of_the_kind(mean_w: FloatArray) -> None:
    assert not reach(mean_w).is_told.any()


def test_levels_at_random_look_like_it_now_and_then_only() -> None:
    told = reach(np.random.default_rng(1).uniform(100.0, 300.0, 4000)).is_told
    assert np.mean(told) < 0.4


def test_a_row_has_no_gap_in_it() -> None:
    found = reach(beat(0.4, count=40), gap_at=20)
    assert found.is_told[:16].all()
    assert not reach(beat(0.4, count=24), gap_at=12).is_told.any()


def test_a_row_tells_of_the_step_on_either_side() -> None:
    mean_w = np.concatenate((np.full(40, 60.0), beat(0.4, count=20), np.full(40, 60.0)))
    told = np.flatnonzero(reach(mean_w).is_told)
    assert told[0] <= 40
    assert told[-1] >= 59
    assert not reach(mean_w).is_told[:30].any()


def test_only_steps_near_stages_edges_are_looked_at() -> None:
    found = reach(beat(0.4, count=400), marks_s=(20.05,))
    told = np.flatnonzero(found.is_told)
    assert 200 in told
    assert told[0] >= 150
    assert told[-1] <= 250
