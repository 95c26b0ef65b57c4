"""What an account holds beside its runs: a share of pre-training, a serving scenario, what to divide by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stillwatt.config.account_options import GivenDevice, Pretraining, Serving
from stillwatt.factors.catalog import Catalog
from stillwatt.factors.host import Host
from stillwatt.factors.serving import ASSUMED_RATIO, modelled_token
from stillwatt.impact.operational import NOTHING_RAN
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.energy import Energy, Total
from stillwatt.records.finding import TEACHER_YARDSTICK, Quality
from stillwatt.records.impact import LifeStage, Use
from stillwatt.records.lifecycle import Count, Held, Lack, Role
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind, StageStatus
from stillwatt.workflows.account_hardware import held_in
from stillwatt.workflows.account_served import Served, served_of
from stillwatt.workflows.publish import summarise_run

PRETRAINING, SCENARIO = "pre-training", "serving scenario"
"""What stands where a run's id stands."""
_PER_KILO = 1_000.0
_POINTS = 100.0
"""A point of quality is a hundredth of the teacher's score (method.md, eq. 78)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Uses and devices that no run measured, what they lack, and what was assumed."""

    uses: tuple[Use, ...] = ()
    held: tuple[Held, ...] = ()
    lacks: tuple[Lack, ...] = ()
    assumptions: tuple[str, ...] = ()
    served: Served | None = None
    """The ledger's student that a scenario serves; None where no stage of the ledger stands for it."""


def pretraining_use(given: Pretraining | None) -> Added:
    """The study's share of making the teacher (method.md, eq. 77)."""
    if given is None:
        lack = Lack(stage=LifeStage.TRAINING, reason=NOTHING_RAN[LifeStage.TRAINING])
        return Added(lacks=(lack,))
    energy = given.energy_j
    total = Total(
        value_j=energy.value * given.share,
        low_j=energy.low * given.share,
        high_j=energy.high * given.share,
        basis=Basis.ASSUMED,
        complete=True,
        boundary=given.boundary,
        share_by_basis=((Basis.ASSUMED, 1.0),),
    )
    said = f"pre-training: a share of {given.share:g} ({given.rule}) of what was given, as if it had run at this place"
    made = "pre-training: the devices that it held are not known"
    base = Lack(stage=LifeStage.TRAINING, reason="pre-training of what the students were made from is not in it")
    return Added(
        uses=(Use(run=PRETRAINING, stage=LifeStage.TRAINING, energy=total, meter="given for pre-training"),),
        lacks=(
            base,
            *(Lack(stage=stage, reason=made) for stage in (LifeStage.HARDWARE, LifeStage.END_OF_LIFE)),
        ),
        assumptions=(said,),
    )


def scenario_of(
    runs: Sequence[RunRecord],
    given: Serving | None,
    catalog: Catalog,
    devices: Sequence[GivenDevice],
    kept: frozenset[str] | None = None,
    machine: Host | None = None,
) -> Added:
    """What serving would take (method.md, eq. 77).

    Raises:
        StillwattError: the ledger has no serving stage of a student and nothing else says what a token takes.
    """
    if given is None:
        reason = "no serving scenario is given (--serving): what its users would take is left out"
        return Added(lacks=(Lack(stage=LifeStage.DEPLOYMENT, reason=reason),))
    is_ledgers = given.token_j is None and given.model is None
    found = served_of(runs, kept) if is_ledgers else Served()
    served, left_out = found.stages, found.left_out
    meter, token = _token(given, [stage for _, stage in served])
    scaled = replace(
        token,
        value_j=token.value_j * given.tokens,
        low_j=token.low_j * given.tokens,
        high_j=token.high_j * given.tokens,
        basis=worst_basis([token.basis, Basis.MODELLED]),
    )
    use = Use(run=SCENARIO, stage=LifeStage.DEPLOYMENT, energy=scaled, meter=meter)
    said = f"{given.tokens_per_day:g} tokens a day for {given.days:g} days at {token.value_j:.4g} J a token, by {meter}"
    if found.why:
        said += f"; {found.why}"
    if left_out:
        said += f"; without what cannot be added to it: {', '.join(left_out)}"
    hardware = "the serving scenario: the devices that it holds are not known"
    lacks = tuple(Lack(stage=stage, reason=hardware) for stage in (LifeStage.HARDWARE, LifeStage.END_OF_LIFE))
    if not is_ledgers:
        return Added(uses=(use,), lacks=lacks, assumptions=(said,))
    held = tuple(_held(served, given, catalog, devices, machine))
    roles = {one.role for one in held}
    if held and Role.HOST not in roles:
        said_of_host = "the serving scenario: the host that it holds is not known"
        lacks = tuple(replace(lack, reason=said_of_host) for lack in lacks)
    return Added(uses=(use,), held=held, lacks=() if Role.HOST in roles else lacks, assumptions=(said,), served=found)


def counts_of(
    runs: Sequence[RunRecord],
    kept: frozenset[str] | None,
    serving: Serving | None,
    request_tokens: float | None,
    runs_dir: Path,
) -> tuple[Count, ...]:
    """What impacts are divided by (method.md, eq. 78)."""
    trained = [stage for run in runs for stage in run.stages if _is_trained(stage, kept)]
    return (
        Count(unit="run", count=float(len(runs)), means="runs of this account"),
        _students(runs, kept),
        _sum("token", "tokens", trained, "tokens through students in training", "no student was trained"),
        _sum(
            "accepted sample",
            "accepted_samples",
            [s for run in runs for s in run.stages if s.kind is StageKind.TEACHER_GENERATE and _ended(s)],
            "texts of the teacher that were kept",
            "the teacher wrote no text",
        ),
        _points(runs, kept, runs_dir),
        *_requests(serving, request_tokens),
    )


def _token(given: Serving, served: Sequence[StageRecord]) -> tuple[str, Total]:
    """What one token takes, and who says so."""
    if given.token_j is not None:
        one = given.token_j
        total = Total(
            value_j=one.value,
            low_j=one.low,
            high_j=one.high,
            basis=Basis.ASSUMED,
            complete=True,
            boundary=given.boundary,
            share_by_basis=((Basis.ASSUMED, 1.0),),
        )
        return "given for serving", total
    if given.model is not None:
        return f"ecologits (without a range of its own: a factor of {ASSUMED_RATIO:g})", modelled_token(*given.model)
    return _ledgers_token(served)


def _ledgers_token(served: Sequence[StageRecord]) -> tuple[str, Total]:
    """The mean of the ledger's serving stages of students."""
    known = [(stage.gross, stage.workload["generated_tokens"]) for stage in served if isinstance(stage.gross, Total)]
    tokens = math.fsum(count for _, count in known)
    first = known[0][0]
    complete = all(one.complete for one, _ in known)
    total = replace(
        first,
        value_j=math.fsum(one.value_j for one, _ in known) / tokens,
        low_j=math.fsum(one.low_j for one, _ in known) / tokens,
        high_j=math.fsum(one.high_j for one, _ in known) / tokens,
        complete=complete,
        absent=() if complete else tuple(dict.fromkeys(part for one, _ in known for part in one.absent)),
    )
    drivers = {part.driver for stage in served for part in stage.energies if isinstance(part, Energy)}
    return "+".join(sorted(drivers)) or "unknown", total


def _held(
    served: Sequence[tuple[RunRecord, StageRecord]],
    given: Serving,
    catalog: Catalog,
    devices: Sequence[GivenDevice],
    machine: Host | None,
) -> list[Held]:
    """Boards and host of the ledger's serving stages, for as long as the scenario's tokens take at their pace."""
    tokens = math.fsum(stage.workload.get("generated_tokens", 0.0) for _, stage in served)
    if tokens <= 0.0:
        return []
    time_s = given.tokens * math.fsum(stage.duration_s for _, stage in served) / tokens
    caution = "the scenario holds the devices of the ledger's serving stage, at that stage's pace"
    held = held_in(served[0][0], catalog, time_s, given=devices, machine=machine)
    return [replace(one, run=SCENARIO, cautions=(*one.cautions, caution)) for one in held]


def _students(runs: Sequence[RunRecord], kept: frozenset[str] | None) -> Count:
    means = "students that were trained to their end"
    arms = {
        (run.run_id, stage.labels.get("arm", stage.name))
        for run in runs
        for stage in run.stages
        if _is_trained(stage, kept)
    }
    if not arms:
        return Count(unit="student", count=None, reason="no student was trained", means=means)
    return Count(unit="student", count=float(len(arms)), means=means)


def _sum(unit: str, name: str, stages: Sequence[StageRecord], means: str, none: str) -> Count:
    counts = [stage.workload.get(name) for stage in stages]
    known = [count for count in counts if count is not None]
    if not counts:
        return Count(unit=unit, count=None, reason=none, means=means)
    if len(known) < len(counts) or math.fsum(known) <= 0.0:
        return Count(unit=unit, count=None, reason=f"not every stage says how many {name} it had", means=means)
    return Count(unit=unit, count=math.fsum(known), means=means)


def _points(runs: Sequence[RunRecord], kept: frozenset[str] | None, runs_dir: Path) -> Count:
    studies = [summarise_run(run, runs_dir=runs_dir) for run in runs]
    found = [(study, point) for study in studies for point in study.final_points if kept is None or point.arm in kept]
    points = [point for _, point in found]
    yardsticks = {study.yardstick for study, _ in found} or {TEACHER_YARDSTICK}
    means = f"hundredths of the score of {' or '.join(sorted(yardsticks))} that the student reaches (method eq. 22)"
    if not points or len({(study.run_id, point.student, point.name) for study, point in found}) > 1:
        why = "no student was evaluated"
        if points:
            arms = ", ".join(sorted({point.arm for point in points}))
            cure = "name one with --student" if len(studies) == 1 else "give one run, and name one arm with --student"
            why = f"{len(points)} students were evaluated ({arms}), {cure}"
        return Count(unit="point of quality", count=None, reason=why, means=means)
    qualities = [point.quality for point in points]
    lacking = [quality.reason for quality in qualities if not isinstance(quality, Quality)]
    if lacking:
        return Count(unit="point of quality", count=None, reason=lacking[0], means=means)
    reached = math.fsum(quality.value for quality in qualities if isinstance(quality, Quality))
    if reached <= 0.0:
        return Count(unit="point of quality", count=None, reason="the student reaches none", means=means)
    if len(points) > 1:
        means += f", added up over the {len(points)} seeds that are kept"
    return Count(unit="point of quality", count=_POINTS * reached, means=means)


def _requests(serving: Serving | None, request_tokens: float | None) -> tuple[Count, ...]:
    means = "thousands of requests of the serving scenario"
    both: tuple[tuple[str, tuple[LifeStage, ...]], ...] = (
        ("1,000 requests", ()),
        ("1,000 requests, deployment alone", (LifeStage.DEPLOYMENT,)),
    )
    if serving is None or request_tokens is None:
        why = "no serving scenario is given" if serving is None else "--request-tokens says how long a request is"
        return tuple(Count(unit=unit, count=None, reason=why, means=means, stages=stages) for unit, stages in both)
    count = serving.tokens / request_tokens / _PER_KILO
    return tuple(Count(unit=unit, count=count, means=means, stages=stages) for unit, stages in both)


def _is_trained(stage: StageRecord, kept: frozenset[str] | None) -> bool:
    return stage.kind is StageKind.STUDENT_TRAIN and _ended(stage) and (kept is None or stage.labels.get("arm") in kept)


def _ended(stage: StageRecord) -> bool:
    return stage.status is StageStatus.ENDED
