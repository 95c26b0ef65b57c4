"""Power and energy through Linux hwmon: Grace sockets and modules, AMD's energy driver, ACPI meters, named rails.

What hwmon shows differs from board to board, and its rails lie inside one another, so only three kinds are taken
without being asked for: the sockets of NVIDIA Grace (`power_meter` devices whose `power1_oem_info` names them), the
sockets of `amd_energy`, and an ACPI meter of the whole node. Anything else is named by the option `rails`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
from stillwatt.sensors.base import checked_part
from stillwatt.sensors.counting_files import FileSensor, NumberFile, bus_address, first_line, folders, whole_number
from stillwatt.units import J_PER_UJ, NS_PER_MS, NS_PER_S, W_PER_UW

_GRACE = re.compile(r"(Grace|CPU|SysIO|Module) Power Socket (\d+)")
_AMD_SOCKET = re.compile(r"Esocket(\d+)")
_FILE = re.compile(r"(power|energy)\d+_(input|average)")
_DEFAULT_PERIOD_NS = NS_PER_S
_UNKNOWN_UW = 0xFFFF_FFFF * 1000
"""What ACPI's number for a power that is not known, in milliwatts, becomes in the file."""
_CURE = (
    "hwmon shows power on NVIDIA Grace (kernel option CONFIG_SENSORS_ACPI_POWER), on AMD servers with the amd_energy "
    "module, on nodes with an ACPI power meter; for another chip name its files with the option `rails`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What one file stands for."""

    part: str
    boundary: Boundary
    what: str


_NODE = _Kind(part="node0", boundary=Boundary.NODE, what="ACPI power meter")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rail:
    """A file that was asked for by hand."""

    chip: str
    file: str
    device: str
    kind: _Kind


class HwmonSensor(FileSensor):
    """Power and energy files of `/sys/class/hwmon`.

    `rails` adds files by hand, each a table with `chip` (the hwmon name), `file` (`power1_input`, `energy1_input`, …),
    `part` and `boundary`, and with `device` (its address: the last name of what `device` links to) where several chips
    are called the same. `gain_rel` bounds the systematic error, which no maker states.
    """

    driver = "hwmon"

    def __init__(
        self,
        clock: Clock,
        *,
        root: str | os.PathLike[str] = "/sys/class/hwmon",
        rails: Sequence[Mapping[str, Any]] = (),
        gain_rel: float = 0.05,
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'hwmon': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        super().__init__(clock)
        self._root = Path(root)
        self._rails = [_rail(one) for one in rails]
        named = [(rail.kind.part, rail.file.startswith("energy")) for rail in self._rails]
        if len(set(named)) < len(named):
            raise UsageError("sensor 'hwmon': two rails have the same part; give each a name of its own")
        self._gain_rel = gain_rel

    def find(self) -> list[NumberFile]:
        """The known kinds, then the rails that were asked for.

        Raises:
            SensorUnavailableError: neither is here.
        """
        chips = [(folder, first_line(folder / "name")) for folder in folders(self._root, "hwmon*")]
        files = [file for folder, name in chips for file in self._known(folder, name)]
        meters = [file for file in files if file.channel.part == _NODE.part]
        if len(meters) > 1:  # which of them is the node, or whether they are to be added, nobody says
            files = [file for file in files if file not in meters]
        found = {file.channel.stream: file for file in files}
        found |= {file.channel.stream: file for file in (self._named(rail, chips) for rail in self._rails)}
        if not found:
            several = f", but {len(meters)} ACPI meters without a label" if meters else ""
            raise SensorUnavailableError(
                self.driver, f"no power or energy that is known in {self._root}{several}", _CURE
            )
        counted = {file.channel.part for file in found.values() if file.channel.quantity is Quantity.ENERGY_COUNTER}
        for file in found.values():
            if file.channel.part in counted and file.channel.quantity is Quantity.POWER:
                file.channel = replace(file.channel, role=Role.WITNESS)
        return list(found.values())

    def _named(self, rail: _Rail, chips: Sequence[tuple[Path, str]]) -> NumberFile:
        """The file of a rail that was asked for.

        Raises:
            SensorUnavailableError: there is none, or which of several it is was not said.
        """
        places = {
            bus_address(folder): folder for folder, name in chips if name == rail.chip and (folder / rail.file).exists()
        }
        if rail.device:
            places = {address: folder for address, folder in places.items() if address == rail.device}
        if not places:
            at = f" at {rail.device!r}" if rail.device else ""
            reason = f"no {rail.file} of a chip {rail.chip!r}{at} in {self._root}"
            raise SensorUnavailableError(self.driver, reason, _CURE)
        if len(places) > 1:
            reason = f"{len(places)} chips {rail.chip!r} have {rail.file}; say which by `device`: {', '.join(places)}"
            raise SensorUnavailableError(self.driver, reason, _CURE)
        (folder,) = places.values()
        return self._file(folder / rail.file, rail.chip, rail.kind)

    def _known(self, folder: Path, name: str) -> Iterator[NumberFile]:
        if name == "power_meter" and (folder / "power1_average").exists():
            kind = _power_meter(first_line(folder / "power1_oem_info"))
            if kind is not None and whole_number(folder / "power1_is_battery") != 1:
                yield self._file(folder / "power1_average", name, kind)
        elif name == "amd_energy":
            for label in sorted(folder.glob("energy*_label")):
                socket = _AMD_SOCKET.fullmatch(first_line(label))
                if socket:
                    kind = _Kind(part=f"cpu{socket[1]}", boundary=Boundary.CHIP, what=f"socket {socket[1]}")
                    yield self._file(label.with_name(label.name.replace("_label", "_input")), name, kind)

    def _file(self, path: Path, chip: str, kind: _Kind) -> NumberFile:
        is_energy = path.name.startswith("energy")
        interval_ms = whole_number(path.with_name(f"{path.name}_interval"))
        is_average = path.name.endswith("_average")
        period_ns = interval_ms * NS_PER_MS if interval_ms else _DEFAULT_PERIOD_NS if is_average else 100 * NS_PER_MS
        channel = Channel(
            part=kind.part,
            device=f"{chip}/{kind.what}",
            boundary=kind.boundary,
            quantity=Quantity.ENERGY_COUNTER if is_energy else Quantity.POWER,
            role=Role.LEDGER,
            unit_si=J_PER_UJ if is_energy else W_PER_UW,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=period_ns,
            averaging_ns=period_ns if is_average and interval_ms else None,
            source=f"{path} ({chip}, {kind.what})",
        )
        return NumberFile(path, channel, unknown=_UNKNOWN_UW if chip == "power_meter" else None)


def _power_meter(label: str) -> _Kind | None:
    """What an ACPI power meter measures: a socket or module of Grace by its label, else the node.

    On Grace the `Grace` meter is the socket with its memory; `CPU` and `SysIO` are parts of it.
    """
    match = _GRACE.fullmatch(label)
    if match is None:
        return None if label else _NODE
    name, number = match.groups()
    if name == "Grace":
        return _Kind(part=f"cpu{number}", boundary=Boundary.CHIP, what=label)
    boundary = Boundary.NODE if name == "Module" else Boundary.RAIL
    part = {"Module": "module", "CPU": "cores", "SysIO": "sysio"}[name]
    return _Kind(part=f"{part}{number}", boundary=boundary, what=label)


def _rail(given: Mapping[str, Any]) -> _Rail:
    """A rail that was asked for by hand."""
    try:
        chip, file_name, part = str(given["chip"]), str(given["file"]), str(given["part"])
        boundary = Boundary(given["boundary"])
    except KeyError as err:
        raise UsageError(f"sensor 'hwmon': a rail needs chip, file, part and boundary; {err} is missing") from err
    except ValueError as err:
        raise UsageError(f"sensor 'hwmon': {err}; boundaries are {', '.join(Boundary)}") from err
    if not _FILE.fullmatch(file_name):
        raise UsageError(f"sensor 'hwmon': {file_name!r} is not a hwmon file of power or energy, such as power1_input")
    kind = _Kind(part=checked_part("hwmon", part), boundary=boundary, what=file_name)
    return _Rail(chip=chip, file=file_name, device=str(given.get("device", "")), kind=kind)
