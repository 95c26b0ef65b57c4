"""RO-Crate 1.1 (Process Run Crate) with the report and its provenance as W3C PROV-JSON.

An action for each stage with a value, and one for the account itself; in PROV, factors and metered energies are
entities, the computing of each cell an activity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from stillwatt.records.export import Details, Exported, Loss
from stillwatt.records.impact import LifeStage
from stillwatt.report.data import report_json
from stillwatt.report.exports.losses import TOPICS, losses_of
from stillwatt.report.exports.reading import Reading, pretty

METADATA, REPORT, PROVENANCE = "ro-crate-metadata.json", "report.json", "prov.json"
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_NAMESPACE = "https://stillwatt.example/ns#"


def to_rocrate(report: Mapping[str, Any], details: Details) -> Exported:
    """Three files of one folder."""
    reading = Reading(report, details)
    files = {
        METADATA: pretty({"@context": _CONTEXT, "@graph": list(_graph(reading))}),
        REPORT: report_json(report),
        PROVENANCE: pretty(_provenance(reading)),
    }
    more = []
    if not details.licence:
        more.append(Loss(path="", what="the crate's licence", why="nobody said it; --detail licence=URL"))
    more.append(
        Loss(
            path="$.goal_and_scope.about.runs", what="the runs' own samples and journals", why="stay in run directories"
        )
    )
    return Exported(text="", losses=losses_of(TOPICS, more=more), files=files)


def _graph(reading: Reading) -> Iterator[dict[str, Any]]:
    tool, version = reading.maker
    stages = list(dict.fromkeys(str(cell["stage"]) for cell in reading.valued()))
    actions = [{"@id": f"#stage-{stage}"} for stage in stages]
    yield {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": _CRATE}}
    yield _root(reading, actions)
    yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    yield {"@id": "#tool", "@type": "SoftwareApplication", "name": tool, "version": version}
    for name, what in ((REPORT, "Life-cycle report"), (PROVENANCE, "Provenance of every cell, W3C PROV-JSON")):
        yield {"@id": name, "@type": "File", "name": what, "encodingFormat": "application/json"}
    for run in reading.runs:
        said = {"name": str(run.get("name") or run.get("run_id")), "identifier": str(run.get("run_id"))}
        yield {"@id": _run_id(run), "@type": "CreativeWork", **said}
    yield from (_action(reading, stage) for stage in stages)
    yield {
        "@id": "#account",
        "@type": "CreateAction",
        "name": "Life-cycle account",
        "instrument": {"@id": "#tool"},
        "object": actions,
        "result": [{"@id": REPORT}, {"@id": PROVENANCE}],
        **({"endTime": reading.details.created_utc} if reading.details.created_utc else {}),
    }


def _root(reading: Reading, actions: list[dict[str, str]]) -> dict[str, Any]:
    """The folder itself."""
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Life-cycle account of {reading.name}",
        "description": str(reading.scope["about"].get("goal") or "Life-cycle account of a model"),
        "datePublished": reading.details.created_utc[:10] or "1970-01-01",
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": REPORT}, {"@id": PROVENANCE}],
        "mentions": [*actions, {"@id": "#account"}],
    }
    if reading.details.licence:
        root["license"] = reading.details.licence
    return root


def _action(reading: Reading, stage: str) -> dict[str, Any]:
    """One stage, with its cells as property values beside it."""
    used = {use["run"] for use in reading.inventory["uses"] if use["stage"] == stage}
    return {
        "@id": f"#stage-{stage}",
        "@type": "CreateAction",
        "name": f"{stage} ({_titles().get(stage, stage)})",
        "instrument": {"@id": "#tool"},
        "object": [{"@id": _run_id(run)} for run in reading.runs if run.get("run_id") in used],
        "result": {"@id": REPORT},
        "description": "; ".join(
            f"{cell['impact']} {cell['value']:.6g} {cell['unit']} ({cell['status']})"
            for cell in reading.valued()
            if cell["stage"] == stage
        ),
    }


def _titles() -> dict[str, str]:
    return {stage.value: stage.value.replace("_", " ") for stage in LifeStage}


def _run_id(run: Mapping[str, Any]) -> str:
    return f"#run-{quote(str(run.get('run_id')), safe='')}"


def _provenance(reading: Reading) -> dict[str, Any]:
    """PROV-JSON: prefix, entities, activities and what used, made and stands behind what."""
    tool, version = reading.maker
    entity: dict[str, Any] = {"sw:report": {"prov:label": REPORT, "sw:sha256": reading.sha256}}
    activity: dict[str, Any] = {}
    used: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for factor in reading.report["factors"]:
        entity[_name("factor", factor["id"])] = {
            "prov:label": factor["id"],
            "sw:value": factor["value"],
            "sw:unit": factor["unit"],
            "sw:source": factor["source"],
            "sw:hash": factor["hash"],
        }
    energies: dict[str, list[str]] = {}
    for number, use in enumerate(reading.inventory["uses"]):
        name = f"sw:energy-{number}"
        energies.setdefault(use["stage"], []).append(name)
        value = use["energy_j"].get("value_j")
        said = {"sw:absent": use["energy_j"]["absent"]} if value is None else {"sw:value_j": value}
        entity[name] = {"prov:label": f"{use['run']} in {use['stage']}", "sw:meter": use["meter"], **said}
    for number, cell in enumerate(reading.valued()):
        step, result = f"sw:step-{number}", f"sw:cell-{number}"
        activity[step] = {"prov:label": f"{cell['impact']} of {cell['stage']}"}
        entity[result] = {
            "prov:label": f"{cell['impact']} of {cell['stage']}",
            **{f"sw:{key}": cell[key] for key in ("value", "low", "high", "unit", "status")},
        }
        made[f"_:made-{number}"] = {"prov:entity": result, "prov:activity": step}
        inputs = [*(_name("factor", name) for name in cell["factors"]), *energies.get(cell["stage"], ())]
        for place, name in enumerate(inputs):
            used[f"_:used-{number}-{place}"] = {"prov:activity": step, "prov:entity": name}
    return {
        "prefix": {"sw": _NAMESPACE},
        "entity": entity,
        "activity": activity,
        "agent": {"sw:tool": {"prov:type": "prov:SoftwareAgent", "prov:label": f"{tool} {version}"}},
        "used": used,
        "wasGeneratedBy": made,
        "wasAttributedTo": {"_:attributed": {"prov:entity": "sw:report", "prov:agent": "sw:tool"}},
    }


def _name(kind: str, identifier: str) -> str:
    """A qualified name of anything that somebody may have called anything; no two have the same.

    >>> _name("factor", "x/y"), _name("factor", "x_2Fy")
    ('sw:factor-x_2Fy', 'sw:factor-x_5F2Fy')
    """
    return f"sw:{kind}-{quote(identifier, safe='').replace('_', '%5F').replace('%', '_')}"
