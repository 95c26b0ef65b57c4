"""A comparison of trainings as data for programs: kWh outside, unknown is null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.records.comparison import (
    Comparison,
    Curve,
    Front,
    Lever,
    Matched,
    ReuseFinding,
    SeedLeftOut,
    StageSums,
    SweepFinding,
    Unbilled,
    View,
)
from stillwatt.units import Joules, to_kwh

SCHEMA = "stillwatt.comparison/1"
MOST_POINTS = 10_000
"""Labels beyond which only those on the frontier are listed as points."""


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Everything that a comparison shows; what `stillwatt analyse --json` prints."""
    by_allocation = {front.allocation: front for front in found.fronts}
    reference_j = found.reference_j
    points = {name: _points(front) for name, front in by_allocation.items()}
    stages = found.stages[:MOST_POINTS]
    listed = {point["label"] for placed in points.values() for point in placed} | {entry.label for entry in stages}
    return {
        "schema": SCHEMA,
        "source": found.source,
        "baseline": found.baseline,
        "boundary": found.boundary or None,
        "num_labels": found.num_labels,
        "reuse_students": found.reuse_students,
        **_frontiers(by_allocation),
        "n_star": [_reuse_dict(entry) for entry in found.n_star],
        "n_star_matched_quality": [_reuse_dict(entry) for entry in found.n_star_matched],
        "t_star": [_reuse_dict(entry, unit="j_per_token") for entry in found.t_star],
        "sweeps": [_sweep_dict(entry) for entry in found.sweeps],
        "matched": [_matched_dict(entry) for entry in found.matched],
        "curves": [_curve_dict(entry) for entry in found.curves],
        "sensitivity": [_lever_dict(lever) for lever in found.levers],
        "by_boundary": {view.name: _view_dict(view) for view in found.views if view.is_boundary},
        "by_impact": {view.name: _view_dict(view) for view in found.views if not view.is_boundary},
        "hypervolume": {name: _kwh(front.hypervolume) for name, front in by_allocation.items()},
        "hypervolume_reference": {"energy_kwh": _kwh(reference_j), "quality": found.reference_quality},
        "attainment": {name: _attained(front) for name, front in by_allocation.items()},
        "points": points,
        "stages": [_stage_dict(entry) for entry in stages],
        "settings": {label: dict(own) for label, own in found.settings.items() if label in listed},
        "left_out": {name: dict(front.left_out) for name, front in by_allocation.items()},
        "seeds_left_out": [_seed_left_out_dict(entry) for entry in found.seeds_left_out],
        "missing_arms": [{"run_id": e.run_id, "arm": e.arm, "reason": e.reason} for e in found.missing],
        "not_billed": [_unbilled_dict(entry) for entry in found.unbilled],
        "warnings": list(found.warnings),
    }


def _frontiers(by_allocation: Mapping[str, Front]) -> dict[str, Any]:
    """Who is on the frontiers, by allocation."""
    return {
        "frontiers": {name: list(front.labels) for name, front in by_allocation.items()},
        "frontiers_with_throughput": {
            name: None if front.with_throughput is None else list(front.with_throughput)
            for name, front in by_allocation.items()
        },
        "frontiers_by_method": {
            name: {method: list(labels) for method, labels in front.by_method.items()}
            for name, front in by_allocation.items()
        },
        "on_frontier_probability": {
            name: {point.label: point.probability for point in front.placed} for name, front in by_allocation.items()
        },
    }


def _points(front: Front) -> list[dict[str, Any]]:
    shown = front.placed
    if len(shown) > MOST_POINTS:
        shown = tuple(point for point in shown if point.is_on_frontier)
    return [
        {
            "label": point.label,
            "method": point.method,
            "student": point.student,
            "energy_kwh": _kwh(point.energy_j),
            "energy_half_width_kwh": _kwh(point.energy_half_width_j),
            "quality": point.quality,
            "quality_half_width": point.quality_half_width,
            "throughput": point.throughput,
            "seeds": point.seeds,
        }
        for point in shown
    ]


def _attained(front: Front) -> list[dict[str, Any]]:
    return [
        {"share": curve.share, "corners": [[_kwh(energy_j), quality] for energy_j, quality in curve.corners]}
        for curve in front.attained
    ]


def _reuse_dict(entry: ReuseFinding, *, unit: str = "kwh") -> dict[str, Any]:
    return {
        "method": entry.method,
        "student": entry.student,
        "value": entry.found.value,
        "low": entry.found.low,
        "high": entry.found.high,
        "verdict": entry.found.verdict.value,
        "label": entry.label,
        "baseline": entry.baseline or None,
        "reason": entry.found.reason,
        "extra_kwh": _kwh(entry.extra_j),
        f"saving_{unit}": _kwh(entry.saving_j) if unit == "kwh" else entry.saving_j,
        "quality_gap": entry.quality_gap,
        "quality_gap_is_significant": entry.is_significant,
        "seeds": entry.seeds,
    }


def _sweep_dict(entry: SweepFinding) -> dict[str, Any]:
    return {
        "method": entry.method,
        "students": list(entry.students),
        "value": entry.found.value,
        "low": entry.found.low,
        "high": entry.found.high,
        "verdict": entry.found.verdict.value,
        "reason": entry.found.reason,
        "teacher_kwh": _kwh(entry.teacher_j),
        "saving_kwh": _kwh(entry.saving_j),
    }


def _matched_dict(entry: Matched) -> dict[str, Any]:
    return {
        "allocation": entry.allocation,
        "label": entry.label,
        "as_good": entry.as_good or None,
        "as_good_lacks": entry.as_good_lacks,
        "energy_ratio": entry.energy_ratio,
        "energy_ratio_low": entry.ratio_low,
        "energy_ratio_high": entry.ratio_high,
        "as_cheap": entry.as_cheap or None,
        "quality_difference": entry.quality_difference,
        "quality_difference_half_width": entry.difference_half_width,
        "is_significant": entry.is_significant,
    }


def _lever_dict(lever: Lever) -> dict[str, Any]:
    return {
        "label": lever.label,
        "stage": lever.stage,
        "elasticity": lever.elasticity,
        "turning_factor": lever.turning_factor,
    }


def _view_dict(view: View) -> dict[str, Any]:
    return {
        "unit": view.unit,
        "frontiers": {front.allocation: [p.label for p in front.points if p.is_on_frontier] for front in view.fronts},
        "on_frontier_probability": {
            front.allocation: {p.label: p.probability for p in front.points} for front in view.fronts
        },
        "amounts": {front.allocation: {p.label: p.amount for p in front.points} for front in view.fronts},
        "half_widths": {front.allocation: {p.label: p.half_width for p in front.points} for front in view.fronts},
        "left_out": {front.allocation: dict(front.left_out) for front in view.fronts},
    }


def _stage_dict(entry: StageSums) -> dict[str, Any]:
    return {
        "label": entry.label,
        "teacher_kwh": _kwh(entry.teacher_j),
        "student_kwh": _kwh(entry.student_j),
        "other_kwh": _kwh(entry.other_j),
        "total_kwh": _kwh(entry.total_j),
        "total_low_kwh": _kwh(entry.total_low_j),
        "total_high_kwh": _kwh(entry.total_high_j),
        "basis": entry.basis.value if entry.basis else None,
        "teacher_share": entry.teacher_share,
        "tokens": entry.tokens,
        "tokens_least": entry.tokens_least,
        "tokens_most": entry.tokens_most,
    }


def _seed_left_out_dict(entry: SeedLeftOut) -> dict[str, Any]:
    return {"label": entry.label, "seed": entry.seed, "place": entry.place, "lacks": list(entry.lacks)}


def _unbilled_dict(entry: Unbilled) -> dict[str, Any]:
    return {
        "run_id": entry.run_id,
        "stage": entry.stage,
        "energy_kwh": _kwh(entry.energy_j),
        "reason": entry.reason,
    }


def _curve_dict(entry: Curve) -> dict[str, Any]:
    return {
        "label": entry.label,
        "baseline": entry.baseline or None,
        "baseline_kwh": _kwh(entry.baseline_j),
        "baseline_half_width_kwh": _kwh(entry.baseline_half_width_j),
        "points": [
            {"students": p.students, "energy_kwh": _kwh(p.energy_j), "half_width_kwh": _kwh(p.half_width_j)}
            for p in entry.points
        ],
    }


def _kwh(energy_j: float | None) -> float | None:
    return None if energy_j is None else to_kwh(Joules(energy_j))
