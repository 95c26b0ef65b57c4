"""Which stage of a life cycle a stage of a pipeline is booked in (docs/method.md, eq. 70 and its table).

Every joule of a run is booked once: a stage that holds others is booked without those that are booked elsewhere, and
what was used outside any stage is booked too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.records.energy import Energy, NoTotal, Total
from stillwatt.records.impact import LifeStage, Use
from stillwatt.records.run import RunRecord, StageRecord, fates
from stillwatt.records.window import StageKind, StageStatus

BOOKED: Mapping[StageKind, tuple[LifeStage, str]] = {
    StageKind.PREPARE_DATA: (LifeStage.DATA, "text is fetched, cleaned and cut for the student"),
    StageKind.TEACHER_GENERATE: (LifeStage.DATA, "the teacher writes what the student learns from"),
    StageKind.TEACHER_LOGITS: (LifeStage.DATA, "the teacher's distributions are what the student learns from"),
    StageKind.STUDENT_TRAIN: (LifeStage.POST_TRAINING, "a model that was trained before is adapted"),
    StageKind.EVALUATE: (LifeStage.EXPERIMENTATION, "it makes nothing that is used later: it is done to choose"),
    StageKind.IDLE_BASELINE: (LifeStage.EXPERIMENTATION, "the machine waits so that something can be known of it"),
    StageKind.SERVE: (LifeStage.DEPLOYMENT, "a model answers"),
    StageKind.OTHER: (LifeStage.EXPERIMENTATION, "nobody said what it was for; --stage NAME=STAGE says it"),
}
"""Where each kind of stage is booked, and why."""
DOWNLOADS = "fetch_models"
"""The stage that fetches models, which is of the kind `other` and belongs to the data."""
FROM_SCRATCH = frozenset({"tiny-random"})
"""Sources of students that nobody trained before: their training is `training` and not `post_training`."""
_SERVED_TO_KNOW = "it was served to know what a token takes; the scenario is the deployment"
OUTSIDE = LifeStage.EXPERIMENTATION
"""Where energy outside any stage is booked: loading and waiting that no stage asked for."""
_LOST = frozenset({StageStatus.FAILED, StageStatus.RECOVERED})
_PART = "a part of the stage that it lies in"
_REUSED_FROM = "reused_from"
_TEACHER = (StageKind.TEACHER_GENERATE, StageKind.TEACHER_LOGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A stage with where it is booked and why."""

    stage: StageRecord
    life: LifeStage
    why: str


class Mapper:
    """Books one run's stages.

    Args:
        run: the run.
        named: where stages of these names are booked, whatever their kind: the user's word.
        kept: the arms whose students are the product, one for each seed; what others alone needed was tried. All are
            products where None.
        has_scenario: whether a serving scenario stands for the deployment: then the ledger's own serving was a trial.
    """

    def __init__(
        self,
        run: RunRecord,
        *,
        named: Mapping[str, LifeStage] | None = None,
        kept: frozenset[str] | None = None,
        has_scenario: bool = False,
    ) -> None:
        self._has_scenario = has_scenario
        self._run, self._named, self._kept = run, dict(named or {}), kept
        self._children: dict[str | None, list[StageRecord]] = {}
        self._fate = fates(run.stages)
        for stage in run.stages:
            self._children.setdefault(stage.parent_id, []).append(stage)
        self._sources = {
            str(student.get("name")): str(student.get("source")) for student in run.settings.get("students", ())
        }
        trained = [
            stage for stage in run.stages if stage.kind is StageKind.STUDENT_TRAIN and _arm(stage) in (kept or ())
        ]
        self._wanted = {stage.labels.get(name) for stage in trained for name in ("artifact", "text_artifact")}

    def booked(self) -> tuple[Booked, ...]:
        """Every stage of the run, those inside others too, in the journal's order."""
        return tuple(Booked(stage=stage, life=life, why=why) for stage, life, why in self._walk(None, None, None))

    def uses(self) -> tuple[Use, ...]:
        """The run's energy by life-cycle stage; together they are the run's total."""
        life = {booked.stage.stage_id: booked.life for booked in self.booked()}
        whole = self._run.complete
        uses = [use for root in self._children.get(None, []) for use in self._uses(root, life)]
        loose = self._run.unallocated
        if isinstance(loose, NoTotal) or loose.value_j > 0.0:
            parts = [part for stage in self._run.stages for part in stage.energies]
            uses.append(Use(run=self._run.run_id, stage=OUTSIDE, energy=loose, meter=_meter(parts)))
        return tuple(use if whole else _unsure(use) for use in uses)

    def _walk(
        self, parent: str | None, around: LifeStage | None, lost: tuple[LifeStage, str] | None
    ) -> Iterator[tuple[StageRecord, LifeStage, str]]:
        """The stages inside that one, which is booked `around`; where it was `lost` or only tried, so were they."""
        for stage in self._children.get(parent, []):
            place = self._place(stage)
            if stage.name not in self._named:
                is_part = stage.kind is StageKind.OTHER and self._fate[stage.stage_id] not in _LOST
                place = lost or ((around, _PART) if is_part and around else place)
            yield stage, *place
            went = self._fate[stage.stage_id] in _LOST or self._was_only_tried(stage)
            is_lost = lost or (place if went and place[0] is LifeStage.EXPERIMENTATION else None)
            yield from self._walk(stage.stage_id, place[0], is_lost)

    def _place(self, stage: StageRecord) -> tuple[LifeStage, str]:
        if stage.name in self._named:
            return self._named[stage.name], "the user says so"
        fate = self._fate[stage.stage_id]
        if fate in _LOST and not self._did_its_work(stage):
            whose = "" if fate is stage.status else ", on the launch's first rank"
            return LifeStage.EXPERIMENTATION, f"an attempt that {fate.value}{whose}"
        if self._was_only_tried(stage):
            return LifeStage.EXPERIMENTATION, f"tried beside {_said(self._kept or frozenset())} kept"
        if stage.kind is StageKind.SERVE and self._has_scenario:
            return LifeStage.EXPERIMENTATION, _SERVED_TO_KNOW
        if stage.name == DOWNLOADS:
            return LifeStage.DATA, "models are fetched"
        if stage.kind is StageKind.STUDENT_TRAIN and self._sources.get(stage.labels.get("student", "")) in FROM_SCRATCH:
            return LifeStage.TRAINING, "the student begins with random weights"
        return BOOKED[stage.kind]

    def _did_its_work(self, stage: StageRecord) -> bool:
        """Whether a later attempt found what this one had finished before it was cut off."""
        artifact = stage.labels.get("artifact")
        return any(
            other.labels.get(_REUSED_FROM) == self._run.run_id and other.labels.get("artifact") == artifact
            for other in self._run.stages
            if artifact
        )

    def _was_only_tried(self, stage: StageRecord) -> bool:
        if self._kept is None:
            return False
        if stage.kind in _TEACHER and "artifact" in stage.labels and "arm" not in stage.labels:
            return stage.labels["artifact"] not in self._wanted
        if stage.kind is StageKind.SERVE:  # students of all arms are served alike, under no arm's name
            return _arm(stage) not in {"", *self._kept}
        return stage.kind is StageKind.STUDENT_TRAIN and _arm(stage) not in self._kept

    def _uses(self, stage: StageRecord, life: Mapping[str, LifeStage]) -> Iterator[Use]:
        """A stage without those inside it that are booked elsewhere, then these."""
        here = life[stage.stage_id]
        if _REUSED_FROM in stage.labels and stage.labels[_REUSED_FROM] != self._run.run_id:
            yield self._made_elsewhere(stage, here)
        inner = [use for child in self._children.get(stage.stage_id, []) for use in self._uses(child, life)]
        away = [use for use in inner if use.stage is not here and isinstance(use.energy, Total)]
        rest = _remainder(stage.gross, [use.energy for use in away if isinstance(use.energy, Total)])
        if rest is None:  # what lies inside is more than the whole, by readings' noise: it is booked in one place
            rest, away = stage.gross, []
        yield Use(run=self._run.run_id, stage=here, energy=rest, meter=_meter(stage.energies))
        yield from away
        yield from (
            use for use in inner if isinstance(use.energy, NoTotal) and (use.stage is not here or not use.meter)
        )

    def _made_elsewhere(self, stage: StageRecord, here: LifeStage) -> Use:
        maker, artifact = stage.labels[_REUSED_FROM], stage.labels.get("artifact", stage.name)
        reason = f"{artifact} was made by run {maker}: its energy is there, and counts where that run is named too"
        return Use(run=self._run.run_id, stage=here, energy=NoTotal(reason=reason), meter="")


def _said(kept: frozenset[str]) -> str:
    """Who was kept, with its verb.

    >>> _said(frozenset({"kd.s2", "kd.s1"}))
    'the arms kd.s1, kd.s2, which were'
    """
    names = ", ".join(sorted(kept))
    return f"the arm {names}, which was" if len(kept) == 1 else f"the arms {names}, which were"


def made_elsewhere(run: RunRecord) -> frozenset[str]:
    """The runs that made what this one used again."""
    makers = {stage.labels[_REUSED_FROM] for stage in run.stages if _REUSED_FROM in stage.labels}
    return frozenset(makers - {run.run_id})


def without_makers(uses: Sequence[Use], runs: Sequence[RunRecord]) -> tuple[Use, ...]:
    """Uses without the pointers to runs that are in the account themselves."""
    pointers = [f"made by run {run.run_id}:" for run in runs]
    return tuple(
        use
        for use in uses
        if not (isinstance(use.energy, NoTotal) and any(pointer in use.energy.reason for pointer in pointers))
    )


def _remainder(gross: Total | NoTotal, away: Sequence[Total]) -> Total | NoTotal | None:
    """A total without parts of it, at the same relative interval; None where the parts are more than the whole."""
    if isinstance(gross, NoTotal) or not away:
        return gross
    value_j = gross.value_j - sum(total.value_j for total in away)
    if value_j < 0.0 or gross.value_j <= 0.0:
        return None
    scale = value_j / gross.value_j
    return replace(gross, value_j=value_j, low_j=gross.low_j * scale, high_j=gross.high_j * scale)


def _unsure(use: Use) -> Use:
    """A use of a run whose record is not whole: it may have been more."""
    if isinstance(use.energy, NoTotal):
        return use
    lost = use.energy.absent or ("what the run's record lacks",)
    return replace(use, energy=replace(use.energy, complete=False, absent=lost))


def _meter(parts: Sequence[object]) -> str:
    """What read them: errors of one driver move together."""
    return "+".join(sorted({part.driver for part in parts if isinstance(part, Energy)})) or "unknown"


def _arm(stage: StageRecord) -> str:
    return stage.labels.get("arm", "")


def mapping_markdown() -> Iterator[str]:
    """The table for the method's page, one line a kind."""
    yield "| stage of a pipeline | booked in | because |"
    yield "|---|---|---|"
    yield "| an attempt that failed or was lost | experimentation | nothing was made of it |"
    yield "| what another arm than the kept one needed | experimentation | it was tried |"
    for kind, (life, why) in BOOKED.items():
        yield f"| {kind.value} | {life.value} | {why} |"
        if kind is StageKind.SERVE:
            yield f"| serve, beside a serving scenario | experimentation | {_SERVED_TO_KNOW} |"
    yield f"| `{DOWNLOADS}` | data | models are fetched |"
    yield f"| other, inside another stage | where that one is | {_PART}, such as a student writing what it trains on |"
    yield "| student_train of a student with random weights | training | nobody trained it before |"
    yield f"| outside any stage | {OUTSIDE.value} | loading and waiting that no stage asked for |"
