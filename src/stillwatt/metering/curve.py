"""The estimated cumulative energy of one stream, as a function of time (method.md, eqs. 3 to 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.records.channel import Channel
from stillwatt.records.sample import SampleGap
from stillwatt.units import NS_PER_S

if TYPE_CHECKING:
    from stillwatt.metering.standing import Stand


class Segment(IntEnum):
    """What a stretch between two knots rests on."""

    READ = 0
    """Two readings no further apart than the largest allowed gap."""
    COUNTED_GAP = 1
    """A gap whose distance a counter gives; only the placing inside it is estimated."""
    BRIDGED_GAP = 2
    """A gap in a power stream, under the line between its ends."""
    REPAIRED = 3
    """A counter's reset, with the witness's energy in its place."""
    MISSING = 4
    """A counter's reset with nothing in its place: no joules."""
    TAIL = 5
    """From the last knot to the last reading: less than the instrument's delay."""
    HELD = 6
    """Before the first or after the last reading, at the nearest power."""


HOLD_NS = NS_PER_S
"""The sampling process writes once a second, so a kill can cost this much of readings (eq. 5)."""
ESTIMATED = (Segment.BRIDGED_GAP, Segment.REPAIRED, Segment.HELD)
"""Segments all of whose joules are estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Cumulative energy with its knots, and what the half-widths need (method.md, eqs. 3 to 7).

    K knots bound K - 1 segments; power is linear inside a segment, and energy is flat outside the knots.

    Attributes:
        x_ns: shape [K], strictly increasing times of the knots.
        energy_j: shape [K], cumulative energy at the knots.
        power_w: shape [K - 1], power at the start of each segment.
        slope_w_per_s: shape [K - 1], its change inside the segment.
        kind: shape [K - 1], `Segment` values.
        low_w: shape [K - 1], least power that is held possible inside the segment (placing, eq. 6).
        high_w: shape [K - 1], the largest.
        whole_j: shape [K - 1], half-range of the energy of the whole segment (gaps, held spans, repairs).
        sampling_j2: shape [K - 1], variance of the segment's energy from sampling (eq. 7).
        lag_j: shape [K], half-range of the energy at a knot from the instrument's lag (eq. 6).
        lag_ns: half-range of a delay common to all knots (eq. 7); 0 for counters.
        cover_ns: times at which the next two change slope.
        covered_s: seconds covered by readings up to those times.
        present_s: seconds that are not missing up to those times.
        resets_ns: times of the readings after which a counter's distance was unknown.
        repaired_j: energy put in the place of each of them; NaN where there was nothing to put.
        steps_ns: sorted times of the instrument's own steps, from which a stage's place in them is counted (eq. 127);
            empty where it has none.
        step_ns: their spacing; 0 where it has none, or all their times err alike.
        stands: where a counter stood still although its part drew power, in their order.
        failed: where a counter's readings were no counts of its own, and were left out (eq. 138).
    """

    x_ns: IntArray
    energy_j: FloatArray
    power_w: FloatArray
    slope_w_per_s: FloatArray
    kind: npt.NDArray[np.int8]
    low_w: FloatArray
    high_w: FloatArray
    whole_j: FloatArray
    sampling_j2: FloatArray
    lag_j: FloatArray
    lag_ns: int
    cover_ns: IntArray
    covered_s: FloatArray
    present_s: FloatArray
    resets_ns: IntArray
    repaired_j: FloatArray
    steps_ns: IntArray = field(default_factory=lambda: np.array([], dtype=np.int64))
    step_ns: int = 0
    stands: tuple[Stand, ...] = ()
    failed: tuple[SampleGap, ...] = ()

    @property
    def length_s(self) -> FloatArray:
        """Lengths of the segments."""
        return np.diff(self.x_ns) / NS_PER_S

    @property
    def mean_w(self) -> FloatArray:
        """Mean power of the segments."""
        return self.power_w + self.slope_w_per_s * self.length_s / 2

    def segment(self, t_ns: IntArray) -> IntArray:
        """Index of the segment that a time lies in; times outside the knots go to the first or last."""
        found = np.searchsorted(self.x_ns, t_ns, side="right") - 1
        return np.clip(found, 0, self.power_w.size - 1).astype(np.int64)

    def place_in_step(self, t_ns: IntArray) -> FloatArray:
        """Where in the instrument's step a time lies, as an angle (eq. 127); 0 where that makes no difference."""
        if not self.step_ns:
            return np.zeros(t_ns.size)
        before = np.maximum(np.searchsorted(self.steps_ns, t_ns, side="right") - 1, 0)
        return np.asarray(2.0 * np.pi * (t_ns - self.steps_ns[before]) / self.step_ns, dtype=np.float64)

    def energy_at(self, t_ns: IntArray) -> FloatArray:
        """Cumulative energy at any times."""
        return self._integral(t_ns, self.energy_j, self.power_w, self.slope_w_per_s)

    def estimated_at(self, t_ns: IntArray) -> FloatArray:
        """Cumulative energy in segments that are estimated throughout."""
        share = np.isin(self.kind, ESTIMATED).astype(np.float64)
        energy_j = np.append(0.0, np.cumsum(np.diff(self.energy_j) * share))
        return self._integral(t_ns, energy_j, self.power_w * share, self.slope_w_per_s * share)

    def covered_at(self, t_ns: IntArray) -> FloatArray:
        """Seconds covered up to any times."""
        return self._elapsed(t_ns, self.covered_s)

    def present_at(self, t_ns: IntArray) -> FloatArray:
        """Seconds not missing up to any times."""
        return self._elapsed(t_ns, self.present_s)

    def _integral(self, t_ns: IntArray, energy_j: FloatArray, power_w: FloatArray, slope: FloatArray) -> FloatArray:
        inside_ns = np.clip(t_ns, self.x_ns[0], self.x_ns[-1])
        j = self.segment(inside_ns)
        s = (inside_ns - self.x_ns[j]) / NS_PER_S
        within_j: FloatArray = energy_j[j] + (power_w[j] + slope[j] * s / 2) * s
        return within_j

    def _elapsed(self, t_ns: IntArray, amount_s: FloatArray) -> FloatArray:
        since_ns = (t_ns - self.cover_ns[0]).astype(np.float64)
        known_ns = (self.cover_ns - self.cover_ns[0]).astype(np.float64)
        return np.asarray(np.interp(since_ns, known_ns, amount_s), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Seconds covered, and not missing, up to each of some times."""

    cover_ns: IntArray
    covered_s: FloatArray
    present_s: FloatArray


def hold_ns(series: Series) -> int:
    """For how long the nearest power is held before the first and after the last reading (method.md, eq. 5)."""
    return max(HOLD_NS, series.max_gap_ns)


def cover(series: Series, kind: npt.NDArray[np.int8]) -> Cover:
    """Seconds covered and present at each reading and at both ends of the held spans (method.md, eq. 5).

    Args:
        series: n readings.
        kind: shape [n - 1], what each span between two readings rests on.
    """
    reach_ns, length_ns = hold_ns(series), np.diff(series.t_ns)
    covered_ns = np.where(kind == Segment.READ, length_ns, 0)
    # where no distance is known at all, there is no power to hold beside it: that is missing too, and no 0 J
    held_ns = 0 if kind.size and np.all(kind == Segment.MISSING) else reach_ns
    present_ns = np.where(kind != Segment.MISSING, length_ns, 0)
    cover_ns = np.concatenate(([series.t_ns[0] - reach_ns], series.t_ns, [series.t_ns[-1] + reach_ns]))
    covered_s = np.cumsum(np.concatenate(([0, 0], covered_ns, [0]))) / NS_PER_S
    present_s = np.cumsum(np.concatenate(([0, held_ns], present_ns, [held_ns]))) / NS_PER_S
    return Cover(cover_ns.astype(np.int64), covered_s, present_s)


def unseen_half_w(channel: Channel, line_w: FloatArray, range_w: FloatArray) -> FloatArray:
    """Half-range of the mean power of spans in which nothing was read, around the line that bridges them (eq. 7).

    What was seen before and after says nothing of what was drawn between: it may have been nothing, the most that was
    ever seen, the device's own limit, or, where that is not known, twice the line.
    """
    low_w, high_w = np.minimum(range_w[0], 0.0), np.maximum(range_w[1], channel.limit_w or 0.0)
    return np.asarray(np.maximum(line_w - low_w, high_w - line_w), dtype=np.float64)


def carry_on(
    read: Curve, series: Series, *, ends_w: FloatArray, range_w: FloatArray, marks_ns: Sequence[int] = ()
) -> Curve:
    """Hold the nearest power before the first and after the last reading (method.md, eqs. 5 and 147).

    Args:
        read: the curve between its first and last knot; of one knot at least.
        series: the readings it was made from.
        ends_w: power before the first and after the last knot.
        range_w: least and largest power of the session, for the half-range of what is held.
        marks_ns: when stages began or ended.
    """
    reach_ns, last_ns = hold_ns(series), series.t_ns[-1]
    tail_ns = np.array([last_ns, last_ns + reach_ns] if read.x_ns[-1] < last_ns else [last_ns + reach_ns])
    x_ns = np.concatenate(([series.t_ns[0] - reach_ns], read.x_ns, tail_ns))
    lead_j = read.energy_j[:1] - ends_w[0] * (read.x_ns[0] - x_ns[0]) / NS_PER_S
    tail_j = read.energy_j[-1] + ends_w[1] * (tail_ns - read.x_ns[-1]) / NS_PER_S
    lead_w, tail_w = ends_w[:1], np.full(tail_ns.size, ends_w[1])
    seen_w = np.maximum(range_w[1] - ends_w, ends_w - range_w[0])
    half_w = np.where(_is_unread(series, marks_ns), unseen_half_w(series.channel, ends_w, range_w), seen_w)
    length_s = np.diff(x_ns) / NS_PER_S
    zero, zeros = np.zeros(1), np.zeros(tail_ns.size)
    tail_kind = (Segment.TAIL, Segment.HELD)[-tail_ns.size :]
    return replace(
        read,
        x_ns=x_ns,
        energy_j=np.concatenate((lead_j, read.energy_j, tail_j)),
        power_w=np.concatenate((lead_w, read.power_w, tail_w)),
        slope_w_per_s=np.concatenate((zero, read.slope_w_per_s, zeros)),
        kind=np.concatenate(([Segment.HELD], read.kind, tail_kind)).astype(np.int8),
        low_w=np.concatenate((lead_w, read.low_w, tail_w)),
        high_w=np.concatenate((lead_w, read.high_w, tail_w)),
        whole_j=np.concatenate(
            (half_w[:1] * length_s[:1], read.whole_j, half_w[1] * length_s[-tail_ns.size :]),
        ),
        sampling_j2=np.concatenate((zero, read.sampling_j2, zeros)),
        lag_j=np.concatenate((read.lag_j[:1], read.lag_j, np.full(tail_ns.size, read.lag_j[-1]))),
    )


def _is_unread(series: Series, marks_ns: Sequence[int]) -> BoolArray:
    """Whether stages went on, before the first and after the last reading, while readings should have come (eq. 147).

    Then what was read says as little of what was drawn as it does in a gap. One reading shows no range at all.
    """
    if series.t_ns.size == 1:
        return np.array([True, True])
    resting_ns = [lull.period_ns for lull in series.lulls if lull.end_ns >= series.t_ns[-1]]
    due_ns = max(series.period_ns, series.channel.update_period_ns)
    first_ns, last_ns = int(series.t_ns[0]), int(series.t_ns[-1])
    begun_ns, ended_ns = min(marks_ns, default=first_ns), max(marks_ns, default=last_ns)
    return np.array([first_ns - begun_ns > due_ns, ended_ns - last_ns > max(due_ns, *resting_ns, 0)])
