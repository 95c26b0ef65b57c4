"""A metering plug or PDU at the wall, by HTTP (Shelly, Tasmota, anything with JSON) or by a CSV that is written to.

What it measures contains the power supply's losses and everything else on that plug, so it is booked under the
boundary `wall` and never added to the parts inside the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import UsageError
from stillwatt.records import Quantity
from stillwatt.sensors.csv_tail import CsvTail
from stillwatt.sensors.needs import how_to_give
from stillwatt.sensors.slow import FetchError, SlowSensor, boundary_of
from stillwatt.sensors.web import JsonSource, number_at, step_at, value_at
from stillwatt.units import J_PER_KWH

_S_PER_MIN = 60.0
_J_PER_WH = J_PER_KWH / 1000


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a kind of plug has its numbers, the joules of one count of its counter, and by how many it moves."""

    path: str
    power: str
    energy: str = ""
    energy_j: float = 1.0
    step_j: float = 0.0
    """As its maker documents it; 0 where only the last digit tells."""


_KINDS = {
    "shelly1": _Kind("/status", "meters.{n}.power", "meters.{n}.total", _S_PER_MIN, _S_PER_MIN),
    # a zero at the end may be left out, so that the digits of one answer do not tell
    "shelly2": _Kind("/rpc/Switch.GetStatus?id={n}", "apower", "aenergy.total", _J_PER_WH, _J_PER_WH / 1000),
    # how many digits is a setting of the plug, three if nobody changed it, and it writes them all
    "tasmota": _Kind("/cm?cmnd=Status%208", "StatusSNS.ENERGY.Power", "StatusSNS.ENERGY.Total", J_PER_KWH),
}


_COLUMNS = {"power_w": Quantity.POWER, "energy_j": Quantity.ENERGY_COUNTER}


class SmartPlugSensor(SlowSensor):
    """A metering plug.

    Args:
        clock: The clock.
        url: Its address, such as `http://192.0.2.7`.
        kind: `shelly1` (Plug S, 1PM), `shelly2` (Plus and Pro), `tasmota`, or `json` with the paths below.
        outlet: Number of the outlet or relay, from 0; the first where None, or the only one.
        power_path: For `json`: dotted path to the watts.
        energy_path: For `json`: dotted path to a counter; `energy_unit_j` says how many joules one count is.
        energy_unit_j: See `energy_path`.
        energy_step_j: For `json`: by how many joules that counter moves at least; where None, one in its last digit.
        csv: Instead of an address: a CSV that another program appends to, with columns `power_w` or `energy_j`. A
            reading fails where nothing was written for five periods, of `period_ms` or of the file's own.
        user_env: Environment variable with a user's name, where the plug wants one.
        password_env: Environment variable with the password.
        token_env: Instead: environment variable with a token, as Home Assistant wants one.
        verify: Whether an https certificate is checked.
        part: The part that is measured.
        boundary: `wall`, or `node` for a meter that measures behind the power supply.
        period_ms: Time between askings; of a CSV also how often it is written to.
        gain_rel: Bounds the systematic error; makers of metering plugs state one to two per cent.
    """

    driver = "smart_plug"

    def __init__(
        self,
        clock: Clock,
        *,
        url: str = "",
        kind: str = "shelly2",
        outlet: int | None = None,
        power_path: str = "",
        energy_path: str = "",
        energy_unit_j: float = 1.0,
        energy_step_j: float | None = None,
        csv: str | os.PathLike[str] | None = None,
        user_env: str = "",
        password_env: str = "",
        token_env: str = "",
        verify: bool = True,
        part: str = "wall0",
        boundary: str = "wall",
        period_ms: int = 1000,
        gain_rel: float = 0.02,
    ) -> None:
        where = boundary_of(self.driver, boundary)
        super().__init__(clock, part=part, boundary=where, period_ms=period_ms, gain_rel=gain_rel, least_period_ms=500)
        if kind == "json":
            self._kind = _Kind("", power_path, energy_path, energy_unit_j, energy_step_j or 0.0)
            if not (power_path or energy_path):
                raise UsageError("sensor 'smart_plug': kind 'json' needs power_path, energy_path or both")
        elif kind in _KINDS:
            self._kind = _KINDS[kind]
        else:
            raise UsageError(f"sensor 'smart_plug': kind {kind!r} is none of {', '.join(_KINDS)}, json")
        if url and csv:
            raise UsageError("sensor 'smart_plug': give an address or a CSV, not both")
        self._outlet = outlet
        self._csv = None if csv is None else CsvTail(clock, Path(csv), self._period_ns)
        self._source = None
        if url:
            self._source = JsonSource(
                self.driver, url, user_env=user_env, password_env=password_env, token_env=token_env, verify=verify
            )

    def describe(self) -> str:
        """The plug's address, or the CSV."""
        return str(self._csv.path) if self._csv else self._source.url if self._source else "smart plug"

    def fetch(self) -> Mapping[Quantity, float]:
        """Ask the plug, or read the CSV's last whole row.

        Raises:
            FetchError: no address, no answer, no number in it, or a file that nobody writes to any more.
        """
        if self._csv is not None:
            return self._of_row(self._csv)
        if self._source is None:
            raise FetchError(f"no plug; give its address as {how_to_give(self.driver, 'url')}, or a `csv` likewise")
        document = self._source.get(self._kind.path.format(n=self._outlet or 0))
        found: dict[Quantity, float] = {}
        power, energy = self._paths(document)
        if power:
            found[Quantity.POWER] = number_at(document, power)
        if energy:
            found[Quantity.ENERGY_COUNTER] = number_at(document, energy) * self._kind.energy_j
            self.counter_step_j = self._kind.step_j or step_at(document, energy) * self._kind.energy_j
        return found

    def _paths(self, document: Any) -> tuple[str, str]:
        """Where the outlet's power and counter are in an answer.

        Tasmota writes a list where it meters several outlets (or phases), and one counter for all unless it is told
        to split it.

        Raises:
            FetchError: which of several it is was not said, or there is one meter for all.
        """
        power, energy = (path.format(n=self._outlet or 0) for path in (self._kind.power, self._kind.energy))
        if self._kind is not _KINDS["tasmota"]:
            return power, energy
        powers, totals = value_at(document, power), value_at(document, energy)
        if isinstance(powers, list):
            if self._outlet is None:
                watts = ", ".join(str(one) for one in powers)
                raise FetchError(f"the plug meters {len(powers)} outlets or phases ({watts} W); name one by `outlet`")
            return f"{power}.{self._outlet}", f"{energy}.{self._outlet}" if isinstance(totals, list) else ""
        if self._outlet:
            raise FetchError(f"the plug has one meter for all its outlets, and none of outlet {self._outlet}")
        return power, energy

    def _of_row(self, tail: CsvTail) -> Mapping[Quantity, float]:
        row = tail.last_row()
        if not _COLUMNS.keys() & row.keys():
            raise FetchError(f"{tail.path}: no column power_w or energy_j, but {', '.join(row)}")
        if row.get("energy_j"):
            self.counter_step_j = step_at(row, "energy_j")
        found = {quantity: number_at(row, name) for name, quantity in _COLUMNS.items() if row.get(name)}
        if not found:
            raise FetchError(f"{tail.path}: the last row has neither power_w nor energy_j")
        return found
