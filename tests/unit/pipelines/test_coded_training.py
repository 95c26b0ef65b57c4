"""A coded cache from the teacher's stage to the student's: what it holds, what is trained from it, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillwatt.errors import StillwattError
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.arm_check import check_arm
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model
from stillwatt.pipelines.objectives.registry import Source
from stillwatt.pipelines.spec import ArmSpec, CacheSpec, LogitsSpec, Method
from stillwatt.pipelines.student_train import TrainJob, train
from tiny_models import CountingStage, CountingTask, smoke_spec

WAYS = {
    "top_k_tail": LogitsSpec(top_k=12, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="topk", step=0.25)),
    "top_p_tail": LogitsSpec(top_k=60, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="topp", mass=0.2)),
    "sampled_kl": LogitsSpec(top_k=4, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="head_draws", draws=6)),
}
RS_KD = LogitsSpec(top_k=0, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="rs_kd", draws=20))


def examples() -> Packed:
    ids = np.random.default_rng(4).integers(0, 256, (8, 24)).astype(np.int32)
    supervised = np.ones(ids.shape, dtype=np.bool_)
    supervised[:, 0] = False
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def made(directory: Path, spec: LogitsSpec, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    teacher = load_model(place.directory, dtype="float32")
    rows = [row.tolist() for row in examples().ids_ST]
    return teacher_logits.make(
        teacher, rows, spec, directory, task=CountingTask(), stage=CountingStage(), inputs=inputs
    )


@pytest.mark.parametrize(("loss", "spec"), [*WAYS.items(), ("sampled_kl", RS_KD)], ids=[*WAYS, "rs_kd"])
def test_a_student_trains_from_every_scheme(tmp_path: Path, loss: str, spec: LogitsSpec) -> None:
    found = made(tmp_path / "cache", spec, {"tokenizer_sha256": "aa"})
    cache = open_cache(tmp_path / "cache", tokenizer_sha256="aa")
    assert isinstance(cache, CodedCache)
    assert found["positions"] == cache.num_rows == 8 * 23
    assert found["bytes"] == cache.bytes
    assert found["artifact_sha256"] == cache.sha256
    assert (found["kept_mass"] is None) == (spec is RS_KD)
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0, loss=loss)
    check_arm(arm, 1.0, spec.source)
    start = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory
    job = TrainJob(
        arm_id="kd", arm=arm, train=smoke_spec().train, dtype="float32", seed=3, examples=examples(), cache=cache
    )
    results = train(
        job,
        start,
        from_share=0.0,
        to_share=1.0,
        out_dir=tmp_path / "out",
        stage=CountingStage(),
        task=CountingTask(),
    )
    assert np.isfinite([results["loss_first"], results["loss_last"]]).all()
    before, after = (load_model(place, dtype="float32").state_dict() for place in (start, tmp_path / "out"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("loss", "spec"), [*WAYS.items(), ("sampled_kl", RS_KD)], ids=[*WAYS, "rs_kd"])
def test_a_text_of_one_token_teaches_nothing_and_ends_no_training(tmp_path: Path, loss: str, spec: LogitsSpec) -> None:
    """A table that was imported may hold such rows; alone in a batch they have not one position."""
    lengths_S = np.array([24, 1, 9, 1])
    is_text = np.arange(24) < lengths_S[:, None]
    supervised_ST = examples().supervised_ST[:4] & is_text
    ids_ST = (examples().ids_ST[:4] * is_text).astype(np.int32)
    padded = Packed(ids_ST=ids_ST, supervised_ST=supervised_ST, dropped_tokens=0, lengths_S=lengths_S)
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    teacher = load_model(place.directory, dtype="float32")
    rows = [padded.row(number) for number in range(4)]
    teacher_logits.make(teacher, rows, spec, tmp_path / "cache", task=CountingTask(), stage=CountingStage())
    settings = dataclasses.replace(smoke_spec().train, batch_size=1, accumulation_steps=1)
    cache = open_cache(tmp_path / "cache")
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0, loss=loss)
    job = TrainJob(arm_id="kd", arm=arm, train=settings, dtype="float32", seed=3, examples=padded, cache=cache)
    results = train(
        job,
        resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory,
        from_share=0.0,
        to_share=1.0,
        out_dir=tmp_path / "out",
        stage=CountingStage(),
        task=CountingTask(),
    )
    assert np.isfinite([results["loss_first"], results["loss_last"]]).all()
    state = load_model(tmp_path / "out", dtype="float32").state_dict()
    assert all(bool(torch.isfinite(weight).all()) for weight in state.values())


def test_the_teachers_stage_goes_on_behind_a_sealed_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.SHARD_ROWS", 60)
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.PRIOR_ROWS", 40)
    spec = WAYS["sampled_kl"]
    made(tmp_path / "whole", spec)
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    teacher = load_model(place.directory, dtype="float32")
    seen = 0

    class Stopped(Exception):
        pass

    class StoppingStage(CountingStage):
        def add(self, **counts: float) -> None:
            nonlocal seen
            seen += 1
            if seen == 2:
                raise Stopped

    rows = [row.tolist() for row in examples().ids_ST]
    with pytest.raises(Stopped):
        teacher_logits.make(teacher, rows, spec, tmp_path / "cut", task=CountingTask(), stage=StoppingStage())
    made(tmp_path / "cut", spec)
    whole, cut = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("whole", "cut"))
    assert whole == cut


def test_a_loss_that_the_cache_cannot_feed_is_refused() -> None:
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0)
    with pytest.raises(StillwattError, match="reads a top_k cache, and the logit cache is a sample cache"):
        check_arm(arm, 1.0, WAYS["sampled_kl"].source)
    assert WAYS["top_p_tail"].source is Source.TOP_P
    assert "cache" not in dataclasses.replace(RS_KD, cache=None).identity
    assert RS_KD.identity["cache"]["draws"] == 20
