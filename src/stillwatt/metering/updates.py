"""When a counter's own updates happened: bounds from the readings, narrowed by the instrument's rhythm (eq. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series

_LEAST_HALF_RANGE = 0.05
"""Half-range of an update's time, at least, as a share of the update period: a value may be a little older than it."""
_STRAY = 0.12
"""How far updates may stray from their period before their rhythm is known, as a share of it."""
_BLUR_95 = 1.96**2 / 6.0
"""Squared 95 % half-width of the difference of two uniform errors, in squares of the sum of their half-ranges."""
_LEAST_BLUR = 0.01
"""No pair of sightings counts as sharper than this share of the period: one chance coincidence must not rule."""
_SHARP = 1.0 / 8.0
"""An update whose half-range is below this share of the period anchors the rhythm."""
_IRREGULAR = 1.0 / 6.0
"""Updates that stray from the rhythm by more than this share of the period have none."""
_REACH = 50
"""The rhythm is carried on from a sharp update over this many periods: clocks drift."""
_NEIGHBOURS = 4
"""So many updates away a sharp one still tells, by itself, that another cannot have come so late or so early."""
_CERTAIN = 0.25
"""Periods are counted between two updates while the count's own error stays below this share of one."""
_BUNCH = 1.5
"""Gaps up to this many times the shortest are single periods."""


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Runs of equal counts, and when the update behind each of them happened.

    Attributes:
        first: shape [R], index of the reading that first shows the run's count.
        last: shape [R], index of the last reading that shows it.
        x_ns: shape [R], middle of the range in which the update happened.
        half_ns: shape [R], half of that range.
        period_ns: the update period: the channel's, or what the readings show.
    """

    first: IntArray
    last: IntArray
    x_ns: IntArray
    half_ns: FloatArray
    period_ns: int


@dataclass(frozen=True, slots=True)
class _Rhythm:
    period_ns: float
    error_ns: float
    """95 % half-width of the period."""
    jitter_ns: float
    """How far single updates stray from it."""


def find_updates(series: Series, is_break: BoolArray) -> Updates:
    """Bounds of every update's time (method.md, eq. 3).

    Args:
        series: n readings of one counter.
        is_break: shape [n - 1], steps between readings that are no distance (resets).
    """
    t_ns = series.t_ns
    moves = (np.diff(series.count) != 0) | is_break
    first = np.append(0, np.flatnonzero(moves) + 1)
    last = np.append(first[1:] - 1, t_ns.size - 1)
    period_ns = _period_ns(series, first, last)
    low_ns, high_ns = _bounds(t_ns, first, last, period_ns, round(_STRAY * period_ns))
    # a counter that began anew was renewed at that moment, and may keep another time since
    part = np.cumsum(np.append(0, is_break[first[1:] - 1])).astype(np.int64)
    rhythm = _rhythm((low_ns + high_ns) / 2, (high_ns - low_ns) / 2, part, period_ns)
    if rhythm is not None:
        period_ns = round(rhythm.period_ns)
        low_ns, high_ns = _bounds(t_ns, first, last, period_ns, round(rhythm.jitter_ns + rhythm.error_ns))
        low_ns, high_ns = _narrowed(low_ns, high_ns, t_ns[last], part, rhythm)
        low_ns, high_ns = _narrowed(*_apart(low_ns, high_ns, part, rhythm), t_ns[last], part, rhythm)
    floor_ns = _LEAST_HALF_RANGE * period_ns
    # rounded up, so that two updates a nanosecond apart stay two
    middle_ns = (low_ns + high_ns + 1) // 2
    return Updates(first, last, middle_ns, np.maximum((high_ns - low_ns) / 2, floor_ns), period_ns)


def _bounds(
    t_ns: IntArray, first: IntArray, last: IntArray, period_ns: int, stray_ns: int
) -> tuple[IntArray, IntArray]:
    """An update came after the last reading that does not show it, and at most a period before the next update."""
    high_ns = t_ns[first]
    longest_ns = period_ns + stray_ns
    since_ns = np.append(longest_ns, np.diff(t_ns)[first[1:] - 1])
    low_ns = np.maximum(high_ns - np.minimum(since_ns, longest_ns), t_ns[last] - longest_ns)
    return np.minimum(low_ns, high_ns), high_ns


def _period_ns(series: Series, first: IntArray, last: IntArray) -> int:
    """The channel's update period, or the spacing of the changes where most values repeat for longer."""
    declared_ns = series.channel.update_period_ns
    changes_ns = series.t_ns[first]
    repeated_ns = (series.t_ns[last] - changes_ns)[1:-1]
    if repeated_ns.size == 0 or np.median(repeated_ns) < declared_ns:
        return declared_ns
    return max(declared_ns, int(np.median(np.diff(changes_ns))))


def _rhythm(middle_ns: FloatArray, half_ns: FloatArray, part: IntArray, period_ns: int) -> _Rhythm | None:
    """The instrument's own period from updates that were seen sharply, or None where it shows none.

    Neighbouring sharp updates are taken in order of their distance: short ones fix the period well enough to count
    the periods in longer ones, and these fix it better. Those on either side of a reset (`part`) are no neighbours.
    """
    is_sharp = _is_sharp(half_ns, part, period_ns)
    is_one = np.diff(part[is_sharp]) == 0
    gaps_ns = np.diff(middle_ns[is_sharp])[is_one]
    blur_ns = (half_ns[is_sharp][1:] + half_ns[is_sharp][:-1])[is_one]
    if gaps_ns.size < 2:
        return None
    weights = 1.0 / np.maximum(blur_ns, _LEAST_BLUR * period_ns) ** 2
    shortest_ns = float(gaps_ns.min())
    # the shortest gaps together, where they are single periods; the declared period, where they cannot be
    is_first = gaps_ns <= _BUNCH * shortest_ns
    if shortest_ns < _BUNCH * period_ns:
        square = float(np.sum(weights[is_first]))
        product = float(np.sum(weights[is_first] * gaps_ns[is_first]))
    else:
        square = (2.0 / (_STRAY * period_ns)) ** 2
        product = square * period_ns
        is_first[:] = False
    strays = list(_unexplained(gaps_ns[is_first] - product / square, blur_ns[is_first]))
    for k in np.argsort(gaps_ns, kind="stable")[np.count_nonzero(is_first) :]:
        length_ns, error_ns = product / square, 2.0 / math.sqrt(square)
        count = round(gaps_ns[k] / length_ns)
        if count * error_ns <= _CERTAIN * length_ns:
            strays.append(float(_unexplained(gaps_ns[k] - count * length_ns, blur_ns[k])))
            square += weights[k] * count**2
            product += weights[k] * count * gaps_ns[k]
    length_ns, error_ns = product / square, 2.0 / math.sqrt(square)
    if not strays:
        return None
    jitter_ns = float(np.quantile(strays, 0.95))
    if jitter_ns > _IRREGULAR * length_ns:
        return None
    return _Rhythm(length_ns, error_ns, jitter_ns)


def _unexplained(stray_ns: FloatArray, blur_ns: FloatArray) -> FloatArray:
    """What of a pair's stray the blur of its own two sightings does not explain: the instrument's own."""
    return np.asarray(np.sqrt(np.maximum(stray_ns**2 - blur_ns**2 * _BLUR_95, 0.0)), dtype=np.float64)


def _is_sharp(half_ns: FloatArray, part: IntArray, period_ns: float) -> BoolArray:
    """Updates that were seen sharply.

    The first run's was before the first reading, and nobody saw it; the next stands on that one reading, and if it is
    wrong (eq. 138), there was none. What a counter shows when it begins anew is no update of its rhythm.
    """
    is_sharp = np.asarray(half_ns <= _SHARP * period_ns, dtype=np.bool_)
    is_sharp[:2] = False
    is_sharp[1:] &= np.diff(part) == 0
    return is_sharp


def _apart(low_ns: IntArray, high_ns: IntArray, part: IntArray, rhythm: _Rhythm) -> tuple[IntArray, IntArray]:
    """Bounds cut by those of the updates beside them: two values are a period apart, at least.

    Read at the counter's own rate, an update near a reading may have come before it or a whole period after the reading
    before; the neighbour's time tells which.
    """
    shortest_ns = round(rhythm.period_ns - rhythm.error_ns - 2 * rhythm.jitter_ns)
    low, high = low_ns.copy(), high_ns.copy()
    # a counter may begin anew at any time after an update, and be renewed at any time after that
    apart_ns = np.where(np.diff(part) == 0, shortest_ns, 0)
    for _ in range(_NEIGHBOURS):
        high[:-1] = np.minimum(high[:-1], high[1:] - apart_ns)
        low[1:] = np.maximum(low[1:], low[:-1] + apart_ns)
    is_possible = low <= high
    return np.where(is_possible, low, low_ns), np.where(is_possible, high, high_ns)


def _narrowed(
    low_ns: IntArray, high_ns: IntArray, last_ns: IntArray, part: IntArray, rhythm: _Rhythm
) -> tuple[IntArray, IntArray]:
    """Bounds of blurred updates where the rhythm, carried on from the nearest sharp one, allows only a part of them."""
    middle_ns, half_ns = (low_ns + high_ns) / 2, (high_ns - low_ns) / 2
    is_sharp = _is_sharp(half_ns, part, rhythm.period_ns)
    anchors = np.flatnonzero(is_sharp)
    if anchors.size == 0:
        return low_ns, high_ns
    number = np.arange(low_ns.size)
    right = np.minimum(np.searchsorted(anchors, number), anchors.size - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = np.abs(middle_ns - middle_ns[anchors[left]]) < np.abs(middle_ns - middle_ns[anchors[right]])
    # the update after: between it and the last reading of this run there is none, so they lie one period apart
    is_before = (anchors[right] == number + 1) & (high_ns[anchors[right]] - last_ns[number] < rhythm.period_ns)
    anchor = anchors[np.where(nearer_left & ~is_before, left, right)]
    periods = np.where(is_before, -1, np.round((middle_ns - middle_ns[anchor]) / rhythm.period_ns))
    expected_ns = middle_ns[anchor] + periods * rhythm.period_ns
    blur_ns = half_ns[anchor] + np.abs(periods) * rhythm.error_ns + rhythm.jitter_ns
    low, high = np.maximum(low_ns, expected_ns - blur_ns), np.minimum(high_ns, expected_ns + blur_ns)
    is_alone = (expected_ns - rhythm.period_ns + blur_ns < low_ns) & (
        expected_ns + rhythm.period_ns - blur_ns > high_ns
    )
    usable = ~is_sharp & (low < high) & (np.abs(periods) <= _REACH) & (is_alone | is_before)
    usable &= (blur_ns < half_ns) & (part[anchor] == part)
    return (
        np.where(usable, low, low_ns).astype(np.int64),
        np.where(usable, high, high_ns).astype(np.int64),
    )
