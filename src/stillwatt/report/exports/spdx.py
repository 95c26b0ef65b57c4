"""SPDX 3.0.1, AI profile, as JSON-LD: energy of training, fine-tuning and inference, which is all that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.records.export import Details, Exported, Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of, missing, stage_losses, uncounted_losses
from stillwatt.report.exports.reading import ENERGIES, Reading, pretty

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
FIELD: Mapping[LifeStage, str] = {
    LifeStage.TRAINING: "ai_trainingEnergyConsumption",
    LifeStage.POST_TRAINING: "ai_finetuningEnergyConsumption",
    LifeStage.DEPLOYMENT: "ai_inferenceEnergyConsumption",
}
_NO_STAGE = "the AI profile has training, fine-tuning and inference alone"
_EPOCH = "1970-01-01T00:00:00Z"
_WANTED = ("software_packageVersion", "suppliedBy", "releaseTime", "software_downloadLocation")


def to_spdx(report: Mapping[str, Any], details: Details) -> Exported:
    """A document with one AI package."""
    reading = Reading(report, details)
    base = f"urn:uuid:{reading.identifier('spdx')}"
    said: list[str] = []
    consumed = {field: [found] for stage, field in FIELD.items() if (found := _quantity(reading, stage, said))}
    package: dict[str, Any] = {
        "type": "ai_AIPackage",
        "spdxId": f"{base}#model",
        "creationInfo": "_:creation",
        "name": reading.name,
        "software_primaryPurpose": "model",
        "comment": _comment(reading, said),
    }
    if details.version:
        package["software_packageVersion"] = details.version
    if _is_spdx_time(details.release_date):
        package["releaseTime"] = details.release_date
    if consumed:
        package["ai_energyConsumption"] = {"type": "ai_EnergyConsumption", **consumed}
    agents, supplier = _agents(base, reading)
    package |= supplier
    document = {
        "type": "SpdxDocument",
        "spdxId": f"{base}#document",
        "creationInfo": "_:creation",
        "profileConformance": ["core", "software"],  # `ai` wants licences by relationship, and every field of _WANTED
        "rootElement": [package["spdxId"]],
        "element": [package["spdxId"], *(agent["spdxId"] for agent in agents)],
    }
    creation = {
        "type": "CreationInfo",
        "@id": "_:creation",
        "specVersion": "3.0.1",
        "created": _time(details.created_utc),
        "createdBy": [f"{base}#tool"],
    }
    graph = {"@context": CONTEXT, "@graph": [creation, document, package, *agents]}
    return Exported(text=pretty(graph), losses=_losses(reading, package))


def _quantity(reading: Reading, stage: LifeStage, said: list[str]) -> dict[str, Any] | None:
    found = next((impact for impact in ENERGIES if reading.value(stage, impact) is not None), None)
    if found is None:
        return None
    said.append(f"{stage.value} is {found.value}")
    value = reading.value(stage, found)
    return {"type": "ai_EnergyConsumptionDescription", "ai_energyQuantity": value, "ai_energyUnit": "kilowattHour"}


def _agents(base: str, reading: Reading) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    tool, version = reading.maker
    agents = [
        {
            "type": "SoftwareAgent",
            "spdxId": f"{base}#tool",
            "creationInfo": "_:creation",
            "name": f"{tool} {version}",
        }
    ]
    if not reading.details.organisation:
        return agents, {}
    agents.append(
        {
            "type": "Organization",
            "spdxId": f"{base}#organisation",
            "creationInfo": "_:creation",
            "name": reading.details.organisation,
        }
    )
    return agents, {"suppliedBy": f"{base}#organisation"}


def _comment(reading: Reading, said: list[str]) -> str:
    boundary = "; ".join(said) or "no energy of training, fine-tuning or inference is counted"
    score = float(reading.coverage["score"])
    return f"From a life-cycle report, sha256 {reading.sha256}, coverage {score:.2f}. Boundaries: {boundary}."


def _losses(reading: Reading, package: Mapping[str, Any]) -> tuple[Loss, ...]:
    stages = [stage for stage in LifeStage if stage not in FIELD]
    more = [
        *stage_losses(reading, stages, Impact.ENERGY_METERED, _NO_STAGE),
        *uncounted_losses(reading, (Impact.ENERGY_METERED,)),
        missing("profileConformance ai", "it wants declared and concluded licences, which no report holds"),
        *(missing(name, "give it with --detail, or add it") for name in _WANTED if name not in package),
    ]
    partly = {
        "energy": "one boundary for each stage, the widest that is known, named in the comment",
        "coverage": "the score alone, in the comment",
    }
    return losses_of((), why=partly, more=more)


def _is_spdx_time(text: str) -> bool:
    return len(text) == len(_EPOCH) and text.endswith("Z") and text[10] == "T"


def _time(text: str) -> str:
    """To the second, as SPDX has it.

    >>> _time("2026-01-01T00:00:00.000Z")
    '2026-01-01T00:00:00Z'
    """
    return f"{text[:19]}Z" if len(text) >= 20 else _EPOCH
