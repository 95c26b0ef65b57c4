"""NVIDIA cards as they are read: what there is of each, and what a reading does in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from stillwatt.records import Absent, Boundary, Channel, NotDue
from stillwatt.sensors.nvml_buffer import PowerBuffer
from stillwatt.sensors.nvml_library import TOTAL_ENERGY, PairReader, Reader, patiently
from stillwatt.sensors.nvml_sources import Source
from stillwatt.sensors.runs import Layout


class Pair(NamedTuple):
    """The counter and the power of one card that are read in one call."""

    reader: PairReader
    counter: Source
    power: Source


@dataclass(slots=True)
class ReadCard:
    """A physical GPU, with what can be read of it."""

    part: str
    uuid: str
    handle: Any
    buffer: PowerBuffer
    channels: list[tuple[Channel, Source]] = field(default_factory=list)
    pair: Pair | None = None
    """Those of the channels' sources that are read together."""


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


class PairTurn(NamedTuple):
    """A pair's place in a reading: the call, and what it is for."""

    function: Callable[..., int]
    arguments: tuple[Any, ...]
    seen: Any
    pair: Pair


class Plan(NamedTuple):
    """What is read in which order, with the calls made ready for the handles that the cards have now."""

    pairs: Sequence[PairTurn] = ()
    turns: Sequence[Turn] = ()
    layout: Layout = Layout((), ())

    @staticmethod
    def of(cards: Sequence[ReadCard]) -> Plan:
        """Pairs first, then what is read by itself."""
        pairs = [PairTurn(*card.pair.reader.bare(card.handle), card.pair) for card in cards if card.pair is not None]
        together = {id(source) for turn in pairs for source in turn.pair[1:]}
        turns = [_turn(card, source) for card in cards for _, source in card.channels if id(source) not in together]
        streams = [*((turn.pair.counter.stream, turn.pair.power.stream) for turn in pairs)]
        return Plan(pairs, turns, Layout.of([*streams, *((turn.stream.source.stream,) for turn in turns)]))


def pair_of(nvml: Any, handle: Any, counter: Source, power: Source) -> Pair | None:
    """One call for both; None where power is no field, or the card does not prove that it counts the same there."""
    if not power.number or counter.every_ns or power.every_ns:
        return None
    reader = PairReader(nvml, power.number)

    def count() -> int:
        function, arguments, _ = reader.bare(handle)
        code = function(*arguments)
        reader.power(code)
        return reader.counter(code)

    try:
        before = patiently(nvml, counter.read, handle)
        counted = patiently(nvml, count)
        after = patiently(nvml, counter.read, handle)
    except nvml.NVMLError:
        return None
    if not before <= counted <= after:
        return None
    field = f"nvmlDeviceGetFieldValues(NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION = {TOTAL_ENERGY})"
    return Pair(reader, replace(counter, read_as=field), power)


def _turn(card: ReadCard, source: Source) -> Turn:
    """The turn of one quantity."""
    stream = Stream(card, source, NotDue(stream=source.stream))
    if source.every_ns or source.is_buffer or not isinstance(source.read, Reader):
        return Turn(None, (), None, stream)
    return Turn(*source.read.bare(card.handle), stream)


def seen_cards(device_root: Path, detail: str) -> tuple[Absent, ...]:
    """Cards that have a device file here, so this process was meant to use them, and that cannot be read."""
    files = sorted(path.name for path in device_root.glob("nvidia[0-9]*"))
    numbers = sorted(int(name[6:]) for name in files if name[6:].isdigit())
    return tuple(Absent(part=f"gpu{number}", boundary=Boundary.BOARD, reason=f"nvml: {detail}") for number in numbers)
