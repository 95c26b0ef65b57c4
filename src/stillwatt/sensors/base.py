"""What every instrument answers to: probe, open, read, close."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from stillwatt.errors import UsageError
from stillwatt.records import Absent, Card, Channel, DeviceUse, NotDue, ReadFailure, Reading, Readings
from stillwatt.records.channel import is_part_name

Result = Reading | Readings | ReadFailure | NotDue
"""What reading one stream may bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a driver says of itself on this machine; made without an exception, whatever is wrong."""

    driver: str
    usable: bool
    detail: str
    """What was found, or exactly why the driver cannot be used."""
    cure: str = ""
    """What would make it usable (or better); empty where nothing needs to be done."""
    channels: tuple[Channel, ...] = ()
    absent: tuple[Absent, ...] = ()
    """Parts known to be in the machine that this driver cannot read."""


@runtime_checkable
class Sensor(Protocol):
    """An instrument.

    A constructor takes a `Clock` and the driver's options as keywords, opens nothing, and raises `UsageError`
    for an option that cannot be meant. Between `open` and `close` every `read` gives one result for each
    channel of `open`; the stamps of a stream never go back.
    """

    driver: str

    def probe(self) -> Probe:
        """Say whether the instrument can be used here; never raises, leaves nothing open."""
        ...

    def open(self) -> tuple[Channel, ...]:
        """Make ready to read; opening what is open gives the same channels again.

        Raises:
            SensorUnavailableError: it cannot be used; says why and what would cure it.
        """
        ...

    def read(self) -> Sequence[Result]:
        """Read every stream once; the driver's own errors come back as `ReadFailure`, in its own words.

        A stream whose instrument has nothing new yet gives `NotDue`; one that kept several readings gives
        them all as `Readings`. What comes may be made only when it is looked at.
        """
        ...

    def close(self) -> None:
        """Let go of the instrument; closing what is closed is no error."""
        ...


class Urgency(IntEnum):
    """How much a reading matters."""

    IN_TURN = 0
    """One of many."""
    AT_EDGE = 1
    """At a stage's edge, or in the close look that follows it."""
    LAST = 2
    """There is none after it."""


@runtime_checkable
class Paced(Protocol):
    """An instrument some of whose streams cost much to read: it leaves them out (`NotDue`) where they can wait."""

    urgency: Urgency
    """Set before each `read` by whoever asks."""


@runtime_checkable
class Rests(Protocol):
    """A paced instrument that may be left alone between two readings, since it has nothing new of any stream."""

    @property
    def rests_ns(self) -> int:
        """For how long after a reading asking again in turn brings nothing at all; 0 where some stream never waits."""
        ...


@runtime_checkable
class SeesUsers(Protocol):
    """An instrument that also knows which processes are on its devices.

    Both calls work between `open` and `close`, in any thread, beside a `read` in another; they never raise for what a
    driver refuses.
    """

    def cards(self) -> tuple[Card, ...]:
        """Every card of the machine, those included that cannot be read."""
        ...

    def users(self, parts: Container[str]) -> tuple[DeviceUse, ...]:
        """Who is on each of these parts now, one answer a part; what the driver refuses is said in its `reason`."""
        ...


def checked_part(driver: str, part: str) -> str:
    """The name of a part that somebody gave as an option.

    Raises:
        UsageError: no part can be called so.
    """
    if not is_part_name(part):
        raise UsageError(f"sensor {driver!r}: part {part!r} must be letters, digits, '-' and '_'")
    return part
