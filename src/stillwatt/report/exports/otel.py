"""OpenTelemetry: the account as metrics in OTLP's JSON form, a gauge for each impact.

What is known of one thing at several boundaries or under several conventions is never of one name, so that no backend
adds a facility's energy to the metered part of it, or one GWP to the other. `hw.host.energy` is left to the live
metrics: an account would stand beside it as a second host. A cell that is not counted has no point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.records.export import Details, Exported
from stillwatt.records.impact import Impact
from stillwatt.report.exports.losses import losses_of, uncounted_losses
from stillwatt.report.exports.reading import ENERGIES, Cell, Reading, pretty
from stillwatt.units import J_PER_KWH, NS_PER_US

PREFIX = "stillwatt.lifecycle."


def to_opentelemetry(report: Mapping[str, Any], details: Details) -> Exported:
    """One resource with its metrics; energies in joules."""
    reading = Reading(report, details)
    points: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in reading.valued():
        name, unit, value = _metric(cell)
        points.setdefault((name, unit), []).append(_point(reading, cell, value))
    tool, version = reading.maker
    document = {
        "resourceMetrics": [
            {
                "resource": {"attributes": list(_attributes(_resource(reading)))},
                "scopeMetrics": [
                    {
                        "scope": {"name": tool, "version": version},
                        "metrics": [
                            {"name": name, "unit": unit, "gauge": {"dataPoints": found}}
                            for (name, unit), found in points.items()
                        ],
                    }
                ],
            }
        ]
    }
    carried = ("energy", "gwp_location", "gwp_market", "primary_energy", "water", "adpe", "ewaste", "embodied")
    partly = {
        "status": "of cells with a value alone",
        "intervals": "low and high as attributes",
        "coverage": "the score alone",
        "conventions": "the place alone",
    }
    more = uncounted_losses(reading, tuple(Impact))
    return Exported(text=pretty(document), losses=losses_of(carried, why=partly, more=more))


def _metric(cell: Cell) -> tuple[str, str, float]:
    impact = Impact(cell["impact"])
    if impact in ENERGIES:
        return f"{PREFIX}{impact.value}", "J", float(cell["value"]) * J_PER_KWH
    return f"{PREFIX}{impact.value}", str(cell["unit"]), float(cell["value"])


def _point(reading: Reading, cell: Cell, value: float) -> dict[str, Any]:
    scale = value / float(cell["value"]) if cell["value"] else 1.0
    said = {
        "stillwatt.stage": cell["stage"],
        "stillwatt.status": cell["status"],
        "stillwatt.boundary": cell["boundary"] or "",
        "stillwatt.low": cell["low"] * scale,
        "stillwatt.high": cell["high"] * scale,
        "stillwatt.incomplete": bool(cell["incomplete"]),
    }
    if cell["water"]:
        said["stillwatt.water"] = cell["water"]
    return {"attributes": list(_attributes(said)), "timeUnixNano": _nanoseconds(reading), "asDouble": value}


def _resource(reading: Reading) -> dict[str, Any]:
    return {
        "service.name": reading.name,
        "stillwatt.report.sha256": reading.sha256,
        "stillwatt.coverage": float(reading.coverage["score"]),
        "stillwatt.place": str(reading.place["code"]),
        "stillwatt.runs": ",".join(str(run.get("run_id")) for run in reading.runs),
    }


def _attributes(said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in said.items():
        kind = "boolValue" if isinstance(value, bool) else "doubleValue" if isinstance(value, float) else "stringValue"
        yield {"key": key, "value": {kind: value}}


def _nanoseconds(reading: Reading) -> str:
    """When the export was made; OTLP's JSON writes 64-bit numbers as text."""
    from datetime import UTC, datetime, timedelta

    if not reading.details.created_utc:
        return "0"
    since = datetime.fromisoformat(reading.details.created_utc) - datetime(1970, 1, 1, tzinfo=UTC)
    return str(since // timedelta(microseconds=1) * NS_PER_US)
