"""Averages that leave nothing out are no samples: their sum is the energy (method.md, eqs. 4 and 142)."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.full_time import leaves_nothing_out
from stillwatt.metering.series import Series
from stillwatt.metering.totals import sum_part
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, power_channel, random_load, window

UPDATE_NS = 100 * NS_PER_MS


def averages(
    seed: int,
    length_s: float,
    *,
    dwell_s: tuple[float, float] = (0.02, 0.2),
    told_ms: int = 100,
    average_ms: int = 100,
    every_ms: float = 100.0,
    read_ms: int = 100,
    lost: float = 0.0,
    noise_w: float = 1.0,
    load: StepLoad | None = None,
) -> tuple[StepLoad, Series]:
    """Power renewed with a little jitter and read on deadlines that are kept late by up to 2 ms; some are missed."""
    rng = np.random.default_rng(seed)
    load = load or random_load(rng, length_s + 4.0, dwell_s=dwell_s)
    number = int((length_s + 4.0) * 1_000 / every_ms)
    renewed_ns = EPOCH_NS + ((np.arange(number) + rng.uniform(-0.005, 0.005, number)) * every_ms * NS_PER_MS).astype(
        int
    )
    renewed_ns += int(rng.uniform(0, UPDATE_NS))
    spans_ns = np.full(number, average_ms * NS_PER_MS)
    watts = (load.energy_j(renewed_ns) - load.energy_j(renewed_ns - spans_ns)) / (spans_ns / NS_PER_S)
    watts += rng.normal(0.0, noise_w, number)
    t_ns = EPOCH_NS + np.arange(1, int(length_s * 1_000 / read_ms)) * read_ms * NS_PER_MS + UPDATE_NS
    t_ns = (t_ns + rng.integers(0, 2 * NS_PER_MS, t_ns.size))[rng.uniform(size=t_ns.size) >= lost]
    channel = power_channel(averaging_ns=told_ms * NS_PER_MS, update_period_ns=UPDATE_NS, sampling_period_ns=UPDATE_NS)
    return load, Series(channel, t_ns, watts[np.searchsorted(renewed_ns, t_ns, side="right") - 1])


def held(load: StepLoad, series: Series, starts_s: list[float], length_s: float) -> tuple[list[bool], list[float]]:
    stages = [window(start_s, start_s + length_s) for start_s in starts_s]
    found = estimate_many(series, None, [[stage] for stage in stages]).energies
    inside, widths = [], []
    for stage, energy in zip(stages, found, strict=True):
        assert isinstance(energy, Energy)
        true_j = load.window_j(stage.start_ns, stage.end_ns)
        inside.append(energy.low_j <= true_j <= energy.high_j)
        widths.append(energy.random_j / true_j)
    return inside, widths


@pytest.mark.parametrize(("length_s", "most"), [(10.0, 0.035), (60.0, 0.01)])
def test_a_load_faster_than_the_readings_does_not_widen_what_they_add_up_to(length_s: float, most: float) -> None:
    for seed in range(4):
        load, series = averages(seed, length_s + 10.0)
        inside, widths = held(load, series, [2.0, 3.33, 5.05, 6.71], length_s)
        assert all(inside)
        assert np.median(widths) <= most


@pytest.mark.parametrize(
    "changes",
    [
        {"lost": 0.1}, {"lost": 0.4}, {"read_ms": 200}, {"read_ms": 150}, {"read_ms": 40}, {"every_ms": 99.0},
        {"every_ms": 102.0}, {"average_ms": 90}, {"average_ms": 90, "told_ms": 90}, {"average_ms": 120, "told_ms": 120},
        {"average_ms": 80, "told_ms": 80}, {"noise_w": 4.0, "dwell_s": (20.0, 30.0)}, {"dwell_s": (0.2, 3.0)},
    ],
)  # fmt: skip
def test_the_interval_holds_whatever_is_missed_or_is_not_quite_as_told(changes: dict[str, float]) -> None:
    inside: list[bool] = []
    for seed in range(6):
        load, series = averages(seed, 40.0, **changes)  # type: ignore[arg-type]  # any field of a channel
        inside += held(load, series, [2.0, 9.37, 17.71], 10.0)[0]
        inside += held(load, series, [3.1, 7.77, 22.2, 31.8], 1.0)[0]
    assert np.mean(inside) >= 0.95


def test_what_was_missed_counts_where_it_was_missed() -> None:
    load, series = averages(1, 40.0)
    since_s = (series.t_ns - EPOCH_NS) / NS_PER_S
    kept = (since_s < 10) | (since_s > 20) | (np.arange(since_s.size) % 2 == 0)
    thinned = Series(series.channel, series.t_ns[kept], series.count[kept])
    (clean,), (thin,) = held(load, thinned, [24.0], 8.0)[1], held(load, thinned, [11.0], 8.0)[1]
    assert thin > 3 * clean


def test_sums_of_stages_out_of_step_are_no_wider_than_samples_would_make_them() -> None:
    _, series = averages(2, 40.0)
    stages = [[window(4.0 + 1.037 * k, 5.037 + 1.037 * k)] for k in range(30)]
    sampled = Series(power_channel(update_period_ns=UPDATE_NS, sampling_period_ns=UPDATE_NS), series.t_ns, series.count)
    full, before = (sum_part(estimate_many(one, None, stages).energies, [1.0] * 30) for one in (series, sampled))
    assert isinstance(full, Energy)
    assert isinstance(before, Energy)
    assert full.random_j < before.random_j


@pytest.mark.parametrize(("burst_ms", "every_ms"), [(1_000, 2_000), (250, 1_000)])
def test_bursts_in_step_hold_the_truth_one_by_one_and_together(burst_ms: int, every_ms: int) -> None:
    count, alone, together = 20, [], []
    for seed in range(12):
        begin_ms = 3_000 + np.random.default_rng(seed).integers(0, 1_000)
        starts_ns = EPOCH_NS + (begin_ms + every_ms * np.arange(count)) * NS_PER_MS
        edges_ns = np.stack((starts_ns, starts_ns + burst_ms * NS_PER_MS), axis=1).ravel()
        load = StepLoad(np.append(EPOCH_NS, edges_ns), np.append(80.0, np.tile([400.0, 80.0], count)))
        series = averages(seed, every_ms * count / 1_000 + 6.0, load=load)[1]
        stages = [[WeightedWindow(int(start_ns), int(start_ns) + burst_ms * NS_PER_MS)] for start_ns in starts_ns]
        found = estimate_many(series, None, stages).energies
        total, true_j = sum_part(found, [1.0] * count), 0.4 * burst_ms
        assert isinstance(total, Energy)
        together.append(total.low_j <= count * true_j <= total.high_j)
        alone += [isinstance(one, Energy) and one.low_j <= true_j <= one.high_j for one in found]
    assert np.mean(alone) >= 0.97
    assert np.mean(together) >= 0.9


def test_only_what_is_known_to_look_all_the_time_is_believed() -> None:
    def known(averaging_ms: int | None) -> bool:
        averaging_ns = None if averaging_ms is None else averaging_ms * NS_PER_MS
        return leaves_nothing_out(power_channel(averaging_ns=averaging_ns, update_period_ns=UPDATE_NS))

    assert [known(ms) for ms in (None, 0, 25, 70, 75, 100, 125, 130, 1000)] == [False] * 4 + [True] * 3 + [False] * 2


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_few_readings_are_enough_for_an_energy(size: int) -> None:
    _, series = averages(1, 10.0)
    few = Series(series.channel, series.t_ns[:size], series.count[:size])
    (found,) = estimate_many(few, None, [[window(0.2, 0.4)]]).energies
    assert isinstance(found, Energy)
    assert found.random_j > 0.0
