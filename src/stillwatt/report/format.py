"""Numbers as people read them: rounded by their interval, scaled to a unit, written in one place.

A number shows two significant digits of its half-width and no more: `310 J [180, 560]`, not `312.4071 J`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.records.channel import Basis
from stillwatt.units import J_PER_KWH, J_PER_MJ_MILLI, S_PER_H, Joules, KilowattHours, from_kwh, to_kwh

MISSING = "–"
_KILO = 1_000.0
_S_PER_MIN = 60
_SMALL_RATIO = 0.1
"""Below it, two decimals are less than two digits."""
_MOST_DIGITS = 4
"""Significant digits of a value, at most, however narrow its interval."""
_LEAST_DIGITS = 2
"""Significant digits of a value, at least, however wide its interval."""
_MOST_DECIMALS = 6
_LEAST_WRITTEN, _MOST_WRITTEN = 1e-5, 1e15
"""Below the one, where there are so many decimals, and from the other on a value is written by its exponent."""
_NEARLY_ALL = 0.995
"""Share from which all of something is spoken of."""
_KWH_FROM_J = 0.1 * J_PER_KWH


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of energy for display."""

    symbol: str
    joules: float

    def of(self, energy_j: float) -> float:
        """The energy in this unit."""
        return to_kwh(Joules(energy_j)) if self.joules == J_PER_KWH else energy_j / self.joules

    def of_kwh(self, energy_kwh: float) -> float:
        """An energy that is given in kWh, in this unit."""
        return energy_kwh if self.joules == J_PER_KWH else self.of(from_kwh(KilowattHours(energy_kwh)))


_UNITS = (
    Unit(symbol="mJ", joules=J_PER_MJ_MILLI),
    Unit(symbol="J", joules=1.0),
    Unit(symbol="kJ", joules=_KILO),
    Unit(symbol="kWh", joules=float(J_PER_KWH)),
)


def pick_unit(energies_j: Iterable[float]) -> Unit:
    """One unit for numbers that stand beside each other, by the largest of them.

    >>> [pick_unit([value]).symbol for value in (0.5, 312.0, 9_400.0, 35_000.0, 7.0 * 3_600_000)]
    ['mJ', 'J', 'J', 'kJ', 'kWh']
    """
    largest = max((abs(value) for value in energies_j), default=1.0)
    if largest >= _KWH_FROM_J:
        return _UNITS[3]
    if largest >= 10.0 * _KILO:
        return _UNITS[2]
    return _UNITS[1] if largest >= 1.0 or largest == 0.0 else _UNITS[0]


def pick_unit_of_kwh(energies_kwh: Iterable[float | None]) -> Unit:
    """One unit for numbers given in kWh that stand beside each other; what is unknown does not count.

    >>> pick_unit_of_kwh([16.9, None]).symbol, pick_unit_of_kwh([0.000_002]).symbol
    ('kWh', 'J')
    """
    return pick_unit(from_kwh(KilowattHours(value)) for value in energies_kwh if value is not None)


def decimals_for(value: float, half_width: float) -> int:
    """Decimals (negative: places before the point) that show two digits of the half-width.

    >>> decimals_for(312.4, 190.0), decimals_for(7.0, 0.0), decimals_for(0.0123, 0.004)
    (-1, 3, 4)
    """
    size = math.floor(math.log10(abs(value))) if value else 0
    finest, coarsest = _MOST_DIGITS - 1 - size, _LEAST_DIGITS - 1 - size
    if not value:
        coarsest = 0
    if not half_width or not math.isfinite(half_width):
        return finest
    wanted = 1 - math.floor(math.log10(half_width))
    return max(min(wanted, finest), coarsest)


def rounded(value: float, decimals: int) -> str:
    """The value to that many decimals, thousands set apart; one that nobody could count the digits of, by its exponent.

    >>> rounded(12_345.6, -2), rounded(0.5, 2), rounded(-0.001, 1)
    ('12,300', '0.50', '0.0')
    >>> rounded(1.43e-22, 25), rounded(0.0, 25), rounded(3.21e17, -15)
    ('1.430e-22', '0', '3.21e17')
    """
    if (decimals > _MOST_DECIMALS and abs(value) < _LEAST_WRITTEN) or abs(value) >= _MOST_WRITTEN:
        return _by_exponent(value, decimals)
    text = f"{round(value, decimals) + 0.0:,.{max(decimals, 0)}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def _by_exponent(value: float, decimals: int) -> str:
    """As many digits as so many decimals are, one at least, and the power of ten."""
    if value == 0.0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    digits, _, exponent = f"{value:.{max(decimals + size, 0)}e}".partition("e")
    return f"{digits}e{int(exponent)}"


def interval_text(value: float, low: float, high: float) -> str:
    """A value with its 95 % interval, rounded by it.

    >>> interval_text(312.4, 183.1, 561.0)
    '310 [180, 560]'
    """
    decimals = decimals_for(value, (high - low) / 2.0)
    return f"{rounded(value, decimals)} [{rounded(low, decimals)}, {rounded(high, decimals)}]"


def energy_text(entry: Mapping[str, Any], unit: Unit | None = None) -> str:
    """An energy of the report (`value_j`, `low_j`, `high_j`, or `absent`) with its interval.

    >>> energy_text({"value_j": 312.4, "low_j": 183.1, "high_j": 561.0})
    '310 J [180, 560]'
    >>> energy_text({"absent": "no reading"})
    '–'
    """
    if "absent" in entry:
        return MISSING
    chosen = unit or pick_unit([entry["value_j"]])
    value, low, high = (chosen.of(entry[key]) for key in ("value_j", "low_j", "high_j"))
    number, _, interval = interval_text(value, low, high).partition(" ")
    return f"{number} {chosen.symbol} {interval}"


def energy_value_text(energy_j: float) -> str:
    """An energy without an interval, to three digits.

    >>> energy_value_text(9_432.0), energy_value_text(0.0)
    ('9,430 J', '0 J')
    """
    unit = pick_unit([energy_j])
    return f"{significant(unit.of(energy_j))} {unit.symbol}"


def significant(value: float, digits: int = 3) -> str:
    """A value to that many significant digits.

    >>> significant(0.012345), significant(1234.5), significant(0.0), significant(9.996)
    ('0.0123', '1,230', '0', '10.00')
    """
    if value == 0.0:
        return "0"
    return rounded(value, digits - 1 - math.floor(math.log10(abs(value))))


def count_text(count: float | None) -> str:
    """A count with thousands set apart, or a dash.

    >>> count_text(32768.0), count_text(None)
    ('32,768', '–')
    """
    return MISSING if count is None else f"{count:,.0f}"


def duration_text(duration_s: float) -> str:
    """A length of time as people say it.

    >>> [duration_text(s) for s in (0.25, 12.34, 75.0, 11_520.0)]
    ['0.25 s', '12.3 s', '1 min 15 s', '3 h 12 min']
    """
    if duration_s < _S_PER_MIN:
        return f"{duration_s:.3g} s" if duration_s >= 1.0 else f"{duration_s:.2g} s"
    whole_s = round(duration_s)
    if whole_s < S_PER_H:
        return f"{whole_s // _S_PER_MIN} min {whole_s % _S_PER_MIN} s"
    minutes = round(duration_s / _S_PER_MIN)
    return f"{minutes // _S_PER_MIN:,} h {minutes % _S_PER_MIN} min"


def times_text(ratio: float) -> str:
    """A factor, to two decimals or three digits; a small one to two digits.

    >>> times_text(0.987), times_text(1.302), times_text(123.4)
    ('0.99', '1.30', '123')
    >>> times_text(0.0034), times_text(1.57e-22), times_text(0.0)
    ('0.0034', '1.6e-22', '0.00')
    """
    if 0.0 < ratio < _SMALL_RATIO:
        return significant(ratio, _LEAST_DIGITS)
    return f"{ratio:.2f}" if ratio < 10.0 else significant(ratio)


def least_students_text(low: float) -> str:
    """The fewest students that an interval's lower end allows; nobody shares with less than one.

    >>> least_students_text(0.072), least_students_text(3.3)
    ('1 student', '4 students')
    """
    count = max(math.ceil(low), 1)
    return f"{count:,} student{'' if count == 1 else 's'}"


def times_interval_text(ratio: float, low: float, high: float | None) -> str:
    """A factor with its 95 % interval, which may have no upper end.

    >>> times_interval_text(1.24, 0.276, 5.31), times_interval_text(1.24, 0.276, None)
    ('1.24 [0.28, 5.31]', '1.24 [0.28, no upper end]')
    """
    return f"{times_text(ratio)} [{times_text(low)}, {'no upper end' if high is None else times_text(high)}]"


def date_text(iso_utc: str) -> str:
    """A time stamp to the minute.

    >>> date_text("2026-03-01T10:00:00.000Z")
    '2026-03-01 10:00 UTC'
    """
    day, _, time = iso_utc.partition("T")
    return f"{day} {time[:5]} UTC" if time else iso_utc


def percent_text(share: float) -> str:
    """A share in per cent.

    >>> percent_text(0.1234), percent_text(0.0021), percent_text(1.0), percent_text(0.0)
    ('12 %', '0.21 %', '100 %', '0 %')
    """
    percent = share * 100.0
    return f"{percent:.0f} %" if percent >= 10.0 or percent == 0.0 else f"{percent:.2g} %"


def unmeasured_text(shares: Mapping[Basis, float]) -> str:
    """What a total's bases mean for whoever reads it; empty where all of it was measured.

    >>> unmeasured_text({Basis.MEASURED: 0.9, Basis.MODELLED: 0.1})
    '10 % of the energy is modelled, not measured: the joules are rough, the ratios between stages firmer.'
    >>> unmeasured_text({Basis.ASSUMED: 1.0})
    'All of the energy is assumed, not measured: the joules are no better than what was assumed.'
    >>> unmeasured_text({Basis.MODELLED: 0.7, Basis.ASSUMED: 0.3})
    'Of the energy 70 % is modelled and 30 % is assumed, not measured: the joules are rough.'
    """
    parts = [(shares[basis], basis) for basis in (Basis.MODELLED, Basis.ASSUMED) if shares.get(basis, 0.0) > 0.0]
    if not parts:
        return ""
    if len(parts) > 1:
        said = " and ".join(f"{percent_text(share)} is {basis.value}" for share, basis in parts)
        return f"Of the energy {said}, not measured: the joules are rough."
    ((share, basis),) = parts
    said = "All" if share > _NEARLY_ALL else percent_text(share)
    means = {
        Basis.MODELLED: "the joules are rough, the ratios between stages firmer",
        Basis.ASSUMED: "the joules are no better than what was assumed",
    }[basis]
    return f"{said} of the energy is {basis.value}, not measured: {means}."


def per_token_text(entry: Mapping[str, Any], tokens: float | None) -> str:
    """Joules per token, scaled and rounded by the energy's interval.

    >>> per_token_text({"value_j": 690.0, "low_j": 413.0, "high_j": 966.0}, 7168)
    '96 mJ'
    >>> per_token_text({"value_j": 690.0, "low_j": 413.0, "high_j": 966.0}, None)
    '–'
    """
    if "absent" in entry or not tokens:
        return MISSING
    per_token = {key: entry[key] / tokens for key in ("value_j", "low_j", "high_j")}
    return energy_text(per_token).partition(" [")[0]


def quality_text(quality: Mapping[str, Any]) -> str:
    """A quality with its standard error's 95 % half-width.

    >>> quality_text({"value": 0.7221, "se": 0.05})
    '0.72 ± 0.10'
    """
    if "absent" in quality:
        return MISSING
    if quality["se"] is None:
        return f"{quality['value']:.3f}"
    half_width = 1.96 * quality["se"]
    decimals = 2 if half_width >= 0.02 else 3
    return f"{rounded(quality['value'], decimals)} ± {rounded(half_width, decimals)}"


def share_text(point: Mapping[str, Any]) -> str:
    """The share of the token budget that a point of the report was trained on.

    >>> share_text({"checkpoint": "1.0"}), share_text({"checkpoint": "1.0", "budget_share": 0.25})
    ('100 %', '25 %')
    """
    return percent_text(point.get("budget_share", float(point["checkpoint"])))


def students_text(value: float, low: float | None, high: float | None) -> str:
    """A number of students or tokens with its interval, where the interval may have no upper end.

    >>> students_text(10.0, 7.2, 16.1), students_text(31.0, 14.1, None)
    ('10.0 [7.2, 16.1]', '31 [14, no upper end]')
    """
    if low is None:
        return significant(value)
    if high is None:
        return f"{significant(value, 2)} [{significant(low, 2)}, no upper end]"
    return interval_text(value, low, high)
