"""A life-cycle report as exports read it: cells and totals by name, and None for what is not counted."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.records.export import Details
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.data import report_json

Cell = Mapping[str, Any]

MADE = (LifeStage.DATA, LifeStage.EXPERIMENTATION, LifeStage.TRAINING, LifeStage.POST_TRAINING)
"""Stages in which the model is made; what runs after them is its use."""
EMBODIED = (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE, LifeStage.END_OF_LIFE)
ENERGIES = (Impact.ENERGY_FACILITY, Impact.ENERGY_NODE, Impact.ENERGY_METERED)
"""Electricity by boundary, the widest first."""
_SPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


class Reading:
    """One report.

    Args:
        report: its JSON values, of the schema `stillwatt.lifecycle/1`.
        details: what the report does not hold.

    Raises:
        ReportError: it is no such report.
    """

    def __init__(self, report: Mapping[str, Any], details: Details) -> None:
        self.report, self.details = report, details
        try:
            self._cells = {(cell["stage"], cell["impact"]): cell for cell in report["cells"]}
            self._totals = {total["impact"]: total for total in report["totals"]}
            self.scope: Mapping[str, Any] = report["goal_and_scope"]
            self.inventory: Mapping[str, Any] = report["inventory"]
            self.coverage: Mapping[str, Any] = report["coverage"]
            self.units: Sequence[Mapping[str, Any]] = report["functional_units"]
        except (KeyError, TypeError) as err:
            raise ReportError("$", f"it is no life-cycle report ({err!r} is missing)") from err

    def cell(self, stage: LifeStage, impact: Impact) -> Cell | None:
        """A cell that has a value; None where nothing is counted."""
        cell = self._cells.get((stage.value, impact.value))
        return cell if cell is not None and cell.get("value") is not None else None

    def value(self, stage: LifeStage, impact: Impact) -> float | None:
        """A cell's value; None where nothing is counted, never 0 in its place."""
        cell = self.cell(stage, impact)
        return None if cell is None else float(cell["value"])

    def why_not(self, stage: LifeStage, impact: Impact) -> str:
        """Why a cell has no value."""
        cell = self._cells.get((stage.value, impact.value))
        return str(cell.get("reason") or "not counted") if cell is not None else "the report has no such cell"

    def valued(self) -> Iterator[Cell]:
        """Every cell that has a value."""
        return (cell for cell in self._cells.values() if cell.get("value") is not None)

    def uncounted(self) -> Iterator[Cell]:
        """Every cell of something that is there and not known."""
        return (cell for cell in self._cells.values() if cell.get("status") == "not_counted")

    def sum_of(self, stages: Iterable[LifeStage], impact: Impact) -> float | None:
        """Sum of the cells that are counted; None where none is."""
        values = [value for stage in stages if (value := self.value(stage, impact)) is not None]
        return math.fsum(values) if values else None

    def lacking(self, stages: Iterable[LifeStage], impact: Impact) -> list[str]:
        """What is not in such a sum, though it belongs to it."""
        said = []
        for stage in stages:
            cell = self._cells.get((stage.value, impact.value), {})
            if cell.get("status") == "not_counted":
                said.append(f"{stage.value}: {cell.get('reason')}")
            said += [f"{stage.value}: {gone}" for gone in cell.get("incomplete", ())]
        return said

    def widest_energy(self, stages: Sequence[LifeStage]) -> tuple[Impact, float] | None:
        """Electricity of some stages at the widest boundary at which every counted stage has one."""
        metered = {stage for stage in stages if self.value(stage, Impact.ENERGY_METERED) is not None}
        for impact in ENERGIES:
            have = {stage for stage in stages if self.value(stage, impact) is not None}
            total = self.sum_of(stages, impact)
            if total is not None and have >= metered:
                return impact, total
        return None

    def total(self, impact: Impact) -> Mapping[str, Any] | None:
        """A total that has a value."""
        total = self._totals.get(impact.value)
        return total if total is not None and total.get("value") is not None else None

    def interval_of(self, stages: Iterable[LifeStage], impact: Impact) -> tuple[float, float] | None:
        """Ends of a sum's interval, as if all its cells moved together; None where nothing is counted."""
        cells = [cell for stage in stages if (cell := self.cell(stage, impact)) is not None]
        if not cells:
            return None
        return math.fsum(cell["low"] for cell in cells), math.fsum(cell["high"] for cell in cells)

    def factor_used(self, quantity: str) -> Mapping[str, Any] | None:
        """The factor of the site for a quantity."""
        found = self.scope["site_factors"].get(quantity, {}).get("factor")
        return next((factor for factor in self.report["factors"] if factor["id"] == found), None)

    def count(self, unit: str) -> Mapping[str, Any]:
        """A functional unit's count, or why there is none."""
        missing: dict[str, Any] = {
            "unit": unit,
            "count": None,
            "reason": "the report has no such unit",
            "stages": [],
            "means": "",
        }
        return next((count for count in self.inventory["counts"] if count["unit"] == unit), missing)

    @property
    def name(self) -> str:
        """What the model is called: the user's word, else the runs' names."""
        names = dict.fromkeys(str(run.get("name") or run.get("run_id")) for run in self.runs)
        return self.details.model or ", ".join(names) or "unnamed model"

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """The runs of the account."""
        found: Sequence[Mapping[str, Any]] = self.scope["about"].get("runs", ())
        return found

    @property
    def maker(self) -> tuple[str, str]:
        """Name and version of what made the report."""
        made = self.scope["about"].get("made_by") or {}
        return str(made.get("name") or "unknown tool"), str(made.get("version") or "unknown")

    @property
    def place(self) -> Mapping[str, Any]:
        """Where the work ran."""
        found: Mapping[str, Any] = self.scope["place"]
        return found

    @property
    def meters(self) -> list[str]:
        """What read the energies."""
        return list(dict.fromkeys(str(use["meter"]) for use in self.inventory["uses"] if use.get("meter")))

    @property
    def held(self) -> list[Mapping[str, Any]]:
        """Devices that the runs held; a scenario's are none that anything was made on."""
        runs = {run.get("run_id") for run in self.runs}
        return [held for held in self.inventory["devices"] if held.get("run") in runs]

    @property
    def has_scenario_devices(self) -> bool:
        """Whether the making of hardware holds a serving scenario's devices too."""
        return len(self.held) < len(self.inventory["devices"])

    @property
    def accelerators(self) -> list[Mapping[str, Any]]:
        """Boards that the runs held."""
        return [held for held in self.held if held.get("role") == "accelerator"]

    def machines(self) -> list[tuple[str, str, float]]:
        """Role, name and count of the devices: those of one name are the same ones in each run, the most at a time."""
        most: dict[tuple[str, str], float] = {}
        for held in self.held:
            key = (str(held["role"]), str(held["name"]))
            most[key] = max(most.get(key, 0.0), float(held["count"]))
        return [(role, name, count) for (role, name), count in most.items()]

    @property
    def sha256(self) -> str:
        """Of the report as it is written."""
        return hashlib.sha256(report_json(self.report).encode("utf-8")).hexdigest()

    def identifier(self, of: str = "") -> str:
        """A UUID that follows from the report and a name: the same report gives the same export."""
        return str(uuid.uuid5(_SPACE, f"stillwatt:{self.sha256}:{of}"))


def compact(value: Any) -> str:
    """JSON on one line, for formats that carry text alone."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def pretty(value: Any) -> str:
    """JSON as it is written to a file."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
