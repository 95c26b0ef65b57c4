"""Readings of a counter that are no counts of its own: left out, counted, bridged; resets and wraps stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillwatt.metering.estimate import Estimates, estimate_many
from stillwatt.metering.rejection import without_failed
from stillwatt.metering.series import Series
from stillwatt.metering.trace import trace_points
from stillwatt.metering.unwrap import unwrap
from stillwatt.records import Absent, Boundary, Energy
from stillwatt.units import NS_PER_MS
from strategies import EPOCH_NS, FloatArray, channel, power_channel, window

WATTS = 52.0
RAPL_RANGE = 262_143_328_850


def readings(count: FloatArray, every_ms: int = 100, **changes: Any) -> Series:
    """A millijoule counter's, read at its own rate."""
    t_ns = EPOCH_NS + np.arange(count.size, dtype=np.int64) * every_ms * NS_PER_MS
    return Series(channel(**({"unit_si": 0.001, "sampling_period_ns": every_ms * NS_PER_MS} | changes)), t_ns, count)


def steady(seconds: float = 60.0, *, offset_j: float = 22.5e6, unit_j: float = 0.001) -> FloatArray:
    """A card of 52 W that drew 22.5 MJ in its life."""
    return np.floor((offset_j + WATTS * np.arange(0.0, seconds, 0.1)) / unit_j)


def power(num: int, every_ms: int = 100) -> Series:
    t_ns = EPOCH_NS + np.arange(num, dtype=np.int64) * every_ms * NS_PER_MS
    return Series(power_channel(sampling_period_ns=every_ms * NS_PER_MS), t_ns, np.full(num, WATTS))


def only(found: Estimates) -> Energy:
    energy = found.energies[0]
    assert isinstance(energy, Energy)
    return energy


def kept(counts: list[float], **changes: Any) -> list[float]:
    return [float(c) for c in without_failed(readings(np.array(counts), **changes), has_witness=False).series.count]


@pytest.mark.parametrize("shown", [0.0, 200e3, 2.0**32 - 1, 2.0**64])
@pytest.mark.parametrize("has_witness", [False, True])
def test_one_reading_off_is_left_out_and_counted(shown: float, has_witness: bool) -> None:
    count = steady()
    count[300] = shown
    found = estimate_many(readings(count), power(600) if has_witness else None, [[window(25, 35)]])
    energy = only(found)
    assert energy.value_j == pytest.approx(520.0, abs=0.1)
    assert energy.random_j < 5.0
    assert (energy.coverage, energy.missing_s, energy.failed_reads) == (1.0, 0.0, 1)
    assert found.notes == (
        "gpu0.energy_counter: a reading between 5029.900 and 5030.100 s gave a count that does not lie between those "
        "before and after it; left out as failed",
    )


@pytest.mark.parametrize("offset_j", [22.5e6, 300.0])
def test_zeros_for_longer_than_a_gap_are_a_gap_whose_distance_is_known(offset_j: float) -> None:
    count = steady(offset_j=offset_j)
    count[300:312] = 0.0
    energy = only(estimate_many(readings(count), None, [[window(25, 35)]]))
    assert energy.value_j == pytest.approx(520.0, abs=0.1)
    assert energy.coverage == pytest.approx(8.7 / 10)
    assert energy.failed_reads == 12


def test_all_failed_readings_of_a_run_are_told_in_one_line() -> None:
    count = steady()
    count[5::10] = 0.0
    found = estimate_many(readings(count), None, [[window(10, 50)]])
    assert only(found).value_j == pytest.approx(40 * WATTS, abs=0.1)
    assert found.notes == (
        "gpu0.energy_counter: 60 readings between 5000.400 and 5059.600 s gave a count that does not lie between those "
        "before and after it; left out as failed",
    )


def test_a_counter_that_went_astray_counted_there_and_came_back_had_failed_in_between() -> None:
    count = steady()
    count[300:330] -= 9e9
    energy = only(estimate_many(readings(count), None, [[window(25, 35)]]))
    assert energy.value_j == pytest.approx(520.0, abs=0.1)
    assert energy.failed_reads == 30


def test_a_value_that_is_shown_again_had_not_changed() -> None:
    assert kept([9e6, 9.005e6, 9.01e6, 9.004e6, 2.0**32, 9.01e6, 9.015e6]) == [9e6, 9.005e6, 9.01e6, 9.01e6, 9.015e6]


@pytest.mark.parametrize(
    ("at", "shown", "good"),
    [(10, -50e3, 9), (10, 45e3, 9), (10, -3.0e6, 9), (9, 45e3, 8)],
)
def test_a_little_off_is_off_too(at: int, shown: float, good: int) -> None:
    count = steady(3.0)
    count[at] += shown
    left = without_failed(readings(count), has_witness=False).series.count
    assert left.tolist() == np.delete(count, at).tolist()


def test_where_nothing_tells_which_of_two_is_wrong_both_are() -> None:
    count = steady(3.0)
    count[10], count[11] = count[9] + 45e3, count[9] + 10e3
    count[12:] += 40e3
    assert without_failed(readings(count), has_witness=False).failed[0].failed_reads == 2


def test_a_spike_and_a_dip_in_a_row_are_both_left_out() -> None:
    count = steady(3.0)
    count[10], count[11] = 2.0**40, 5.0
    assert without_failed(readings(count), has_witness=False).failed[0].failed_reads == 2


@pytest.mark.parametrize("ends", [slice(0, 1), slice(0, 3), slice(-1, None), slice(-12, None)])
def test_a_run_may_begin_or_end_with_bad_readings(ends: slice) -> None:
    count = steady(20.0)
    count[ends] = 0.0
    whole = only(estimate_many(readings(count), None, [[window(0, 20)]]))
    assert abs(whole.value_j + WATTS * whole.missing_s - 20 * WATTS) <= whole.random_j + 6.0
    assert whole.failed_reads == np.count_nonzero(count == 0.0)


def test_a_counter_that_ends_at_0_is_followed_by_the_power_beside_it() -> None:
    count = steady(20.0)
    count[-30:] = 0.0
    whole = only(estimate_many(readings(count), power(200), [[window(0, 19.9)]]))
    assert whole.value_j == pytest.approx(19.9 * WATTS, abs=6.0)
    assert whole.missing_s == 0.0


def test_a_last_reading_that_nothing_bears_out_widens_the_interval() -> None:
    count = steady(20.0)
    count[-1] += 150e3
    whole = only(estimate_many(readings(count), None, [[window(0, 20)]]))
    assert whole.low_j <= 20 * WATTS <= whole.high_j


def test_a_jump_that_stays_is_no_energy_and_is_not_spread_over_good_readings() -> None:
    count = steady()
    count[300:] += 1e9
    found = estimate_many(readings(count), None, [[window(25, 35)]])
    assert only(found).value_j == pytest.approx(9.9 * WATTS, abs=0.1)
    assert only(found).missing_s == pytest.approx(0.1)
    assert only(found).failed_reads == 0
    repaired = only(estimate_many(readings(count), power(600), [[window(25, 35)]]))
    assert (repaired.value_j, repaired.missing_s) == pytest.approx((520.0, 0.0), abs=0.1)


def test_a_reset_with_a_bad_reading_in_it_is_one_reset() -> None:
    count = steady()
    count[300:] -= count[300]
    count[300] = 2.0**50
    found = without_failed(readings(count), has_witness=False)
    assert found.failed[0].failed_reads == 1
    assert unwrap(found.series).resets.tolist() == [299]


def test_a_counter_that_begins_anew_soon_after_it_began_was_reset() -> None:
    """A bridge over the first values would say that hardly anything was drawn meanwhile."""
    count = steady(6.0, offset_j=5.0)
    count[2:] = count[:-2] + 1e3
    assert without_failed(readings(count), has_witness=False).series.t_ns.size == 60


@pytest.mark.parametrize("counts", [[9e9, 5.0], [9e9, 5.0, 8e12], [9e6, 9.04e6, 8.999e6, 9.01e6]])
def test_where_no_reading_fits_another_all_are_kept_and_nothing_is_known(counts: list[float]) -> None:
    assert kept(counts) == counts


def test_one_reading_beside_failed_ones_is_not_two() -> None:
    (found,) = estimate_many(readings(np.array([9e6, 9.04e6, 9.01e6])), None, [[window(0, 0.2)]]).energies
    assert isinstance(found, Absent)
    assert found.reason == (
        "one reading of gpu0.energy_counter in this session beside 2 that failed; a counter needs two"
    )


def test_between_two_good_readings_one_may_be_bad() -> None:
    assert kept([9e6, 5.0, 9.005e6]) == [9e6, 9.005e6]


def test_without_a_usual_power_one_step_back_to_about_0_is_a_reset() -> None:
    assert kept([5_000.0, 100.0, 5_100.0]) == [100.0, 5_100.0]  # nothing bears out the first


def test_one_bad_reading_of_a_wrapping_counter_says_nothing_of_all_others() -> None:
    count = np.mod(steady(offset_j=2e5, unit_j=1e-6), RAPL_RANGE)
    count[300] = 0.0
    packages = readings(count, unit_si=1e-6, modulus=RAPL_RANGE, boundary=Boundary.CHIP, update_period_ns=NS_PER_MS)
    found = estimate_many(packages, None, [[window(2, 8)], [window(25, 35)]])
    for energy, joules in zip(found.energies, (312.0, 520.0), strict=True):
        assert isinstance(energy, Energy)
        assert energy.value_j == pytest.approx(joules, abs=0.1)
        assert energy.coverage == 1.0
    assert len(found.notes) == 1


def test_readings_microseconds_apart_show_no_megawatts() -> None:
    """Two readings 20 us apart with an update between them, of a counter whose range is 65.7 kJ, read once a second."""
    t_s = np.concatenate([np.arange(0, 10, 1.0), [10.09999, 10.10001], np.arange(11, 30, 1.0)])
    counts = np.floor(np.floor(t_s / 0.1 + 1e-9) * 0.1 * 200 / 1e-6)
    told = channel(unit_si=1e-6, modulus=65_712_999_613, sampling_period_ns=1_000 * NS_PER_MS)
    series = Series(told, EPOCH_NS + np.round(t_s * 1e9).astype(np.int64), np.mod(counts, 65_712_999_613))
    energy = only(estimate_many(series, None, [[window(5, 15)]]))
    assert energy.value_j == pytest.approx(2_000.0, abs=20.0)
    assert energy.missing_s == 0.0


def test_beside_a_last_span_in_which_a_counter_may_have_gone_round_the_usual_power_is_held() -> None:
    t_ns = EPOCH_NS + np.array([0, 1, 2, 3, 4, 5, 1_205], dtype=np.int64) * 1_000 * NS_PER_MS
    told = channel(modulus=65_000, sampling_period_ns=1_000 * NS_PER_MS)
    series = Series(told, t_ns, np.array([0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 50_000.0]))
    held = only(estimate_many(series, None, [[window(1_205, 1_205.5)]]))
    assert (held.value_j, held.estimated_j) == pytest.approx((50.0, 50.0))


def test_a_node_may_draw_more_than_any_board_and_a_wide_board_what_its_limit_says() -> None:
    count = steady()
    count[300:] += 300e3 * np.arange(300)  # 3 kW more
    joules = 300 * 3_052 * 0.1
    for changes in ({"boundary": Boundary.NODE}, {"limit_w": 3_000.0}, {}):
        energy = only(estimate_many(readings(count, **changes), None, [[window(30, 59.9)]]))
        assert energy.value_j == pytest.approx(joules, rel=0.01)
        assert energy.missing_s == 0.0


def test_what_is_held_beside_an_unknown_span_is_no_0_j() -> None:
    """Every step of the counter is a jump; 0 J would be booked for what nobody knows."""
    count = np.cumsum(np.full(15, 5e9))
    assert isinstance(estimate_many(readings(count), None, [[window(-0.5, 1.2)]]).energies[0], Absent)


def test_resets_of_one_cure_are_told_in_one_line() -> None:
    count = steady()
    for at in (100, 200, 300):
        count[at:] -= count[at]
    notes = estimate_many(readings(count), None, [[window(1, 50)]]).notes
    assert notes == (
        "gpu0.energy_counter: the counter's distance after 3 readings from 5009.900 to 5029.900 s is unknown (reset, "
        "jump or unseen wrap); its joules are missing",
    )


def test_a_drawing_shows_no_bad_reading_either() -> None:
    count = steady(15_000.0)
    count[70_000] = 0.0
    points = trace_points(readings(count), EPOCH_NS, max_points=10)
    assert max(point.high_w for point in points) == pytest.approx(WATTS, rel=0.05)
