"""CycloneDX 1.6 and 1.7, ML-BOM: energy and CO2e by activity; everything else as namespaced properties.

An entry of the format must have an energy, so the making of hardware, which has none, stands in the properties alone:
an energy of 0 would be untrue.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.records.export import Details, Exported
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of
from stillwatt.report.exports.reading import ENERGIES, Reading, compact, pretty
from stillwatt.units import KG_PER_T

VERSIONS = ("1.6", "1.7")
PREFIX = "stillwatt:"
ACTIVITY: Mapping[LifeStage, str] = {
    LifeStage.DATA: "data-preparation",
    LifeStage.EXPERIMENTATION: "validation",
    LifeStage.TRAINING: "training",
    LifeStage.POST_TRAINING: "fine-tuning",
    LifeStage.DEPLOYMENT: "inference",
}
"""The activity that comes nearest to each stage; the stage itself is a property beside it."""
_AS_PROPERTY = "only as a property in the namespace stillwatt:, which no other tool reads"


def to_cyclonedx(report: Mapping[str, Any], details: Details, *, version: str = "1.6") -> Exported:
    """A bill of materials with one model.

    Args:
        report: a life-cycle report.
        details: what it does not hold.
        version: of the specification, one of `VERSIONS`.
    """
    reading = Reading(report, details)
    environment: dict[str, Any] = {"properties": list(_properties(reading))}
    if consumed := [entry for stage in ACTIVITY if (entry := _entry(reading, stage))]:
        environment = {"energyConsumptions": consumed, **environment}
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model-{reading.identifier('model')}",
        "name": reading.name,
        **({"version": details.version} if details.version else {}),
        **({"hashes": [{"alg": "SHA-256", "content": details.model_hash}]} if _is_sha256(details.model_hash) else {}),
        "modelCard": {"considerations": {"environmentalConsiderations": environment}},
    }
    tool, tool_version = reading.maker
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": f"urn:uuid:{reading.identifier('bom')}",
        "version": 1,
        "metadata": {
            **({"timestamp": details.created_utc} if details.created_utc else {}),
            "tools": {"components": [{"type": "application", "name": tool, "version": tool_version}]},
        },
        "components": [model],
    }
    as_properties = dict.fromkeys(
        ("gwp_market", "primary_energy", "water", "adpe", "ewaste", "status", "intervals", "embodied", "coverage"),
        _AS_PROPERTY,
    )
    partly = {
        "energy": "the format takes one boundary, the widest that is known; the others are properties",
        "factors": "ids and hashes alone, as properties",
        "conventions": "the place and the goal alone, as properties",
        "units": "counts and values per unit are left out",
    }
    return Exported(text=pretty(document), losses=losses_of(("gwp_location",), why={**as_properties, **partly}))


def read_cells(text: str) -> list[dict[str, Any]]:
    """The cells that a bill of materials of ours carries, as they stood in the report."""
    environment = json.loads(text)["components"][0]["modelCard"]["considerations"]["environmentalConsiderations"]
    return [
        json.loads(entry["value"]) for entry in environment["properties"] if entry["name"].startswith(f"{PREFIX}cell:")
    ]


def _entry(reading: Reading, stage: LifeStage) -> dict[str, Any] | None:
    """Energy of one stage; None where none is known."""
    found = next((impact for impact in ENERGIES if reading.value(stage, impact) is not None), None)
    if found is None:
        return None
    energy = {"value": reading.value(stage, found), "unit": "kWh"}
    gwp_kg = reading.value(stage, Impact.GWP_LOCATION)
    carbon = {} if gwp_kg is None else {"co2CostEquivalent": {"value": gwp_kg / KG_PER_T, "unit": "tCO2eq"}}
    cell = reading.cell(stage, found) or {}
    return {
        "activity": ACTIVITY[stage],
        "energyProviders": [
            {
                "organization": {"name": f"electricity grid of {reading.place['name']}"},
                "energySource": "unknown",
                "energyProvided": energy,
            }
        ],
        "activityEnergyCost": energy,
        **carbon,
        "properties": [
            {"name": f"{PREFIX}stage", "value": stage.value},
            {"name": f"{PREFIX}energy", "value": found.value},
            {"name": f"{PREFIX}status", "value": str(cell.get("status"))},
        ],
    }


def _properties(reading: Reading) -> Iterator[dict[str, str]]:
    tool, version = reading.maker
    said = {
        "schema": reading.report["schema"],
        "report-sha256": reading.sha256,
        "made-by": f"{tool} {version}",
        "goal": str(reading.scope["about"].get("goal", "")),
        "place": compact(reading.place),
        "coverage": compact({key: reading.coverage[key] for key in ("score", "counted")}),
    }
    for name, value in said.items():
        yield {"name": f"{PREFIX}{name}", "value": value}
    for factor in reading.report["factors"]:
        yield {"name": f"{PREFIX}factor:{factor['id']}", "value": factor["hash"]}
    for cell in reading.report["cells"]:
        yield {"name": f"{PREFIX}cell:{cell['stage']}:{cell['impact']}", "value": compact(cell)}


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(mark in "0123456789abcdefABCDEF" for mark in text)
