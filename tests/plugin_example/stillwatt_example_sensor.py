"""A driver in a package of its own: the watts that stand in a file, named by the environment variable EXAMPLE_WATTS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError
from stillwatt.records import Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors import Probe


class FileWattSensor:
    """Power of one board, as a file has it; `path` is the file."""

    driver = "example"

    def __init__(self, clock: Clock, *, path: str = "") -> None:
        self._clock = clock
        self._path = Path(path or os.environ.get("EXAMPLE_WATTS", "/nonexistent"))
        self._is_open = False

    def probe(self) -> Probe:
        """Usable where the file holds a number."""
        try:
            watts = float(self._path.read_text())
        except (OSError, ValueError) as err:
            return Probe(driver=self.driver, usable=False, detail=f"{self._path}: {err}", cure="set EXAMPLE_WATTS")
        return Probe(driver=self.driver, usable=True, detail=f"{watts} W in {self._path}", channels=(self._channel(),))

    def open(self) -> tuple[Channel, ...]:
        """Nothing to keep open."""
        probe = self.probe()
        if not probe.usable:
            raise SensorUnavailableError(self.driver, probe.detail, probe.cure)
        self._is_open = True
        return probe.channels

    def read(self) -> Sequence[Reading | ReadFailure]:
        """The file's number now."""
        if not self._is_open:
            return []
        t_ns = self._clock.monotonic_ns()
        try:
            return [Reading(stream="board0.power", t_ns=t_ns, count=float(self._path.read_text()))]
        except (OSError, ValueError) as err:
            return [ReadFailure(stream="board0.power", t_ns=t_ns, reason=f"{self._path}: {err}")]

    def close(self) -> None:
        """Nothing to let go of."""
        self._is_open = False

    def _channel(self) -> Channel:
        return Channel(
            part="board0",
            device="example board",
            boundary=Boundary.BOARD,
            quantity=Quantity.POWER,
            role=Role.LEDGER,
            unit_si=1.0,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=0.01,
            gain_high_rel=0.01,
            update_period_ns=100_000_000,
            averaging_ns=0,
            source=str(self._path),
        )
