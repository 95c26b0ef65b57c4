"""What the stages of one study share: its models, its prepared data, and the way a stage is run and kept."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stillwatt.errors import ArtifactError, BudgetError, StillwattError
from stillwatt.ledger.post import build_record
from stillwatt.metering.meter import Meter, Stage
from stillwatt.pipelines import prepare_data
from stillwatt.pipelines.artifacts import Artifact
from stillwatt.pipelines.budget import Budgets, Gauge
from stillwatt.pipelines.corpus import Prepared
from stillwatt.pipelines.model_sources import ModelPlace, resolve_model
from stillwatt.pipelines.models import CausalModel, free_memory, load_model, load_tokenizer
from stillwatt.pipelines.progress import Progress, Task, Watched
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import PipelineSpec, StudentSpec
from stillwatt.pipelines.state import RunState
from stillwatt.records.energy import Total
from stillwatt.records.run import RANK, made_with
from stillwatt.records.window import StageKind
from stillwatt.units import seconds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Bench", "Work"]

Work = Callable[[Stage, Task], Mapping[str, Any]]
"""What a stage does; returns its results."""


OnScored = Callable[[str, float, Sequence[Mapping[str, Any]]], None]
"""Told an arm, the share of its text, and the scores of its evaluation there; may raise to end the run."""


class Bench:
    """One study's tools. Models are loaded by the stage that first needs them, and billed to it."""

    def __init__(
        self,
        spec: PipelineSpec,
        *,
        meter: Meter,
        run_id: str,
        state: RunState,
        artifacts_dir: Path,
        progress: Progress,
        announce: Callable[[str], None],
        gauge: Gauge | None = None,
        on_scored: OnScored | None = None,
    ) -> None:
        self.spec = spec
        self.run_id = run_id
        self.state = state
        self.artifacts_dir = artifacts_dir
        self.announce = announce
        self.meter = meter
        self.ranks = Ranks()
        self.on_scored = on_scored or _nobody_asks
        self.budgets = Budgets(spec, gauge, announce)
        self.stage_ended_ns: int | None = None
        """When the latest stage of this session ended."""
        self._said: set[str] = set()
        self._progress = progress
        self._places: dict[str, ModelPlace] = {}
        self._teacher: CausalModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._data: Prepared | None = None

    def run_stage(
        self,
        name: str,
        kind: StageKind,
        work: Work,
        *,
        labels: Mapping[str, str] | None = None,
        total: float,
        unit: str = "tokens",
        is_shared: bool = False,
    ) -> Mapping[str, Any]:
        """Do a stage's work under the meter and keep its results, or take those of an earlier session.

        The stage is marked finished after its window is closed: a kill in between leaves the mark to the next session
        (`RunState.take_over`), while the other order could leave a stage that never ended.

        Of several ranks the first works and the others wait outside any stage, unless the work `is_shared`: then each
        has a stage, and the first one's results are the stage's.
        """
        kept = self.finished(name)
        if kept is not None:
            return kept
        results: dict[str, Any] | None = None
        if is_shared or self.ranks.is_first:
            self._note_gap()
            self.budgets.check(name, kind)
            with (
                self.meter.stage(name, kind=kind, labels=self.labels(labels, is_shared=is_shared)) as stage,
                self._progress.task(name, total=total, unit=unit) as task,
            ):
                results = dict(work(stage, Watched(task, lambda: self.budgets.check(name, kind))))
                if kind is not StageKind.IDLE_BASELINE:  # a rest drops nothing, and looking for it would be work
                    self._clear_away()
                if self.ranks.is_first:
                    stage.record(results)
            self.stage_ended_ns = self.meter.clock.monotonic_ns()
        if results is not None and self.ranks.is_first:
            self.state.finish(name, results)
        return self.ranks.agree(results) or {}

    def _clear_away(self) -> None:
        """What a stage dropped is the stage's to clear away."""
        start_ns = self.meter.clock.monotonic_ns()
        free_memory()
        self.budgets.habits.cleanup_s = float(seconds(self.meter.clock.monotonic_ns() - start_ns))

    def _note_gap(self) -> None:
        if self.stage_ended_ns is not None:
            gap_ns = self.meter.clock.monotonic_ns() - self.stage_ended_ns
            self.budgets.habits.note_gap(float(seconds(gap_ns)))

    def finished(self, name: str) -> Mapping[str, Any] | None:
        """What a finished stage left, or None; the same on all ranks, whenever the first one writes it down."""
        return self.ranks.of_first(lambda: self.state.finished(name))

    def labels(self, labels: Mapping[str, str] | None, *, is_shared: bool) -> Mapping[str, str] | None:
        """A stage's labels, with the rank among them where each rank has such a stage."""
        if not is_shared or self.ranks.count == 1:
            return labels
        return {**(labels or {}), RANK: str(self.ranks.rank)}

    def place(self, source: str, revision: str | None, *, is_student: bool = False) -> ModelPlace:
        """Where a model's files are; found, and checked, once per session."""
        key = f"{source}@{revision}#{is_student}"
        if key not in self._places:
            self._places[key] = resolve_model(source, revision=revision, announce=self.announce, is_student=is_student)
        return self._places[key]

    def teacher_place(self) -> ModelPlace:
        """Where the teacher's files are.

        Raises:
            StillwattError: It is an endpoint, or there is none.
        """
        if not self.spec.teacher.has_weights:
            absence = self.spec.teacher.absence
            raise StillwattError(f"{absence}, and its model was to be loaded: take a teacher on this machine")
        return self.place(self.spec.teacher.source, self.spec.teacher.revision)

    def teacher(self) -> CausalModel:
        """The teacher, loaded on first use and kept until `drop_teacher`."""
        if self._teacher is None:
            directory, is_alone = self.teacher_place().directory, self.ranks.count == 1
            # each rank has a GPU of its own
            self._teacher = load_model(
                directory,
                dtype=self.spec.teacher.dtype or "float32",
                may_spread=is_alone,
                announce=self.announce_once,
            )
        return self._teacher

    def drop_teacher(self) -> None:
        """Let go of the teacher's memory."""
        self._teacher = None
        free_memory()

    def announce_once(self, text: str) -> None:
        """Say what would come again with every loading of one model, the first time only."""
        if text not in self._said:
            self._said.add(text)
            self.announce(text)

    def settle(self) -> None:
        """With no model loaded: take what is there for what stays, and see how quick clearing up is then."""
        gc.freeze()
        self._clear_away()

    def artifact_j(self, artifact: Artifact) -> float:
        """Joules of the stage that made an artefact, in whichever run.

        Raises:
            BudgetError: They are not known.
        """
        if not artifact.made_by:
            reason = f"nobody here knows what {artifact.directory} took to make"
            cure = 'set budgets.teacher_share = "marginal"'
            raise BudgetError("joules", f"{reason}, so its share cannot be told; {cure}", "arm")
        run_id, stage_id = artifact.made_by["run_id"], artifact.made_by["stage_id"]
        run_dir = self.state.directory.parent.parent / run_id
        reason = f"run {run_id}, which made {artifact.artifact_id}, is not at hand"
        if run_dir.is_dir():
            made = made_with(build_record(run_dir).stages, stage_id)
            # a part that nobody read (an endpoint's server) is in no sum, and would be no share of any budget
            totals = [g.value_j for g in (each.gross for each in made) if isinstance(g, Total) and not g.absent]
            if made and len(totals) == len(made):
                return sum(totals)
            reason = f"the energy of {artifact.artifact_id} is not known"
        raise BudgetError("joules", f"{reason}, so its share cannot be told; set budgets.teacher_share", "arm")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer, which the students share; the students' own where it has no weights here."""
        if self._tokenizer is None:
            is_here = self.spec.teacher.has_weights
            place = self.teacher_place().directory if is_here else self.start_dir(self.spec.students[0])
            self._tokenizer = load_tokenizer(place)
        return self._tokenizer

    def start_dir(self, student: StudentSpec) -> Path:
        """Where a student's untrained start lies; a pruned one is made by `prepare_data`."""
        if student.source == "prune-teacher":
            return self.state.folder(f"start.{student.name}")
        return self.place(student.source, student.revision, is_student=True).directory

    def data_dir(self) -> Path:
        """Where the prepared tokens lie."""
        return self.state.folder("data")

    def data(self) -> Prepared:
        """The prepared tokens, checked against the hash that their stage wrote down.

        Raises:
            StillwattError: `prepare_data` has not run, or its file has changed since.
        """
        if self._data is None:
            kept = self.state.finished("prepare_data") or {}
            data = prepare_data.load(self.data_dir())
            if data.sha256 != kept.get("corpus_sha256"):
                raise StillwattError(
                    f"{self.data_dir()}: the prepared tokens have changed since they were written; begin a new run"
                )
            self._data = data
        return self._data


def _nobody_asks(_arm: str, _share: float, _scores: Sequence[Mapping[str, Any]]) -> None:
    """Nobody wants to know."""


def device_sync() -> Callable[[], object] | None:
    """What the meter calls at a stage's ends, so that queued GPU work is billed to the stage that queued it."""
    if not torch.cuda.is_available():
        return None

    def wait_for_all() -> None:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)

    return wait_for_all


def found_or_announced(find: Callable[[], Any], announce: Callable[[str], None]) -> Any:
    """What `find` finds; a damaged artefact is told of, once, and counts as none."""
    try:
        return find()
    except ArtifactError as err:
        announce(str(err))
        return None
