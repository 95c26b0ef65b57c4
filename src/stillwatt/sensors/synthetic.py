"""A made-up instrument with an exactly known trace, for demonstrations and tests; it measures nothing.

Its channels have the basis `assumed`, the device `synthetic` and a source that begins with SIMULATED, so that no
report can take them for a measurement.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.records import Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_MS, seconds

SHAPES = ("constant", "square", "ramp")
_STEP_MS = 100.0
_MS_PER_S = 1_000
_ROUNDING = 2.0**-20
"""Slack for steps and counts that binary fractions miss by a hair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """A power over time whose integral is known in closed form; times in s since its origin, before it too.

    `constant` holds `watts`. `square` holds `watts` for the first `duty` of each period and `low_watts` for the
    rest. `ramp` rises from `low_watts` to `watts` over each period, then falls back at once.

    >>> trace = PowerTrace(shape="square", watts=300.0, low_watts=100.0, period_s=2.0, duty=0.5)
    >>> trace.power_w(0.5), trace.power_w(1.5), trace.energy_j(4.0)
    (300.0, 100.0, 800.0)
    """

    shape: str = "constant"
    watts: float = 100.0
    low_watts: float = 0.0
    period_s: float = 1.0
    duty: float = 0.5

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UnknownNameError("shape of a simulated trace", self.shape, SHAPES)
        if not (self.period_s > 0.0 and 0.0 <= self.duty <= 1.0):
            raise UsageError(f"simulated trace: period_s = {self.period_s}, duty = {self.duty} make no period")

    def power_w(self, t_s: float) -> float:
        """Power at a time, in W."""
        if self.shape == "constant":
            return self.watts
        phase = t_s / self.period_s % 1.0
        if self.shape == "square":
            return self.watts if phase < self.duty else self.low_watts
        return self.low_watts + (self.watts - self.low_watts) * phase

    def energy_j(self, t_s: float) -> float:
        """Energy from the origin to a time, in J; negative before the origin."""
        if self.shape == "constant":
            return self.watts * t_s
        whole = math.floor(t_s / self.period_s)
        rest_s = t_s - whole * self.period_s
        return whole * self._within_j(self.period_s) + self._within_j(rest_s)

    def _within_j(self, rest_s: float) -> float:
        """Energy of the first `rest_s` of a period."""
        if self.shape == "square":
            high_s = min(rest_s, self.duty * self.period_s)
            return high_s * self.watts + (rest_s - high_s) * self.low_watts
        return self.low_watts * rest_s + (self.watts - self.low_watts) * rest_s**2 / (2.0 * self.period_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedChannel:
    """One stream of the made-up instrument: a trace, and how the instrument shows it."""

    part: str = "gpu0"
    quantity: str = Quantity.ENERGY_COUNTER.value
    role: str = Role.LEDGER.value
    shape: str = "constant"
    watts: float = 100.0
    low_watts: float = 0.0
    period_s: float = 1.0
    duty: float = 0.5
    step_ms: float = _STEP_MS
    """How often the shown value is renewed; 0 for always."""
    gain: float = 1.0
    """What is shown over what is true."""
    gain_bound_rel: float = 0.05
    """The systematic error the channel owns up to."""
    modulus: int | None = None
    reset_at_s: float = math.inf
    fail_every: int = 0
    fail_from_s: float = math.inf
    fail_until_s: float = math.inf
    stall_at_s: float = math.inf
    """The first reading after this time does not return for `stall_s`, as a hung driver would."""
    stall_s: float = 0.0

    @property
    def trace(self) -> PowerTrace:
        """The true power."""
        return PowerTrace(
            shape=self.shape, watts=self.watts, low_watts=self.low_watts, period_s=self.period_s, duty=self.duty
        )

    def channel(self) -> Channel:
        """The channel's description."""
        is_counter = self.quantity == Quantity.ENERGY_COUNTER.value
        return Channel(
            part=self.part,
            device="synthetic",
            boundary=Boundary.BOARD if self.part.startswith("gpu") else Boundary.CHIP,
            quantity=Quantity(self.quantity),
            role=Role(self.role),
            unit_si=J_PER_MJ_MILLI if is_counter else 1.0,
            driver="synthetic",
            basis=Basis.ASSUMED,
            gain_low_rel=self.gain_bound_rel,
            gain_high_rel=self.gain_bound_rel,
            update_period_ns=max(round(self.step_ms * NS_PER_MS), 1),
            modulus=self.modulus if is_counter else None,
            source=f"SIMULATED, not a measurement: {self.shape} trace of {self.watts:g} W",
        )

    def count(self, t_s: float) -> float:
        """What the instrument shows at a time since the origin."""
        step_s = self.step_ms / _MS_PER_S
        shown_s = math.floor(t_s / step_s + _ROUNDING) * step_s if step_s else t_s
        if self.quantity == Quantity.POWER.value:
            return self.trace.power_w(shown_s) * self.gain
        start_s = self.reset_at_s if shown_s >= self.reset_at_s else 0.0
        energy_j = self.trace.energy_j(shown_s) - self.trace.energy_j(start_s)
        count = math.floor(energy_j * self.gain / J_PER_MJ_MILLI + _ROUNDING)
        return float(count % self.modulus if self.modulus else count)


_DEMONSTRATION: tuple[Mapping[str, Any], ...] = (
    {"part": "gpu0", "shape": "square", "watts": 300.0, "low_watts": 80.0, "period_s": 2.0},
    {
        "part": "gpu0",
        "quantity": "power",
        "role": "witness",
        "shape": "square",
        "watts": 300.0,
        "low_watts": 80.0,
        "period_s": 2.0,
    },
    {"part": "cpu0", "quantity": "power", "watts": 45.0},
)


class SyntheticSensor:
    """Plays simulated channels; each entry of `channels` holds fields of `SimulatedChannel`.

    The trace's origin is the time of `open`, or `origin_ns` on the monotonic clock. Processes that measure one machine
    together, as ranks do, need the same `origin_ns`: by origins of their own the made-up counter would be reset
    wherever one of them reads on for another.
    """

    driver = "synthetic"

    def __init__(
        self,
        clock: Clock,
        *,
        channels: Sequence[Mapping[str, Any]] = _DEMONSTRATION,
        origin_ns: int | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._simulated = tuple(_parse(entry) for entry in channels)
        self._channels = tuple(simulated.channel() for simulated in self._simulated)
        streams = [channel.stream for channel in self._channels]
        if not streams or len(set(streams)) != len(streams):
            raise UsageError(f"sensor 'synthetic': needs channels of different streams, not {streams}")
        self._wanted_origin_ns = origin_ns
        self._sleep = sleep
        self._origin_ns: int | None = None
        self._reads = 0
        self._stalled: set[str] = set()

    def probe(self) -> Probe:
        """Always usable; says that it measures nothing."""
        return Probe(
            driver=self.driver,
            usable=True,
            detail=f"SIMULATED: {len(self._channels)} made-up channels, no measurement",
            channels=self._channels,
        )

    def open(self) -> tuple[Channel, ...]:
        """Start the traces."""
        if self._origin_ns is None:
            wanted_ns = self._wanted_origin_ns
            self._origin_ns = self._clock.monotonic_ns() if wanted_ns is None else wanted_ns
        return self._channels

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Show every channel at this time, with the failures that were asked for."""
        if self._origin_ns is None:
            return []
        self._reads += 1
        return [
            self._read_one(simulated, channel.stream, self._origin_ns)
            for simulated, channel in zip(self._simulated, self._channels, strict=True)
        ]

    def close(self) -> None:
        """Stop the traces; opening again starts them anew."""
        self._origin_ns, self._reads = None, 0
        self._stalled.clear()

    def true_energy_j(self, part: str, start_ns: int, end_ns: int) -> float:
        """The exact energy of a part between two monotonic times, of its first channel.

        Raises:
            UnknownNameError: no such part.
            UsageError: the sensor is not open, so its traces have no origin.
        """
        if self._origin_ns is None:
            raise UsageError("sensor 'synthetic': the traces begin at open")
        for simulated in self._simulated:
            if simulated.part == part:
                start_s, end_s = seconds(start_ns - self._origin_ns), seconds(end_ns - self._origin_ns)
                return simulated.trace.energy_j(end_s) - simulated.trace.energy_j(start_s)
        raise UnknownNameError("part", part, [simulated.part for simulated in self._simulated])

    def _read_one(self, simulated: SimulatedChannel, stream: str, origin_ns: int) -> Reading | ReadFailure:
        t_ns = self._clock.monotonic_ns()
        t_s = seconds(t_ns - origin_ns)
        if t_s >= simulated.stall_at_s and stream not in self._stalled:
            self._stalled.add(stream)
            self._sleep(simulated.stall_s)
        is_nth = simulated.fail_every > 0 and self._reads % simulated.fail_every == 0
        if is_nth or simulated.fail_from_s <= t_s < simulated.fail_until_s:
            return ReadFailure(stream=stream, t_ns=t_ns, reason="simulated failure")
        return Reading(stream=stream, t_ns=t_ns, count=simulated.count(t_s))


def _parse(entry: Mapping[str, Any]) -> SimulatedChannel:
    known = [field.name for field in fields(SimulatedChannel)]
    for key in entry:
        if key not in known:
            raise UnknownNameError("field of a simulated channel:", key, known)
    simulated = SimulatedChannel(**entry)
    _ = simulated.trace  # a trace that makes no sense is refused here, not at the first reading
    return simulated
