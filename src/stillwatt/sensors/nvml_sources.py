"""The ways to read an NVIDIA card's energy and power, best first for the use that is made of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillwatt.records import Quantity
from stillwatt.sensors import nvml_library
from stillwatt.sensors.base import Urgency
from stillwatt.sensors.nvml_windows import Field, Window, window
from stillwatt.units import NS_PER_MS, seconds

Chip = tuple[int | None, str]
"""Architecture and name."""


COUNTER_EVERY_NS = 1500 * NS_PER_MS
"""How often, in its turn, a counter beside a record of power is read: the record tells when energy was drawn, the
counter how much (method.md, eq. 3b), and on some cards asking it costs milliseconds. It is every second fetch."""
BUFFER_EVERY_NS = 750 * NS_PER_MS
"""How often the buffer of a witness is fetched: it holds two seconds and more. Each waking costs more than what is done
in it, and a fetch falls together with a write."""
_RECORD_TRIES, _RECORD_WAIT_S = 4, 0.03
_SLACK = 0.1
"""A turn that is so much of itself early is taken: whoever asks wakes up when he can."""
_FIRST_GAP_NS = 100 * NS_PER_MS
_GROWS = 3
"""Halves by which the time between two readings in their turn grows, until it is what was decided on."""
_ON_MODULE = re.compile(r"\bG[HB]\d+|Grace", re.IGNORECASE)
"""Names of Grace superchips: GH200, GB200, GB300."""


@dataclass(slots=True)
class Source:
    """One way to read one quantity of one card."""

    quantity: Quantity
    call: str
    read: Callable[[Any], int]
    """Gives the number, of one device; a `Reader` where it is nothing but a call."""
    field: Field = Field.USAGE
    stream: str = ""
    """The channel's name, kept here because it is needed at every reading."""
    is_buffer: bool = False
    """Whether the driver's buffer is read: `read` tells the time in microseconds of its newest reading."""
    every_ns: int = 0
    """Read no more often than this, in its turn; 0 for whenever asked."""
    at_once: Urgency = Urgency.AT_EDGE
    """The least urgency that does not wait for its turn."""
    _next_ns: int = 0
    _waited_ns: int = 0
    _gap_ns: int = _FIRST_GAP_NS

    @property
    def pace(self) -> str:
        """What there is to say of how often it is read."""
        return f"; read every {seconds(self.every_ns):.3g} s" if self.every_ns else ""

    def is_due(self, now_ns: int, urgency: Urgency) -> bool:
        """Whether it is to be read now; if so, its next turn is counted from now."""
        if urgency < self.at_once and now_ns < self._next_ns - round(_SLACK * self._waited_ns):
            return False
        # a run's first seconds are read more often: a short run must not be left with two readings
        self._waited_ns = min(self._gap_ns, self.every_ns)
        self._next_ns = now_ns + self._waited_ns
        self._gap_ns = min(self._gap_ns * _GROWS // 2, self.every_ns)
        return True


def counter_source(nvml: Any) -> Source:
    """The energy counter."""
    call = "nvmlDeviceGetTotalEnergyConsumption"
    return Source(Quantity.ENERGY_COUNTER, call, nvml_library.number_reader(nvml, call))


def buffer_source(nvml: Any, sleep: Callable[[float], None] = time.sleep) -> Source:
    """The driver's own buffer of power readings."""

    def newest_us(handle: Any) -> int:
        # a driver that nobody used until now begins its record when it is first asked
        for _ in range(_RECORD_TRIES):
            times_us, _ = nvml_library.power_samples(nvml, handle, 0)
            if times_us:
                return times_us[-1]
            sleep(_RECORD_WAIT_S)
        raise nvml.NVMLError(nvml_library.NOT_FOUND)

    call = f"nvmlDeviceGetSamples({Field.BUFFER.value})"
    return Source(Quantity.POWER, call, newest_us, Field.BUFFER, is_buffer=True, at_once=Urgency.LAST)


def power_sources(nvml: Any, chip: Chip, driver_version: str, *, is_witness: bool) -> list[Source]:
    """The ways to read power, best first for the use that is made of it."""
    kept = [buffer_source(nvml)] if window(*chip, driver_version, Field.BUFFER).averaging_ns is not None else []
    call = Field.USAGE.value
    usage = Source(Quantity.POWER, call, nvml_library.number_reader(nvml, call))
    average = _field_source(nvml, Field.AVERAGE, nvml_library.POWER_AVERAGE)
    instant = _field_source(nvml, Field.INSTANT, nvml_library.POWER_INSTANT)
    if is_witness:
        for source in kept:
            source.every_ns = BUFFER_EVERY_NS
        return [*kept, instant, usage, average]
    # of two that see the same, the field whose meaning no driver changed comes first
    return sorted(
        [*kept, average, instant, usage], key=lambda source: _blindness(window(*chip, driver_version, source.field))
    )


def module_source(nvml: Any, chip: Chip) -> Source | None:
    """Power of the whole module that a Grace superchip's card sits on; None for other cards.

    Other cards are not asked: drivers that know no scopes would give the card's own power for it.
    """
    if not _ON_MODULE.search(chip[1]):
        return None
    number = nvml_library.POWER_INSTANT
    call = f"nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_{Field.INSTANT.value} = {number}, NVML_POWER_SCOPE_MODULE)"
    reader = nvml_library.field_reader(nvml, number, nvml_library.SCOPE_MODULE)
    return Source(Quantity.POWER, call, reader, Field.INSTANT)


def _field_source(nvml: Any, field: Field, number: int) -> Source:
    call = f"nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_{field.value} = {number})"
    return Source(Quantity.POWER, call, nvml_library.field_reader(nvml, number), field)


def _blindness(seen: Window) -> tuple[int, int]:
    """Orders windows for a stream that is booked.

    Those that see all of the time come first, least smoothing before more; then the unknown; then those that look at
    the largest share of it.
    """
    if seen.averaging_ns is None:
        return (1, 0)
    if seen.averaging_ns >= seen.update_ns:
        return (0, seen.averaging_ns)
    return (2, -seen.averaging_ns)
