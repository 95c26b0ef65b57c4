"""Apple silicon through `zeus-apple-silicon`: cumulative energies of CPU, GPU, DRAM and neural engine in millijoules.

They come from the system's own energy model (IOReport), not from a meter: the basis is `modelled`. All of them are
parts of one chip that lie beside one another, so they are added. It knows nothing of the rest of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_MS

_FIELDS = (("cpu0", "cpu_total_mj"), ("gpu0", "gpu_mj"), ("dram0", "dram_mj"), ("ane0", "ane_mj"))
_UPDATE_NS = 50 * NS_PER_MS


class AppleSensor:
    """Energies of an Apple chip. `gain_rel` bounds the model's systematic error, which Apple does not state."""

    driver = "apple"

    def __init__(self, clock: Clock, *, gain_rel: float = 0.2) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'apple': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        self._clock = clock
        self._gain_rel = gain_rel
        self._monitor: Any = None
        self._channels: tuple[Channel, ...] = ()

    def probe(self) -> Probe:
        """Take one reading, to see which fields this chip fills."""
        try:
            monitor, channels = (self._monitor, self._channels) if self._channels else self._find()
        except SensorUnavailableError as err:
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure)
        del monitor
        parts = ", ".join(channel.part for channel in channels)
        return Probe(driver=self.driver, usable=True, detail=f"IOReport energy model: {parts}", channels=channels)

    def open(self) -> tuple[Channel, ...]:
        """Begin to accumulate.

        Raises:
            SensorUnavailableError: not an Apple chip, or no binding.
        """
        if not self._channels:
            self._monitor, self._channels = self._find()
        return self._channels

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Read all fields at once."""
        if not self._channels:
            return []
        fields = dict(_FIELDS)
        try:
            found = self._monitor.get_cumulative_energy()
        except Exception as err:  # noqa: BLE001 - the binding raises whatever the system's library made of it
            t_ns = self._clock.monotonic_ns()
            return [
                ReadFailure(stream=channel.stream, t_ns=t_ns, reason=f"IOReport: {err}") for channel in self._channels
            ]
        t_ns = self._clock.monotonic_ns()
        return [_reading(channel, getattr(found, fields[channel.part], None), t_ns) for channel in self._channels]

    def close(self) -> None:
        """Let the monitor go."""
        self._monitor, self._channels = None, ()

    def _find(self) -> tuple[Any, tuple[Channel, ...]]:
        try:
            from zeus_apple_silicon import AppleEnergyMonitor
        except ImportError as err:
            raise SensorUnavailableError(
                self.driver,
                f"the binding is missing ({err})",
                "on an Apple silicon Mac: pip install zeus-apple-silicon",
            ) from err
        try:
            monitor = AppleEnergyMonitor()
            found = monitor.get_cumulative_energy()
        except Exception as err:
            raise SensorUnavailableError(
                self.driver,
                f"IOReport: {err}",
                "it works on Apple silicon, outside of virtual machines",
            ) from err
        present = [part for part, field in _FIELDS if getattr(found, field, None) is not None]
        if not present:
            raise SensorUnavailableError(self.driver, "IOReport: this chip fills no energy field", "none is known")
        return monitor, tuple(self._channel(part, dict(_FIELDS)[part]) for part in present)

    def _channel(self, part: str, field: str) -> Channel:
        return Channel(
            part=part,
            device=f"Apple silicon {part[:-1].upper()}",
            boundary=Boundary.CHIP,
            quantity=Quantity.ENERGY_COUNTER,
            role=Role.LEDGER,
            unit_si=J_PER_MJ_MILLI,
            driver=self.driver,
            basis=Basis.MODELLED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=_UPDATE_NS,
            source=f"IOReport energy model, {field}, by zeus-apple-silicon",
        )


def _reading(channel: Channel, count_mj: float | None, t_ns: int) -> Reading | ReadFailure:
    if count_mj is None:
        return ReadFailure(stream=channel.stream, t_ns=t_ns, reason="IOReport gave nothing for it")
    return Reading(stream=channel.stream, t_ns=t_ns, count=float(count_mj))
