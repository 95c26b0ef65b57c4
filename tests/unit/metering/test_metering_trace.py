from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillwatt.metering import trace
from stillwatt.metering.series import Series
from stillwatt.metering.trace import trace_points
from stillwatt.records import TracePoint
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, channel, power_channel, random_load, step_counter


def test_few_readings_are_drawn_one_by_one() -> None:
    series = Series(
        power_channel(update_period_ns=1), np.array([10, 11, 12]) * NS_PER_S, np.array([100.0, 200.0, 50.0])
    )
    assert trace_points(series, 8 * NS_PER_S) == (
        TracePoint(t_s=2.5, mean_w=150.0, low_w=100.0, high_w=200.0),
        TracePoint(t_s=3.5, mean_w=125.0, low_w=50.0, high_w=200.0),
    )


def test_buckets_keep_the_extremes() -> None:
    watts = np.full(10_001, 100.0)
    watts[5_000] = 900.0
    series = Series(power_channel(update_period_ns=1), np.arange(10_001) * NS_PER_S, watts)
    points = trace_points(series, 0)
    assert len(points) == 1_000
    assert max(point.high_w for point in points) == 900.0
    assert sum(point.mean_w for point in points) * 10 == pytest.approx(10_000 * 100 + 800)


def test_a_counter_is_drawn_from_its_differences() -> None:
    series = Series(channel(update_period_ns=2), np.arange(5) * NS_PER_S, np.array([0.0, 100.0, 200.0, 500.0, 800.0]))
    points = trace_points(series, 0, max_points=2)
    for name in ("mean_w", "low_w", "high_w"):
        assert [getattr(point, name) for point in points] == pytest.approx([100.0, 300.0])


def test_a_gap_is_a_hole_in_the_drawing() -> None:
    t_s = np.array([0, 1, 2, 3, 20, 21, 22, 23])
    points = trace_points(Series(power_channel(update_period_ns=1), t_s * NS_PER_S, np.full(8, 50.0)), 0)
    assert len(points) < 7
    assert not [point for point in points if 5 < point.t_s < 18]


def test_nothing_read_draws_nothing() -> None:
    assert trace_points(Series(power_channel(), np.array([], dtype=np.int64), np.array([])), 0) == ()
    assert trace_points(Series(power_channel(), np.array([5]), np.array([10.0])), 0) == ()


def test_a_drawing_needs_a_point() -> None:
    with pytest.raises(ValueError, match="0 points"):
        trace_points(Series(power_channel(), np.array([5]), np.array([10.0])), 0, max_points=0)


def test_a_long_run_is_drawn_from_the_counters_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    load = random_load(np.random.default_rng(3), 30.0)
    t_ns = EPOCH_NS + np.arange(300) * 100 * NS_PER_MS
    series = step_counter(load, t_ns, phase_ns=37 * NS_PER_MS)
    fine = trace_points(series, EPOCH_NS, max_points=20)
    monkeypatch.setattr(trace, "_LONG", 100)
    coarse = trace_points(series, EPOCH_NS, max_points=20)
    assert [point.t_s for point in coarse] == pytest.approx([point.t_s for point in fine], abs=0.2)
    assert [point.mean_w for point in coarse] == pytest.approx([point.mean_w for point in fine], rel=0.05, abs=20.0)
    still = replace(series, count=np.zeros(300))
    assert trace_points(still, EPOCH_NS) == ()  # stuck: that is no 0 W
