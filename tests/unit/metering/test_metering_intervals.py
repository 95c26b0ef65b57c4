"""Do the random half-widths hold the truth? Simulated instruments over known traces, fixed seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import (
    EPOCH_NS,
    StepLoad,
    poll_times,
    power_channel,
    power_readings,
    random_load,
    step_counter,
    window,
)

LENGTH_S = 24.0
TRIALS = 250
Instrument = Callable[[np.random.Generator, StepLoad], Series]


@dataclass
class Outcome:
    """Of many trials: how often the interval held the truth, and relative half-widths of stages of 2 s and more."""

    hits: int
    trials: int
    half_widths: list[float]

    @property
    def coverage(self) -> float:
        return self.hits / self.trials

    @property
    def median(self) -> float:
        return float(np.median(self.half_widths))


def random_window(rng: np.random.Generator) -> tuple[int, int]:
    length_s = rng.uniform(0.3, 20.0)
    start_ns = EPOCH_NS + int(rng.uniform(0.5, LENGTH_S - 0.5 - length_s) * NS_PER_S)
    return start_ns, start_ns + int(length_s * NS_PER_S)


def on_the_steps(load: StepLoad, start_ns: int, end_ns: int) -> tuple[int, int]:
    """The window moved to where the load changes, as a stage's edges are."""
    first = int(np.searchsorted(load.steps_ns, start_ns))
    last = max(int(np.searchsorted(load.steps_ns, end_ns)) - 1, first + 1)
    return int(load.steps_ns[first]), int(load.steps_ns[last])


def run_trials(instrument: Instrument, *, seed: int, is_aligned: bool, make: Callable[..., StepLoad]) -> Outcome:
    rng = np.random.default_rng(seed)
    outcome = Outcome(0, 0, [])
    for _ in range(TRIALS):
        load = make(rng, LENGTH_S)
        start_ns, end_ns = random_window(rng)
        series = instrument(rng, load)
        if is_aligned:
            start_ns, end_ns = on_the_steps(load, start_ns, end_ns)
        energy = estimate(series, None, [WeightedWindow(start_ns, end_ns)])
        assert isinstance(energy, Energy)
        true_j = load.window_j(start_ns, end_ns)
        outcome.trials += 1
        # a constant load is exact, to rounding
        outcome.hits += abs(energy.value_j - true_j) <= energy.random_j + 1e-9 * true_j
        if end_ns - start_ns >= 2 * NS_PER_S:
            outcome.half_widths.append(energy.random_j / energy.value_j)
    return outcome


def stepping_counter(step_ms: int, poll_ms: int, jitter_ms: int = 2) -> Instrument:
    def read(rng: np.random.Generator, load: StepLoad) -> Series:
        t_ns = poll_times(rng, LENGTH_S, period_ns=poll_ms * NS_PER_MS, jitter_ns=jitter_ms * NS_PER_MS)
        phase_ns = int(rng.integers(0, step_ms * NS_PER_MS))
        return step_counter(load, t_ns, phase_ns=phase_ns, step_ns=step_ms * NS_PER_MS)

    return read


def power_meter(noise_w: float = 0.0) -> Instrument:
    def read(rng: np.random.Generator, load: StepLoad) -> Series:
        t_ns = poll_times(rng, LENGTH_S)
        series = power_readings(load, t_ns)
        return Series(series.channel, t_ns, series.count + noise_w * rng.standard_normal(t_ns.size))

    return read


def constant_load(rng: np.random.Generator, length_s: float) -> StepLoad:
    load = random_load(rng, length_s)
    return StepLoad(load.steps_ns[:1], load.levels_w[:1])


@pytest.mark.parametrize("is_aligned", [False, True])
@pytest.mark.parametrize(
    ("instrument", "largest_median"),
    [
        pytest.param(stepping_counter(100, 100), 0.05, id="100ms-polled-at-100ms"),
        pytest.param(stepping_counter(100, 100, jitter_ms=20), 0.05, id="late-polls"),
        pytest.param(stepping_counter(100, 97), 0.05, id="drifting-phase"),
        pytest.param(stepping_counter(100, 50), 0.02, id="polled-twice-per-step"),
        pytest.param(stepping_counter(1, 100), 0.005, id="rapl-like"),
    ],
)
def test_a_counters_interval_holds_the_truth(instrument: Instrument, largest_median: float, is_aligned: bool) -> None:
    outcome = run_trials(instrument, seed=7, is_aligned=is_aligned, make=random_load)
    assert outcome.coverage >= 0.95
    assert outcome.median <= largest_median


@pytest.mark.parametrize("noise_w", [0.0, 5.0])
def test_a_power_only_interval_holds_constant_loads(noise_w: float) -> None:
    outcome = run_trials(power_meter(noise_w), seed=8, is_aligned=False, make=constant_load)
    assert outcome.coverage >= 0.95
    assert outcome.median <= 0.01


@pytest.mark.parametrize("is_aligned", [False, True])
def test_a_power_only_interval_holds_loads_that_step_slowly(is_aligned: bool) -> None:
    outcome = run_trials(power_meter(), seed=9, is_aligned=is_aligned, make=random_load)
    assert outcome.coverage >= 0.95
    assert outcome.median <= 0.05


def test_a_power_only_interval_holds_slow_waves() -> None:
    rng = np.random.default_rng(10)
    hits, half_widths = 0, []
    for _ in range(TRIALS):
        period_s, swing_w, phase = rng.uniform(2, 10), rng.uniform(10, 150), rng.uniform(0, 6)
        turn = 2 * np.pi / period_s
        t_ns = poll_times(rng, LENGTH_S)
        readings = 300 + swing_w * np.sin(turn * (t_ns - EPOCH_NS) / NS_PER_S + phase)
        start_ns, end_ns = random_window(rng)
        energy = estimate(
            Series(power_channel(update_period_ns=NS_PER_MS), t_ns, readings), None, [WeightedWindow(start_ns, end_ns)]
        )
        assert isinstance(energy, Energy)
        edges_s = (np.array([start_ns, end_ns]) - EPOCH_NS) / NS_PER_S
        before_j, after_j = 300 * edges_s - swing_w / turn * np.cos(turn * edges_s + phase)
        hits += abs(energy.value_j - (after_j - before_j)) <= energy.random_j
        half_widths.append(energy.random_j / energy.value_j)
    assert hits / TRIALS >= 0.95
    assert float(np.median(half_widths)) <= 0.005


def test_a_beating_load_shows_in_the_interval_only_while_its_samples_differ() -> None:
    """10 Hz sampled at 10 Hz: the samples look calm and the interval is wrong; sampled out of step it is wide."""
    steps_ns = EPOCH_NS + np.arange(0, 240, dtype=np.int64) * 50 * NS_PER_MS
    load = StepLoad(steps_ns, np.tile([400.0, 100.0], 120))
    true_j = load.window_j(EPOCH_NS + NS_PER_S, EPOCH_NS + 9 * NS_PER_S)
    for period_ms, sees_it in ((100, False), (93, True)):
        t_ns = EPOCH_NS + np.arange(0, 100, dtype=np.int64) * period_ms * NS_PER_MS
        energy = estimate(power_readings(load, t_ns), None, [window(1, 9)])
        assert isinstance(energy, Energy)
        assert (abs(energy.value_j - true_j) <= energy.random_j) is sees_it


def test_two_edges_of_equal_power_have_the_derived_half_width() -> None:
    """0.800 u P, which is 3 % above the exact 0.776 u P of two independent uniform lags."""
    load = StepLoad(np.array([EPOCH_NS]), np.array([200.0]))
    t_ns = EPOCH_NS + np.arange(100, dtype=np.int64) * 100 * NS_PER_MS
    energy = estimate(step_counter(load, t_ns, phase_ns=30 * NS_PER_MS), None, [window(2.0, 8.0)])
    assert isinstance(energy, Energy)
    assert energy.random_j == pytest.approx(1.96 * np.sqrt(2 / 3) * 0.05 * 200.0, rel=0.01)
