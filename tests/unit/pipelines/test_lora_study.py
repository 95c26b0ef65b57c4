"""Whole studies whose students are trained by LoRA: every method, kills, and what is refused before it costs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft", reason="the lora extra is not installed")

from stillwatt.errors import MissingExtraError, StillwattError
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model
from stillwatt.pipelines.spec import ArmSpec, Method, PipelineSpec
from stillwatt.pipelines.spec_lora import LoraSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from study_place import KillingProgress, Place
from tiny_models import files_below, smoke_spec

LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.1, target_modules="all-linear", use_rslora=False)
GKD = ArmSpec(name="gkd", method=Method.GKD, alpha=0.0, temperature=1.0, loss="reverse_kl", own_text_share=0.5)
OWN = OwnTextSpec(prompt_tokens=8, max_new_tokens=24, temperature=1.0, top_p=1.0)


def study(lora: LoraSpec = LORA, **changes: Any) -> PipelineSpec:
    """All four methods; `changes` replace fields of the spec."""
    spec = smoke_spec(own_text=OWN, serve=None)
    train = dataclasses.replace(spec.train, lora=lora)
    return dataclasses.replace(spec, **{"train": train, "arms": (*spec.arms, GKD), **changes})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_method_trains_adapters_and_ends_in_an_ordinary_student(place: Place) -> None:
    journal = place.run(dataclasses.replace(study(), serve=smoke_spec().serve))
    assert set(journal.status().values()) == {"ended"}
    start = place.directory / "r1" / "state"
    for arm in ("sft", "kd", "synthetic", "gkd"):
        results = journal.results(f"train.{arm}.1.0")
        folder = start / "checkpoints" / arm / "1.0"
        assert not (folder.parent / "0.5").exists()
        assert {"adapter/adapter_config.json", "model.safetensors", "tokenizer.json"} <= files_below(folder)
        student = load_model(folder, dtype="float32")
        assert results["parameters"] == sum(weights.numel() for weights in student.parameters())
        assert 0 < results["trained_parameters"] < results["parameters"]
        scores = [
            {score["task"]: score["value"] for score in journal.results(f"evaluate.{name}")["scores"]}
            for name in ("start", f"{arm}.0.5", f"{arm}.1.0")
        ]
        # what is evaluated is the adapted student, amid the training too
        assert len({score["perplexity"] for score in scores}) == 3


def test_a_killed_study_ends_as_if_it_had_not_been(place: Place, tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole")
    whole.run(study())
    for arm in ("kd", "gkd"):
        killed = place.run(study(), progress=KillingProgress(f"train.{arm}.1.0", 2))
        assert killed.status()[f"train.{arm}.1.0"] == "failed"
    place.run(study(), prefix="b")
    for arm in ("kd", "gkd"):
        for name, values in place.weights(arm).items():
            assert torch.equal(values, whole.weights(arm)[name]), name


def test_a_student_that_is_its_own_teacher_changes_no_teacher(place: Place, tmp_path: Path) -> None:
    teacher = resolve_model("tiny-random", revision=None, announce=lambda _: None).directory
    before = {name: file_sha256(teacher / name) for name in files_below(teacher)}
    spec = study(arms=(smoke_spec().arms[1], GKD), generate=None)
    student = dataclasses.replace(
        spec.students[0], source=f"path:{teacher}", drop_layers=0, candidate_starts=(), selection_tokens=0
    )
    journal = place.run(dataclasses.replace(spec, students=(student,)))
    assert set(journal.status().values()) == {"ended"}
    assert before == {name: file_sha256(teacher / name) for name in files_below(teacher)}
    # beside a teacher of the same weights, a student begins where there is nothing between them
    assert journal.results("train.gkd.0.5")["loss_first"] == pytest.approx(0.0, abs=0.05)


def test_a_layer_that_a_student_has_not_is_refused_before_anything_is_spent(place: Place) -> None:
    with pytest.raises(StillwattError, match=r"'q_porj' is none of its layers, of student 'pruned'.*there are: down"):
        place.run(study(dataclasses.replace(LORA, target_modules=("q_porj",))))
    assert place.journal.stages() == ["prepare_data"]


def test_without_peft_nothing_is_begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stillwatt\[lora\]'"):
        place.run(study())
    assert place.journal.stages() == []
