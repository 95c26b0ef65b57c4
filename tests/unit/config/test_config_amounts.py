"""Amounts with units, as people write them on the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.config.amounts import Amount, parse_amount
from stillwatt.units import J_PER_KWH


@given(st.floats(0.0, 1e9), st.sampled_from([("kWh", J_PER_KWH), ("J", 1), ("MWh", 1000 * J_PER_KWH), ("h", 3600)]))
def test_a_number_and_its_unit_come_back(number: float, unit: tuple[str, float]) -> None:
    name, factor = unit
    assert parse_amount(f"{number!r} {name}").value == pytest.approx(number * factor)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5kwh", Amount(5.0 * J_PER_KWH, "J")),
        ("3 MJ", Amount(3e6, "J")),
        ("3 mJ", Amount(0.003, "J")),
        ("2 days", Amount(172_800.0, "s")),
        ("1e6 tokens", Amount(1e6, "tokens")),
        ("2 Mtokens", Amount(2e6, "tokens")),
        ("0.5 tCO2e", Amount(500.0, "kgCO2e")),
        ("1_000 J", Amount(1_000.0, "J")),
    ],
)
def test_units_are_known(text: str, amount: Amount) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("five kWh", "no number with a unit"),
        ("5", "no number with a unit"),
        ("5 parsecs", "no unit that is known"),
        ("5 mwh", "no unit that is known"),
        ("5 Mj", "no unit that is known"),
        ("-1 J", "0 or more"),
        ("1e999 J", "0 or more, and finite"),
        ("1.2.3 J", "is no number"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_amount(text)
