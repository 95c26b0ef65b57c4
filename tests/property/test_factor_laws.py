"""Laws of factors: units, intervals, order of trust, mixes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.factors.catalog import build_catalog, choose
from stillwatt.factors.making import make_factor
from stillwatt.factors.mix import by_source, mix_factors, mixes
from stillwatt.factors.places import find_place, plain
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.factors.sanity import check_factor
from stillwatt.records.factor import Choice, Factor
from stillwatt.units import MJ_PER_KWH

quantities = st.sampled_from(sorted(QUANTITIES))


@given(name=quantities, above=st.floats(0.0, 1.0), data=st.data())
def test_an_assumed_interval_holds_its_value_and_keeps_above_the_floor(
    name: str, above: float, data: st.DataObject
) -> None:
    quantity = QUANTITIES[name]
    value = quantity.least + above
    low, high, _ = quantity.assumed_interval(value)
    assert quantity.least <= low <= value <= high
    unit = data.draw(st.sampled_from(sorted({quantity.unit, *quantity.units})))
    scale = quantity.to_unit(unit)
    assert scale is not None
    factor = make_factor({"quantity": name, "where": "x", "value": value / scale, "unit": unit, "year": 2024})
    assert factor.value == pytest.approx(value)


@given(name=quantities, value=st.floats(-1e6, 1e6), spread=st.floats(0.0, 0.5))
def test_below_the_floor_is_always_a_fault_and_nothing_within_limits_is(name: str, value: float, spread: float) -> None:
    quantity = QUANTITIES[name]
    low, high = value - spread, value + spread
    said: dict[str, Any] = {"quantity": name, "where": "x", "value": value, "low": low, "high": high}
    factor = make_factor({**said, "distribution": "triangular", "unit": quantity.unit, "year": 2024})
    faults = [fault.check for fault in check_factor(factor) if fault.severity == "fault"]
    assert bool(faults) == (low < quantity.least or value > quantity.most)


@given(st.lists(st.floats(1.0, 3.0), min_size=1, max_size=5))
def test_the_last_of_the_users_factors_applies(values: list[float]) -> None:
    user = [make_factor({"quantity": "pue", "where": "FRA", "value": v, "unit": "1"}, origin="user, x") for v in values]
    found = choose(build_catalog(shipped=SHIPPED, user=user), "pue", find_place("FRA"))
    assert isinstance(found, Choice)
    assert found.factor.value == values[-1]


SHIPPED: tuple[Factor, ...] = (
    *by_source("primary_energy_by_source").values(),
    make_factor({"quantity": "pue", "where": "world", "value": 1.5, "unit": "1"}),
)


def test_primary_energy_lies_between_the_sources_and_above_the_floor() -> None:
    most = max(factor.high for factor in by_source("primary_energy_by_source").values())
    found = [factor for factor in mix_factors() if factor.quantity == "grid_primary_energy"]
    assert len(found) == len(mixes())
    for factor in found:
        assert MJ_PER_KWH <= round(factor.low, 9) <= round(factor.value, 9) <= round(factor.high, 9) <= most


def test_shares_of_each_mix_sum_to_one() -> None:
    assert all(sum(mix.shares.values()) == pytest.approx(1.0) for mix in mixes().values())


@given(st.text())
def test_a_plain_name_is_plain(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@given(st.sampled_from(["FRA", "Deutschland", "us-east-1", "Texas", "Azure West Europe"]), st.data())
def test_case_spaces_and_dashes_do_not_matter(name: str, data: st.DataObject) -> None:
    marks = [data.draw(st.sampled_from(["-", " ", "_ ", "  "])) if mark in "- " else mark for mark in name]
    cased = "".join(mark.upper() if data.draw(st.booleans()) else mark.lower() for mark in marks)
    assert find_place(cased).code == find_place(name).code
