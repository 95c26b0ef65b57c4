"""Training on a student's own text: what is counted, what is compared, and what a kill leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import StillwattError
from stillwatt.pipelines.arm_check import check_arm
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, device, load_model, load_tokenizer
from stillwatt.pipelines.objectives.reference import divergence
from stillwatt.pipelines.on_policy import OwnText, takes_own_text
from stillwatt.pipelines.passes import Microbatch
from stillwatt.pipelines.spec import ArmSpec, Method
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.student_train import TrainJob, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from tiny_models import CountingStage, CountingTask, ListJournal, list_meter, smoke_spec

_TRAIN = dataclasses.replace(smoke_spec().train, learning_rate=1e-2, batch_size=2)
_OWN = OwnTextSpec(prompt_tokens=4, max_new_tokens=12, temperature=1.0, top_p=1.0)


def _examples(rows: int = 8, length: int = 16) -> Packed:
    supervised = np.ones((rows, length), dtype=np.bool_)
    supervised[:, 0] = False
    ids = np.random.default_rng(4).integers(0, 256, (rows, length)).astype(np.int32)
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def _start() -> Path:
    return resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory


def _teacher() -> CausalModel:
    directory = resolve_model("tiny-random", revision=None, announce=lambda _: None).directory
    model = load_model(directory, dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    return model


def _job(
    share: float | None, *, alpha: float = 0.25, loss: str = "jsd", **changes: Any
) -> tuple[TrainJob, ListJournal]:
    """An on-policy arm; with no share, the same arm as plain online KD."""
    meter, journal = list_meter()
    examples = _examples()
    method = Method.KD if share is None else Method.GKD
    parameter = 0.5 if loss == "jsd" else None
    arm = ArmSpec(
        name="gkd", method=method, alpha=alpha, temperature=2.0, loss=loss, loss_parameter=parameter,
        own_text_share=share,
    )  # fmt: skip
    teacher = OnlineTeacher(
        load=_teacher,
        open_stage=lambda: meter.stage("teacher_online.gkd", kind=StageKind.TEACHER_LOGITS),
        examples=examples,
        place=device(),
    )
    own_text = OwnText(
        spec=_OWN,
        share=share or 0.0,
        seed=3,
        prompts=examples,
        tokenizer=load_tokenizer(_start()),
        open_stage=lambda: meter.stage("student_generate.gkd", kind=StageKind.OTHER),
    )
    job = TrainJob(
        arm_id="gkd", arm=arm, train=_TRAIN, dtype="float32", seed=3, examples=examples, cache=None, teacher=teacher,
        own_text=None if share is None else own_text,
    )  # fmt: skip
    return dataclasses.replace(job, **changes), journal


def _run(
    job: TrainJob, out: Path, *, start: Path | None = None, shares: tuple[float, float] = (0.0, 1.0)
) -> tuple[dict[str, Any], CountingStage]:
    stage = CountingStage()
    from_share, to_share = shares
    start_dir = start or _start()
    task = CountingTask()
    found = train(job, start_dir, from_share=from_share, to_share=to_share, out_dir=out, stage=stage, task=task)
    return found, stage


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(directory, dtype="float32").state_dict())


def _assert_same(left: Path, right: Path) -> None:
    for (name, a), b in zip(_weights(left).items(), _weights(right).values(), strict=True):
        assert torch.equal(a, b), (name, float((a - b).abs().max()))


def test_without_own_text_it_is_the_teacher_beside_the_student(tmp_path: Path) -> None:
    gkd, _ = _run(_job(0.0)[0], tmp_path / "gkd")
    kd, _ = _run(_job(None)[0], tmp_path / "kd")
    assert gkd.pop("own_text_steps") == 0
    assert gkd == kd
    _assert_same(tmp_path / "gkd", tmp_path / "kd")


def test_what_is_counted_is_what_was_generated_and_trained_on(tmp_path: Path) -> None:
    job, journal = _job(1.0)
    found, stage = _run(job, tmp_path / "gkd")
    written = journal.workload("student_generate.gkd")
    prompts = 8 * _OWN.prompt_tokens
    assert found["own_text_steps"] == 4
    assert written["samples"] == 8
    assert 8 <= written["generated_tokens"] <= 8 * _OWN.max_new_tokens
    assert written["tokens"] == prompts + written["generated_tokens"]
    # the student is trained on every token it wrote, its end tokens included, and on no prompt and no padding
    assert stage.counts["supervised_tokens"] == written["generated_tokens"]
    assert stage.counts["tokens"] == written["tokens"] == found["tokens_total"]
    assert journal.workload("teacher_online.gkd") == {"tokens": written["tokens"]}
    assert "on own text with probability 1" in found["objective"]


@pytest.mark.parametrize("loss", ["jsd", "forward_kl", "reverse_kl"])
def test_the_first_loss_is_the_divergence_on_the_students_own_tokens(tmp_path: Path, loss: str) -> None:
    job, _ = _job(1.0, loss=loss)
    found, _ = _run(job, tmp_path / "gkd", shares=(0.0, 0.25))
    assert job.own_text is not None
    rows = tuple(np.random.default_rng(job.seed).permutation(8)[:2].tolist())
    student = load_model(_start(), dtype="float32")
    (batch,) = job.own_text.write(student, [Microbatch(0, rows)], 0)
    teacher = _teacher()
    sums = []
    for ids, predicted in zip(batch.ids_BT, batch.predicted_BT, strict=True):
        # one text at a time and without its padding: what padding there was must have made no difference
        end = int(predicted.nonzero().max()) + 2
        with torch.no_grad():
            sides = [model(input_ids=ids[None, :end]).logits[0, :-1] for model in (teacher, student)]
        values = divergence(loss, sides[0], sides[1], temperature=2.0, parameter=0.5 if loss == "jsd" else None)
        sums.append(values[predicted[: end - 1]].double().sum())
    wanted = 4.0 * float(sum(sums)) / batch.supervised  # T^2, and alpha has no part in it
    assert found["loss_first"] == pytest.approx(wanted, rel=1e-4)


def test_a_step_is_the_same_in_whatever_microbatches(tmp_path: Path) -> None:
    losses = []
    for batch, accumulation in ((4, 1), (1, 4), (2, 2)):
        train_spec = dataclasses.replace(_TRAIN, batch_size=batch, accumulation_steps=accumulation)
        losses.append(_run(_job(1.0, train=train_spec)[0], tmp_path / str(batch), shares=(0.0, 0.5))[0]["loss_first"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_in_increments_it_ends_where_one_go_does(tmp_path: Path, share: float) -> None:
    whole, _ = _run(_job(share)[0], tmp_path / "whole")
    half, _ = _run(_job(share)[0], tmp_path / "half", shares=(0.0, 0.5))
    rest, _ = _run(_job(share)[0], tmp_path / "rest", start=tmp_path / "half", shares=(0.5, 1.0))
    _assert_same(tmp_path / "whole", tmp_path / "rest")
    assert (rest["loss_last"], rest["tokens_total"]) == (whole["loss_last"], whole["tokens_total"])
    assert half["own_text_steps"] + rest["own_text_steps"] == whole["own_text_steps"]


def test_writing_leaves_the_student_in_training(tmp_path: Path) -> None:
    job, _ = _job(1.0)
    model = load_model(_start(), dtype="float32").train()
    assert job.own_text is not None
    job.own_text.write(model, [Microbatch(0, (0, 1))], 0)
    assert model.training


def test_one_rank_counts_what_all_of_them_write() -> None:
    model = load_model(_start(), dtype="float32")
    counts = []
    for is_counted in (True, False):
        job, journal = _job(1.0)
        assert job.own_text is not None
        dataclasses.replace(job.own_text, is_counted=is_counted).write(model, [Microbatch(0, (0, 1))], 0)
        (name,) = journal.stages()
        counts.append(journal.workload(name))
    assert counts[0]["samples"] == 2
    assert counts[0]["tokens"] > counts[0]["generated_tokens"] > 0
    assert counts[1] == dict.fromkeys(counts[0], 0)


@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 2**31 - 1))
def test_as_many_steps_take_own_text_as_the_share_says(share: float, seed: int) -> None:
    taken = [takes_own_text(share, seed=seed, step=step) for step in range(400)]
    assert abs(sum(taken) / 400 - share) <= 0.15  # six standard errors
    # a greater share takes the same steps and more
    assert all(takes_own_text(min(1.0, share + 0.1), seed=seed, step=s) for s, is_taken in enumerate(taken) if is_taken)


def test_a_cache_cannot_teach_what_is_not_yet_written() -> None:
    arm = ArmSpec(name="gkd", method=Method.GKD, alpha=0.0, temperature=1.0, loss="top_k_tail", own_text_share=0.5)
    with pytest.raises(StillwattError, match="no cache can hold what the student has yet to write"):
        check_arm(arm, 1.0)
