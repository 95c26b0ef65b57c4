"""A stream's power over time, reduced for drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.counter import counter_steps
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Segment
from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.metering.windows import sums
from stillwatt.records.channel import Quantity
from stillwatt.records.run import TracePoint
from stillwatt.units import NS_PER_S

MAX_POINTS = 1_000
"""More than a screen is wide."""
_LONG = 100_000
"""Readings from which on nobody sees in a drawing what happened inside a counter's step."""


def trace_points(series: Series, start_ns: int, *, max_points: int = MAX_POINTS) -> tuple[TracePoint, ...]:
    """Mean, least and largest power in buckets of equal length, between the first and the last reading.

    Power comes from the readings themselves, a counter's from its differences. A bucket that a gap or a reset
    fills, or in which nothing was read, is left out: the drawing shows the hole.

    Args:
        series: one stream.
        start_ns: the session's start; `TracePoint.t_s` is the middle of a bucket after it.
        max_points: at most this many points.

    Raises:
        ValueError: `max_points` is below 1.
    """
    if max_points < 1:
        raise ValueError(f"a trace of {max_points} points cannot be drawn")
    pieces = _pieces(series)
    if pieces is None:
        return ()
    first_ns = pieces.start_ns[0]
    span_ns = pieces.end_ns[-1] - first_ns
    count = min(max_points, pieces.start_ns.size)
    bucket = ((pieces.start_ns + pieces.end_ns) // 2 - first_ns) * count // span_ns
    length_s = (pieces.end_ns - pieces.start_ns) / NS_PER_S
    low_w, high_w = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low_w, bucket, np.minimum(pieces.before_w, pieces.after_w))
    np.maximum.at(high_w, bucket, np.maximum(pieces.before_w, pieces.after_w))
    seconds = sums(bucket, length_s, count)
    energy_j = sums(bucket, (pieces.before_w + pieces.after_w) / 2 * length_s, count)
    middle_s = (first_ns - start_ns + (2 * np.arange(count) + 1) * span_ns / (2 * count)) / NS_PER_S
    return tuple(
        TracePoint(
            t_s=float(middle_s[k]),
            mean_w=float(energy_j[k] / seconds[k]),
            low_w=float(low_w[k]),
            high_w=float(high_w[k]),
        )
        for k in np.flatnonzero(seconds > 0)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Spans that readings cover, with the power at both ends of each."""

    start_ns: IntArray
    end_ns: IntArray
    before_w: FloatArray
    after_w: FloatArray


def _pieces(series: Series) -> _Pieces | None:
    """Of a long run's counter, its steps; else the curve's segments, steps divided where load changed inside them."""
    is_long = series.t_ns.size > _LONG and series.channel.quantity is Quantity.ENERGY_COUNTER
    if is_long and np.any(np.diff(series.count)):
        x_ns, energy_j, kind = counter_steps(series)
        before_w = after_w = np.diff(energy_j) / (np.diff(x_ns) / NS_PER_S)
    else:
        curve = cumulate(series)
        if isinstance(curve, str):
            return None
        x_ns, kind, before_w = curve.x_ns, curve.kind, curve.power_w
        after_w = before_w + curve.slope_w_per_s * curve.length_s
    is_read = np.flatnonzero(kind == Segment.READ)  # what is held at both ends is not read
    if is_read.size == 0:
        return None
    return _Pieces(x_ns[is_read], x_ns[is_read + 1], before_w[is_read], after_w[is_read])
