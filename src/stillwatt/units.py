"""Units: SI inside, one place to convert, exact constants that say why.

Every name elsewhere carries its unit (`energy_j`, `power_w`, `period_ms`, `start_ns`); the
`NewType`s below stand at function doors so that a type checker refuses watts where joules are meant.

>>> to_kwh(Joules(3_600_000.0))
1.0
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit as somebody wrote it, brought to a unit of this project."""

    value: float
    unit: str
    """`J`, `s`, `kgCO2e` or `tokens`."""


_EXACT_NAMES = {"MWh": ("J", J_PER_KWH * KWH_PER_MWH), "MJ": ("J", 1_000_000.0), "mJ": ("J", J_PER_MJ_MILLI)}
"""Where a capital letter decides between milli and mega."""
_NAMES = {
    "j": ("J", 1.0),
    "kj": ("J", 1_000.0),
    "gj": ("J", 1_000_000_000.0),
    "wh": ("J", float(S_PER_H)),
    "kwh": ("J", float(J_PER_KWH)),
    "gco2e": ("kgCO2e", KG_PER_G),
    "kgco2e": ("kgCO2e", 1.0),
    "tco2e": ("kgCO2e", KG_PER_T),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("s", 1.0)),
    **dict.fromkeys(("min", "minute", "minutes"), ("s", float(S_PER_MIN))),
    **dict.fromkeys(("h", "hour", "hours"), ("s", float(S_PER_H))),
    **dict.fromkeys(("d", "day", "days"), ("s", float(S_PER_DAY))),
    **dict.fromkeys(("token", "tokens"), ("tokens", 1.0)),
    **dict.fromkeys(("ktoken", "ktokens"), ("tokens", 1_000.0)),
    **dict.fromkeys(("mtoken", "mtokens"), ("tokens", 1_000_000.0)),
}


def parse_amount(text: str) -> Amount:
    """Read a number and its unit: energies, lengths of time, kgCO2e, tokens.

    Raises:
        ValueError: It is no number with a unit that is known, or below 0; says what would be.

    >>> parse_amount("5 kWh"), parse_amount("1.5h"), parse_amount("200 gCO2e")
    (Amount(value=18000000.0, unit='J'), Amount(value=5400.0, unit='s'), Amount(value=0.2, unit='kgCO2e'))
    """
    found = re.fullmatch(r"\s*([+-]?[\d._]+(?:[eE][+-]?\d+)?)\s*([A-Za-z0-9]+)\s*", text)
    known = "J, kJ, MJ, Wh, kWh, MWh, s, min, h, days, gCO2e, kgCO2e, tCO2e, tokens"
    if found is None:
        raise ValueError(f"{text!r} is no number with a unit; write it as in '5 kWh' (units: {known})")
    number, name = found.groups()
    unit, factor = _EXACT_NAMES.get(name) or _NAMES.get(name.casefold()) or ("", 0.0)
    if not unit or (name.casefold() in ("mwh", "mj") and name not in _EXACT_NAMES):
        raise ValueError(f"{text!r}: {name!r} is no unit that is known here; known: {known}")
    try:
        value = float(number) * factor
    except ValueError as err:
        raise ValueError(f"{text!r}: {number!r} is no number") from err
    if not math.isfinite(value) or value < 0.0:
        raise ValueError(f"{text!r} is no amount: it must be 0 or more, and finite")
    return Amount(value=value, unit=unit)
