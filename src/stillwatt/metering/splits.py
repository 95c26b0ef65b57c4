"""Where inside a counter's step the load changed: from its levels, its energy, and the stages' marks (eq. 3a)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.levels import Levels, equal_w, same_level
from stillwatt.metering.series import BoolArray, FloatArray, IntArray
from stillwatt.units import NS_PER_S

_HIDDEN_SEEN, _HIDDEN_UNSEEN = 0.5, 1.0
"""Share of the largest possible misplacement that a split keeps as its error: levels seen, or taken from neighbours."""
_LONGEST_STEPS = 2.5
"""Intervals longer than this many update periods are not split: too much may have happened in them."""
_NEAR = 0.1
"""A step found this near to a mark, as a share of the update period, or of an interval that is longer since the counter
is read more rarely, was at the mark: loads change with stages."""
_AT_KNOT = 0.01
"""A mark this near to an update is at it: no better is known of the update's time."""
_AGREE_REL, _AGREE_W = 0.15, 10.0
"""Levels on both sides of a knot that are each inferred agree within this."""
_FEW_MARKS, _HEEDED = 4, 0.5
"""Of so many marks about which energies tell and more, this share must be borne out, or load heeds no stages here."""
_PLAUSIBLE = 4.0
"""An inferred level may exceed the largest mean power of the session by this factor."""


@dataclass(frozen=True, slots=True)
class Split:
    """One interval cut in pieces of constant power: n times inside it, n + 1 powers."""

    interval: int
    at_ns: tuple[int, ...]
    power_w: tuple[float, ...]
    is_seen: bool
    left_open_j: float = math.inf
    """Half-range of what may be misplaced, where something bears the cut out; else as much as can be."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What an interval's energy says of a step of load at its mark."""

    split: Split | None
    is_borne_out: bool | None
    """None where it says nothing."""


_UNTOLD = _Trial(None, None)


def split_steps(curve: Curve, levels: Levels, marks_ns: IntArray, period_ns: int, sampling_ns: int = 0) -> Curve:
    """The curve with knots where the load changed inside the counter's steps (method.md, eqs. 3a and 166).

    Args:
        curve: knots at the counter's updates, straight between them.
        levels: power at both ends of its intervals.
        marks_ns: sorted times at which stages began or ended.
        period_ns: the counter's update period.
        sampling_ns: how often it is read, which makes its intervals longer than its steps where it is more rarely.
    """
    marked = _Marked(curve, levels, marks_ns, period_ns, max(period_ns, sampling_ns))
    length_ns, is_read = np.diff(curve.x_ns), curve.kind == Segment.READ
    is_step = is_read & (length_ns <= _LONGEST_STEPS * period_ns)
    if sampling_ns > _LONGEST_STEPS * period_ns:
        curve = _with_unresolved(marked)
    splits = {split.interval: split for split in _by_energy(curve, levels, is_step)}
    may_split = is_read & (length_ns <= _LONGEST_STEPS * marked.longest_ns)
    splits.update({split.interval: split for split in _at_marks(marked, may_split)})
    return _apply(curve, [splits[j] for j in sorted(splits)])


def _by_energy(curve: Curve, levels: Levels, may_split: BoolArray) -> Iterator[Split]:
    """Intervals of two levels, one after the other: s start_w + (1 - s) end_w = mean_w tells when."""
    start_w, end_w, mean_w = levels.start_w, levels.end_w, curve.mean_w
    is_two = may_split & np.isfinite(start_w) & np.isfinite(end_w)
    is_two &= ~same_level(start_w, end_w)
    share = np.divide(mean_w - end_w, start_w - end_w, out=np.zeros(mean_w.size), where=is_two)
    for j in np.flatnonzero((share > 0) & (share < 1)):
        at_ns = int(curve.x_ns[j]) + round(float(share[j] * (curve.x_ns[j + 1] - curve.x_ns[j])))
        yield Split(int(j), (at_ns,), (float(start_w[j]), float(end_w[j])), bool(levels.is_seen[j]))


class _Marked:
    """Intervals with stages' marks inside, and what is known of the levels at their ends."""

    def __init__(self, curve: Curve, levels: Levels, marks_ns: IntArray, period_ns: int, longest_ns: int) -> None:
        self.curve, self.levels, self.marks_ns = curve, levels, marks_ns
        self.period_ns, self.longest_ns = period_ns, longest_ns
        self.mean_w = curve.mean_w
        self.largest_w = _PLAUSIBLE * float(np.max(self.mean_w, initial=0.0))
        self.inside: dict[int, list[int]] = {}
        at_knot_ns = _AT_KNOT * period_ns
        intervals = np.searchsorted(curve.x_ns, marks_ns) - 1
        within = (intervals >= 0) & (intervals < self.mean_w.size)
        for mark_ns, j in zip(marks_ns[within].tolist(), intervals[within].tolist(), strict=True):
            if min(mark_ns - curve.x_ns[j], curve.x_ns[j + 1] - mark_ns) > at_knot_ns:
                self.inside.setdefault(j, []).append(mark_ns)

    def start_w(self, j: int) -> float | None:
        """Power just after the interval began, where no mark blurs what tells it."""
        if self.levels.is_seen[j] and not self._blurs(int(self.curve.x_ns[j])):
            return float(self.levels.start_w[j])
        return float(self.mean_w[j - 1]) if j > 0 and self._is_plain(j - 1) else None

    def end_w(self, j: int) -> float | None:
        """Power just before it ended."""
        if self.levels.is_seen[j] and not self._blurs(int(self.curve.x_ns[j + 1])):
            return float(self.levels.end_w[j])
        return float(self.mean_w[j + 1]) if j + 1 < self.mean_w.size and self._is_plain(j + 1) else None

    def after_mark_w(self, j: int) -> float | None:
        """Power after the interval's only mark, if it was `start_w` up to it."""
        marks_ns = self.inside.get(j, [])
        start_w = self.start_w(j) if len(marks_ns) == 1 else None
        if start_w is None:
            return None
        x_ns = self.curve.x_ns
        return self._rest_w(j, start_w * (marks_ns[0] - x_ns[j]), int(x_ns[j + 1]) - marks_ns[0])

    def before_mark_w(self, j: int) -> float | None:
        """Power before the interval's only mark, if it was `end_w` from there on."""
        marks_ns = self.inside.get(j, [])
        end_w = self.end_w(j) if len(marks_ns) == 1 else None
        if end_w is None:
            return None
        x_ns = self.curve.x_ns
        return self._rest_w(j, end_w * (x_ns[j + 1] - marks_ns[0]), marks_ns[0] - int(x_ns[j]))

    def between_w(self, j: int, start_w: float, end_w: float) -> float | None:
        """Power between the interval's first and last mark, with the levels at its ends outside them."""
        x_ns, marks_ns = self.curve.x_ns, self.inside[j]
        known = start_w * (marks_ns[0] - x_ns[j]) + end_w * (x_ns[j + 1] - marks_ns[-1])
        return self._rest_w(j, known, marks_ns[-1] - marks_ns[0])

    def is_borne_out(self, j: int, mark_ns: int, before_w: float, after_w: float) -> bool:
        """Whether the witness at the interval's end shows the mixture of both levels that its average would hold."""
        reach_ns, since_ns = self.levels.reach_ns, int(self.curve.x_ns[j + 1]) - mark_ns
        if not self.levels.is_seen[j] or since_ns >= reach_ns:
            return False
        mixed_w = (after_w * since_ns + before_w * (reach_ns - since_ns)) / reach_ns
        return _agree(mixed_w, float(self.levels.end_w[j]))

    def blur_w(self, knot: int) -> float:
        """How far the levels inferred on both sides of a knot may differ because of its time alone.

        What the one side has too much is what the other lacks.
        """
        x_ns = int(self.curve.x_ns[knot])
        sides_s = ((x_ns - self.inside[knot - 1][-1]) / NS_PER_S, (self.inside[knot][0] - x_ns) / NS_PER_S)
        return float(self.curve.lag_j[knot]) * sum(1.0 / side_s for side_s in sides_s)

    def near_ns(self, j: int) -> float:
        """How far from a mark a step of load may be found and still have been at it."""
        length_ns = int(self.curve.x_ns[j + 1] - self.curve.x_ns[j])
        return _NEAR * min(max(length_ns, self.period_ns), self.longest_ns)

    def _rest_w(self, j: int, known_w_ns: float, length_ns: int) -> float | None:
        """Mean power of the rest of an interval's energy; None where no card draws that."""
        whole_w_ns = float(self.mean_w[j]) * int(self.curve.x_ns[j + 1] - self.curve.x_ns[j])
        rest_w = (whole_w_ns - float(known_w_ns)) / length_ns
        return rest_w if 0 <= rest_w <= self.largest_w else None

    def _blurs(self, knot_ns: int) -> bool:
        """Whether a mark lies in what the witness averaged over before a knot."""
        near = np.searchsorted(self.marks_ns, [knot_ns - self.levels.reach_ns, knot_ns])
        return bool(near[1] > near[0])

    def _is_plain(self, j: int) -> bool:
        return j not in self.inside and bool(self.curve.kind[j] == Segment.READ)


def _with_unresolved(marked: _Marked) -> Curve:
    """Bounds widened where nothing but cut intervals tells what was drawn between two marks (method.md, eq. 166)."""
    curve, length_s = marked.curve, marked.curve.length_s
    low_w, high_w = curve.low_w.copy(), curve.high_w.copy()
    above_j, below_j = (curve.mean_w - curve.low_w) * length_s, (curve.high_w - curve.mean_w) * length_s
    marks = [(mark_ns, j) for j, inside_ns in sorted(marked.inside.items()) for mark_ns in inside_ns]
    for (start_ns, first), (end_ns, last) in pairwise(marks):
        held, between_s = slice(first, last + 1), (end_ns - start_ns) / NS_PER_S
        if last - first > 1 or not between_s or length_s[held].max() * NS_PER_S <= _LONGEST_STEPS * marked.period_ns:
            continue
        most_w = float(curve.low_w[held].min() + above_j[held].sum() / between_s)
        least_w = max(float(curve.high_w[held].max() - below_j[held].sum() / between_s), 0.0)
        high_w[held], low_w[held] = np.maximum(high_w[held], most_w), np.minimum(low_w[held], least_w)
    return replace(curve, low_w=low_w, high_w=high_w)


def _at_marks(marked: _Marked, may_split: BoolArray) -> Iterator[Split]:
    """Intervals in which the load changed with a stage, as far as their energies bear it out.

    Where few of a session's marks are borne out, load and stages have nothing to do with each other, and those that
    seem to be are chance.
    """
    inside = [(j, inside_ns) for j, inside_ns in marked.inside.items() if may_split[j]]
    tried = [_try_one(marked, j, inside_ns[0]) for j, inside_ns in inside if len(inside_ns) == 1]
    outcomes = [trial.is_borne_out for trial in tried if trial.is_borne_out is not None]
    if len(outcomes) >= _FEW_MARKS and sum(outcomes) < _HEEDED * len(outcomes):
        return
    for trial in tried:
        if trial.split is not None:
            yield trial.split
    for j, inside_ns in inside:
        split = _at_several(marked, j, inside_ns) if len(inside_ns) > 1 else None
        if split is not None:
            yield split


def _try_one(marked: _Marked, j: int, mark_ns: int) -> _Trial:
    """A step at the interval's only mark: both levels known and their energy agrees, or one known and one inferred."""
    start_w, end_w = marked.start_w(j), marked.end_w(j)
    if start_w is not None and end_w is not None:
        return _snapped(marked, j, mark_ns, start_w, end_w)
    is_seen = bool(marked.levels.is_seen[j])
    after_w, before_w = marked.after_mark_w(j), marked.before_mark_w(j)
    if start_w is not None and after_w is not None:
        split = Split(j, (mark_ns,), (start_w, after_w), is_seen)
        if marked.is_borne_out(j, mark_ns, start_w, after_w):
            return _Trial(split, True)
        return _inferred(marked, split, after_w, marked.before_mark_w(j + 1), j + 1)
    if end_w is not None and before_w is not None:
        split = Split(j, (mark_ns,), (before_w, end_w), is_seen)
        return _inferred(marked, split, before_w, marked.after_mark_w(j - 1), j)
    return _UNTOLD


def _inferred(marked: _Marked, split: Split, level_w: float, beyond_w: float | None, knot: int) -> _Trial:
    """Whether both sides of a knot give the level between two marks alike.

    Where the knot's time alone may keep them apart it says nothing, and what is right is what both hold together.
    """
    if beyond_w is None:
        return _UNTOLD
    if _agree(level_w, beyond_w):
        # energy misplaced at the mark would part the levels by itself over the time between mark and knot
        away_s = abs(int(marked.curve.x_ns[knot]) - split.at_ns[0]) / NS_PER_S
        open_w = abs(level_w - beyond_w) + equal_w(level_w, beyond_w)
        return _Trial(replace(split, left_open_j=open_w * away_s), True)
    if _agree(level_w, beyond_w, marked.blur_w(knot)):
        return _Trial(split, None)
    return _Trial(None, False)


def _snapped(marked: _Marked, j: int, mark_ns: int, start_w: float, end_w: float) -> _Trial:
    """The step that levels and energy tell, moved to the mark if it is near; both levels move alike, to keep energy."""
    if _agree(start_w, end_w):
        return _UNTOLD
    x_ns, mean_w = marked.curve.x_ns, float(marked.mean_w[j])
    before_ns, length_ns = mark_ns - int(x_ns[j]), int(x_ns[j + 1] - x_ns[j])
    found_ns = (mean_w - end_w) / (start_w - end_w) * length_ns
    if abs(found_ns - before_ns) > marked.near_ns(j):
        return _Trial(None, False)
    moved_w = mean_w - (start_w * before_ns + end_w * (length_ns - before_ns)) / length_ns
    levels_w = (max(start_w + moved_w, 0.0), end_w + moved_w)
    open_w = abs(moved_w) + equal_w(start_w, end_w)
    return _Trial(Split(j, (mark_ns,), levels_w, bool(marked.levels.is_seen[j]), open_w * length_ns / NS_PER_S), True)


def _at_several(marked: _Marked, j: int, inside_ns: Sequence[int]) -> Split | None:
    """A pulse between marks: its energy lies outside what the levels at both ends can explain."""
    start_w, end_w, mean_w = marked.start_w(j), marked.end_w(j), float(marked.mean_w[j])
    if start_w is None or end_w is None:
        return None
    nearest_w = min(max(mean_w, min(start_w, end_w)), max(start_w, end_w))
    if same_level(np.array(nearest_w), np.array(mean_w)):
        return None
    between_w = marked.between_w(j, start_w, end_w)
    if between_w is None:
        return None
    return Split(j, (inside_ns[0], inside_ns[-1]), (start_w, between_w, end_w), bool(marked.levels.is_seen[j]))


def _agree(one_w: float, other_w: float | None, blur_w: float = 0.0) -> bool:
    return other_w is not None and abs(one_w - other_w) <= _AGREE_W + _AGREE_REL * max(one_w, other_w) + blur_w


def _apply(curve: Curve, splits: Sequence[Split]) -> Curve:
    """Insert the knots; the last piece of each interval takes what rounding left of its energy."""
    power_w, low_w, high_w = curve.power_w.copy(), curve.low_w.copy(), curve.high_w.copy()
    after: list[int] = []
    knots: list[tuple[int, float, float, float, float, float]] = []
    for split in splits:
        pieces = _pieces(curve, split)
        if pieces is None:
            continue
        j, (levels_w, energy_j) = split.interval, pieces
        low, high = min(float(low_w[j]), *levels_w), max(float(high_w[j]), *levels_w)
        power_w[j], low_w[j], high_w[j] = levels_w[0], low, high
        lag_j = _lag_j(curve, split, low, high)
        after += [j + 1] * len(split.at_ns)
        knots += [
            (t_ns, at_j, level_w, error_j, low, high)
            for t_ns, at_j, level_w, error_j in zip(split.at_ns, energy_j, levels_w[1:], lag_j, strict=True)
        ]
    if not after:
        return curve
    t_ns, at_j, level_w, error_j, least_w, most_w = zip(*knots, strict=True)
    return replace(
        curve,
        x_ns=np.insert(curve.x_ns, after, t_ns),
        energy_j=np.insert(curve.energy_j, after, at_j),
        power_w=np.insert(power_w, after, level_w),
        slope_w_per_s=np.insert(curve.slope_w_per_s, after, 0.0),
        kind=np.insert(curve.kind, after, Segment.READ),
        low_w=np.insert(low_w, after, least_w),
        high_w=np.insert(high_w, after, most_w),
        whole_j=np.insert(curve.whole_j, after, 0.0),
        sampling_j2=np.insert(curve.sampling_j2, after, 0.0),
        lag_j=np.insert(curve.lag_j, after, error_j),
    )


def _pieces(curve: Curve, split: Split) -> tuple[list[float], list[float]] | None:
    """Powers of a split's pieces and energies at its knots; None where these do not lie apart inside the interval."""
    j = split.interval
    lengths_s = np.diff([int(curve.x_ns[j]), *split.at_ns, int(curve.x_ns[j + 1])]) / NS_PER_S
    if np.any(lengths_s <= 0):
        return None
    energy_j = float(curve.energy_j[j]) + np.cumsum(np.array(split.power_w[:-1]) * lengths_s[:-1])
    last_w = (float(curve.energy_j[j + 1]) - float(energy_j[-1])) / float(lengths_s[-1])
    return ([*split.power_w[:-1], last_w], energy_j.tolist()) if last_w >= 0 else None


def _lag_j(curve: Curve, split: Split, low_w: float, high_w: float) -> list[float]:
    """Half-range of the energy at inserted knots: that of the interval's ends, and what may be misplaced (eq. 6)."""
    j = split.interval
    length_s = float(curve.x_ns[j + 1] - curve.x_ns[j]) / NS_PER_S
    mean_w = float(curve.power_w[j]) + float(curve.slope_w_per_s[j]) * length_s / 2
    share = (np.array(split.at_ns) - curve.x_ns[j]) / (curve.x_ns[j + 1] - curve.x_ns[j])
    above_w, below_w = high_w - mean_w, mean_w - low_w
    up_w = np.minimum(above_w * share, below_w * (1 - share))
    down_w = np.minimum(below_w * share, above_w * (1 - share))
    ends_j = (1 - share) * curve.lag_j[j] + share * curve.lag_j[j + 1]
    hidden = _HIDDEN_SEEN if split.is_seen else _HIDDEN_UNSEEN
    found: FloatArray = ends_j + np.minimum(hidden * length_s * np.maximum(up_w, down_w), split.left_open_j)
    return list(found.tolist())
