"""A counter and a witness that sees all of the time, as one curve: the one tells how much, the other when (eq. 3b)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stillwatt.metering.cells import Cells
from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.series import BoolArray, FloatArray, IntArray
from stillwatt.units import NS_PER_S

_LEAST_STEPS = 4
"""Counter's steps in a row that are needed to hold the witness against them."""
RATIO = (0.8, 1.25)
"""Counter over witness, outside of which they do not measure the same thing."""
_SMOOTH_NS = NS_PER_S
"""How far to each side the difference of both is averaged, at most."""
_MOST_NEIGHBOURS = 10
_STAMP_SHARE = 0.1
"""How well the witness's times are known, as a share of what it averages over."""
_NEIGHBOUR_CELLS = 2
_MANY = 200_000
"""Cells (an hour's) from which on only those near marks are kept: a week's would take gigabytes."""
_NEAR_NS = 2 * NS_PER_S
_UNIFORM = 1.0 / 3.0
_LEAST_J = 2.0**-30
_ROUNDING = 2.0**-40


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What stands in the place of the knots from `first` to `last`."""

    first: int
    last: int
    x_ns: IntArray
    step_j: FloatArray
    low_w: FloatArray
    high_w: FloatArray
    lag_j: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Energy of both together at a run's knots, less the scaled witness: what the counter says is missing there."""

    x_ns: IntArray
    rest_j: FloatArray
    half_j: FloatArray
    """Half-range of it."""


def fuse(read: Curve, half_ns: FloatArray, cells: Cells, marks_ns: IntArray) -> Curve:
    """The counter's curve with the witness's shape between its knots (method.md, eq. 3b).

    Args:
        read: knots at the counter's updates, straight between them; K of them.
        half_ns: shape [K], half-range of each knot's time.
        cells: the witness.
        marks_ns: sorted times at which stages began or ended; of long runs, only what is near them is kept fine.

    Returns:
        The curve with a knot at each of the witness's readings, where it covers at least four steps of the counter in
        a row; elsewhere as it was. As it was throughout where both do not measure the same thing.
    """
    is_covered = _covered(read, cells)
    energy_j = np.diff(read.energy_j)[is_covered].sum()
    seen_j = np.diff(cells.energy_at(read.x_ns))[is_covered].sum()
    if seen_j <= _LEAST_J or not RATIO[0] <= energy_j / seen_j <= RATIO[1]:
        return read
    ratio = float(energy_j / seen_j)
    stamp_ns = _STAMP_SHARE * cells.averaging_ns
    edges_ns = _wanted(cells.edges_ns, marks_ns)
    found = [_fused(read, half_ns, cells, edges_ns, ratio, stamp_ns, run) for run in _runs(is_covered)]
    runs = [run for run in found if run is not None]
    return _joined(read, runs) if runs else read


def _covered(read: Curve, cells: Cells) -> BoolArray:
    """Steps of the counter over which the witness has no hole; shape [K - 1]."""
    has_hole = cells.has_hole(read.x_ns[:-1], read.x_ns[1:])
    return np.asarray(~has_hole & (read.kind == Segment.READ), dtype=np.bool_)


def _runs(is_covered: BoolArray) -> list[tuple[int, int]]:
    """First and last knot of each row of covered steps that is long enough."""
    padded = np.concatenate(([False], is_covered, [False])).astype(np.int8)
    turns = np.diff(padded)
    starts, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b - a >= _LEAST_STEPS]


def _wanted(edges_ns: IntArray, marks_ns: IntArray) -> IntArray:
    """Edges of cells that become knots: all of them, or of very many those near marks, where stages are cut."""
    if edges_ns.size <= _MANY or marks_ns.size == 0:
        return edges_ns
    after = np.minimum(np.searchsorted(marks_ns, edges_ns), marks_ns.size - 1)
    before = np.maximum(after - 1, 0)
    away_ns = np.minimum(np.abs(marks_ns[after] - edges_ns), np.abs(edges_ns - marks_ns[before]))
    return np.asarray(edges_ns[away_ns <= _NEAR_NS], dtype=np.int64)


def _fused(
    read: Curve,
    half_ns: FloatArray,
    cells: Cells,
    edges_ns: IntArray,
    ratio: float,
    stamp_ns: float,
    run: tuple[int, int],
) -> _Run | None:
    """One run of covered steps; None where energy would have to run backwards."""
    first, last = run
    knots = slice(first, last + 1)
    fit = _fit(read.x_ns[knots], read.energy_j[knots], half_ns[knots], cells, ratio)
    inner = (edges_ns > fit.x_ns[0]) & (edges_ns < fit.x_ns[-1])
    x_ns = np.concatenate((fit.x_ns[:1], edges_ns[inner], fit.x_ns[-1:]))
    origin_ns = int(x_ns[0])
    at, known = (x_ns - origin_ns).astype(np.float64), (fit.x_ns - origin_ns).astype(np.float64)
    energy_j = ratio * cells.energy_at(x_ns) + np.interp(at, known, fit.rest_j)
    mean_w = np.diff(energy_j) / (np.diff(x_ns) / NS_PER_S)
    if np.any(mean_w < 0):
        return None
    low_w, high_w = _bounds(mean_w)
    beside_w = np.maximum(np.append(high_w[0], high_w), np.append(high_w, high_w[-1]))
    lag_j = np.interp(at, known, fit.half_j) + beside_w * stamp_ns / NS_PER_S
    return _Run(first, last, x_ns, np.diff(energy_j), low_w, high_w, lag_j)


def _fit(x_ns: IntArray, energy_j: FloatArray, half_ns: FloatArray, cells: Cells, ratio: float) -> _Fit:
    """The difference of counter and witness at the knots, averaged over neighbours, and how well it is known."""
    rest_j = energy_j - ratio * cells.energy_at(x_ns)
    power_w = ratio * cells.power_at(x_ns)
    around_w = np.maximum.reduce([power_w, np.append(power_w[0], power_w[:-1]), np.append(power_w[1:], power_w[-1])])
    variance_j2 = np.maximum((around_w * half_ns / NS_PER_S) ** 2 * _UNIFORM, _LEAST_J)
    reach = int(np.clip(round(_SMOOTH_NS / float(np.median(np.diff(x_ns)))), 1, _MOST_NEIGHBOURS))
    weight = 1.0 / variance_j2
    # the counter's delay behind the witness: what of the difference goes with the power at the moment
    sway_j = rest_j - _smooth(x_ns, rest_j, weight, reach)[0]
    sway_w = power_w - _smooth(x_ns, power_w, weight, reach)[0]
    spread = float(np.sum(weight * sway_w**2))
    delay_s = float(np.sum(weight * sway_w * sway_j)) / spread if spread > 0 else 0.0
    rest_j = rest_j - delay_s * power_w
    smooth_j, share = _smooth(x_ns, rest_j, weight, reach)
    excess = max(1.0, float(np.mean(weight * (rest_j - smooth_j) ** 2)))
    length_s = np.diff(x_ns) / NS_PER_S
    drift_j2 = np.diff(rest_j) ** 2 - excess * (variance_j2[1:] + variance_j2[:-1])
    drift_j2_per_s = max(0.0, float(np.mean(drift_j2)) / float(np.mean(length_s)))
    between_s = np.maximum(np.append(length_s[0], length_s), np.append(length_s, length_s[-1]))
    found_j2 = (excess * variance_j2 * share + drift_j2_per_s * between_s / 4) / _UNIFORM
    return _Fit(x_ns, smooth_j, np.sqrt(found_j2))


def _smooth(x_ns: IntArray, value: FloatArray, weight: FloatArray, reach: int) -> tuple[FloatArray, FloatArray]:
    """Weighted straight line through each knot and `reach` neighbours on both sides, at the knot itself.

    Returns:
        Its value at each knot, and the variance of that as a share of the knot's own.
    """
    n = x_ns.size
    sums = np.zeros((5, n))
    for k in range(-reach, reach + 1):
        here = slice(max(0, -k), min(n, n - k))
        there = slice(max(0, k), min(n, n + k))
        w, dx = weight[there], (x_ns[there] - x_ns[here]) / NS_PER_S
        sums[:, here] += np.stack((w, w * dx, w * dx**2, w * value[there], w * value[there] * dx))
    s0, s1, s2, t0, t1 = sums
    determinant = s0 * s2 - s1**2
    is_line = determinant > _ROUNDING * s0 * s2
    safe = np.where(is_line, determinant, 1.0)
    smooth = np.where(is_line, (t0 * s2 - t1 * s1) / safe, t0 / s0)
    variance = np.where(is_line, s2 / safe, 1.0 / s0)
    return smooth, np.minimum(variance * weight, 1.0)


def _bounds(mean_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least and largest power held possible inside each cell: the extremes of the cells around it (as in eq. 6)."""
    padded = np.pad(mean_w, _NEIGHBOUR_CELLS, mode="edge")
    near = np.stack([padded[k : k + mean_w.size] for k in range(2 * _NEIGHBOUR_CELLS + 1) if k != _NEIGHBOUR_CELLS])
    least_w, most_w = near.min(axis=0), near.max(axis=0)
    high_w = np.where(mean_w > most_w, 2 * mean_w - least_w, most_w)
    low_w = np.where(mean_w < least_w, np.maximum(2 * mean_w - most_w, 0.0), least_w)
    return np.minimum(low_w, mean_w), np.maximum(high_w, mean_w)


def _joined(read: Curve, runs: list[_Run]) -> Curve:
    """The curve with its runs replaced; every other step keeps its joules."""
    step_j = np.diff(read.energy_j)
    knots: list[tuple[IntArray, FloatArray]] = []
    steps: list[tuple[FloatArray | npt.NDArray[np.int8], ...]] = []
    at_knot = at_step = 0

    def keep(to_knot: int, to_step: int) -> None:
        k, s = slice(at_knot, to_knot), slice(at_step, to_step)
        knots.append((read.x_ns[k], read.lag_j[k]))
        steps.append((step_j[s], read.low_w[s], read.high_w[s], read.kind[s], read.whole_j[s]))

    for run in runs:
        keep(run.first, run.first)
        knots.append((run.x_ns, run.lag_j))
        zeros = np.zeros(run.step_j.size)
        steps.append((run.step_j, run.low_w, run.high_w, np.full(zeros.size, Segment.READ), zeros))
        at_knot, at_step = run.last + 1, run.last
    keep(read.x_ns.size, step_j.size)
    x_ns, lag_j = (np.concatenate(arrays) for arrays in zip(*knots, strict=True))
    step_j, low_w, high_w, kind, whole_j = (np.concatenate(arrays) for arrays in zip(*steps, strict=True))
    mean_w = step_j / (np.diff(x_ns) / NS_PER_S)
    return replace(
        read,
        x_ns=x_ns,
        energy_j=float(read.energy_j[0]) + np.append(0.0, np.cumsum(step_j)),
        power_w=mean_w,
        slope_w_per_s=np.zeros(mean_w.size),
        kind=kind.astype(np.int8),
        low_w=low_w,
        high_w=high_w,
        whole_j=whole_j,
        sampling_j2=np.zeros(mean_w.size),
        lag_j=lag_j,
    )
