"""What the protocol asks of a life-cycle report beyond its schema and its sums; each rule says where it is not met.

The rules read JSON values that keep the schema, whoever wrote them; they are pure and know no other rule. Sums, hashes,
statuses and units are the rules of `stillwatt validate`, and are not looked at twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stillwatt.records.impact import VALUED, Impact, LifeStage, Status

Report = Mapping[str, Any]
Found = Iterator[tuple[str, str]]
"""JSON path and message."""

_VALUED = frozenset(status.value for status in VALUED)
_OPERATION = (
    LifeStage.DATA,
    LifeStage.EXPERIMENTATION,
    LifeStage.TRAINING,
    LifeStage.POST_TRAINING,
    LifeStage.DEPLOYMENT,
)
_ON_THE_RUN = _OPERATION[:-1]
"""Deployment is modelled from a scenario by its nature."""
_OF_PLACES = ("grid_", "offsite_water", "pue", "wue")
_NOT_SAID = frozenset({"", "-", "?", "n/a", "na", "none", "null", "tbd", "unknown"})
"""Words that fill a place and say nothing."""
_EVERYWHERE = frozenset({"earth", "glo", "global", "world", "worldwide"})
_NARROWEST = 1e-5
"""Width of an interval over its value, below which there is none: figures are written with six digits and more."""
_ENERGY = Impact.ENERGY_METERED
_WATERS = (Impact.WATER_ONSITE, Impact.WATER_OFFSITE)


def energy_listed(report: Report) -> Found:
    """Every energy has its basis, or the reason why it is not known, and there is one at least."""
    uses = report["inventory"]["uses"]
    if not uses:
        yield "$.inventory.uses", "no energy is listed"
    for number, use in enumerate(uses):
        energy = use["energy_j"]
        if not energy.get("basis") and not energy.get("absent"):
            yield f"$.inventory.uses[{number}].energy_j", "neither a basis nor a reason why it is not known"


def data_accounted(report: Report) -> Found:
    """Work on data is counted or its absence explained in words of its own."""
    path, cell = _cell(report, LifeStage.DATA, _ENERGY)
    if not _has_value(cell) and not cell.get("reason"):
        yield path, "work on data is neither counted nor explained"


def energy_measured(report: Report) -> Found:
    """What ran was measured."""
    for stage in _ON_THE_RUN:
        path, cell = _cell(report, stage, _ENERGY)
        if _has_value(cell) and cell["status"] != Status.MEASURED.value:
            yield f"{path}.status", f"energy of {stage.value} is {cell['status']}, not measured"


def some_measured(report: Report) -> Found:
    """One stage at least was measured."""
    cells = [_cell(report, stage, _ENERGY)[1] for stage in _OPERATION]
    if not any(cell.get("status") == Status.MEASURED.value for cell in cells):
        yield "$.cells", "no stage's energy is measured"


def work_counted(report: Report) -> Found:
    """The work that the report is about; no work took no energy."""
    cells = [_cell(report, stage, _ENERGY)[1] for stage in (LifeStage.TRAINING, LifeStage.POST_TRAINING)]
    if not any(_has_value(cell) and cell["value"] > 0.0 for cell in cells):
        yield "$.cells", "no energy above 0 is counted for training or for post-training adaptation"


def node_and_facility(report: Report) -> Found:
    """Metered energy is brought to the node and the facility."""
    for stage in _with_energy(report):
        for impact in (Impact.ENERGY_NODE, Impact.ENERGY_FACILITY):
            yield from _missing(report, stage, impact)


def eight_stages(report: Report) -> Found:
    """Each stage stands in the scope once, with a reason where nothing of it is counted."""
    rows = report["goal_and_scope"]["system_boundary"]
    stages = [row["stage"] for row in rows]
    for stage in LifeStage:
        if stages.count(stage.value) != 1:
            yield "$.goal_and_scope.system_boundary", f"{stage.value} stands there {stages.count(stage.value)} times"
    for number, row in enumerate(rows):
        if not row["counted"] and not row["left_out"]:
            path = f"$.goal_and_scope.system_boundary[{number}].left_out"
            yield path, f"nothing of {row['stage']} is counted, and no reason is given"


def unit_counted(report: Report) -> Found:
    """There is a functional unit that was counted and says what it counts."""
    units = report.get("functional_units", ())
    if not any(unit["count"] is not None for unit in units):
        yield "$.functional_units", "no functional unit has a count"
    for number, unit in enumerate(units):
        if unit["count"] is not None and not unit.get("means"):
            yield f"$.functional_units[{number}].means", f"what a {unit['unit']} is, is not said"


def conventions_named(report: Report) -> Found:
    """How hardware is shared out."""
    conventions = report["goal_and_scope"].get("conventions", {})
    for name in ("time_share", "charge_idle"):
        if conventions.get(name) is None:
            yield f"$.goal_and_scope.conventions.{name}", "is not named"


def student_unit(report: Report) -> Found:
    """Shared work per student, or why not."""
    students = [unit for unit in report.get("functional_units", ()) if unit["unit"] == "student"]
    if not any(unit["count"] is not None or unit.get("reason") for unit in students):
        yield "$.functional_units", "nothing is given per student, and no reason why"


def experimentation_counted(report: Report) -> Found:
    """What was tried and thrown away; that it was nothing is shown by where was looked."""
    yield from _missing(report, LifeStage.EXPERIMENTATION, _ENERGY)
    path, cell = _cell(report, LifeStage.EXPERIMENTATION, _ENERGY)
    if not _has_value(cell) or cell["value"] > 0.0:
        return
    tried = report["inventory"].get("tried") or {}
    if not tried.get("runs_looked_at") or not _says(tried.get("means")):
        yield path, "an experimentation of 0 needs inventory.tried: how many runs were looked at, and where"
        return
    runs = {use["run"] for use in report["inventory"]["uses"]}
    if tried["runs_looked_at"] < len(runs):
        least = f"{tried['runs_looked_at']} runs were looked at, and the inventory has {len(runs)}"
        yield "$.inventory.tried.runs_looked_at", least
    if tried["attempts"] > 0:
        yield "$.inventory.tried.attempts", f"{tried['attempts']} attempts took no energy"


def factor_sourced(report: Report) -> Found:
    """Every factor names its source; one that its user gave may have no licence."""
    for number, factor in enumerate(report["factors"]):
        if not _says(factor.get("source")):
            yield f"$.factors[{number}].source", f"factor {factor['id']} names no source"


def grid_dated(report: Report) -> Found:
    """Factors of grids and sites name their year."""
    for number, factor in enumerate(report["factors"]):
        if factor["quantity"].startswith(_OF_PLACES) and factor.get("year") is None:
            yield f"$.factors[{number}].year", f"factor {factor['id']} names no year"


def place_named(report: Report) -> Found:
    """Where the work ran, more narrowly than the world."""
    place = report["goal_and_scope"]["place"]
    words = {str(place.get(name) or "").strip().casefold() for name in ("code", "kind", "name")}
    if not _says(place["code"]):
        yield "$.goal_and_scope.place.code", "no place is named"
    elif words & _EVERYWHERE:
        yield "$.goal_and_scope.place.code", "the world is no place where work runs"


def factors_read(report: Report) -> Found:
    """Factors were read where they say."""
    unread = [factor["id"] for factor in report["factors"] if not factor.get("verified")]
    if unread:
        more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
        yield "$.factors", f"not read in their source: {', '.join(unread[:3])}{more}"


def interval_wide(report: Report) -> Found:
    """Every value but an energy read off a meter has an interval, whatever it is called: a factor had a part in it."""
    for number, cell in enumerate(report["cells"]):
        is_read = cell["impact"] == _ENERGY.value and cell["status"] == Status.MEASURED.value
        if is_read or not _has_value(cell) or cell["value"] <= 0.0:
            continue
        low, high = cell["low"], cell["high"]
        if low is None or high is None or high - low <= _NARROWEST * cell["value"]:
            yield f"$.cells[{number}]", f"{cell['stage']}/{cell['impact']} is {cell['status']} and has no interval"


def doubt_shared(report: Report) -> Found:
    """Totals say where their doubt comes from."""
    for number, total in enumerate(report["totals"]):
        if total["value"] and total["low"] != total["high"] and not total.get("shares_of_variance"):
            yield f"$.totals[{number}].shares_of_variance", f"doubt of {total['impact']} is not shared out"


def sensitivity_shown(report: Report) -> Found:
    """How totals move with factors."""
    if report["factors"] and not report["interpretation"].get("sensitivity"):
        yield "$.interpretation.sensitivity", "no total is shown at the ends of a factor"


def carbon_of_energy(report: Report) -> Found:
    """GWP by location wherever energy is counted."""
    for stage in _with_energy(report):
        yield from _missing(report, stage, Impact.GWP_LOCATION)


def hardware_carbon(report: Report) -> Found:
    """The making of the hardware."""
    yield from _missing(report, LifeStage.HARDWARE, Impact.GWP_LOCATION)


def some_water(report: Report) -> Found:
    """Water, on site or off, wherever energy is counted."""
    for stage in _with_energy(report):
        if not any(_has_value(_cell(report, stage, impact)[1]) for impact in _WATERS):
            path = _cell(report, stage, Impact.WATER_OFFSITE)[0]
            yield path, f"neither water on site nor at power plants is counted for {stage.value}"


def both_waters(report: Report) -> Found:
    """Water on site and off, wherever something runs."""
    for stage in _OPERATION:
        for impact in _WATERS:
            yield from _missing(report, stage, impact)


def materials_counted(report: Report) -> Found:
    """Elements in the hardware, and waste at its end."""
    yield from _missing(report, LifeStage.HARDWARE, Impact.ADPE)
    yield from _missing(report, LifeStage.END_OF_LIFE, Impact.EWASTE)


def carbon_of_every_stage(report: Report) -> Found:
    """GWP by location of all eight."""
    for stage in LifeStage:
        yield from _missing(report, stage, Impact.GWP_LOCATION)


def goal_and_limits(report: Report) -> Found:
    """What it is about, and what it cannot say."""
    if not any(_says(said) for said in report["goal_and_scope"].get("about", {}).values()):
        yield "$.goal_and_scope.about", "what the report is about is not said"
    if not any(_says(limit) for limit in report["interpretation"].get("limits", ())):
        yield "$.interpretation.limits", "what the report cannot say is not said"


def hot_spots_named(report: Report) -> Found:
    """The largest cells."""
    if not report["interpretation"].get("hot_spots"):
        yield "$.interpretation.hot_spots", "no hot spot is named"


CHECKS: Mapping[str, Callable[[Report], Found]] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        *(energy_listed, data_accounted, energy_measured, some_measured, work_counted, node_and_facility),
        *(
            eight_stages,
            unit_counted,
            conventions_named,
            student_unit,
            experimentation_counted,
            factor_sourced,
            grid_dated,
        ),
        *(place_named, factors_read, interval_wide, doubt_shared, sensitivity_shown, carbon_of_energy),
        *(hardware_carbon, some_water, both_waters, materials_counted, carbon_of_every_stage, goal_and_limits),
        hot_spots_named,
    )
}
"""Every rule by its name."""


def _cell(report: Report, stage: LifeStage, impact: Impact) -> tuple[str, Mapping[str, Any]]:
    """A cell with its path; an empty one where the report has none."""
    for number, cell in enumerate(report["cells"]):
        if cell["stage"] == stage.value and cell["impact"] == impact.value:
            return f"$.cells[{number}]", cell
    return "$.cells", {}


def _says(said: Any) -> bool:
    """Whether something is there, and a text is more than a word that fills the place."""
    return said.strip().casefold() not in _NOT_SAID if isinstance(said, str) else bool(said)


def _has_value(cell: Mapping[str, Any]) -> bool:
    return cell.get("status") in _VALUED and cell.get("value") is not None


def _with_energy(report: Report) -> list[LifeStage]:
    """Stages whose metered energy is counted."""
    return [stage for stage in _OPERATION if _has_value(_cell(report, stage, _ENERGY)[1])]


def _missing(report: Report, stage: LifeStage, impact: Impact) -> Found:
    path, cell = _cell(report, stage, impact)
    if not _has_value(cell):
        yield path, f"{impact.value} of {stage.value} is not counted"
