"""Units: SI inside, one place to convert, exact constants that say why.

Every name elsewhere carries its unit (`energy_j`, `power_w`, `period_ms`, `start_ns`); the
`NewType`s below stand at function doors so that a type checker refuses watts where joules are meant.

>>> to_kwh(Joules(3_600_000.0))
1.0
"""

from __future__ import annotations

from typing import NewType

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
L_PER_GAL = 3.785_411_784
"""Exact: the US gallon."""


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
