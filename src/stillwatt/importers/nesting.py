"""Which spans of time lie in which, and which overlap only in part; in time that grows little faster than their number.

Spans stand in the order they begin, of those that begin together the longest first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A span of time with both ends."""

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """Between its ends."""
        return self.end_ns - self.start_ns


def innermost_around(spans: Sequence[Span]) -> list[int | None]:
    """For each span the place of the shortest earlier one around it, of equal ones the last; None where there is none.

    >>> innermost_around([Span(0, 9), Span(1, 5), Span(2, 4), Span(6, 8), Span(9, 10)])
    [None, 0, 1, 0, None]
    """
    # spans so far by their ends, without those that a shorter one outlasts: the later the end, the longer the span
    ends_ns: list[int] = []
    keys: list[tuple[int, int]] = []  # length, and the place as what is last of equal ones comes first
    around: list[int | None] = []
    for place, span in enumerate(spans):
        found = bisect_left(ends_ns, max(span.end_ns, span.start_ns + 1))
        around.append(-keys[found][1] if found < len(keys) else None)
        key = (span.length_ns, -place)
        first, last = bisect_left(keys, key), bisect_right(ends_ns, span.end_ns)
        if first <= last:
            ends_ns[first:last] = [span.end_ns]
            keys[first:last] = [key]
    return around


def crossing(spans: Sequence[Span]) -> dict[int, int]:
    """The places of spans that overlap a longer one in part, each with the place of the longest such.

    A span is held only against those that cross none themselves: where two cross, the longer stands.

    >>> crossing([Span(0, 6), Span(1, 3), Span(4, 8), Span(7, 10)])
    {2: 0}
    """
    # those kept so far lie in one another or apart, so that of all that end inside a span the longest ends last,
    # and of all that begin inside it the longest begins first
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    by_length = sorted(range(len(spans)), key=lambda place: (-spans[place].length_ns, place))
    found: dict[int, int] = {}
    for rank, place in enumerate(by_length):
        span = spans[place]
        next_start = bisect_left(starts, (span.start_ns + 1, 0))
        last_end = bisect_left(ends, (span.end_ns, -len(spans))) - 1
        cut = [starts[next_start][1]] if next_start < len(starts) and starts[next_start][0] < span.end_ns else []
        cut += [-ends[last_end][1]] if last_end >= 0 and ends[last_end][0] > span.start_ns else []
        if cut:
            found[place] = by_length[min(cut)]
        else:
            insort(starts, (span.start_ns, rank))
            insort(ends, (span.end_ns, -rank))
    return found
