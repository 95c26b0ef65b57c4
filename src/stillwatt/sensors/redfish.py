"""The node's power through Redfish, the baseboard controller's web interface (DMTF DSP0266).

Asked are, in this order, `Chassis/<id>/EnvironmentMetrics` (`PowerWatts`, and `EnergyJoules` or `EnergykWh` where there
is a counter) and the older `Chassis/<id>/Power` (`PowerControl[0].PowerConsumedWatts`).

A controller may list graphics cards, fan trays and the enclosure around several nodes as chassis too, in any order: the
node's must be named where several give a power. Some controllers say 0 W where they know none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stillwatt.clock import Clock
from stillwatt.errors import UsageError
from stillwatt.records import Boundary, Quantity
from stillwatt.sensors.needs import how_to_give
from stillwatt.sensors.slow import FetchError, SlowSensor
from stillwatt.sensors.web import JsonSource, number_at, step_at
from stillwatt.units import J_PER_KWH, NS_PER_S

_CHASSIS = "/redfish/v1/Chassis"
_LOOK_NS = 4 * NS_PER_S
"""So long chassis are looked through: a run waits for its instruments, and a node of eight cards may list forty."""


class RedfishSensor(SlowSensor):
    """Power of one chassis; the one that has a power where `chassis` is not given.

    Args:
        clock: The clock.
        url: The controller, such as `https://bmc-node7`.
        chassis: The chassis's name.
        user_env: Environment variable with the user's name; the account should be allowed to read and no more.
        password_env: Environment variable with the password.
        verify: Whether its certificate is checked.
        ca_file: A certificate authority to trust beside the system's.
        part: The part that is measured.
        period_ms: Time between askings; controllers renew their value every one to several seconds.
        gain_rel: Bounds the systematic error.
    """

    driver = "redfish"
    cure = "check the address, REDFISH_USER and REDFISH_PASSWORD (or user_env, password_env), and the certificate"

    def __init__(
        self,
        clock: Clock,
        *,
        url: str = "",
        chassis: str = "",
        user_env: str = "REDFISH_USER",
        password_env: str = "REDFISH_PASSWORD",
        verify: bool = True,
        ca_file: str | None = None,
        part: str = "node0",
        period_ms: int = 2000,
        gain_rel: float = 0.05,
    ) -> None:
        super().__init__(
            clock, part=part, boundary=Boundary.NODE, period_ms=period_ms, gain_rel=gain_rel, least_period_ms=1000
        )
        if "/" in chassis:
            raise UsageError(f"sensor 'redfish': chassis {chassis!r} is a name, not a path")
        self._chassis = chassis
        self._place = ""
        self._source = None
        if url:
            self._source = JsonSource(
                self.driver, url, user_env=user_env, password_env=password_env, verify=verify, ca_file=ca_file
            )

    def describe(self) -> str:
        """The address that gave a power."""
        return f"{self._source.url if self._source else 'redfish'}{self._place or _CHASSIS}"

    def fetch(self) -> Mapping[Quantity, float]:
        """Ask the place that answered the time before, else look for one.

        Raises:
            FetchError: no address, no answer, or no power in any answer.
        """
        if self._source is None:
            raise FetchError(f"no address; give one as {how_to_give(self.driver, 'url')}")
        if self._place:
            return self._numbers(self._source.get(self._place))
        found, refusals = self._look(self._source)
        if len(found) > 1:
            names = ", ".join(f"{place.split('/')[-2]} {_shown(numbers)}" for place, numbers in found.items())
            raise FetchError(f"several chassis give a power ({names}); name the node's with the option `chassis`")
        if not found:
            raise FetchError("; ".join(refusals) or f"{self._source.url}{_CHASSIS} lists no chassis")
        ((self._place, numbers),) = found.items()
        return numbers

    def _look(self, source: JsonSource) -> tuple[dict[str, dict[Quantity, float]], list[str]]:
        """The numbers of each chassis that has any, by the place that gave them, and what the others said."""
        found: dict[str, dict[Quantity, float]] = {}
        refusals: list[str] = []
        listed = [f"{_CHASSIS}/{self._chassis}"] if self._chassis else self._members(source)
        until_ns = self._clock.monotonic_ns() + _LOOK_NS
        for number, chassis in enumerate(listed):
            if number and self._clock.monotonic_ns() > until_ns:
                names = ", ".join(one.rpartition("/")[2] for one in listed)
                raise FetchError(f"too many chassis to ask each ({names}); name the node's with the option `chassis`")
            for place in (f"{chassis}/EnvironmentMetrics", f"{chassis}/Power"):
                try:
                    found[place] = self._numbers(source.get(place))
                except FetchError as err:
                    refusals.append(str(err))
                else:
                    break
        return found, refusals

    @staticmethod
    def _members(source: JsonSource) -> list[str]:
        """The chassis of the controller, as paths below its address."""
        listed = source.get(_CHASSIS)
        members = listed.get("Members") if isinstance(listed, dict) else None
        members = members if isinstance(members, list) else []
        places = [str(member.get("@odata.id", "")) for member in members if isinstance(member, dict)]
        return [place.rstrip("/") for place in places if place.startswith(_CHASSIS)]

    def _numbers(self, document: object) -> dict[Quantity, float]:
        found: dict[Quantity, float] = {}
        refusals = []
        for place in _PLACES:
            if place.quantity in found:
                continue
            try:
                value = number_at(document, place.path) * place.unit_si
                if place.quantity is Quantity.POWER and value == 0.0:
                    raise FetchError(f"{place.path} is 0 W, which no running node draws")
                found[place.quantity] = value
            except FetchError as err:
                refusals.append(str(err))
            else:
                if place.quantity is Quantity.ENERGY_COUNTER:
                    self.counter_step_j = max(step_at(document, place.path), place.least_step) * place.unit_si
        if not found:
            raise FetchError(refusals[0])
        return found


def _shown(numbers: Mapping[Quantity, float]) -> str:
    power_w = numbers.get(Quantity.POWER)
    return "counts energy" if power_w is None else f"{power_w:.4g} W"


class _Place(NamedTuple):
    """Where a number may be, the SI value of one of it, and the smallest step that it is believed to make."""

    quantity: Quantity
    path: str
    unit_si: float
    least_step: float = 0.0


_PLACES = (
    _Place(Quantity.POWER, "PowerWatts.Reading", 1.0),
    _Place(Quantity.POWER, "PowerControl.0.PowerConsumedWatts", 1.0),
    _Place(Quantity.ENERGY_COUNTER, "EnergyJoules.Reading", 1.0),
    # controllers count whole watt-hours at best, and write digits of floating-point arithmetic behind them
    _Place(Quantity.ENERGY_COUNTER, "EnergykWh.Reading", J_PER_KWH, 0.001),
)
