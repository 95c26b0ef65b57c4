"""Two clocks, handed in: monotonic for lengths, wall for labels.

`SystemClock` is the only place that reads either. Tests use a fake with the same two methods.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the rest of the project may ask of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never goes back; shared by all processes of one Linux host."""
        ...

    def utc_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z; may be set, so it labels and never measures."""
        ...


class SystemClock:
    """The operating system's clocks; both are read hundreds of times a second, so nothing stands in between."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    """Read CLOCK_MONOTONIC."""
    utc_ns = staticmethod(time.time_ns)
    """Read CLOCK_REALTIME."""


def iso_utc(utc_ns: int) -> str:
    """Write a wall-clock label in ISO 8601, to the millisecond, in UTC.

    >>> iso_utc(1_500_000_000)
    '1970-01-01T00:00:01.500Z'
    """
    moment = _EPOCH + timedelta(microseconds=utc_ns // 1_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
