"""One stream's readings as arrays, in time order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stillwatt.records.channel import Channel
from stillwatt.records.sample import MOST_COUNT, Lull, SampleGap

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_GAP_PERIODS = 3
"""Readings further apart than this many sampling periods have a gap between them (method.md, eq. 5)."""
_GAP_UPDATES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """All readings of one stream in one session.

    Readings are put in time order; of readings with the same time the last is kept, and a count that is no number, or
    larger than any instrument's (`MOST_COUNT`), is no reading. `dropped` says how many were left out in this way.
    Arrays in order are not copied.

    Attributes:
        channel: what the counts mean.
        t_ns: shape [n], strictly increasing times of the readings.
        count: shape [n], the counts as the instrument gave them; `channel.unit_si` scales them.
        gaps: spans the sampling process reported as unread, with their failed reads.
        lulls: spans in which it read more rarely, in their order.
        dropped: readings left out because of their time or count.
    """

    channel: Channel
    t_ns: IntArray
    count: FloatArray
    gaps: tuple[SampleGap, ...] = ()
    lulls: tuple[Lull, ...] = ()
    dropped: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        t_ns = np.asarray(self.t_ns, dtype=np.int64)
        count = np.asarray(self.count, dtype=np.float64)
        if t_ns.ndim != 1 or t_ns.shape != count.shape:
            raise ValueError(f"{self.channel.stream}: {t_ns.shape} times do not go with {count.shape} counts")
        t_sorted, count_sorted = in_order(t_ns, count)
        object.__setattr__(self, "t_ns", t_sorted)
        object.__setattr__(self, "count", count_sorted)
        object.__setattr__(self, "dropped", t_ns.size - t_sorted.size)

    @property
    def period_ns(self) -> int:
        """Time between readings: as the sampling process was told, else the median; 0 with fewer than two readings.

        What it was told is better: while it looks closely at stage edges, most readings are milliseconds apart.
        """
        if self.t_ns.size < 2:
            return 0
        return self.channel.sampling_period_ns or int(np.median(np.diff(self.t_ns)))

    @property
    def max_gap_ns(self) -> int:
        """The largest distance between two readings that still counts as covered, but in lulls (method.md, eq. 5)."""
        return max(_GAP_PERIODS * self.period_ns, _GAP_UPDATES * self.channel.update_period_ns)

    @property
    def allowed_ns(self) -> IntArray:
        """The same for each pair of neighbouring readings; shape [n - 1], larger where a lull lies between."""
        allowed_ns = np.full(max(0, self.t_ns.size - 1), self.max_gap_ns, dtype=np.int64)
        for lull in self.lulls:
            first = max(0, int(np.searchsorted(self.t_ns, lull.start_ns, side="right")) - 1)
            touched = slice(first, int(np.searchsorted(self.t_ns, lull.end_ns)))
            allowed_ns[touched] = np.maximum(allowed_ns[touched], _GAP_PERIODS * lull.period_ns)
        return allowed_ns


def in_order(t_ns: IntArray, count: FloatArray) -> tuple[IntArray, FloatArray]:
    """Readings in time order, of those with one time the last, and none whose count no instrument can mean.

    What is so already comes back as it is, not copied: a week of eight cards is gigabytes.

    >>> in_order(np.array([3, 1, 1, 2]), np.array([30.0, 10.0, 11.0, np.nan]))
    (array([1, 3]), array([11., 30.]))
    """
    # extremes take no memory, and of a NaN either is one, which no comparison holds of
    are_counts = not count.size or (count.max() <= MOST_COUNT and count.min() >= -MOST_COUNT)
    if np.all(t_ns[1:] > t_ns[:-1]) and are_counts:
        return t_ns, count
    usable = np.abs(count) <= MOST_COUNT
    order = np.argsort(t_ns[usable], kind="stable")
    times, counts = t_ns[usable][order], count[usable][order]
    is_last = np.append(np.diff(times) > 0, np.ones(min(1, times.size), dtype=np.bool_))
    return times[is_last], counts[is_last]
