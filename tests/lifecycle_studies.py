"""Made-up inventories for tests of life-cycle accounts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impact_studies import FIGURES, catalog_of, figure, site, use
from run_records import quickstart
from stillwatt.factors.catalog import Catalog
from stillwatt.factors.making import make_factor
from stillwatt.factors.places import find_place
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.whole import assess
from stillwatt.records.factor import Choice, Factor, NoFactor
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.records.lifecycle import Assessment, Count, Found, Held, Kept, Role
from stillwatt.records.run import RunRecord
from stillwatt.report.lifecycle import lifecycle_dict
from stillwatt.workflows.account import Wanted, inputs_of

DEVICE: dict[str, tuple[float, str]] = {
    "embodied_gwp": (150.0, "kgCO2e/device"),
    "embodied_primary_energy": (2000.0, "MJ/device"),
    "embodied_adpe": (0.005, "kgSbeq/device"),
    "embodied_water": (100.0, "L/device"),
    "eol_gwp": (2.0, "kgCO2e/device"),
    "eol_primary_energy": (30.0, "MJ/device"),
    "eol_adpe": (1e-6, "kgSbeq/device"),
    "ewaste_mass": (1.5, "kg/device"),
}
SHARED: dict[str, tuple[str, str, float, str]] = {
    "lifetime": ("lifetime", "any", 4.0, "years"),
    "storage_lifetime": ("lifetime", "drive", 5.0, "years"),
    "utilisation": ("utilisation", "any", 0.5, "1"),
    "building_gwp": ("building_gwp", "data centre", 500.0, "kgCO2e/kW"),
    "building_lifetime": ("lifetime", "data centre", 20.0, "years"),
    "recycling_rate": ("recycling_rate", "world", 0.2, "1"),
}


def made(quantity: str, where: str, value: float, unit: str, **more: Any) -> Factor:
    """A factor of a device or technology."""
    said = {"id": f"{quantity}@{where}", "quantity": quantity, "where": where, "unit": unit, "year": 2024, **more}
    return make_factor({**said, "value": value})


def device_factors(name: str = "card", values: Mapping[str, float] | None = None) -> dict[str, Found]:
    """Everything that is known of a device."""
    return {
        quantity: Choice(factor=made(quantity, name, (values or {}).get(quantity, value), unit))
        for quantity, (value, unit) in DEVICE.items()
    }


def held(
    *, run: str = "r1", name: str = "card", count: float = 1.0, time_s: float = 31_557_600.0, found: Any = None
) -> Held:
    """A device for a year."""
    known = device_factors(name) if found is None else found
    return Held(run=run, role=Role.ACCELERATOR, name=name, device=name, count=count, time_s=time_s, found=known)


def shared(values: Mapping[str, float] | None = None, without: tuple[str, ...] = ()) -> dict[str, Found]:
    """The account's shared factors."""
    found: dict[str, Found] = {}
    for name, (quantity, where, value, unit) in SHARED.items():
        if name in without:
            found[name] = NoFactor(quantity=quantity, where=where, reason=f"no {name} here")
        else:
            factor = made(quantity, where, (values or {}).get(name, value), unit, id=name)
            found[name] = Choice(factor=factor)
    return found


def kept(size_bytes: float = 1e12, days: float = 365.25) -> Kept:
    """A terabyte for a year."""
    found = Choice(factor=made("ssd_gwp", "SSD", 0.16, "kgCO2e/GB"))
    return Kept(run="r1", what="checkpoints", size_bytes=size_bytes, days=days, technology="SSD", found=found)


def inputs(**changes: Any) -> Inputs:
    """A node that used 10 kWh in training and 5 kWh on data, with a card held for a year and a terabyte kept."""
    said: dict[str, Any] = {
        "uses": (use(), use(stage=LifeStage.DATA, kwh=5.0)),
        "site": site(),
        "shared": shared(),
        "held": (held(),),
        "kept": (kept(),),
        "counts": (Count(unit="run", count=2.0), Count(unit="student", count=None, reason="none was trained")),
        "draws": 400,
    }
    return Inputs(**{**said, **changes})


def value_of(found: Assessment, stage: LifeStage, impact: Impact) -> float | None:
    """One cell's value."""
    return next(cell.value for cell in found.cells if cell.stage is stage and cell.impact is impact)


def report(**changes: Any) -> dict[str, Any]:
    """The report of a made-up inventory."""
    given = inputs(about={"goal": "to test", "runs": [{"run_id": "r1"}], "assumptions": []}, **changes)
    return lifecycle_dict(given, assess(given))


def catalog() -> Catalog:
    """France's figures and one host."""
    rows = [figure(quantity) for quantity in FIGURES]
    rows += [made(quantity, "xeon", value, unit) for quantity, (value, unit) in DEVICE.items()]
    rows += [made(quantity, where, value, unit, id=name) for name, (quantity, where, value, unit) in SHARED.items()]
    rows.append(made("ssd_gwp", "SSD average", 0.16, "kgCO2e/GB"))
    return catalog_of(rows)


def study(run: RunRecord | None = None, **wanted: Any) -> Inputs:
    """The inventory of a quick start in France."""
    asked = Wanted(region="FRA", draws=300, **wanted)
    return inputs_of([run or quickstart()], asked, catalog(), find_place("FRA"), Path("/nowhere"))
