"""Reasons as people read them: alike ones once, nothing dropped, what is to be typed as it is typed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_reports import poor, rich
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.report.lifecycle_interpretation import missing_table
from stillwatt.report.lifecycle_reasons import grouped, plain_words, told_once
from stillwatt.report.lifecycle_scope import boundary_table
from stillwatt.report.lifecycle_whole import whole_report

HOST = "EPYC (2 CPUs)"
_DEVICES = [name for name, one in QUANTITIES.items() if one.of == "device" and "_" in name]


def lack(quantity: str) -> str:
    unit = QUANTITIES[quantity].unit
    return (
        f"host {HOST}: no usable {quantity} of {HOST}: none for this device; "
        f"give one with --factor '{quantity}@{HOST}=VALUE{unit}'"
    )


def test_five_factors_of_one_device_are_one_reason() -> None:
    reasons = [(f"{lack(name)}; network: none is known", name) for name in ("embodied_water", "embodied_adpe")]
    assert grouped([*reasons, ("network: none is known", "embodied_gwp")]) == [
        (
            f"host {HOST}: no usable embodied water (L/device) and embodied ADPe (kgSbeq/device) of {HOST}: none for "
            f"this device; give each with --factor 'NAME@{HOST}=VALUEUNIT': embodied_water in L/device and "
            "embodied_adpe in kgSbeq/device",
            ("embodied_water", "embodied_adpe"),
        ),
        ("network: none is known", ("embodied_water", "embodied_adpe", "embodied_gwp")),
    ]


def test_a_single_lack_keeps_its_command() -> None:
    assert told_once([lack("embodied_water")]) == (
        f"host {HOST}: no usable embodied water (L/device) of {HOST}: none for this device; "
        f"give one with --factor 'embodied_water@{HOST}=VALUEL/device'"
    )
    assert told_once(["no wue for France; give one with --factor wue@FRA=VALUEL/kWh; a grid did not answer"]) == (
        "no WUE (L/kWh) for France; give one with --factor wue@FRA=VALUEL/kWh; a grid did not answer"
    )


def test_how_to_give_it_is_left_out_where_another_table_says_it() -> None:
    reason = lack("embodied_water")
    assert "--factor" not in told_once([reason], elsewhere={reason})
    assert told_once([reason], elsewhere={lack("embodied_adpe")}) == told_once([reason])


@given(st.lists(st.sampled_from(_DEVICES), min_size=1, unique=True), st.lists(st.text(max_size=20)))
def test_nothing_is_dropped(names: list[str], others: list[str]) -> None:
    said = "; ".join(words for words, _ in grouped((one, "") for one in [*map(lack, names), *others]))
    for name in names:
        assert re.search(rf"\b{name}\b", said)
        assert plain_words(name) in said
        assert QUANTITIES[name].unit in said
    for other in others:
        assert all(plain_words(part) in said for part in other.split("; "))


@pytest.mark.parametrize("data", [rich(), poor()], ids=["rich", "poor"])
def test_no_name_as_it_is_typed_stands_in_what_is_left_out(data: dict[str, object]) -> None:
    said = whole_report(data)
    boundary = " ".join(row.cells[2] for row in boundary_table(said).rows)
    assert not re.findall(r"\b(?:embodied|eol|grid|water|primary)_\w+", boundary)
    rows = [row.cells[:2] for row in missing_table(said).rows]
    assert len(set(rows)) == len(rows)
    assert all(stage for stage, _ in rows)
