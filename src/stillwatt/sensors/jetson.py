"""Power rails of NVIDIA Jetson boards: INA3221 monitors, by hwmon (L4T 34 and later) or by the older IIO files.

`VDD_IN` (or its older names) is the whole module and contains the other rails, so it is the part that is booked
(`module0`); the others are rails inside it, which no total adds. Boards without such a rail (AGX Xavier, AGX Orin) have
one meter for each supply, and these are added: they lie beside one another, but for those that feed from another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
from stillwatt.sensors.counting_files import FileSensor, NumberFile, first_line
from stillwatt.units import NS_PER_MS, W_PER_MV_MA, W_PER_MW_MILLI

_UPDATE_NS = 100 * NS_PER_MS
_WHOLE = ("VDD_IN", "POM_5V_IN", "IN")
_FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails of AGX Orin behind another that is metered: NVIDIA counts the memory's among the 5 V supply's loads."""
_RAIL = re.compile(r"in([1-3])_label")
_OLD_RAIL = re.compile(r"rail_name_([0-2])")
_NOT_A_NAME = re.compile(r"[\W_]+")
_CURE = "the rails of a Jetson show up under /sys/bus/i2c/drivers/ina3221; no other machine has them"


@dataclass(frozen=True, slots=True)
class _Rail:
    label: str
    path: Path
    factors: tuple[Path, ...]
    unit_si: float


class JetsonSensor(FileSensor):
    """The INA3221 rails of a Jetson; `gain_rel` bounds the systematic error of shunt and monitor."""

    driver = "jetson"

    def __init__(
        self, clock: Clock, *, root: str | os.PathLike[str] = "/sys/bus/i2c/drivers", gain_rel: float = 0.05
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'jetson': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        super().__init__(clock)
        self._root = Path(root)
        self._gain_rel = gain_rel

    def find(self) -> list[NumberFile]:
        """The rail of the whole module first, where there is one.

        Raises:
            SensorUnavailableError: no rail at all.
        """
        rails = {rail.label: rail for rail in self._rails()}
        if not rails:
            raise SensorUnavailableError(self.driver, f"no INA3221 rail in {self._root}", _CURE)
        whole = next((label for label in _WHOLE if label in rails), None)
        ordered = sorted(rails.values(), key=lambda rail: (rail.label != whole, rail.label))
        around = {label: _around(label, whole, rails) for label in rails}
        return [NumberFile(rail.path, self._channel(rail, whole, around[rail.label]), rail.factors) for rail in ordered]

    def _rails(self) -> Iterator[_Rail]:
        for label_at in sorted(self._root.glob("ina3221/*/hwmon/hwmon*/in[1-3]_label")):
            match = _RAIL.fullmatch(label_at.name)
            label = first_line(label_at)
            if match and label and label != "NC":
                volts, amperes = (label_at.with_name(f"{kind}{match[1]}_input") for kind in ("in", "curr"))
                yield _Rail(label, volts, (amperes,), W_PER_MV_MA)
        for label_at in sorted(self._root.glob("ina3221x/*/iio:device*/rail_name_[0-2]")):
            match = _OLD_RAIL.fullmatch(label_at.name)
            label = first_line(label_at)
            if match and label and label != "NC":
                yield _Rail(label, label_at.with_name(f"in_power{match[1]}_input"), (), W_PER_MW_MILLI)

    def _channel(self, rail: _Rail, whole: str | None, around: str | None) -> Channel:
        if rail.label == whole:
            part, boundary, covers = "module0", Boundary.BOARD, "the whole module"
        else:
            part = f"rail-{_NOT_A_NAME.sub('-', rail.label).strip('-').lower()}"
            boundary = Boundary.RAIL if around else Boundary.BOARD
            covers = f"inside {around}" if around else "beside the other rails"
        return Channel(
            part=part,
            device=f"INA3221 {rail.label}",
            boundary=boundary,
            quantity=Quantity.POWER,
            role=Role.LEDGER,
            unit_si=rail.unit_si,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=_UPDATE_NS,
            source=f"{rail.path} ({covers})",
        )


def _around(label: str, whole: str | None, labels: Container[str]) -> str | None:
    """The metered rail that holds a rail, where there is one."""
    holder = _FED_BY.get(label) if whole in (None, label) else whole
    return holder if holder in labels else None
