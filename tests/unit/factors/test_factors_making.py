"""Rows to factors: units, intervals, refusals, content hashes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stillwatt.errors import ImpossibleFactorError, UnknownNameError
from stillwatt.factors.making import make_factor
from stillwatt.factors.quantities import QUANTITIES, quantities_markdown
from stillwatt.records.factor import Distribution, Factor, Water

ROW: dict[str, Any] = {"quantity": "grid_gwp_location", "where": "FRA", "value": 56, "unit": "gCO2e/kWh", "year": 2023}


def test_a_unit_that_is_known_is_converted_with_its_interval() -> None:
    factor = make_factor({**ROW, "low": 50, "high": 60})
    assert (factor.value, factor.low, factor.high, factor.unit) == pytest.approx((0.056, 0.05, 0.06, "kgCO2e/kWh"))
    assert factor.distribution is Distribution.LOGNORMAL
    assert not factor.spread_is_ours


@pytest.mark.parametrize(
    ("unit", "value"),
    [("kgCO2e/kWh", 0.056), ("gCO2e/kWh", 56), ("kgCO2e/MWh", 56), ("tCO2e/MWh", 0.056), ("lbCO2e/MWh", 123.459)],
)
def test_units_of_one_quantity_agree(unit: str, value: float) -> None:
    assert make_factor({**ROW, "unit": unit, "value": value}).value == pytest.approx(0.056, rel=1e-5)


def test_an_interval_that_no_source_gives_is_marked_as_ours_and_stays_above_the_floor() -> None:
    pue = make_factor({"quantity": "pue", "where": "world", "value": 1.3, "unit": "1"})
    assert pue.spread_is_ours
    assert (pue.low, pue.high) == pytest.approx((1.2, 1.45))
    assert make_factor({"quantity": "pue", "where": "x", "value": 1.0, "unit": "1"}).distribution is Distribution.EXACT


def test_a_range_without_a_value_is_uniform_about_its_middle() -> None:
    factor = make_factor({**ROW, "value": None, "low": 40, "high": 60})
    assert factor.value == pytest.approx(0.05)
    assert factor.distribution is Distribution.UNIFORM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "kg"}, "'kg' is no unit of grid_gwp_location"),
        ({"unit": None}, "'no unit' is no unit"),
        ({"value": None}, "no value, nor low and high"),
        ({"value": "many"}, "'many', not a number"),
        ({"value": "nan"}, "not a finite number"),
        ({"low": 40}, "belong together"),
        ({"low": 60, "high": 70}, "lies outside low"),
        ({"low": 0, "high": 70, "distribution": "lognormal"}, "lies above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ImpossibleFactorError, match=message):
        make_factor({**ROW, **change})


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"quantity": "grid_gwp_locaton"}, "grid_gwp_location"),
        ({"low": 50, "high": 60, "distribution": "lognormel"}, "lognormal"),
        ({"water": "consumtion"}, "consumption"),
    ],
)
def test_misspelt_words_are_guessed(change: dict[str, Any], meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{meant}'"):
        make_factor({**ROW, **change})


def test_water_is_taken_where_only_one_kind_is_allowed_and_unstated_elsewhere() -> None:
    offsite = make_factor({"quantity": "offsite_water", "where": "FRA", "value": 3, "unit": "L/kWh"})
    wue = make_factor({"quantity": "wue", "where": "aws", "value": 0.1, "unit": "L/kWh"})
    assert offsite.water is Water.CONSUMPTION
    assert wue.water is Water.UNSTATED


def test_exact_is_exact_and_years_are_read_from_words() -> None:
    factor = make_factor({**ROW, "distribution": "exact", "year": "", "vintage": "2011 (ADEME)"})
    assert (factor.low, factor.high, factor.year) == (0.056, 0.056, 2011)
    assert not factor.spread_is_ours


def test_the_hash_names_the_content() -> None:
    factor = make_factor(ROW)
    assert factor.content_hash == make_factor(ROW).content_hash
    changes: list[Factor] = [
        replace(factor, year=2024),
        replace(factor, value=0.0561),
        replace(factor, note="."),
        replace(factor, water=Water.AWARE),
        replace(factor, distribution=Distribution.NORMAL),
    ]
    assert len({factor.content_hash, *(one.content_hash for one in changes)}) == len(changes) + 1


@pytest.mark.parametrize("change", [{"value": float("nan")}, {"value": 9.0}])
def test_a_factor_outside_its_interval_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="factor"):
        replace(make_factor(ROW), **change)


def test_every_quantity_has_its_line_in_the_reference() -> None:
    page = quantities_markdown()
    assert all(f"| `{name}` |" in page for name in QUANTITIES)
