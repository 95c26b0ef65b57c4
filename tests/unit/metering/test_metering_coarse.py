"""Counters that are all there is of a part, and slow or coarse: a plug's kilowatt-hours, a controller's minutes."""

from __future__ import annotations

import numpy as np
import pytest

from slow_counters import covered, measured, plug
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_S

SESSION_S = 300.0


@pytest.mark.parametrize("unit_j", [360.0, 3600.0])
def test_a_coarse_counter_that_stands_is_not_taken_for_a_part_that_draws_nothing(unit_j: float) -> None:
    found = [one for seed in range(12) for one in measured(seed, np.array([5.0, 700.0]), (10, 120), unit_j, 0.0, 300.0)]
    assert len(found) > 60
    assert all(energy.value_j > 0.0 for _, energy in found)
    assert covered(found) >= 0.95


def test_a_fine_counter_that_stands_belongs_to_a_part_that_draws_nothing() -> None:
    found = [one for seed in range(12) for one in measured(seed, np.array([0.0, 700.0]), (10, 120), 0.001, 0.0, 300.0)]
    idle = [energy for true_j, energy in found if true_j == 0.0]
    assert idle
    assert all(abs(energy.value_j) < 1.0 for energy in idle)
    assert covered(found) >= 0.95


@pytest.mark.parametrize("update_s", [10.0, 60.0])
@pytest.mark.parametrize("session_s", [90.0, SESSION_S])
@pytest.mark.parametrize("dwell_s", [(0.2, 3.0), (10.0, 120.0)])
def test_a_slow_counter_by_itself_knows_how_little_it_tells(
    update_s: float, session_s: float, dwell_s: tuple[float, float]
) -> None:
    levels_w = np.linspace(60.0, 500.0, 12)
    found = [one for seed in range(24) for one in measured(seed, levels_w, dwell_s, 1.0, update_s, session_s)]
    assert len(found) > 60
    assert covered(found) >= 0.95


def test_a_long_interval_may_hold_all_of_its_joules_at_once() -> None:
    """Of ten seconds at 100 W on average, a stage of the first half holds anything from 0 to all 1,000 J."""
    t_ns = np.arange(0, 200 * NS_PER_S, NS_PER_S, dtype=np.int64)
    count = np.floor(np.arange(200) / 10) * 1000.0
    series = Series(plug(1.0, 10.0), t_ns, count)
    knot_s = 100.0  # an update lies within a second before it
    (energy,) = estimate_many(
        series,
        None,
        [[WeightedWindow(round((knot_s - 0.5) * NS_PER_S), round((knot_s + 4.5) * NS_PER_S))]],
        marks_ns=[],
    ).energies
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(500.0, abs=60.0)
    assert energy.low_j <= 0.0
    assert energy.high_j >= 1000.0
