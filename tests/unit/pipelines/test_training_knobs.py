"""Schedules, weight decay, betas and gradient checkpointing: what they do, and that what was there stays as it was."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import StillwattError
from stillwatt.pipelines.models import load_model
from stillwatt.pipelines.optimizers import make_optimizer
from stillwatt.pipelines.recompute import recompute_layers
from stillwatt.pipelines.schedule import learning_rate
from stillwatt.pipelines.student_train import _Loop
from tiny_trainings import METHODS, TRAIN, examples, greatest_difference, job, job_of, run_training, start, weights

WSD = {"schedule": "wsd", "decay_share": 0.5, "final_rate_share": 0.1}


def rates(steps: int, **changes: Any) -> list[float]:
    spec = dataclasses.replace(TRAIN, learning_rate=1.0, **changes)
    return [learning_rate(spec, step, steps) for step in range(steps)]


def test_worked_rates() -> None:
    assert rates(4, warmup_steps=0, schedule="linear") == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert rates(4, warmup_steps=0, schedule="linear", final_rate_share=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4])
    assert rates(10, warmup_steps=2, schedule="wsd", decay_share=0.4) == pytest.approx(
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    )
    # a share that is less than a step is one step, as of a checkpoint
    assert rates(4, warmup_steps=0, schedule="wsd", decay_share=0.1) == [1.0, 1.0, 1.0, 1.0]
    assert rates(4, warmup_steps=0, schedule="cosine", final_rate_share=0.5)[2] == pytest.approx(0.75)


@given(
    warmup=st.integers(0, 20),
    steps=st.integers(1, 60),
    end=st.floats(0.0, 0.99),
    share=st.floats(0.01, 0.99),
    schedule=st.sampled_from(["cosine", "linear", "wsd"]),
)
def test_a_rate_rises_once_and_falls_to_its_end(
    warmup: int, steps: int, end: float, share: float, schedule: str
) -> None:
    decay = share if schedule == "wsd" else None
    found = rates(steps, warmup_steps=warmup, schedule=schedule, final_rate_share=end, decay_share=decay)
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert all(end - 1e-12 <= rate <= 1.0 for rate in found[warmup:])
    if warmup < steps:
        assert max(found) == 1.0
        spec = dataclasses.replace(
            TRAIN, learning_rate=1.0, warmup_steps=warmup, schedule=schedule, final_rate_share=end, decay_share=decay
        )
        assert learning_rate(spec, steps, steps) == pytest.approx(end)


@given(step=st.integers(0, 59), warmup=st.integers(0, 20))
def test_rates_of_recipes_that_say_nothing_new_are_what_they_were_to_the_bit(step: int, warmup: int) -> None:
    rate, steps = 3e-4, 60
    cosine = dataclasses.replace(TRAIN, learning_rate=rate, warmup_steps=warmup, schedule="cosine")
    if step >= warmup:
        done = (step - warmup) / max(1, steps - warmup)
        assert learning_rate(cosine, step, steps) == rate * 0.5 * (1.0 + math.cos(math.pi * done))
        assert learning_rate(dataclasses.replace(cosine, schedule="constant"), step, steps) == rate


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_weight_decay_takes_a_share_of_matrices_and_nothing_of_norms(optimizer: str) -> None:
    matrix, norm = (torch.nn.Parameter(torch.full(shape, 2.0)) for shape in ((3, 2), (3,)))
    spec = dataclasses.replace(TRAIN, optimizer=optimizer, learning_rate=0.5, weight_decay=0.1)
    made = make_optimizer(spec, [norm, matrix])
    for weights_ in (matrix, norm):
        weights_.grad = torch.zeros_like(weights_)
    made.step()
    assert torch.allclose(matrix, torch.full((3, 2), 2.0 * (1.0 - 0.5 * 0.1)))
    assert torch.equal(norm, torch.full((3,), 2.0))


def test_betas_are_those_of_torch_unless_said() -> None:
    parameter = [torch.nn.Parameter(torch.zeros(2, 2))]
    assert make_optimizer(TRAIN, parameter).param_groups[0]["betas"] == (0.9, 0.999)
    said = dataclasses.replace(TRAIN, betas=(0.8, 0.95))
    assert make_optimizer(said, parameter).param_groups[0]["betas"] == (0.8, 0.95)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.3},
        {"weight_decay": 0.3, "optimizer": "adafactor"},
        {"betas": (0.8, 0.95)},
        WSD,
        {"schedule": "linear", "final_rate_share": 0.1},
        {"gradient_checkpointing": True},
    ],
)
def test_training_in_increments_ends_where_one_go_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    wanted = job(train=dataclasses.replace(TRAIN, **changes))
    run_training(wanted, tmp_path / "whole")
    run_training(wanted, tmp_path / "half", shares=(0.0, 0.5))
    run_training(wanted, tmp_path / "rest", begin=tmp_path / "half", shares=(0.5, 1.0))
    assert greatest_difference(tmp_path / "whole", tmp_path / "rest") == 0.0
    if "gradient_checkpointing" not in changes:
        run_training(job(), tmp_path / "plain")
        assert greatest_difference(tmp_path / "whole", tmp_path / "plain") > 0.0


def gradients(loop: _Loop, monkeypatch: pytest.MonkeyPatch) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of a loop's first step, taken before the optimiser sees them."""
    kept: list[torch.Tensor] = []

    def keep(parameters: list[torch.nn.Parameter], _norm: float) -> None:
        kept.extend(parameter.grad.clone() for parameter in parameters if parameter.grad is not None)

    monkeypatch.setattr(loop._accelerator, "clip_grad_norm_", keep)
    loss = loop.step(loop.batches(0, 0, 4), 0, 4)
    return loss, kept


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_are_computed_again_give_the_same_gradients(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for is_again in (False, True):
        wanted = job_of(method, tmp_path, train=dataclasses.replace(TRAIN, gradient_checkpointing=is_again))
        model = load_model(start(), dtype="float32")
        passes = 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1

        loop = _Loop(wanted, model)
        model.get_decoder().layers[0].mlp.register_forward_pre_hook(count)
        if wanted.own_text is not None:
            monkeypatch.setattr(type(wanted.own_text), "takes", lambda *_: True)
        found.append(gradients(loop, monkeypatch))
        if method == "sft":
            assert passes == (2 if is_again else 1)
    (loss, plain), (again, recomputed) = found
    assert again == pytest.approx(loss, rel=1e-6)
    assert len(plain) == len(recomputed) > 10
    for ours, theirs in zip(recomputed, plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_a_student_whose_layers_are_computed_again_is_saved_as_any_other(tmp_path: Path) -> None:
    run_training(job(), tmp_path / "plain")
    run_training(job(train=dataclasses.replace(TRAIN, gradient_checkpointing=True)), tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (tmp_path / "plain" / "config.json").read_bytes()
    assert greatest_difference(tmp_path / "plain", tmp_path / "again") < 1e-4


def test_a_student_that_cannot_compute_again_is_refused() -> None:
    model = load_model(start(), dtype="float32")
    model.supports_gradient_checkpointing = False
    with pytest.raises(StillwattError, match=r"set train\.gradient_checkpointing = false"):
        recompute_layers(model)


def test_decay_moves_the_weights_of_a_training(tmp_path: Path) -> None:
    run_training(job(examples=examples(), train=dataclasses.replace(TRAIN, weight_decay=1.0)), tmp_path / "decayed")
    run_training(job(), tmp_path / "plain")
    decayed, plain = weights(tmp_path / "decayed"), weights(tmp_path / "plain")
    name = "model.embed_tokens.weight"
    assert float(decayed[name].norm()) < float(plain[name].norm())
