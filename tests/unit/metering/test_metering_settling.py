"""Power that is read as a capacitor charges: the reading lags, and the energy does not (eq. 4a)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, FloatArray, IntArray, StepLoad, poll_times, power_channel, random_load, window

TAU_S = 0.84
LENGTH_S = 20.0
KEPLER = power_channel(update_period_ns=NS_PER_MS, averaging_ns=0, settling_ns=round(TAU_S * NS_PER_S))


def settled_w(load: StepLoad, t_ns: IntArray, tau_s: float = TAU_S) -> FloatArray:
    """The reading of a first-order lag that had settled on the first level, by its closed form between steps."""
    edges_ns = np.append(load.steps_ns, np.iinfo(np.int64).max)
    found, shown = np.empty(t_ns.size), float(load.levels_w[0])
    for level, start_ns, end_ns in zip(load.levels_w, edges_ns[:-1], edges_ns[1:], strict=True):
        inside = (t_ns >= start_ns) & (t_ns < end_ns)
        found[inside] = level + (shown - level) * np.exp(-(t_ns[inside] - start_ns) / NS_PER_S / tau_s)
        shown = level + (shown - level) * float(np.exp(-min(float(end_ns - start_ns) / NS_PER_S, 50.0) / tau_s))
    return found


def energy_of(series: Series, start_s: float, end_s: float) -> Energy:
    energy = estimate(series, None, [window(start_s, end_s)])
    assert isinstance(energy, Energy)
    return energy


@given(seed=st.integers(0, 2**32 - 1), start_s=st.floats(1.0, 8.0), length_s=st.floats(2.0, 10.0))
def test_the_energy_does_not_lag(seed: int, start_s: float, length_s: float) -> None:
    rng = np.random.default_rng(seed)
    load, t_ns = random_load(rng, LENGTH_S), poll_times(rng, LENGTH_S)
    series = Series(KEPLER, t_ns, settled_w(load, t_ns))
    true_j = load.window_j(EPOCH_NS + round(start_s * NS_PER_S), EPOCH_NS + round((start_s + length_s) * NS_PER_S))
    energy = energy_of(series, start_s, start_s + length_s)
    # a step of load that falls between two readings at an edge is known to a reading's length
    assert energy.value_j == pytest.approx(true_j, rel=0.01, abs=2 * 0.1 * 700.0)


@given(seed=st.integers(0, 2**32 - 1), off_rel=st.floats(-0.1, 0.1))
def test_a_card_that_settles_otherwise_is_in_the_interval(seed: int, off_rel: float) -> None:
    rng = np.random.default_rng(seed)
    load, t_ns = random_load(rng, LENGTH_S), poll_times(rng, LENGTH_S)
    noise_w = rng.normal(0.0, 1.5, t_ns.size)
    series = Series(KEPLER, t_ns, settled_w(load, t_ns, TAU_S * (1.0 + off_rel)) + noise_w)
    true_j = load.window_j(EPOCH_NS + 3 * NS_PER_S, EPOCH_NS + 12 * NS_PER_S)
    energy = energy_of(series, 3.0, 12.0)
    assert energy.low_j - 2 * 0.1 * 700.0 <= true_j <= energy.high_j + 2 * 0.1 * 700.0


def test_a_stage_right_after_a_step_gets_what_was_drawn() -> None:
    """From 100 W to 500 W at its beginning: readings alone show a third less over two seconds."""
    load = StepLoad(EPOCH_NS + np.array([0, 5]) * NS_PER_S, np.array([100.0, 500.0]))
    t_ns: IntArray = (EPOCH_NS + np.arange(0, 200) * 0.05 * NS_PER_S).astype(np.int64)
    series = Series(KEPLER, t_ns, settled_w(load, t_ns))
    assert energy_of(series, 5.0, 7.0).value_j == pytest.approx(1000.0, rel=0.03)
    as_read = replace(series, channel=replace(KEPLER, settling_ns=None))
    assert energy_of(as_read, 5.0, 7.0).value_j < 720.0
