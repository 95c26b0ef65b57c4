"""The whole account by hand: hardware, building, end of life, totals, units, coverage."""

from __future__ import annotations

import pytest

from impact_studies import FIGURES, no_use, site, use
from lifecycle_studies import device_factors, held, inputs, kept, made, shared, value_of
from stillwatt.impact.coverage import coverage, quality_class
from stillwatt.impact.end_of_life import per_device
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.factor import Choice, NoFactor
from stillwatt.records.impact import Cell, Impact, LifeStage, Status
from stillwatt.records.lifecycle import Assessment, Count, Lack
from stillwatt.units import H_PER_YEAR

HARDWARE, END = LifeStage.HARDWARE, LifeStage.END_OF_LIFE
FOUND = assess(inputs(kept=()))


def test_a_year_of_a_card_that_lasts_four_is_a_quarter_of_it() -> None:
    assert value_of(FOUND, HARDWARE, Impact.GWP_LOCATION) == pytest.approx(150.0 / 4.0)
    assert value_of(FOUND, HARDWARE, Impact.GWP_MARKET) == pytest.approx(150.0 / 4.0)
    assert value_of(FOUND, HARDWARE, Impact.PRIMARY_ENERGY) == pytest.approx(500.0)
    assert value_of(FOUND, HARDWARE, Impact.WATER_OFFSITE) == pytest.approx(25.0)
    assert value_of(FOUND, HARDWARE, Impact.ADPE) == pytest.approx(0.00125)
    assert value_of(FOUND, END, Impact.EWASTE) == pytest.approx(0.375)
    assert value_of(FOUND, END, Impact.GWP_LOCATION) == pytest.approx(0.5)
    assert value_of(FOUND, END, Impact.WATER_OFFSITE) is None


def test_idle_hours_are_charged_where_that_is_asked_for() -> None:
    charged = assess(inputs(kept=(), charge_idle=True))
    assert value_of(charged, HARDWARE, Impact.GWP_LOCATION) == pytest.approx(150.0 / 4.0 / 0.5)
    unknown = assess(inputs(kept=(), charge_idle=True, shared=shared(without=("utilisation",))))
    assert value_of(unknown, HARDWARE, Impact.GWP_LOCATION) is None


def test_a_terabyte_for_a_year() -> None:
    found = assess(inputs(held=(), kept=(kept(1e12, 365.25),)))
    assert value_of(found, HARDWARE, Impact.GWP_LOCATION) == pytest.approx(1000.0 * 0.16 / 5.0)
    assert value_of(found, HARDWARE, Impact.ADPE) is None


def test_the_building_goes_with_the_energy_of_the_node() -> None:
    expected = 15.0 * 500.0 / (20.0 * H_PER_YEAR)
    assert value_of(FOUND, LifeStage.INFRASTRUCTURE, Impact.GWP_LOCATION) == pytest.approx(expected)
    assert value_of(FOUND, LifeStage.INFRASTRUCTURE, Impact.ADPE) is None
    rail = assess(inputs(uses=(use(boundary=Boundary.RAIL),)))
    assert value_of(rail, LifeStage.INFRASTRUCTURE, Impact.GWP_LOCATION) is None


def reason(found: Assessment, stage: LifeStage, impact: Impact) -> str:
    (cell,) = [cell for cell in found.cells if cell.stage is stage and cell.impact is impact]
    assert cell.value is None
    return cell.reason


def test_an_unknown_device_is_named_with_its_reason_and_is_not_0() -> None:
    nothing = {name: NoFactor(quantity=name, where="odd", reason=f"no {name} of odd") for name in device_factors()}
    alone = assess(inputs(held=(held(name="odd", found=nothing),), kept=()))
    assert reason(alone, HARDWARE, Impact.GWP_LOCATION) == "accelerator odd: no embodied_gwp of odd"
    beside = assess(inputs(held=(held(), held(name="odd", found=nothing)), kept=()))
    (cell,) = [c for c in beside.cells if c.stage is HARDWARE and c.impact is Impact.GWP_LOCATION]
    assert cell.value == pytest.approx(37.5)
    assert cell.incomplete == ("accelerator odd: no embodied_gwp of odd",)


def test_no_device_at_all_says_so() -> None:
    found = assess(inputs(held=(), kept=()))
    assert "give --device" in reason(found, HARDWARE, Impact.GWP_LOCATION)
    assert "give --device" in reason(found, END, Impact.EWASTE)
    lack = Lack(stage=HARDWARE, reason="it was sold", impacts=(Impact.ADPE,))
    assert reason(assess(inputs(held=(), kept=(), lacks=(lack,))), HARDWARE, Impact.ADPE) == "it was sold"


def test_without_a_lifetime_nothing_is_shared_out() -> None:
    found = assess(inputs(shared=shared(without=("lifetime",))))
    assert "no lifetime here" in reason(found, END, Impact.EWASTE)


def test_weighted_cubic_metres_are_no_litres() -> None:
    odd = {**device_factors(), "embodied_water": Choice(factor=made("embodied_water", "card", 9.0, "L/device"))}
    assert value_of(assess(inputs(held=(held(found=odd),))), HARDWARE, Impact.WATER_OFFSITE) == pytest.approx(2.25)
    aware = made("embodied_water_aware", "card", 9.0, "m3-world-eq/device")
    worse = {**odd, "embodied_water": Choice(factor=aware)}
    found = assess(inputs(held=(held(found=worse),), kept=()))
    assert "counts no water consumed" in reason(found, HARDWARE, Impact.WATER_OFFSITE)


def test_an_unknown_energy_is_in_the_totals_lack() -> None:
    found = assess(inputs(uses=(use(), no_use())))
    total = next(total for total in found.totals if total.impact is Impact.GWP_LOCATION)
    assert any("r2: no instrument" in lack for lack in total.lacking)


def test_unlike_boundaries_have_no_total() -> None:
    found = assess(inputs(uses=(use(boundary=Boundary.BOARD), use(stage=LifeStage.DATA, boundary=Boundary.NODE))))
    metered = next(total for total in found.totals if total.impact is Impact.ENERGY_METERED)
    assert metered.value is None
    assert "never added" in metered.reason


def test_units_divide_the_totals_and_a_missing_count_has_its_reason() -> None:
    run, student = FOUND.units
    total = next(total for total in FOUND.totals if total.impact is Impact.GWP_LOCATION)
    impact, value, low, high = next(entry for entry in run.values if entry[0] is Impact.GWP_LOCATION)
    assert [2.0 * value, 2.0 * low, 2.0 * high] == pytest.approx([total.value, total.low, total.high])
    assert impact is Impact.GWP_LOCATION
    assert student.values == ()
    assert student.count.reason == "none was trained"


def test_swings_are_the_totals_at_both_ends() -> None:
    swing = next(one for one in FOUND.swings if one.factor == "lifetime")
    total = next(total for total in FOUND.totals if total.impact is Impact.GWP_LOCATION)
    assert total.value is not None
    assert swing.at_high < total.value < swing.at_low


def test_the_score_by_hand() -> None:
    """Two cells: one measured and whole, one by an unread factor and incomplete."""
    one = Cell(
        stage=LifeStage.DATA,
        impact=Impact.ADPE,
        unit="kgSbeq",
        status=Status.MEASURED,
        value=1.0,
        low=1.0,
        high=1.0,
        boundary=Boundary.NODE,
    )
    other = Cell(
        stage=END,
        impact=Impact.EWASTE,
        unit="kg",
        status=Status.FACTOR,
        value=1.0,
        low=1.0,
        high=1.0,
        boundary=Boundary.FACILITY,
        factors=("unread",),
        incomplete=("drives",),
    )
    classes = {(cell.stage, cell.impact): quality_class(cell, {}) for cell in (one, other)}
    assert list(classes.values()) == ["A", "D"]
    found = coverage([one, other], classes)
    assert found.score == pytest.approx((1.0 + 0.4 * 0.5) / 2.0)
    assert found.counted == pytest.approx((1.0 + 0.5) / 2.0)
    known = {"f": made("pue", "x", 1.2, "1", id="f", verified="yes")}
    by_factor = Cell(
        stage=END, impact=Impact.EWASTE, unit="kg", status=Status.FACTOR, value=1.0, low=1.0, high=1.0, factors=("f",)
    )
    assert quality_class(by_factor, known) == "C"


def test_half_the_figures_gone_is_half_an_account() -> None:
    assert assess(inputs(site=site(without=tuple(FIGURES)))).coverage.score < FOUND.coverage.score


def test_a_unit_of_some_stages_is_divided_out_of_these_alone() -> None:
    count = Count(unit="1,000 requests", count=4.0, stages=(LifeStage.DATA,))
    (unit,) = assess(inputs(counts=(count,))).units
    value = next(value for impact, value, _, _ in unit.values if impact is Impact.ENERGY_NODE)
    assert value == pytest.approx(5.0 / 4.0)


def test_a_cards_end_by_its_mass() -> None:
    per_kg = Choice(factor=made("eol_gwp_per_kg", "graphics card", 1.5, "kgCO2e/kg"))
    mass = Choice(factor=made("ewaste_mass", "card", 2.0, "kg/device"))
    found = per_device(per_kg, mass, "eol_gwp")
    assert found is not None
    assert found.value == pytest.approx(3.0)
    assert (found.unit, found.where) == ("kgCO2e/device", "card")
    nothing = NoFactor(quantity="ewaste_mass", where="card", reason="no mass")
    assert per_device(per_kg, nothing, "eol_gwp") is None
