"""What a life-cycle report must hold beyond its schema: each rule has a name, and says where it is broken.

The rules read JSON values that have passed the schema, whoever wrote them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.factors.sanity import check_factor
from stillwatt.impact.coverage import NOT_APPLICABLE, coverage
from stillwatt.impact.operational import OPERATIONAL
from stillwatt.impact.sums import unlike_boundaries
from stillwatt.impact.tally import UNITS
from stillwatt.records.factor import Water
from stillwatt.records.impact import VALUED, Cell, Impact, LifeStage, Making, Status, extent
from stillwatt.records.lifecycle import ReportFault
from stillwatt.report.lifecycle_inputs import read_factor
from stillwatt.units import J_PER_KWH

Report = Mapping[str, Any]
Found = Iterator[tuple[str, str]]
"""JSON path and message."""
_CLOSE = 1e-5
"""Relative; figures are written with six digits and more."""
_VALUED = frozenset(status.value for status in VALUED)
_WATERS = (Impact.WATER_ONSITE.value, Impact.WATER_OFFSITE.value)
_READABLE = frozenset({"energy_metered", "energy_node", "energy_facility", "water_onsite", "ewaste"})
_MAKING = frozenset(stage.value for stage in (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE, LifeStage.END_OF_LIFE))
_CLASS_OF = {"measured": "A", "modelled": "B"}


def rule_faults(report: Report) -> tuple[ReportFault, ...]:
    """Every rule that a report breaks, in the rules' order."""
    return tuple(
        ReportFault(rule=name, path=path, message=message)
        for name, rule in RULES.items()
        for path, message in rule(report)
    )


def _every_cell(report: Report) -> Found:
    """Every stage and impact has one cell."""
    counts = Counter((cell["stage"], cell["impact"]) for cell in report["cells"])
    for stage in LifeStage:
        for impact in Impact:
            times = counts[stage.value, impact.value]
            if times != 1:
                yield (
                    "$.cells",
                    f"{stage.value}/{impact.value} stands there {times} times, and belongs there once",
                )


def _values(report: Report) -> Found:
    """A value where the status gives one, and nowhere else."""
    for path, cell in _cells(report):
        has = [cell[key] is not None for key in ("value", "low", "high")]
        if cell["status"] in _VALUED and not all(has):
            yield path, f"status {cell['status']} comes with value, low and high"
        if cell["status"] not in _VALUED and any(has):
            yield path, f"status {cell['status']} has no value: null, never 0"
        if cell["status"] not in _VALUED and not cell.get("reason"):
            yield f"{path}.reason", f"status {cell['status']} says why"


def _ordered(report: Report) -> Found:
    """Low ≤ value ≤ high."""
    rows = [*_cells(report), *_rows(report, "totals"), *_rows(report, "factors")]
    rows += [
        (f"{path}.energy_j", {key: use["energy_j"][f"{key}_j"] for key in ("value", "low", "high")})
        for path, use in _uses(report)
        if "value_j" in use["energy_j"]
    ]
    for path, row in rows:
        numbers = [row[key] for key in ("low", "value", "high")]
        if None not in numbers and sorted(numbers) != numbers:
            yield path, f"{row['value']:g} lies outside its interval, {row['low']:g} to {row['high']:g}"


def _units(report: Report) -> Found:
    """Each impact has its one unit."""
    for path, row in [*_cells(report), *_rows(report, "totals")]:
        unit = UNITS[Impact(row["impact"])]
        if row["unit"] != unit:
            yield f"{path}.unit", f"{row['impact']} is in {unit}, not in {row['unit']}"


def _boundaries(report: Report) -> Found:
    """A value names how much of the machine it covers."""
    for path, cell in _cells(report):
        if cell["status"] not in _VALUED:
            continue
        if not cell.get("boundary"):
            yield f"{path}.boundary", "a value names its boundary"
        elif isinstance(extent(cell["boundary"]), Making) != (cell["stage"] in _MAKING):
            say = "equipment or building" if cell["stage"] in _MAKING else "how much of the machine was metered"
            yield f"{path}.boundary", f"{cell['stage']} covers {say}, not {cell['boundary']}"


def _not_applicable(report: Report) -> Found:
    """Only cells that do not exist are not applicable."""
    for path, cell in _cells(report):
        does_not = (LifeStage(cell["stage"]), Impact(cell["impact"])) in NOT_APPLICABLE
        if (cell["status"] == Status.NOT_APPLICABLE.value) != does_not:
            say = "does not exist: not_applicable" if does_not else "exists: not_counted where it is not known"
            yield f"{path}.status", f"{cell['stage']}/{cell['impact']} {say}"


def _waters(report: Report) -> Found:
    """Litres are litres consumed or withdrawn, and say which."""
    for path, cell in _cells(report):
        if cell["status"] in _VALUED and cell["impact"] in _WATERS and cell.get("water") in (None, Water.AWARE.value):
            yield f"{path}.water", "litres name their kind: consumption or withdrawal, and never AWARE"


def _factors(report: Report) -> Found:
    """A cell by factors names them, and every one that is named is there whole, once."""
    known = Counter(factor["id"] for factor in report["factors"])
    for name, times in known.items():
        if times > 1:
            yield "$.factors", f"{name} stands there {times} times"
    for path, cell in _cells(report):
        if cell["status"] == Status.FACTOR.value and not cell.get("factors") and not _is_given(cell, report):
            yield f"{path}.factors", "a cell by factors names them"
        for number, name in enumerate(cell.get("factors", ())):
            if name not in known:
                yield f"{path}.factors[{number}]", f"{name} is not among the factors"


def _hashes(report: Report) -> Found:
    """A factor is what its hash names."""
    for path, row in _rows(report, "factors"):
        try:
            read_factor({**_DEFAULTS, **row}, path)
        except (ReportError, ValueError) as err:
            yield f"{path}.hash", str(err).removeprefix(f"{path}: ")


def _sane(report: Report) -> Found:
    """A factor can be what it says."""
    for path, row in _rows(report, "factors"):
        if row["quantity"] not in QUANTITIES:
            yield f"{path}.quantity", f"{row['quantity']} is no quantity of docs/reference/quantities.md"
            continue
        quantity = QUANTITIES[row["quantity"]]
        if row["unit"] != quantity.unit:
            yield f"{path}.unit", f"{quantity.name} is in {quantity.unit}, not in {row['unit']}"
        try:
            factor = read_factor({**_DEFAULTS, **row}, path)
        except (ReportError, ValueError):
            continue  # the rule of hashes says so
        for fault in check_factor(factor):
            if fault.severity == "fault":
                yield path, fault.message


def _sums(report: Report) -> Found:
    """A total is the sum of the cells that it names, all counted ones and no other."""
    cells = {(cell["stage"], cell["impact"]): cell for cell in report["cells"]}
    for path, total in _rows(report, "totals"):
        if total["value"] is None:
            if not total.get("reason"):
                yield f"{path}.reason", "a total without a value says why"
            continue
        named = [cells.get((stage, total["impact"])) for stage in total["stages"]]
        counted = [stage for stage, impact in cells if impact == total["impact"] and _has_value(cells[stage, impact])]
        if sorted(counted) != sorted(total["stages"]):
            yield f"{path}.stages", f"the counted cells of {total['impact']} are {', '.join(counted) or 'none'}"
            continue
        sum_of = math.fsum(cell["value"] for cell in named if cell)
        if not math.isclose(sum_of, total["value"], rel_tol=_CLOSE):
            yield f"{path}.value", f"its cells sum to {sum_of:.6g}, not to {total['value']:.6g}"
        boundaries = unlike_boundaries(extent(cell["boundary"]) for cell in named if cell and cell.get("boundary"))
        waters = sorted({str(cell.get("water")) for cell in named if cell})
        for key, kinds in (("boundary", sorted(boundaries)), ("water", waters)):
            if len(kinds) > 1:
                yield path, f"cells of unlike {key} ({', '.join(kinds)}) are never added"


def _gaps(report: Report) -> Found:
    """A total names every cell that it lacks, and is complete only where it lacks none."""
    for path, total in _rows(report, "totals"):
        of_it = [cell for cell in report["cells"] if cell["impact"] == total["impact"]]
        gone = [c["stage"] for c in of_it if c["status"] == Status.NOT_COUNTED.value or c.get("incomplete")]
        for stage in gone:
            if not any(lack.startswith(stage) for lack in total["lacking"]):
                yield f"{path}.lacking", f"{stage} is not counted, or not whole, and is not named"
        if total["complete"] and (gone or total["value"] is None):
            yield f"{path}.complete", "it lacks something, so it is not complete"


def _market(report: Report) -> Found:
    """The GWP by contract is not the grid's under another name."""
    cells = {(cell["stage"], cell["impact"]): (path, cell) for path, cell in _cells(report)}
    quantities = {factor["id"]: factor["quantity"] for factor in report["factors"]}
    for stage in OPERATIONAL:
        path, cell = cells.get((stage.value, Impact.GWP_MARKET.value), ("", {}))
        used = [quantities.get(name) for name in cell.get("factors", ())]
        if cell.get("value") is not None and "grid_gwp_market" not in used:
            yield path, "a market-based GWP needs a factor by contract; without one it is not counted"


def _quality(report: Report) -> Found:
    """The data-quality class fits the status."""
    verified = {factor["id"] for factor in report["factors"] if factor["verified"]}
    for path, cell in _cells(report):
        if cell.get("quality") == "C" and not set(cell.get("factors", ())) <= verified:
            yield f"{path}.quality", "it rests on a factor that was not read in its source, so it is of class D"
        wanted = _CLASS_OF.get(cell["status"])
        stands = cell.get("quality")
        if cell["status"] in _VALUED and (stands is None or (wanted or stands) != stands):
            yield f"{path}.quality", f"status {cell['status']} is of class {wanted or 'C or D'}, not {stands}"
        if cell["status"] == Status.FACTOR.value and stands in ("A", "B"):
            yield f"{path}.quality", f"a figure by factors is of class C or D, not {stands}"


def _grounded(report: Report) -> Found:
    """What a meter cannot read is not measured, and metered energy is what the inventory holds."""
    for path, cell in _cells(report):
        if cell["status"] == Status.MEASURED.value and cell["impact"] not in _READABLE:
            yield f"{path}.status", f"no meter reads {cell['impact']}: it comes by factors"
        uses = [use["energy_j"] for _, use in _uses(report) if use["stage"] == cell["stage"]]
        if cell["impact"] != Impact.ENERGY_METERED.value or not _has_value(cell):
            continue
        sum_kwh = math.fsum(use.get("value_j", 0.0) for use in uses) / J_PER_KWH
        if not math.isclose(sum_kwh, cell["value"], rel_tol=_CLOSE):
            yield f"{path}.value", f"the uses of {cell['stage']} sum to {sum_kwh:.6g} kWh, not to {cell['value']:.6g}"
        if cell["status"] == Status.MEASURED.value and any(use.get("basis", "measured") != "measured" for use in uses):
            yield f"{path}.status", f"a use of {cell['stage']} is not measured, so the cell is not"


def _coverage(report: Report) -> Found:
    """The score is the one that the published rule gives (docs/method.md, eq. 76)."""
    cells, classes = [], {}
    for path, row in _cells(report):
        try:
            cell = _cell(row)
        except ValueError as err:
            yield path, str(err)
            return
        cells.append(cell)
        if cell.status in VALUED:
            classes[cell.stage, cell.impact] = row.get("quality") or "D"
    found = coverage(cells, classes)
    for key, score in (("score", found.score), ("counted", found.counted)):
        if not math.isclose(report["coverage"][key], score, rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"$.coverage.{key}", f"the rule gives {score:.6g}, not {report['coverage'][key]:.6g}"
    by_impact = {impact.value: score for impact, score in found.by_impact}
    for path, total in _rows(report, "totals"):
        if not math.isclose(total["coverage"], by_impact[total["impact"]], rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"{path}.coverage", f"the rule gives {by_impact[total['impact']]:.6g}, not {total['coverage']:.6g}"


def _per_unit(report: Report) -> Found:
    """An impact per unit is the total over the count; a unit without a count says why."""
    totals = {total["impact"]: total for total in report["totals"]}
    for path, unit in _rows(report, "functional_units"):
        if unit["count"] is None and not unit.get("reason"):
            yield f"{path}.reason", "a unit without a count says why"
        if unit["count"] is None and unit.get("values"):
            yield f"{path}.values", "nothing can be divided by a count that is not known"
        if unit["count"] is None or unit.get("stages"):
            continue
        for impact, numbers in unit.get("values", {}).items():
            whole = totals.get(impact, {}).get("value")
            if whole is None or not math.isclose(numbers["value"] * unit["count"], whole, rel_tol=_CLOSE):
                yield f"{path}.values.{impact}", f"times {unit['count']:g} it is not the total of {impact}"


RULES: Mapping[str, Callable[[Report], Found]] = {
    "cells-whole": _every_cell,
    "cell-value": _values,
    "interval-ordered": _ordered,
    "unit": _units,
    "boundary-named": _boundaries,
    "not-applicable": _not_applicable,
    "water-kind": _waters,
    "factor-named": _factors,
    "factor-hash": _hashes,
    "factor-possible": _sane,
    "total-sum": _sums,
    "total-gaps": _gaps,
    "market-by-contract": _market,
    "quality-class": _quality,
    "status-grounded": _grounded,
    "coverage-score": _coverage,
    "functional-unit": _per_unit,
}
"""Every rule by its name."""
_DEFAULTS = {"note": "", "water": None, "spread_is_ours": False, "origin": "stillwatt"}


def _cells(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    return _rows(report, "cells")


def _uses(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"$.inventory.uses[{n}]", use) for n, use in enumerate(report["inventory"]["uses"])]


def _rows(report: Report, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"$.{key}[{number}]", row) for number, row in enumerate(report.get(key, ()))]


def _has_value(cell: Mapping[str, Any]) -> bool:
    return cell["status"] in _VALUED and cell["value"] is not None


def _is_given(cell: Mapping[str, Any], report: Report) -> bool:
    """Whether the cell is an energy that somebody gave: then it stands in the inventory and no factor made it."""
    stated = [use for _, use in _uses(report) if use["stage"] == cell["stage"] and "basis" in use["energy_j"]]
    return any(use["energy_j"]["basis"] == "assumed" for use in stated)


def _cell(row: Mapping[str, Any]) -> Cell:
    return Cell(
        stage=LifeStage(row["stage"]),
        impact=Impact(row["impact"]),
        unit=row["unit"],
        status=Status(row["status"]),
        value=row["value"],
        low=row["low"],
        high=row["high"],
        boundary=extent(row["boundary"]) if row.get("boundary") else None,
        incomplete=tuple(row.get("incomplete", ())),
        reason=row.get("reason") or "",
    )
