"""Numbers as people read them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.report.format import (
    date_text,
    decimals_for,
    duration_text,
    energy_text,
    interval_text,
    percent_text,
    pick_unit,
    quality_text,
    rounded,
    significant,
    students_text,
    times_interval_text,
    times_text,
)
from stillwatt.units import J_PER_KWH

positive = st.floats(min_value=1e-9, max_value=1e12)


def number(text: str) -> float:
    return float(text.replace(",", ""))


@given(positive, st.floats(min_value=0.0, max_value=1.0))
def test_rounding_moves_a_value_by_less_than_its_interval_or_a_thousandth(value: float, share: float) -> None:
    half_width = share * value
    shown = number(interval_text(value, value - half_width, value + half_width).partition(" ")[0])
    assert abs(shown - value) <= max(0.05 * half_width, 0.0005 * value, 0.0) + 0.05 * value * (share > 0.5) + 1e-12


@given(positive, st.floats(min_value=1e-3, max_value=1.0))
def test_at_most_two_digits_of_the_half_width_are_shown(value: float, share: float) -> None:
    half_width = share * value
    decimals = decimals_for(value, half_width)
    if decimals > 1 - math.floor(math.log10(value)):
        assert half_width * 10**decimals < 100.5


@given(positive)
def test_an_energy_keeps_its_size_in_whatever_unit(value: float) -> None:
    unit = pick_unit([value])
    joules = {"mJ": 0.001, "J": 1.0, "kJ": 1000.0, "kWh": float(J_PER_KWH)}[unit.symbol]
    assert math.isclose(unit.of(value) * joules, value, rel_tol=1e-12)


@given(st.floats(min_value=-1e9, max_value=1e9), st.integers(min_value=-3, max_value=6))
def test_no_number_is_shown_as_minus_nought(value: float, decimals: int) -> None:
    assert not re.fullmatch(r"-0(\.0+)?", rounded(value, decimals))


def test_examples_that_people_see() -> None:
    assert energy_text({"value_j": 312.4, "low_j": 183.0, "high_j": 561.0}) == "310 J [180, 560]"
    assert (
        energy_text({"value_j": 7.0 * J_PER_KWH, "low_j": 6.6 * J_PER_KWH, "high_j": 7.4 * J_PER_KWH})
        == "7.00 kWh [6.60, 7.40]"
    )
    assert energy_text({"value_j": 0.0, "low_j": 0.0, "high_j": 0.0}) == "0.000 J [0.000, 0.000]"
    assert energy_text({"value_j": 0.0, "low_j": -3.0, "high_j": 3.0}) == "0.0 J [-3.0, 3.0]"
    assert energy_text({"value_j": 52_300.0, "low_j": 52_250.0, "high_j": 52_350.0}) == "52.30 kJ [52.25, 52.35]"
    assert students_text(10.0, None, None) == "10.0"
    assert students_text(31.07, 14.1, None) == "31 [14, no upper end]"
    assert percent_text(0.0621) == "6.2 %"
    assert duration_text(59.99) == "60 s"
    assert duration_text(119.7) == "2 min 0 s"
    assert times_text(12.345) == "12.3"
    assert date_text("unknown") == "unknown"
    assert significant(-1234.5) == "-1,230"


def test_what_has_too_many_digits_to_count_is_written_by_its_exponent() -> None:
    assert students_text(1.43e-22, 1.27e-22, 1.59e-22) == "1.43e-22 [1.27e-22, 1.59e-22]"
    assert students_text(1.43e-22, 0.0, 1.59e-22) == "1.43e-22 [0, 1.59e-22]"
    assert times_interval_text(1.57e-22, 0.0, 0.034) == "1.6e-22 [0.00, 0.034]"
    assert (rounded(-2.5e16, -15), rounded(1_234_000_000.0, -6)) == ("-2.5e16", "1,234,000,000")
    assert (rounded(0.00123456, 6), rounded(0.0000312, 7)) == ("0.001235", "0.0000312")
    assert (times_text(0.049), times_text(0.1)) == ("0.049", "0.10")


@pytest.mark.parametrize(
    ("quality", "text"),
    [
        ({"absent": "no scores"}, "–"),
        ({"value": 0.7221, "se": None}, "0.722"),
        ({"value": 0.7221, "se": 0.05}, "0.72 ± 0.10"),
        ({"value": 0.72215, "se": 0.004}, "0.722 ± 0.008"),
    ],
)
def test_quality(quality: dict[str, object], text: str) -> None:
    assert quality_text(quality) == text


def test_a_value_without_a_finite_interval_shows_four_digits() -> None:
    assert decimals_for(12.0, math.inf) == 2
    assert decimals_for(0.0, 0.0) == 3
