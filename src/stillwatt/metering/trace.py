"""A stream's power over time, reduced for drawing."""

from __future__ import annotations

import numpy as np

from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Segment
from stillwatt.metering.series import Series
from stillwatt.metering.windows import sums
from stillwatt.records.run import TracePoint
from stillwatt.units import NS_PER_S

MAX_POINTS = 1_000
"""More than a screen is wide."""


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
    curve = cumulate(series)
    if isinstance(curve, str):
        return ()
    # the first and last segments are held, not read
    is_read = np.flatnonzero(curve.kind == Segment.READ)
    if is_read.size == 0:
        return ()
    first_ns = curve.x_ns[is_read[0]]
    span_ns = curve.x_ns[is_read[-1] + 1] - first_ns
    count = min(max_points, is_read.size)
    middle_ns = (curve.x_ns[is_read] + curve.x_ns[is_read + 1]) // 2
    bucket = (middle_ns - first_ns) * count // span_ns
    length_s = curve.length_s[is_read]
    before_w = curve.power_w[is_read]
    after_w = before_w + curve.slope_w_per_s[is_read] * length_s
    low_w, high_w = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low_w, bucket, np.minimum(before_w, after_w))
    np.maximum.at(high_w, bucket, np.maximum(before_w, after_w))
    seconds = sums(bucket, length_s, count)
    energy_j = sums(bucket, curve.mean_w[is_read] * length_s, count)
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
