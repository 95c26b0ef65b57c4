"""A counter that is renewed far more rarely than its witness: the witness gives the shape (method.md, eq. 148)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillwatt.metering.cells import renewal_ns
from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.fusion import RATIO
from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.units import NS_PER_S

_MANY = 5
"""A counter's step that holds this many of the witness's readings, or more, is told better by them than by itself."""
_BORNE_OUT = 2.0
"""What the counter differs by from the scaled witness, in what its own times explain: up to here it bears it out."""
_LEAST_BEARING = 4
"""So few renewals cannot bear anything out: what they leave over may be small by chance."""
_UNIFORM = 1.0 / 3.0
_LEAST_J2 = 2.0**-30
_OF_SEGMENTS = ("slope_w_per_s", "kind", "low_w", "high_w", "whole_j", "sampling_j2", "power_w")


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Energy as a function of the witness's energy."""

    seen_j: FloatArray
    """The witness's energy at some of the counter's renewals,"""
    energy_j: FloatArray
    """and what is booked by then."""
    half_j: FloatArray
    """Half-range of that."""
    ratio: float
    """Counter over witness, before the first and after the last of them,"""
    ratio_error: float
    """with its standard deviation,"""
    wander_j2_per_j: float
    """and how far the two drift apart there: variance in a joule of the witness."""

    def energy_at(self, seen_j: FloatArray) -> FloatArray:
        """What is booked when the witness has seen so much."""
        within_j = np.interp(seen_j, self.seen_j, self.energy_j)
        return np.asarray(within_j + self.ratio * self._beyond(seen_j), dtype=np.float64)

    def half_at(self, seen_j: FloatArray) -> FloatArray:
        """Half-range of it."""
        away_j, at = (
            np.abs(self._beyond(seen_j)),
            np.minimum(np.searchsorted(self.seen_j, seen_j), self.seen_j.size - 1),
        )
        left_j = np.abs(seen_j - self.seen_j[np.maximum(at - 1, 0)])
        between_j = np.where(away_j > 0, away_j, np.minimum(left_j, np.abs(self.seen_j[at] - seen_j)))
        within_j2 = np.interp(seen_j, self.seen_j, self.half_j) ** 2
        apart_j2 = (away_j * self.ratio_error) ** 2 + self.wander_j2_per_j * between_j
        return np.asarray(np.sqrt(within_j2 + apart_j2 / _UNIFORM), dtype=np.float64)

    def _beyond(self, seen_j: FloatArray) -> FloatArray:
        return seen_j - np.clip(seen_j, self.seen_j[0], self.seen_j[-1])


def is_outpaced(period_ns: int, beside: Series | None) -> bool:
    """Whether a witness is renewed many times in each of the counter's steps.

    Args:
        period_ns: the counter's update period, as it was observed.
        beside: readings of the same part's power.
    """
    return beside is not None and beside.t_ns.size > 1 and _MANY * renewal_ns(beside) <= period_ns


def shape(read: Curve, half_ns: FloatArray, series: Series, witness: Curve, beside: Series) -> Curve:
    """The counter's curve with the witness's shape wherever the counter is no further than that (method.md, eq. 148).

    Args:
        read: knots at the counter's renewals, straight between them; K of them.
        half_ns: shape [K], half-range of each knot's time.
        series: the counter's readings.
        witness: the energy curve of the same part's power.
        beside: the readings that it was made from.

    Returns:
        The curve with the witness's knots in the place of the counter's, from the first reading to the last. As it was
        around gaps, resets and stands of the counter, where the witness was not read, and where both do not measure
        the same thing.
    """
    span_ns = int(max(series.t_ns[0], beside.t_ns[0])), int(min(series.t_ns[-1], beside.t_ns[-1]))
    rows = []
    for first, last in _rows(read, span_ns):
        known = slice(max(first, 1), last + 1)
        fit = _fit(read.x_ns[known], read.energy_j[known], half_ns[known], series, witness)
        if fit is not None:
            start_ns = int(read.x_ns[first]) if first else span_ns[0]
            end_ns = int(read.x_ns[last]) if last + 1 < read.x_ns.size else max(span_ns[1], int(read.x_ns[last]))
            rows.append((first, last, _piece(fit, witness, start_ns, end_ns)))
    return _joined(read, rows, witness.lag_ns) if rows else read


def shown_ends(read: Curve, x_ns: IntArray, ends_w: FloatArray) -> FloatArray:
    """Power before the first and after the last knot: as the witness showed it where it moved these from `x_ns`."""
    is_shown = [read.x_ns[0] != x_ns[0], read.x_ns[-1] != x_ns[-1]]
    last_w = read.power_w[-1] + read.slope_w_per_s[-1] * (read.x_ns[-1] - read.x_ns[-2]) / NS_PER_S
    return np.where(is_shown, np.array([read.power_w[0], last_w]), ends_w)


def _rows(read: Curve, span_ns: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First and last knot of the counter's steps in a row that the witness covers, with two known renewals at least.

    The first run's renewal was before the first reading, and nobody saw it: up to the next one the counter tells
    nothing.
    """
    begin_ns = read.x_ns[:-1].copy()
    begin_ns[0] = max(begin_ns[0], min(span_ns[0], read.x_ns[1] - 1))
    is_covered = (read.kind == Segment.READ) & (begin_ns >= span_ns[0]) & (read.x_ns[1:] <= span_ns[1])
    turns = np.diff(np.concatenate(([0], is_covered, [0])).astype(np.int8))
    for first, last in zip(np.flatnonzero(turns == 1).tolist(), np.flatnonzero(turns == -1).tolist(), strict=True):
        if last - max(first, 1) >= 1:
            yield first, last


def _fit(x_ns: IntArray, energy_j: FloatArray, half_ns: FloatArray, series: Series, witness: Curve) -> _Fit | None:
    """What the counter's energies and the witness's say together; None where they do not measure the same thing."""
    seen_j = witness.energy_at(x_ns)
    if seen_j[-1] <= seen_j[0] or np.any(np.diff(seen_j) < 0.0):
        return None
    most_w = _most_w(x_ns, half_ns, witness) * float((energy_j[-1] - energy_j[0]) / (seen_j[-1] - seen_j[0]))
    least_ns, unit_j = np.minimum(half_ns, _sighted_ns(x_ns, series)), series.channel.unit_si
    line = _line(seen_j, energy_j, most_w * least_ns / NS_PER_S + unit_j / 2)
    if not RATIO[0] <= line.ratio <= RATIO[1]:
        return None
    if line.excess <= _BORNE_OUT and x_ns.size >= _LEAST_BEARING:
        return line.borne_out(seen_j, energy_j)
    return line.through_each(seen_j, energy_j, most_w * half_ns / NS_PER_S + unit_j / 2, _told_j2(x_ns, witness))


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """The straight line through the counter's energies over the witness's."""

    ratio: float
    away_j: FloatArray
    """The witness's energies from their middle."""
    rest_j: FloatArray
    """The counter's, from the line."""
    half_j: FloatArray
    """What of that the sightings' own times explain."""
    variance_j2: FloatArray
    spread: float
    """Weighted squares of `away_j`: its inverse is the ratio's variance."""
    excess: float
    """Squares of `rest_j` over what the times explain."""

    def borne_out(self, seen_j: FloatArray, energy_j: FloatArray) -> _Fit:
        """The line itself: the witness, scaled."""
        ratio_error = float(np.sqrt(max(1.0, self.excess) / self.spread))
        hidden_j2 = max(0.0, float(np.mean(self.rest_j**2 - self.variance_j2)))
        half_j = np.sqrt(((ratio_error * self.away_j) ** 2 + hidden_j2) / _UNIFORM)
        return _Fit(seen_j, energy_j - self.rest_j, half_j, self.ratio, ratio_error, 0.0)

    def through_each(self, seen_j: FloatArray, energy_j: FloatArray, late_j: FloatArray, told_j2: FloatArray) -> _Fit:
        """Each of the counter's energies, with a renewal's full half-range `late_j` where nothing explains the rest.

        `told_j2` is the variance that the witness gives itself between neighbours.
        """
        known_j2 = self.variance_j2[1:] + self.variance_j2[:-1] + self.ratio**2 * told_j2
        apart_j2 = np.diff(self.rest_j) ** 2
        is_explained = seen_j.size >= _LEAST_BEARING and float(np.mean(apart_j2 / known_j2)) <= _BORNE_OUT
        half_j = self.half_j if is_explained else late_j
        wander = max(0.0, float(np.sum(apart_j2 - known_j2)) / float(seen_j[-1] - seen_j[0]))
        wider = float(np.max(half_j**2 / self.variance_j2) * _UNIFORM)
        ratio_error = float(np.sqrt(max(1.0, self.excess, wider) / self.spread))
        return _Fit(seen_j, energy_j, half_j, self.ratio, ratio_error, wander)


def _line(seen_j: FloatArray, energy_j: FloatArray, half_j: FloatArray) -> _Line:
    """Least squares; `half_j` is what the sightings' times leave open of each of the counter's energies."""
    variance_j2 = np.maximum(half_j**2 * _UNIFORM, _LEAST_J2)
    weight = 1.0 / variance_j2
    away_j, level_j = seen_j - np.average(seen_j, weights=weight), energy_j - np.average(energy_j, weights=weight)
    spread = float(np.sum(weight * away_j**2))
    ratio = float(np.sum(weight * away_j * level_j)) / spread
    rest_j = level_j - ratio * away_j
    excess = float(np.sum(weight * rest_j**2)) / max(1, seen_j.size - 2)
    return _Line(ratio, away_j, rest_j, half_j, variance_j2, spread, excess)


def _told_j2(x_ns: IntArray, witness: Curve) -> FloatArray:
    """Variance of what the witness saw between neighbouring times, as it knows it itself (eq. 7)."""
    known_j2 = np.append(0.0, np.cumsum(witness.sampling_j2 + witness.whole_j**2 * _UNIFORM))
    origin_ns = witness.x_ns[0]
    since, knots = (x_ns - origin_ns).astype(np.float64), (witness.x_ns - origin_ns).astype(np.float64)
    return np.asarray(np.diff(np.interp(since, knots, known_j2)), dtype=np.float64)


def _most_w(x_ns: IntArray, half_ns: FloatArray, witness: Curve) -> FloatArray:
    """The largest power that the witness shows where a renewal may have been."""
    reach_ns = half_ns.astype(np.int64)
    first, last = witness.segment(x_ns - reach_ns), witness.segment(x_ns + reach_ns)
    bounds = np.stack((first, last + 1)).T.ravel()
    return np.asarray(np.maximum.reduceat(np.append(witness.power_w, 0.0), bounds)[::2], dtype=np.float64)


def _sighted_ns(x_ns: IntArray, series: Series) -> FloatArray:
    """Half the distance between the readings that a renewal lies between: all that the readings leave open."""
    after = np.clip(np.searchsorted(series.t_ns, x_ns), 1, series.t_ns.size - 1)
    return np.asarray((series.t_ns[after] - series.t_ns[after - 1]) / 2, dtype=np.float64)


def _piece(fit: _Fit, witness: Curve, start_ns: int, end_ns: int) -> dict[str, Any]:
    """Knots and segments between two times: the witness's, scaled to what the counter tells."""
    inside = (witness.x_ns > start_ns) & (witness.x_ns < end_ns)
    x_ns = np.concatenate(([start_ns], witness.x_ns[inside], [end_ns]))
    seen_j, at = witness.energy_at(x_ns), witness.segment(x_ns)
    energy_j, moved_j, length_s = fit.energy_at(seen_j), np.diff(seen_j), np.diff(x_ns) / NS_PER_S
    scale = np.divide(np.diff(energy_j), moved_j, out=np.full(moved_j.size, fit.ratio), where=moved_j > 0.0)
    into_s = (x_ns - witness.x_ns[at]) / NS_PER_S
    share = np.minimum(1.0, length_s / witness.length_s[at[:-1]])
    mean_w = np.diff(energy_j) / length_s
    return {
        "x_ns": x_ns,
        "step_j": np.diff(energy_j),
        "lag_j": fit.half_at(seen_j) + fit.ratio * witness.lag_j[at],
        "power_w": scale * (witness.power_w[at] + witness.slope_w_per_s[at] * into_s)[:-1],
        "slope_w_per_s": scale * witness.slope_w_per_s[at[:-1]],
        "kind": np.where(witness.kind[at[:-1]] == Segment.BRIDGED_GAP, Segment.COUNTED_GAP, Segment.READ),
        "low_w": mean_w,
        "high_w": mean_w,
        "whole_j": scale * share * witness.whole_j[at[:-1]],
        "sampling_j2": scale**2 * share * witness.sampling_j2[at[:-1]],
    }


def _joined(read: Curve, rows: list[tuple[int, int, dict[str, Any]]], lag_ns: int) -> Curve:
    """The curve with its rows replaced; every other step keeps its joules."""

    def spliced(array: FloatArray | IntArray, name: str, *, is_knots: bool) -> Any:
        parts, done = [], 0
        for first, last, piece in rows:
            parts += [array[done:first], piece[name].astype(array.dtype)]
            done = last + is_knots
        return np.concatenate([*parts, array[done:]])

    changed = {name: spliced(getattr(read, name), name, is_knots=False) for name in _OF_SEGMENTS}
    step_j = spliced(np.diff(read.energy_j), "step_j", is_knots=False)
    return replace(
        read,
        x_ns=spliced(read.x_ns, "x_ns", is_knots=True),
        energy_j=float(read.energy_j[0]) + np.append(0.0, np.cumsum(step_j)),
        lag_j=spliced(read.lag_j, "lag_j", is_knots=True),
        lag_ns=lag_ns,
        steps_ns=np.array([], dtype=np.int64),
        step_ns=0,
        **changed,
    )
