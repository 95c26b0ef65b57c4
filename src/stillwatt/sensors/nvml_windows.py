"""What an NVIDIA card's power readings average over: by chip, field and driver (docs/reference/sensors.md).

Source: Yang, Adamek and Armour, "Accurate and Convenient Energy Measurements for GPUs" (SC24, arXiv 2312.02741), who
measured it on more than 70 cards of 12 generations; Hopper's buffer was measured with benchmarks/gpu_check.py (an H200
with driver 580.159.04). What nobody measured is unknown here, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from stillwatt.units import NS_PER_MS


class Field(Enum):
    """The ways to ask a card for its power."""

    USAGE = "nvmlDeviceGetPowerUsage"
    AVERAGE = "AVERAGE"
    INSTANT = "INSTANT"
    BUFFER = "NVML_TOTAL_POWER_SAMPLES"
    """The driver's own record of the last seconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """How often a reading is renewed, and over how long it averages (None: nobody measured it)."""

    update_ns: int
    averaging_ns: int | None
    settling_ns: int | None = None
    """Time constant of readings that follow power as the voltage of a charging capacitor does."""


_KEPLER, _MAXWELL, _PASCAL, _VOLTA, _TURING, _AMPERE, _ADA, _HOPPER = range(2, 10)
"""NVML's numbers of the architectures."""
_GA100 = re.compile(r"\b(A100|A800|A30X?|A100X|GA100)\b")
_CHANGED_DRIVER = 530
_UNKNOWN = (100, None)
_SETTLING_NS = 840 * NS_PER_MS
"""Of K20 and K40 (Burtscher, Zecena and Zong, GPGPU-7, 2014; their K20Power corrects by it). Yang et al. saw the same
kind of curve on later Kepler cards and on Maxwell."""


def window(architecture: int | None, name: str, driver_version: str, field: Field) -> Window:
    """The window of one field of one card.

    >>> window(7, "NVIDIA A100-SXM4-80GB", "550.54.15", Field.USAGE).averaging_ns
    25000000
    >>> window(7, "NVIDIA GeForce RTX 3090", "550.54.15", Field.USAGE).averaging_ns
    1000000000
    """
    if architecture in (_KEPLER, _MAXWELL) and field is not Field.BUFFER:
        return Window(100 * NS_PER_MS, 0, _SETTLING_NS)
    update_ms, averaging_ms = _milliseconds(architecture, name, driver_version, field)
    return Window(update_ms * NS_PER_MS, None if averaging_ms is None else averaging_ms * NS_PER_MS)


def _milliseconds(architecture: int | None, name: str, driver_version: str, field: Field) -> tuple[int, int | None]:
    if field is Field.BUFFER:
        return (20, 25) if architecture == _HOPPER else _UNKNOWN
    if architecture in (_PASCAL, _VOLTA):
        return (20, 10)
    if architecture == _TURING:
        return (100, 100)
    if architecture == _AMPERE and _GA100.search(name):
        return (100, 25)
    if architecture in (_AMPERE, _ADA):
        return _since_ampere(driver_version, field)
    if architecture == _HOPPER:
        return (100, 25) if field is Field.INSTANT else (100, 1000)
    return _UNKNOWN


def _since_ampere(driver_version: str, field: Field) -> tuple[int, int | None]:
    """GA10x and Ada, on which the meaning of the plain reading changed with the driver, and back."""
    if field is Field.INSTANT:
        return (100, 100)
    major = re.match(r"\d+", driver_version)
    if field is Field.USAGE and major and int(major.group()) == _CHANGED_DRIVER:
        return (100, 100)
    return (100, 1000)
