"""When a counter that is read rarely was renewed: the phase at which it agrees with its witness (method.md, eq. 3b)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stillwatt.metering.cells import Cells
from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.metering.updates import Updates
from stillwatt.units import NS_PER_S

_CHUNK = 48
"""Updates that are fitted at once: few enough for the rhythm's drift, many enough to tell."""
_LEAST = 6
_PHASES = 50
_STRAYS = np.linspace(-1.5, 1.5, 7) / 10_000
"""How far the rhythm may stray from the declared period: clocks are good to a hundred millionths."""
_TOLD = 0.25
"""The phase is believed where the squares are below this share of what a phase at random leaves, and that is more than
the renewals' own unrest does."""
_JITTER = 0.02
"""Half-range of a single renewal about its rhythm, at least, as a share of the period."""


def find_phase(series: Series, updates: Updates, energy_j: FloatArray, is_break: BoolArray, cells: Cells) -> Updates:
    """The updates with narrower times, where the rhythm's phase can be told from the witness (method.md, eq. 3b).

    Args:
        series: the counter's readings.
        updates: R of them, with what is known of their times from the readings alone.
        energy_j: shape [R], the counter's energy after each.
        is_break: shape [R - 1], updates between which its distance is unknown.
        cells: the witness.
    """
    first_ns = series.t_ns[updates.first]
    x_ns, half_ns = updates.x_ns.copy(), updates.half_ns.copy()
    usable = ~is_break & ~cells.has_hole(updates.x_ns[:-1], updates.x_ns[1:])
    for chunk in _chunks(first_ns.size):
        found = _best(first_ns[chunk], updates, chunk, energy_j[chunk], usable[chunk.start : chunk.stop - 1], cells)
        if found is None:
            continue
        at_ns, error_ns = found
        is_better = error_ns < half_ns[chunk]
        around = slice(max(0, chunk.start - 1), chunk.stop + 1)
        trial_ns = x_ns[around].copy()
        trial_ns[chunk.start - around.start :][: at_ns.size] = np.where(is_better, at_ns, x_ns[chunk])
        if np.all(np.diff(trial_ns) > 0):  # else two values would belong to one renewal: that is no rhythm
            x_ns[around] = trial_ns
            half_ns[chunk] = np.where(is_better, error_ns, half_ns[chunk])
    return replace(updates, x_ns=x_ns, half_ns=half_ns)


def _chunks(size: int) -> Iterator[slice]:
    count = max(1, size // _CHUNK)
    edges = np.linspace(0, size, count + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)


def _best(
    first_ns: IntArray, updates: Updates, chunk: slice, energy_j: FloatArray, usable: BoolArray, cells: Cells
) -> tuple[IntArray, FloatArray] | None:
    """Times of a chunk's updates under the best phase, and how well each is known; None where it is not told."""
    if np.count_nonzero(usable) < _LEAST:
        return None
    low_ns = updates.x_ns[chunk] - updates.half_ns[chunk]
    high_ns = updates.x_ns[chunk] + updates.half_ns[chunk]
    origin_ns = int(first_ns[first_ns.size // 2])
    step_j = np.diff(energy_j)[usable]
    seen_j = float(np.diff(cells.energy_at(updates.x_ns[chunk]))[usable].sum())
    ratio = float(step_j.sum()) / seen_j if seen_j > 0 else 1.0
    mean_w = float(step_j.sum()) / (float(np.diff(first_ns)[usable].sum()) / NS_PER_S)
    periods_ns = updates.period_ns * (1.0 + _STRAYS)
    phases = np.arange(_PHASES) / _PHASES
    at_ns = _at(first_ns, origin_ns, periods_ns[:, None, None], phases[:, None])
    off_ns = np.maximum(low_ns - at_ns, 0.0) + np.maximum(at_ns - high_ns, 0.0)
    rest_j = step_j - ratio * np.diff(cells.energy_at(at_ns.astype(np.int64)), axis=-1)[..., usable]
    squares = np.sum(rest_j**2, axis=-1) + np.sum((off_ns / NS_PER_S * mean_w) ** 2, axis=-1)
    least = float(squares.min())
    i, k = np.unravel_index(int(np.argmin(squares)), squares.shape)
    usual = float(np.median(squares))
    blurred = step_j.size * (mean_w * _JITTER * updates.period_ns / NS_PER_S) ** 2
    if usual < blurred or least > _TOLD * usual:
        return None
    allowed = least * (1.0 + 4.0 / max(1, step_j.size - 2))
    near = np.flatnonzero(squares.min(axis=0) <= allowed)
    away = np.abs((near - k + _PHASES // 2) % _PHASES - _PHASES // 2)
    error_ns = ((float(away.max()) + 0.5) / _PHASES + _JITTER) * updates.period_ns
    sights = _Sights(first_ns, low_ns, high_ns, energy_j, usable, ratio, cells)
    return _told_apart(at_ns[i, k].astype(np.int64), error_ns, updates.period_ns, sights, least)


@dataclass(frozen=True, slots=True, eq=False)
class _Sights:
    """First sights of a chunk's values, and what their renewals are held against; shapes [R], of `usable` [R - 1]."""

    first_ns: IntArray
    low_ns: FloatArray
    high_ns: FloatArray
    energy_j: FloatArray
    usable: BoolArray
    ratio: float
    cells: Cells

    def squares(self, at_ns: IntArray, number: int) -> float:
        """Of what counter and witness differ by over the steps on both sides of one renewal."""
        around = slice(max(0, number - 1), number + 2)
        step_j = np.diff(self.energy_j[around])
        rest_j = step_j - self.ratio * np.diff(self.cells.energy_at(at_ns[around]))
        return float(np.sum(rest_j[self.usable[around.start : around.start + rest_j.size]] ** 2))


def _told_apart(
    at_ns: IntArray, error_ns: float, period_ns: float, sights: _Sights, least: float
) -> tuple[IntArray, FloatArray]:
    """Renewals and their half-ranges, where a value was seen so near to a renewal that it may be that one's or not.

    The rhythm is known to within its error, and a sight within that of a renewal can belong to either side of it: the
    joules tell which. Where they do not, a whole period is the half-range.
    """
    at_ns, half_ns = at_ns.copy(), np.full(at_ns.size, error_ns)
    since_ns = sights.first_ns - at_ns
    doubtful: list[tuple[int, float]] = []
    for number in np.flatnonzero((since_ns > period_ns - error_ns) | (since_ns < error_ns)).tolist():
        trial_ns = at_ns.copy()
        away_ns = period_ns if since_ns[number] > error_ns else -period_ns
        trial_ns[number] = min(int(at_ns[number] + away_ns), int(sights.first_ns[number]))
        is_allowed = sights.low_ns[number] <= trial_ns[number] <= sights.high_ns[number]
        if not is_allowed or not np.all(np.diff(trial_ns[max(0, number - 1) : number + 2]) > 0):
            continue
        gain = sights.squares(at_ns, number) - sights.squares(trial_ns, number)
        if gain > 0:
            at_ns, least = trial_ns, least - gain
        doubtful.append((number, abs(gain)))
    unsure = 4.0 * max(least, 0.0) / max(1, int(np.count_nonzero(sights.usable)) - 2)
    half_ns[[number for number, gain in doubtful if gain <= unsure]] = period_ns
    return at_ns, half_ns


def _at(first_ns: IntArray, origin_ns: int, period_ns: FloatArray, phase: FloatArray) -> FloatArray:
    """The last renewal before each first sight of a value; shape [periods, phases, sights]."""
    since = (first_ns - origin_ns) / period_ns - phase
    return np.asarray(origin_ns + (np.floor(since) + phase) * period_ns, dtype=np.float64)
