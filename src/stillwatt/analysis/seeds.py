"""From the findings of several runs to trainings that can be compared: one observation an arm, seed and run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.errors import UsageError
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint, Bill, Quality, Study
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Observations of several runs."""

    rows: tuple[Observation, ...]
    warnings: tuple[str, ...]
    complete: bool
    """False where an energy is unknown, or lacks a part."""


def gather_runs(studies: Sequence[tuple[RunRecord, Study]]) -> Gathered:
    """Every arm of every run at its last checkpoint; runs of one arm are its seeds.

    Arms of one name that were trained differently (method, student, tokens, or the arm's own settings) are no
    repeats of each other: the later one is called `arm@run`.

    Raises:
        UsageError: The runs measure quality on unlike tasks.
    """
    rows: list[Observation] = []
    warnings: list[str] = []
    trained: dict[str, tuple[Any, ...]] = {}
    complete = True
    for run, study in studies:
        for point in study.final_points:
            name = _label(point)
            how = _how_trained(run, point)
            if trained.setdefault(name, how) != how:
                warnings.append(f"{name} of run {run.run_id} was trained differently: it is {name}@{run.run_id} here")
                name = f"{name}@{run.run_id}"
            gaps = list(_gaps(point))
            complete = complete and not gaps
            warnings += [f"run {run.run_id}: {gap}" for gap in gaps]
            rows.append(_observation(run, study, point, name, several=len(studies) > 1))
        if not study.final_points:
            warnings.append(f"run {run.run_id} trained no arm: nothing of it is compared")
    _check_tasks(studies)
    return Gathered(rows=tuple(rows), warnings=tuple(warnings), complete=complete)


def _label(point: ArmPoint) -> str:
    return f"{point.student}.{point.name}" if point.arm.startswith(f"{point.student}.") else point.name


def _how_trained(run: RunRecord, point: ArmPoint) -> tuple[Any, ...]:
    arms = run.settings.get("arms")
    own = arms.get(point.name) if isinstance(arms, Mapping) else None
    return point.method, point.student, point.tokens, own


def _gaps(point: ArmPoint) -> Iterator[str]:
    for what, bill in (
        ("teacher's", point.teacher_energy),
        ("student's", point.student_energy),
        ("other", point.other_energy),
    ):
        if isinstance(bill, NoTotal):
            yield f"the {what} energy of {point.arm} is unknown: {bill.reason}"
        elif not bill.complete:
            yield f"the {what} energy of {point.arm} is incomplete: the true energy is higher"


def _observation(run: RunRecord, study: Study, point: ArmPoint, name: str, *, several: bool) -> Observation:
    teacher, student, other = point.teacher_energy, point.student_energy, point.other_energy
    own_j, own_random_j = None, 0.0
    if isinstance(student, Bill) and isinstance(other, Bill):
        own_j, own_random_j = student.value_j + other.value_j, math.hypot(student.random_j, other.random_j)
    quality = point.quality if isinstance(point.quality, Quality) else None
    served = {rate.model: rate for rate in study.serving}
    return Observation(
        label=name,
        method=point.method or point.name,
        student=point.student,
        seed=f"{run.run_id}:{point.seed}" if several else point.seed,
        place=f"run {run.run_id}",
        quality=quality.value if quality else None,
        quality_se=quality.own_se if quality else None,
        teacher_j=_value(teacher),
        student_j=_value(student),
        own_j=own_j,
        throughput=_throughput(run, point.student),
        teacher_tokens=point.tokens if point.artifacts else None,
        served_teacher_j=_per_token(served, "teacher"),
        served_student_j=_per_token(served, point.student),
        half_widths={
            "teacher_j": teacher.random_j if isinstance(teacher, Bill) else 0.0,
            "student_j": student.random_j if isinstance(student, Bill) else 0.0,
            "own_j": own_random_j,
        },
    )


def _value(bill: Bill | NoTotal) -> float | None:
    return bill.value_j if isinstance(bill, Bill) else None


def _per_token(served: Mapping[str, Any], model: str) -> float | None:
    rate = served.get(model)
    return rate.energy.value_j / rate.tokens if rate is not None and isinstance(rate.energy, Bill) else None


def _throughput(run: RunRecord, student: str) -> float | None:
    """Generated tokens a second under the run's serving load, for a student that was served."""
    for stage in run.stages:
        is_student = stage.labels.get("arm") != "teacher" and stage.labels.get("student", "") == student
        if stage.kind is StageKind.SERVE and is_student and stage.workload.get("tokens") and stage.duration_s > 0.0:
            return stage.workload["tokens"] / stage.duration_s
    return None


def _check_tasks(studies: Sequence[tuple[RunRecord, Study]]) -> None:
    first: tuple[str, frozenset[str]] | None = None
    for run, study in studies:
        for point in study.final_points:
            if isinstance(point.quality, Quality):
                tasks = frozenset(task.task for task in point.quality.tasks)
                if first is None:
                    first = (run.run_id, tasks)
                elif tasks != first[1]:
                    raise UsageError(
                        f"{point.arm} of run {run.run_id} is scored on {', '.join(sorted(tasks))} and run {first[0]} "
                        f"on {', '.join(sorted(first[1]))}: such qualities cannot stand on one axis; compare the runs "
                        "apart"
                    )
