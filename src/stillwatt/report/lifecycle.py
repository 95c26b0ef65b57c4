"""The life-cycle report as data, in ISO 14044's order: goal and scope, inventory, impact, interpretation.

The contract `stillwatt.lifecycle/1` (docs/reference/lifecycle.schema.json). Everything that the account was computed
from is in it, so that it can be redone from the report alone. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stillwatt.impact.coverage import CLASSES, IMPACT_WEIGHTS, INCOMPLETE, STAGE_WEIGHTS
from stillwatt.impact.inputs import Inputs
from stillwatt.records.energy import NoTotal
from stillwatt.records.factor import LIVE, Choice, Factor
from stillwatt.records.impact import Cell, LifeStage, Status
from stillwatt.records.lifecycle import Assessment, Coverage, ImpactTotal, PerUnit, Swing
from stillwatt.report.lifecycle_inputs import factor_dict, inventory_dict, scope_dict

LIFECYCLE_SCHEMA = "stillwatt.lifecycle/1"
HOT_SPOTS = 3
"""How many cells are named for each impact, and how many inputs."""
_VALUE_DIGITS = 12
_END_DIGITS = 6
"""Digits of values and of ends of intervals: beyond these, machines differ."""
_LIMITS = (
    "Intervals hold the doubt of energies and factors that are counted; of what is not counted they say nothing.",
    "Values of unlike impacts, and the location-based and the market-based GWP, are never added to each other.",
)


def lifecycle_dict(inputs: Inputs, found: Assessment) -> dict[str, Any]:
    """The whole report as JSON values, in a fixed order."""
    factors = inputs.factors()
    return {
        "schema": LIFECYCLE_SCHEMA,
        "goal_and_scope": {
            "about": dict(inputs.about),
            "system_boundary": [_stage_dict(stage, found.cells) for stage in LifeStage],
            **scope_dict(inputs),
        },
        "inventory": inventory_dict(inputs),
        "factors": [factor_dict(factor) for factor in factors.values()],
        "cells": [_cell_dict(cell, found.classes.get((cell.stage, cell.impact))) for cell in found.cells],
        "totals": [_total_dict(total) for total in found.totals],
        "functional_units": [_unit_dict(unit) for unit in found.units],
        "coverage": _coverage_dict(found.coverage),
        "interpretation": {
            "hot_spots": list(_hot_spots(found)),
            "improve_first": list(_improve_first(found.totals, factors)),
            "sensitivity": [_swing_dict(swing) for swing in found.swings],
            "limits": [*_LIMITS, *_of_the_grid(inputs), *_incomplete(inputs)],
        },
    }


def rounded_number(value: float, digits: int) -> float:
    """A number to so many significant digits.

    >>> rounded_number(1234.5678, 6)
    1234.57
    """
    return float(f"{value:.{digits}g}")


def _numbers(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    """Value and interval as they are written; rounding never puts the value outside."""
    if value is None or low is None or high is None:
        return {"value": None, "low": None, "high": None}
    shown = rounded_number(value, _VALUE_DIGITS)
    ends = (rounded_number(low, _END_DIGITS), rounded_number(high, _END_DIGITS))
    return {"value": shown, "low": min(ends[0], shown), "high": max(ends[1], shown)}


def _stage_dict(stage: LifeStage, cells: Sequence[Cell]) -> dict[str, Any]:
    of_it = [cell for cell in cells if cell.stage is stage]
    counted = [cell.impact.value for cell in of_it if cell.value is not None]
    reasons = dict.fromkeys(cell.reason for cell in of_it if cell.status is Status.NOT_COUNTED)
    return {"stage": stage.value, "counted": counted, "left_out": list(reasons)}


def _cell_dict(cell: Cell, quality: str | None) -> dict[str, Any]:
    return {
        "stage": cell.stage.value,
        "impact": cell.impact.value,
        "unit": cell.unit,
        "status": cell.status.value,
        **_numbers(cell.value, cell.low, cell.high),
        "quality": quality,
        "boundary": cell.boundary.value if cell.boundary else None,
        "covers": list(cell.covers),
        "water": cell.water.value if cell.water else None,
        "factors": list(cell.factors),
        "incomplete": list(cell.incomplete),
        "reason": cell.reason or None,
        "cautions": list(cell.cautions),
    }


def _total_dict(total: ImpactTotal) -> dict[str, Any]:
    return {
        "impact": total.impact.value,
        "unit": total.unit,
        **_numbers(total.value, total.low, total.high),
        "stages": [stage.value for stage in total.stages],
        "complete": total.value is not None and not total.lacking,
        "lacking": list(total.lacking),
        "reason": total.reason or None,
        "coverage": rounded_number(total.coverage, _END_DIGITS),
        "shares_of_variance": {name: rounded_number(share, 4) for name, share in total.shares},
    }


def _unit_dict(unit: PerUnit) -> dict[str, Any]:
    count = unit.count
    return {
        "unit": count.unit,
        "count": count.count,
        "means": count.means,
        "reason": count.reason or None,
        "stages": [stage.value for stage in count.stages],
        "values": {impact.value: _numbers(*numbers) for impact, *numbers in unit.values},
    }


def _coverage_dict(found: Coverage) -> dict[str, Any]:
    return {
        "score": rounded_number(found.score, _END_DIGITS),
        "counted": rounded_number(found.counted, _END_DIGITS),
        "by_stage": {stage.value: rounded_number(score, _END_DIGITS) for stage, score in found.by_stage},
        "by_impact": {impact.value: rounded_number(score, _END_DIGITS) for impact, score in found.by_impact},
        "by_status": dict(found.by_status),
        "rule": {
            "equation": "docs/method.md, eq. 76",
            "stage_weights": {stage.value: weight for stage, weight in STAGE_WEIGHTS.items()},
            "impact_weights": {impact.value: weight for impact, weight in IMPACT_WEIGHTS.items()},
            "classes": dict(CLASSES),
            "incomplete": INCOMPLETE,
        },
    }


def _hot_spots(found: Assessment) -> Iterator[dict[str, Any]]:
    """The largest cells of each impact, as shares of what is counted of it."""
    for total in found.totals:
        if not total.value:
            continue
        cells = [cell for cell in found.cells if cell.impact is total.impact and cell.value is not None]
        for cell in sorted(cells, key=lambda cell: -(cell.value or 0.0))[:HOT_SPOTS]:
            share = (cell.value or 0.0) / total.value
            if share > 0.0:
                yield {
                    "impact": cell.impact.value,
                    "stage": cell.stage.value,
                    "share_of_counted": rounded_number(share, _END_DIGITS),
                }


def _improve_first(totals: Sequence[ImpactTotal], factors: dict[str, Factor]) -> Iterator[dict[str, Any]]:
    """The inputs that most of each total's doubt comes from, and what would narrow them."""
    for total in totals:
        for name, share in total.shares[:HOT_SPOTS]:
            if share > 0.0:
                yield {
                    "impact": total.impact.value,
                    "input": name,
                    "share_of_variance": rounded_number(share, 4),
                    "how": _how(name, factors.get(name)),
                }


def _how(name: str, factor: Factor | None) -> str:
    if factor is None:
        return "a narrower meter: `stillwatt doctor` says what can be read here, calibration narrows a card's gain"
    source = "its interval is this project's own" if factor.spread_is_ours else f"from {factor.source}"
    return (
        f"{factor.quantity} of {factor.where}, {factor.year or 'no year'}, {source}: give a better one with "
        f"--factor '{factor.quantity}@{factor.where}=VALUE{factor.unit.removeprefix('1')}'"
    )


def _swing_dict(swing: Swing) -> dict[str, Any]:
    return {
        "impact": swing.impact.value,
        "factor": swing.factor,
        "at_low": rounded_number(swing.at_low, _END_DIGITS),
        "at_high": rounded_number(swing.at_high, _END_DIGITS),
    }


def _of_the_grid(inputs: Inputs) -> Iterator[str]:
    """What stands for the grid of the hours in which the work was done."""
    found = inputs.site.found.get("grid_gwp_location")
    if isinstance(found, Choice) and LIVE in found.factor.origin:
        yield "The grid's mean over the work's own hours stands for each of its stages."
    else:
        yield "Where the work ran in reality, a grid's average over a year stands for the hours of the work."


def _incomplete(inputs: Inputs) -> Iterator[str]:
    for use in inputs.uses:
        if isinstance(use.energy, NoTotal):
            yield f"Energy of {use.run} in {use.stage.value} is not known: {use.energy.reason}."
        elif not use.energy.complete:
            lost = ", ".join(use.energy.absent) or "some seconds"
            yield f"Energy of {use.run} in {use.stage.value} is incomplete, without {lost}."
