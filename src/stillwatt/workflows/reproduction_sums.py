"""Sums of published accounts, through the same code as any account: one energy or one device, and given factors."""

from __future__ import annotations

from collections.abc import Mapping

from stillwatt.factors.making import make_factor
from stillwatt.impact.inputs import SHARED, Inputs
from stillwatt.impact.site import Site
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Total
from stillwatt.records.factor import Choice, Factor, NoFactor, Place
from stillwatt.records.impact import Impact, LifeStage, Use
from stillwatt.records.lifecycle import Assessment, Found, Held, Role
from stillwatt.units import J_PER_KWH, KG_PER_T, L_PER_M3, S_PER_H

Figures = Mapping[str, tuple[float, str]]
"""Value and unit by quantity."""
_SITE = (
    "node_overhead",
    "components_to_node",
    "pue",
    "grid_gwp_location",
    "grid_gwp_market",
    "grid_primary_energy",
    "grid_adpe",
    "offsite_water",
    "wue",
)
_DRAWS = 100
BLOOM_HOURS = 1_082_990.0
"""A100-hours of BLOOM's training."""


def market_kg(kwh: float, kg_per_kwh: float) -> float:
    """Kilograms by contract of so much energy of a facility."""
    found = assess(inputs_of(kwh, Boundary.FACILITY, {"grid_gwp_market": (kg_per_kwh, "kgCO2e/kWh")}))
    return cell_value(found, Impact.GWP_MARKET)


def made_water_m3(litres: float, hours: float, *, years: float) -> float:
    """Cubic metres of water for making devices that were held for so many hours."""
    found = assess(_with_device({"embodied_water": (litres, "L/device")}, hours, years, None))
    return cell_value(found, Impact.WATER_OFFSITE, LifeStage.HARDWARE) / L_PER_M3


def gwp_t(kwh: float, kg_per_kwh: float) -> float:
    """Tonnes of so much energy of a facility."""
    found = assess(inputs_of(kwh, Boundary.FACILITY, {"grid_gwp_location": (kg_per_kwh, "kgCO2e/kWh")}))
    return cell_value(found, Impact.GWP_LOCATION) / KG_PER_T


def water_m3(kwh: float, l_per_kwh: float) -> float:
    """Cubic metres of power plants' water for so much energy of a facility."""
    found = assess(inputs_of(kwh, Boundary.FACILITY, {"offsite_water": (l_per_kwh, "L/kWh")}))
    return cell_value(found, Impact.WATER_OFFSITE) / L_PER_M3


def made_t(device: Figures, hours: float, *, years: float, busy: float | None = None) -> float:
    """Tonnes of making devices that were held for so many hours."""
    found = assess(_with_device(device, hours, years, busy))
    return cell_value(found, Impact.GWP_LOCATION, LifeStage.HARDWARE) / KG_PER_T


def share_of_adpe(card: Factor, kwh: float, kg_per_kwh: float) -> float:
    """What part making has in the ADPe of a training."""
    use = cell_value(assess(inputs_of(kwh, Boundary.FACILITY, {"grid_adpe": (kg_per_kwh, "kgSbeq/kWh")})), Impact.ADPE)
    device: Figures = {"embodied_adpe": (card.value, card.unit)}
    making = cell_value(assess(_with_device(device, BLOOM_HOURS, 2.0, None)), Impact.ADPE, LifeStage.HARDWARE)
    return making / (making + use)


def _with_device(device: Figures, hours: float, years: float, busy: float | None) -> Inputs:
    shared: dict[str, Found] = {name: _none(name) for name in SHARED}
    shared["lifetime"] = _given("lifetime", years, "years")
    if busy is not None:
        shared["utilisation"] = _given("utilisation", busy, "1")
    found: dict[str, Found] = {name: _given(name, value, unit) for name, (value, unit) in device.items()}
    held = Held(
        run="published",
        role=Role.ACCELERATOR,
        name="card",
        device="card",
        count=1.0,
        time_s=hours * S_PER_H,
        found=found,
    )
    return Inputs(uses=(), site=_site({}), shared=shared, held=(held,), charge_idle=busy is not None, draws=_DRAWS)


def inputs_of(kwh: float, boundary: Boundary, figures: Figures) -> Inputs:
    """An account of one energy with these factors and no others."""
    energy = Total(
        value_j=kwh * J_PER_KWH,
        low_j=kwh * J_PER_KWH,
        high_j=kwh * J_PER_KWH,
        basis=Basis.ASSUMED,
        complete=True,
        boundary=boundary,
    )
    use = Use(run="published", stage=LifeStage.TRAINING, energy=energy, meter="published")
    shared: dict[str, Found] = {name: _none(name) for name in SHARED}
    return Inputs(uses=(use,), site=_site(figures), shared=shared, draws=_DRAWS)


def _site(figures: Figures) -> Site:
    found: dict[str, Found] = {name: _none(name) for name in _SITE}
    found |= {name: _given(name, value, unit) for name, (value, unit) in figures.items()}
    return Site(place=Place(code="published", kind="published", name="as published"), found=found)


def _given(quantity: str, value: float, unit: str) -> Choice:
    said: dict[str, str | float | int | bool | None] = {
        "quantity": quantity,
        "where": "published",
        "value": value,
        "unit": unit,
        "distribution": "exact",
    }
    if quantity in ("wue", "offsite_water"):
        said["water"] = "consumption"
    return Choice(factor=make_factor(said))


def _none(quantity: str) -> NoFactor:
    return NoFactor(quantity=quantity, where="published", reason="not part of this figure")


def cell_value(found: Assessment, impact: Impact, stage: LifeStage = LifeStage.TRAINING) -> float:
    """One cell's value.

    Raises:
        ValueError: it has none.
    """
    value = next(cell.value for cell in found.cells if cell.stage is stage and cell.impact is impact)
    if value is None:
        raise ValueError(f"{stage}/{impact}: an input of a published figure is missing")
    return value
