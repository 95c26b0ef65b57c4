"""Counters that stand still while their part works, and power that nobody read: the interval holds what was drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.series import Series
from stillwatt.metering.standing import Stand, follow
from stillwatt.records import Absent, Energy
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import (
    EPOCH_NS,
    FloatArray,
    IntArray,
    StepLoad,
    channel,
    poll_times,
    power_channel,
    power_readings,
    random_load,
    step_counter,
    window,
)

LENGTH_S = 24.0
seeds = st.integers(0, 2**32 - 1)


def constant(power_w: float) -> StepLoad:
    return StepLoad(np.array([EPOCH_NS]), np.array([power_w]))


def stopped(series: Series, from_s: float, until_s: float, *, catches_up: bool) -> Series:
    """The counter, standing from one time to another; then it goes on as it would have, or from where it stood."""
    since_s = (series.t_ns - EPOCH_NS) / NS_PER_S
    stands, later = (since_s >= from_s) & (since_s < until_s), since_s >= until_s
    count = series.count.copy()
    first, last = np.flatnonzero(stands)[[0, -1]]
    lost = 0.0 if catches_up else count[last] - count[first]
    count[stands] = count[first]
    count[later] -= lost
    return replace(series, count=count)


def energies(ledger: Series, witness: Series, edges_s: list[float]) -> list[Energy]:
    found = estimate_many(ledger, witness, [[window(*edges)] for edges in pairwise(edges_s)]).energies
    assert all(isinstance(energy, Energy) for energy in found)
    return [energy for energy in found if isinstance(energy, Energy)]


def flags(energy: Energy) -> set[str]:
    return {flag.partition(":")[0] for flag in energy.flags}


@pytest.mark.parametrize("catches_up", [True, False])
@given(seed=seeds, start_s=st.floats(2.0, 9.0), stand_s=st.floats(1.5, 12.0))
def test_a_counter_that_stood_still_hides_no_energy(
    catches_up: bool, seed: int, start_s: float, stand_s: float
) -> None:
    rng = np.random.default_rng(seed)
    load = random_load(rng, LENGTH_S)
    t_ns = poll_times(rng, LENGTH_S)
    witness = power_readings(load, t_ns)
    ledger = stopped(step_counter(load, t_ns), start_s, start_s + stand_s, catches_up=catches_up)
    edges_s = [0.5, start_s + 0.37, start_s + 0.6 * stand_s, start_s + stand_s + 0.55, LENGTH_S - 1.0]
    found = energies(ledger, witness, edges_s)
    for energy, (a_s, b_s) in zip(found, pairwise(edges_s), strict=True):
        true_j = load.window_j(EPOCH_NS + round(a_s * NS_PER_S), EPOCH_NS + round(b_s * NS_PER_S))
        # power of a load that changes between readings is known no better than to a reading's length at each step
        assert energy.low_j - 0.2 * 700.0 <= true_j <= energy.high_j + 0.2 * 700.0
        assert energy.value_j == pytest.approx(true_j, abs=0.15 * true_j + 0.3 * 700.0)
    whole = energies(ledger, witness, [edges_s[0], edges_s[-1]])[0]
    assert sum(energy.value_j for energy in found) == pytest.approx(whole.value_j, rel=1e-9)


@pytest.mark.parametrize("catches_up", [True, False])
def test_the_stage_that_a_counter_catches_up_in_does_not_pay_for_the_one_before(catches_up: bool) -> None:
    load, t_ns = constant(300.0), poll_times(np.random.default_rng(1), LENGTH_S)
    ledger = stopped(step_counter(load, t_ns), 4.0, 16.0, catches_up=catches_up)
    before, inside, last, after = energies(ledger, power_readings(load, t_ns), [1.0, 3.5, 10.0, 20.0, 23.0])
    assert inside.value_j == pytest.approx(6.5 * 300.0, rel=0.01)
    assert last.value_j == pytest.approx(10.0 * 300.0, rel=0.01)
    assert (flags(before), flags(after)) == (set(), set())
    assert flags(inside) == flags(last) == {"counter-stood"}
    said = "they are booked as power showed" if catches_up else "what power showed is booked"
    assert said in inside.flags[0]


def test_the_last_step_that_never_came_is_taken_from_power() -> None:
    load, t_ns = constant(200.0), poll_times(np.random.default_rng(2), 10.0)
    ledger = stopped(step_counter(load, t_ns), 6.0, 99.0, catches_up=True)
    early, late = energies(ledger, power_readings(load, t_ns), [1.0, 5.0, 9.5])
    assert (early.value_j, late.value_j) == pytest.approx((800.0, 900.0), rel=0.01)
    assert early.flags == ()
    assert "stood still for 4 s, in which power showed" in late.flags[0]
    assert late.low_j <= 900.0 <= late.high_j


def test_a_step_from_before_the_first_reading_is_not_this_runs() -> None:
    """A counter that is renewed every 15 s gives at once what was drawn since its last renewal, run or no run."""
    load, t_ns = constant(300.0), poll_times(np.random.default_rng(3), 12.0)
    ledger = step_counter(load, t_ns, phase_ns=7 * NS_PER_S, step_ns=15 * NS_PER_S, update_period_ns=100 * NS_PER_MS)
    first, second = energies(ledger, power_readings(load, t_ns), [0.5, 5.5, 11.5])
    assert (first.value_j, second.value_j) == pytest.approx((1500.0, 1800.0), rel=0.01)
    assert "some of them from before the first reading" in first.flags[0]


@pytest.mark.parametrize("length_s", [0.35, 4.0])
def test_a_counter_that_never_moved_leaves_it_to_power(length_s: float) -> None:
    load, t_ns = constant(250.0), poll_times(np.random.default_rng(4), length_s, period_ns=50 * NS_PER_MS)
    ledger = step_counter(load, t_ns, phase_ns=-NS_PER_S, step_ns=60 * NS_PER_S, update_period_ns=100 * NS_PER_MS)
    (energy,) = energies(ledger, power_readings(load, t_ns), [0.1, 0.9 * length_s])
    true_j = 250.0 * (0.9 * length_s - 0.1)
    assert energy.value_j == pytest.approx(true_j, rel=0.02)
    assert flags(energy) == ({"counter-silent"} if length_s > 1.0 else {"counter-stood"})


def test_a_counter_without_a_reading_leaves_it_to_power() -> None:
    load, t_ns = constant(250.0), poll_times(np.random.default_rng(5), 5.0)
    nothing = Series(channel(), np.array([], dtype=np.int64), np.array([]))
    (energy,) = energies(nothing, power_readings(load, t_ns), [1.0, 4.0])
    assert energy.value_j == pytest.approx(750.0)
    assert energy.method == "power_trapezoid"
    assert energy.flags == (
        "counter-silent: no readings of gpu0.energy_counter in this session; what power showed is booked",
    )
    alone = estimate(nothing, None, [window(1.0, 4.0)])
    assert isinstance(alone, Absent)


def test_a_part_that_draws_nothing_may_stand() -> None:
    """An offset of the power sensor is no work, and a single missed renewal is nothing to tell of."""
    rng = np.random.default_rng(6)
    t_ns = poll_times(rng, LENGTH_S)
    load = StepLoad(EPOCH_NS + np.array([0, 8, 16]) * NS_PER_S, np.array([120.0, 0.0, 120.0]))
    offset = replace(power_readings(load, t_ns), count=load.power_w(t_ns) + 2.0)
    found = energies(step_counter(load, t_ns), offset, [1.0, 7.0, 9.0, 15.0, 17.0, 23.0])
    assert [energy.value_j for energy in found] == pytest.approx([720.0, 120.0, 0.0, 120.0, 720.0], abs=25.0)
    assert not {"counter-stood", "counter-silent"} & {flag for energy in found for flag in flags(energy)}
    late = stopped(step_counter(constant(120.0), t_ns), 4.0, 4.25, catches_up=True)
    (energy,) = energies(late, power_readings(constant(120.0), t_ns), [1.0, 9.0])
    assert energy.value_j == pytest.approx(960.0, rel=0.001)
    assert not energy.flags


def unread(load: StepLoad, from_s: float, until_s: float, limit_w: float | None, spacing_s: float = 0.1) -> Series:
    times_s = np.arange(0.0, LENGTH_S, spacing_s)
    times_s = times_s[(times_s <= from_s) | (times_s >= until_s)]
    t_ns: IntArray = (EPOCH_NS + times_s * NS_PER_S).astype(np.int64)
    watts: FloatArray = load.power_w(t_ns)
    return Series(power_channel(update_period_ns=NS_PER_MS, limit_w=limit_w), t_ns, watts)


@given(seen_w=st.floats(30.0, 400.0), unseen_w=st.floats(0.0, 400.0), gap_s=st.floats(1.0, 10.0))
def test_while_nothing_is_read_a_card_may_do_anything_up_to_its_limit(
    seen_w: float, unseen_w: float, gap_s: float
) -> None:
    """What was seen before and after a gap says nothing of what was drawn in it."""
    steps_ns = EPOCH_NS + np.array([0, 8 * NS_PER_S, round((8.0 + gap_s) * NS_PER_S)])
    load = StepLoad(steps_ns, np.array([seen_w, unseen_w, seen_w]))
    ledger = unread(load, 7.95, 8.05 + gap_s, 400.0)
    energy = estimate(ledger, None, [window(2.0, 20.0)])
    assert isinstance(energy, Energy)
    true_j = load.window_j(EPOCH_NS + 2 * NS_PER_S, EPOCH_NS + 20 * NS_PER_S)
    assert energy.low_j <= true_j <= energy.high_j
    assert flags(energy) == {"estimated"}


def test_without_a_limit_twice_the_line_is_the_most() -> None:
    energy = estimate(unread(constant(200.0), 8.0, 12.0, None), None, [window(2.0, 20.0)])
    assert isinstance(energy, Energy)
    assert energy.random_j == pytest.approx(1.96 * 800.0 / np.sqrt(3.0), rel=1e-4)
    assert energy.flags == ("estimated: 800 of 3600 J are for 4 of 18 s without a reading",)


def test_a_single_reading_is_held_with_its_own_size_as_its_doubt() -> None:
    one = Series(power_channel(), np.array([EPOCH_NS]), np.array([300.0]))
    energy = estimate(one, None, [window(-0.2, 0.3)])
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(150.0)
    assert energy.low_j < 70.0
    assert energy.high_j > 230.0


def test_counter_and_witness_that_disagree_are_both_inside() -> None:
    load, t_ns = constant(300.0), poll_times(np.random.default_rng(7), LENGTH_S)
    witness = replace(power_readings(load, t_ns), count=np.full(t_ns.size, 180.0))
    (energy,) = energies(step_counter(load, t_ns), witness, [2.0, 12.0])
    assert flags(energy) == {"witness-disagrees"}
    assert energy.value_j == pytest.approx(3000.0, rel=0.01)
    assert energy.low_j <= 1800.0


@pytest.mark.parametrize("shift_ns", [0, 1])
def test_power_that_was_not_read_amid_a_stand_gives_it_no_shape(shift_ns: int) -> None:
    """Nor does a stand whose step has been cut, by a mark say: the curve is as it was."""
    load, t_ns = constant(200.0), poll_times(np.random.default_rng(3), 10.0)
    read = cumulate(step_counter(load, t_ns))
    power = power_readings(load, t_ns)
    ends = [0, power.t_ns.size - 1]
    rare = cumulate(replace(power, t_ns=power.t_ns[ends], count=power.count[ends]))
    assert isinstance(read, Curve)
    assert isinstance(rare, Curve)
    start_ns, end_ns = (int(at_ns) for at_ns in read.x_ns[10:12])
    stand = Stand(
        run=10,
        start_ns=start_ns + shift_ns,
        half_ns=0.0,
        end_ns=end_ns,
        seen_j=1.0,
        random_j=0.0,
        gains_j=0.0,
        counted_j=1.0,
        stood_s=1.0,
        is_long=True,
    )
    assert follow(read, [stand], rare) is read
