"""Trainings of tiny students outside any study: jobs of every method, and what came of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, device, load_model, load_tokenizer
from stillwatt.pipelines.on_policy import OwnText
from stillwatt.pipelines.spec import ArmSpec, Method
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.student_train import TrainJob, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from tiny_models import CountingStage, CountingTask, list_meter, smoke_spec

TRAIN = dataclasses.replace(smoke_spec().train, learning_rate=1e-2, checkpoints=(0.5, 1.0))
METHODS = ("sft", "kd", "online", "gkd")
"""Cross-entropy, KD from a cache, KD with the teacher beside the student, the same on own text in half the steps."""


def examples(rows: int = 8, length: int = 16) -> Packed:
    """Made-up text, all of it to be predicted."""
    supervised = np.ones((rows, length), dtype=np.bool_)
    supervised[:, 0] = False
    ids = np.random.default_rng(4).integers(0, 256, (rows, length)).astype(np.int32)
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def start(*, is_student: bool = True) -> Path:
    """The tiny student's folder, or the tiny teacher's."""
    return resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=is_student).directory


def sharp_teacher() -> CausalModel:
    """A teacher that is sure of itself: an untrained one says nearly the same at every position."""
    model = load_model(start(is_student=False), dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    return model


def job(**changes: Any) -> TrainJob:
    """Plain fine-tuning in four steps of two sequences."""
    arm = ArmSpec(name="sft", method=Method.SFT, alpha=None, temperature=None)
    plain = TrainJob(arm_id="sft", arm=arm, train=TRAIN, dtype="float32", seed=3, examples=examples(), cache=None)
    return dataclasses.replace(plain, **changes)


def job_of(method: str, folder: Path, **changes: Any) -> TrainJob:
    """A job of one of `METHODS`; a cache is written into the folder where there is none yet."""
    if method == "sft":
        return job(**changes)
    if method == "kd":
        arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0)
        return job(arm_id="kd", arm=arm, cache=_cache(folder / "cache"), **changes)
    meter, _ = list_meter()
    teacher = OnlineTeacher(
        load=sharp_teacher,
        open_stage=lambda: meter.stage("teacher_online", kind=StageKind.TEACHER_LOGITS),
        examples=examples(),
        place=device(),
    )
    is_own = method == "gkd"
    arm = ArmSpec(
        name=method, method=Method.GKD if is_own else Method.KD, alpha=0.5, temperature=1.0, loss="forward_kl",
        own_text_share=0.5 if is_own else None,
    )  # fmt: skip
    own_text = OwnText(
        spec=OwnTextSpec(prompt_tokens=4, max_new_tokens=12, temperature=1.0, top_p=1.0),
        share=0.5,
        seed=3,
        prompts=examples(),
        tokenizer=load_tokenizer(start()),
        open_stage=lambda: meter.stage("student_generate", kind=StageKind.OTHER),
    )
    return job(arm_id=method, arm=arm, teacher=teacher, own_text=own_text if is_own else None, **changes)


def _cache(directory: Path) -> LogitCache:
    if not directory.exists():
        settings = smoke_spec().logits
        assert settings is not None
        sequences = [row.tolist() for row in examples().ids_ST]
        task, stage = CountingTask(), CountingStage()
        teacher_logits.make(sharp_teacher(), sequences, settings, directory, task=task, stage=stage)
    return LogitCache.open(directory)


def run_training(
    wanted: TrainJob, out: Path, *, begin: Path | None = None, shares: tuple[float, float] = (0.0, 1.0)
) -> dict[str, Any]:
    """One increment; returns its results."""
    return train(
        wanted,
        begin or start(),
        from_share=shares[0],
        to_share=shares[1],
        out_dir=out,
        stage=CountingStage(),
        task=CountingTask(),
    )


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """All weights of the model in a folder."""
    return dict(load_model(directory, dtype="float32").state_dict())


def greatest_difference(left: Path, right: Path) -> float:
    """Between any two weights of the models in two folders."""
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
