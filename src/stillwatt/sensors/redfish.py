"""The node's power through Redfish, the baseboard controller's web interface (DMTF DSP0266).

Asked are, in this order, `Chassis/<id>/EnvironmentMetrics` (`PowerWatts`, and `EnergyJoules` or `EnergykWh` where there
is a counter) and the older `Chassis/<id>/Power` (`PowerControl[0].PowerConsumedWatts`).
"""

from __future__ import annotations

from collections.abc import Mapping

from stillwatt.clock import Clock
from stillwatt.errors import UsageError
from stillwatt.records import Boundary, Quantity
from stillwatt.sensors.slow import FetchError, SlowSensor
from stillwatt.sensors.web import JsonSource, number_at
from stillwatt.units import J_PER_KWH

_CHASSIS = "/redfish/v1/Chassis"


class RedfishSensor(SlowSensor):
    """Power of one chassis; the first one that has a power where `chassis` is not given.

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
            raise FetchError("no address; give one as the option `url`")
        if self._place:
            return _numbers(self._source.get(self._place))
        refusals = []
        for chassis in [f"{_CHASSIS}/{self._chassis}"] if self._chassis else self._members(self._source):
            for place in (f"{chassis}/EnvironmentMetrics", f"{chassis}/Power"):
                try:
                    found = _numbers(self._source.get(place))
                except FetchError as err:
                    refusals.append(str(err))
                    continue
                self._place = place
                return found
        raise FetchError("; ".join(refusals) or f"{self._source.url}{_CHASSIS} lists no chassis")

    @staticmethod
    def _members(source: JsonSource) -> list[str]:
        """The chassis of the controller, as paths below its address."""
        listed = source.get(_CHASSIS)
        members = listed.get("Members", []) if isinstance(listed, dict) else []
        places = [str(member.get("@odata.id", "")) for member in members if isinstance(member, dict)]
        return [place.rstrip("/") for place in places if place.startswith(_CHASSIS)]


def _numbers(document: object) -> dict[Quantity, float]:
    found: dict[Quantity, float] = {}
    refusals = []
    for quantity, path, unit_si in _PLACES:
        if quantity in found:
            continue
        try:
            found[quantity] = number_at(document, path) * unit_si
        except FetchError as err:
            refusals.append(str(err))
    if not found:
        raise FetchError(refusals[0])
    return found


_PLACES = (
    (Quantity.POWER, "PowerWatts.Reading", 1.0),
    (Quantity.POWER, "PowerControl.0.PowerConsumedWatts", 1.0),
    (Quantity.ENERGY_COUNTER, "EnergyJoules.Reading", 1.0),
    (Quantity.ENERGY_COUNTER, "EnergykWh.Reading", J_PER_KWH),
)
