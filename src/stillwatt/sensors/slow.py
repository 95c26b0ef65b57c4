"""Instruments behind a wire: asked at their own pace, never at the sampling one, and silent in between.

A baseboard controller or a plug answers in tenths of a second and renews its value every second or so; asking it ten
times a second would hurt it and tell nothing. A driver says how to fetch all its numbers at once; when, and what
becomes of errors, is the same for all.

Where there is a counter it is booked and the power stands beside it, except where the counter is coarse: one that
moves by a thousandth of a kilowatt-hour is worth half a minute of a computer, and places stages that much worse than
power read every second. Then power is booked, and the counter left out: beside stages shorter than its step it would
bear witness to nothing but its own rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Channel, NotDue, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe, checked_part
from stillwatt.units import GIGA, NS_PER_MS

_COARSE_S, _LEAST_W = 5.0, 20.0
"""A step that is worth more than so many seconds of the power beside it is coarse. The power is that of opening, before
the work begins, so what hardly draws anything then is taken for this many watts."""
_MOST_W, _MOST_J = GIGA, 1e15
"""More than a data centre draws, and than one has drawn in its life: a number beyond is a slip of the instrument."""
_LEAST_STEP_J = 1.0
"""Counters are not believed to be finer than this: digits beyond may be what arithmetic left."""


class FetchError(Exception):
    """The instrument did not answer, or not what it should; the text says what and where."""


class SlowSensor(ABC):
    """A sensor that is asked every `period_ms`; `fetch` is all that a driver adds.

    Args:
        clock: Gives the times of readings: the middle of the asking, since the value was taken somewhere inside it.
        part: What the instrument measures, as a part of the machine (`node0`, `wall0`, …).
        boundary: How much that covers.
        period_ms: Time between askings, and the instrument's own update period as far as is known.
        gain_rel: Bounds the systematic error, as a fraction.
    """

    driver: str
    counter_step_j = 0.0
    """By how many joules the counter that was fetched last moves at least; a driver of a counter sets it in `fetch`."""
    cure = "check the address, and that this machine may reach it"

    def __init__(
        self,
        clock: Clock,
        *,
        part: str,
        boundary: Boundary,
        period_ms: int,
        gain_rel: float,
        least_period_ms: int = 100,
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor {self.driver!r}: gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        if period_ms < least_period_ms:
            raise UsageError(f"sensor {self.driver!r}: period_ms = {period_ms} is below {least_period_ms}")
        self._clock = clock
        self._part, self._boundary, self._gain_rel = checked_part(self.driver, part), boundary, gain_rel
        self._period_ns = period_ms * NS_PER_MS
        self._channels: tuple[Channel, ...] = ()
        self._asked_ns: int | None = None

    @abstractmethod
    def fetch(self) -> Mapping[Quantity, float]:
        """The instrument's numbers now: watts, joules or both; may wait for it, some seconds at most.

        Raises:
            FetchError: it did not answer, or not what it should.
        """

    @abstractmethod
    def describe(self) -> str:
        """Where the numbers come from, without anything secret in it."""

    def probe(self) -> Probe:
        """Ask once."""
        try:
            found = self.fetch()
        except FetchError as err:
            absent = Absent(part=self._part, boundary=self._boundary, reason=f"{self.driver}: {err}")
            return Probe(driver=self.driver, usable=False, detail=str(err), cure=self.cure, absent=(absent,))
        channels = self._describe(found)
        numbers = ", ".join(f"{found[quantity]:.6g} {_UNITS[quantity]}" for quantity in found)
        return Probe(driver=self.driver, usable=True, detail=f"{self.describe()}: {numbers}", channels=channels)

    def open(self) -> tuple[Channel, ...]:
        """Ask once, to know which numbers there are.

        Raises:
            SensorUnavailableError: it does not answer.
        """
        if not self._channels:
            probe = self.probe()
            if not probe.usable:
                raise SensorUnavailableError(self.driver, probe.detail, probe.cure)
            self._channels, self._asked_ns = probe.channels, None
        return self._channels

    def read(self) -> Sequence[Reading | ReadFailure | NotDue]:
        """Ask where it is time, else say that nothing is due."""
        now_ns = self._clock.monotonic_ns()
        if self._asked_ns is not None and now_ns - self._asked_ns < self._period_ns:
            return [NotDue(stream=channel.stream) for channel in self._channels]
        self._asked_ns = now_ns
        try:
            found = self.fetch()
        except FetchError as err:
            t_ns, reason = self._clock.monotonic_ns(), str(err)
            return [ReadFailure(stream=channel.stream, t_ns=t_ns, reason=reason) for channel in self._channels]
        t_ns = (now_ns + self._clock.monotonic_ns()) // 2
        return [self._reading(channel, found, t_ns) for channel in self._channels]

    def close(self) -> None:
        """Forget when it was asked."""
        self._channels, self._asked_ns = (), None

    def _reading(self, channel: Channel, found: Mapping[Quantity, float], t_ns: int) -> Reading | ReadFailure:
        if channel.quantity not in found:
            return ReadFailure(stream=channel.stream, t_ns=t_ns, reason=f"the answer has no {channel.quantity.value}")
        value = found[channel.quantity]
        if channel.quantity is Quantity.POWER and not 0.0 <= value <= _MOST_W:
            return ReadFailure(stream=channel.stream, t_ns=t_ns, reason=f"{value:.6g} W is no power that is drawn")
        if not abs(value) <= _MOST_J:
            return ReadFailure(stream=channel.stream, t_ns=t_ns, reason=f"{value:.6g} J is beyond any counter")
        return Reading(stream=channel.stream, t_ns=t_ns, count=value / channel.unit_si)

    def _describe(self, found: Mapping[Quantity, float]) -> tuple[Channel, ...]:
        """A counter is booked where there is one, with power beside it; power alone where the counter is coarse."""
        step_j = max(self.counter_step_j, _LEAST_STEP_J)
        has_counter, said = Quantity.ENERGY_COUNTER in found, ""
        if has_counter and step_j > _COARSE_S * max(found.get(Quantity.POWER, math.inf), _LEAST_W):
            has_counter, said = False, f"; its counter, which moves in steps of {step_j:.6g} J, is left out"
        return tuple(
            Channel(
                part=self._part,
                device=self.describe(),
                boundary=self._boundary,
                quantity=quantity,
                role=Role.WITNESS if has_counter and quantity is Quantity.POWER else Role.LEDGER,
                # what a counter's step hides is up to half of it at either end of a stage: eq. 6 takes it from the unit
                unit_si=1.0 if quantity is Quantity.POWER else step_j,
                driver=self.driver,
                basis=Basis.MEASURED,
                gain_low_rel=self._gain_rel,
                gain_high_rel=self._gain_rel,
                update_period_ns=self._period_ns,
                sampling_period_ns=None,
                source=f"{self.describe()}{said}",
            )
            for quantity in Quantity
            if quantity in found and (has_counter or quantity is Quantity.POWER)
        )


_UNITS = {Quantity.POWER: "W", Quantity.ENERGY_COUNTER: "J"}


def boundary_of(driver: str, given: str) -> Boundary:
    """The boundary of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return Boundary(given)
    except ValueError as err:
        raise UsageError(f"sensor {driver!r}: boundary {given!r} is none of {', '.join(Boundary)}") from err
