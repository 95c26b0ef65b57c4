"""Made-up uses and sites for tests of impacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.factors.catalog import Catalog, build_catalog
from stillwatt.factors.making import make_factor
from stillwatt.factors.places import find_place
from stillwatt.impact.site import Site, site_at
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import Factor
from stillwatt.records.impact import LifeStage, Use
from stillwatt.units import J_PER_KWH

FIGURES: dict[str, tuple[float, str]] = {
    "node_overhead": (1.5, "1"),
    "components_to_node": (1.2, "1"),
    "pue": (1.25, "1"),
    "grid_gwp_location": (0.4, "kgCO2e/kWh"),
    "grid_gwp_market": (0.1, "kgCO2e/kWh"),
    "grid_primary_energy": (9.0, "MJ/kWh"),
    "grid_adpe": (5e-8, "kgSbeq/kWh"),
    "offsite_water": (4.0, "L/kWh"),
    "offsite_water_without_hydro": (1.0, "L/kWh"),
    "wue": (0.5, "L/kWh"),
}


def figure(quantity: str, value: float | None = None, **more: Any) -> Factor:
    """A shipped factor of France."""
    known, unit = FIGURES[quantity]
    said = {"id": quantity, "quantity": quantity, "where": "FRA", "unit": unit, "year": 2024, **more}
    if quantity == "wue":
        said.setdefault("water", "consumption")
    return make_factor({**said, "value": known if value is None else value})


def site(
    values: Mapping[str, float] | None = None, *, without: tuple[str, ...] = (), charge_hydro: bool = True
) -> Site:
    """France with these figures."""
    rows = [figure(quantity, (values or {}).get(quantity)) for quantity in FIGURES if quantity not in without]
    return site_at(catalog_of(rows), find_place("FRA"), charge_hydro=charge_hydro)


def catalog_of(rows: list[Factor]) -> Catalog:
    """A catalogue of these alone: mixes of the shipped tables are left out."""
    whole = build_catalog(shipped=rows)
    return Catalog(factors=tuple(rows), faults=whole.faults)


def use(
    run: str = "r1",
    stage: LifeStage = LifeStage.POST_TRAINING,
    kwh: float = 10.0,
    boundary: Boundary = Boundary.NODE,
    basis: Basis = Basis.MEASURED,
    half_width: float = 0.05,
    absent: tuple[str, ...] = (),
    complete: bool | None = None,
) -> Use:
    """Energy of one run in one stage."""
    value_j = kwh * J_PER_KWH
    total = Total(
        value_j=value_j,
        low_j=value_j * (1.0 - half_width),
        high_j=value_j * (1.0 + half_width),
        basis=basis,
        complete=not absent if complete is None else complete,
        boundary=boundary,
        absent=absent,
    )
    return Use(run=run, stage=stage, energy=total, meter="nvml")


def no_use(run: str = "r2", stage: LifeStage = LifeStage.POST_TRAINING) -> Use:
    """A run whose energy is not known."""
    return Use(run=run, stage=stage, energy=NoTotal(reason="no instrument"))
