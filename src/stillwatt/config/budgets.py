"""Budgets as they are written, `0.2 kWh`, `3 kgCO2e`, `1.50 EUR`, `30 min`, `100000 tokens`; and what they come to."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from stillwatt.config.amounts import find_unit
from stillwatt.config.settings import Settings, unit
from stillwatt.errors import UsageError, suggest
from stillwatt.pipelines.spec import Limit, LimitKind
from stillwatt.units import J_PER_KWH, J_PER_UNIT, KG_PER_UNIT, S_PER_UNIT

_AMOUNT = re.compile(r"\s*([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z][A-Za-z0-9]*)\s*")
_CURRENCY = re.compile(r"[A-Z]{3}")
_SHARE = re.compile(r"one-off|marginal|reuse:[1-9][0-9]*")
_UNITS = (*J_PER_UNIT, *KG_PER_UNIT, *S_PER_UNIT, "tokens")
_FOLDED = {name.casefold(): name for name in _UNITS}
"""`MWH` and `Mj` are no currencies, and neither milli nor mega for certain."""


def split_budget(text: str) -> tuple[float, str]:
    """The number and the unit of a budget.

    Raises:
        PydanticCustomError: It is no amount, not above 0, or of no unit that a budget can have.

    >>> split_budget("0.2 kWh"), split_budget("100_000 tokens"), split_budget("1.5 EUR"), split_budget("3 hours")
    ((0.2, 'kWh'), (100000.0, 'tokens'), (1.5, 'EUR'), (10800.0, 's'))
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise PydanticCustomError("budget", "must be an amount with its unit, such as '0.2 kWh' or '30 min'")
    amount, name = float(found[1]), found[2]
    if not (math.isfinite(amount) and amount > 0.0):
        raise PydanticCustomError("budget", "must be more than nothing, and finite")
    if name in _UNITS:
        return amount, name
    found_unit = find_unit(name)
    if found_unit is not None:
        return amount * found_unit[1], found_unit[0]
    if name.casefold() in _FOLDED or not _CURRENCY.fullmatch(name):
        near = _FOLDED.get(suggest(name.casefold(), _FOLDED) or "")
        hint = f"did you mean '{near}'?" if near else f"known: {', '.join(_UNITS)}, or a currency such as EUR"
        raise PydanticCustomError("budget", "unknown unit '{name}'; {hint}", {"name": name, "hint": hint})
    return amount, name


def check_budget(text: str) -> str:
    """Refuse a budget that is none."""
    split_budget(text)
    return text


def check_share(text: str) -> str:
    """Refuse a rule of sharing that is none."""
    if _SHARE.fullmatch(text) is None:
        raise PydanticCustomError("share", "must be 'one-off', 'marginal' or 'reuse:N'")
    return text


BudgetText = Annotated[str, AfterValidator(check_budget)]
"""An amount of energy, carbon, money, time or tokens."""


class BudgetSettings(Settings):
    """What budgets are reckoned with; `budget` itself stands at the top of the file, or in an arm."""

    each_arm: BudgetText | None = Field(
        default=None,
        description="Budget of every arm that has none of its own: with joules, arms that cost the same. The energy "
        "of an arm is its training's, with its own text and a teacher beside it, and its share of teacher artefacts; "
        "evaluations are outside.",
    )
    teacher_share: Annotated[str, AfterValidator(check_share)] | None = Field(
        default=None,
        description="`one-off`, `reuse:N` or `marginal`: what an arm with a budget of energy, carbon or money bears "
        "of the artefacts it trains on, all, an Nth, or nothing; needed where there is such an arm.",
    )
    kgco2e_per_kwh: float | None = Field(
        default=None, gt=0.0, description="Carbon of a kWh, for budgets in CO2e.", json_schema_extra=unit("kgCO2e/kWh")
    )
    region: str | None = Field(
        default=None,
        description="Where the work runs, for budgets in CO2e: the catalogue's location-based figure is taken; "
        "`stillwatt factors show` gives it.",
    )
    pue: float = Field(
        default=1.0, ge=1.0, description="Facility energy over node energy, for budgets in CO2e and money."
    )
    price_per_kwh: float | None = Field(default=None, gt=0.0, description="Price of a kWh, for budgets in money.")
    currency: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="Of the price, as a code of three letters."
    )

    @property
    def teacher_factor(self) -> float | None:
        """The share of an artefact that an arm bears; None where it is not said."""
        if self.teacher_share is None:
            return None
        rule, _, number = self.teacher_share.partition(":")
        return {"one-off": 1.0, "marginal": 0.0}.get(rule, 1.0 / int(number or 1))

    def limit(self, text: str) -> Limit:
        """A budget in the unit it is held against.

        Raises:
            UsageError: It is of carbon or money, and what a kWh has of it is not said.
        """
        amount, name = split_budget(text)
        if name == "tokens":
            return Limit(kind=LimitKind.TOKENS, amount=amount, said=text)
        if name in S_PER_UNIT:
            return Limit(kind=LimitKind.TIME, amount=amount * S_PER_UNIT[name], said=text)
        if name in J_PER_UNIT:
            return Limit(kind=LimitKind.ENERGY, amount=amount * J_PER_UNIT[name], said=text)
        per_kwh, basis = self._carbon() if name in KG_PER_UNIT else self._price(name)
        joules = amount * KG_PER_UNIT.get(name, 1.0) / per_kwh / self.pue * J_PER_KWH
        return Limit(
            kind=LimitKind.ENERGY, amount=joules, said=f"{text} ({joules:,.4g} J at {basis}, PUE {self.pue:g})"
        )

    def _carbon(self) -> tuple[float, str]:
        if self.kgco2e_per_kwh is not None:
            return self.kgco2e_per_kwh, f"{self.kgco2e_per_kwh:g} kgCO2e/kWh"
        if self.region is None:
            raise UsageError("a budget of CO2e needs budgets.kgco2e_per_kwh or budgets.region")
        return _carbon_of(self.region)

    def _price(self, currency: str) -> tuple[float, str]:
        if self.price_per_kwh is None or self.currency is None:
            raise UsageError(f"a budget in {currency} needs budgets.price_per_kwh and budgets.currency")
        if self.currency != currency:
            raise UsageError(f"the budget is in {currency} and the price of a kWh in {self.currency}; give both in one")
        return self.price_per_kwh, f"{self.price_per_kwh:g} {currency}/kWh"


def _carbon_of(region: str) -> tuple[float, str]:
    from stillwatt.factors.catalog import build_catalog, choose
    from stillwatt.factors.packages import read_packages
    from stillwatt.factors.places import find_place
    from stillwatt.records.factor import Choice

    found = choose(build_catalog(read_packages(), []), "grid_gwp_location", find_place(region))
    if not isinstance(found, Choice):
        raise UsageError(f"budgets.region: {found.reason}; give budgets.kgco2e_per_kwh")
    return found.factor.value, f"{found.factor.value:g} kgCO2e/kWh of {found.factor.where}"
