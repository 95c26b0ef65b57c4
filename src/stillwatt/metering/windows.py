"""Windows of many owners as arrays: disjoint, in time order, each with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.series import FloatArray, IntArray
from stillwatt.units import NS_PER_S

_DIGITS = 12
"""Weights that differ by less than 10**-12 are the same; sums of thirds carry such remainders."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """For each of `num_owners` owners a step function of time: which share of that moment is theirs.

    Attributes:
        owner: shape [n], index of the owner; sorted.
        start_ns: shape [n].
        end_ns: shape [n], later than the start.
        weight: shape [n], above 0.
        num_owners: owners, with or without windows.
    """

    owner: IntArray
    start_ns: IntArray
    end_ns: IntArray
    weight: FloatArray
    num_owners: int

    def per_owner(self, amounts: FloatArray) -> FloatArray:
        """Add one amount per window up to one per owner."""
        return sums(self.owner, amounts, self.num_owners)

    @property
    def seconds(self) -> FloatArray:
        """Weighted seconds of each owner."""
        return self.per_owner(self.weight * ((self.end_ns - self.start_ns) / NS_PER_S))


def profile(owners: Sequence[Sequence[WeightedWindow]]) -> Profile:
    """Lay the windows of each owner over each other: overlapping weights add, equal neighbours join.

    >>> both = profile([[WeightedWindow(0, 4, 0.5), WeightedWindow(2, 6, 0.5)]])
    >>> both.start_ns.tolist(), both.weight.tolist()
    ([0, 2, 4], [0.5, 1.0, 0.5])
    """
    owner = np.repeat(np.arange(len(owners), dtype=np.int64), [len(windows) for windows in owners])
    flat = [window for windows in owners for window in windows]
    start_ns = np.array([window.start_ns for window in flat], dtype=np.int64)
    end_ns = np.array([window.end_ns for window in flat], dtype=np.int64)
    weight = np.array([window.weight for window in flat], dtype=np.float64)
    if np.any(end_ns < start_ns) or np.any(weight <= 0):
        raise ValueError("a window must not end before it starts, and needs a weight above 0")
    times = np.concatenate((start_ns, end_ns))
    marks = np.concatenate((owner, owner))
    order = np.lexsort((times, marks))
    times, marks = times[order], marks[order]
    level = np.round(np.cumsum(np.concatenate((weight, -weight))[order]), _DIGITS)
    # after all changes at one time of one owner, the level holds until that owner's next time
    is_last = np.append((np.diff(times) != 0) | (np.diff(marks) != 0), True)[: times.size]
    times, marks, level = times[is_last], marks[is_last], level[is_last]
    before = np.append(0.0, level)[: level.size]
    changes = level != before
    times, marks, level = times[changes], marks[changes], level[changes]
    opens = np.flatnonzero(level)
    return Profile(marks[opens], times[opens], times[opens + 1], level[opens], len(owners))


def sums(owner: IntArray, amounts: FloatArray, num_owners: int) -> FloatArray:
    """Add amounts up by owner.

    >>> sums(np.array([0, 2, 0]), np.array([1.0, 2.0, 3.0]), 3).tolist()
    [4.0, 0.0, 2.0]
    """
    return np.bincount(owner, weights=amounts, minlength=num_owners).astype(np.float64)
