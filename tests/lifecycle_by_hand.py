"""A life-cycle report that somebody wrote by hand, to the schema `stillwatt.lifecycle/1`; and ways to spoil it."""

from __future__ import annotations

from typing import Any

from stillwatt.records.impact import Impact, LifeStage

UNITS = {
    **dict.fromkeys(("energy_metered", "energy_node", "energy_facility"), "kWh"),
    **dict.fromkeys(("gwp_location", "gwp_market"), "kgCO2e"),
    **dict.fromkeys(("water_onsite", "water_offsite"), "L"),
    **{"primary_energy": "MJ", "adpe": "kgSbeq", "ewaste": "kg"},
}
MAKING = (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE, LifeStage.END_OF_LIFE)
_NOT_OF_MAKING = (Impact.ENERGY_METERED, Impact.ENERGY_NODE, Impact.ENERGY_FACILITY, Impact.WATER_ONSITE)


def cell(stage: LifeStage, impact: Impact) -> dict[str, Any]:
    """A cell of the best report there could be."""
    said = {"stage": stage.value, "impact": impact.value, "unit": UNITS[impact.value]}
    does_not_exist = (stage in MAKING and impact in _NOT_OF_MAKING) or (
        impact is Impact.EWASTE and stage is not LifeStage.END_OF_LIFE
    )
    if does_not_exist:
        return {**said, "status": "not_applicable", "value": None, "low": None, "high": None, "reason": "no such thing"}
    if impact is Impact.GWP_MARKET:
        return {**said, "status": "not_counted", "value": None, "low": None, "high": None, "reason": "no contract"}
    status = "measured" if impact is Impact.ENERGY_METERED else "factor"
    covers = "facility" if stage not in MAKING else "building" if stage is LifeStage.INFRASTRUCTURE else "equipment"
    return {**said, "status": status, "value": 10.0, "low": 8.0, "high": 12.0, "boundary": covers}


def whole_report() -> dict[str, Any]:
    """A report that meets every requirement."""
    energy = {"value_j": 36.0, "low_j": 30.0, "high_j": 40.0, "basis": "measured"}
    return {
        "schema": "stillwatt.lifecycle/1",
        "goal_and_scope": {
            "about": {"goal": "what one student cost"},
            "system_boundary": [
                {"stage": stage.value, "counted": ["gwp_location"], "left_out": []} for stage in LifeStage
            ],
            "place": {"code": "FRA", "kind": "country", "name": "France"},
            "conventions": {"time_share": "busy", "charge_idle": True, "charge_hydro": True},
            "uncertainty": {"interval": 0.9, "draws": 1000, "seed": 1},
        },
        "inventory": {"uses": [{"run": "r", "stage": "post_training", "energy_j": energy}]},
        "factors": [
            {
                **{"id": "grid", "quantity": "grid_gwp_location", "value": 0.05, "low": 0.04, "high": 0.06},
                **{"year": 2024, "source": "a table", "licence": "CC-BY-4.0", "verified": True},
            }
        ],
        "cells": [cell(stage, impact) for stage in LifeStage for impact in Impact],
        "totals": [
            {"impact": "gwp_location", "value": 80.0, "low": 60.0, "high": 90.0, "shares_of_variance": {"grid": 1.0}}
        ],
        "functional_units": [
            {"unit": "run", "count": 1.0, "means": "runs"},
            {"unit": "student", "count": None, "reason": "one student was kept"},
        ],
        "interpretation": {
            "hot_spots": [{"impact": "gwp_location", "stage": "post_training", "share_of_counted": 0.5}],
            "sensitivity": [{"impact": "gwp_location", "factor": "grid", "at_low": 70.0, "at_high": 85.0}],
            "limits": ["Nothing is said of biodiversity."],
        },
    }


def blank(report: dict[str, Any], stage: str, impact: str) -> None:
    """One cell that is no longer counted."""
    for one in report["cells"]:
        if (one["stage"], one["impact"]) == (stage, impact):
            one.update(status="not_counted", value=None, low=None, high=None, reason="nobody looked")


def change(report: dict[str, Any], stage: str, impact: str, **more: Any) -> None:
    """One cell that says something else."""
    for one in report["cells"]:
        if (one["stage"], one["impact"]) == (stage, impact):
            one.update(more)
