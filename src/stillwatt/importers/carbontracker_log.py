"""CarbonTracker's standard and output logs as they are written: epochs, powers and totals, each line checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import LeftOut
from stillwatt.importers.numbers import MAX_W, count, energy_kwh, length_s, needed
from stillwatt.importers.tables import moment

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) - (.*)", re.ASCII)
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) - ", re.ASCII | re.MULTILINE)
_VERSION = re.compile(r"carbontracker version (\S+)")
_PUE = re.compile(r"PUE\s+coefficient of (\d[\d.]*\d|\d)", re.ASCII)
_COMPONENT = re.compile(r" (\S+?) with device\(s\) (.*?)\.(?= \S+ with device|$)")
_EPOCH = re.compile(r"Epoch (\S+):")
_DURATION = re.compile(r"Duration: (.+)")
_TIME = re.compile(r"(\d{1,9}):(\d\d):(\d\d(?:\.\d{1,9})?)", re.ASCII)
_POWER = re.compile(r"Average power usage \(W\) for (\S+): (.+)")
_ARRAY = re.compile(r"\[([^\[\]]*)\]")
_ONE_READING = frozenset({("GPU", "ANE")})
"""Devices that the tool lists apart and reads as one: Apple's graphics and neural engine."""
_ACTUAL = re.compile(
    r"Actual consumption(?: for (\S+) epoch\(s\))?:[^\S\n]*\n\s*Time:\s*(\S.*?)\s*\n\s*Energy:\s*(\S+) kWh"
)


@dataclass(slots=True)
class Epoch:
    """One epoch of the standard log; `duration_s` is 0 where it has none that can be used."""

    number: int
    line: int
    end_ns: int
    duration_s: float = 0.0
    powers_w: dict[str, tuple[float, ...] | str] = field(default_factory=dict)
    """By component: one mean power or one a device, or why there is none."""

    @property
    def facts(self) -> tuple[object, ...]:
        """What is told of it, wherever it is told."""
        return (self.number, self.end_ns, self.duration_s, tuple(sorted(self.powers_w.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The output log's energy up to an epoch, the PUE multiplied in."""

    line: int
    end_ns: int
    epochs: int
    length_s: float
    kwh: float


@dataclass(slots=True)
class Log:
    """What a standard log, an output log or both of one run say."""

    version: str = ""
    pue: float | None = None
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)
    is_interrupted: bool = False
    faults: list[LeftOut] = field(default_factory=list)


def read_standard(file: LogFile, log: Log) -> None:
    """Add what a standard log says; lines that cannot be meant are faults, epochs that are logged twice count once.

    Raises:
        ConfigError: the file is no text.
    """
    reader = _Standard(log)
    for line, stamp, message in _messages(file.text):
        try:
            reader.take(line, stamp, message)
        except ValueError as err:
            log.faults.append(LeftOut(name=file.name, line=line, reason=str(err)))
    first: dict[tuple[object, ...], Epoch] = {}
    for epoch in log.epochs:
        if first.setdefault(epoch.facts, epoch) is not epoch:
            reason = (
                f"epoch {epoch.number} is logged twice: line {first[epoch.facts].line} says the same and is counted"
            )
            log.faults.append(LeftOut(name=file.name, line=epoch.line, reason=reason))
    log.epochs = list(first.values())


def _messages(text: str) -> Iterator[tuple[int, str, str]]:
    """The line, stamp and words of each message; powers that numpy prints over several lines are one."""
    line, stamp, words, is_open = 0, "", [""], False
    for number, written in enumerate(text.splitlines(), start=1):
        bare = written.strip()
        if match := _LINE.fullmatch(bare):
            if line:
                yield line, stamp, " ".join(words)
            line, stamp, words = number, match.group(1), [match.group(2)]
            is_open = _POWER.fullmatch(words[0]) is not None and "[" in bare and "]" not in bare
        elif is_open:
            words.append(bare)
            is_open = "]" not in bare
    if line:
        yield line, stamp, " ".join(words)


def is_one_reading(devices: Sequence[str]) -> bool:
    """Whether one power is all that the tool reads of some devices.

    >>> is_one_reading(["NVIDIA A100"]), is_one_reading(["GPU", "ANE"]), is_one_reading(["NVIDIA A100"] * 2)
    (True, True, False)
    """
    return len(devices) <= 1 or tuple(devices) in _ONE_READING


class _Standard:
    """Takes a standard log's messages; those after an epoch's first line are of that epoch."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._epoch: Epoch | None = None

    def take(self, line: int, stamp: str, message: str) -> None:
        """One message.

        Raises:
            ValueError: it cannot be meant.
        """
        if match := _EPOCH.fullmatch(message):
            self._epoch = None  # what follows an epoch that cannot be read is not of the one before
            number = int(count(needed(match.group(1), "epoch"), "epoch"))
            self._epoch = Epoch(number, line, moment(stamp).utc_ns)
            self._log.epochs.append(self._epoch)
        elif match := _DURATION.fullmatch(message):
            if self._epoch is not None:
                self._epoch.duration_s = _seconds(match.group(1), "Duration")
        elif match := _POWER.fullmatch(message):
            if self._epoch is not None:
                self._power(self._epoch, match.group(1).lower(), match.group(2))
        else:
            self._head(message)

    def _power(self, epoch: Epoch, part: str, text: str) -> None:
        if text.strip() == "None":
            epoch.powers_w[part] = "the epoch was too short for a reading"
            return
        try:
            epoch.powers_w[part] = _powers(text, self._log.devices.get(part, ()))
        except ValueError as err:
            reason = f"CarbonTracker wrote {text.strip()[:40]} W, which cannot be meant: {err}"
            epoch.powers_w[part] = reason
            raise ValueError(f"{part}: {reason}") from err

    def _head(self, message: str) -> None:
        if match := _VERSION.search(message):
            self._log.version = match.group(1)
        if "The following components were found:" in message and not self._log.devices:
            found = _COMPONENT.findall(message.partition("found:")[2])
            self._log.devices = {name.lower(): tuple(d.strip() for d in devices.split(",")) for name, devices in found}
        self._log.is_interrupted = self._log.is_interrupted or "Training was interrupted" in message
        if match := _PUE.search(message):
            pue = needed(match.group(1), "PUE")
            if not 1.0 <= pue <= 10.0:
                raise ValueError(f"a PUE of {pue:g} cannot be meant")
            self._log.pue = pue


def read_output(file: LogFile, log: Log) -> None:
    """Add the totals of an output log; those that cannot be meant are faults.

    Raises:
        ConfigError: the file is no text.
    """
    for match in _ACTUAL.finditer(file.text):
        line = file.text.count("\n", 0, match.start()) + 1
        try:
            log.totals.append(_total(file.text[: match.start()], line, *match.groups()))
        except ValueError as err:
            log.faults.append(LeftOut(name=file.name, line=line, reason=str(err)))


def _total(before: str, line: int, epochs: str | None, length: str, kwh: str) -> Total:
    stamps = _STAMP.findall(before)
    if not stamps:
        raise ValueError("no time stands before this total, so when it was drawn is not known")
    number = int(count(needed(epochs or "1", "epochs"), "epochs"))
    length_s = _seconds(length, "Time")
    value_kwh = needed(kwh, "Energy")
    if energy_kwh(value_kwh, "Energy", length_s) < 0:
        raise ValueError(f"Energy = {value_kwh:g} kWh cannot be meant")
    return Total(line=line, end_ns=moment(stamps[-1]).utc_ns, epochs=number, length_s=length_s, kwh=value_kwh)


def _powers(text: str, devices: Sequence[str]) -> tuple[float, ...]:
    """A number, or as many in brackets as there are devices, as numpy prints them.

    Raises:
        ValueError: a power is no number or no machine's, or some are missing.
    """
    array = _ARRAY.fullmatch(text.strip())
    if array is None and ("[" in text or "]" in text):
        raise ValueError("its brackets do not close, so powers of some devices may be missing")
    words = (array.group(1) if array else text).replace(",", " ").split()
    powers = tuple(needed(word, "power") for word in words)
    if not powers or any(power < 0 for power in powers) or math.fsum(powers) > MAX_W:
        raise ValueError("no machine draws that")
    num_devices = 1 if is_one_reading(devices) else len(devices)
    if array and devices and len(powers) != num_devices:
        raise ValueError(f"{len(powers)} powers for {num_devices} devices")
    return powers


def _seconds(text: str, what: str) -> float:
    """A length written as hours, minutes and seconds.

    Raises:
        ValueError: it is not, or cannot be meant.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{what} = {text.strip()[:40]!r} is not hours, minutes and seconds")
    hours, minutes, rest = match.groups()
    return length_s((int(hours) * 60 + int(minutes)) * 60 + float(rest), what)
