"""One arm of a study: trained from checkpoint to checkpoint, each evaluated as it is reached."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import BudgetError, StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines import evaluate, own_prompts, student_train, teacher_generate
from stillwatt.pipelines.adapters import load_student
from stillwatt.pipelines.arm_resume import Again, checkpoint_dir, evaluation_name, find_damaged, training_name
from stillwatt.pipelines.artifacts import Artifact
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.budget import Follow, Stop
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed, pack_samples
from stillwatt.pipelines.judge import answer, total_answers
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.model_fit import num_tokens, shared_output_rows
from stillwatt.pipelines.models import CausalModel, device
from stillwatt.pipelines.on_policy import OwnText
from stillwatt.pipelines.own_prompts import StepPrompts
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec import ArmSpec, LimitKind, Method, PipelineSpec, StudentSpec
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.run import DOES_OVER
from stillwatt.records.window import ONLINE_TEACHER, StageKind

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache

__all__ = [
    "arm_id",
    "check_share",
    "checkpoint_dir",
    "evaluate_folder",
    "evaluate_model",
    "evaluation_work",
    "run_arm",
    "start_evaluation",
]

_DAMAGED = "damaged"
"""Why a stage does an earlier one over."""


def arm_id(spec: PipelineSpec, student: StudentSpec, arm: ArmSpec, seed: int) -> str:
    """The arm's id: its name, with the student's before it and the seed behind it where there are several."""
    name = arm.name if len(spec.students) == 1 else f"{student.name}.{arm.name}"
    return name if len(spec.train.seeds) == 1 else f"{name}.s{seed}"


def run_arm(bench: Bench, student: StudentSpec, arm: ArmSpec, seed: int, artifacts: Mapping[str, Artifact]) -> None:
    """Train one arm from checkpoint to checkpoint, each evaluated as it is reached, or until its budget is used up."""
    name = arm_id(bench.spec, student, arm, seed)
    again = {each.share: each for each in find_damaged(bench, name, bench.spec.train.checkpoints)}
    run = _ArmRun(bench, student, arm, seed, artifacts.get(arm.artifact_kind or ""), again)
    if arm.caution is not None:
        bench.announce(arm.caution)
    previous, from_share = bench.start_dir(student), 0.0
    results: Mapping[str, Any] = {}
    for share in bench.spec.train.checkpoints:
        results = run.train(previous, from_share, share)
        out_dir = checkpoint_dir(bench, run.name, share)
        labels = run.evaluation_labels(share, results)
        found = evaluate_folder(bench, student, out_dir, evaluation_name(run.name, share), labels)
        bench.on_scored(run.name, share, found["scores"])
        if from_share > 0 and bench.ranks.is_first:
            # the next checkpoint holds everything a resume needs; only the last is kept as a model
            shutil.rmtree(previous, ignore_errors=True)
        previous, from_share = out_dir, share
        if results.get("stopped_by"):
            break
    run.tell(results)
    bench.announce(f"{run.name}: trained student in {previous}")
    if arm.is_online:
        bench.drop_teacher()


@dataclass(frozen=True, slots=True)
class _ArmRun:
    """One arm, one student, one seed."""

    bench: Bench
    student: StudentSpec
    arm: ArmSpec
    seed: int
    artifact: Artifact | None
    again: Mapping[float, Again]
    """Increments that were trained before, and are to be again, by their share."""

    @property
    def name(self) -> str:
        """The arm's id."""
        return arm_id(self.bench.spec, self.student, self.arm, self.seed)

    def labels_at(self, share: float) -> dict[str, str]:
        """Labels of the arm's stages at a checkpoint."""
        arm, student = self.arm, self.student.name
        labels = {"arm": self.name, "method": arm.method.value, "student": student, "seed": str(self.seed)}
        if self.artifact is not None:
            labels["text_artifact" if arm.is_online else "artifact"] = self.artifact.artifact_id
        if arm.is_online:
            labels["artifact"] = f"{ONLINE_TEACHER}-{self.name}"
        return {**labels, "checkpoint": str(float(share))}

    def train(self, start: Path, from_share: float, to_share: float) -> Mapping[str, Any]:
        """Train from one checkpoint to the next; returns the results, of an earlier session where it is finished."""
        bench, labels = self.bench, self.labels_at(to_share)
        stage_name = training_name(self.name, to_share)
        own = {**labels, **({DOES_OVER: _DAMAGED} if to_share in self.again else {})}
        stop = None if bench.finished(stage_name) is not None else self._stop()

        def work(stage: Stage, task: Task) -> dict[str, Any]:
            if stop is not None:
                stop.begin()
            out_dir = checkpoint_dir(bench, self.name, to_share)
            job = self._job(labels, stop)
            results = student_train.train(
                job, start, from_share=from_share, to_share=to_share, out_dir=out_dir, stage=stage, task=task
            )
            return {**results, **({"budgets": budgets} if stop is not None and (budgets := stop.facts()) else {})}

        total = bench.spec.data.train_tokens * (to_share - from_share)
        results = bench.run_stage(stage_name, StageKind.STUDENT_TRAIN, work, labels=own, total=total, is_shared=True)
        if stop is not None and bench.stage_ended_ns is not None and (to_share >= 1.0 or results.get("stopped_by")):
            stop.end(bench.stage_ended_ns)
        bench.budgets.count(self.name, results)
        return results

    def evaluation_labels(self, share: float, results: Mapping[str, Any]) -> dict[str, str]:
        """Labels of the scoring there; what was scored before another model came out of training is scored again."""
        labels, again = self.labels_at(share), self.again.get(share)
        if again is None or again.is_same(results) or not self.bench.finished(evaluation_name(self.name, share)):
            return labels
        if self.bench.ranks.is_first:
            self.bench.state.forget(evaluation_name(self.name, share))
        self.bench.ranks.wait()
        return {**labels, DOES_OVER: _DAMAGED}

    def tell(self, results: Mapping[str, Any]) -> None:
        """Say how the arm's budget came out, where it has one."""
        if results.get("stopped_by"):
            text = f"stopped at {results['stopped_by']}, after {results['tokens_total']:,} tokens"
            self.bench.announce(f"{self.name}: {text}")
        elif self.arm.budget is not None:
            text = (
                f"its text ended before its budget of {self.arm.budget.said} did; raise data.train_tokens, and "
                "data.epochs with it where there is no more text"
            )
            self.bench.announce(f"{self.name}: {text}")

    def _job(self, labels: Mapping[str, str], stop: Stop | Follow | None) -> student_train.TrainJob:
        bench, arm, artifact = self.bench, self.arm, self.artifact
        examples = _examples(bench, artifact)
        return student_train.TrainJob(
            arm_id=self.name,
            arm=arm,
            train=bench.spec.train,
            dtype=self.student.dtype,
            seed=self.seed,
            examples=examples,
            cache=_cache(artifact) if artifact and arm.method is Method.KD else None,
            teacher=_online_teacher(bench, labels, examples) if arm.is_online else None,
            own_text=_own_text(bench, arm, self.seed, labels),
            stop=stop,
            sharding=bench.spec.sharding,
            base_dir=None if bench.spec.train.lora is None else bench.start_dir(self.student),
            epochs=bench.spec.data.epochs,
        )

    def _stop(self) -> Stop | Follow | None:
        """What ends the training at a budget; None where none is set."""
        bench = self.bench
        if not bench.ranks.is_first:
            return None if self.arm.budget is None and bench.spec.budget is None else Follow()
        teacher_j = _teacher_j(bench, self.arm, self.artifact)
        return bench.budgets.stop(self.name, self.student.name, self.arm.budget, teacher_j)


def check_share(bench: Bench, arm: ArmSpec, artifact: Artifact | None) -> None:
    """Refuse an arm whose share of the teacher's work is more than its budget, before any arm is trained.

    Raises:
        BudgetError: With both figures.
    """
    teacher_j = _teacher_j(bench, arm, artifact)
    if arm.budget is not None and teacher_j >= arm.budget.amount:
        text = f"{arm.budget.text(teacher_j)} are its share of the teacher's work"
        raise BudgetError(arm.budget.said, text, f"arm {arm.name!r}")


def _teacher_j(bench: Bench, arm: ArmSpec, artifact: Artifact | None) -> float:
    """Joules of a teacher artefact that an arm's budget bears, by the recipe's rule."""
    factor, is_joules = bench.spec.teacher_factor, arm.budget is not None and arm.budget.kind is LimitKind.ENERGY
    return factor * bench.artifact_j(artifact) if is_joules and artifact is not None and factor else 0.0


def start_evaluation(spec: PipelineSpec, student: StudentSpec) -> str:
    """The stage that scores a student before any training; each of its arms' evaluations takes about as much."""
    return "evaluate.start" if len(spec.students) == 1 else f"evaluate.start.{student.name}"


def _own_text(bench: Bench, arm: ArmSpec, seed: int, labels: Mapping[str, str]) -> OwnText | None:
    """What lets an on-policy arm's student write; its stages lie inside the training's, and are the student's."""
    if arm.own_text_share is None:
        return None
    settings = bench.spec.own_text
    assert settings is not None  # `check` has seen to it
    name = f"student_generate.{labels['arm']}.{labels['checkpoint']}"
    marks = {key: labels[key] for key in ("arm", "method", "student", "seed", "checkpoint")}
    return OwnText(
        spec=settings,
        share=arm.own_text_share,
        seed=seed,
        prompts=bench.data().train,
        tokenizer=bench.tokenizer(),
        num_tokens=num_tokens(bench.tokenizer()),
        open_stage=lambda: bench.meter.stage(name, kind=StageKind.OTHER, labels=marks),
        asked=_asked(bench, seed) if settings.has_file else None,
        is_counted=bench.ranks.is_first,
    )


def _asked(bench: Bench, seed: int) -> StepPrompts:
    """The prompts that `prepare_data` kept, in the order of a seed."""
    kept = (bench.state.finished("prepare_data") or {})["own_prompts"]
    train = bench.spec.train
    return StepPrompts(
        ids=own_prompts.load(bench.data_dir(), str(kept["sha256"])),
        seed=seed,
        per_step=train.batch_size * train.accumulation_steps,
    )


def _online_teacher(bench: Bench, labels: Mapping[str, str], examples: Packed) -> OnlineTeacher:
    """The teacher beside an arm's training; its stages lie inside the training's, and are the teacher's."""
    name = f"teacher_online.{labels['arm']}.{labels['checkpoint']}"
    marks = {**labels, "artifact_kind": ONLINE_TEACHER}
    return OnlineTeacher(
        load=bench.teacher,
        open_stage=lambda: bench.meter.stage(name, kind=StageKind.TEACHER_LOGITS, labels=marks),
        examples=examples,
        place=device(),
        rows=shared_output_rows(bench),
    )


def _cache(artifact: Artifact) -> LogitCache | CodedCache:
    """The cache that was found or made, and no other that may lie there by now."""
    cache, wanted = open_cache(artifact.directory), artifact.results.get("artifact_sha256")
    if wanted not in (None, cache.sha256):
        raise StillwattError(
            f"the logit cache {artifact.directory} has the hash {cache.sha256}, and this run has used one of {wanted}; "
            "bring that one back, or begin a new run"
        )
    return cache


def _examples(bench: Bench, artifact: Artifact | None) -> Packed:
    data = bench.data()
    train = data.train
    if artifact is None or artifact.kind != "text":
        return train
    text = teacher_generate.load(artifact.directory)
    return pack_samples(
        text.sequences,
        text.prompt_lengths,
        end_id=int(bench.tokenizer().eos_token_id),
        length=train.ids_ST.shape[1],
        count=len(train.ids_ST),
        is_apart=train.starts_ST is not None,
        bos_ids=data.bos_ids,
    )


def evaluate_folder(
    bench: Bench, student: StudentSpec, directory: Path, name: str, labels: Mapping[str, str]
) -> Mapping[str, Any]:
    """Score the model in a folder, as a stage of its own; returns its results."""

    def work(stage: Stage, task: Task) -> dict[str, Any]:
        base_dir = bench.start_dir(student)
        model = load_student(directory, base_dir, dtype=student.dtype, announce=bench.announce_once)
        bench.budgets.habits.note_size(student.name, sum(weights.numel() for weights in model.parameters()))
        return evaluate_model(bench, model, name, labels, stage, task)

    before_ns, total = bench.stage_ended_ns, evaluation_work(bench.spec)
    found = bench.run_stage(name, StageKind.EVALUATE, work, labels=labels, total=total, is_shared=True)
    bench.budgets.habits.note_evaluation(student.name, name, is_seen=bench.stage_ended_ns != before_ns)
    return found


def evaluate_model(
    bench: Bench, model: CausalModel, name: str, labels: Mapping[str, str], stage: Stage, task: Task
) -> dict[str, Any]:
    """Score a model that is loaded, and let it write what is judged later; returns the stage's results."""
    spec, ranks = bench.spec.evaluate, bench.ranks
    scores = evaluate.make(model, bench.tokenizer(), bench.data(), spec, stage=stage, task=task, ranks=ranks)
    return {"scores": scores, **answer(bench, model, name, labels, task)}


def evaluation_work(spec: PipelineSpec) -> int:
    """Tokens that go through a model in its evaluation; the bar's length."""
    return evaluate.total_work(spec.evaluate) + total_answers(spec.evaluate)
