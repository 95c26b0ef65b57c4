"""Texts that are longer than a model has positions for, or than it was made for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    BloomConfig,
    CodeGenConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    RobertaConfig,
    XGLMConfig,
)

from stillwatt.errors import StillwattError
from stillwatt.pipelines.model_fit import table_rows
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, load_model, load_tokenizer, save_model
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from study_place import Place
from tiny_models import smoke_spec

PLACES = 16
GPT: dict[str, Any] = {"vocab_size": 64, "n_positions": PLACES, "n_embd": 16, "n_layer": 1, "n_head": 2}
BERT: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
READS: dict[str, Any] = {"max_position_embeddings": PLACES}
TABLES = [
    GPT2Config(**GPT),
    GPTBigCodeConfig(**GPT),
    GPTJConfig(**GPT, rotary_dim=4),
    CodeGenConfig(**{**GPT, "n_head": 4}, rotary_dim=4),
    OPTConfig(**BERT, **READS, ffn_dim=16, word_embed_proj_dim=8),
    GPTNeoConfig(vocab_size=64, hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]], **READS),
    BioGptConfig(**BERT, **READS, intermediate_size=16),
    RobertaConfig(**BERT, max_position_embeddings=PLACES + 2, is_decoder=True),
]
COMPUTED = [
    LlamaConfig(**BERT, **READS, intermediate_size=16),
    GPTNeoXConfig(**BERT, **READS, intermediate_size=16),
    BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2),
    XGLMConfig(vocab_size=64, d_model=16, ffn_dim=16, num_layers=1, attention_heads=2, **READS),
]


def named(config: Any) -> str:
    return str(config.model_type)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    return Place(tmp_path / "runs")


def reads(config: Any, length: int) -> bool:
    model: CausalModel = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        model(input_ids=torch.full((1, length), 5))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("config", TABLES, ids=named)
def test_a_table_of_positions_is_as_long_as_the_longest_text_that_goes_through(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    assert list(table_rows(tmp_path)) == [PLACES]
    assert [reads(config, length) for length in (PLACES, PLACES + 1)] == [True, False]


@pytest.mark.parametrize("config", COMPUTED, ids=named)
def test_positions_that_are_computed_have_no_table_and_no_end(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    assert list(table_rows(tmp_path)) == []
    assert reads(config, PLACES + 5)


def folder_of(directory: Path, model: CausalModel) -> str:
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    save_model(model, load_tokenizer(place.directory), directory)
    return f"path:{directory}"


def gpt2(directory: Path, places: int) -> str:
    config = GPT2Config(**{**GPT, "vocab_size": 257, "n_positions": places}, bos_token_id=0, eos_token_id=0)
    return folder_of(directory, GPT2LMHeadModel(config))


def with_models(spec: PipelineSpec, teacher: str, student: str) -> PipelineSpec:
    start = dataclasses.replace(spec.students[0], name="s", source=student, drop_layers=0, candidate_starts=())
    return dataclasses.replace(spec, teacher=dataclasses.replace(spec.teacher, source=teacher), students=(start,))


ARMS = smoke_spec().arms[:1]
OWN_TEXT = OwnTextSpec(prompt_tokens=8, max_new_tokens=40, temperature=1.0, top_p=1.0)
LONG = dataclasses.replace(smoke_spec().data, sequence_tokens=64)


@pytest.mark.parametrize(
    ("changes", "whose", "said"),
    [
        (
            {},
            "student",
            r"student 's' \(.*model\) has a table of positions for texts of 32 tokens, and data.seq",
        ),
        ({}, "teacher", r"the teacher \(.*model\) has a table .* makes them 64 long: lower it, or choose"),
        (
            {"data": smoke_spec().data, "own_text": OWN_TEXT},
            "student",
            r"and student_generate.prompt_tokens \+ student_generate.max_new_tokens makes them 48 long",
        ),
    ],
)
def test_texts_beyond_a_table_of_positions_are_refused_before_anything_is_prepared(
    place: Place, tmp_path: Path, changes: dict[str, Any], whose: str, said: str
) -> None:
    spec = smoke_spec(**{"serve": None, "arms": ARMS, "data": LONG, **changes})
    models = {"teacher": "tiny-random", "student": "tiny-random", whose: gpt2(tmp_path / "model", 32)}
    with pytest.raises(StillwattError, match=said):
        place.run(with_models(spec, models["teacher"], models["student"]))
    assert place.journal.stages() == ["prepare_data"]
    assert not place.journal.results("prepare_data")


def test_texts_as_long_as_the_table_are_taken_without_a_word(place: Place, tmp_path: Path) -> None:
    spec = smoke_spec(serve=None, arms=ARMS)
    journal = place.run(with_models(spec, "tiny-random", gpt2(tmp_path / "model", 32)))
    assert set(journal.status().values()) == {"ended"}
    assert not journal.of("warning")


def test_texts_beyond_what_a_model_was_made_for_are_warned_of_on_the_books(place: Place, tmp_path: Path) -> None:
    source = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True)
    model = load_model(source.directory, dtype="float32")
    model.config.max_position_embeddings = 24
    student = folder_of(tmp_path / "model", model)
    journal = place.run(with_models(smoke_spec(serve=None, arms=ARMS), "tiny-random", student))
    (warned,) = journal.of("warning")
    assert "student 's'" in warned["message"]
    assert "is made for texts of 24 tokens (max_position_embeddings), and data.sequence_tokens" in warned["message"]
    assert warned["message"] in place.said
    assert journal.status()["evaluate.sft.1.0"] == "ended"
