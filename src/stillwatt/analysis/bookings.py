"""Which stages of a run belong to what: ended attempts, lost ones, teacher artefacts with their bills.

A book maps keys to stages. A run's own stages stand under their stage id; a stage of another run, whose artefact
this run used again, stands under `<run id>/<stage id>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stillwatt.analysis.bills import Weights
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import TAKEN_OVER, RunRecord, StageRecord, fates, made_with
from stillwatt.records.window import StageKind, StageStatus

TEACHER_KINDS = frozenset({StageKind.TEACHER_LOGITS, StageKind.TEACHER_GENERATE})
REUSED_FROM = "reused_from"
"""The label of a stage that made nothing and names the run that did."""
_LOST = frozenset({StageStatus.FAILED, StageStatus.RECOVERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactBill:
    """What making a teacher artefact took, and where that is booked."""

    artifact: str
    kind: str
    weights: Weights | NoTotal
    reused_from: str | None


@dataclass(frozen=True, slots=True)
class Bookings:
    """A run's stages, sorted."""

    book: Mapping[str, StageRecord]
    ended: tuple[StageRecord, ...]
    """Finished attempts in journal order, without those inside a lost one and those that only point elsewhere."""
    lost: tuple[StageRecord, ...]
    """Failed and recovered attempts; one inside another is part of the outer one."""
    artifacts: Mapping[str, ArtifactBill]
    problems: tuple[str, ...] = field(default=())


def sort_stages(run: RunRecord, others: Sequence[RunRecord] = ()) -> Bookings:
    """Sort a run's stages for its account.

    Args:
        run: The run.
        others: Earlier runs that may have made the artefacts this one used.
    """
    parents = {stage.stage_id: stage.parent_id for stage in run.stages}
    pointed = {_pointed_stage(stage) for stage in run.stages if REUSED_FROM in stage.labels}
    # an attempt that was cut off after its artefact was complete, or whose work a later one took over, did its work:
    # it is no experiment
    kept = {stage_id for run_id, stage_id in pointed if run_id == run.run_id}
    fate = fates(run.stages)
    kept |= {s.stage_id for s in run.stages if s.status is StageStatus.ENDED and s.workload.get(TAKEN_OVER)}
    kept_ids = {each.stage_id for stage_id in kept for each in made_with(run.stages, stage_id)}
    lost_ids = {stage.stage_id for stage in run.stages if fate[stage.stage_id] in _LOST} - kept_ids
    is_inside_lost = {stage.stage_id: _has_ancestor(stage, parents, lost_ids) for stage in run.stages}
    whole = [stage for stage in run.stages if not is_inside_lost[stage.stage_id]]
    pointers = [stage for stage in whole if REUSED_FROM in stage.labels]
    done = [stage for stage in whole if fate[stage.stage_id] is StageStatus.ENDED or stage.stage_id in kept_ids]
    ended = [stage for stage in done if REUSED_FROM not in stage.labels]
    book = {stage.stage_id: stage for stage in _as_summed(run.stages, run)}
    artifacts = _own_artifacts(ended)
    for pointer in pointers:
        makers = _find_makers(pointer, others, run)
        book |= makers
        artifacts.setdefault(artifact_of(pointer), _pointed_bill(pointer, makers))
    running = [stage.name for stage in whole if stage.status is StageStatus.RUNNING]
    return Bookings(
        book=book,
        ended=tuple(ended),
        lost=tuple(stage for stage in whole if stage.stage_id in lost_ids),
        artifacts=artifacts,
        problems=tuple(f"stage {name} is still running: it is in the total, in no arm" for name in running),
    )


def _as_summed(stages: Iterable[StageRecord], run: RunRecord) -> Iterator[StageRecord]:
    """Stages as a run's bills see them: one that is summed at another boundary than its total has no energy in them."""
    for stage in stages:
        if isinstance(stage.gross, Total) and isinstance(run.total, Total):
            own, wanted = stage.gross.boundary, run.total.boundary
            if own is not wanted:
                reason = f"it is summed at the boundary {own.value} and run {run.run_id} at {wanted.value}"
                yield replace(stage, gross=NoTotal(reason=reason), energies=())
                continue
        yield stage


def artifact_of(stage: StageRecord) -> str:
    """The artefact a stage makes or uses, empty where it names none."""
    return stage.labels.get("artifact", "")


def artifacts_of(stage: StageRecord) -> set[str]:
    """The artefacts a training uses: one with a teacher beside it may train on text the teacher wrote as well."""
    return {artifact_of(stage), stage.labels.get("text_artifact", "")} - {""}


def weights_of(stages: Iterable[StageRecord], factor: float = 1.0) -> dict[str, float]:
    """Each of the stages, that many times."""
    return {stage.stage_id: factor for stage in stages}


def _has_ancestor(stage: StageRecord, parents: Mapping[str, str | None], wanted: set[str]) -> bool:
    parent = stage.parent_id
    while parent is not None:
        if parent in wanted:
            return True
        parent = parents.get(parent)
    return False


def _own_artifacts(ended: Sequence[StageRecord]) -> dict[str, ArtifactBill]:
    makers: dict[str, list[StageRecord]] = {}
    for stage in ended:
        if stage.kind in TEACHER_KINDS and artifact_of(stage):
            makers.setdefault(artifact_of(stage), []).append(stage)
    return {
        artifact: ArtifactBill(
            artifact=artifact,
            kind=stages[0].labels.get("artifact_kind", ""),
            weights=weights_of(stages),
            reused_from=None,
        )
        for artifact, stages in makers.items()
    }


def _pointed_stage(pointer: StageRecord) -> tuple[str, str]:
    """Run and stage where a reused artefact's energy is booked."""
    run_id = pointer.results.get("energy_run_id", pointer.labels[REUSED_FROM])
    return str(run_id), str(pointer.results.get("energy_stage_id", ""))


def _find_makers(pointer: StageRecord, others: Sequence[RunRecord], run: RunRecord) -> dict[str, StageRecord]:
    """The stages that made a reused artefact, by their keys; several where ranks of a launch made it together."""
    run_id, stage_id = _pointed_stage(pointer)
    for other in others:
        if other.run_id == run_id:
            made = _as_summed(made_with(other.stages, stage_id), run)
            return {f"{run_id}/{each.stage_id}": each for each in made}
    return {}


def _pointed_bill(pointer: StageRecord, makers: Mapping[str, StageRecord]) -> ArtifactBill:
    run_id, _ = _pointed_stage(pointer)
    missing = NoTotal(reason=f"artefact {artifact_of(pointer)} was made by run {run_id}, which is not at hand")
    return ArtifactBill(
        artifact=artifact_of(pointer),
        kind=pointer.labels.get("artifact_kind", ""),
        weights=dict.fromkeys(makers, 1.0) if makers else missing,
        reused_from=run_id,
    )
