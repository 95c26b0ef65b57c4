"""NVIDIA cards as they are read: what there is of each, and what a reading does in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stillwatt.records import Absent, Boundary, Channel, NotDue
from stillwatt.sensors.nvml_buffer import PowerBuffer
from stillwatt.sensors.nvml_library import Reader
from stillwatt.sensors.nvml_sources import Source


@dataclass(slots=True)
class ReadCard:
    """A physical GPU, with what can be read of it."""

    part: str
    uuid: str
    handle: Any
    buffer: PowerBuffer
    channels: list[tuple[Channel, Source]] = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """One quantity of one card."""

    card: ReadCard
    source: Source
    not_due: NotDue
    """What is said of it while it is not due."""


class Turn(NamedTuple):
    """A stream's place in a reading: the call itself, where there is nothing more to it, and what it is for."""

    function: Callable[..., int] | None
    arguments: tuple[Any, ...]
    seen: Any
    stream: Stream


def turn(card: ReadCard, source: Source) -> Turn:
    """The turn of one quantity, with the call made ready for the handle that the card has now."""
    stream = Stream(card, source, NotDue(stream=source.stream))
    if source.every_ns or source.is_buffer or not isinstance(source.read, Reader):
        return Turn(None, (), None, stream)
    return Turn(*source.read.bare(card.handle), stream)


def seen_cards(device_root: Path, detail: str) -> tuple[Absent, ...]:
    """Cards that have a device file here, so this process was meant to use them, and that cannot be read."""
    files = sorted(path.name for path in device_root.glob("nvidia[0-9]*"))
    numbers = sorted(int(name[6:]) for name in files if name[6:].isdigit())
    return tuple(Absent(part=f"gpu{number}", boundary=Boundary.BOARD, reason=f"nvml: {detail}") for number in numbers)
