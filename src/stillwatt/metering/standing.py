"""A counter that stands still while its part draws power: the witness tells when, and how much if need be (eq. 3c)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.curve import Curve
from stillwatt.metering.halfwidth import evaluate
from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.metering.updates import Updates
from stillwatt.metering.windows import profile
from stillwatt.units import NS_PER_S

STANDING_UPDATES = 2
"""A counter that stands for this many update periods belongs to a part that draws nothing, or it has stopped."""
_LOST_UPDATES = 10
"""One that stood for so many, and then makes up for less than `_CAUGHT_UP` of what was drawn, has lost joules."""
_CAUGHT_UP = 0.5
_TELLING = 0.05
"""Share of its joules by which a stand that ended must leave them open to be told of."""
_LEAST_W = 3.0
"""Power readings below this may be an offset."""
LEAST_COUNTS = 2.0
"""A count may stand while less than so many of its units are drawn."""
_OF_KNOTS = ("x_ns", "energy_j", "lag_j")
_OF_SEGMENTS = ("power_w", "slope_w_per_s", "kind", "low_w", "high_w", "whole_j", "sampling_j2")


@dataclass(frozen=True, slots=True)
class Stand:
    """A counter stood still, and its part did not."""

    run: int
    """The run of equal counts."""
    start_ns: int
    """Its last renewal, half a range before or after which it may have been:"""
    half_ns: float
    end_ns: int
    """The renewal after it, or the last reading."""
    seen_j: float
    """What the witness saw meanwhile, with its"""
    random_j: float
    """random half-width."""
    gains_j: float
    """How far the gains of both may set them apart beside that."""
    counted_j: float | None
    """What the counter gave for it in one step; None where none came."""
    stood_s: float
    is_long: bool
    """Whether no update that was missed, or was late, explains it."""

    @property
    def is_lost(self) -> bool:
        """Whether the witness's joules stand in for the counter's."""
        return self.counted_j is None or self._began_before or self._fell_short

    @property
    def _began_before(self) -> bool:
        """Whether the counter's step holds joules from before the first reading."""
        apart_j = 0.0 if self.counted_j is None else self.counted_j - self.seen_j
        return self.run == 0 and apart_j > self.random_j + self.gains_j

    @property
    def _fell_short(self) -> bool:
        return self.is_long and self.counted_j is not None and self.counted_j < _CAUGHT_UP * self.seen_j

    @property
    def is_told(self) -> bool:
        """Whether the reader of the record should know of it: not of an update that was missed."""
        return self.is_lost or self.is_long or self.range_j > _TELLING * self.seen_j

    @property
    def amount_j(self) -> float:
        """What is booked for it."""
        return self.seen_j if self.counted_j is None or self.is_lost else self.counted_j

    @property
    def range_j(self) -> float:
        """Half-range of that: of a counter that caught up, as far as the witness is off beyond what it may be."""
        if self.counted_j is None or self.is_lost:
            return self.random_j
        return max(0.0, abs(self.counted_j - self.seen_j) - self.random_j - self.gains_j)

    def said(self, stream: str) -> str:
        """The flag's text."""
        stood = f"{stream} stood still for {self.stood_s:.3g} s, in which power showed {self.seen_j:.4g} J"
        if self.counted_j is None:
            return f"counter-stood: {stood}; these are booked"
        if self._began_before:
            before = f"and then gave {self.counted_j:.4g} J at once, some of them from before the first reading"
            return f"counter-stood: {stood}, {before}; what power showed is booked"
        if self._fell_short:
            return f"counter-stood: {stood}, and made up for {self.counted_j:.4g} J; what power showed is booked"
        return f"counter-stood: {stood}, and then gave {self.counted_j:.4g} J at once; they are booked as power showed"


def find_stands(series: Series, energy_j: FloatArray, updates: Updates, witness: Curve) -> list[Stand]:
    """Where the counter stood still although the witness shows that the part drew power (method.md, eq. 3c).

    Args:
        series: the counter's readings.
        energy_j: joules between neighbouring readings.
        updates: its runs of equal counts.
        witness: the energy curve of the same part's power.
    """
    t_ns = series.t_ns
    stood_ns = t_ns[updates.last] - t_ns[updates.first]
    runs = np.flatnonzero(stood_ns >= STANDING_UPDATES * updates.period_ns)
    if not runs.size:
        return []
    starts_ns, half_ns = _last_renewals(t_ns, updates, runs)
    ends_ns = np.append(updates.x_ns[1:], t_ns[-1])
    inside = [[WeightedWindow(int(t_ns[updates.first[r]]), int(t_ns[updates.last[r]]))] for r in runs]
    whole = [[WeightedWindow(int(a), int(max(a, ends_ns[r])))] for a, r in zip(starts_ns, runs, strict=True)]
    seen, around = evaluate(witness, profile(inside)), evaluate(witness, profile(whole))
    gain = max(series.channel.gain_low_rel, series.channel.gain_high_rel)
    found = []
    for number, run in enumerate(runs.tolist()):
        stood_s = float(stood_ns[run]) / NS_PER_S
        drawn_j = float(seen.value_j[number])
        least_j = max(_LEAST_W * stood_s, LEAST_COUNTS * series.channel.unit_si)
        if drawn_j < least_j or around.missing_s[number] > 0:
            continue
        counted_j = float(energy_j[updates.first[run + 1] - 1]) if run + 1 < updates.first.size else None
        seen_j = float(around.value_j[number])
        random_j, gains_j = float(around.random_j[number]), gain * (seen_j + (counted_j or 0.0))
        is_long = bool(stood_ns[run] >= _LOST_UPDATES * updates.period_ns)
        span = int(starts_ns[number]), float(half_ns[number]), int(ends_ns[run])
        found.append(Stand(run, *span, seen_j, random_j, gains_j, counted_j, stood_s, is_long))
    return found


def _last_renewals(t_ns: IntArray, updates: Updates, runs: IntArray) -> tuple[IntArray, FloatArray]:
    """When the values were renewed at which the counter stands; the next renewal is late, and says nothing of it."""
    first = updates.first[runs]
    latest_ns = t_ns[first]
    earliest_ns = np.maximum(latest_ns - updates.period_ns, np.where(first > 0, t_ns[first - 1], 0))
    return (earliest_ns + latest_ns + 1) // 2, (latest_ns - earliest_ns) / 2


def follow(read: Curve, stands: Sequence[Stand], witness: Curve) -> Curve:
    """The curve with the witness's shape over the spans in which the counter stood (method.md, eq. 3c)."""
    pieces = {
        number: piece
        for stand in stands
        if (number := _only_segment(read, stand)) is not None and (piece := _shaped(read, number, witness)) is not None
    }
    if not pieces:
        return read
    changed: dict[str, Any] = {name: _spliced(getattr(read, name), pieces, name, is_knots=True) for name in _OF_KNOTS}
    changed |= {name: _spliced(getattr(read, name), pieces, name, is_knots=False) for name in _OF_SEGMENTS}
    return replace(read, **changed)


def _only_segment(read: Curve, stand: Stand) -> int | None:
    """The segment from the stand's one end to its other; None where something has cut it already."""
    first = int(np.searchsorted(read.x_ns, stand.start_ns))
    is_there = first + 1 < read.x_ns.size and read.x_ns[first] == stand.start_ns
    return first if is_there and read.x_ns[first + 1] == stand.end_ns else None


def _shaped(read: Curve, number: int, witness: Curve) -> dict[str, FloatArray | IntArray] | None:
    """A segment's pieces between the witness's knots: each the same share of its joules as of the witness's."""
    start_ns, end_ns = int(read.x_ns[number]), int(read.x_ns[number + 1])
    first, last = np.searchsorted(witness.x_ns, [start_ns, end_ns])
    inner_ns = witness.x_ns[first:last][witness.x_ns[first:last] > start_ns]
    x_ns = np.concatenate(([start_ns], inner_ns, [end_ns]))
    seen_j = np.diff(witness.energy_at(x_ns))
    total_j = float(seen_j.sum())
    if inner_ns.size == 0 or total_j <= 0.0 or np.any(seen_j < 0.0):
        return None
    scale = float(read.energy_j[number + 1] - read.energy_j[number]) / total_j
    length_s = np.diff(x_ns) / NS_PER_S
    at = witness.segment(x_ns[:-1])
    power_w = seen_j * scale / length_s
    beside_w = np.stack((np.append(power_w[:1], power_w[:-1]), power_w, np.append(power_w[1:], power_w[-1:])))
    knot_w = np.maximum(power_w[:-1], power_w[1:])
    count = length_s.size
    return {
        "x_ns": inner_ns,
        "energy_j": read.energy_j[number] + np.cumsum(seen_j * scale)[:-1],
        "lag_j": scale * witness.lag_j[at[1:]] + knot_w * witness.lag_ns / NS_PER_S,
        "power_w": power_w,
        "slope_w_per_s": np.zeros(count),
        "kind": np.full(count, read.kind[number]),
        "low_w": beside_w.min(axis=0),
        "high_w": beside_w.max(axis=0),
        "whole_j": read.whole_j[number] * seen_j / total_j,
        "sampling_j2": scale**2 * witness.sampling_j2[at] * np.minimum(1.0, length_s / witness.length_s[at]),
    }


def _spliced(
    array: FloatArray, pieces: dict[int, dict[str, FloatArray | IntArray]], name: str, *, is_knots: bool
) -> FloatArray:
    """An array of the curve with the pieces' entries: between two knots, or in the place of their segment."""
    return np.concatenate([*_parts(array, pieces, name, is_knots=is_knots)])


def _parts(
    array: FloatArray, pieces: dict[int, dict[str, FloatArray | IntArray]], name: str, *, is_knots: bool
) -> Iterator[FloatArray]:
    done = 0
    for number in sorted(pieces):
        yield array[done : number + 1] if is_knots else array[done:number]
        yield pieces[number][name].astype(array.dtype)
        done = number + 1
    yield array[done:]
