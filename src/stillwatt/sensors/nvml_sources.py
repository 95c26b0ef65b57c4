"""The ways to read an NVIDIA card's energy and power, best first for the use that is made of them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillwatt.records import Quantity
from stillwatt.sensors import nvml_library
from stillwatt.sensors.nvml_windows import Field, Window, window

Chip = tuple[int | None, str]
"""Architecture and name."""


_ON_MODULE = re.compile(r"\bG[HB]\d+|Grace", re.IGNORECASE)
"""Names of Grace superchips: GH200, GB200, GB300."""


@dataclass(slots=True)
class Source:
    """One way to read one quantity of one card."""

    quantity: Quantity
    call: str
    read: Callable[[Any], int]
    field: Field = Field.USAGE
    stream: str = ""
    """The channel's name, kept here because it is needed at every reading."""
    is_buffer: bool = False
    """Whether `read` gives the time in microseconds of the newest of many readings that the driver kept."""


def counter_source(nvml: Any) -> Source:
    """The energy counter."""
    call = "nvmlDeviceGetTotalEnergyConsumption"
    return Source(Quantity.ENERGY_COUNTER, call, nvml_library.number_reader(nvml, call, ctypes.c_uint64))


def power_sources(nvml: Any, chip: Chip, driver_version: str, *, is_witness: bool) -> list[Source]:
    """The ways to read power, best first for the use that is made of it."""
    call = Field.USAGE.value
    usage = Source(Quantity.POWER, call, nvml_library.number_reader(nvml, call, ctypes.c_uint32))
    average = _field_source(nvml, Field.AVERAGE, nvml_library.POWER_AVERAGE)
    instant = _field_source(nvml, Field.INSTANT, nvml_library.POWER_INSTANT)
    if is_witness:
        return [instant, usage, average]
    # of two that see the same, the field whose meaning no driver changed comes first
    return sorted([average, instant, usage], key=lambda source: _blindness(window(*chip, driver_version, source.field)))


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
