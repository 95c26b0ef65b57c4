"""A metering plug or PDU at the wall, by HTTP (Shelly, Tasmota, anything with JSON) or by a CSV that is written to.

What it measures contains the power supply's losses and everything else on that plug, so it is booked under the
boundary `wall` and never added to the parts inside the machine.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import UsageError
from stillwatt.records import Quantity
from stillwatt.sensors.slow import FetchError, SlowSensor, boundary_of
from stillwatt.sensors.web import JsonSource, number_at
from stillwatt.units import J_PER_KWH

_S_PER_MIN = 60.0
_TAIL_BYTES = 4096
_J_PER_WH = J_PER_KWH / 1000


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a kind of plug has its numbers, and the joules of one count of its counter."""

    path: str
    power: str
    energy: str = ""
    energy_j: float = 1.0


_KINDS = {
    "shelly1": _Kind("/status", "meters.{n}.power", "meters.{n}.total", _S_PER_MIN),
    "shelly2": _Kind("/rpc/Switch.GetStatus?id={n}", "apower", "aenergy.total", _J_PER_WH),
    "tasmota": _Kind("/cm?cmnd=Status%208", "StatusSNS.ENERGY.Power", "StatusSNS.ENERGY.Total", J_PER_KWH),
}


class SmartPlugSensor(SlowSensor):
    """A metering plug.

    Args:
        clock: The clock.
        url: Its address, such as `http://192.0.2.7`.
        kind: `shelly1` (Plug S, 1PM), `shelly2` (Plus and Pro), `tasmota`, or `json` with the paths below.
        outlet: Number of the outlet or relay, from 0.
        power_path: For `json`: dotted path to the watts.
        energy_path: For `json`: dotted path to a counter; `energy_unit_j` says how many joules one count is.
        energy_unit_j: See `energy_path`.
        csv: Instead of an address: a CSV that another program appends to, with columns `power_w` or `energy_j`.
        user_env: Environment variable with a user's name, where the plug wants one.
        password_env: Environment variable with the password.
        verify: Whether an https certificate is checked.
        part: The part that is measured.
        boundary: `wall`, or `node` for a meter that measures behind the power supply.
        period_ms: Time between askings.
        gain_rel: Bounds the systematic error; makers of metering plugs state one to two per cent.
    """

    driver = "smart_plug"

    def __init__(
        self,
        clock: Clock,
        *,
        url: str = "",
        kind: str = "shelly2",
        outlet: int = 0,
        power_path: str = "",
        energy_path: str = "",
        energy_unit_j: float = 1.0,
        csv: str | os.PathLike[str] | None = None,
        user_env: str = "",
        password_env: str = "",
        verify: bool = True,
        part: str = "wall0",
        boundary: str = "wall",
        period_ms: int = 1000,
        gain_rel: float = 0.02,
    ) -> None:
        where = boundary_of(self.driver, boundary)
        super().__init__(clock, part=part, boundary=where, period_ms=period_ms, gain_rel=gain_rel, least_period_ms=500)
        if kind == "json":
            self._kind = _Kind("", power_path, energy_path, energy_unit_j)
            if not (power_path or energy_path):
                raise UsageError("sensor 'smart_plug': kind 'json' needs power_path, energy_path or both")
        elif kind in _KINDS:
            self._kind = _KINDS[kind]
        else:
            raise UsageError(f"sensor 'smart_plug': kind {kind!r} is none of {', '.join(_KINDS)}, json")
        if url and csv:
            raise UsageError("sensor 'smart_plug': give an address or a CSV, not both")
        self._outlet = outlet
        self._csv = None if csv is None else Path(csv)
        self._source = None
        if url:
            self._source = JsonSource(self.driver, url, user_env=user_env, password_env=password_env, verify=verify)

    def describe(self) -> str:
        """The plug's address, or the CSV."""
        return str(self._csv) if self._csv else self._source.url if self._source else "smart plug"

    def fetch(self) -> Mapping[Quantity, float]:
        """Ask the plug, or read the CSV's last whole row.

        Raises:
            FetchError: no address, no answer, or no number in it.
        """
        if self._csv is not None:
            return _last_row(self._csv)
        if self._source is None:
            raise FetchError("no plug; give its address as the option `url`, or a `csv`")
        document = self._source.get(self._kind.path.format(n=self._outlet))
        found: dict[Quantity, float] = {}
        if self._kind.power:
            found[Quantity.POWER] = number_at(document, self._kind.power.format(n=self._outlet))
        if self._kind.energy:
            count = number_at(document, self._kind.energy.format(n=self._outlet))
            found[Quantity.ENERGY_COUNTER] = count * self._kind.energy_j
        return found


def _last_row(path: Path) -> dict[Quantity, float]:
    """The newest row of a CSV that another program may be appending to; a row without its newline is not whole yet."""
    try:
        with path.open("rb") as file:
            header = file.readline().decode("utf-8-sig", errors="replace")
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, len(header.encode())))
            rows = file.read().decode("utf-8", errors="replace").split("\n")[:-1]
    except OSError as err:
        raise FetchError(f"{path}: {err.strerror}") from None
    columns = next(csv.reader([header]), [])
    wanted = {"power_w": Quantity.POWER, "energy_j": Quantity.ENERGY_COUNTER}
    if not wanted.keys() & set(columns):
        raise FetchError(f"{path}: no column power_w or energy_j, but {', '.join(columns) or 'no header'}")
    row = dict(zip(columns, next(csv.reader(rows[-1:]), []), strict=False))
    if not rows:
        raise FetchError(f"{path}: no row yet")
    return {quantity: number_at(row, name) for name, quantity in wanted.items() if row.get(name)}
