from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import StillwattError
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.arm_check import check_arm
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, device, load_model, load_tokenizer, save_model
from stillwatt.pipelines.objectives.reference import divergence
from stillwatt.pipelines.schedule import learning_rate
from stillwatt.pipelines.spec import ArmSpec, Method, TrainSpec
from stillwatt.pipelines.student_train import TrainJob, num_steps, step_at, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from tiny_models import CountingStage, CountingTask, ListJournal, files_below, list_meter, smoke_spec

_SFT = ArmSpec(name="sft", method=Method.SFT, alpha=None, temperature=None)
_TRAIN = dataclasses.replace(smoke_spec().train, learning_rate=1e-2, checkpoints=(0.5, 1.0))


def _examples(rows: int = 8, length: int = 16, *, masked: bool = False) -> Packed:
    rng = np.random.default_rng(4)
    supervised = np.ones((rows, length), dtype=np.bool_)
    if masked:
        # rows of very unequal length, so that a mean of means would differ from the mean
        for row in range(rows):
            supervised[row, 1 + row * (length - 2) // rows :] = False
            supervised[row, 1] = True
    supervised[:, 0] = False
    ids = rng.integers(0, 256, (rows, length)).astype(np.int32)
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def _start() -> Path:
    return resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory


def _job(**changes: Any) -> TrainJob:
    job = TrainJob(arm_id="sft", arm=_SFT, train=_TRAIN, dtype="float32", seed=3, examples=_examples(), cache=None)
    return dataclasses.replace(job, **changes)


def _run(
    job: TrainJob, out: Path, *, start: Path | None = None, shares: tuple[float, float] = (0.0, 1.0)
) -> tuple[dict[str, Any], CountingStage]:
    stage = CountingStage()
    found = train(
        job,
        start or _start(),
        from_share=shares[0],
        to_share=shares[1],
        out_dir=out,
        stage=stage,
        task=CountingTask(),
    )
    return found, stage


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(directory, dtype="float32").state_dict())


def _assert_close(left: Path, right: Path, *, atol: float) -> None:
    for (name, a), b in zip(_weights(left).items(), _weights(right).values(), strict=True):
        assert torch.allclose(a, b, atol=atol, rtol=0.0), (name, float((a - b).abs().max()))


def test_one_step_is_the_step_that_plain_torch_takes(tmp_path: Path) -> None:
    spec = dataclasses.replace(_TRAIN, batch_size=8, warmup_steps=0, schedule="constant", max_grad_norm=1e9)
    job = _job(train=spec, examples=_examples(masked=True))
    _run(job, tmp_path / "ours")

    model = load_model(_start(), dtype="float32").train()
    ids = torch.from_numpy(job.examples.ids_ST.astype(np.int64))
    labels = ids.masked_fill(~torch.from_numpy(job.examples.supervised_ST), -100)
    loss = model(input_ids=ids, labels=labels).loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=0.0)
    loss.backward()
    optimizer.step()
    for (name, ours), theirs in zip(_weights(tmp_path / "ours").items(), model.state_dict().values(), strict=True):
        # AdamW's first step is the sign of the gradient, so entries whose gradient is all rounding may go either way
        differs = (ours - theirs).abs() > spec.learning_rate / 100
        assert differs.float().mean() < 0.01, name


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 4), (2, 2)])
def test_accumulation_takes_the_step_of_the_whole_batch(tmp_path: Path, batch: int, accumulation: int) -> None:
    whole = dataclasses.replace(_TRAIN, batch_size=4, accumulation_steps=1)
    parts = dataclasses.replace(_TRAIN, batch_size=batch, accumulation_steps=accumulation)
    examples = _examples(masked=True)
    first, _ = _run(_job(train=whole, examples=examples), tmp_path / "whole")
    second, _ = _run(_job(train=parts, examples=examples), tmp_path / "parts")
    assert second["loss_first"] == pytest.approx(first["loss_first"], rel=1e-5)
    assert second["loss_last"] == pytest.approx(first["loss_last"], rel=1e-4)
    # AdamW divides by the gradient's size, so rounding of tiny gradients shows up to a share of the learning rate
    _assert_close(tmp_path / "whole", tmp_path / "parts", atol=_TRAIN.learning_rate / 20)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_training_in_increments_ends_where_one_go_does(tmp_path: Path, optimizer: str) -> None:
    job = _job(train=dataclasses.replace(_TRAIN, optimizer=optimizer))
    _run(job, tmp_path / "whole")
    half, _ = _run(job, tmp_path / "half", shares=(0.0, 0.5))
    rest, _ = _run(job, tmp_path / "rest", start=tmp_path / "half", shares=(0.5, 1.0))
    _assert_close(tmp_path / "whole", tmp_path / "rest", atol=0.0)
    assert half["tokens_total"] == 64
    assert rest["tokens_total"] == 128
    weights = load_model(tmp_path / "rest", dtype="float32").parameters()
    assert half["parameters"] == rest["parameters"] == sum(weight.numel() for weight in weights)


def test_an_increment_that_runs_twice_gives_the_same_checkpoint(tmp_path: Path) -> None:
    for name in "ab":
        _run(_job(), tmp_path / name, shares=(0.0, 0.5))
    _assert_close(tmp_path / "a", tmp_path / "b", atol=0.0)


def test_the_seed_is_the_order(tmp_path: Path) -> None:
    losses = [_run(_job(seed=seed), tmp_path / str(seed), shares=(0.0, 0.25))[0]["loss_first"] for seed in (3, 4)]
    assert losses[0] != losses[1]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    ids = np.tile(np.arange(16, dtype=np.int32), (16, 1))
    examples = dataclasses.replace(_examples(16), ids_ST=ids)
    found, _ = _run(_job(examples=examples), tmp_path / "out")
    assert found["loss_first"] == pytest.approx(math.log(257), rel=0.05)
    assert found["loss_last"] < 0.7 * found["loss_first"]


def test_another_trainer_that_broke_off_amid_its_accumulation_stops_no_step(tmp_path: Path) -> None:
    _run(_job(), tmp_path / "alone")
    # whatever loader an earlier test of this process left at its end
    plugin = GradientAccumulationPlugin(num_steps=2, sync_with_dataloader=False)
    accelerator = Accelerator(gradient_accumulation_plugin=plugin)
    with contextlib.suppress(FloatingPointError), accelerator.accumulate(torch.nn.Linear(1, 1)):
        raise FloatingPointError("diverged")
    assert not accelerator.sync_gradients
    _run(_job(), tmp_path / "after")
    _assert_close(tmp_path / "alone", tmp_path / "after", atol=0.0)


def test_counts_are_tokens_without_padding(tmp_path: Path) -> None:
    examples = _examples(7, masked=True)
    found, stage = _run(_job(examples=examples), tmp_path / "out")
    assert stage.counts == {
        "tokens": 7 * 16,
        "supervised_tokens": int(examples.supervised_ST.sum()),
        "steps": 4,
    }
    assert found["tokens_total"] == 7 * 16


def test_the_last_checkpoint_keeps_no_optimiser_state(tmp_path: Path) -> None:
    _run(_job(), tmp_path / "half", shares=(0.0, 0.5))
    assert "optimizer.safetensors" in files_below(tmp_path / "half")
    _run(_job(), tmp_path / "whole", start=tmp_path / "half", shares=(0.5, 1.0))
    kept = files_below(tmp_path / "whole")
    assert "optimizer.safetensors" not in kept
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= kept


def _sharp(*, is_student: bool) -> CausalModel:
    """A model that is sure of itself: an untrained one says nearly the same at every position."""
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=is_student)
    model = load_model(place.directory, dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    return model


def _kd_job(tmp_path: Path, *, alpha: float) -> TrainJob:
    spec, job = smoke_spec(), _job()
    assert spec.logits is not None
    sequences = [row.tolist() for row in job.examples.ids_ST]
    settings = dataclasses.replace(spec.logits, top_k=257)
    cache_dir = tmp_path / "cache"
    teacher = _sharp(is_student=False)
    teacher_logits.make(teacher, sequences, settings, cache_dir, task=CountingTask(), stage=CountingStage())
    arm = ArmSpec(name="kd", method=Method.KD, alpha=alpha, temperature=1.0)
    return dataclasses.replace(job, arm_id="kd", arm=arm, cache=LogitCache.open(cache_dir))


def test_kd_with_alpha_1_trains_as_sft_does(tmp_path: Path) -> None:
    kd, _ = _run(_kd_job(tmp_path, alpha=1.0), tmp_path / "kd")
    sft, _ = _run(_job(), tmp_path / "sft")
    assert kd.pop("objective") == sft.pop("objective") == "cross-entropy"
    assert kd.pop("loss_curve") == pytest.approx(sft.pop("loss_curve"), rel=1e-4)
    assert kd == pytest.approx(sft, rel=1e-4)


def test_kd_compares_with_the_teacher_at_the_same_position(tmp_path: Path) -> None:
    """With every token kept and no cross-entropy, the first loss is the divergence of teacher and student."""
    job = _kd_job(tmp_path, alpha=0.0)
    save_model(_sharp(is_student=True), load_tokenizer(_start()), tmp_path / "start")
    found, _ = _run(job, tmp_path / "kd", start=tmp_path / "start", shares=(0.0, 0.25))
    # the first step's two sequences, by the seed's own permutation
    first = np.random.default_rng(job.seed).permutation(len(job.examples.ids_ST))[:2]
    ids = torch.from_numpy(job.examples.ids_ST[first].astype(np.int64))
    with torch.no_grad():
        teacher, student = (
            torch.log_softmax(model(input_ids=ids).logits[:, :-1], dim=-1)
            for model in (_sharp(is_student=False), _sharp(is_student=True))
        )
    divergence = (teacher.exp() * (teacher - student)).sum(-1).mean()
    shifted = (teacher.exp() * (teacher - student.roll(1, 1))).sum(-1).mean()
    assert abs(float(divergence - shifted)) > 0.05 * float(divergence)
    assert found["loss_first"] == pytest.approx(float(divergence), rel=1e-2)


def _online_job(loss: str = "forward_kl", *, alpha: float = 0.0, **arm: Any) -> tuple[TrainJob, ListJournal]:
    """A job whose teacher runs beside the student, and the journal its stages are written to."""
    meter, journal = list_meter()
    job = _job()
    teacher = OnlineTeacher(
        load=lambda: _sharp(is_student=False),
        open_stage=lambda: meter.stage("teacher_online.kd", kind=StageKind.TEACHER_LOGITS),
        examples=job.examples,
        place=device(),
    )
    spec = ArmSpec(name="kd", method=Method.KD, alpha=alpha, temperature=1.0, loss=loss, **arm)
    return dataclasses.replace(job, arm_id="kd", arm=spec, teacher=teacher), journal


@pytest.mark.parametrize(
    ("loss", "parameter"), [("forward_kl", None), ("reverse_kl", None), ("jsd", 0.3), ("tvd", None), ("skew_kl", 0.1)]
)
def test_an_online_teacher_is_compared_with_at_the_same_position(
    tmp_path: Path, loss: str, parameter: float | None
) -> None:
    job, journal = _online_job(loss, loss_parameter=parameter)
    save_model(_sharp(is_student=True), load_tokenizer(_start()), tmp_path / "start")
    found, stage = _run(job, tmp_path / "kd", start=tmp_path / "start", shares=(0.0, 0.25))
    first = np.random.default_rng(job.seed).permutation(len(job.examples.ids_ST))[:2]
    ids = torch.from_numpy(job.examples.ids_ST[first].astype(np.int64))
    with torch.no_grad():
        teacher, student = (
            model(input_ids=ids).logits[:, :-1].flatten(0, 1)
            for model in (_sharp(is_student=False), _sharp(is_student=True))
        )
    wanted = divergence(loss, teacher, student, temperature=1.0, parameter=parameter).mean()
    assert found["loss_first"] == pytest.approx(float(wanted), rel=1e-4)
    assert loss in found["objective"]
    assert journal.workload("teacher_online.kd") == {"tokens": stage.counts["tokens"]}


def test_a_whole_cache_trains_as_the_teacher_beside_the_student_does(tmp_path: Path) -> None:
    cached, _ = _run(_kd_job(tmp_path, alpha=0.5), tmp_path / "cached")
    online, _ = _run(_online_job(alpha=0.5)[0], tmp_path / "online")
    assert cached["loss_first"] == pytest.approx(online["loss_first"], rel=1e-2)
    assert cached["loss_last"] == pytest.approx(online["loss_last"], rel=1e-2)


def test_how_far_the_teacher_reads_ahead_alters_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, journal = _online_job()
    _run(job, tmp_path / "far")
    assert len(journal.stages()) == 1
    monkeypatch.setattr("stillwatt.pipelines.student_train.READ_AHEAD_TOKENS", 1)
    job, journal = _online_job()
    _run(job, tmp_path / "near")
    assert len(journal.stages()) == num_steps(job)
    _assert_close(tmp_path / "far", tmp_path / "near", atol=0.0)


@pytest.mark.parametrize("loss", ["truncated_top_k", "renormalised_top_k"])
def test_cut_off_losses_train_under_their_own_names(tmp_path: Path, loss: str) -> None:
    job = _kd_job(tmp_path, alpha=0.0)
    arm = dataclasses.replace(job.arm, loss=loss)
    found, _ = _run(dataclasses.replace(job, arm=arm), tmp_path / "kd")
    assert math.isfinite(found["loss_last"])
    assert found["objective"] == f"0 CE + 1 T^2 {loss}, T=1"
    assert "cannot see" in (arm.caution or "")


def test_a_cached_row_that_the_student_has_not_is_refused(tmp_path: Path) -> None:
    job = _kd_job(tmp_path, alpha=0.5)
    student = load_model(_start(), dtype="float32")
    student.resize_token_embeddings(256)
    save_model(student, load_tokenizer(_start()), tmp_path / "start")
    with pytest.raises(StillwattError, match="keeps output row 256 of the teacher and the student has 256"):
        _run(job, tmp_path / "kd", start=tmp_path / "start")


def test_a_student_with_rows_of_padding_learns_online(tmp_path: Path) -> None:
    found = []
    for rows in (257, 272):
        student = _sharp(is_student=True)
        student.resize_token_embeddings(rows, mean_resizing=False)
        save_model(student, load_tokenizer(_start()), tmp_path / str(rows))
        found.append(_run(_online_job(alpha=0.5)[0], tmp_path / f"kd{rows}", start=tmp_path / str(rows))[0])
    assert found[0]["loss_first"] == pytest.approx(found[1]["loss_first"], rel=1e-5)
    assert found[0]["loss_last"] == pytest.approx(found[1]["loss_last"], rel=1e-4)


def test_a_loss_that_is_no_number_names_the_arm_and_the_step(tmp_path: Path) -> None:
    job = _job(train=dataclasses.replace(_TRAIN, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e9))
    with pytest.raises(StillwattError, match=r"arm 'sft': the loss is (nan|inf) at step \d of 4"):
        _run(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_step_is_refused(tmp_path: Path) -> None:
    _run(_job(), tmp_path / "quarter", shares=(0.0, 0.25))
    with pytest.raises(StillwattError, match="written at step 1, expected 2"):
        _run(_job(), tmp_path / "out", start=tmp_path / "quarter", shares=(0.5, 1.0))


def test_a_checkpoint_that_counts_no_tokens_is_refused(tmp_path: Path) -> None:
    _run(_job(), tmp_path / "half", shares=(0.0, 0.5))
    progress = tmp_path / "half" / "training.json"
    kept = json.loads(progress.read_text(encoding="utf-8"))
    progress.write_text(json.dumps({key: kept[key] for key in kept if key != "tokens_done"}), encoding="utf-8")
    with pytest.raises(StillwattError, match="written by an earlier version"):
        _run(_job(), tmp_path / "out", start=tmp_path / "half", shares=(0.5, 1.0))


@pytest.mark.parametrize(("change", "said"), [({"optimizer": "sgd"}, "optimizer"), ({"schedule": "step"}, "schedule")])
def test_unknown_settings_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(StillwattError, match=f"train.{said}"):
        _run(_job(train=dataclasses.replace(_TRAIN, **change)), tmp_path / "out")


@given(share=st.floats(0.01, 1.0), steps=st.integers(1, 500))
def test_checkpoints_lie_at_whole_steps_not_before_their_share(share: float, steps: int) -> None:
    step = step_at(share, steps)
    assert 1 <= step <= steps
    assert step >= share * steps - 1e-5
    assert step - 1 < share * steps
    assert step_at(1.0, steps) == steps


@given(warmup=st.integers(0, 20), steps=st.integers(1, 60))
def test_the_learning_rate_rises_then_falls(warmup: int, steps: int) -> None:
    spec: TrainSpec = dataclasses.replace(_TRAIN, warmup_steps=warmup, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(spec, step, steps) for step in range(steps)]
    assert all(0.0 < rate <= 1.0 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    if warmup < steps:
        assert max(rates) == 1.0


def test_steps_cover_every_sequence_once() -> None:
    assert num_steps(_job(examples=_examples(7))) == 4
    assert num_steps(_job(examples=_examples(8))) == 4


def test_an_arm_at_another_temperature_than_its_cache_is_refused() -> None:
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=2.0)
    with pytest.raises(StillwattError, match=r"temperature 2\.0 differs from the logit cache's 1\.0"):
        check_arm(arm, 1.0)
    with pytest.raises(StillwattError, match="kd needs alpha and temperature"):
        check_arm(dataclasses.replace(arm, alpha=None), 2.0)
    check_arm(arm, 2.0)
    check_arm(_SFT, None)
    check_arm(dataclasses.replace(arm, loss="forward_kl"), None)
    with pytest.raises(StillwattError, match="reads a sample cache, and the logit cache is a top_k cache"):
        check_arm(dataclasses.replace(arm, loss="sampled_kl"), 2.0)
    with pytest.raises(StillwattError, match="arm 'kd': loss 'jsd' needs beta"):
        check_arm(dataclasses.replace(arm, loss="jsd"), 2.0)
