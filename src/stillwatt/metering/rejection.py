"""Readings of a counter that cannot be what it counted: failed readings that look like numbers (method.md, eq. 138)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stillwatt.metering.plausible import Plausible, changes, plausible
from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.records.sample import SampleGap
from stillwatt.units import NS_PER_S

_MOST_VALUES = 5
"""So many values beside a step that cannot be may have failed, each by itself."""
_LONGEST_NS = 10 * NS_PER_S
"""A counter that went astray, counted there, and came back within this time had failed in between."""
_MOST_RETURNS = 50
"""Steps looked at for one by which it came back: in a counter of nothing but noise all are."""
_AROUND = 6
"""Steps on either side that show what is usual."""
_STANDING_UPDATES = 2
"""A value that stood for so many updates is a counter that stopped, where power tells what was drawn (eq. 3c)."""
REASON = "a count that does not lie between those before and after it"


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A counter's readings without those that failed.

    Attributes:
        series: the readings that are left; the very series where none failed.
        failed: a gap for each stretch of failed readings, from the last good one to the next.
    """

    series: Series
    failed: tuple[SampleGap, ...] = ()


def without_failed(series: Series, *, has_witness: bool) -> Sound:
    """Take out a counter's readings that contradict those on both sides (method.md, eq. 138).

    Args:
        series: one counter's readings.
        has_witness: whether power of the same part was read.
    """
    if series.t_ns.size < 2:
        return Sound(series)
    limits = plausible(series)
    if limits.is_clear:
        return Sound(series)
    first = changes(series.count)
    ends = np.append(first[1:], series.t_ns.size)
    stood_ns = series.t_ns[ends - 1] - series.t_ns[first]
    is_told = (has_witness & (stood_ns >= _STANDING_UPDATES * limits.delay_ns)) | (stood_ns > _LONGEST_NS)
    is_gone = np.repeat(_Values(series.count[first], series.t_ns[first], limits).failed(is_told), ends - first)
    if not is_gone.any():
        return Sound(series)
    failed = tuple(_gaps(series, is_gone))
    kept = Series(series.channel, series.t_ns[~is_gone], series.count[~is_gone], (*series.gaps, *failed), series.lulls)
    return Sound(kept, failed)


def _gaps(series: Series, is_gone: BoolArray) -> Iterator[SampleGap]:
    """A gap for each stretch, from the last good reading to the next; at an end, from the first failed to the last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_gone, [False])).astype(np.int8)))
    last = series.t_ns.size - 1
    for begin, end in edges.reshape(-1, 2).tolist():
        yield SampleGap(
            stream=series.channel.stream,
            start_ns=int(series.t_ns[max(begin - 1, 0)]),
            end_ns=int(series.t_ns[min(end, last)]),
            failed_reads=end - begin,
            reason=REASON,
        )


@dataclass(frozen=True, slots=True)
class _Bridge:
    """Two values with nothing believed between them; the first values of a session have none before them."""

    left: int
    right: int


class _Values:
    """The values that a counter showed one after another, and since when."""

    def __init__(self, count: FloatArray, since_ns: IntArray, limits: Plausible) -> None:
        self._count, self._since_ns, self._limits = count, since_ns, limits
        self._follows = limits.follows(count[:-1], count[1:], np.diff(since_ns))
        self._breaks = np.flatnonzero(~self._follows)
        self._is_gone = np.zeros(count.size, dtype=np.bool_)

    def failed(self, is_told: BoolArray) -> BoolArray:
        """Which of the values are no counts of this counter; never all of them."""
        begin, resumed = 0, 0
        starts = [0]
        for step in self._breaks.tolist():
            if step < resumed:
                continue  # inside a stretch that is left out already
            bridge = self._bridge(step, begin)
            if bridge is None:
                begin = step + 1
                starts.append(begin)
            else:
                self._is_gone[bridge.left + 1 : bridge.right] = True
                resumed = bridge.right
        lone = self._lone(starts) & ~is_told
        for is_failed in (self._is_gone | lone, self._is_gone):
            if not is_failed.all():
                return is_failed
        return np.zeros(self._count.size, dtype=np.bool_)

    def _lone(self, starts: list[int]) -> BoolArray:
        """Values that stand alone between two steps of unknown distance, or at an end: nothing bears them out."""
        is_lone = np.zeros(self._count.size, dtype=np.bool_)
        for start, end in zip(starts, [*starts[1:], self._count.size], strict=True):
            left = start + np.flatnonzero(~self._is_gone[start:end])
            if len(starts) > 1 and np.unique(self._count[left]).size == 1:
                is_lone[left] = True
        return is_lone

    def _bridge(self, step: int, begin: int) -> _Bridge | None:
        """What to leave out so that the step after value `step` is one that can be; None where it is a reset."""
        before = self._before(step, begin)
        again = np.flatnonzero(self._count[step + 2 : step + 2 + _MOST_VALUES] == self._count[step])
        if again.size:  # it shows again what it showed before
            return _Bridge(before[0], step + 2 + int(again[0]))
        for number in range(1, _MOST_VALUES + 1):
            tried = (
                _Bridge(before[back], step + 1 + number - back) for back in range(min(number, len(before) - 1) + 1)
            )
            found = [one for one in tried if self._may_stand(one) and self._is_failure(one, step)]
            if found:
                # where nothing tells which side is wrong, both are left out
                return self._borne_out(min(one.left for one in found), max(one.right for one in found), step)
        for other in self._breaks[np.searchsorted(self._breaks, step, side="right") :][:_MOST_RETURNS].tolist():
            if self._since_ns[other + 1] - self._since_ns[step + 1] > _LONGEST_NS:
                return None
            if self._may_stand(bridge := _Bridge(before[0], other + 1)):
                return bridge
        return None

    def _borne_out(self, left: int, right: int, step: int) -> _Bridge:
        """The bridge, without an end that is the run's own first or last value and may as well be what is wrong."""
        last = self._count.size - 1
        if self._is_excursion(left, right):
            return _Bridge(left, right)
        return _Bridge(-1 if left == 0 and right > step + 1 else left, right + (right == last and left < step))

    def _is_excursion(self, left: int, right: int) -> bool:
        """Whether a counter went astray and came back: two steps that cannot be."""
        return bool(np.count_nonzero(~self._follows[left:right]) > 1)

    def _before(self, step: int, begin: int) -> list[int]:
        """The last values up to a step that are still believed, the latest first."""
        near = range(step, max(begin, step - 2 * _MOST_VALUES) - 1, -1)
        return [value for value in near if not self._is_gone[value]][: _MOST_VALUES + 1]

    def _may_stand(self, bridge: _Bridge) -> bool:
        """Whether one end may follow the other, and what is left out beside each cannot lie between them.

        Else a jump would be spread over good values until it is slow enough to be believed.
        """
        left, right = bridge.left, bridge.right
        if right >= self._count.size:
            return False
        before, after = self._count[left], self._count[right]
        inner = self._limits.distance(before, self._count[[left + 1, right - 1]])
        is_between = (inner >= 0) & (inner <= self._limits.distance(before, after))
        return bool(self._limits.follows(before, after, self._since_ns[right] - self._since_ns[left])) and not bool(
            is_between.any()
        )

    def _is_failure(self, bridge: _Bridge, step: int) -> bool:
        """Whether what a bridge leaves out failed, rather than that the counter began anew at the step.

        Two steps that cannot be are an excursion. With one alone, a counter that now stands where it may have come from
        0 tells a reset, unless the power over the bridge is nearer to what is usual than what was taken for drawn.
        """
        if self._is_excursion(bridge.left, bridge.right):
            return True
        now, length_ns = self._count[step + 1], self._since_ns[step + 1] - self._since_ns[step]
        if not self._limits.follows(0.0, now, length_ns):
            return True
        usual_w = self._usual_w(bridge)
        if usual_w is None:
            return False
        beside = ((bridge.left, bridge.left + 1), (bridge.right - 1, bridge.right))
        doubted_w = max(self._power_w(*pair) for pair in beside if pair != (step, step + 1))
        bridged_w = self._power_w(bridge.left, bridge.right)
        return abs(math.log(bridged_w / usual_w)) < abs(math.log(doubted_w / usual_w))

    def _usual_w(self, bridge: _Bridge) -> float | None:
        """Median power of the steps around a bridge."""
        before = range(max(bridge.left - _AROUND, 0), bridge.left)
        after = range(bridge.right, min(bridge.right + _AROUND, self._count.size - 1))
        found = [self._power_w(k, k + 1) for k in (*before, *after) if self._follows[k]]
        return float(np.median(found)) if found else None

    def _power_w(self, left: int, right: int) -> float:
        """Mean power from one value to another; no less than one count's, so that it has a logarithm."""
        counts = float(self._limits.distance(self._count[left], self._count[right]))
        length_s = float(self._since_ns[right] - self._since_ns[left]) / NS_PER_S
        return max(counts, 1.0) * self._limits.unit_j / length_s
