"""The node's power as its baseboard controller tells it: `ipmitool dcmi power reading`.

The controller measures at the power supplies' input as a rule, renews its value about every second and rounds to
whole watts (often to four or eight of them). It takes a share of a second to answer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from stillwatt.clock import Clock
from stillwatt.errors import UsageError
from stillwatt.records import Boundary, Quantity
from stillwatt.sensors.slow import FetchError, SlowSensor

_READING = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts")
_OFF = re.compile(r"Power reading state is:\s*deactivated", re.IGNORECASE)
_TIMEOUT_S = 5.0
_ARGUMENTS = ("dcmi", "power", "reading")


class IpmiSensor(SlowSensor):
    """DCMI power of the node this runs on, or of another's controller by `arguments`.

    `arguments` go before `dcmi power reading`, such as `["-I", "lanplus", "-H", "bmc1", "-U", "reader", "-E"]`. The
    password then comes from the environment variable IPMI_PASSWORD: arguments are seen by everybody on the machine.
    """

    driver = "ipmi"
    cure = (
        "install ipmitool, load ipmi_devintf and ipmi_si (`sudo modprobe ipmi_devintf ipmi_si`) and let this user read "
        "/dev/ipmi0; not every controller has DCMI"
    )

    def __init__(
        self,
        clock: Clock,
        *,
        command: str = "ipmitool",
        arguments: Sequence[str] = (),
        part: str = "node0",
        period_ms: int = 1000,
        gain_rel: float = 0.05,
    ) -> None:
        super().__init__(
            clock, part=part, boundary=Boundary.NODE, period_ms=period_ms, gain_rel=gain_rel, least_period_ms=500
        )
        if isinstance(arguments, str):
            raise UsageError(f'sensor \'ipmi\': arguments must be a list such as ["-I", "lanplus"], not {arguments!r}')
        self._command = command
        self._arguments = [str(argument) for argument in arguments]

    def describe(self) -> str:
        """The command; its arguments may hold names of people and machines."""
        return f"{self._command} {' '.join(_ARGUMENTS)}"

    def fetch(self) -> Mapping[Quantity, float]:
        """Ask the controller.

        Raises:
            FetchError: no ipmitool, no answer in five seconds, or none with a power in it.
        """
        program = shutil.which(self._command)
        if program is None:
            raise FetchError(f"no command {self._command!r}")
        try:
            asked = subprocess.run(
                [program, *self._arguments, *_ARGUMENTS],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as err:
            raise FetchError(f"{self.describe()}: no answer in {_TIMEOUT_S:.0f} s") from err
        except OSError as err:
            raise FetchError(f"{self.describe()}: {err}") from err
        found = _READING.search(asked.stdout)
        if asked.returncode or found is None or _OFF.search(asked.stdout):
            said = (asked.stderr or asked.stdout).strip().splitlines()
            raise FetchError(f"{self.describe()}: {said[0] if said else f'exit status {asked.returncode}'}")
        if int(found[1]) == 0:
            raise FetchError(f"{self.describe()}: 0 W, which no running node draws: the controller knows no power")
        return {Quantity.POWER: float(found[1])}
