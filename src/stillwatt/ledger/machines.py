"""Which places of a run are one machine, and which of their parts are one device: idle power is a device's own.

A run that is gone on with after a reboot stands on another clock and on the same hardware. Nodes of a launch, and a
machine that a run moved to, have other hardware whose parts are called the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stillwatt.ledger.places import Place, SeriesByPart
from stillwatt.metering.account import SessionAccount
from stillwatt.records.energy import Energy


class Accounted(Protocol):
    """A place with its streams and its account."""

    @property
    def place(self) -> Place:
        """Its sessions."""
        ...

    @property
    def series(self) -> SeriesByPart:
        """By part, the booked stream and its witness."""
        ...

    @property
    def account(self) -> SessionAccount:
        """Its energies."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """A part of one machine.

    Attributes:
        part: what it is called there.
        machine: number of the machine among the run's.
        device: what its driver calls it; empty where nobody says.
    """

    part: str
    machine: int
    device: str


def devices(found: Sequence[Accounted]) -> tuple[dict[str, Device], ...]:
    """For each place the device behind each of its parts; the same one in places of one machine.

    A part that could not be read in one place and was in another of the same machine is held to be that one.
    """
    numbers = _machines([each.place for each in found])
    named = [{part: _device(each, part) for part in each.account.total} for each in found]
    known: dict[tuple[int, str], set[str]] = defaultdict(set)
    for number, names in zip(numbers, named, strict=True):
        for part, device in names.items():
            known[number, part].update([device] if device else [])
    return tuple(
        {
            part: Device(part, number, device or (min(own) if len(own := known[number, part]) == 1 else ""))
            for part, device in names.items()
        }
        for number, names in zip(numbers, named, strict=True)
    )


def labels(found: Sequence[Accounted], wanted: Sequence[Device]) -> dict[Device, str]:
    """Where each device is, in words: its host, or its own name too, where another of the run has the same name.

    Empty for a device that no other of `wanted` shares its name with.
    """
    numbers = _machines([each.place for each in found])
    hosts = {number: _host(each.place) for number, each in reversed(list(zip(numbers, found, strict=True)))}
    named = Counter(device.part for device in wanted)
    where = {device: hosts[device.machine] or "an unknown host" for device in wanted}
    same = Counter((device.part, where[device]) for device in wanted)
    return {
        device: ""
        if named[device.part] == 1
        else where[device]
        if same[device.part, where[device]] == 1
        else f"{where[device]} (machine {device.machine + 1}{f', {device.device}' if device.device else ''})"
        for device in wanted
    }


def _machines(found: Sequence[Place]) -> list[int]:
    """The number of each place's machine: places of one boot, or of one host name as long as they do not overlap.

    Two boots of one host name at the same time are two machines that somebody gave one name.
    """
    homes: list[list[Place]] = []
    numbers = []
    for place in found:
        number = next((n for n, home in enumerate(homes) if _is_home(place, home)), len(homes))
        if number == len(homes):
            homes.append([])
        homes[number].append(place)
        numbers.append(number)
    return numbers


def _is_home(place: Place, home: Sequence[Place]) -> bool:
    machine, host = place.sessions[0].origin.machine, _host(place)
    if machine and any(other.sessions[0].origin.machine == machine for other in home):
        return True
    return (not machine or bool(host)) and all(_host(other) == host and not _overlap(other, place) for other in home)


def _overlap(one: Place, other: Place) -> bool:
    ends_ns = [place.start_utc_ns + place.end_ns - place.start_ns for place in (one, other)]
    return one.start_utc_ns < ends_ns[1] and other.start_utc_ns < ends_ns[0]


def _host(place: Place) -> str:
    return place.sessions[0].origin.host


def _device(each: Accounted, part: str) -> str:
    if part in each.series:
        return each.series[part][0].channel.device
    energy = each.account.total[part]
    return energy.device if isinstance(energy, Energy) else ""
