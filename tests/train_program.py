"""One rank under torchrun, or the only process: caches logits, writes text, trains a tiny student, notes its losses."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import stillwatt
from evaluate_program import score
from stillwatt.metering.meter import Stage
from stillwatt.pipelines import teacher_generate, teacher_logits
from stillwatt.pipelines.cache import writer
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import device, load_model
from stillwatt.pipelines.sampling import Writer
from stillwatt.pipelines.spec import ArmSpec, CacheSpec, GenerateSpec, LogitsSpec, Method, TrainSpec
from stillwatt.pipelines.student_train import TrainJob, _Loop, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from tiny_models import CountingTask


def cache_logits(directory: Path, teacher: Path, cache: CacheSpec | None = None) -> dict[str, Any]:
    """Fill a cache from text of two lengths in an odd number of batches; what it came to and what this rank did."""
    rng = np.random.default_rng(6)
    sequences = [rng.integers(0, 256, length).tolist() for length in (12, 9, 12, 12, 9, 12, 12)]
    tokens_here: list[float] = []
    stage = SimpleNamespace(add=lambda **counts: tokens_here.append(counts.get("tokens", 0)))
    model: Any = load_model(teacher, dtype="float32")
    results = teacher_logits.make(
        model,
        sequences,
        LogitsSpec(top_k=8, temperature=1.0, batch_size=2, cache=cache),
        directory,
        task=CountingTask(),
        stage=stage,
    )
    return {**results, "tokens_here": sum(tokens_here)}


def write_text(directory: Path, teacher: Path) -> dict[str, Any]:
    """Sample text after prompts of unlike lengths, in more batches than ranks; what it came to and who did what."""
    rng = np.random.default_rng(8)
    prompts = [rng.integers(1, 256, length).tolist() for length in rng.integers(1, 9, 21)]
    here: Counter[str] = Counter()
    stage = SimpleNamespace(add=lambda **counts: here.update(counts))
    settings = GenerateSpec(
        prompt_tokens=8, max_new_tokens=6, min_new_tokens=1, max_repeat_share=1.0, temperature=1.0, top_p=1.0,
        batch_size=2, max_rounds=2, seed=5,
    )  # fmt: skip
    model: Any = load_model(teacher, dtype="float32")
    writer = Writer(model, SimpleNamespace(eos_token_id=2, pad_token_id=0), settings, frozenset({2}))
    results = teacher_generate.make(
        writer, prompts, settings, 200, directory, task=CountingTask(), stage=stage, is_shared=True
    )
    return {**results, "here": dict(here)}


def main(folder: Path, name: str) -> None:
    """Train by KD, twice over the text, the teacher beside the student; measured by one sampling process a machine."""
    torch.set_num_threads(1)
    device()  # begins the process group, where there is a launch
    rng = np.random.default_rng(4)
    supervised = np.ones((23, 16), dtype=np.bool_)
    supervised[:, 0] = False
    examples = Packed(
        ids_ST=rng.integers(0, 256, (23, 16)).astype(np.int32), supervised_ST=supervised, dropped_tokens=0
    )
    start, teacher = (resolve_model("tiny-random", revision=None, announce=print, is_student=s) for s in (True, False))
    cached = cache_logits(folder / f"{name}.cache", teacher.directory)
    writer.PRIOR_ROWS, writer.SHARD_ROWS = 20, 30  # some rows are held back, and there are several shards
    coded = {
        scheme: cache_logits(folder / f"{name}.{scheme}", teacher.directory, CacheSpec(scheme=scheme, draws=draws))
        for scheme, draws in (("topk", 0), ("head_draws", 4))
    }
    text = write_text(folder / f"{name}.text", teacher.directory)
    spec = TrainSpec(
        optimizer="adamw", learning_rate=1e-3, warmup_steps=1, schedule="cosine", max_grad_norm=1.0, batch_size=2,
        accumulation_steps=3, checkpoints=(1.0,), seeds=(1,),
    )  # fmt: skip
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0, loss="forward_kl")
    losses: list[float] = []
    step = _Loop.step

    def watched(loop: Any, *given: Any) -> float:
        losses.append(step(loop, *given))
        return losses[-1]

    # a watch from outside, as the loop tells of its first and last step alone
    _Loop.step = watched  # type: ignore[assignment, method-assign]  # the real step, with its loss written down
    constant = {"synthetic": {"channels": [{"watts": 100.0}], "origin_ns": 0}}
    with stillwatt.Run("ranks", runs_dir=folder / "runs", sensors=("synthetic",), options=constant) as run:
        while not any((run.run_dir / "samples").iterdir()):
            time.sleep(0.05)  # the stages below are shorter than the start of a sampling process
        with run.stage("train.kd.1.0", kind="student_train", labels={"arm": "kd"}) as stage:
            assert isinstance(stage, Stage)
            online = OnlineTeacher(
                load=lambda: load_model(teacher.directory, dtype="float32"),
                open_stage=lambda: run.stage("teacher_online.kd.1.0", kind="teacher_logits"),
                examples=examples,
                place=device(),
            )
            job = TrainJob(
                arm_id="kd", arm=arm, train=spec, dtype="float32", seed=3, examples=examples, cache=None,
                teacher=online, epochs=2,
            )  # fmt: skip
            found = train(
                job, start.directory, from_share=0.0, to_share=1.0, out_dir=folder / name, stage=stage,
                task=CountingTask(),
            )  # fmt: skip
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    told = {"losses": losses, "world": world, "cached": cached, "coded": coded, "text": text, **found}
    told["scored"] = score(folder / f"{name}.scored", start.directory)
    (folder / f"{name}.{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
