"""Readings and the holes between them. Bulk samples travel as arrays, never as these objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_COUNT = 2.0**64
"""No instrument's register goes further. A reading beyond is no reading: the squares that intervals are made of would
overflow, and one such number would leave a whole run without an account."""

_MOST_BITS, _MOST_LETTERS = 64, 60


def shown_count(count: object) -> str:
    """What is no count, on a short line; never raises, whatever it is.

    >>> shown_count(float("nan")), shown_count(2**70)
    ('nan', 'a number of 71 bits')
    """
    if isinstance(count, int) and count.bit_length() > _MOST_BITS:
        return f"a number of {count.bit_length()} bits"  # its digits would be too many to write
    try:
        return repr(count)[:_MOST_LETTERS]
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything, and the meter may not
        return f"<{type(count).__name__}>"


@dataclass(slots=True)
class Reading:
    """One reading of one stream: the count as the instrument gave it, at a monotonic time.

    Not frozen: hundreds are made a second while others work, and a frozen one takes twice as long to make.
    """

    stream: str
    t_ns: int
    count: float
    """Whole for counters (exact below 2**53), watts or milliwatts for power; `Channel.unit_si` scales it."""


class Readings(NamedTuple):
    """Several readings of one stream that came at once, oldest first: what an instrument kept meanwhile."""

    stream: str
    times_ns: Sequence[int]
    counts: Sequence[float]
    """One for each of `times_ns`; neither is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDue:
    """Nothing new to read of a stream yet: neither a reading nor a failure."""

    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFailure:
    """One reading that failed, and why."""

    stream: str
    t_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lull:
    """A span in which a session read more rarely than else, because no stage began or ended for long."""

    start_ns: int
    end_ns: int
    period_ns: int

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns or self.period_ns <= 0:
            raise ValueError(f"no lull reaches from {self.start_ns} to {self.end_ns} at {self.period_ns} ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGap:
    """A span in which a stream has no readings; written to the journal, never bridged in silence."""

    stream: str
    start_ns: int
    end_ns: int
    failed_reads: int
    reason: str

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(f"{self.stream}: a gap cannot end ({self.end_ns}) before it starts ({self.start_ns})")
