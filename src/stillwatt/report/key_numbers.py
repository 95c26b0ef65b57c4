"""The few numbers at the head of a report: the run's energy, the teacher's part, the break-evens, the time."""

from __future__ import annotations

import math

from stillwatt.analysis.breakeven import left_nothing
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.finding import Bill, BreakEvenKind, StageGroup, Study, Verdict
from stillwatt.records.run import RunRecord, total_dict
from stillwatt.report.format import duration_text, energy_text, percent_text, students_text


def key_numbers(run: RunRecord, study: Study) -> list[dict[str, str]]:
    """Label, value and note of each."""
    numbers = [_total_number(run)]
    if study.arms:
        numbers += _teacher_number(run, study)
        numbers += [_break_even_number(study, kind) for kind in (BreakEvenKind.REUSE, BreakEvenKind.SERVING)]
    numbers.append({"label": "Duration", "value": duration_text(run.duration_s), "note": _meter_note(run)})
    return numbers


def _total_number(run: RunRecord) -> dict[str, str]:
    if isinstance(run.total, NoTotal):
        return {"label": "Energy of the run", "value": "unknown", "note": run.total.reason}
    number, _, interval = energy_text(total_dict(run.total)).partition(" [")
    note = f"[{interval}, {run.total.basis.value}" + ("" if run.total.complete else ", incomplete")
    return {"label": "Energy of the run", "value": number, "note": note}


def _teacher_number(run: RunRecord, study: Study) -> list[dict[str, str]]:
    rows = [row.energy for row in study.table.rows if row.group is StageGroup.TEACHER]
    bills = [energy for energy in rows if isinstance(energy, Bill)]
    if not bills or not isinstance(run.total, Total) or run.total.value_j <= 0.0:
        return []
    teacher_j = math.fsum(bill.value_j for bill in bills)
    return [
        {
            "label": "Teacher's work",
            "value": percent_text(teacher_j / run.total.value_j),
            "note": "of the run's energy went into logits and generated text",
        }
    ]


def _break_even_number(study: Study, kind: BreakEvenKind) -> dict[str, str]:
    """The smallest break-even of any distilled arm at its last checkpoint."""
    finals = {point.key for point in study.final_points if point.artifacts}
    found = [b for b in study.break_evens if b.kind is kind and f"{b.arm} @ {b.checkpoint}" in finals]
    label = "Reuse break-even N*" if kind is BreakEvenKind.REUSE else "Serving break-even T*"
    unit = "students" if kind is BreakEvenKind.REUSE else "tokens served"
    reached = [b for b in found if b.verdict is Verdict.VALUE and b.value is not None]
    if reached:
        best = min(reached, key=lambda b: b.value or 0.0)
        number, _, interval = students_text(best.value or 0.0, best.low, best.high).partition(" ")
        return {"label": label, "value": number, "note": f"{unit}, {best.arm} {interval}".strip()}
    if found and all(b.verdict is Verdict.NEVER for b in found):
        is_left = any(not left_nothing(point) for point in study.final_points if point.artifacts)
        note = "training a distilled student saved nothing" if is_left else "no teacher left work to share"
        return {"label": label, "value": "never", "note": note}
    if found and all(b.verdict is Verdict.NOT_AT_THIS_BUDGET for b in found):
        return {"label": label, "value": "not known", "note": "no arm stands beside its baseline at one token budget"}
    if found:
        return {"label": label, "value": "undetermined", "note": "the saving cannot be told from 0"}
    return {"label": label, "value": "not known", "note": "nothing to hold it against was measured"}


def _meter_note(run: RunRecord) -> str:
    cpu_s = run.meter.get("cpu_s")
    if cpu_s is None or run.duration_s <= 0.0:
        return "the meter's own time is not known"
    return f"metering took {percent_text(cpu_s / run.duration_s)} of one core"
