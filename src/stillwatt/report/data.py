"""The report as data: everything the page shows, in the contract `stillwatt.report/1`.

Floats are kept in full; rounding is a matter of display. Nothing here reads a clock: the same run and study give
the same bytes. The contract's schema is docs/reference/report.schema.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stillwatt.records.energy import Absent, Energy, NoTotal
from stillwatt.records.finding import (
    TEACHER_YARDSTICK,
    ArmPoint,
    Bill,
    BreakEven,
    FrontierPoint,
    NoQuality,
    Quality,
    ReferenceModel,
    Score,
    ServingRate,
    StageRow,
    Study,
)
from stillwatt.records.forecast import PredictionCheck
from stillwatt.records.run import RunRecord, total_dict
from stillwatt.records.window import ONLINE_TEACHER
from stillwatt.report.answer import answer_dict
from stillwatt.report.forecasts import comparison_dict
from stillwatt.report.scope import method_notes, not_counted

REPORT_SCHEMA = "stillwatt.report/1"


def report_dict(run: RunRecord, study: Study, comparison: PredictionCheck | None = None) -> dict[str, Any]:
    """The whole report as JSON values, in a fixed order; a run that nobody predicted has no `prediction`."""
    return {
        "schema": REPORT_SCHEMA,
        "run": writable(run.to_dict()),
        "answer": answer_dict(run, study),
        "warnings": [*study.warnings, *run.warnings],
        "baseline_arm": study.baseline_arm,
        **({} if study.yardstick == TEACHER_YARDSTICK else {"yardstick": study.yardstick}),
        "allocations": [allocation.label for allocation in study.allocations],
        "stage_table": {
            "rows": [_row_dict(row) for row in study.table.rows],
            "unallocated": total_dict(study.table.unallocated),
            "total": total_dict(study.table.total),
            "residual_j": study.table.residual_j,
            "closes": study.table.closes,
        },
        "arms": [_point_dict(point) for point in study.arms],
        "references": [_reference_dict(model) for model in study.references],
        "serving": [_serving_dict(rate) for rate in study.serving],
        "frontier": [_frontier_dict(point) for point in study.frontier],
        "rejected": [
            {"allocation": r.allocation, "arm": r.arm, "checkpoint": r.checkpoint, "reason": r.reason}
            for r in study.rejected
        ],
        **_left_out(study),
        "break_evens": [_break_even_dict(found) for found in study.break_evens],
        "repeat_rel": study.repeat_rel,
        "experimentation": bill_dict(study.experimentation),
        **({} if comparison is None else {"prediction": writable(comparison_dict(comparison))}),
        "parts": parts_dicts(run),
        "gaps": run.gaps,
        "traces": _trace_dicts(run),
        "spans": _span_dicts(run),
        "not_counted": not_counted(run),
        "method": method_notes(has_arms=bool(study.arms)),
    }


def _left_out(study: Study) -> dict[str, Any]:
    """Arms of the recipe that the run does not have; no key where it has all."""
    return (
        {"left_out": [{"arm": entry.arm, "reason": entry.reason} for entry in study.missing]} if study.missing else {}
    )


def writable(value: Any) -> Any:
    """The value with numbers that JSON has no word for as text, such as a loss that ran away.

    >>> writable({"loss": float("nan"), "steps": (1, 2)})
    {'loss': 'nan', 'steps': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): writable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [writable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def report_json(data: Mapping[str, Any]) -> str:
    """The report as text; the one place that decides how it is written.

    Raises:
        ValueError: A number is not finite; JSON has no word for it.
    """
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def bill_dict(energy: Bill | NoTotal) -> dict[str, Any]:
    """An energy with its interval, or why there is none."""
    if isinstance(energy, NoTotal):
        return {"absent": energy.reason}
    return {
        "value_j": energy.value_j,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "random_j": energy.random_j,
        "systematic_low_j": energy.systematic_low_j,
        "systematic_high_j": energy.systematic_high_j,
        "basis": energy.basis.value if energy.basis else None,
        "complete": energy.complete,
        "not_in_it": list(energy.absent),
    }


def parts_dicts(run: RunRecord) -> list[dict[str, Any]]:
    """Each part of the machine: who read it, how, and how well over the whole run."""
    entries: dict[str, list[Energy | Absent]] = {}
    for stage in run.stages:
        if stage.parent_id is None:
            for part in stage.energies:
                entries.setdefault(part.part, []).append(part)
    return [_part_dict(name, found) for name, found in sorted(entries.items())]


def _part_dict(name: str, found: list[Energy | Absent]) -> dict[str, Any]:
    known = [entry for entry in found if isinstance(entry, Energy)]
    gone = [entry.reason for entry in found if isinstance(entry, Absent)]
    return {
        "part": name,
        "boundary": found[0].boundary.value,
        "device": known[0].device if known else "",
        "basis": known[0].basis.value if known else None,
        "driver": known[0].driver if known else "",
        "method": ", ".join(sorted({entry.method for entry in known})),
        "source": "; ".join(sorted({entry.source for entry in known})),
        "value_j": sum(entry.value_j for entry in known) if known else None,
        "lowest_coverage": min((entry.coverage for entry in known), default=None),
        "failed_reads": sum(entry.failed_reads for entry in known),
        "estimated_j": sum(entry.estimated_j for entry in known),
        "missing_s": sum(entry.missing_s for entry in known),
        "absent_stages": len(gone),
        "absent_reasons": sorted(set(gone)),
    }


def _row_dict(row: StageRow) -> dict[str, Any]:
    return {
        "group": row.group.value,
        "arm": row.arm,
        "label": row.label,
        "kind": row.kind.value,
        "stage_ids": list(row.stage_ids),
        "duration_s": row.duration_s,
        "tokens": row.tokens,
        "energy": bill_dict(row.energy),
        "j_per_token": row.j_per_token,
    }


def _point_dict(point: ArmPoint) -> dict[str, Any]:
    return {
        "arm": point.arm,
        "name": point.name,
        "method": point.method,
        "student": point.student,
        "seed": point.seed,
        "checkpoint": point.checkpoint,
        "budget_share": point.budget_share,
        "is_final": point.is_final,
        **({} if point.stop is None else {"stopped_by": point.stop.words}),
        "tokens": point.tokens,
        "supervised_tokens": point.supervised_tokens,
        "prepare": bill_dict(point.prepare_energy),
        "teacher": bill_dict(point.teacher_energy),
        **_online_dict(point),
        "student_training": bill_dict(point.student_energy),
        "evaluation": bill_dict(point.evaluation_energy),
        "other": bill_dict(point.other_energy),
        "experimentation": bill_dict(point.experimentation_energy),
        "artifacts": [
            {
                "artifact": use.artifact,
                "kind": use.kind,
                "consumers": use.consumers,
                "budget_share": use.budget_share,
                **({} if use.used_share == use.budget_share else {"used_share": use.used_share}),
                "token_share": use.token_share,
                "reused_from": use.reused_from,
            }
            for use in point.artifacts
        ],
        "allocated": {entry.allocation.label: bill_dict(entry.energy) for entry in point.allocated},
        "scores": [_score_dict(score) for score in point.scores],
        "quality": quality_dict(point.quality),
        **({} if point.adapters is None else {"lora": asdict(point.adapters)}),
    }


def _online_dict(point: ArmPoint) -> dict[str, Any]:
    """What of the teacher's work ran beside the training, and what other students can use; nothing where none ran."""
    if not any(use.kind == ONLINE_TEACHER for use in point.artifacts):
        return {}
    return {"teacher_artifacts": bill_dict(point.artifact_energy), "teacher_online": bill_dict(point.online_energy)}


def _score_dict(score: Score) -> dict[str, Any]:
    return {
        "task": score.task,
        "value": score.value,
        "se": score.se,
        "n": score.n,
        "higher_is_better": score.higher_is_better,
        **({} if score.in_quality else {"in_quality": False}),
    }


def quality_dict(quality: Quality | NoQuality) -> dict[str, Any]:
    """A quality with its errors, or why there is none."""
    if isinstance(quality, NoQuality):
        return {"absent": quality.reason}
    return {
        "value": quality.value,
        "se": quality.se,
        "own_se": quality.own_se,
        "tasks": [{"task": task.task, "ratio": task.ratio, "se": task.se} for task in quality.tasks],
        "left_out": list(quality.left_out),
    }


def _reference_dict(model: ReferenceModel) -> dict[str, Any]:
    return {
        "model": model.model,
        "student": model.student,
        "scores": [_score_dict(score) for score in model.scores],
        "quality": quality_dict(model.quality),
    }


def _serving_dict(rate: ServingRate) -> dict[str, Any]:
    known = not isinstance(rate.energy, NoTotal)
    return {
        "model": rate.model,
        "is_teacher": rate.is_teacher,
        "tokens": rate.tokens,
        "energy": bill_dict(rate.energy),
        "j_per_token": rate.energy.value_j / rate.tokens if known and isinstance(rate.energy, Bill) else None,
    }


def _frontier_dict(point: FrontierPoint) -> dict[str, Any]:
    return {
        "allocation": point.allocation,
        "arm": point.arm,
        "checkpoint": point.checkpoint,
        **({} if point.budget_share == float(point.checkpoint) else {"budget_share": point.budget_share}),
        "energy_j": point.energy_j,
        "energy_random_j": point.energy_random_j,
        "quality": point.quality,
        "quality_se": point.quality_se,
        "is_on_frontier": point.is_on_frontier,
        "dominated_by": point.dominated_by,
        "on_frontier_probability": point.on_frontier_probability,
        "is_separable": point.is_separable,
    }


def _break_even_dict(found: BreakEven) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "arm": found.arm,
        "checkpoint": found.checkpoint,
        "verdict": found.verdict.value,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "extra_j": found.extra_j,
        "saving_j": found.saving_j,
        "reason": found.reason,
    }


def _trace_dicts(run: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            "session": trace.session,
            "part": trace.part,
            "t_s": [point.t_s for point in trace.points],
            "mean_w": [point.mean_w for point in trace.points],
            "low_w": [point.low_w for point in trace.points],
            "high_w": [point.high_w for point in trace.points],
        }
        for trace in run.traces
    ]


def _span_dicts(run: RunRecord) -> list[dict[str, Any]]:
    stages = {stage.stage_id: stage for stage in run.stages}
    return [
        {
            "stage_id": span.stage_id,
            "session": span.session,
            "name": stages[span.stage_id].name,
            "kind": stages[span.stage_id].kind.value,
            "status": stages[span.stage_id].status.value,
            "is_nested": stages[span.stage_id].parent_id is not None,
            "start_s": span.start_s,
            "end_s": span.end_s,
        }
        for span in run.spans
        if span.stage_id in stages
    ]
