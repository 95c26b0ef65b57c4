"""Worked examples of energies over windows: gaps, ends, resets, witnesses, failed reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillwatt.metering import counter as counters
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.series import Series
from stillwatt.metering.windows import profile
from stillwatt.records import Absent, Basis, Energy, SampleGap
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import (
    EPOCH_NS,
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


def at(seconds: list[float]) -> IntArray:
    return np.asarray(EPOCH_NS + np.array(seconds) * NS_PER_S, dtype=np.int64)


def counter(seconds: list[float], joules: list[float], **changes: Any) -> Series:
    return Series(channel(**({"update_period_ns": 2} | changes)), at(seconds), np.array(joules))


def power(seconds: list[float], watts: list[float], **changes: Any) -> Series:
    return Series(power_channel(**({"update_period_ns": 2} | changes)), at(seconds), np.array(watts))


def energy_of(ledger: Series, start_s: float, end_s: float, witness: Series | None = None) -> Energy:
    energy = estimate(ledger, witness, [window(start_s, end_s)])
    assert isinstance(energy, Energy)
    return energy


SECONDS = [float(k) for k in range(11)]


def test_power_is_a_clipped_trapezoid() -> None:
    ramp = power(SECONDS, [10.0 * s for s in SECONDS])
    energy = energy_of(ramp, 2.5, 6.25)
    assert energy.value_j == pytest.approx(5.0 * (6.25**2 - 2.5**2))
    assert (energy.method, energy.coverage, energy.estimated_j, energy.missing_s) == ("power_trapezoid", 1.0, 0.0, 0.0)


def test_a_counter_is_interpolated_between_its_readings() -> None:
    energy = energy_of(counter(SECONDS, [0, 100, 200, 300, 600, 900, 1200, 1500, 1800, 2100, 2400]), 2.5, 3.5)
    assert energy.value_j == pytest.approx(50 + 150)
    assert energy.method == "counter"


def test_the_gain_is_kept_apart_from_the_random_part() -> None:
    energy = energy_of(power(SECONDS, [100.0] * 11, gain_low_rel=0.05, gain_high_rel=0.1), 1, 3)
    assert (energy.random_j, energy.systematic_low_j, energy.systematic_high_j) == pytest.approx((0.0, 10.0, 20.0))


def test_a_modelled_channel_says_so() -> None:
    energy = energy_of(power(SECONDS, [100.0] * 11, basis=Basis.MODELLED), 1, 3)
    assert (energy.method, energy.basis) == ("model", Basis.MODELLED)


def test_a_power_trace_is_moved_back_by_half_its_update_period() -> None:
    """The value at 5.0 s is the mean of the second before: a step at 4.5 s is a ramp from 3.5 to 5.5 s."""
    stepped = power(SECONDS, [0.0] * 5 + [50.0] + [100.0] * 5, update_period_ns=NS_PER_S)
    assert energy_of(stepped, 0, 4.5).value_j == pytest.approx(25.0)
    assert energy_of(stepped, 4.5, 8).value_j == pytest.approx(350 - 25.0)


GAPPED = [0.0, 1.0, 2.0, 3.0, 9.0, 10.0, 11.0, 12.0]


def test_a_power_gap_is_bridged_estimated_and_widens_the_interval() -> None:
    gapped = power(GAPPED, [100.0, 100.0, 100.0, 100.0, 200.0, 200.0, 200.0, 200.0])
    over = energy_of(gapped, 2, 10)
    assert over.value_j == pytest.approx(100 + 900 + 200)
    assert over.estimated_j == pytest.approx(900)
    assert over.coverage == pytest.approx(2 / 8)
    assert over.missing_s == 0
    # within the gap anything between 100 and 200 W may have been drawn: half-range 300 J
    assert over.random_j >= 300
    assert energy_of(gapped, 10, 12).random_j < 1


def test_a_counter_knows_the_distance_over_a_gap_but_not_its_place() -> None:
    gapped = counter(GAPPED, [0.0, 100.0, 200.0, 300.0, 1500.0, 1600.0, 1700.0, 1800.0])
    whole = energy_of(gapped, 2, 10)
    assert whole.value_j == pytest.approx(1400)
    assert (whole.estimated_j, whole.coverage) == pytest.approx((0.0, 2 / 8))
    assert whole.random_j < 1
    part = energy_of(gapped, 2, 6)
    assert part.value_j == pytest.approx(100 + 600)
    assert part.estimated_j == pytest.approx(600)
    assert part.random_j > 100


def test_beyond_the_last_reading_power_is_held_for_a_while_and_then_missing() -> None:
    readings = power([0.0, 0.1, 0.2, 0.3], [100.0] * 4)
    held = energy_of(readings, 0.2, 0.8)
    assert held.value_j == pytest.approx(60)
    assert held.estimated_j == pytest.approx(50)
    assert held.coverage == pytest.approx(1 / 6)
    beyond = energy_of(readings, 0.2, 5.2)
    assert beyond.value_j == pytest.approx(110)
    assert beyond.missing_s == pytest.approx(3.9)
    before = energy_of(readings, -3.0, 0.0)
    assert (before.value_j, before.missing_s) == pytest.approx((100, 2.0))


def test_a_counter_holds_the_mean_over_its_last_steps() -> None:
    """Polled so that the last interval holds two steps: the power held is not twice the true one."""
    t_s = [0.1 * k for k in range(12)]
    energy = energy_of(counter(t_s, [10.0 * k for k in range(12)], update_period_ns=100 * NS_PER_MS), 1.1, 1.6)
    assert energy.value_j == pytest.approx(50)


def test_nothing_near_is_absent_with_the_reason() -> None:
    found = estimate(power([0.0, 0.1], [100.0, 100.0]), None, [window(50, 60)])
    assert isinstance(found, Absent)
    assert found.reason == "no usable reading of gpu0.power within 1 s of these 10 s"
    assert (found.part, found.boundary) == ("gpu0", power_channel().boundary)


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (power([], []), "no readings of gpu0.power in this session"),
        (counter([1.0], [5.0]), "one reading of gpu0.energy_counter in this session; a counter needs two"),
        (counter(SECONDS, [7.0] * 11), "gpu0.energy_counter did not move in 10.0 s: the counter is stuck"),
    ],
)
def test_a_stream_that_says_nothing_is_absent_not_zero(series: Series, reason: str) -> None:
    found = estimate(series, None, [window(1, 2)])
    assert isinstance(found, Absent)
    assert found.reason == reason


def test_one_power_reading_is_held_to_both_sides() -> None:
    energy = energy_of(power([5.0], [80.0]), 4.5, 5.5)
    assert (energy.value_j, energy.estimated_j, energy.coverage) == pytest.approx((80, 80, 0.0))


@pytest.mark.parametrize("seconds", [[5.0], [4.9, 5.0], [0.0, 0.1, 5.5], SECONDS])
def test_a_models_constant_is_power_times_length_however_few_readings_there_are(seconds: list[float]) -> None:
    constant = power(seconds, [3.5] * len(seconds), is_constant=True, gain_low_rel=0.75, gain_high_rel=3.0)
    energy = energy_of(constant, 4.5, 5.5)
    assert energy.value_j == pytest.approx(3.5)
    assert (energy.random_j, energy.estimated_j, energy.missing_s) == (0.0, 0.0, 0.0)
    assert energy.coverage == pytest.approx(1.0)
    assert (energy.low_j, energy.high_j) == pytest.approx((0.875, 14.0))
    assert not energy.flags


def test_beyond_what_readings_show_to_have_run_even_a_constant_is_missing() -> None:
    energy = energy_of(power([5.0], [3.5], is_constant=True), 3.0, 9.0)
    assert (energy.value_j, energy.missing_s) == pytest.approx((3.5 * 2, 4.0))


def test_a_constant_that_changes_is_read_as_any_power_is() -> None:
    seconds, watts = [0.0, 1.0, 2.0], [3.0, 3.0, 4.0]
    assert energy_of(power(seconds, watts, is_constant=True), 0, 2) == energy_of(power(seconds, watts), 0, 2)


def test_a_window_of_no_length_holds_no_joules() -> None:
    energy = energy_of(power(SECONDS, [100.0] * 11), 3, 3)
    assert (energy.value_j, energy.random_j, energy.coverage, energy.missing_s) == (0.0, 0.0, 1.0, 0.0)


RESET = [1000.0, 1100.0, 1200.0, 1300.0, 50.0, 150.0, 250.0, 350.0, 450.0, 550.0, 650.0]


def test_a_reset_without_a_witness_is_missing_and_never_negative() -> None:
    ledger = counter(SECONDS, RESET)
    energy = energy_of(ledger, 1, 8)
    assert energy.value_j == pytest.approx(600)
    assert energy.missing_s == pytest.approx(1.0)
    assert energy.coverage == pytest.approx(6 / 7)
    inside = estimate(ledger, None, [window(3.2, 3.8)])
    assert isinstance(inside, Absent)


def test_a_witness_repairs_a_reset() -> None:
    found = estimate_many(counter(SECONDS, RESET), power(SECONDS, [90.0] * 11), [[window(1, 8)]])
    energy = found.energies[0]
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(690)
    assert (energy.estimated_j, energy.missing_s) == pytest.approx((90, 0.0))
    assert found.notes == (
        "gpu0.energy_counter: the counter's distance after the reading at 5003.000 s is unknown"
        " (reset, jump or unseen wrap); 90 J from the witness stand in",
    )


def test_a_witness_that_was_not_there_repairs_nothing() -> None:
    witness = power([8.0, 9.0, 10.0], [90.0] * 3)
    found = estimate_many(counter(SECONDS, RESET), witness, [[window(1, 8)]])
    energy = found.energies[0]
    assert isinstance(energy, Energy)
    assert energy.missing_s == pytest.approx(1.0)
    assert found.notes[0].endswith("its joules are missing")
    assert energy_of(counter(SECONDS, RESET), 1, 8, power([], [])).missing_s == pytest.approx(1.0)


@pytest.mark.parametrize("every_ms", [20, 50, 100])
def test_a_witness_repairs_all_that_was_drawn_between_the_updates_on_both_sides_of_a_reset(every_ms: int) -> None:
    """Read five times in a step, a reset lies between two readings 20 ms apart and hides 100 ms."""
    load = StepLoad(at([0.0]), np.array([300.0]))
    t_ns = EPOCH_NS + np.arange(0, 10_000, every_ms, dtype=np.int64) * NS_PER_MS
    counter = step_counter(load, t_ns, phase_ns=17 * NS_PER_MS)
    reset = int(np.flatnonzero(np.diff(counter.count) > 0)[40]) + 1
    counter.count[reset:] -= 0.9 * counter.count[reset]
    found = estimate(counter, power_readings(load, t_ns), [window(1.0, 9.0)])
    assert isinstance(found, Energy)
    assert found.value_j == pytest.approx(2_400.0, abs=5.0)
    assert found.missing_s == 0.0


def test_a_session_of_resets_only_holds_nothing() -> None:
    ledger = counter([0.0, 1.0], [500.0, 3.0])
    assert isinstance(estimate(ledger, None, [window(0, 1)]), Absent)


def test_power_after_a_last_reset_is_held_at_what_was_usual() -> None:
    """The span before the last reading is unknown, so its 0 J must not become the power held after it."""
    energy = energy_of(counter(SECONDS, [100.0 * k for k in range(10)] + [3.0]), 10.0, 10.5)
    assert energy.value_j == pytest.approx(50)


def test_a_part_that_draws_nothing_for_a_while_is_not_smeared_out() -> None:
    """Nothing until 5 s, then 100 W: the standing counter shows that the first seconds were empty."""
    t_s = [0.1 * k for k in range(101)]
    joules = [10.0] + [max(10.0, 10.0 + 100.0 * (s - 5.0)) for s in t_s[1:]]
    ledger = counter(t_s, joules, update_period_ns=100 * NS_PER_MS)
    assert energy_of(ledger, 0, 4.5).value_j == pytest.approx(0.0, abs=1e-9)
    assert energy_of(ledger, 5.5, 9.5).value_j == pytest.approx(400)


def test_a_counter_slower_than_it_claims_is_found_out() -> None:
    """It claims 10 ms and changes every 200 ms; polled every 50 ms the lag is 50 ms, not 10."""
    t_s = [0.05 * k for k in range(200)]
    joules = [20.0 * (k // 4) for k in range(200)]
    claims_less = energy_of(counter(t_s, joules, update_period_ns=10 * NS_PER_MS), 2, 8)
    honest = energy_of(counter(t_s, joules, update_period_ns=200 * NS_PER_MS), 2, 8)
    assert claims_less.value_j == pytest.approx(honest.value_j)
    assert claims_less.random_j == pytest.approx(honest.random_j)


def test_a_witness_that_sees_the_load_change_widens_the_edges() -> None:
    t_s = [0.1 * k for k in range(100)]
    ledger = counter(t_s, [20.0 * k for k in range(100)], update_period_ns=100 * NS_PER_MS)
    calm = power(t_s, [200.0] * 100)
    restless = power(t_s, [100.0, 300.0] * 50)
    silent = power(t_s, [0.0] * 100)
    alone = energy_of(ledger, 2.03, 5.07)
    assert energy_of(ledger, 2.03, 5.07, calm).random_j == pytest.approx(alone.random_j)
    assert energy_of(ledger, 2.03, 5.07, silent).random_j == pytest.approx(3.04 * 200.0)  # both numbers are inside
    assert energy_of(ledger, 2.03, 5.07, restless).random_j > alone.random_j + 1


def test_failed_reads_are_counted_where_they_lie() -> None:
    gap = SampleGap(stream="gpu0.power", start_ns=EPOCH_NS + 2 * NS_PER_S, end_ns=EPOCH_NS + 6 * NS_PER_S,
                    failed_reads=4, reason="unplugged")  # fmt: skip
    empty = SampleGap(stream="gpu0.power", start_ns=EPOCH_NS, end_ns=EPOCH_NS, failed_reads=0, reason="late")
    series = Series(power_channel(), at([0.0, 1.0, 2.0, 6.0, 7.0, 8.0]), np.full(6, 100.0), (gap, empty))
    found = estimate_many(series, None, [[window(0, 4)], [window(4, 5, 0.5)], [window(5, 8)], [window(0, 8)]])
    assert [energy.failed_reads for energy in found.energies if isinstance(energy, Energy)] == [2, 1, 1, 4]


def test_readings_left_out_are_reported() -> None:
    ledger = power([0.0, 1.0, 2.0], [100.0, float("nan"), 100.0])
    witness = power([0.0, 0.0], [1.0, 1.0])
    assert estimate_many(ledger, witness, []).notes == (
        "gpu0.power: 1 readings left out (no number, or two at one time)",
        "gpu0.power: 1 readings left out (no number, or two at one time)",
    )


def test_overlapping_windows_add_up_to_one_profile() -> None:
    joined = profile([[window(0, 2, 0.5), window(1, 3, 0.5)], [], [window(5, 6), window(6, 7)]])
    assert joined.seconds.tolist() == [2.0, 0.0, 2.0]
    assert joined.weight.tolist() == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("broken", [WeightedWindow(5, 4), WeightedWindow(1, 2, 0.0)])
def test_windows_that_cannot_be_are_refused(broken: WeightedWindow) -> None:
    with pytest.raises(ValueError, match="a window must not end"):
        profile([[broken]])


def test_an_unknown_delay_widens_a_window_whose_ends_differ_in_power() -> None:
    """10 W/s known to half a second either way: 10 W/s times 0.5 s times the window's 3 s."""
    ramp = power(SECONDS, [10.0 * s for s in SECONDS], update_period_ns=NS_PER_S)
    assert energy_of(ramp, 3, 6).random_j == pytest.approx(1.96 * 15.0 / 3**0.5, rel=1e-3)
    level = power(SECONDS, [100.0] * 11, update_period_ns=NS_PER_S)
    assert energy_of(level, 3, 6).random_j == pytest.approx(0.0, abs=1e-9)


def test_a_step_of_power_in_the_interval_that_a_window_cuts_is_in_its_interval() -> None:
    """Between 5 and 6 s power rose by 200 W at an unknown moment; half of that second errs by up to 50 J."""
    stepped = power(SECONDS, [100.0] * 6 + [300.0] * 5)
    for start_s in (5.0, 5.25, 5.5, 5.75):
        energy = energy_of(stepped, start_s, 9)
        earliest_j, latest_j = 300.0 * (9 - start_s), 300.0 * 3 + 100.0 * (6 - start_s)
        assert energy.value_j - energy.random_j <= latest_j < earliest_j <= energy.value_j + energy.random_j
    cut = energy_of(stepped, 5.5, 5.75)
    assert 25.0 * 2**0.5 < cut.random_j < 1.96 * 8000**0.5
    assert energy_of(stepped, 1, 3).random_j == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("block", [1, 3, 40])
def test_bounds_do_not_depend_on_how_many_are_worked_out_at_once(
    block: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    load, t_ns = random_load(rng, 20.0), poll_times(rng, 20.0)
    ledger = step_counter(load, t_ns[rng.random(t_ns.size) < 0.9], phase_ns=37 * NS_PER_MS)
    # a witness with holes that sets in late and goes early: many intervals have none of its readings
    seen_ns = t_ns[(rng.random(t_ns.size) < 0.5) & (t_ns > t_ns[30]) & (t_ns < t_ns[150])]
    windows = [[window(k, k + 0.7)] for k in range(19)]
    whole = estimate_many(ledger, power_readings(load, seen_ns), windows)
    monkeypatch.setattr(counters, "_BLOCK", block)
    assert estimate_many(ledger, power_readings(load, seen_ns), windows).energies == whole.energies
