"""Trainings of runs that name no arm, as imported logs do: what can be said of them, and what cannot.

Nothing is guessed: teacher's work goes on a training's bill only where the training names the artefact that this work
made. All other energy of the run is listed beside the bills, so that both together are the run's total.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.analysis.bills import add, price
from stillwatt.analysis.bookings import Bookings, artifact_of, sort_stages
from stillwatt.analysis.quality import read_scores
from stillwatt.analysis.remainder import remainder, without_inner
from stillwatt.records.comparison import CardEnergy, Observation, Unbilled
from stillwatt.records.energy import Energy, NoTotal
from stillwatt.records.finding import Bill
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind

_ON_TEACHER = "+teacher"
"""Behind the method of a training whose log names a teacher, and whose teacher's work is not known."""

UNNAMED_SEED = "unnamed"
NAMES_TEACHER = "a teacher is named, but no artefact made in the same run: its energy is unknown, and it is no baseline"
NAMES_NOTHING = "no artefact is named that the same run made: the teacher's energy, if there was a teacher, is unknown"
NO_TOKENS = "no tokens were counted: no energy by token"
SCORES_OF_NO_ARM = "the scores of the run belong to no arm: no quality"


@dataclass(frozen=True, slots=True, kw_only=True)
class Armless:
    """Trainings of one run, each with how it was trained, and the rest of the run's energy."""

    trainings: tuple[tuple[Observation, tuple[Any, ...]], ...]
    unbilled: tuple[Unbilled, ...]
    cautions: tuple[tuple[str, str], ...]
    """What cannot be supported, and the stage it is about."""


def read_armless(run: RunRecord) -> Armless:
    """Every ended training of a run, by its stage's name; what it cannot support is among the cautions.

    Preparation and evaluation go on the bill of the run's only training; where there are several, nobody says whose
    they are.
    """
    bookings = sort_stages(run)
    trained = [stage for stage in bookings.ended if stage.kind is StageKind.STUDENT_TRAIN]
    shared = [stage for stage in bookings.ended if stage.kind in (StageKind.PREPARE_DATA, StageKind.EVALUATE)]
    own = shared if len(trained) == 1 else []
    billed = {stage.stage_id for stage in [*trained, *own]}
    billed |= {stage_id for stage in trained for stage_id in _made_by(bookings, stage) or {}}
    bills = _Bills(run=run, bookings=bookings, billed=frozenset(billed))
    return Armless(
        trainings=tuple((_observation(bills, stage, own), _how_trained(stage)) for stage in trained),
        unbilled=remainder(run, bookings, billed),
        cautions=tuple(_cautions(bookings, trained)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bills:
    """Prices stages; one inside another is on one bill alone."""

    run: RunRecord
    bookings: Bookings
    billed: frozenset[str]

    def price(self, stage_ids: Iterable[str]) -> Bill | NoTotal:
        """The stages together, each without the billed ones inside it."""
        return price(
            self.bookings.book, add(*(without_inner(self.run, stage_id, self.billed) for stage_id in stage_ids))
        )

    def joules(self, stage_ids: Iterable[str]) -> float | None:
        """Their energy; None where it is unknown."""
        bill = self.price(stage_ids)
        return bill.value_j if isinstance(bill, Bill) else None


def _observation(bills: _Bills, stage: StageRecord, others: Sequence[StageRecord]) -> Observation:
    run = bills.run
    teacher = _made_by(bills.bookings, stage)
    student = bills.price([stage.stage_id])
    student_j, other_j = bills.joules([stage.stage_id]), bills.joules([other.stage_id for other in others])
    random_j = student.random_j if isinstance(student, Bill) else 0.0
    return Observation(
        label=stage.name,
        method=_method(stage, has_artifact=teacher is not None),
        student=stage.labels.get("student", ""),
        seed=f"{run.run_id}:{stage.labels.get('seed', '')}",
        drawn_with=stage.labels.get("seed", "") or UNNAMED_SEED,
        place=f"run {run.run_id}",
        quality=None,
        quality_se=None,
        teacher_j=None if teacher is None else bills.joules(teacher),
        student_j=student_j,
        own_j=None if student_j is None or other_j is None else student_j + other_j,
        half_widths={"student_j": random_j, "own_j": random_j},
        basis=student.basis if isinstance(student, Bill) else None,
        whole_j=_whole_j(bills, stage, others, teacher),
        cards=_cards(stage),
    )


def _whole_j(
    bills: _Bills, stage: StageRecord, others: Sequence[StageRecord], teacher: Mapping[str, float] | None
) -> tuple[float, float] | None:
    """The interval of all that the training took; None where its teacher's work is not known."""
    if teacher is None:
        return None
    bill = bills.price([stage.stage_id, *(other.stage_id for other in others), *teacher])
    return (bill.low_j, bill.high_j) if isinstance(bill, Bill) else None


def _made_by(bookings: Bookings, stage: StageRecord) -> Mapping[str, float] | None:
    """The stages that made the artefact the training names; None where it names none that is here."""
    bill = bookings.artifacts.get(artifact_of(stage))
    return bill.weights if bill is not None and isinstance(bill.weights, Mapping) else None


def _method(stage: StageRecord, *, has_artifact: bool) -> str:
    said = stage.labels.get("method", "") or stage.labels.get("pipeline", "") or "unnamed"
    is_unclear = "teacher" in stage.labels and not has_artifact
    return f"{said}{_ON_TEACHER}" if is_unclear else said


def _how_trained(stage: StageRecord) -> tuple[Any, ...]:
    said = [stage.labels.get(name, "") for name in ("method", "pipeline", "student", "dataset")]
    return (*said, stage.workload.get("tokens"))


def _cards(stage: StageRecord) -> CardEnergy | None:
    known = [part.value_j for part in stage.energies if isinstance(part, Energy) and part.part.startswith("gpu")]
    if not known:
        return None
    return CardEnergy(teacher_j=None, student_j=math.fsum(known), own_j=math.fsum(known))


def _cautions(bookings: Bookings, trained: Sequence[StageRecord]) -> Iterator[tuple[str, str]]:
    for stage in trained:
        if _made_by(bookings, stage) is None:
            yield (NAMES_TEACHER if "teacher" in stage.labels else NAMES_NOTHING), stage.name
        if "tokens" not in stage.workload:
            yield NO_TOKENS, stage.name
    if trained and any(read_scores(stage.results) for stage in bookings.ended):
        yield SCORES_OF_NO_ARM, ", ".join(stage.name for stage in trained)
