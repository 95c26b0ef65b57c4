"""Amounts with units as people write them: energies, lengths of time, kgCO2e, tokens."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from stillwatt.units import J_PER_KWH, J_PER_MJ_MILLI, KG_PER_G, KG_PER_T, KWH_PER_MWH, S_PER_DAY, S_PER_H, S_PER_MIN

__all__ = ["Amount", "find_unit", "parse_amount"]

_KILO = 1_000.0


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit as somebody wrote it, brought to a unit of this project."""

    value: float
    unit: str
    """`J`, `s`, `kgCO2e` or `tokens`."""


_EXACT_NAMES = {"MWh": ("J", J_PER_KWH * KWH_PER_MWH), "MJ": ("J", _KILO**2), "mJ": ("J", J_PER_MJ_MILLI)}
"""Where a capital letter decides between milli and mega."""
_NAMES = {
    "j": ("J", 1.0),
    "kj": ("J", _KILO),
    "gj": ("J", _KILO**3),
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
    **dict.fromkeys(("ktoken", "ktokens"), ("tokens", _KILO)),
    **dict.fromkeys(("mtoken", "mtokens"), ("tokens", _KILO**2)),
}


def find_unit(name: str) -> tuple[str, float] | None:
    """The unit of this project behind a name, and how many of it one of that are; None where the name is not known.

    >>> find_unit("hours"), find_unit("KWH"), find_unit("mwh")
    (('s', 3600.0), ('J', 3600000.0), None)
    """
    # `mwh` and `mj` are not among the folded ones: they could be milli or mega
    return _EXACT_NAMES.get(name) or _NAMES.get(name.casefold())


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
    unit, factor = find_unit(name) or ("", 0.0)
    if not unit:
        raise ValueError(f"{text!r}: {name!r} is no unit that is known here; known: {known}")
    try:
        value = float(number) * factor
    except ValueError as err:
        raise ValueError(f"{text!r}: {number!r} is no number") from err
    if not math.isfinite(value) or value < 0.0:
        raise ValueError(f"{text!r} is no amount: it must be 0 or more, and finite")
    return Amount(value=value, unit=unit)
