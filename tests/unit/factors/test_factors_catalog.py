"""Which factor applies: trust, places on the way, and reasons where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from stillwatt.errors import ImpossibleFactorError
from stillwatt.factors.catalog import Catalog, build_catalog, choose, choose_for_device
from stillwatt.factors.making import make_factor
from stillwatt.factors.mix import mixes
from stillwatt.factors.packages import PackageFactors
from stillwatt.factors.places import find_place
from stillwatt.records.factor import Choice, Factor, NoFactor, Water

SHIPPED = build_catalog()


def made(quantity: str, where: str, value: float, unit: str, origin: str = "user, here", **more: Any) -> Factor:
    said = {"quantity": quantity, "where": where, "value": value, "unit": unit, "year": 2024, **more}
    return make_factor(said, origin=origin)


def chosen(catalog: Catalog, quantity: str, place: str, water: Water | None = None) -> Factor:
    found = choose(catalog, quantity, find_place(place), water=water)
    assert isinstance(found, Choice), found
    return found.factor


def reason(catalog: Catalog, quantity: str, place: str, water: Water | None = None) -> str:
    found = choose(catalog, quantity, find_place(place), water=water)
    assert isinstance(found, NoFactor)
    return found.reason


def test_the_users_own_comes_first_and_the_later_one_wins() -> None:
    user = [made("pue", "world", value, "1") for value in (1.2, 1.3)]
    package = PackageFactors(package="p", factors=(made("pue", "world", 1.9, "1", origin="p 1", id="p/pue"),))
    assert chosen(build_catalog([package], user), "pue", "FRA").value == 1.3
    assert chosen(build_catalog([package]), "pue", "FRA").value == 1.56


def test_the_users_figure_of_a_country_comes_before_the_shipped_one_of_its_state() -> None:
    catalog = build_catalog(user=[made("grid_gwp_location", "USA", 0.3, "kgCO2e/kWh")])
    found = choose(catalog, "grid_gwp_location", find_place("us-east-1"))
    assert isinstance(found, Choice)
    assert found.factor.value == 0.3
    assert "grid_gwp_location of USA stands in for aws/us-east-1" in found.cautions


def test_read_in_its_source_comes_before_quoted_and_later_before_earlier() -> None:
    rows = [
        made("pue", "world", value, "1", origin="stillwatt", id=str(value), verified=verified, year=year)
        for value, verified, year in ((1.1, False, 2026), (1.2, True, 2023), (1.3, True, 2024))
    ]
    assert chosen(build_catalog(shipped=rows), "pue", "world").value == 1.3


def test_a_cloud_region_takes_its_grid_from_its_state_and_its_pue_from_its_own_row() -> None:
    grid = choose(SHIPPED, "grid_gwp_location", find_place("us-east-1"))
    assert isinstance(grid, Choice)
    assert grid.factor.where == "US-VA"
    assert "grid_gwp_location of US-VA stands in for aws/us-east-1" in grid.cautions
    assert any("stack emissions" in caution for caution in grid.cautions)
    assert chosen(SHIPPED, "pue", "us-east-1").where == "aws/us-east-1"


def test_a_provider_stands_in_for_its_region_and_the_world_for_a_pue_with_a_note() -> None:
    found = choose(SHIPPED, "wue", find_place("gcp us-central1"))
    assert isinstance(found, Choice)
    assert (found.factor.where, found.factor.water) == ("gcp", Water.CONSUMPTION)
    world = choose(SHIPPED, "pue", find_place("FRA"))
    assert isinstance(world, Choice)
    assert world.cautions == ("pue of world stands in for FRA",)


def test_an_old_figure_says_so_beside_newer_work() -> None:
    old = choose(SHIPPED, "offsite_water", find_place("FRA"), year=2026)
    fresh = choose(SHIPPED, "grid_gwp_location", find_place("FRA"), year=2025)
    assert isinstance(old, Choice)
    assert isinstance(fresh, Choice)
    assert any("is for 2020, and the work ran in 2026" in caution for caution in old.cautions)
    assert fresh.cautions == ()


def test_a_caution_of_the_place_travels() -> None:
    found = choose(SHIPPED, "grid_gwp_location", find_place("CA"))
    assert isinstance(found, Choice)
    assert any("US-CA" in caution for caution in found.cautions)


def test_a_grid_is_never_the_worlds_mean() -> None:
    rows = [made("grid_gwp_location", "world", 0.48, "kgCO2e/kWh", origin="stillwatt")]
    assert "give one with --factor grid_gwp_location@FRA=VALUE" in reason(
        build_catalog(shipped=rows), "grid_gwp_location", "FRA"
    )


def test_market_based_is_never_made_up() -> None:
    assert "contract or a provider's table" in reason(SHIPPED, "grid_gwp_market", "FRA")
    assert "contract or a provider's table" in reason(SHIPPED, "grid_gwp_market", "azure westeurope")
    zero = choose(SHIPPED, "grid_gwp_market", find_place("aws/us-east-1"))
    assert isinstance(zero, Choice)
    assert any("claim" in caution for caution in zero.cautions)


def test_withdrawal_is_not_taken_for_consumption() -> None:
    assert "that counts consumption: " in reason(SHIPPED, "wue", "aws/us-east-1", Water.CONSUMPTION)
    assert chosen(SHIPPED, "wue", "aws/us-east-1", Water.WITHDRAWAL).water is Water.WITHDRAWAL
    assert chosen(SHIPPED, "wue", "gcp", Water.CONSUMPTION).value == 1.15


def test_a_factor_with_a_fault_is_listed_and_never_chosen() -> None:
    bad = made("grid_adpe", "FRA", -1.0, "kgSbeq/kWh", origin="p 1", id="p/adpe")
    catalog = build_catalog([PackageFactors(package="p", factors=(bad,))])
    assert bad in catalog.factors
    assert "without a fault" in reason(catalog, "grid_adpe", "FRA")
    assert "1 of them, each with a fault" in _device_reason(
        build_catalog(
            [
                PackageFactors(
                    package="p", factors=(made("embodied_gwp", "a-card", -1.0, "kgCO2e/device", origin="p 1"),)
                )
            ]
        ),
        "a-card",
    )


def test_devices() -> None:
    found = choose_for_device(SHIPPED, "embodied_gwp", "h100-sxm")
    assert isinstance(found, Choice)
    assert found.factor.value == 164
    assert "none for this device" in _device_reason(SHIPPED, "abacus")


def _device_reason(catalog: Catalog, device: str) -> str:
    found = choose_for_device(catalog, "embodied_gwp", device)
    assert isinstance(found, NoFactor)
    return found.reason


def test_a_users_factor_with_a_fault_is_refused() -> None:
    with pytest.raises(ImpossibleFactorError, match="a facility takes at least"):
        build_catalog(user=[made("pue", "world", 0.9, "1")])


def test_missing_packages_are_named_where_they_would_help() -> None:
    gone = PackageFactors(package="ecologits", missing="ecologits is not installed: no ADPe")
    catalog = build_catalog([gone])
    assert catalog.missing == (gone.missing,)
    assert reason(catalog, "grid_adpe", "FRA").endswith(gone.missing)
    assert "ecologits" not in reason(catalog, "grid_adpf", "FRA")


def test_primary_energy_of_known_mixes() -> None:
    """Iceland (hydro and geothermal), France (nuclear) and Norway (hydro), worked by hand from the shares."""
    iceland = mixes()["ISL"].shares
    by_hand = 36.0 * iceland["other_renewable"] + 3.6 * (iceland["hydro"] + iceland["wind"])
    assert chosen(SHIPPED, "grid_primary_energy", "ISL").value == pytest.approx(by_hand)
    assert chosen(SHIPPED, "grid_primary_energy", "FRA").value == pytest.approx(8.976, abs=0.001)
    assert 3.6 < chosen(SHIPPED, "grid_primary_energy", "NOR").value < 3.8


def test_hydro_decides_the_water_of_brazil() -> None:
    with_hydro = chosen(SHIPPED, "offsite_water", "BRA").value
    without = chosen(SHIPPED, "offsite_water_without_hydro", "BRA").value
    assert with_hydro > 10 * without > 0.0
