"""Units: SI inside, one place to convert, exact constants that say why.

Every name elsewhere carries its unit (`energy_j`, `power_w`, `period_ms`, `start_ns`); the
`NewType`s below stand at function doors so that a type checker refuses watts where joules are meant.

>>> to_kwh(Joules(3_600_000.0))
1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NewType

Joules = NewType("Joules", float)
Watts = NewType("Watts", float)
Seconds = NewType("Seconds", float)
Nanoseconds = NewType("Nanoseconds", int)
KilowattHours = NewType("KilowattHours", float)

NS_PER_S = 1_000_000_000
"""Exact: the SI prefix nano."""
NS_PER_MS = 1_000_000
"""Exact: milli over nano."""
NS_PER_US = 1_000
"""Exact: micro over nano."""
J_PER_KWH = 3_600_000
"""Exact by definition: 1000 W for the 3600 s of an hour."""
S_PER_H = 3_600
"""Exact by definition."""
S_PER_MIN = 60
S_PER_DAY = 86_400
J_PER_MJ_MILLI = 0.001
"""One millijoule, the count of NVML's energy counter."""
J_PER_UJ = 0.000_001
W_PER_UW = 0.000_001
W_PER_MV_MA = 0.000_001
"""Millivolts times milliamperes."""
"""One microjoule, the count of powercap's energy counters."""
W_PER_MW_MILLI = 0.001
"""One milliwatt, the count of NVML's power readings."""
GIGA = 1_000_000_000
"""Exact: the SI prefix giga; parameters and FLOP are counted in it."""
BYTES_PER_GIB = 1 << 30
"""Exact: 2**30."""
MJ_PER_KWH = 3.6
"""Exact by definition; the physical floor of primary energy per kilowatt-hour."""
KG_PER_G = 0.001
KG_PER_T = 1_000.0
KWH_PER_MWH = 1_000.0
KG_PER_LB = 0.453_592_37
"""Exact: the international pound."""
L_PER_M3 = 1_000.0
ML_PER_L = 1_000.0
L_PER_GAL = 3.785_411_784
"""Exact: the US gallon."""
DAYS_PER_YEAR = 365.25
"""Exact: the Julian year, in which lifetimes are counted."""
H_PER_YEAR = 8_766.0
"""Exact: 24 hours for the 365.25 days of the Julian year."""
S_PER_YEAR = 31_557_600.0
"""Exact: the Julian year."""
BYTES_PER_GB = 1e9
"""Exact: the SI prefix giga, as makers of drives use it."""


SI_PREFIXES: Mapping[str, float] = {
    "p": 1e-12,
    "n": 1e-9,
    "µ": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}
"""Exact: what stands before a unit, smallest first."""


class Scale(NamedTuple):
    """A unit that published figures are written in: what it measures, and how many of the base unit it is."""

    dimension: str
    of_base: float


def _metric(dimension: str, **units: float) -> dict[str, Scale]:
    return {unit: Scale(dimension, of_base) for unit, of_base in units.items()}


SCALES: Mapping[str, Scale] = {
    **_metric("energy", J=1.0, kJ=1e3, MJ=1e6, GJ=1e9, TJ=1e12, PJ=1e15, mJ=1e-3),
    **_metric("energy", mWh=J_PER_KWH / 1e6, Wh=J_PER_KWH / 1e3, kWh=J_PER_KWH),
    **_metric("energy", MWh=J_PER_KWH * 1e3, GWh=J_PER_KWH * 1e6, TWh=J_PER_KWH * 1e9),
    **_metric("mass", mg=1e-6, g=KG_PER_G, kg=1.0, t=KG_PER_T, kt=1e6, Mt=1e9, lb=KG_PER_LB),
    **_metric("volume", mL=1e-3, L=1.0, kL=L_PER_M3, m3=L_PER_M3, ML=1e6, GL=1e9, gal=L_PER_GAL),
    **_metric("depletion of elements", mgSbeq=1e-6, gSbeq=KG_PER_G, kgSbeq=1.0),
    **_metric("power", mW=1e-3, W=1.0, kW=1e3, MW=1e6, GW=1e9),
    **_metric("computing", FLOP=1.0, EFLOP=1e18),
    # as text: a name in the code would be spelt with the Greek letter
    "µJ": Scale("energy", 1e-6),
    "µWh": Scale("energy", J_PER_KWH / 1e9),
    "µg": Scale("mass", 1e-9),
    "µL": Scale("volume", 1e-6),
    "µgSbeq": Scale("depletion of elements", 1e-9),
    "accelerator-h": Scale("accelerator time", 1.0),
    "USD": Scale("money", 1.0),
    "km2": Scale("area", 1.0),
    "count": Scale("number", 1.0),
    "1": Scale("ratio", 1.0),
    "%": Scale("ratio", 0.01),
}
"""Units of published figures; bases are J, kg, L, kgSbeq, W, FLOP."""


def convert(value: float, unit: str, to: str) -> float:
    """A figure in another unit of the same dimension.

    Raises:
        ValueError: A unit that is not in `SCALES`, or two of different dimensions.

    >>> convert(1.2, "kWh", "MJ"), convert(50.5, "t", "kg")
    (4.32, 50500.0)
    """
    for name in (unit, to):
        if name not in SCALES:
            raise ValueError(f"unknown unit {name!r}")
    if unit == to:
        return value
    if SCALES[unit].dimension != SCALES[to].dimension:
        raise ValueError(f"{unit} is of {SCALES[unit].dimension} and {to} of {SCALES[to].dimension}")
    return value * SCALES[unit].of_base / SCALES[to].of_base


def to_kwh(energy_j: Joules) -> KilowattHours:
    """Convert joules to kilowatt-hours, exactly (method.md, eq. 1).

    >>> to_kwh(Joules(1_800_000.0))
    0.5
    """
    return KilowattHours(energy_j / J_PER_KWH)


def from_kwh(energy_kwh: KilowattHours) -> Joules:
    """Convert kilowatt-hours to joules, the inverse of `to_kwh`.

    >>> from_kwh(KilowattHours(0.5))
    1800000.0
    """
    return Joules(energy_kwh * J_PER_KWH)


def seconds(span_ns: int) -> Seconds:
    """Convert a length in nanoseconds to seconds.

    >>> seconds(1_500_000_000)
    1.5
    """
    return Seconds(span_ns / NS_PER_S)


def nanoseconds(span_s: float) -> Nanoseconds:
    """Convert a length in seconds to whole nanoseconds, rounding half to even.

    >>> nanoseconds(0.1)
    100000000
    """
    return Nanoseconds(round(span_s * NS_PER_S))


J_PER_UNIT = {
    "J": 1.0, "kJ": 1_000.0, "MJ": 1_000_000.0, "GJ": 1_000_000_000.0,
    "Wh": 1.0 * S_PER_H, "kWh": 1.0 * J_PER_KWH, "MWh": KWH_PER_MWH * J_PER_KWH,
}  # fmt: skip
"""Joules of one unit in which an amount of energy may be written."""
S_PER_UNIT = {"s": 1.0, "min": 60.0, "h": 1.0 * S_PER_H, "d": 24.0 * S_PER_H}
"""Seconds of one unit in which a length of time may be written."""
KG_PER_UNIT = {"gCO2e": KG_PER_G, "kgCO2e": 1.0, "tCO2e": KG_PER_T}
"""Kilograms of one unit in which an amount of greenhouse gases may be written."""
