"""From what a row says to a `Factor`: its unit brought to the quantity's own, its interval filled in where it has none.

The same door for shipped tables, installed packages, factor files and single overrides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from stillwatt.errors import ImpossibleFactorError, UnknownNameError
from stillwatt.factors.quantities import QUANTITIES, Quantity
from stillwatt.records.factor import Distribution, Factor, Water

Cell = str | float | int | bool | None

_YEAR = re.compile(r"(?:19|20)\d\d")


def make_factor(said: Mapping[str, Cell], *, origin: str = "stillwatt") -> Factor:
    """A factor from what a row says of it.

    Args:
        said: `quantity`, `where`, `unit`, and `value` or both `low` and `high`; the rest may be missing.
        origin: who brings it.

    Raises:
        UnknownNameError: no such quantity, distribution or kind of water.
        ImpossibleFactorError: no value, a unit that is none of the quantity's, an interval that leaves the value out.

    >>> make_factor({"quantity": "grid_gwp_location", "where": "FRA", "value": 56, "unit": "gCO2e/kWh"}).value
    0.056
    """
    quantity = _quantity(_text(said, "quantity"))
    name = _text(said, "id") or f"{quantity.name}/{_text(said, 'where')}"
    scale = _scale(quantity, _text(said, "unit"), name)
    value, low, high = (_scaled(said.get(key), scale, key, name) for key in ("value", "low", "high"))
    value, low, high, distribution, is_ours = _interval(quantity, value, low, high, _text(said, "distribution"), name)
    vintage = _text(said, "vintage") or _text(said, "year")
    return Factor(
        id=name,
        quantity=quantity.name,
        value=value,
        low=low,
        high=high,
        distribution=distribution,
        unit=quantity.unit,
        where=_text(said, "where"),
        year=_year(_text(said, "year") or vintage),
        vintage=vintage,
        boundary=_text(said, "boundary"),
        source=_text(said, "source"),
        source_url=_text(said, "source_url"),
        licence=_text(said, "licence"),
        verified=said.get("verified") in (True, "yes", "true"),
        note=_text(said, "note"),
        water=_water(quantity, _text(said, "water")),
        spread_is_ours=is_ours,
        origin=origin,
    )


def _text(said: Mapping[str, Cell], key: str) -> str:
    found = said.get(key)
    return "" if found is None else str(found).strip()


def _quantity(name: str) -> Quantity:
    if name not in QUANTITIES:
        raise UnknownNameError("quantity", name, QUANTITIES)
    return QUANTITIES[name]


def _scale(quantity: Quantity, unit: str, name: str) -> float:
    scale = quantity.to_unit(unit)
    if scale is None:
        known = ", ".join(dict.fromkeys((quantity.unit, *quantity.units)))
        raise ImpossibleFactorError(name, f"{unit or 'no unit'!r} is no unit of {quantity.name}; it is one of {known}")
    return scale


def _scaled(cell: Cell, scale: float, key: str, name: str) -> float | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        number = float(cell)
    except ValueError:
        raise ImpossibleFactorError(name, f"{key} is {cell!r}, not a number") from None
    if not math.isfinite(number):
        raise ImpossibleFactorError(name, f"{key} is {cell}, not a finite number")
    return number * scale


def _interval(
    quantity: Quantity, value: float | None, low: float | None, high: float | None, said: str, name: str
) -> tuple[float, float, float, Distribution, bool]:
    if (low is None) != (high is None):
        raise ImpossibleFactorError(name, "low and high belong together; give both or neither")
    if low is None or high is None:
        if value is None:
            raise ImpossibleFactorError(name, "it has no value, nor low and high")
        if said == Distribution.EXACT.value:
            return value, value, value, Distribution.EXACT, False
        low, high, distribution = quantity.assumed_interval(value)
        return value, low, high, distribution, distribution is not Distribution.EXACT
    if value is None:
        value, said = (low + high) / 2, said or Distribution.UNIFORM.value
    if not low <= value <= high:
        raise ImpossibleFactorError(name, f"its value {value:g} lies outside low {low:g} to high {high:g}")
    return value, low, high, _distribution(said, low, high), False


def _distribution(said: str, low: float, high: float) -> Distribution:
    if low == high:
        return Distribution.EXACT
    if not said:
        return Distribution.LOGNORMAL if low > 0.0 else Distribution.TRIANGULAR
    known = {one.value: one for one in Distribution}
    if said not in known:
        raise UnknownNameError("distribution", said, known)
    if said == Distribution.LOGNORMAL.value and low <= 0.0:
        raise ImpossibleFactorError("lognormal", f"a lognormal factor lies above 0, and its low is {low:g}")
    return known[said]


def _water(quantity: Quantity, said: str) -> Water | None:
    known = {one.value: one for one in Water}
    if said and said not in known:
        raise UnknownNameError("kind of water", said, known)
    if said:
        return known[said]
    if len(quantity.waters) == 1:
        return quantity.waters[0]
    return Water.UNSTATED if quantity.waters else None


def _year(text: str) -> int | None:
    found = _YEAR.search(text)
    return int(found.group()) if found else None
