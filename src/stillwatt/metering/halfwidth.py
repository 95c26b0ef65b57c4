"""Energy of many owners' windows from one curve, with random half-widths (method.md, eqs. 3 to 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.series import FloatArray, IntArray
from stillwatt.metering.windows import Profile, sums
from stillwatt.units import NS_PER_S, NS_PER_US

_TWO_SIDED_95 = 1.959963984540054
"""Of a normal distribution; wider than exact for one or two uniform terms (method.md, eq. 6)."""
_UNIFORM = 1.0 / 3.0
"""Variance of a uniform distribution, in squares of its half-range."""
_EDGE_VARIANCE = 6.0
"""A share f of an interval has at most this times f squared of the interval's sampling variance (eq. 7)."""
_LEAST_J = 2.0**-300
"""So that nothing is divided by 0."""
_ROUNDING_S = NS_PER_US / NS_PER_S
"""Fewer missing seconds than this are rounding: a total must not be incomplete for them."""
_WHOLE = 1.0 - 2.0**-30
"""So much of a segment is all of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What one curve says about each owner; arrays of one entry per owner.

    Attributes:
        value_j: energy.
        random_j: half-width of the random part, 95 %.
        estimated_j: joules of `value_j` that no reading covers.
        total_s: weighted seconds of the owner's windows.
        covered_s: of these, those covered by readings.
        missing_s: of these, those that hold no joules.
        placing_j: of `random_j`, what is a bias: placing inside intervals, and spans that windows cut and nothing was
            read in (eqs. 6 and 140).
        in_step_cos_j: of the rest, what stages share that begin at the same place in the instrument's step, as a vector
            whose angle is that place (eq. 127): its one component,
        in_step_sin_j: and the other.
    """

    value_j: FloatArray
    random_j: FloatArray
    estimated_j: FloatArray
    total_s: FloatArray
    covered_s: FloatArray
    missing_s: FloatArray
    placing_j: FloatArray
    in_step_cos_j: FloatArray
    in_step_sin_j: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _InStep:
    """What stands in step with the instrument: vectors, one per owner, as arrays of shape [2, owners]."""

    edges_j: FloatArray
    """Half-width from the lags of the edges' knots."""
    shared_j: FloatArray
    """The same with what a common delay leaves open."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Segments that an owner's windows cut or end in, each once per owner, with the share owned."""

    owner: IntArray
    segment: IntArray
    held_s: FloatArray
    """Weighted seconds of the segment that the owner holds."""
    held_j: FloatArray
    """Weighted joules of these seconds."""
    weight: FloatArray
    """Largest weight with which the owner holds any of it."""


def evaluate(curve: Curve, windows: Profile) -> Evaluation:
    """Energy, seconds and random half-width of every owner's windows.

    The energies are differences of one function of time: cutting a window conserves them.
    """
    total_s = windows.seconds
    pieces = _pieces(curve, windows)
    delay_j = _delay_j(curve, windows)
    in_step = _in_step(curve, windows, delay_j)
    # edges that all lie at one place of the instrument's step err alike, and so they do in every such window
    lag_j2 = np.maximum(_lag_j2(curve, windows), np.sum(in_step.edges_j**2, axis=0) / _TWO_SIDED_95**2)
    variance_j2 = lag_j2 + delay_j**2 * _UNIFORM + _pieces_j2(curve, pieces, windows.num_owners)
    variance_j2 += _interior_j2(curve, windows)
    partly_j = _partly_counted_j(curve, pieces, windows.num_owners)
    present_s = _difference(windows, curve.present_at(windows.start_ns), curve.present_at(windows.end_ns))
    covered_s = _difference(windows, curve.covered_at(windows.start_ns), curve.covered_at(windows.end_ns))
    before_j, after_j = curve.estimated_at(windows.start_ns), curve.estimated_at(windows.end_ns)
    # rounding of the smallest numbers may leave a bound below 0
    placing_j = np.maximum(_placing_j(curve, pieces, windows.num_owners), 0.0)
    placing_j += _unread_j(curve, pieces, windows.num_owners)
    rest_j = _TWO_SIDED_95 * np.sqrt(np.maximum(variance_j2, 0.0))
    # no more can be shared than there is
    shared_j = in_step.shared_j * np.minimum(1.0, rest_j / np.maximum(np.hypot(*in_step.shared_j), _LEAST_J))
    return Evaluation(
        value_j=_energy(curve, windows, 0),
        random_j=placing_j + rest_j,
        estimated_j=_difference(windows, before_j, after_j) + partly_j,
        total_s=total_s,
        covered_s=np.clip(covered_s, 0.0, total_s),
        missing_s=np.where(total_s - present_s < _ROUNDING_S, 0.0, total_s - present_s),
        placing_j=placing_j,
        in_step_cos_j=shared_j[0],
        in_step_sin_j=shared_j[1],
    )


def _difference(windows: Profile, at_start: FloatArray, at_end: FloatArray) -> FloatArray:
    return windows.per_owner(windows.weight * (at_end - at_start))


def _energy(curve: Curve, windows: Profile, shift_ns: int) -> FloatArray:
    at_start, at_end = curve.energy_at(windows.start_ns + shift_ns), curve.energy_at(windows.end_ns + shift_ns)
    return _difference(windows, at_start, at_end)


def _delay_j(curve: Curve, windows: Profile) -> FloatArray:
    """Half-range from a delay common to all readings (eq. 7), with the sign that a trace which runs ahead gives it."""
    if not curve.lag_ns:
        return np.zeros(windows.num_owners)
    as_it_is = _energy(curve, windows, 0)
    later, earlier = (_energy(curve, windows, shift_ns) - as_it_is for shift_ns in (curve.lag_ns, -curve.lag_ns))
    return np.copysign(np.maximum(np.abs(later), np.abs(earlier)), later - earlier)


def _in_step(curve: Curve, windows: Profile, delay_j: FloatArray) -> _InStep:
    """What each owner's edges leave open, as vectors whose angle is the windows' place in the step (eq. 127)."""
    begins = np.append(True, (np.diff(windows.owner) != 0) | (windows.start_ns[1:] != windows.end_ns[:-1]))
    begins = begins[: windows.owner.size]
    # windows that meet are one span: what the one has too much at their edge, the other lacks
    span = np.cumsum(begins) - 1
    spans = replace(windows, owner=span, num_owners=int(np.count_nonzero(begins)))
    angle = curve.place_in_step(windows.start_ns[begins])
    towards = np.stack((np.cos(angle), np.sin(angle)))
    lag_j = _TWO_SIDED_95 * np.sqrt(np.maximum(_lag_j2(curve, spans), 0.0))
    edges_j = np.stack([sums(windows.owner[begins], lag_j * one, windows.num_owners) for one in towards])
    delayed_j = np.stack((_TWO_SIDED_95 * np.sqrt(_UNIFORM) * delay_j, np.zeros(windows.num_owners)))
    return _InStep(edges_j, edges_j + delayed_j)


def _lag_j2(curve: Curve, windows: Profile) -> FloatArray:
    """Variance from each knot's own lag (eq. 6); neighbours of one sign add linearly."""
    edges_ns = np.clip(np.concatenate((windows.start_ns, windows.end_ns)), curve.x_ns[0], curve.x_ns[-1])
    signed = np.concatenate((-windows.weight, windows.weight))
    j = curve.segment(edges_ns)
    share = (edges_ns - curve.x_ns[j]) / (curve.x_ns[j + 1] - curve.x_ns[j])
    first_key = np.tile(windows.owner, 2) * curve.x_ns.size + j
    keys, where = np.unique(np.concatenate((first_key, first_key + 1)), return_inverse=True)
    gamma = sums(where, np.concatenate((signed * (1 - share), signed * share)), keys.size)
    owner, knot = np.divmod(keys, curve.x_ns.size)
    half_j = gamma * curve.lag_j[knot]
    is_neighbour = (np.diff(keys) == 1) & (np.diff(owner) == 0)
    shared_j2 = np.where(is_neighbour, np.maximum(half_j[:-1] * half_j[1:], 0.0), 0.0) if keys.size else half_j
    variance_j2 = half_j**2
    variance_j2[: shared_j2.size] += 2 * shared_j2
    return sums(owner, variance_j2, windows.num_owners) * _UNIFORM


def _pieces(curve: Curve, windows: Profile) -> _Pieces:
    """The first and last segment of every window, joined where one owner meets a segment more than once."""
    start_ns = np.clip(windows.start_ns, curve.x_ns[0], curve.x_ns[-1])
    end_ns = np.clip(windows.end_ns, curve.x_ns[0], curve.x_ns[-1])
    is_inside = end_ns > start_ns
    start_ns, end_ns = start_ns[is_inside], end_ns[is_inside]
    owner, weight = windows.owner[is_inside], windows.weight[is_inside]
    first, last = curve.segment(start_ns), _ending_segment(curve, end_ns)
    is_long = last > first
    segment = np.concatenate((first, last[is_long]))
    from_ns = np.concatenate((start_ns, curve.x_ns[last][is_long]))
    to_ns = np.concatenate((np.minimum(end_ns, curve.x_ns[first + 1]), end_ns[is_long]))
    weight = np.concatenate((weight, weight[is_long]))
    keys, where = np.unique(np.concatenate((owner, owner[is_long])) * curve.power_w.size + segment, return_inverse=True)
    held_s = sums(where, weight * (to_ns - from_ns) / NS_PER_S, keys.size)
    held_j = sums(where, weight * (curve.energy_at(to_ns) - curve.energy_at(from_ns)), keys.size)
    largest = np.zeros(keys.size)
    np.maximum.at(largest, where, weight)
    owner, segment = np.divmod(keys, curve.power_w.size)
    return _Pieces(owner, segment, held_s, held_j, largest)


def _ending_segment(curve: Curve, end_ns: IntArray) -> IntArray:
    """Segment that a window's last moment lies in: one that ends on a knot does not touch the next."""
    return np.asarray(np.searchsorted(curve.x_ns, end_ns, side="left") - 1, dtype=np.int64)


def _length_s(curve: Curve, j: IntArray) -> FloatArray:
    """`curve.length_s` of some segments: windows cut hundreds of them, and a week of readings has millions."""
    found: FloatArray = (curve.x_ns[j + 1] - curve.x_ns[j]) / NS_PER_S
    return found


def _mean_w(curve: Curve, j: IntArray) -> FloatArray:
    """`curve.mean_w` of some segments."""
    found: FloatArray = curve.power_w[j] + curve.slope_w_per_s[j] * _length_s(curve, j) / 2
    return found


def _share(curve: Curve, pieces: _Pieces) -> FloatArray:
    share: FloatArray = pieces.held_s / (pieces.weight * _length_s(curve, pieces.segment))
    # a weight's rounding must not make a segment that is held whole one that is cut
    return np.where(share > _WHOLE, 1.0, share)


def _placing_j(curve: Curve, pieces: _Pieces, num_owners: int) -> FloatArray:
    """Bound on the error of placing energy inside the intervals that windows cut (eq. 6).

    Added up linearly: stages begin and end where load changes, so the bound is reached, and to the same side.
    """
    j, share = pieces.segment, _share(curve, pieces)
    mean_w = _mean_w(curve, j)
    above_w, below_w = curve.high_w[j] - mean_w, mean_w - curve.low_w[j]
    up_w = np.minimum(above_w * share, below_w * (1 - share))
    down_w = np.minimum(below_w * share, above_w * (1 - share))
    return sums(pieces.owner, np.maximum(up_w, down_w) * _length_s(curve, j) * pieces.weight, num_owners)


def _unread_j(curve: Curve, pieces: _Pieces, num_owners: int) -> FloatArray:
    """Half-width of what windows hold of a gap, a held span or a repair that they cut (eqs. 6, 7 and 140).

    Whoever holds another share of the same span errs with them and to the same side, so that this adds up linearly. A
    share of a line that rises or falls may be further off than the line's mean is.
    """
    j, share = pieces.segment, _share(curve, pieces)
    is_cut = (curve.whole_j[j] > 0.0) & (share < 1.0)
    beside_line_j = np.abs(pieces.held_j - _mean_w(curve, j) * pieces.held_s)
    unread_j = curve.whole_j[j] * share * pieces.weight + beside_line_j
    return sums(pieces.owner, np.where(is_cut, _TWO_SIDED_95 * np.sqrt(_UNIFORM) * unread_j, 0.0), num_owners)


def _pieces_j2(curve: Curve, pieces: _Pieces, num_owners: int) -> FloatArray:
    """Variance from sampling, and of spans that nothing was read in, in the segments where windows begin and end."""
    j, share = pieces.segment, _share(curve, pieces)
    whole_j = np.where(share < 1.0, 0.0, curve.whole_j[j] * pieces.weight)
    sampling_j2 = curve.sampling_j2[j] * np.minimum(1.0, _EDGE_VARIANCE * share**2) * pieces.weight**2
    return sums(pieces.owner, whole_j**2 * _UNIFORM + sampling_j2, num_owners)


def _interior_j2(curve: Curve, windows: Profile) -> FloatArray:
    """Variance of the segments that a window holds whole, between the first and the last."""
    cumulative_j2 = np.append(0.0, np.cumsum(curve.whole_j**2 * _UNIFORM + curve.sampling_j2))
    first = curve.segment(np.clip(windows.start_ns, curve.x_ns[0], curve.x_ns[-1])) + 1
    last = np.maximum(_ending_segment(curve, np.clip(windows.end_ns, curve.x_ns[0], curve.x_ns[-1])), first)
    return windows.per_owner(windows.weight**2 * np.maximum(cumulative_j2[last] - cumulative_j2[first], 0.0))


def _partly_counted_j(curve: Curve, pieces: _Pieces, num_owners: int) -> FloatArray:
    """Joules a counter gives for a gap of which the owner holds only a part: their placing is estimated."""
    is_partial = (curve.kind[pieces.segment] == Segment.COUNTED_GAP) & (_share(curve, pieces) < 1.0)
    placed_j = np.where(is_partial, pieces.held_s * _mean_w(curve, pieces.segment), 0.0)
    return sums(pieces.owner, placed_j, num_owners)
