"""What a factor can be: its one unit, its physical limits, and the interval that is assumed where a source gives none.

A quantity has one unit inside; a file may say another that this table knows, and it is converted on the way in. Two
quantities that look alike and may not be added (litres consumed and litres withdrawn, litres and scarcity-weighted
cubic metres, GWP by location and by contract) are two quantities here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from stillwatt.records.factor import Distribution, Water
from stillwatt.units import KG_PER_G, KG_PER_LB, KG_PER_T, KWH_PER_MWH, L_PER_GAL, L_PER_M3, MJ_PER_KWH

_GWP_PER_KWH = {
    "kgCO2e/kWh": 1.0,
    "gCO2e/kWh": KG_PER_G,
    "kgCO2e/MWh": 1.0 / KWH_PER_MWH,
    "tCO2e/MWh": KG_PER_T / KWH_PER_MWH,
    "lbCO2e/MWh": KG_PER_LB / KWH_PER_MWH,
}
_WATER_PER_KWH = {"L/kWh": 1.0, "m3/kWh": L_PER_M3, "L/MWh": 1.0 / KWH_PER_MWH, "gal/MWh": L_PER_GAL / KWH_PER_MWH}
_ENERGY_PER_KWH = {"MJ/kWh": 1.0, "kWh/kWh": MJ_PER_KWH}
_GWP_PER_GB = {"kgCO2e/GB": 1.0, "gCO2e/GB": KG_PER_G}
_GWP_PER_CM2 = {"kgCO2e/cm2": 1.0, "gCO2e/cm2": KG_PER_G}
_ANY_HIGH = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One kind of factor."""

    name: str
    unit: str
    means: str
    least: float = 0.0
    """Physical floor: nothing real lies below."""
    most: float = _ANY_HIGH
    """No figure published for a real place or device lies above; one that does has a wrong unit."""
    spread: float = 1.5
    """Ratio of the assumed 90 % interval's ends to the value, above the floor (method.md, eq. 61)."""
    units: Mapping[str, float] = field(default_factory=dict)
    """Units that a file may use, with what brings each to `unit`."""
    per: str = ""
    """Which energy it multiplies: `facility` or `IT`."""
    waters: tuple[Water, ...] = ()
    """Kinds of water it may count; the first is taken where a file does not say and only one is allowed."""
    of: str = "place"
    """What `where` names: `place`, `device`, `technology`, `provider`."""

    def to_unit(self, unit: str) -> float | None:
        """What brings a figure in `unit` to this quantity's own; None where the unit is none of its.

        >>> QUANTITIES["grid_gwp_location"].to_unit("gCO2e/kWh")
        0.001
        """
        if unit == self.unit:
            return 1.0
        return self.units.get(unit)

    def assumed_interval(self, value: float) -> tuple[float, float, Distribution]:
        """Ends of the 90 % interval that is assumed where the source gives none (method.md, eq. 61).

        >>> QUANTITIES["pue"].assumed_interval(1.2)[2].value
        'lognormal'
        """
        above = value - self.least
        if above <= 0.0 or self.spread == 1.0:
            return value, value, Distribution.EXACT
        return self.least + above / self.spread, self.least + above * self.spread, Distribution.LOGNORMAL


def _table(*quantities: Quantity) -> dict[str, Quantity]:
    return {quantity.name: quantity for quantity in quantities}


_GRID = (
    Quantity(
        name="grid_gwp_location",
        unit="kgCO2e/kWh",
        means="GWP100 of a kWh of the grid's average mix",
        most=2.5,
        spread=1.3,
        units=_GWP_PER_KWH,
        per="facility",
    ),
    Quantity(
        name="grid_gwp_market",
        unit="kgCO2e/kWh",
        means="GWP100 of a kWh by contract (provider's or supplier's claim)",
        most=2.5,
        spread=1.2,
        units=_GWP_PER_KWH,
        per="facility",
    ),
    Quantity(
        name="grid_primary_energy",
        unit="MJ/kWh",
        means="primary energy behind a kWh, renewable and not",
        least=MJ_PER_KWH,
        most=40.0,
        spread=1.3,
        units=_ENERGY_PER_KWH,
        per="facility",
    ),
    Quantity(
        name="grid_adpf",
        unit="MJ/kWh",
        means="fossil and nuclear resources behind a kWh; not primary energy",
        most=40.0,
        units=_ENERGY_PER_KWH,
        per="facility",
    ),
    Quantity(
        name="grid_adpe",
        unit="kgSbeq/kWh",
        means="abiotic depletion of elements of a kWh",
        most=0.00001,
        spread=2.0,
        units={"gSbeq/kWh": KG_PER_G},
        per="facility",
    ),
    Quantity(
        name="offsite_water",
        unit="L/kWh",
        means="water consumed at power plants, reservoirs' evaporation charged to hydro",
        most=150.0,
        units=_WATER_PER_KWH,
        per="facility",
        waters=(Water.CONSUMPTION,),
    ),
    Quantity(
        name="offsite_water_without_hydro",
        unit="L/kWh",
        means="the same with nothing charged to hydro",
        most=20.0,
        units=_WATER_PER_KWH,
        per="facility",
        waters=(Water.CONSUMPTION,),
    ),
    Quantity(
        name="primary_energy_by_source",
        unit="MJ/kWh",
        means="primary energy of a kWh from one source",
        least=MJ_PER_KWH,
        most=72.0,
        spread=1.2,
        units=_ENERGY_PER_KWH,
        per="facility",
        of="technology",
    ),
    Quantity(
        name="offsite_water_by_source",
        unit="L/kWh",
        means="water consumed for a kWh from one source",
        most=150.0,
        units=_WATER_PER_KWH,
        per="facility",
        waters=(Water.CONSUMPTION,),
        of="technology",
    ),
    Quantity(
        name="grid_gwp_by_source",
        unit="kgCO2e/kWh",
        means="GWP100 of a kWh from one source",
        most=2.5,
        units=_GWP_PER_KWH,
        per="facility",
        of="technology",
    ),
)
_SITE = (
    Quantity(
        name="pue",
        unit="1",
        means="facility energy over IT energy",
        least=1.0,
        most=4.0,
        spread=1.5,
        per="IT",
        of="provider",
    ),
    Quantity(
        name="wue",
        unit="L/kWh",
        means="water at the site per kWh of IT energy (ISO/IEC 30134-9)",
        most=30.0,
        units=_WATER_PER_KWH,
        per="IT",
        waters=(Water.CONSUMPTION, Water.WITHDRAWAL, Water.UNSTATED),
        of="provider",
    ),
    Quantity(
        name="onsite_water_per_facility_kwh",
        unit="L/kWh",
        means="water at the site per kWh of facility energy; not a WUE",
        most=30.0,
        units=_WATER_PER_KWH,
        per="facility",
        waters=(Water.CONSUMPTION, Water.WITHDRAWAL, Water.UNSTATED),
        of="provider",
    ),
    Quantity(
        name="accelerator_to_facility",
        unit="1",
        means="facility energy over accelerators' energy; holds the PUE",
        least=1.0,
        most=6.0,
        spread=1.3,
        of="provider",
    ),
    Quantity(
        name="components_to_node",
        unit="1",
        means="IT energy of a node over its boards, processors and memory: power supply, fans, network, disks",
        least=1.0,
        most=2.0,
        spread=1.5,
        of="provider",
    ),
    Quantity(
        name="node_overhead",
        unit="1",
        means="IT energy of a node over its accelerators' energy",
        least=1.0,
        most=4.0,
        spread=1.5,
        of="provider",
    ),
)
_DEVICE = (
    Quantity(
        name="embodied_gwp",
        unit="kgCO2e/device",
        means="GWP100 of making one device",
        most=50_000.0,
        spread=2.0,
        units={"gCO2e/device": KG_PER_G},
        of="device",
    ),
    Quantity(
        name="embodied_adpe",
        unit="kgSbeq/device",
        means="abiotic depletion of elements of making one device",
        most=10.0,
        spread=2.0,
        of="device",
    ),
    Quantity(
        name="embodied_adpf", unit="MJ/device", means="fossil resources of making one device", spread=2.0, of="device"
    ),
    Quantity(
        name="embodied_primary_energy",
        unit="MJ/device",
        means="primary energy of making one device",
        spread=2.0,
        of="device",
    ),
    Quantity(
        name="embodied_water",
        unit="L/device",
        means="water consumed in making one device",
        spread=3.0,
        of="device",
        units={"m3/device": L_PER_M3},
        waters=(Water.CONSUMPTION,),
    ),
    Quantity(
        name="embodied_water_aware",
        unit="m3-world-eq/device",
        means="scarcity-weighted water of making one device",
        spread=3.0,
        of="device",
        waters=(Water.AWARE,),
    ),
    Quantity(name="eol_gwp", unit="kgCO2e/device", means="GWP100 of a device's end of life", spread=3.0, of="device"),
    Quantity(name="eol_adpe", unit="kgSbeq/device", means="ADPe of a device's end of life", spread=3.0, of="device"),
    Quantity(
        name="eol_adpf", unit="MJ/device", means="fossil resources of a device's end of life", spread=3.0, of="device"
    ),
    Quantity(
        name="eol_primary_energy",
        unit="MJ/device",
        means="primary energy of a device's end of life",
        spread=3.0,
        of="device",
    ),
    Quantity(
        name="eol_water_aware",
        unit="m3-world-eq/device",
        means="scarcity-weighted water of a device's end of life",
        spread=3.0,
        of="device",
        waters=(Water.AWARE,),
    ),
    Quantity(name="ewaste_mass", unit="kg/device", means="mass of a device thrown away", spread=1.1, of="device"),
    Quantity(name="tdp", unit="W", means="power that a board is built to draw", most=5_000.0, spread=1.0, of="device"),
    Quantity(name="die_area", unit="mm2", means="area of a processor's dies", most=20_000.0, spread=1.0, of="device"),
)
_MATTER = (
    Quantity(
        name="dram_gwp", unit="kgCO2e/GB", means="GWP100 of making memory", units=_GWP_PER_GB, of="technology", most=5.0
    ),
    Quantity(
        name="ssd_gwp", unit="kgCO2e/GB", means="GWP100 of making flash", units=_GWP_PER_GB, of="technology", most=2.0
    ),
    Quantity(
        name="hdd_gwp", unit="kgCO2e/GB", means="GWP100 of making disks", units=_GWP_PER_GB, of="technology", most=1.0
    ),
    Quantity(
        name="network_energy",
        unit="kWh/GB",
        means="electricity of networks between two ends, per gigabyte moved",
        spread=10.0,
        most=200.0,
        of="technology",
    ),
    Quantity(
        name="silicon_gwp",
        unit="kgCO2e/cm2",
        means="GWP100 of a processor's silicon alone: no memory, board, cooler",
        units=_GWP_PER_CM2,
        of="technology",
        most=20.0,
    ),
    Quantity(
        name="eol_gwp_per_kg", unit="kgCO2e/kg", means="GWP100 of treating a kg of cards", spread=3.0, of="technology"
    ),
    Quantity(
        name="eol_adpe_per_kg", unit="kgSbeq/kg", means="ADPe of treating a kg of cards", spread=3.0, of="technology"
    ),
    Quantity(name="recycling_rate", unit="1", means="share of e-waste collected and recycled", most=1.0, spread=1.0),
    Quantity(
        name="building_gwp",
        unit="kgCO2e/kW",
        means="GWP100 of building a data centre, per kW of IT",
        spread=2.0,
        of="technology",
    ),
    Quantity(
        name="building_share",
        unit="1",
        means="share of a data centre's life-cycle emissions that is its building",
        most=1.0,
        spread=2.0,
        of="technology",
    ),
    Quantity(name="lifetime", unit="years", means="years in service", least=0.0, most=80.0, spread=1.5, of="device"),
    Quantity(
        name="utilisation", unit="1", means="share of its time that a device works", most=1.0, spread=1.0, of="device"
    ),
    Quantity(
        name="idle_share", unit="1", means="share of a fleet's energy that is idle", most=1.0, spread=1.0, of="device"
    ),
)

QUANTITIES: Mapping[str, Quantity] = _table(*_GRID, *_SITE, *_DEVICE, *_MATTER)
"""Every kind of factor by name."""


def quantities_markdown() -> str:
    """The page of all quantities, generated."""
    lines = [
        "# Quantities",
        "",
        "Every kind of factor, its unit, its physical limits, and the ratio of the 90 % interval that is",
        "assumed where a source gives none ([method](../method.md), eq. 61). Written by `make golden`; do not edit.",
        "",
        "| quantity | unit | means | named by | limits | ratio | other units read |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in QUANTITIES.values():
        limits = f"{one.least:g} or more" if math.isinf(one.most) else f"{one.least:g} to {one.most:g}"
        others = ", ".join(unit for unit in one.units if unit != one.unit)
        spread = "exact" if one.spread == 1.0 else f"{one.spread:g}"
        lines.append(f"| `{one.name}` | {one.unit} | {one.means} | {one.of} | {limits} | {spread} | {others} |")
    return "\n".join(lines) + "\n"
