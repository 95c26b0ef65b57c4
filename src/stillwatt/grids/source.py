"""What every grid source is: a name, a signal, zones, and a series of hours; `binned` makes hours of what they send."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

from stillwatt.errors import GridError, UsageError
from stillwatt.records.grid import HOUR_NS, Answer, Hour, HourlySeries, NoHour, NoSeries, Signal
from stillwatt.units import NS_PER_S, NS_PER_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_DAYS = 400
"""A longer period is a slip of the pen, and many requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Whole hours, from the first one's beginning to the last one's end."""

    start_utc_ns: int
    end_utc_ns: int

    def __post_init__(self) -> None:
        if self.start_utc_ns % HOUR_NS or self.end_utc_ns % HOUR_NS or self.end_utc_ns <= self.start_utc_ns:
            raise ValueError(f"{self.start_utc_ns} to {self.end_utc_ns} are not whole hours in order")

    @property
    def hours(self) -> range:
        """Beginnings of its hours."""
        return range(self.start_utc_ns, self.end_utc_ns, HOUR_NS)

    def pieces(self, most_hours: int) -> Iterator[Span]:
        """The same in pieces of at most so many hours."""
        step = most_hours * HOUR_NS
        for start in range(self.start_utc_ns, self.end_utc_ns, step):
            yield Span(start_utc_ns=start, end_utc_ns=min(start + step, self.end_utc_ns))


class GridSource(Protocol):
    """One service that knows hourly intensities."""

    name: ClassVar[str]
    signal: ClassVar[Signal]
    boundary: ClassVar[str]
    """What its intensities count."""
    licence: ClassVar[str]
    url: ClassVar[str]
    example: ClassVar[str]
    """One of its own codes."""

    def zone_of(self, place: str) -> str | None:
        """The service's code of the zone that a place's code means; None where it has none."""
        ...

    def is_zone(self, code: str) -> bool:
        """Whether a word has the form of the service's own codes; it need not be one of them."""
        ...

    def series(self, zone: str, span: Span) -> HourlySeries | NoSeries:
        """The hours of a span; `NoSeries` where the service has nothing for it.

        Raises:
            GridError: no answer, a refusal, or an answer that cannot be understood.
        """
        ...


def series_of(
    service: GridSource,
    zone: str,
    found: tuple[tuple[Hour, ...], tuple[NoHour, ...]],
    answers: Iterable[Answer],
    *,
    cautions: Iterable[str] = (),
    is_read: bool = True,
) -> HourlySeries | NoSeries:
    """What a service's hours come to: a series under its name, or why there is none.

    Args:
        service: whose they are.
        zone: its own code.
        found: hours, and those that are missing with the reason.
        answers: what they were read in.
        cautions: what is to be known of them.
        is_read: as of the series.
    """
    hours, missing = found
    if not hours:
        return NoSeries(source=service.name, zone=zone, reason=missing[0].reason)
    return HourlySeries(
        source=service.name,
        zone=zone,
        signal=service.signal,
        boundary=service.boundary,
        licence=service.licence,
        source_url=service.url,
        hours=hours,
        missing=missing,
        answers=tuple(answers),
        cautions=tuple(cautions),
        is_read=is_read,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a service says of a time, as short or long as its own steps are."""

    start_utc_ns: int
    length_ns: int
    value: float | None
    """None where it names the time and gives nothing."""
    is_estimated: bool = False


def binned(readings: Iterable[Reading], span: Span) -> tuple[tuple[Hour, ...], tuple[NoHour, ...]]:
    """Hours of a span from steps of an hour or shorter: the mean of those that fill the hour, or why it has none."""
    by_hour: dict[int, list[Reading]] = {at: [] for at in span.hours}
    for reading in readings:
        at = reading.start_utc_ns // HOUR_NS * HOUR_NS
        if at in by_hour:
            by_hour[at].append(reading)
    hours: list[Hour] = []
    missing: list[NoHour] = []
    for at, found in by_hour.items():
        if reason := _unfit(found):
            missing.append(NoHour(start_utc_ns=at, reason=reason))
            continue
        total = math.fsum((reading.value or 0.0) * reading.length_ns for reading in found)
        estimated = any(reading.is_estimated for reading in found)
        hours.append(Hour(start_utc_ns=at, value_g_per_kwh=total / HOUR_NS, is_estimated=estimated))
    return tuple(hours), tuple(missing)


def _unfit(found: Sequence[Reading]) -> str:
    """Why the steps of an hour make no mean; empty where they do."""
    if not found:
        return "the answer has nothing for this hour"
    absent = sum(reading.value is None for reading in found)
    if absent:
        return f"the source gives no value for {absent} of {len(found)} steps of this hour"
    if any(reading.value is not None and reading.value < 0.0 for reading in found):
        return "the source gives a value below 0, which is no intensity"
    starts = {reading.start_utc_ns for reading in found}
    length_ns = sum(reading.length_ns for reading in found)
    if len(starts) != len(found) or length_ns > HOUR_NS:
        return "the source gives a time of this hour more than once"
    if length_ns < HOUR_NS:
        return f"the answer covers {length_ns // (60 * NS_PER_S)} of 60 minutes of this hour"
    return ""


def utc_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time; one without a zone is UTC.

    Raises:
        ValueError: it is none.

    >>> utc_ns("1970-01-01T01:00Z") == HOUR_NS
    True
    """
    moment = datetime.fromisoformat(text.strip())
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1) * NS_PER_US


def utc_text(at_utc_ns: int, form: str = "%Y-%m-%dT%H:%MZ") -> str:
    """A time as services want it in their addresses, to the minute.

    >>> utc_text(HOUR_NS)
    '1970-01-01T01:00Z'
    """
    return (_EPOCH + timedelta(microseconds=at_utc_ns // NS_PER_US)).strftime(form)


def span_of(start: str, end: str) -> Span:
    """The whole hours that a time from and a time to touch.

    Raises:
        UsageError: no times, in the wrong order, or more than a year apart.

    >>> len(span_of("2026-01-01", "2026-01-02").hours)
    24
    """
    found = []
    for text in (start, end):
        try:
            found.append(utc_ns(text))
        except (ValueError, OverflowError):
            raise UsageError(f"{text!r} is no time; write one as 2026-01-31 or 2026-01-31T14:00Z (UTC)") from None
    first, last = found[0] // HOUR_NS * HOUR_NS, -(-found[1] // HOUR_NS) * HOUR_NS
    if last <= first:
        raise UsageError(f"{end} does not lie after {start}")
    if last - first > _LONGEST_DAYS * 24 * HOUR_NS:
        raise UsageError(f"{start} to {end} is more than {_LONGEST_DAYS} days; ask for less at a time")
    return Span(start_utc_ns=first, end_utc_ns=last)


class Document:
    """Reads an answer, and says where it is not as it should be."""

    def __init__(self, source: str, data: Any, at: str = "$") -> None:
        self._source, self._data, self._at = source, data, at

    def rows(self, key: str) -> list[Document]:
        """The list at a key.

        Raises:
            GridError: no list there.
        """
        found = self._data.get(key) if isinstance(self._data, Mapping) else None
        if not isinstance(found, list):
            raise self._fault(f"no list at {self._at}.{key}")
        return [Document(self._source, row, f"{self._at}.{key}[{number}]") for number, row in enumerate(found)]

    def part(self, key: str) -> Document:
        """The object at a key.

        Raises:
            GridError: no object there.
        """
        found = self._data.get(key) if isinstance(self._data, Mapping) else None
        if not isinstance(found, Mapping):
            raise self._fault(f"no object at {self._at}.{key}")
        return Document(self._source, found, f"{self._at}.{key}")

    def text(self, key: str, default: str | None = None) -> str:
        """The text at a key.

        Raises:
            GridError: no text there, and no default.
        """
        found = self._data.get(key, default) if isinstance(self._data, Mapping) else default
        if not isinstance(found, str):
            raise self._fault(f"no text at {self._at}.{key}")
        return found

    def time(self, key: str) -> int:
        """The time at a key, in nanoseconds since 1970.

        Raises:
            GridError: no time there.
        """
        text = self.text(key)
        try:
            return utc_ns(text)
        except (ValueError, OverflowError):
            raise self._fault(f"{text[:40]!r} at {self._at}.{key} is no time") from None

    def number(self, key: str) -> float | None:
        """The number at a key; None where there is null, or nothing.

        Raises:
            GridError: something else there.
        """
        found = self._data.get(key) if isinstance(self._data, Mapping) else None
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise self._fault(f"{str(found)[:40]!r} at {self._at}.{key} is no number")
        return float(found)

    def says(self, key: str) -> bool:
        """Whether true stands at a key."""
        return isinstance(self._data, Mapping) and self._data.get(key) is True

    def _fault(self, detail: str) -> GridError:
        return GridError(self._source, f"its answer cannot be understood: {detail}")
