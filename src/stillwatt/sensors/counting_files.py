"""Instruments that the kernel shows as files with one number each: kept open, read again at offset 0.

Where a kernel module is loaded anew its folders may be numbered otherwise, so that a path leads to another device. A
file that was lost is therefore looked for by what it belongs to, and not by its path alone.

A driver says which files there are and what each stands for; probing, opening, reading and closing are the same.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError
from stillwatt.records import Absent, Channel, Quantity, ReadFailure, Reading
from stillwatt.sensors.base import Probe
from stillwatt.units import GIGA

_NUMBER_BYTES = 32
_MOST_W = GIGA
_CURE_SILENT = "nothing to be allowed: the file itself gives no number, `cat` shows what it says"
_NUMBERED = re.compile(r"\d+$")


class OddPowerError(ValueError):
    """A power that nothing draws, as instruments give at times."""


@dataclass(slots=True)
class NumberFile:
    """A channel and the file that holds its count; a product of several files where `factors` names more."""

    path: Path
    channel: Channel
    factors: tuple[Path, ...] = ()
    unknown: int | None = None
    """The number by which the file says that it knows none."""
    _fds: dict[Path, int] = field(default_factory=dict)
    _owners: dict[Path, tuple[str, str]] = field(default_factory=dict)

    def read(self) -> float:
        """The count now; opens the files again after a failure, so that a reloaded module is found.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file holds no number, or none that can be meant.
        """
        count = 1.0
        for path in (self.path, *self.factors):
            count *= self._read_one(path)
        if count == self.unknown:
            raise ValueError("the instrument says that it knows none")
        value = count * self.channel.unit_si
        if self.channel.quantity is Quantity.POWER and not 0.0 <= value <= _MOST_W:
            raise OddPowerError(f"{value:.6g} W is no power that is drawn")
        return count

    def _read_one(self, path: Path) -> int:
        fd = self._fds.get(path, -1)
        if fd < 0:
            fd = self._fds[path] = os.open(self._place(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(fd, _NUMBER_BYTES, 0)
        except OSError:
            self.close()
            raise
        try:
            return int(text)
        except ValueError as err:
            self.close()
            raise ValueError(f"not a number ({err})") from None

    def _place(self, path: Path) -> Path:
        """Where the file is now: where it was, unless that folder belongs to another device."""
        owner = self._owners.setdefault(path, _owner(path.parent))
        folders_like = path.parent.parent.glob(_NUMBERED.sub("*", path.parent.name))
        for folder in (path.parent, *sorted(folders_like)):
            if _owner(folder) == owner and (folder / path.name).exists():
                return folder / path.name
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(path))

    def close(self) -> None:
        """Close what is open."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class FileSensor(ABC):
    """A sensor over number files; `find` is all that a driver adds."""

    driver: str
    cure_unreadable = "let this user read the file (`sudo chmod a+r`, or a udev rule)"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: tuple[NumberFile, ...] = ()

    @abstractmethod
    def find(self) -> list[NumberFile]:
        """Every file of this instrument here, readable or not, in a fixed order.

        Raises:
            SensorUnavailableError: there is none.
        """

    def probe(self) -> Probe:
        """Read every file once; says which are in the way."""
        try:
            files = self.find()
        except SensorUnavailableError as err:
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure)
        readable, refused, is_closed = [], [], False
        for file in files:
            try:
                file.read()
                readable.append(file.channel)
            except OddPowerError:
                readable.append(file.channel)  # one slip must not cost a run its instrument
            except (OSError, ValueError) as err:
                refused.append((file.channel, why(file.path, err)))
                is_closed = is_closed or isinstance(err, PermissionError)
            finally:
                file.close()
        absent = tuple(
            Absent(part=channel.part, boundary=channel.boundary, reason=f"{self.driver}: {reason}")
            for channel, reason in refused
        )
        names = [", ".join(f"{channel.part} ({channel.device})" for channel in readable)] if readable else []
        return Probe(
            driver=self.driver,
            usable=bool(readable),
            detail="; ".join([*names, *(reason for _, reason in refused)]),
            cure=(self.cure_unreadable if is_closed else _CURE_SILENT) if refused else "",
            channels=tuple(readable),
            absent=absent,
        )

    def open(self) -> tuple[Channel, ...]:
        """Keep every readable file open.

        Raises:
            SensorUnavailableError: there is none.
        """
        if not self._files:
            probe = self.probe()
            if not probe.usable:
                raise SensorUnavailableError(self.driver, probe.detail, probe.cure)
            streams = {channel.stream for channel in probe.channels}
            self._files = tuple(file for file in self.find() if file.channel.stream in streams)
        return tuple(file.channel for file in self._files)

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Read every file, each with its own time."""
        return [self._read_one(file) for file in self._files]

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files = ()

    def _read_one(self, file: NumberFile) -> Reading | ReadFailure:
        stream = file.channel.stream
        try:
            count = file.read()
        except (OSError, ValueError) as err:
            return ReadFailure(stream=stream, t_ns=self._clock.monotonic_ns(), reason=why(file.path, err))
        return Reading(stream=stream, t_ns=self._clock.monotonic_ns(), count=count)


def why(path: Path, err: OSError | ValueError) -> str:
    """Which file, and what the system said.

    >>> why(Path("/sys/x/power1_input"), PermissionError(13, "Permission denied"))
    '/sys/x/power1_input: Permission denied'
    """
    return f"{path}: {err.strerror if isinstance(err, OSError) else err}"


def bus_address(folder: Path) -> str:
    """Where a folder's chip is, by the device behind it; of one without a device, the folder's own name."""
    device = folder / "device"
    return os.path.basename(os.path.realpath(device)) if device.exists() else folder.name


def _owner(folder: Path) -> tuple[str, str]:
    """What a folder's files belong to: the chip's name and the device behind it, where the kernel names one."""
    device = folder / "device"
    return first_line(folder / "name"), os.path.realpath(device) if device.exists() else ""


def first_line(path: Path) -> str:
    """The text of a one-line file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def whole_number(path: Path) -> int | None:
    """A whole number in a file, or None where it cannot be read."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def folders(root: Path, pattern: str) -> list[Path]:
    """Folders below `root` that match, by number where their names end in one."""
    found = (path for path in root.glob(pattern) if path.is_dir())
    return sorted(found, key=lambda path: (path.parent, len(path.name), path.name))
