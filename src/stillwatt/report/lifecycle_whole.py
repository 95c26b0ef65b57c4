"""A life-cycle report with every optional part in its place, whoever wrote it: what a page, or a screen, is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.report.data import writable
from stillwatt.report.lifecycle import LIFECYCLE_SCHEMA
from stillwatt.report.lifecycle_words import IMPACT_TITLES, STAGE_TITLES

Row = Mapping[str, Any]
_PARTS = ("goal_and_scope", "inventory", "factors", "cells", "totals", "coverage", "interpretation")
_CELL: Row = {
    **dict.fromkeys(("quality", "boundary", "water", "reason")),
    **{"factors": [], "incomplete": [], "cautions": [], "covers": []},
}
_TOTAL: Row = {"reason": None, "shares_of_variance": {}}
_UNIT: Row = {"means": "", "reason": None, "stages": [], "values": {}}
_FACTOR: Row = {"note": "", "water": None, "spread_is_ours": False, "origin": "stillwatt"}
_SCOPE: Row = {"site_factors": {}, "shared_factors": {}}
_INVENTORY: Row = {"devices": [], "stored": [], "moved": [], "tried": None, "lacks": [], "counts": []}
_DEVICE: Row = {"found": {}, "cautions": []}
_ENERGY: Row = {"absent_channels": [], "share_by_basis": {}}
_PLACE: Row = {"within": [], "provider": "", "caution": ""}
_COVERAGE: Row = {"by_stage": {}, "by_impact": {}, "by_status": {}, "rule": None}
_INTERPRETATION: Row = {"hot_spots": [], "improve_first": [], "sensitivity": []}
_LACK: Row = {"impacts": []}
NO_CELL = "the report has no such cell"


def whole_report(data: Mapping[str, Any]) -> dict[str, Any]:
    """The report with what may be left out filled in; nothing that it says is changed.

    Raises:
        ReportError: it is no report of this contract.
    """
    if data.get("schema") != LIFECYCLE_SCHEMA:
        raise ReportError("$.schema", f"it is {data.get('schema')!r}, and a page is made of {LIFECYCLE_SCHEMA!r}")
    missing = next((part for part in _PARTS if part not in data), None)
    if missing:
        raise ReportError("$", f"{missing} is missing: `stillwatt validate` says more")
    said = writable(data)
    scope, inventory = {**_SCOPE, **said["goal_and_scope"]}, {**_INVENTORY, **said["inventory"]}
    return {
        **said,
        "goal_and_scope": {**scope, "place": {**_PLACE, **scope["place"]}},
        "inventory": {
            **inventory,
            "uses": [{"meter": "", **use, "energy_j": {**_ENERGY, **use["energy_j"]}} for use in inventory["uses"]],
            "devices": _filled(inventory["devices"], _DEVICE),
            "lacks": _filled(inventory["lacks"], _LACK),
        },
        "factors": _filled(said["factors"], _FACTOR),
        "cells": _filled(said["cells"], _CELL),
        "totals": _filled(said["totals"], _TOTAL),
        "functional_units": _filled(said.get("functional_units", []), _UNIT),
        "coverage": {**_COVERAGE, **said["coverage"]},
        "interpretation": {**_INTERPRETATION, **said["interpretation"]},
    }


def _filled(rows: Iterable[Row], missing: Row) -> list[dict[str, Any]]:
    return [{**missing, **row} for row in rows]


def stages_of(data: Row) -> list[str]:
    """The eight stages, and others that a report's cells name."""
    return _ordered(STAGE_TITLES, data["cells"], "stage")


def impacts_of(data: Row) -> list[str]:
    """The ten impacts, and others that a report's cells or totals name."""
    return _ordered(IMPACT_TITLES, [*data["cells"], *data["totals"]], "impact")


def _ordered(known: Iterable[str], rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys([*known, *(row[key] for row in rows)]))


def cell_of(data: Row, stage: str, impact: str) -> Row:
    """A cell; where the report has none, one that is not counted."""
    for cell in data["cells"]:
        if (cell["stage"], cell["impact"]) == (stage, impact):
            found: Row = cell
            return found
    return {**_CELL, "stage": stage, "impact": impact, "status": "not_counted", "value": None, "reason": NO_CELL}


def total_of(data: Row, impact: str) -> Row | None:
    """A total; None where the report has none."""
    return next((total for total in data["totals"] if total["impact"] == impact), None)


def unit_of(data: Row, impact: str) -> str:
    """The unit in which a report gives an impact."""
    rows = [*data["totals"], *data["cells"]]
    return next((str(row["unit"]) for row in rows if row["impact"] == impact), "")
