"""A counter's cumulative energy: where in time each of its values belongs (method.md, eqs. 2, 3, 5, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stillwatt.metering.alternation import Reach, Steps, alternation
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.cells import Cells, cells_of, is_fine
from stillwatt.metering.curve import Curve, Segment, carry_on, cover
from stillwatt.metering.fusion import fuse
from stillwatt.metering.halfwidth import evaluate
from stillwatt.metering.levels import find_levels, neighbours, shows_levels
from stillwatt.metering.outpaced import is_outpaced, shape, shown_ends
from stillwatt.metering.phase import find_phase
from stillwatt.metering.rejection import without_failed
from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.metering.splits import split_steps
from stillwatt.metering.standing import LEAST_COUNTS, STANDING_UPDATES, Stand, find_stands, follow
from stillwatt.metering.unwrap import Unwrapped, unwrap
from stillwatt.metering.updates import Updates, find_updates
from stillwatt.metering.windows import profile
from stillwatt.units import NS_PER_S

_RESETS = (Segment.MISSING, Segment.REPAIRED)
_BLOCK = 1 << 15
"""Intervals whose bounds are worked out at once: all of a week's would be half a gigabyte of passing numbers."""
_TIMED = 1.0 / 8.0
"""Updates whose half-range is mostly within this share of the period have times of their own."""
_LONG_S = 2.0
"""Over an interval of such length load changes as it likes, and the means around it say nothing of that (eq. 6)."""
_FINE_STEPS = 4
"""A counter with this many steps in a sampling period tells each interval's power by itself (eq. 6)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Energy between neighbouring readings, with resets repaired or left out; arrays of [n - 1]."""

    energy_j: FloatArray
    kind: npt.NDArray[np.int8]
    whole_j: FloatArray
    resets: IntArray
    """Indices of the readings before a reset."""
    repaired_j: FloatArray
    """One per reset; NaN where there was no witness."""


@dataclass(frozen=True, slots=True, eq=False)
class _Knots:
    """Times and energies of the counter's updates."""

    x_ns: IntArray
    energy_j: FloatArray
    half_ns: FloatArray
    """Half-range of each time."""
    kind: npt.NDArray[np.int8]
    whole_j: FloatArray


def counter_curve(
    series: Series, witness: Curve | None, beside: Series | None = None, marks_ns: Sequence[int] = ()
) -> Curve:
    """Knots at the counter's updates and where the load changed between them, straight lines between (eqs. 3, 5, 6).

    Args:
        series: the counter's readings.
        witness: the energy curve of the same part's power, for resets and for bounds.
        beside: the witness's readings, for levels at the updates.
        marks_ns: when stages began or ended.
    """
    unwrapped = unwrap(series)
    updates = _updates(series, unwrapped)
    steps = _steps(series, unwrapped, updates, witness)
    steps = replace(steps, whole_j=steps.whole_j + _unconfirmed_j(steps, updates))
    cells = cells_of(beside) if beside is not None and is_fine(beside, updates.period_ns) else None
    if cells is not None:
        updates = _in_phase(series, steps, updates, cells)
    stands = [] if witness is None else find_stands(series, steps.energy_j, updates, witness)
    steps, updates = _over_stands(steps, updates, stands), _renewed(updates, stands)
    knots = _knots(series, steps, updates, stands)
    sharp = witness if shows_levels(beside, updates.period_ns) else None
    mean_w = np.diff(knots.energy_j) / (np.diff(knots.x_ns) / NS_PER_S)
    is_read, marks = knots.kind == Segment.READ, np.unique(np.array(marks_ns, dtype=np.int64))
    reach = alternation(Steps(knots.x_ns, mean_w, is_read, marks), sharp, series.channel.limit_w)
    read, range_w = _straight(series, steps, knots, witness, reach)
    ends_w = _ends(series, knots, mean_w)
    if cells is not None:
        read = fuse(read, knots.half_ns, cells, marks)
        read = replace(read, steps_ns=cells.edges_ns, step_ns=cells.update_ns)
        read = split_steps(read, neighbours(read.mean_w), marks, cells.update_ns)
    elif witness is not None and beside is not None and mean_w.size and is_outpaced(updates.period_ns, beside):
        read = shape(read, knots.half_ns, series, witness, beside)
        ends_w = shown_ends(read, knots.x_ns, ends_w)
        range_w = np.array([min(range_w[0], read.mean_w.min()), max(range_w[1], read.mean_w.max())])
    else:
        # times that are known by the readings alone err alike at every edge, wherever in the step it lies (eq. 127)
        step_ns = updates.period_ns if np.median(updates.half_ns) <= _TIMED * updates.period_ns else 0
        read = replace(read, steps_ns=updates.x_ns, step_ns=step_ns)
        levels = find_levels(series, beside, updates, knots.x_ns, mean_w)
        read = split_steps(read, levels, marks, updates.period_ns, series.period_ns)
    if witness is not None and stands:
        read = replace(follow(read, stands, witness), stands=tuple(stands))
    return carry_on(read, series, ends_w=ends_w, range_w=range_w, marks_ns=marks_ns)


def _unconfirmed_j(steps: _Steps, updates: Updates) -> FloatArray:
    """Half-range of what one reading alone tells: the first and the last step, beyond any other's power (eq. 138).

    A value between two others is borne out by both; nothing does that for a run's first and last one.
    """
    half_j = np.zeros(steps.energy_j.size)
    into, length_s = updates.first[1:] - 1, np.diff(updates.x_ns) / NS_PER_S
    if into.size > 2:
        most_w = float(np.max(steps.energy_j[into[1:-1]] / length_s[1:-1]))
        for end in (0, -1):
            half_j[into[end]] = max(0.0, steps.energy_j[into[end]] - most_w * length_s[end])
    return half_j


def _over_stands(steps: _Steps, updates: Updates, stands: Sequence[Stand]) -> _Steps:
    """The joules of the steps that end a stand, and what these rest on (eq. 3c); a reset among them stays one."""
    energy_j, kind, whole_j = steps.energy_j.copy(), steps.kind.copy(), steps.whole_j.copy()
    for stand in stands:
        if stand.counted_j is None or kind[step := int(updates.first[stand.run + 1]) - 1] in _RESETS:
            continue
        kind[step] = Segment.REPAIRED if stand.is_lost else Segment.COUNTED_GAP
        energy_j[step], whole_j[step] = stand.amount_j, stand.range_j
    return replace(steps, energy_j=energy_j, kind=kind, whole_j=whole_j)


def _renewed(updates: Updates, stands: Sequence[Stand]) -> Updates:
    """The updates, with those that the counter stopped at where they were."""
    x_ns, half_ns = updates.x_ns.copy(), updates.half_ns.copy()
    for stand in stands:
        x_ns[stand.run], half_ns[stand.run] = stand.start_ns, max(stand.half_ns, half_ns[stand.run])
    return replace(updates, x_ns=x_ns, half_ns=half_ns)


def _straight(
    series: Series, steps: _Steps, knots: _Knots, witness: Curve | None, reach: Reach
) -> tuple[Curve, FloatArray]:
    """The curve with straight lines between the updates, and the least and largest power beside any of them."""
    left_w, right_w = _beside(knots, _reach(series))
    length_s = np.diff(knots.x_ns) / NS_PER_S
    mean_w = np.diff(knots.energy_j) / length_s
    range_w = np.array([min(left_w.min(), right_w.min()), max(left_w.max(), right_w.max())])
    unread_w = np.array([min(range_w[0], 0.0), max(range_w[1], series.channel.limit_w or 0.0)])
    low_w, high_w = _bounds(knots, mean_w, (left_w, right_w), unread_w, witness)
    is_long = length_s >= _LONG_S
    if witness is None and is_long.any():
        low_w = np.where(is_long, 0.0, low_w)
        high_w = np.where(is_long, np.maximum(high_w, 2 * mean_w), high_w)
        # so few means of power do not show the extremes
        apart = 1 / mean_w.size
        range_w = range_w * np.array([1 - apart, 1 + apart])
    low_w, high_w = np.fmin(low_w, reach.low_w), np.fmax(high_w, reach.high_w)
    covered = cover(series, steps.kind)
    read = Curve(
        x_ns=knots.x_ns,
        energy_j=knots.energy_j,
        power_w=mean_w,
        slope_w_per_s=np.zeros(mean_w.size),
        kind=knots.kind,
        low_w=low_w,
        high_w=high_w,
        whole_j=knots.whole_j,
        sampling_j2=np.zeros(mean_w.size),
        lag_j=np.maximum(left_w, right_w) * knots.half_ns / NS_PER_S + series.channel.unit_si / 2,
        lag_ns=0,
        cover_ns=covered.cover_ns,
        covered_s=covered.covered_s,
        present_s=covered.present_s,
        resets_ns=series.t_ns[steps.resets],
        repaired_j=steps.repaired_j,
    )
    return read, range_w


def is_unrenewed(series: Series) -> bool:
    """Whether no distance is known between any two of the counter's values, and none stood for two updates.

    One that stood so long is that of a part which draws nothing; of another nobody knows what was drawn meanwhile.
    """
    unwrapped = unwrap(series)
    if np.any(unwrapped.increments > 0):
        return False
    edges = np.concatenate(([0], unwrapped.resets + 1, [series.t_ns.size]))
    stood_ns = series.t_ns[edges[1:] - 1] - series.t_ns[edges[:-1]]
    return bool(stood_ns.max() < STANDING_UPDATES * series.channel.update_period_ns)


def counter_steps(series: Series) -> tuple[IntArray, FloatArray, npt.NDArray[np.int8]]:
    """Times of a counter's updates, energies there, and what the steps between rest on; without any bounds (eq. 3).

    What a drawing of a long run needs of the curve, at a fraction of its cost.
    """
    series = without_failed(series, has_witness=False).series
    unwrapped = unwrap(series)
    updates = _updates(series, unwrapped)
    knots = _knots(series, _steps(series, unwrapped, updates, None), updates, ())
    return knots.x_ns, knots.energy_j, knots.kind


def _in_phase(series: Series, steps: _Steps, updates: Updates, cells: Cells) -> Updates:
    """The updates with the times that a witness gives them which sees everything (eq. 3b)."""
    total_j = np.append(0.0, np.cumsum(steps.energy_j))[updates.first]
    is_break = np.diff(np.append(0, np.cumsum(np.isin(steps.kind, _RESETS)))[updates.first]) > 0
    return find_phase(series, updates, total_j, is_break, cells)


def _updates(series: Series, unwrapped: Unwrapped) -> Updates:
    """When the counter was renewed; after a reset it shows something new, whatever its count is."""
    is_break = np.zeros(unwrapped.increments.size, dtype=np.bool_)
    is_break[unwrapped.resets] = True
    return find_updates(series, is_break)


def _steps(series: Series, unwrapped: Unwrapped, updates: Updates, witness: Curve | None) -> _Steps:
    """Joules between neighbouring readings; a reset's come from the witness, or are none.

    What is unknown after a reset is what was drawn between the updates on both sides of it, not between the readings.
    """
    energy_j = unwrapped.increments * series.channel.unit_si
    is_gap = np.diff(series.t_ns) > series.allowed_ns
    kind = np.where(is_gap, Segment.COUNTED_GAP, Segment.READ).astype(np.int8)
    whole_j, repaired_j = np.zeros(energy_j.size), np.full(unwrapped.resets.size, np.nan)
    for number, i in enumerate(unwrapped.resets):
        after = int(np.searchsorted(updates.first, i + 1))
        # readings of the last value tell nothing of what was drawn since it was renewed
        lost = slice(updates.first[after - 1], i + 1)
        kind[lost] = Segment.MISSING
        if witness is None:
            continue
        span = WeightedWindow(int(updates.x_ns[after - 1]), int(updates.x_ns[after]))
        seen = evaluate(witness, profile([[span]]))
        if seen.missing_s[0] == 0:
            kind[lost] = Segment.REPAIRED
            energy_j[i] = repaired_j[number] = seen.value_j[0]
            # the joules are those between two renewals, whose times are known to their half-ranges
            at_ns, half_ns = updates.x_ns[[after - 1, after]], updates.half_ns[[after - 1, after]].astype(np.int64)
            ends_j = (witness.energy_at(at_ns + half_ns) - witness.energy_at(at_ns - half_ns)) / 2
            whole_j[i] = seen.random_j[0] + ends_j.sum()
    return _Steps(energy_j, kind, whole_j, unwrapped.resets, repaired_j)


def _knots(series: Series, steps: _Steps, updates: Updates, stopped: Sequence[Stand]) -> _Knots:
    """Where in time each of the counter's values belongs (eq. 3); one that it stopped at tells nothing of its end."""
    t_ns, first, last = series.t_ns, updates.first, updates.last
    stands = t_ns[last] - t_ns[first] >= STANDING_UPDATES * updates.period_ns
    stands[[stand.run for stand in stopped]] = False
    total_j = np.append(0.0, np.cumsum(steps.energy_j))[first]
    moves_j, shown_j = np.diff(total_j), total_j.copy()
    unit_j = series.channel.unit_si
    if stands.any() and np.any(moves_j > 0.0) and np.median(moves_j[moves_j > 0.0]) <= LEAST_COUNTS * unit_j:
        # it stands while less than a count is drawn; what it showed first, and shows last, it may have shown for long
        stands[:-1] &= moves_j > LEAST_COUNTS * unit_j
        total_j[0] += min(moves_j[0], unit_j) / 2
        shown_j[-1] += unit_j / 2
    x_ns = np.concatenate((updates.x_ns, t_ns[last][stands] - updates.period_ns))
    order = np.argsort(x_ns, kind="stable")
    into = np.concatenate((np.append(0, first[1:] - 1), np.full(np.count_nonzero(stands), -1)))[order][1:]
    kind = np.where(into < 0, Segment.READ, steps.kind[into]).astype(np.int8)
    knots = _Knots(
        x_ns=x_ns[order],
        energy_j=np.concatenate((total_j, shown_j[stands]))[order],
        half_ns=np.concatenate((updates.half_ns, updates.half_ns[stands]))[order],
        kind=kind,
        whole_j=np.where(into < 0, 0.0, steps.whole_j[into]),
    )
    unended = stopped[-1] if stopped and stopped[-1].counted_j is None else None
    return knots if unended is None else _with_end(knots, unended)


def _with_end(knots: _Knots, stand: Stand) -> _Knots:
    """The knots, and one at the last reading with what the witness saw since the counter stopped."""
    return _Knots(
        x_ns=np.append(knots.x_ns, stand.end_ns),
        energy_j=np.append(knots.energy_j, knots.energy_j[-1] + stand.amount_j),
        half_ns=np.append(knots.half_ns, 0.0),
        kind=np.append(knots.kind, Segment.REPAIRED).astype(np.int8),
        whole_j=np.append(knots.whole_j, stand.range_j),
    )


def _reach(series: Series) -> int:
    """Intervals over which power beside a knot is averaged: two where the counter's steps make one uneven (eq. 6)."""
    return 1 if series.channel.update_period_ns * _FINE_STEPS <= series.period_ns else 2


def _beside(knots: _Knots, reach: int) -> tuple[FloatArray, FloatArray]:
    """Mean power left and right of each knot, over `reach` intervals; at an end, that of the other side."""
    number = np.arange(knots.x_ns.size)
    before, after = np.maximum(number - reach, 0), np.minimum(number + reach, number[-1])
    left_w, right_w = _mean_w(knots, before, number), _mean_w(knots, number, after)
    left_w[0], right_w[-1] = right_w[0], left_w[-1]
    return left_w, right_w


def _bounds(
    knots: _Knots,
    mean_w: FloatArray,
    beside_w: tuple[FloatArray, FloatArray],
    unread_w: FloatArray,
    witness: Curve | None,
) -> tuple[FloatArray, FloatArray]:
    """Least and largest power held possible inside each interval (eq. 6); `unread_w`: while nothing was read."""
    low_w, high_w = np.empty(mean_w.size), np.empty(mean_w.size)
    for begin in range(0, mean_w.size, _BLOCK):
        j = np.arange(begin, min(begin + _BLOCK, mean_w.size))
        low_w[j], high_w[j] = _bounds_of(j, knots, mean_w[j], beside_w, unread_w, witness)
    return low_w, high_w


def _bounds_of(
    j: IntArray,
    knots: _Knots,
    mean_w: FloatArray,
    beside_w: tuple[FloatArray, FloatArray],
    unread_w: FloatArray,
    witness: Curve | None,
) -> tuple[FloatArray, FloatArray]:
    """`_bounds` of the intervals j, neighbours in a row."""
    left_w, right_w = beside_w
    # the two nearest on each side of interval j: left of knots j - 1 and j, right of knots j + 1 and j + 2
    before, after = np.maximum(j - 1, 0), np.minimum(j + 2, knots.x_ns.size - 1)
    near_w = np.stack((left_w[j], left_w[before], right_w[j + 1], right_w[after]))
    least_near_w, most_near_w = near_w.min(axis=0), near_w.max(axis=0)
    # a mean beyond all around it is a pulse of unknown height: as far beyond the mean as the rest lies before it
    high_w = np.where(mean_w > most_near_w, 2 * mean_w - least_near_w, most_near_w)
    low_w = np.where(mean_w < least_near_w, np.maximum(2 * mean_w - most_near_w, 0.0), least_near_w)
    if witness is not None:
        low_w, high_w = _widened(knots, before, after, witness, low_w, high_w)
    # over a gap a mean says little: nothing, the session's most, the device's limit, or as far beyond the mean
    is_open = np.isin(knots.kind[j], (Segment.COUNTED_GAP, Segment.REPAIRED))
    least_w, most_w = unread_w
    low_w = np.where(is_open, least_w, low_w)
    high_w = np.where(is_open, np.maximum(most_w, 2 * mean_w - least_w), high_w)
    is_missing = knots.kind[j] == Segment.MISSING
    return (
        np.where(is_missing, 0.0, np.minimum(low_w, mean_w)),
        np.where(is_missing, 0.0, np.maximum(high_w, mean_w)),
    )


def _mean_w(knots: _Knots, start: IntArray, end: IntArray) -> FloatArray:
    length_s = (knots.x_ns[end] - knots.x_ns[start]) / NS_PER_S
    distance_j = knots.energy_j[end] - knots.energy_j[start]
    return np.divide(distance_j, length_s, out=np.zeros(length_s.size), where=length_s > 0)


def _ends(series: Series, knots: _Knots, mean_w: FloatArray) -> FloatArray:
    """Power held before the first and after the last knot: the mean over the nearest two update periods."""
    reach_ns = STANDING_UPDATES * series.channel.update_period_ns
    is_read = knots.kind != Segment.MISSING
    if not np.any(is_read):
        return np.zeros(2)
    inward = int(np.searchsorted(knots.x_ns, knots.x_ns[0] + reach_ns))
    outward = int(np.searchsorted(knots.x_ns, knots.x_ns[-1] - reach_ns, side="right")) - 1
    spans = (slice(0, max(1, inward)), slice(max(0, min(outward, mean_w.size - 1)), mean_w.size))
    length_s = np.diff(knots.x_ns) / NS_PER_S
    if mean_w.size > 2:  # what one reading alone tells of is not held (eq. 138)
        mean_w = mean_w.copy()
        mean_w[[0, -1]] = np.minimum(mean_w[[0, -1]], mean_w[1:-1].max())
    ends_w = []
    for span in spans:
        usable = is_read[span]
        if np.any(usable):
            ends_w.append(np.average(mean_w[span][usable], weights=length_s[span][usable]))
        else:
            ends_w.append(np.median(mean_w[is_read]))
    return np.array(ends_w)


def _widened(
    knots: _Knots, before: IntArray, after: IntArray, witness: Curve, low_w: FloatArray, high_w: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds widened by the witness's extremes between the knots `before` and `after`, relative to its own mean there.

    (Eq. 6.) Both grow from one interval to the next.
    """
    local_w = _mean_w(knots, before, after)
    lo = np.searchsorted(witness.x_ns[:-1], knots.x_ns[before])
    hi = np.maximum(np.searchsorted(witness.x_ns[:-1], knots.x_ns[after]), lo)
    # one more than is seen: where nothing is, the place itself is looked at, which may lie behind the last
    seen_w = np.append(witness.power_w[lo[0] : hi[-1] + 1], 0.0)
    pairs = np.stack((lo, hi)).T.ravel() - lo[0]
    least_w, most_w = (extreme.reduceat(seen_w, pairs)[::2] for extreme in (np.minimum, np.maximum))
    mean_w = np.add.reduceat(seen_w, pairs)[::2] / np.maximum(hi - lo, 1)
    is_seen = (hi > lo) & (mean_w > 0)
    scale = np.divide(local_w, mean_w, out=np.zeros(local_w.size), where=is_seen)
    return (
        np.where(is_seen, np.minimum(low_w, least_w * scale), low_w),
        np.where(is_seen, np.maximum(high_w, most_w * scale), high_w),
    )
