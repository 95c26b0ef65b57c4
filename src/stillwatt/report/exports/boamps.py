"""BoAmps 1.1.0: the energy of one task, with how it was measured and on what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.records.export import Details, Exported, Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of, missing, uncounted_losses
from stillwatt.report.exports.reading import Reading, pretty
from stillwatt.units import GIGA, KG_PER_G

TASK: Mapping[LifeStage, str] = {
    LifeStage.DATA: "datacreation",
    LifeStage.EXPERIMENTATION: "training",
    LifeStage.TRAINING: "training",
    LifeStage.POST_TRAINING: "finetuning",
    LifeStage.DEPLOYMENT: "inference",
}
_CLOUD = "cloud region"
_ROUNDING = 2.0**-30
"""A count that is nearer to a whole number is one."""
_QUALITIES = (("high", 0.10), ("medium", 0.25), ("low", 0.50))
"""Largest relative error of each class of the format."""


def to_boamps(report: Mapping[str, Any], details: Details) -> Exported:
    """One report of one task, whose stages are joined with `+`.

    Raises:
        ReportError: no energy is counted, and the format cannot be without one.
    """
    reading = Reading(report, details)
    stages = [stage for stage in TASK if reading.value(stage, Impact.ENERGY_METERED) is not None]
    total = reading.total(Impact.ENERGY_METERED)
    if total is None or not stages:
        raise ReportError("$.totals", "BoAmps must have an energy, and the report counts no total of metered energy")
    tokens = reading.count("token")["count"]
    document = {
        "header": _header(reading),
        "task": {
            "taskStage": "+".join(dict.fromkeys(TASK[stage] for stage in stages)),
            "taskFamily": "text generation",
            "algorithms": [_algorithm(reading)],
            "dataset": [
                {"dataUsage": "input", "dataType": "token", **({} if tokens is None else {"dataQuantity": tokens})}
            ],
            "taskDescription": _description(reading, stages),
        },
        "measures": [_measure(reading, float(total["value"]))],
        "infrastructure": {"infraType": _infrastructure(reading), "components": _components(reading)},
        **({"environment": environment} if (environment := _environment(reading)) else {}),
        "quality": _quality(total),
    }
    return Exported(text=pretty(document), losses=_losses(reading, total))


def _header(reading: Reading) -> dict[str, Any]:
    details = reading.details
    return {
        **({"licensing": details.licence} if details.licence else {}),
        "formatVersion": "1.1.0",
        "formatVersionSpecificationUri": "https://github.com/Boavizta/BoAmps/tree/main/model",
        "reportId": reading.identifier("boamps"),
        "reportDatetime": _moment(details.created_utc or _first_start(reading)),
        "reportStatus": "draft",
        **(
            {"publisher": {"name": details.organisation, "confidentialityLevel": "public"}}
            if details.organisation
            else {}
        ),
    }


def _algorithm(reading: Reading) -> dict[str, Any]:
    details = reading.details
    said: dict[str, Any] = {"algorithmType": "llm", "algorithmName": reading.name, "trainingType": "distillation"}
    if details.base_model:
        said["foundationModelName"] = details.base_model
    if details.parameters is not None:
        said["parametersNumber"] = details.parameters / GIGA
    return said


def _measure(reading: Reading, energy_kwh: float) -> dict[str, Any]:
    tool, version = reading.maker
    drivers = {driver for meter in reading.meters for driver in meter.split("+")}
    said: dict[str, Any] = {"measurementMethod": tool, "version": version, "powerConsumption": energy_kwh}
    for key, names in (("gpuTrackingMode", ("nvml", "amd", "intel_gpu")), ("cpuTrackingMode", ("rapl", "host_model"))):
        if modes := [name for name in names if name in drivers]:
            said[key] = modes[0] if len(modes) == 1 else "+".join(modes)
    if start := _first_start(reading):
        said["measurementDateTime"] = _moment(start)
    return said


def _infrastructure(reading: Reading) -> str:
    if reading.details.infrastructure:
        return reading.details.infrastructure
    return "publicCloud" if reading.place["kind"] == _CLOUD else "other"


def _components(reading: Reading) -> list[dict[str, Any]]:
    """Devices; the format wants whole numbers of them, so a part of one is a share of one."""
    roles = {"accelerator": "gpu", "host": "server", "network": "network"}
    found = []
    for role, name, count in reading.machines():
        whole = max(1, math.ceil(count - _ROUNDING))
        share = {} if abs(count - whole) < _ROUNDING else {"share": count / whole}
        kind = roles.get(role, role)
        found.append({"componentName": name, "componentType": kind, "nbComponent": whole, **share})
    return found or [{"componentName": "not in the report", "componentType": "unknown", "nbComponent": 1}]


def _environment(reading: Reading) -> dict[str, Any]:
    factor = reading.factor_used("grid_gwp_location")
    intensity = {} if factor is None else {"powerSourceCarbonIntensity": factor["value"] / KG_PER_G}
    country = _country(reading)
    return {} if not country else {"country": country, "location": reading.place["name"], **intensity}


def _country(reading: Reading) -> str:
    """The country's code; empty where the place is a provider, who has many."""
    place = reading.place
    return str(place["within"][-1]) if place["within"] else str(place["code"]) if place["kind"] == "country" else ""


def _quality(total: Mapping[str, Any]) -> str:
    return next((name for name, most in _QUALITIES if _relative(total) <= most), "low")


def _relative(total: Mapping[str, Any]) -> float:
    """Half-width of the interval over the value."""
    value = float(total["value"])
    return max(total["high"] - value, value - total["low"]) / value if value else 0.0


def _description(reading: Reading, stages: list[LifeStage]) -> str:
    names = ", ".join(stage.value for stage in stages)
    return f"Energy, as metered or stated, of {names}; life-cycle report sha256 {reading.sha256}"


def _losses(reading: Reading, total: Mapping[str, Any]) -> tuple[Loss, ...]:
    more = [*uncounted_losses(reading, (Impact.ENERGY_METERED,))]
    if not reading.details.infrastructure and reading.place["kind"] != _CLOUD:
        more.append(missing("infrastructure.infraType", "not in the report; 'other' stands there: --detail"))
    if not reading.inventory["devices"]:
        more.append(missing("infrastructure.components", "no device is in the report; an 'unknown' one stands there"))
    if not reading.details.created_utc and not _first_start(reading):
        more.append(missing("header.reportDatetime", "no time is known; 1970 stands there"))
    if not _country(reading):
        more.append(missing("environment.country", "the place is no country; --region names one"))
    for stage in TASK:
        cell = reading.cell(stage, Impact.ENERGY_METERED)
        if cell is not None and cell["status"] != "measured":
            what = f"that energy of {stage.value} is {cell['status']}, not measured"
            why = f"{cell['value']:.4g} kWh of it stand in powerConsumption, which has one measurementMethod"
            more.append(Loss(path=f"$.cells[?stage={stage.value}&impact=energy_metered].status", what=what, why=why))
    if _relative(total) > _QUALITIES[-1][1]:
        more.append(Loss(path="$.totals", what="how wide the interval is", why="the format's widest class is ±50 %"))
    partly = {
        "energy": "one sum of metered energy over all stages that are counted; node and facility are left out",
        "gwp_location": "the grid's intensity alone; kg of CO2e have no field",
        "intervals": "one of three classes, ±10, ±25 and ±50 %",
        "factors": "the grid's intensity alone",
        "conventions": "country and place alone",
        "inventory": "devices alone",
    }
    return losses_of((), why=partly, more=more)


def _first_start(reading: Reading) -> str:
    return min((str(run["start_utc"]) for run in reading.runs if run.get("start_utc")), default="")


def _moment(text: str) -> str:
    """A time as the format writes it.

    >>> _moment("2026-01-01T00:01:40.000Z")
    '2026-01-01 00:01:40'
    """
    return text[:19].replace("T", " ") or "1970-01-01 00:00:00"
