from __future__ import annotations

import numpy as np
import pytest

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import channel, power_channel


def test_readings_come_out_in_time_order_without_doubles_and_without_what_is_no_number() -> None:
    series = Series(channel(), np.array([30, 10, 20, 20, 40]), np.array([3.0, 1.0, 2.0, 2.5, np.nan]))
    assert series.t_ns.tolist() == [10, 20, 30]
    assert series.count.tolist() == [1.0, 2.5, 3.0]
    assert series.dropped == 2


def test_a_count_beyond_any_instrument_is_no_reading_so_that_records_which_hold_one_can_be_posted() -> None:
    for absurd in (1e308, -1e200, 2.0**65, np.inf):
        series = Series(power_channel(), np.arange(4) * NS_PER_S, np.array([100.0, absurd, 100.0, 100.0]))
        assert (series.count.tolist(), series.dropped) == ([100.0] * 3, 1)
        energy = estimate(series, None, [WeightedWindow(0, 3 * NS_PER_S)])
        assert isinstance(energy, Energy)
        assert energy.value_j == 300.0


def test_an_empty_stream_is_a_series_too() -> None:
    series = Series(channel(), np.array([], dtype=np.int64), np.array([]))
    assert (series.t_ns.size, series.dropped, series.period_ns) == (0, 0, 0)


def test_times_and_counts_must_go_together() -> None:
    with pytest.raises(ValueError, match=r"gpu0.energy_counter: \(2,\) times do not go with \(1,\) counts"):
        Series(channel(), np.array([1, 2]), np.array([1.0]))


def test_a_gap_is_three_periods_or_two_updates_whichever_is_longer() -> None:
    slow = Series(power_channel(update_period_ns=NS_PER_S), np.arange(9) * 100 * NS_PER_MS, np.ones(9))
    fast = Series(power_channel(update_period_ns=NS_PER_MS), np.arange(9) * 100 * NS_PER_MS, np.ones(9))
    assert (slow.max_gap_ns, fast.max_gap_ns) == (2 * NS_PER_S, 300 * NS_PER_MS)


def test_readings_in_order_are_not_copied_and_others_are_put_in_order() -> None:
    t_ns, count = np.array([1, 2, 3]), np.array([10.0, 20.0, 30.0])
    series = Series(channel(), t_ns, count)
    assert series.t_ns is t_ns
    assert series.count is count
    assert series.dropped == 0
    for order in ([2, 0, 1], [0, 1, 1, 2], [1, 0, 2, 2]):
        mixed = Series(channel(), t_ns[order], count[order])
        assert mixed.t_ns.tolist() == [1, 2, 3]
        assert mixed.count.tolist() == [10.0, 20.0, 30.0]
        assert mixed.dropped == len(order) - 3
    assert t_ns.tolist() == [1, 2, 3]
    assert count.tolist() == [10.0, 20.0, 30.0]
