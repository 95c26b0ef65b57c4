"""Which serving stages of the ledger stand for a serving scenario: those of one student, at one boundary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def served_of(runs: Sequence[RunRecord], student: str | None) -> Served:
    """The ledger's serving stages of the student of an arm, at the boundary of the first of them.

    Without an arm and with unlike students the one is served whose tokens take most energy, so that no scenario looks
    cheaper than a student that may be meant; the reason says so.

    Args:
        runs: the runs.
        student: the arm whose student is the product; None where nobody names one.

    Raises:
        StillwattError: there is none of it.
    """
    used: list[_Stage] = []
    boundary: Boundary | None = None
    left_out: dict[str, None] = {}
    for run, stage in _candidates(runs, student):
        if isinstance(stage.gross, NoTotal):
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
        of_whom = f"the student of arm {student}" if student else "a student"
        raise StillwattError(
            f"--serving: no run has a serving stage of {of_whom} with an energy; "
            "give the energy of a token, e.g. --serving 1e6,365,0.4J,node, or ecologits:BILLIONS"
            + "".join(f"; not used: {one}" for one in left_out)
        )
    return _one_student(used, tuple(left_out), student)


def _one_student(used: Sequence[_Stage], left_out: tuple[str, ...], student: str | None) -> Served:
    """The stages of one student: like ones are its repeats."""
    students: dict[str, list[_Stage]] = {}
    for run, stage in used:
        students.setdefault(_called(stage), []).append((run, stage))
    dearest = max(students, key=lambda name: (_token_j([stage for _, stage in students[name]]), name))
    why = f"the student of arm {student} is served" if student else ""
    if len(students) > 1:
        names = ", ".join(sorted(students))
        why = (
            f"of unlike students ({names}) {dearest} is served, whose tokens take most energy, since "
            f"{'the arm has several' if student else 'none is named (--student)'}"
        )
    return Served(stages=tuple(students[dearest]), left_out=left_out, why=why)


def _candidates(runs: Sequence[RunRecord], student: str | None) -> Iterator[_Stage]:
    for run in runs:
        trained = [one for one in run.stages if one.kind is StageKind.STUDENT_TRAIN]
        names = {one.labels.get("student") for one in trained if one.labels.get("arm") == student}
        for stage in run.stages:
            if stage.kind is not StageKind.SERVE or stage.status is not StageStatus.ENDED:
                continue
            arm, shape = stage.labels.get("arm"), stage.labels.get("student")
            if arm == "teacher":
                continue
            # students of all arms that start alike are served once, under the student's name and no arm's
            if student is None or arm == student or (not arm and (shape is None or shape in names)):
                yield run, stage


def _called(stage: StageRecord) -> str:
    """A student by its arm where it has one, else by its own name; stages without either are of one."""
    return stage.labels.get("arm") or stage.labels.get("student") or "the student"


def _token_j(stages: Sequence[StageRecord]) -> float:
    joules = math.fsum(stage.gross.value_j for stage in stages if isinstance(stage.gross, Total))
    return joules / math.fsum(stage.workload["generated_tokens"] for stage in stages)
