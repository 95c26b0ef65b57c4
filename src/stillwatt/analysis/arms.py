"""From a run's stages to its arms: what each checkpoint of each arm used, and how good it was.

E_prepare   the data preparation
E_teacher   the arm's artefacts, pro rata to the share of them that was used at the checkpoint, and what ran beside
            its training
E_student   the training increments up to the checkpoint
E_other     E_prepare and the checkpoint's own evaluation
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.analysis.allocation import choose_allocations, teacher_share, token_shares
from stillwatt.analysis.arm_stages import adapter_size, maker_cards
from stillwatt.analysis.bills import Weights, add, price
from stillwatt.analysis.bookings import TEACHER_KINDS, Bookings, artifact_of, artifacts_of, weights_of
from stillwatt.analysis.quality import Yardstick, all_scores, relative_quality, unread_scores, unsure_scores
from stillwatt.analysis.stopped import borne_share, ending_of, find_stop, trained_share
from stillwatt.analysis.words import listed
from stillwatt.records.allocation import Allocation
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import AllocatedEnergy, ArmPoint, ArtifactUse, Bill
from stillwatt.records.missing import MissingArm
from stillwatt.records.run import StageRecord
from stillwatt.records.window import ONLINE_TEACHER, StageKind

REFERENCE_ARMS = frozenset({"teacher", "start"})
EPOCHS = "epochs"
"""The result of a training that says how often it goes over its text, where that is more than once."""
_WHOLE_BUDGET = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """One arm's stages."""

    arm: str
    trained: tuple[StageRecord, ...]
    """Ended training increments, in journal order."""
    checkpoints: tuple[str, ...]
    """In order of budget."""
    unfinished: tuple[str, ...]
    """Checkpoints whose training was begun and never ended."""

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The artefacts the arm trains on."""
        return tuple(sorted({name for stage in self.trained for name in artifacts_of(stage)}))

    @property
    def epochs(self) -> int:
        """How often the whole budget goes over its text."""
        return max((int(stage.results.get(EPOCHS) or 1) for stage in self.trained), default=1)

    def increments(self, checkpoint: str) -> list[StageRecord]:
        """Training up to and including that checkpoint."""
        return [stage for stage in self.trained if budget_share(stage) <= float(checkpoint)]


def checkpoint_of(stage: StageRecord) -> str:
    """A stage's checkpoint; a stage without one stands for the whole budget."""
    return stage.labels.get("checkpoint", _WHOLE_BUDGET)


def budget_share(stage: StageRecord) -> float:
    """The share of the token budget used once the stage is over."""
    return float(checkpoint_of(stage))


def find_problems(bookings: Bookings, missing: Sequence[MissingArm] = ()) -> tuple[str, ...]:
    """What keeps a stage out of the arms, or a score out of the quality."""
    found = [
        f"stage {stage.name} has a checkpoint {checkpoint_of(stage)!r} that is no share of a budget: it is in no arm"
        for stage in bookings.ended
        if "arm" in stage.labels and not _has_share(stage)
    ]
    training = [stage for stage in bookings.ended if stage.kind is StageKind.STUDENT_TRAIN]
    used = {name for stage in training for name in artifacts_of(stage)}
    found += [
        f"teacher stage {stage.name} {_unused(stage, bookings, missing)}: it is in no arm's bill"
        for stage in bookings.ended
        if stage.kind in TEACHER_KINDS and artifact_of(stage) not in used
    ]
    found += [
        f"stage {stage.name} has {score}: it is in no quality"
        for stage in bookings.ended
        if stage.kind is StageKind.EVALUATE
        for score in unread_scores(stage.results)
    ]
    return (*found, *_without_error(bookings))


def _without_error(bookings: Bookings) -> Iterator[str]:
    """Tasks without a standard error, together for each reason."""
    scored = [stage.results for stage in bookings.ended if stage.kind is StageKind.EVALUATE]
    reasons: dict[str, list[str]] = {}
    for task, why in dict.fromkeys(one for results in scored for one in unsure_scores(results)):
        reasons.setdefault(why, []).append(task)
    for why, tasks in reasons.items():
        yield f"{', '.join(tasks)}: no standard error, and so none of a quality that counts it: {why}"


def _unused(stage: StageRecord, bookings: Bookings, missing: Sequence[MissingArm]) -> str:
    """Why nobody is billed for what a teacher stage made."""
    wanted = [lost.labels.get("arm", "") for lost in bookings.lost if artifact_of(stage) in artifacts_of(lost)]
    known = {entry.arm for entry in missing}
    if lacking := [arm for arm in dict.fromkeys(wanted) if arm in known]:
        return f"made what {listed(lacking)} trains on, of which no checkpoint was reached"
    if missing:
        names, verb = listed(entry.arm for entry in missing), "is" if len(missing) == 1 else "are"
        return f"made no artefact that an arm trained here uses, and {names} {verb} missing"
    return "made no artefact that an arm of this run trains on"


def build_points(
    bookings: Bookings, yardstick: Yardstick, reuse: Sequence[int]
) -> tuple[tuple[ArmPoint, ...], tuple[Allocation, ...]]:
    """Every arm at every checkpoint, and the allocations its bills are given under (method.md, eq. 20).

    Args:
        bookings: The run's stages, sorted.
        yardstick: What quality is relative to.
        reuse: Hypothetical numbers of students that share an artefact.
    """
    arms = _find_arms(bookings)
    users = {
        artifact: [arm for arm in arms if artifact in arm.artifacts]
        for artifact in sorted({name for arm in arms for name in arm.artifacts})
    }
    allocations = choose_allocations(reuse, [len(using) for using in users.values()])
    builder = _Builder(bookings=bookings, users=users, yardstick=yardstick, allocations=allocations)
    points = [builder.point(arm, checkpoint) for arm in arms for checkpoint in arm.checkpoints]
    return tuple(points), allocations


def _has_share(stage: StageRecord) -> bool:
    try:
        return 0.0 < budget_share(stage) <= 1.0
    except ValueError:
        return False


def _find_arms(bookings: Bookings) -> list[_Arm]:
    trainings: dict[str, list[StageRecord]] = {}
    for stage in bookings.ended:
        arm = stage.labels.get("arm", "")
        if stage.kind is StageKind.STUDENT_TRAIN and arm and _has_share(stage):
            trainings.setdefault(arm, []).append(stage)
    arms = []
    for arm, stages in trainings.items():
        done = {checkpoint_of(stage) for stage in stages}
        begun = {
            checkpoint_of(stage)
            for stage in bookings.lost
            if stage.labels.get("arm") == arm and stage.kind is StageKind.STUDENT_TRAIN and _has_share(stage)
        }
        arms.append(
            _Arm(
                arm=arm,
                trained=tuple(stages),
                checkpoints=tuple(sorted(done, key=float)),
                unfinished=tuple(sorted(begun - done, key=float)),
            )
        )
    return arms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """What all points of a run have in common."""

    bookings: Bookings
    users: Mapping[str, Sequence[_Arm]]
    yardstick: Yardstick
    allocations: tuple[Allocation, ...]

    def point(self, arm: _Arm, checkpoint: str) -> ArmPoint:
        """One arm at one checkpoint."""
        increments = arm.increments(checkpoint)
        last = increments[-1].labels
        evaluations = self._evaluations(arm.arm, checkpoint)
        prepare = weights_of(stage for stage in self.bookings.ended if stage.kind is StageKind.PREPARE_DATA)
        other = add(prepare, weights_of(evaluations))
        student = self._student(arm, checkpoint, increments)
        ending = ending_of([stage for stage in increments if checkpoint_of(stage) == checkpoint])
        uses = self._uses(arm, borne_share(ending, float(checkpoint)))
        online = self._online(uses, float(checkpoint))
        lost = weights_of(stage for stage in self.bookings.lost if stage.labels.get("arm") == arm.arm)
        return ArmPoint(
            arm=arm.arm,
            name=_plain_name(arm.arm, last),
            method=last.get("method", ""),
            student=last.get("student", ""),
            seed=last.get("seed", ""),
            checkpoint=checkpoint,
            budget_share=trained_share(ending, float(checkpoint)),
            is_final=checkpoint == arm.checkpoints[-1],
            tokens=_count(increments, "tokens"),
            supervised_tokens=_count(increments, "supervised_tokens"),
            prepare_energy=self._price(prepare),
            teacher_energy=self._price(_join(self._artifacts(uses, None), online)),
            artifact_energy=self._price(self._artifacts(uses, None)),
            online_energy=self._price(online),
            student_energy=self._price(student),
            evaluation_energy=self._price(weights_of(evaluations)),
            other_energy=self._price(other),
            experimentation_energy=self._price(lost),
            artifacts=uses,
            allocated=self._allocated(uses, (online, student, other)),
            scores=all_scores(evaluations),
            quality=relative_quality(all_scores(evaluations), self.yardstick),
            adapters=adapter_size(increments),
            steps=_count(increments, "steps"),
            stop=find_stop(ending),
            teacher_cards=maker_cards(self.bookings, arm.artifacts),
        )

    def _allocated(self, uses: Sequence[ArtifactUse], own: Sequence[Weights | NoTotal]) -> tuple[AllocatedEnergy, ...]:
        """One student's bill under each allocation: its share of the artefacts, and all that is its own."""
        return tuple(
            AllocatedEnergy(allocation=rule, energy=self._price(_join(self._artifacts(uses, rule), *own)))
            for rule in self.allocations
        )

    def _price(self, weights: Weights | NoTotal) -> Bill | NoTotal:
        return weights if isinstance(weights, NoTotal) else price(self.bookings.book, weights)

    def _evaluations(self, arm: str, checkpoint: str) -> list[StageRecord]:
        return [
            stage
            for stage in self.bookings.ended
            if stage.kind is StageKind.EVALUATE
            and stage.labels.get("arm") == arm
            and checkpoint_of(stage) == checkpoint
        ]

    def _student(self, arm: _Arm, checkpoint: str, increments: Sequence[StageRecord]) -> Weights | NoTotal:
        holes = [name for name in arm.unfinished if float(name) <= float(checkpoint)]
        if holes:
            return NoTotal(reason=f"the training of {arm.arm} up to {', '.join(holes)} was never finished")
        ids = {stage.stage_id for stage in increments}
        beside = [stage for stage in self.bookings.ended if stage.parent_id in ids and stage.kind in TEACHER_KINDS]
        # a stage's energy holds that of the stages inside it; a teacher's goes on the teacher's bill
        return add(weights_of(increments), weights_of(beside, -1.0))

    def _uses(self, arm: _Arm, share: float) -> tuple[ArtifactUse, ...]:
        return tuple(self._use(artifact, arm, share) for artifact in arm.artifacts)

    def _use(self, artifact: str, arm: _Arm, share: float) -> ArtifactUse:
        using = self.users[artifact]
        shares = token_shares({user.arm: _count(user.trained, "tokens") for user in using})
        bill = self.bookings.artifacts.get(artifact)
        return ArtifactUse(
            artifact=artifact,
            kind=bill.kind if bill else "",
            consumers=len(using),
            budget_share=share,
            used_share=min(1.0, share * arm.epochs),
            token_share=shares[arm.arm] if shares else None,
            reused_from=bill.reused_from if bill else None,
        )

    def _artifacts(self, uses: Sequence[ArtifactUse], rule: Allocation | None) -> Weights | NoTotal:
        """The stages that made artefacts in one student's bill; without a rule, all of them."""
        parts: list[Weights] = []
        for use in uses:
            if use.kind == ONLINE_TEACHER:
                continue
            share = 1.0 if rule is None else teacher_share(rule, use.token_share)
            if share == 0.0:
                continue
            if share is None:
                return NoTotal(reason=f"the tokens taken from {use.artifact} were not counted for every arm")
            bill = self.bookings.artifacts.get(use.artifact)
            if bill is None:
                return NoTotal(reason=f"no stage of this run made artefact {use.artifact}, or says which run did")
            if isinstance(bill.weights, NoTotal):
                return bill.weights
            parts.append(add(bill.weights, factor=share * use.used_share))
        return add(*parts)

    def _online(self, uses: Sequence[ArtifactUse], share: float) -> Weights:
        """A teacher that ran beside the training: all of it up to the checkpoint, under every rule (eq. 143)."""
        own = {use.artifact for use in uses if use.kind == ONLINE_TEACHER}
        return weights_of(
            stage
            for stage in self.bookings.ended
            if stage.kind in TEACHER_KINDS and artifact_of(stage) in own and budget_share(stage) <= share
        )


def _join(*parts: Weights | NoTotal) -> Weights | NoTotal:
    known: list[Weights] = []
    for part in parts:
        if isinstance(part, NoTotal):
            return part
        known.append(part)
    return add(*known)


def _count(stages: Sequence[StageRecord], name: str) -> float | None:
    """Sum of one count over stages; None where a stage did not count it."""
    counts = [stage.workload.get(name) for stage in stages]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _plain_name(arm: str, labels: Mapping[str, str]) -> str:
    """The arm's name without the student before it and the seed behind it.

    >>> _plain_name("small.kd.s2", {"student": "small", "seed": "2"})
    'kd'
    """
    name = arm.removeprefix(f"{labels['student']}.") if labels.get("student") else arm
    return re.sub(rf"\.s{re.escape(labels['seed'])}$", "", name) if labels.get("seed") else name
