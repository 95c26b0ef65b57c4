"""All findings of one run in one call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from stillwatt.analysis.arms import build_points, find_problems
from stillwatt.analysis.bills import price
from stillwatt.analysis.bookings import Bookings, sort_stages, weights_of
from stillwatt.analysis.breakeven import (
    matched_quality_break_even,
    no_equal_budget,
    reuse_break_even,
    serving_break_even,
)
from stillwatt.analysis.caveats import card_caveats, find_caveats
from stillwatt.analysis.frontier import Candidate, frontier_probabilities, place_points
from stillwatt.analysis.judged import judged_caveats
from stillwatt.analysis.missing import missing_arms, missing_text
from stillwatt.analysis.quality import Yardstick, all_scores, relative_quality
from stillwatt.analysis.repeat import repeatability
from stillwatt.analysis.stages import stage_table
from stillwatt.analysis.stopped import find_equal
from stillwatt.records.allocation import Allocation
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import (
    ArmPoint,
    BreakEven,
    FrontierPoint,
    NoQuality,
    ReferenceModel,
    Rejected,
    ServingRate,
    Study,
)
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind


def summarise(
    run: RunRecord, *, reuse: Sequence[int], baseline_arm: str = "sft", others: Sequence[RunRecord] = ()
) -> Study:
    """Everything a run shows: stage table, arms, frontier, break-evens, and what to beware of.

    A run without arms (`stillwatt measure -- cmd`) has its stage table and nothing else.

    Args:
        run: The run.
        reuse: Hypothetical numbers of students that share a teacher artefact; the actual one is always shown.
        baseline_arm: Name of the arm that the others are held against.
        others: Earlier runs that may have made artefacts this run used again.
    """
    bookings = sort_stages(run, others)
    references, yardstick = _references(bookings)
    points, allocations = build_points(bookings, yardstick, reuse)
    serving = _serving_rates(bookings)
    repeat = repeatability(bookings)
    frontier, rejected = _frontiers(points, allocations if points else (), repeat.rel)
    table = stage_table(run, bookings)
    missing = missing_arms(run, points)
    break_evens = tuple(_break_evens(points, serving, baseline_arm, repeat.rel))
    return Study(
        run_id=run.run_id,
        baseline_arm=baseline_arm,
        allocations=allocations if points else (),
        table=table,
        arms=points,
        references=references,
        serving=serving,
        frontier=frontier,
        rejected=rejected,
        break_evens=break_evens,
        experimentation=price(bookings.book, weights_of(bookings.lost)),
        warnings=(
            *([f"{missing_text(missing)}: nothing here is said of what is missing"] if missing else ()),
            *bookings.problems,
            *find_problems(bookings, missing),
            *find_caveats(run, points, yardstick, serving, table, baseline_arm),
            *judged_caveats(bookings),
            *card_caveats(bookings),
            *((repeat.sentence,) if break_evens else ()),
        ),
        repeat_rel=repeat.rel,
        missing=missing,
        yardstick=yardstick.name,
    )


def _references(bookings: Bookings) -> tuple[tuple[ReferenceModel, ...], Yardstick]:
    """The models that no arm made, and the one among them that quality is relative to."""
    stages: dict[tuple[str, str], list[StageRecord]] = {}
    for stage in bookings.ended:
        model = stage.labels.get("arm")
        if stage.kind is StageKind.EVALUATE and model in ("teacher", "start"):
            stages.setdefault((model, stage.labels.get("student", "")), []).append(stage)
    found = {key: all_scores(own) for key, own in stages.items()}
    teacher_first = sorted(found.items(), key=lambda entry: entry[0][0] != "teacher")
    scored = (entry for entry in teacher_first if entry[1])
    (model, student), scores = next(scored, (("teacher", ""), ()))
    yardstick = Yardstick(scores=scores, student=student or "a student" if model == "start" else "")
    references = (
        ReferenceModel(model=model, student=student, scores=scores, quality=relative_quality(scores, yardstick))
        for (model, student), scores in found.items()
    )
    return tuple(references), yardstick


def _serving_rates(bookings: Bookings) -> tuple[ServingRate, ...]:
    rates = []
    for stage in bookings.ended:
        tokens = stage.workload.get("tokens", 0.0)
        if stage.kind is StageKind.SERVE and tokens > 0.0:
            is_teacher = stage.labels.get("arm") == "teacher"
            rates.append(
                ServingRate(
                    model="teacher" if is_teacher else stage.labels.get("student", ""),
                    is_teacher=is_teacher,
                    tokens=tokens,
                    energy=price(bookings.book, {stage.stage_id: 1.0}),
                    duration_s=stage.duration_s,
                )
            )
    return tuple(rates)


def _frontiers(
    points: Sequence[ArmPoint], allocations: Sequence[Allocation], repeat_rel: float
) -> tuple[tuple[FrontierPoint, ...], tuple[Rejected, ...]]:
    placed: list[FrontierPoint] = []
    rejected: list[Rejected] = []
    for allocation in allocations:
        candidates: list[tuple[ArmPoint, Candidate]] = []
        for point in points:
            candidate = _candidate(point, allocation.label, repeat_rel)
            if isinstance(candidate, str):
                rejected.append(
                    Rejected(allocation=allocation.label, arm=point.arm, checkpoint=point.checkpoint, reason=candidate)
                )
            else:
                candidates.append((point, candidate))
        placed += _placed(allocation.label, candidates)
    return tuple(placed), tuple(rejected)


def _candidate(point: ArmPoint, allocation: str, repeat_rel: float) -> Candidate | str:
    """The point on the plane, or why it is not on it."""
    energy = point.energy_under(allocation)
    if isinstance(energy, NoTotal):
        return energy.reason
    if isinstance(point.quality, NoQuality):
        return point.quality.reason
    return Candidate(
        name=point.key,
        energy_j=energy.value_j,
        energy_random_j=math.hypot(energy.random_j, repeat_rel * energy.value_j),
        quality=point.quality.value,
        quality_se=point.quality.own_se,
    )


def _placed(allocation: str, candidates: Sequence[tuple[ArmPoint, Candidate]]) -> Iterator[FrontierPoint]:
    plane = [candidate for _, candidate in candidates]
    for (point, candidate), place, probability in zip(
        candidates, place_points(plane), frontier_probabilities(plane), strict=True
    ):
        yield FrontierPoint(
            allocation=allocation,
            arm=point.arm,
            checkpoint=point.checkpoint,
            budget_share=point.budget_share,
            energy_j=candidate.energy_j,
            energy_random_j=candidate.energy_random_j,
            quality=candidate.quality,
            quality_se=candidate.quality_se,
            is_on_frontier=place.is_on_frontier,
            dominated_by=place.dominated_by,
            on_frontier_probability=probability,
        )


def _break_evens(
    points: Sequence[ArmPoint], serving: Sequence[ServingRate], baseline_arm: str, repeat_rel: float
) -> Iterator[BreakEven]:
    teacher = next((rate for rate in serving if rate.is_teacher), None)
    for point in points:
        path = [p for p in points if (p.name, p.student, p.seed) == (baseline_arm, point.student, point.seed)]
        if point.artifacts and path:
            same_budget, why_not = find_equal(point, path)
            if same_budget is not None:
                yield reuse_break_even(point, same_budget, repeat_rel=repeat_rel)
            elif why_not:
                yield no_equal_budget(point, why_not)
            yield matched_quality_break_even(point, path, repeat_rel=repeat_rel)
        student = _served(serving, point)
        if teacher is not None and student is not None:
            yield serving_break_even(point, teacher, student, repeat_rel=repeat_rel)


def _served(serving: Sequence[ServingRate], point: ArmPoint) -> ServingRate | None:
    """The student's serving rate; all arms of one student serve alike."""
    students = [rate for rate in serving if not rate.is_teacher]
    own = [rate for rate in students if rate.model == point.student]
    chosen = own or (students if len(students) == 1 else [])
    return chosen[0] if chosen else None
