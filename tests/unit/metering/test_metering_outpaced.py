"""A counter that is renewed once a minute and power beside it every second: the one tells how much, the other when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from slow_counters import Trace, covered, plug, stages
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.outpaced import is_outpaced
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records import Energy, Quantity
from stillwatt.units import NS_PER_S

SESSION_S = 300.0
CALM_S, BUSY_S = (5.0, 60.0), (0.5, 4.0)
Streams = tuple[Series, Series]


def session(
    seed: int, dwell_s: tuple[float, float], *, session_s: float = SESSION_S, gain: float = 1.0, noise_w: float = 0.5
) -> tuple[Trace, Streams]:
    """A plug that is read once a second: its counter, renewed every minute, and power over a fifth of a second."""
    rng = np.random.default_rng(seed)
    trace = Trace(rng, np.linspace(60.0, 500.0, 12), dwell_s)
    counter = trace.read(1.0, 60.0, session_s)
    # what it declares is the pace at which it is asked
    counter = replace(counter, channel=plug(1.0, 1.0))
    t_s = counter.t_ns / NS_PER_S - rng.uniform(0.0, 1.0)
    watts = gain * (trace.energy_j(t_s) - trace.energy_j(t_s - 0.2)) / 0.2 + rng.normal(0.0, noise_w, t_s.size)
    channel = replace(counter.channel, quantity=Quantity.POWER, unit_si=1.0)
    return trace, (counter, Series(channel, counter.t_ns, watts))


def energies(streams: Streams, windows: list[tuple[float, float]]) -> list[Energy]:
    owners = [[WeightedWindow(round(a * NS_PER_S), round(b * NS_PER_S))] for a, b in windows]
    found = estimate_many(*streams, owners).energies
    assert all(isinstance(energy, Energy) for energy in found)
    return [energy for energy in found if isinstance(energy, Energy)]


def told(streams: Streams, trace: Trace, windows: list[tuple[float, float]]) -> list[tuple[float, Energy]]:
    true_j = [float(trace.energy_j(b) - trace.energy_j(a)) for a, b in windows]
    return list(zip(true_j, energies(streams, windows), strict=True))


def errors(found: list[tuple[float, Energy]]) -> FloatArray:
    return np.array([abs(energy.value_j - true_j) / true_j for true_j, energy in found])


def without(series: Series, leaves_out: FloatArray) -> Series:
    keep = leaves_out == 0.0
    return replace(series, t_ns=series.t_ns[keep], count=series.count[keep])


@pytest.mark.parametrize(
    ("dwell_s", "gain", "noise_w", "most_median", "most_half"),
    [
        (CALM_S, 1.0, 0.5, 0.006, 0.09),
        (CALM_S, 1.05, 0.5, 0.006, 0.09),
        (CALM_S, 0.95, 0.5, 0.006, 0.09),
        (CALM_S, 1.0, 15.0, 0.02, 0.12),
        (BUSY_S, 1.0, 0.5, 0.03, 0.25),
    ],
)
def test_stages_inside_a_step_are_placed_by_power_and_measured_by_the_counter(
    dwell_s: tuple[float, float], gain: float, noise_w: float, most_median: float, most_half: float
) -> None:
    found = []
    for seed in range(12):
        trace, streams = session(seed, dwell_s, gain=gain, noise_w=noise_w)
        found += told(streams, trace, stages(np.random.default_rng(seed), SESSION_S))
    assert len(found) > 60
    assert covered(found) >= 0.95
    assert np.median(errors(found)) <= most_median
    assert np.median([energy.random_j / true_j for true_j, energy in found]) <= most_half
    assert not [flag for _, energy in found for flag in energy.flags if flag.startswith("counter-stood")]


@pytest.mark.parametrize("hole_s", [0.0, 12.0])
def test_power_that_misses_readings_places_what_it_saw(hole_s: float) -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        trace, (counter, power) = session(seed, CALM_S)
        t_s = power.t_ns / NS_PER_S
        start_s = rng.uniform(30.0, 250.0)
        missed = (t_s > start_s) & (t_s < start_s + hole_s) if hole_s else rng.uniform(size=t_s.size) < 0.15
        streams = (counter, without(power, missed.astype(np.float64)))
        found += told(streams, trace, stages(rng, SESSION_S))
    assert covered(found) >= 0.95
    assert np.median(errors(found)) <= 0.01


def test_an_hour_knows_the_ratio_of_both_and_adds_up() -> None:
    trace, streams = session(3, CALM_S, session_s=3600.0, gain=1.04)
    edges_s = np.linspace(10.0, 3590.0, 31).tolist()
    found = told(streams, trace, list(pairwise(edges_s)))
    assert np.median(errors(found)) <= 0.002
    assert np.median([energy.random_j / true_j for true_j, energy in found]) <= 0.06
    (whole,) = energies(streams, [(edges_s[0], edges_s[-1])])
    assert sum(energy.value_j for _, energy in found) == pytest.approx(whole.value_j, rel=1e-9)
    assert whole.coverage == 1.0
    assert whole.value_j == pytest.approx(float(trace.energy_j(edges_s[-1]) - trace.energy_j(edges_s[0])), rel=1e-3)


def test_where_power_ends_the_counter_goes_on_by_itself() -> None:
    """Up to there power gives the shape; after it the steps are straight, and their joules the counter's."""
    trace, (counter, power) = session(5, CALM_S, session_s=900.0)
    early = without(power, (power.t_ns > 400 * NS_PER_S).astype(np.float64))
    windows = [(20.0, 31.0), (200.0, 215.0), (500.0, 850.0)]
    found = told((counter, early), trace, windows)
    assert errors(found)[:2] == pytest.approx([0.0, 0.0], abs=0.04)
    assert errors(found)[2] < 0.1
    assert covered(found) == 1.0
    assert found[2][1].random_j > 5 * found[1][1].random_j


def test_one_renewal_that_power_saw_tells_no_ratio() -> None:
    trace, (counter, power) = session(5, CALM_S)
    first_ns = counter.t_ns[np.flatnonzero(np.diff(counter.count))[0] + 1]
    early = without(power, (power.t_ns > first_ns + 20 * NS_PER_S).astype(np.float64))
    found = told((counter, early), trace, [(5.0, 20.0), (150.0, 290.0)])
    assert covered(found) == 1.0


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_power_of_something_else_gives_no_shape(factor: float) -> None:
    _, (counter, power) = session(6, CALM_S)
    alone, beside = (
        energies(streams, [(10.0, 250.0)])[0].value_j
        for streams in ((counter, power), (counter, replace(power, count=factor * power.count)))
    )
    assert beside == pytest.approx(alone, rel=0.06)  # the counter's joules, and straight lines between


def test_a_counter_whose_renewals_come_when_they_like_is_followed_with_its_doubt() -> None:
    """Posted up to ten seconds late, its values lie off the line, and the interval is as wide as that."""
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        trace, (counter, power) = session(seed, CALM_S, session_s=600.0)
        changes = np.flatnonzero(np.diff(counter.count)) + 1
        count = counter.count.copy()
        for at in changes:
            count[at : at + rng.integers(0, 6)] = counter.count[at - 1]
        found += told((replace(counter, count=count), power), trace, stages(rng, 600.0))
    assert covered(found) >= 0.95
    assert np.median(errors(found)) <= 0.04


def test_a_counter_that_was_not_renewed_in_its_session_has_nothing_to_give_a_shape() -> None:
    _, (counter, power) = session(2, CALM_S)
    keep = (counter.count != counter.count[0]).astype(np.float64)
    slow = replace(without(counter, keep), channel=plug(1.0, 60.0))
    (energy,) = energies((slow, without(power, keep)), [(4.0, 9.0)])
    assert energy.high_j >= energy.value_j


def test_a_counter_as_quick_as_its_witness_needs_none() -> None:
    _, (counter, power) = session(1, CALM_S)
    assert is_outpaced(60 * NS_PER_S, power)
    assert not is_outpaced(4 * NS_PER_S, power)
    assert not is_outpaced(60 * NS_PER_S, None)
    assert not is_outpaced(60 * NS_PER_S, without(power, (power.t_ns > power.t_ns[0]).astype(np.float64)))
    assert counter.channel.update_period_ns == NS_PER_S
