"""What is one unknown for several stages does not shrink by adding them (method.md, eqs. 127, 128 and 140)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from run_records import total
from stillwatt.analysis.bills import price
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.series import IntArray, Series
from stillwatt.metering.totals import sum_part
from stillwatt.records import Energy, Role
from stillwatt.records.energy import random_of_sum
from stillwatt.records.finding import Bill
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, poll_times, power_channel, power_readings, step_counter, window


def energies(ledger: Series, witness: Series | None, stages: list[WeightedWindow]) -> list[Energy]:
    found = estimate_many(ledger, witness, [[stage] for stage in stages]).energies
    assert all(isinstance(one, Energy) for one in found)
    return [one for one in found if isinstance(one, Energy)]


def added(found: list[Energy]) -> Energy:
    total = sum_part(found, [1.0] * len(found))
    assert isinstance(total, Energy)
    return total


def without(t_ns: IntArray, start_s: float, end_s: float) -> IntArray:
    since_s = (t_ns - EPOCH_NS) / NS_PER_S
    return t_ns[(since_s < start_s) | (since_s > end_s)]


def read_around(hole_w: float, before_w: float, after_w: float, length_s: float) -> tuple[StepLoad, Series]:
    """Power that nobody read from 10 s on, while another load ran."""
    steps_ns = EPOCH_NS + np.array([0, 10 * NS_PER_S, int((10 + length_s) * NS_PER_S)])
    load = StepLoad(steps_ns, np.array([before_w, hole_w, after_w]))
    t_ns = without(poll_times(np.random.default_rng(5), 20.0 + length_s), 9.95, 10.0 + length_s)
    return load, power_readings(load, t_ns, limit_w=450.0)


@pytest.mark.parametrize("count", [1, 4, 16, 60])
def test_stages_in_one_outage_hold_the_truth_together(count: int) -> None:
    for hole_w in (20.0, 200.0, 440.0):
        for before_w, after_w in ((100.0, 400.0), (400.0, 100.0), (350.0, 350.0)):
            load, series = read_around(hole_w, before_w, after_w, float(count))
            found = energies(series, None, [window(10 + k, 11 + k) for k in range(count)])
            true_j = [
                load.window_j(EPOCH_NS + (10 + k) * NS_PER_S, EPOCH_NS + (11 + k) * NS_PER_S) for k in range(count)
            ]
            assert all(one.low_j <= true <= one.high_j for one, true in zip(found, true_j, strict=True))
            assert added(found).low_j <= math.fsum(true_j) <= added(found).high_j


def test_an_outage_cut_in_stages_is_hardly_wider_than_as_one_window() -> None:
    _, series = read_around(20.0, 400.0, 400.0, 60.0)
    found = energies(series, None, [window(10 + k, 11 + k) for k in range(60)])
    (whole,) = energies(series, None, [window(10, 70)])
    assert added(found).value_j == pytest.approx(whole.value_j)
    assert 0.99 * whole.random_j <= added(found).random_j <= 1.05 * whole.random_j


def test_outages_that_stages_hold_whole_are_apart_from_each_other() -> None:
    """Nothing ties what ran in the one to what ran in the other."""
    t_ns = poll_times(np.random.default_rng(5), 100.0)
    for k in range(8):
        t_ns = without(t_ns, 10 * k + 5, 10 * k + 6)
    load = StepLoad(np.array([EPOCH_NS]), np.array([300.0]))
    found = energies(
        power_readings(load, t_ns, limit_w=450.0), None, [window(10 * k + 2, 10 * k + 9) for k in range(8)]
    )
    one_j = found[0].random_j
    assert one_j > 250.0
    assert added(found).random_j == pytest.approx(math.sqrt(8) * one_j, rel=0.01)


def test_what_is_held_before_the_first_reading_is_one_unknown_too() -> None:
    levels = StepLoad(EPOCH_NS + np.array([0, NS_PER_S]), np.array([300.0, 100.0]))
    series = power_readings(levels, poll_times(np.random.default_rng(5), 5.0))
    halves = energies(series, None, [window(-0.8, -0.4), window(-0.4, 0.0)])
    (whole,) = energies(series, None, [window(-0.8, 0.0)])
    assert added(halves).random_j == pytest.approx(whole.random_j, rel=0.01)


def test_a_reset_that_two_stages_share_is_one_unknown() -> None:
    load = StepLoad(np.array([EPOCH_NS]), np.array([200.0]))
    t_ns = poll_times(np.random.default_rng(5), 20.0)
    counter = step_counter(load, without(t_ns, 8.0, 12.0))
    counts = np.where(
        counter.t_ns > EPOCH_NS + 10 * NS_PER_S, counter.count - counter.count[0] - 1_000_000, counter.count
    )
    rng = np.random.default_rng(2)
    noisy = Series(power_channel(role=Role.WITNESS), t_ns, 200.0 + rng.normal(0, 60, t_ns.size))
    again = Series(counter.channel, counter.t_ns, counts)
    halves = energies(again, noisy, [window(8.2, 10), window(10, 11.8)])
    assert halves[0].random_j > 5.0
    assert added(halves).random_j >= 0.99 * math.fsum(one.random_j for one in halves)


def broken() -> list[Energy]:
    """A hundred stages of a second, and the same seconds as one, of a counter that counts 57 % of what power shows."""
    load = StepLoad(np.array([EPOCH_NS]), np.array([65.0]))
    t_ns = poll_times(np.random.default_rng(1), 105.0)
    bounds: dict[str, Any] = {"gain_low_rel": 0.05, "gain_high_rel": 0.05}
    counter = step_counter(load, t_ns, **bounds)
    counter = Series(counter.channel, t_ns, np.floor(counter.count * 0.57))
    watts = 65.0 + np.random.default_rng(2).normal(0.0, 0.5, t_ns.size)
    witness = Series(power_channel(averaging_ns=100 * NS_PER_MS, role=Role.WITNESS, **bounds), t_ns, watts)
    return energies(counter, witness, [*(window(2 + k, 3 + k) for k in range(100)), window(2, 102)])


def test_an_arm_of_flagged_stages_holds_the_truth() -> None:
    *stages, whole = broken()
    assert all(one.low_j <= 65.0 <= one.high_j for one in stages)
    book = {str(k): SimpleNamespace(energies=[one], name="s", gross=total([one])) for k, one in enumerate(stages)}
    bill = price(book, dict.fromkeys(book, 1.0))  # type: ignore[arg-type]  # stand-ins for stages
    assert isinstance(bill, Bill)
    assert bill.value_j + math.hypot(bill.random_j, bill.systematic_high_j) >= 6_500.0
    assert added(stages).random_j == pytest.approx(whole.random_j, rel=0.02)


def test_what_lies_outside_the_stages_does_not_cancel_to_nothing() -> None:
    *stages, whole = broken()
    left = random_of_sum([(1.0, whole), *((-1.0, one) for one in stages[:50])])
    assert left.half_j >= math.fsum(one.placing_j for one in stages[50:])


def test_a_beat_is_as_much_of_many_stages_as_of_each() -> None:
    t_ns = poll_times(np.random.default_rng(3), 60.0)
    slow = 240.0 + 160.0 * np.sin((t_ns - EPOCH_NS) / NS_PER_S * 2 * math.pi / 20.0)
    series = Series(power_channel(averaging_ns=25 * NS_PER_MS, update_period_ns=100 * NS_PER_MS), t_ns, slow)
    found = energies(series, None, [window(20 + k, 21 + k) for k in range(20)])
    assert all(one.flags[0].startswith("aliased: ") for one in found)
    assert added(found).random_j >= 0.95 * math.fsum(one.random_j for one in found)


def test_no_part_is_larger_than_what_it_is_a_part_of() -> None:
    for hole_w in (20.0, 440.0):
        _, series = read_around(hole_w, 100.0, 400.0, 7.0)
        found = estimate(series, None, [window(11, 13), window(15, 16.5, 0.5)])
        assert isinstance(found, Energy)
        assert 0.0 < found.placing_j <= found.random_j


@pytest.mark.parametrize("weight", [0.1133809005829614, 0.3, 0.7])
def test_a_share_of_a_span_that_is_held_whole_cuts_nothing(weight: float) -> None:
    """Seconds times a weight over seconds is not always that weight."""
    t_ns = EPOCH_NS + np.array([0, 5_000, 5_020, 5_087]) * NS_PER_MS
    readings = Series(power_channel(), t_ns, np.array([0.0, 0.0, 0.0, 1.0]))
    start_ns, end_ns = EPOCH_NS - NS_PER_S, EPOCH_NS + 4_922 * NS_PER_MS
    whole = estimate(readings, None, [WeightedWindow(start_ns, end_ns)])
    share = estimate(readings, None, [WeightedWindow(start_ns, end_ns, weight)])
    assert isinstance(whole, Energy)
    assert isinstance(share, Energy)
    assert share.random_j == pytest.approx(weight * whole.random_j, rel=1e-12)
    assert share.placing_j == pytest.approx(weight * whole.placing_j, rel=1e-12)
