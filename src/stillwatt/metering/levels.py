"""Where inside a counter's step the load changed, from the levels on both sides of it (method.md, eq. 3a)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.metering.updates import Updates
from stillwatt.units import NS_PER_S

_SHARP_SHARE = 0.5
"""A witness that averages over at most this share of the counter's step tells the level at the step's end."""
_SAME_READ = 0.1
"""Witness and counter readings this near to each other, as a share of the counter's period, show one update."""
_SHARP_UPDATE = 0.1
"""Updates whose half-range is at most this share of the period were seen while reading fast."""
_TOGETHER = 0.5
_EQUAL_REL, _EQUAL_W = 0.03, 3.0
"""Levels nearer than this to each other are one: sensors' noise is a watt or two."""
_LEAST_STEADY = 5
"""Steady steps that are needed before the witness is scaled to the counter."""
_HIDDEN_SEEN, _HIDDEN_UNSEEN = 0.5, 1.0
"""Share of the largest possible misplacement that a split keeps as its error: levels seen, or taken from neighbours."""
_LONGEST_STEPS = 2.5
"""Intervals longer than this many update periods are not split: too much may have happened in them."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Power at both ends of every interval between two updates; shape [R - 1] each, NaN where nobody knows.

    Attributes:
        start_w: just after the interval began.
        end_w: just before it ended.
        is_seen: whether a witness saw both; else they are the neighbours' means.
    """

    start_w: FloatArray
    end_w: FloatArray
    is_seen: BoolArray


def find_levels(series: Series, witness: Series | None, updates: Updates, x_ns: IntArray, mean_w: FloatArray) -> Levels:
    """Levels from a sharp witness where there is one, else from the intervals on both sides.

    Args:
        series: the counter.
        witness: power of the same part.
        updates: the counter's updates.
        x_ns: shape [K], the curve's knots, the updates among them.
        mean_w: shape [K - 1], mean power between the knots.
    """
    start_w, end_w = np.append(np.nan, mean_w)[:-1], np.append(mean_w, np.nan)[1:]
    seen_w = _at_updates(series, witness, updates)
    if seen_w is None:
        return Levels(start_w, end_w, np.zeros(mean_w.size, dtype=np.bool_))
    at_knots_w = np.full(x_ns.size, np.nan)
    at_knots_w[np.searchsorted(x_ns, updates.x_ns)] = seen_w
    at_knots_w *= _scale(at_knots_w, mean_w)
    is_seen = np.isfinite(at_knots_w[:-1]) & np.isfinite(at_knots_w[1:])
    return Levels(np.where(is_seen, at_knots_w[:-1], start_w), np.where(is_seen, at_knots_w[1:], end_w), is_seen)


def same_level(one_w: FloatArray, other_w: FloatArray) -> BoolArray:
    """Whether two powers differ by no more than sensors' noise."""
    allowed_w = _EQUAL_W + _EQUAL_REL * np.maximum(np.abs(one_w), np.abs(other_w))
    return np.asarray(np.abs(one_w - other_w) <= allowed_w, dtype=np.bool_)


def split_steps(curve: Curve, levels: Levels, period_ns: int) -> Curve:
    """The curve with a knot where the load changed inside a step of the counter (method.md, eq. 3a).

    A step that is two levels one after the other is divided so that both levels and its own energy are kept:
    s start_w + (1 - s) end_w = mean_w. Other steps stay straight.
    """
    start_w, end_w = levels.start_w, levels.end_w
    length_ns, mean_w = np.diff(curve.x_ns), curve.mean_w
    is_two = np.isfinite(start_w) & np.isfinite(end_w) & ~same_level(start_w, end_w)
    is_two &= (length_ns <= _LONGEST_STEPS * period_ns) & (curve.kind == Segment.READ)
    share = np.divide(mean_w - end_w, start_w - end_w, out=np.zeros(mean_w.size), where=is_two)
    first_ns = np.round(share * length_ns)
    j = np.flatnonzero(is_two & (first_ns >= 1) & (first_ns <= length_ns - 1))
    if not j.size:
        return curve
    after, length_s = j + 1, length_ns[j] / NS_PER_S
    # the split falls on a whole nanosecond: the first level keeps its power, the second takes what is left
    first_j = start_w[j] * first_ns[j] / NS_PER_S
    rest_w = (mean_w[j] * length_s - first_j) / (length_s - first_ns[j] / NS_PER_S)
    low_w = np.minimum(curve.low_w[j], np.minimum(start_w[j], rest_w))
    high_w = np.maximum(curve.high_w[j], np.maximum(start_w[j], rest_w))
    power_w, low, high = curve.power_w.copy(), curve.low_w.copy(), curve.high_w.copy()
    power_w[j], low[j], high[j] = start_w[j], low_w, high_w
    share = first_ns[j] / length_ns[j]
    hidden_j = length_s * np.maximum(
        np.minimum((high_w - mean_w[j]) * share, (mean_w[j] - low_w) * (1 - share)),
        np.minimum((mean_w[j] - low_w) * share, (high_w - mean_w[j]) * (1 - share)),
    )
    lag_j = (
        (1 - share) * curve.lag_j[j]
        + share * curve.lag_j[j + 1]
        + np.where(levels.is_seen[j], _HIDDEN_SEEN, _HIDDEN_UNSEEN) * hidden_j
    )
    return replace(
        curve,
        x_ns=np.insert(curve.x_ns, after, curve.x_ns[j] + first_ns[j].astype(np.int64)),
        energy_j=np.insert(curve.energy_j, after, curve.energy_j[j] + first_j),
        power_w=np.insert(power_w, after, rest_w),
        slope_w_per_s=np.insert(curve.slope_w_per_s, after, 0.0),
        kind=np.insert(curve.kind, after, Segment.READ),
        low_w=np.insert(low, after, low_w),
        high_w=np.insert(high, after, high_w),
        whole_j=np.insert(curve.whole_j, after, 0.0),
        sampling_j2=np.insert(curve.sampling_j2, after, 0.0),
        lag_j=np.insert(curve.lag_j, after, lag_j),
    )


def _at_updates(series: Series, witness: Series | None, updates: Updates) -> FloatArray | None:
    """What the witness showed when each update was first read; None for one that is too slow to tell."""
    if witness is None or witness.channel.averaging_ns is None or witness.t_ns.size == 0:
        return None
    if witness.channel.averaging_ns > _SHARP_SHARE * updates.period_ns:
        return None
    read_ns = series.t_ns[updates.first]
    nearest = _nearest(witness.t_ns, read_ns)
    is_near = np.abs(witness.t_ns[nearest] - read_ns) <= _SAME_READ * updates.period_ns
    if not _keep_step(witness, updates, nearest, is_near):
        return None
    return np.where(is_near, witness.count[nearest] * witness.channel.unit_si, np.nan)


def _nearest(t_ns: IntArray, asked_ns: IntArray) -> IntArray:
    """Index of the reading nearest in time."""
    after = np.clip(np.searchsorted(t_ns, asked_ns), 0, t_ns.size - 1)
    before = np.maximum(after - 1, 0)
    return np.where(asked_ns - t_ns[before] < t_ns[after] - asked_ns, before, after)


def _keep_step(witness: Series, updates: Updates, nearest: IntArray, is_near: BoolArray) -> bool:
    """Whether counter and witness are renewed together: most sharply seen updates of the one show in the other.

    A witness that hardly ever changes says nothing against it, and its levels are the same wherever they are taken.
    """
    changes = np.append(False, np.diff(witness.count) != 0)
    seen = is_near & (updates.half_ns <= _SHARP_UPDATE * updates.period_ns) & (nearest > 0)
    if not np.any(seen):
        return True
    together = np.count_nonzero(changes[nearest[seen]])
    elsewhere = np.count_nonzero(changes) - together
    most = _TOGETHER * np.count_nonzero(seen)
    return bool(together >= most or elsewhere < most)


def _scale(seen_w: FloatArray, mean_w: FloatArray) -> float:
    """Counter over witness where the load is steady; 1 where it hardly ever is."""
    both_w = (seen_w[:-1] + seen_w[1:]) / 2
    is_steady = same_level(seen_w[:-1], seen_w[1:]) & same_level(both_w, mean_w) & (both_w > 0)
    is_steady &= np.isfinite(both_w)
    if np.count_nonzero(is_steady) < _LEAST_STEADY:
        return 1.0
    return float(np.median(mean_w[is_steady] / both_w[is_steady]))
