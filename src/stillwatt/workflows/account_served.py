"""Which serving stages of the ledger stand for a serving scenario: those of one student, at one boundary."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.errors import StillwattError
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind, StageStatus

_Stage = tuple[RunRecord, StageRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Serving stages that are used, what was left out, and why these."""

    stages: tuple[_Stage, ...] = ()
    left_out: tuple[str, ...] = ()
    why: str = ""
    who: str = ""
    """Whose they are: the arm's name, or the student's."""

    def as_dict(self) -> dict[str, Any]:
        """For the report's data."""
        stages = [{"run": run.run_id, "stage": stage.name} for run, stage in self.stages]
        return {"student": self.who, "why": self.why, "stages": stages, "not_served": list(self.left_out)}


def served_of(runs: Sequence[RunRecord], kept: frozenset[str] | None) -> Served:
    """The ledger's serving stages of the student of an arm, in any of its seeds, at the boundary of the first of them.

    Without an arm and with unlike students the one is served whose tokens take most energy, so that no scenario looks
    cheaper than a student that may be meant; the reason says so.

    Args:
        runs: the runs.
        kept: the arms whose student is the product, one for each seed; None where nobody names any.

    Raises:
        StillwattError: there is none of it.
    """
    used: list[_Stage] = []
    boundary: Boundary | None = None
    left_out: dict[str, None] = {}
    for run, stage in [(one, stage) for one in runs for stage in one.stages if _is_students(stage)]:
        if other := _of_another(run, stage, kept):
            why = other
        elif isinstance(stage.gross, NoTotal):
            why = f"energy not known: {stage.gross.reason}"
        elif not stage.workload.get("generated_tokens"):
            why = "nobody counted its tokens"
        elif boundary not in (None, stage.gross.boundary):
            why = f"metered at the boundary {stage.gross.boundary.value}"
        else:
            boundary = stage.gross.boundary
            used.append((run, stage))
            continue
        left_out[f"{stage.name} of {run.run_id} ({why})"] = None
    if not used:
        of_whom = f"the student of arm {_arms(kept)}" if kept else "a student"
        raise StillwattError(
            f"--serving: no run has a serving stage of {of_whom} with an energy; "
            "give the energy of a token, e.g. --serving 1e6,365,0.4J,node, or ecologits:BILLIONS"
            + "".join(f"; not used: {one}" for one in left_out)
        )
    return _one_student(used, tuple(left_out), kept)


def _one_student(used: Sequence[_Stage], left_out: tuple[str, ...], kept: frozenset[str] | None) -> Served:
    """The stages of one student: like ones are its repeats."""
    students: dict[str, list[_Stage]] = {}
    for run, stage in used:
        students.setdefault(_model(run, stage), []).append((run, stage))
    names = {model: _called(students, model) for model in students}
    dearest = max(students, key=lambda model: (_token_j([stage for _, stage in students[model]]), names[model]))
    why = f"the student of arm {_arms(kept)} is served" if kept else "the ledger's one student is served"
    if len(students) > 1:
        why = (
            f"of unlike students ({', '.join(sorted(names.values()))}) {names[dearest]} is served, whose tokens take "
            f"most energy, since {'the arm has several' if kept else 'none is named (--student)'}"
        )
    others = [
        f"{stage.name} of {run.run_id} (it serves {names[model]})"
        for model, stages in students.items()
        for run, stage in stages
        if model != dearest
    ]
    return Served(stages=tuple(students[dearest]), left_out=(*left_out, *others), why=why, who=names[dearest])


def _arms(kept: frozenset[str]) -> str:
    return ", ".join(sorted(kept))


def _is_students(stage: StageRecord) -> bool:
    ended = stage.status is StageStatus.ENDED
    return stage.kind is StageKind.SERVE and ended and stage.labels.get("arm") != "teacher"


def _of_another(run: RunRecord, stage: StageRecord, kept: frozenset[str] | None) -> str:
    """Why a stage does not serve the student of that arm; empty where it does, or where no arm is named."""
    arm, shape = stage.labels.get("arm"), stage.labels.get("student")
    if kept is None or arm in kept:
        return ""
    if arm:
        return f"it serves the arm {arm}"
    # students of all arms that start alike are served once, under the student's name and no arm's
    trained = [one for one in run.stages if one.kind is StageKind.STUDENT_TRAIN]
    names = {one.labels.get("student") for one in trained if one.labels.get("arm") in kept}
    if shape is None:
        is_only = {one.labels.get("student") for one in trained} <= names
        return "" if is_only else "nobody said which student it serves"
    return "" if shape in names else f"it serves {shape}"


def _model(run: RunRecord, stage: StageRecord) -> str:
    """What tells students apart: whom the stage names, and how the run's settings describe a student of that name."""
    name = stage.labels.get("student", "")
    settings = [one for one in run.settings.get("students", ()) if one.get("name") == name]
    return json.dumps([stage.labels.get("arm", ""), name, settings], sort_keys=True, default=str)


def _called(students: Mapping[str, Sequence[_Stage]], model: str) -> str:
    """A student by its arm where it has one, else by its own name; with its run where another has the same name."""
    names = {one: _name(stages[0][1]) for one, stages in students.items()}
    run, _ = students[model][0]
    return f"{names[model]} of {run.run_id}" if list(names.values()).count(names[model]) > 1 else names[model]


def _name(stage: StageRecord) -> str:
    return stage.labels.get("arm") or stage.labels.get("student") or "the student"


def _token_j(stages: Sequence[StageRecord]) -> float:
    joules = math.fsum(stage.gross.value_j for stage in stages if isinstance(stage.gross, Total))
    return joules / math.fsum(stage.workload["generated_tokens"] for stage in stages)
