"""Cumulative energy curves from readings: counters by interpolation, power by trapezoid (method.md, eqs. 3 to 7)."""

from __future__ import annotations

import numpy as np

from stillwatt.metering.counter import counter_curve
from stillwatt.metering.curve import Curve, Segment, carry_on, cover
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records.channel import Quantity
from stillwatt.units import NS_PER_S

_STUCK_UPDATES = 10
"""A counter that never moves, seen for this many update periods, is stuck."""
_SECOND_DIFFERENCE = 10.0
"""Eq. 7: half of each end's second difference over the 6 of its variance, and a fifth more for its own scatter."""


def cumulate(series: Series, witness: Curve | None = None, beside: Series | None = None) -> Curve | str:
    """The curve of one stream, or the reason there is none (method.md, eqs. 3 to 7).

    Args:
        series: readings of a counter or of power.
        witness: curve of the same part's power; repairs a counter's resets and shows load changes beside edges.
        beside: the readings that `witness` was made from.
    """
    stream = series.channel.stream
    if series.t_ns.size == 0:
        return f"no readings of {stream} in this session"
    if series.channel.quantity is Quantity.POWER:
        return _power_curve(series)
    if series.t_ns.size == 1:
        return f"one reading of {stream} in this session; a counter needs two"
    watched_ns = int(series.t_ns[-1] - series.t_ns[0])
    if not np.any(np.diff(series.count)) and watched_ns >= _STUCK_UPDATES * series.channel.update_period_ns:
        return f"{stream} did not move in {watched_ns / NS_PER_S:.1f} s: the counter is stuck"
    return counter_curve(series, witness, beside)


def _power_curve(series: Series) -> Curve:
    """Trapezoid between readings, moved back by half an update period (eqs. 4, 5, 7)."""
    lag_ns = series.channel.update_period_ns // 2
    x_ns, power_w = series.t_ns - lag_ns, series.count * series.channel.unit_si
    length_s = np.diff(x_ns) / NS_PER_S
    is_gap = np.diff(x_ns) > series.max_gap_ns
    mean_w = (power_w[1:] + power_w[:-1]) / 2
    range_w = np.array([power_w.min(), power_w.max()])
    spread_w = np.maximum(range_w[1] - mean_w, mean_w - range_w[0])
    kind = np.where(is_gap, Segment.BRIDGED_GAP, Segment.READ).astype(np.int8)
    covered = cover(series, kind)
    read = Curve(
        x_ns=x_ns,
        energy_j=np.append(0.0, np.cumsum(mean_w * length_s)),
        power_w=power_w[:-1],
        slope_w_per_s=np.diff(power_w) / length_s,
        kind=kind,
        low_w=mean_w,
        high_w=mean_w,
        whole_j=np.where(is_gap, spread_w * length_s, 0.0),
        sampling_j2=np.where(is_gap, 0.0, _sampling_j2(series, power_w, length_s)),
        lag_j=np.zeros(x_ns.size),
        lag_ns=lag_ns,
        cover_ns=covered.cover_ns,
        covered_s=covered.covered_s,
        present_s=covered.present_s,
        resets_ns=np.array([], dtype=np.int64),
        repaired_j=np.array([], dtype=np.float64),
    )
    return carry_on(read, series, ends_w=power_w[[0, -1]], range_w=range_w)


def _sampling_j2(series: Series, power_w: FloatArray, length_s: FloatArray) -> FloatArray:
    """Variance of each interval's energy from second differences (eq. 7)."""
    stride = max(1, round(series.channel.update_period_ns / max(1, series.period_ns)))
    stride = min(stride, power_w.size)
    padded = np.pad(power_w, stride, mode="edge")
    second2 = (padded[: -2 * stride] - 2 * power_w + padded[2 * stride :]) ** 2
    return np.asarray(stride * length_s**2 * (second2[1:] + second2[:-1]) / _SECOND_DIFFERENCE, dtype=np.float64)
