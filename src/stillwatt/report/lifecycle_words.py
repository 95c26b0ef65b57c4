"""Names and numbers of a life-cycle report as people read them: stages, impacts, statuses, amounts with their unit.

A report is in kWh, MJ, kgCO2e, L, kgSbeq and kg. A page scales them by SI prefixes, so that one student's grams do not
stand there as 0.0000042 kg; the number never stands without its unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.records import impact
from stillwatt.records.impact import Status
from stillwatt.report.format import MISSING, decimals_for, percent_text, rounded
from stillwatt.units import SI_PREFIXES

STAGE_TITLES: Mapping[str, str] = {
    "hardware_manufacturing": "hardware manufacturing",
    "infrastructure_construction": "infrastructure construction",
    "data": "data",
    "experimentation": "experimentation",
    "training": "training",
    "post_training": "post-training",
    "deployment": "deployment",
    "end_of_life": "end of life",
}
IMPACT_TITLES: Mapping[str, str] = {
    "energy_metered": "electricity as metered",
    "energy_node": "electricity of the node",
    "energy_facility": "electricity of the facility",
    "primary_energy": "primary energy",
    "gwp_location": "GWP (location-based)",
    "gwp_market": "GWP (market-based)",
    "water_onsite": "water on site",
    "water_offsite": "water off site",
    "adpe": "depletion of elements (ADPe)",
    "ewaste": "e-waste",
}
NOT_COUNTED, NOT_APPLICABLE = Status.NOT_COUNTED.value, Status.NOT_APPLICABLE.value
VALUED = tuple(status.value for status in Status if status in impact.VALUED)
NO_ZERO = "not an absence of emissions"
"""What a caution says of a market-based 0, which is told before all others."""
_BRIEF: Mapping[str, str] = {"hardware_manufacturing": "hardware", "infrastructure_construction": "infrastructure"}
STATUS_TITLES: Mapping[str, str] = {
    "measured": "measured",
    "modelled": "modelled",
    "factor": "factor",
    NOT_APPLICABLE: "not applicable",
    NOT_COUNTED: "not counted",
}
STATUS_MEANINGS: Mapping[str, str] = {
    "measured": "read from an instrument",
    "modelled": "computed from what the machine did",
    "factor": "a figure from outside had a part in it",
    NOT_APPLICABLE: "there is no such thing in this stage",
    NOT_COUNTED: "it exists and is not known; it is no 0",
}
_OF_MASS = ("p", "n", "µ", "m", "", "k", "M", "G")
_OF_ENERGY = ("m", "", "k", "M", "G", "T")
_BASES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "kWh": ("Wh", "k", ("µ", *_OF_ENERGY)),
    "MJ": ("J", "M", _OF_ENERGY),
    "kgCO2e": ("g CO2e", "k", _OF_MASS),
    "kgSbeq": ("g Sb eq", "k", _OF_MASS),
    "kg": ("g", "k", _OF_MASS),
    "L": ("L", "", ("n", "µ", "m", "", "k")),
    "B": ("B", "", ("", "k", "M", "G", "T")),
}
"""By unit of a report, and for bytes: what prefixes stand before, the report's own prefix, and those that are used."""
_NAMES = {"Mg": "t", "Gg": "kt", "kL": "m³"}
"""What people say instead."""
_SHORT = {
    **{word: word.upper() for word in ("gwp", "pue", "wue", "tdp", "ssd", "hdd", "cpu", "gpu", "dram")},
    **{"adpe": "ADPe", "adpf": "ADPf", "eol": "end-of-life", "ewaste": "e-waste", "offsite": "off-site"},
}
_LEAST = 0.5
"""A number is at least this in the unit it is shown in."""
_TINY, _HUGE = 0.001, 10_000_000.0
"""Beyond these a number has another unit, or a power of ten."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A unit to show numbers in."""

    symbol: str
    per_unit: float
    """How many of it the report's own unit is."""

    def of(self, value: float) -> float:
        """The report's number in this unit."""
        return value * self.per_unit


def quantity_title(name: str) -> str:
    """A factor's quantity in words.

    >>> quantity_title("grid_gwp_location"), quantity_title("eol_adpe"), quantity_title("pue")
    ('grid GWP location', 'end-of-life ADPe', 'PUE')
    """
    return " ".join(_SHORT.get(word, word) for word in name.split("_"))


def factor_title(factor: Mapping[str, Any]) -> str:
    """A factor by what it is and of what."""
    return f"{quantity_title(factor['quantity'])} of {factor['where']}"


def stage_title(name: str) -> str:
    """A stage's name in words; one that is not known as it is written.

    >>> stage_title("post_training"), stage_title("way_home")
    ('post-training', 'way home')
    """
    return STAGE_TITLES.get(name, name.replace("_", " "))


def brief_stage(name: str) -> str:
    """A stage's name where there is little room.

    >>> brief_stage("infrastructure_construction"), brief_stage("post_training")
    ('infrastructure', 'post-training')
    """
    return _BRIEF.get(name, stage_title(name))


def impact_title(name: str) -> str:
    """An impact's name in words; one that is not known as it is written."""
    return IMPACT_TITLES.get(name, name.replace("_", " "))


def status_title(name: str) -> str:
    """A status in words."""
    return STATUS_TITLES.get(name, name.replace("_", " "))


def scale_for(values: Iterable[float | None], unit: str) -> Scale:
    """One unit for numbers that stand beside each other, by the largest of them.

    >>> [scale_for([value], "kgCO2e").symbol for value in (0.0384, 4e-12, 80.0, 12_000.0, 0.0)]
    ['g CO2e', 'ng CO2e', 'kg CO2e', 't CO2e', 'kg CO2e']
    >>> scale_for([3.0], "L").symbol, scale_for([3e4], "L").symbol, scale_for([1.0], "heaps").symbol
    ('L', 'm³', 'heaps')
    """
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if unit not in _BASES:
        return Scale(symbol=unit, per_unit=1.0)
    base, own, prefixes = _BASES[unit]
    if not largest:
        return _scale(base, own, own)
    scales = [_scale(base, own, prefix) for prefix in prefixes]
    return next((scale for scale in reversed(scales) if scale.of(largest) >= _LEAST), scales[0])


def _scale(base: str, own: str, prefix: str) -> Scale:
    letter, _, rest = base.partition(" ")
    name = _NAMES.get(f"{prefix}{letter}", f"{prefix}{letter}")
    return Scale(symbol=f"{name} {rest}".strip(), per_unit=SI_PREFIXES[own] / SI_PREFIXES[prefix])


def number_text(value: float, digits: int = 4) -> str:
    """A number to so many significant digits and without idle zeros, as a power of ten where it is very large or small.

    >>> number_text(525.0), number_text(1.3733333), number_text(8e-08), number_text(12345.6), number_text(0.0)
    ('525', '1.373', '8×10⁻⁸', '12,350', '0')
    """
    if not math.isfinite(value):
        return str(value)
    if value and not _TINY <= abs(value) < _HUGE:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        plain = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{plain}×10{str(int(exponent)).translate(_RAISED)}"
    text = f"{float(f'{value:.{digits}g}'):,.{digits + 2}f}"
    return text.rstrip("0").rstrip(".")


def amount_text(row: Mapping[str, Any], unit: str, scale: Scale | None = None) -> str:
    """A value with its unit and, where it has one, its 90 % interval; a dash where there is no value.

    A number that would begin with three zeros in the given unit has a unit of its own.

    >>> amount_text({"value": 0.03845, "low": 0.0215, "high": 0.0674}, "kgCO2e")
    '38 g CO2e [22, 67]'
    >>> amount_text({"value": 1.6e-6, "low": 1e-6, "high": 3e-6}, "kgCO2e", scale_for([0.04], "kgCO2e"))
    '0.0016 g CO2e [0.0010, 0.0030]'
    >>> amount_text({"value": 0.0, "low": 0.0, "high": 0.0}, "kgCO2e"), amount_text({"value": None}, "L")
    ('0 kg CO2e', '–')
    """
    value, ends = value_and_ends(row, unit, scale)
    return f"{value} {ends}".strip()


def value_and_ends(row: Mapping[str, Any], unit: str, scale: Scale | None = None) -> tuple[str, str]:
    """A value with its unit, and its interval in brackets; the second is empty where there is none."""
    value, low, high = (row.get(key) for key in ("value", "low", "high"))
    if value is None:
        return MISSING, ""
    chosen = _legible(value, unit, scale)
    shown = chosen.of(value)
    if low is None or high is None or low == value == high:
        return f"{number_text(shown, 3)} {chosen.symbol}", ""
    ends = chosen.of(low), chosen.of(high)
    if max(abs(end) for end in (shown, *ends)) >= _HUGE or (shown and abs(shown) < _TINY):
        return f"{number_text(shown, 2)} {chosen.symbol}", f"[{number_text(ends[0], 2)}, {number_text(ends[1], 2)}]"
    decimals = decimals_for(shown, (ends[1] - ends[0]) / 2.0)
    return (
        f"{rounded(shown, decimals)} {chosen.symbol}",
        f"[{rounded(ends[0], decimals)}, {rounded(ends[1], decimals)}]",
    )


def range_words(row: Mapping[str, Any], unit: str, scale: Scale | None = None) -> str:
    """A value's interval in words.

    >>> range_words({"value": 0.03845, "low": 0.0215, "high": 0.0674}, "kgCO2e")
    '22 to 67 g CO2e'
    """
    value, ends = value_and_ends(row, unit, scale)
    return f"{ends[1:-1].replace(', ', ' to ')} {value.partition(' ')[2]}" if ends else value


def _legible(value: float, unit: str, scale: Scale | None) -> Scale:
    own = scale_for([value], unit)
    if scale is None or (value and abs(scale.of(value)) < _TINY):
        return own
    return scale


def share_text(share: float) -> str:
    """A share in per cent that calls nothing all, or none, which is not.

    >>> share_text(0.9987), share_text(1.0), share_text(0.00005), share_text(0.0), share_text(0.2)
    ('>99 %', '100 %', '<0.1 %', '0 %', '20 %')
    """
    if 0.995 <= share < 1.0:
        return ">99 %"
    return "<0.1 %" if 0.0 < share < _TINY else percent_text(share)


def names_text(names: Iterable[str]) -> str:
    """Names as a list in a sentence.

    >>> names_text(["data"]), names_text(["data", "training", "end of life"]), names_text([])
    ('data', 'data, training and end of life', 'none')
    """
    *most, last = [*names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
