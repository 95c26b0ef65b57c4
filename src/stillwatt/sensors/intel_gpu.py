"""Intel's discrete GPUs through the hwmon files of the `i915` and `xe` kernel drivers: energy counters in microjoules.

A card is one part (`gpu_intel0`, …, in the order of their addresses). `xe` shows `card` and, inside it, `pkg`, told
apart by label; where `card` is missing, the package stands for what is known of the card. `i915`, and `xe` at first,
show one counter without a label: on Arc it is the package's register, so memory and board may be missing in it, which
the source says. GPUs inside a CPU show no counter here: their energy is in the CPU package's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Channel, Quantity, Role
from stillwatt.sensors.base import Probe
from stillwatt.sensors.counting_files import FileSensor, NumberFile, bus_address, first_line, folders
from stillwatt.units import J_PER_UJ, NS_PER_MS

_DRIVERS = ("i915", "xe")
_UPDATE_NS = NS_PER_MS
"""The counters are the hardware's own, renewed about every millisecond."""
_CURE = "a discrete Intel GPU with a kernel of 6.2 (i915) or 6.9 (xe) or later shows energy in hwmon"


class IntelGpuSensor(FileSensor):
    """Energy counters of Intel's discrete GPUs.

    `devices` limits it to some, by number or by address on the bus. `gain_rel` bounds the systematic error, which is
    stated nowhere.
    """

    driver = "intel_gpu"

    def __init__(
        self,
        clock: Clock,
        *,
        devices: Sequence[int | str] | None = None,
        root: str | os.PathLike[str] = "/sys/class/hwmon",
        gain_rel: float = 0.05,
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'intel_gpu': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        super().__init__(clock)
        self._wanted = None if devices is None else tuple(devices)
        self._root = Path(root)
        self._gain_rel = gain_rel

    def probe(self) -> Probe:
        """Read every counter once; a card that was asked for and is not there, or counts nothing, is named."""
        found = super().probe()
        there = {
            name
            for number, (folder, kernel_driver) in enumerate(self._cards())
            if any(self._card(number, folder, kernel_driver))
            for name in (number, bus_address(folder))
        }
        missing = tuple(
            Absent(
                part=f"gpu_intel{wanted}" if isinstance(wanted, int) else wanted,
                boundary=Boundary.BOARD,
                reason=f"{self.driver}: no energy counter of card {wanted} in {self._root}",
            )
            for wanted in self._wanted or ()
            if wanted not in there
        )
        said = [absent.reason for absent in missing] if found.usable else []  # else its detail says it of all
        return replace(found, detail="; ".join([found.detail, *said]), absent=(*found.absent, *missing))

    def find(self) -> list[NumberFile]:
        """One counter a card.

        Raises:
            SensorUnavailableError: no such card.
        """
        found = [
            file
            for number, (folder, name) in enumerate(self._cards())
            if self._wanted is None or number in self._wanted or bus_address(folder) in self._wanted
            for file in self._card(number, folder, name)
        ]
        if not found:
            whose = "an Intel GPU" if self._wanted is None else f"Intel GPU {', '.join(map(str, self._wanted))}"
            raise SensorUnavailableError(self.driver, f"no energy counter of {whose} in {self._root}", _CURE)
        return found

    def _cards(self) -> list[tuple[Path, str]]:
        """By address: the numbers of hwmon folders change with the order in which modules are loaded."""
        return [
            (folder, first_line(folder / "name"))
            for folder in sorted(folders(self._root, "hwmon*"), key=bus_address)
            if first_line(folder / "name") in _DRIVERS
        ]

    def _card(self, number: int, folder: Path, kernel_driver: str) -> Iterator[NumberFile]:
        counters = sorted(folder.glob("energy*_input"))
        by_label = {first_line(path.with_name(path.name.replace("_input", "_label"))): path for path in counters}
        path = by_label.get("card") or by_label.get("") or by_label.get("pkg")
        if path is None:
            return
        is_package = path == by_label.get("pkg") and "card" not in by_label and "" not in by_label
        covers = "package without its board" if is_package else "card" if "card" in by_label else "card or its package"
        channel = Channel(
            part=f"gpu_intel{number}",
            device=bus_address(folder),
            boundary=Boundary.CHIP if is_package else Boundary.BOARD,
            quantity=Quantity.ENERGY_COUNTER,
            role=Role.LEDGER,
            unit_si=J_PER_UJ,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=_UPDATE_NS,
            source=f"{path} ({kernel_driver}, {covers})",
        )
        yield NumberFile(path, channel)
