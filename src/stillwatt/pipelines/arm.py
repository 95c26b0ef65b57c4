"""One arm of a study: trained from checkpoint to checkpoint, each evaluated as it is reached."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillwatt.metering.meter import Stage
from stillwatt.pipelines import evaluate, student_train, teacher_generate
from stillwatt.pipelines.artifacts import Artifact
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed, pack_samples
from stillwatt.pipelines.models import device, load_model
from stillwatt.pipelines.on_policy import OwnText
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec import ArmSpec, Method, PipelineSpec, StudentSpec
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import ONLINE_TEACHER, StageKind

__all__ = ["arm_id", "checkpoint_dir", "evaluate_folder", "run_arm"]


def arm_id(spec: PipelineSpec, student: StudentSpec, arm: ArmSpec, seed: int) -> str:
    """The arm's id: its name, with the student's before it and the seed behind it where there are several."""
    name = arm.name if len(spec.students) == 1 else f"{student.name}.{arm.name}"
    return name if len(spec.train.seeds) == 1 else f"{name}.s{seed}"


def run_arm(bench: Bench, student: StudentSpec, arm: ArmSpec, seed: int, artifacts: Mapping[str, Artifact]) -> None:
    """Train one arm from checkpoint to checkpoint, each evaluated as it is reached."""
    spec, name = bench.spec, arm_id(bench.spec, student, arm, seed)
    artifact = artifacts.get(arm.artifact_kind or "")
    labels = {"arm": name, "method": arm.method.value, "student": student.name, "seed": str(seed)}
    if artifact is not None:
        labels["artifact"] = artifact.artifact_id
    if arm.is_online:
        if artifact is not None:
            labels["text_artifact"] = artifact.artifact_id
        labels["artifact"] = f"{ONLINE_TEACHER}-{name}"
    if arm.caution is not None:
        bench.announce(arm.caution)
    previous, from_share = bench.start_dir(student), 0.0
    for share in spec.train.checkpoints:
        here = {**labels, "checkpoint": str(float(share))}
        out_dir = checkpoint_dir(bench, name, share)
        _train_increment(bench, student, arm, seed, artifact, previous, (from_share, share), here)
        evaluate_folder(bench, student, out_dir, f"evaluate.{name}.{float(share)}", here)
        if from_share > 0:
            # the next checkpoint holds everything a resume needs; only the last is kept as a model
            shutil.rmtree(previous, ignore_errors=True)
        previous, from_share = out_dir, share
    bench.announce(f"{name}: trained student in {previous}")
    if arm.is_online:
        bench.drop_teacher()


def checkpoint_dir(bench: Bench, name: str, share: float) -> Path:
    """Where an arm's checkpoint at that share of the budget lies."""
    return bench.state.folder("checkpoints") / name / str(float(share))


def _train_increment(
    bench: Bench,
    student: StudentSpec,
    arm: ArmSpec,
    seed: int,
    artifact: Artifact | None,
    start: Path,
    shares: tuple[float, float],
    labels: Mapping[str, str],
) -> None:
    name = labels["arm"]

    def work(stage: Stage, task: Task) -> dict[str, Any]:
        examples = _examples(bench, artifact)
        job = student_train.TrainJob(
            arm_id=name,
            arm=arm,
            train=bench.spec.train,
            dtype=student.dtype,
            seed=seed,
            examples=examples,
            cache=open_cache(artifact.directory) if artifact and arm.method is Method.KD else None,
            teacher=_online_teacher(bench, labels, examples) if arm.is_online else None,
            own_text=_own_text(bench, arm, seed, labels),
        )
        out_dir = checkpoint_dir(bench, name, shares[1])
        return student_train.train(
            job, start, from_share=shares[0], to_share=shares[1], out_dir=out_dir, stage=stage, task=task
        )

    total = bench.spec.data.train_tokens * (shares[1] - shares[0])
    bench.run_stage(f"train.{name}.{labels['checkpoint']}", StageKind.STUDENT_TRAIN, work, labels=labels, total=total)


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
        open_stage=lambda: bench.meter.stage(name, kind=StageKind.OTHER, labels=marks),
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
    )


def _examples(bench: Bench, artifact: Artifact | None) -> Packed:
    train = bench.data().train
    if artifact is None or artifact.kind != "text":
        return train
    text = teacher_generate.load(artifact.directory)
    return pack_samples(
        text.sequences,
        text.prompt_lengths,
        end_id=int(bench.tokenizer().eos_token_id),
        length=train.ids_ST.shape[1],
        count=len(train.ids_ST),
    )


def evaluate_folder(bench: Bench, student: StudentSpec, directory: Path, name: str, labels: Mapping[str, str]) -> None:
    """Score the model in a folder, as a stage of its own."""

    def work(_stage: Stage, task: Task) -> dict[str, Any]:
        model = load_model(directory, dtype=student.dtype)
        return {"scores": evaluate.make(model, bench.tokenizer(), bench.data(), bench.spec.evaluate, task=task)}

    total = evaluate.total_work(bench.spec.evaluate)
    bench.run_stage(name, StageKind.EVALUATE, work, labels=labels, total=total)
