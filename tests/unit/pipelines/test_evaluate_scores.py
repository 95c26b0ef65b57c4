from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stillwatt.errors import StillwattError
from stillwatt.pipelines import evaluate, prepare_data, serve
from stillwatt.pipelines.corpus import Prepared
from stillwatt.pipelines.evaluate import (
    Question,
    choice_questions,
    choice_score,
    option_losses,
    perplexity_score,
    total_work,
)
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, load_model, load_tokenizer
from stillwatt.pipelines.ranks import Ranks
from tiny_models import CountingStage, CountingTask, smoke_spec

_SPEC = smoke_spec().evaluate


@pytest.fixture
def model() -> CausalModel:
    return load_model(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory, dtype="float32")


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)


@pytest.fixture
def data(tmp_path: Path, tokenizer: Any) -> Prepared:
    spec = smoke_spec()
    prepare_data.make(spec.data, spec.evaluate, tokenizer, tmp_path / "data", task=CountingTask())
    return prepare_data.load(tmp_path / "data")


_losses = hnp.arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 8)), elements=st.floats(0.0, 20.0))


@given(losses=_losses)
def test_perplexity_is_the_exponential_of_the_mean(losses: np.ndarray) -> None:
    score = perplexity_score(losses)
    assert score["value"] == pytest.approx(math.exp(losses.mean()), rel=1e-9)
    assert score["n"] == losses.size
    assert score["se"] >= 0.0


@given(losses=_losses)
def test_the_standard_error_is_that_of_sequence_means(losses: np.ndarray) -> None:
    """With sequences of one length the cluster formula is the textbook one on their means."""
    means = losses.mean(axis=1)
    textbook = means.std(ddof=1) / math.sqrt(len(means))
    score = perplexity_score(losses)
    assert score["se"] == pytest.approx(score["value"] * textbook, rel=1e-6, abs=1e-9 * score["value"])


@given(losses=_losses, shift=st.floats(0.0, 5.0))
def test_perplexity_scales_with_a_shift_of_the_loss(losses: np.ndarray, shift: float) -> None:
    plain, shifted = perplexity_score(losses), perplexity_score(losses + shift)
    assert shifted["value"] == pytest.approx(plain["value"] * math.exp(shift), rel=1e-9)
    assert shifted["se"] == pytest.approx(plain["se"] * math.exp(shift), rel=1e-5, abs=1e-12 * shifted["value"])


@pytest.mark.parametrize("part", ["model.norm.weight", "lm_head.weight"])
def test_a_model_that_gives_nan_is_named(model: CausalModel, tokenizer: Any, data: Prepared, part: str) -> None:
    with torch.no_grad():
        model.get_parameter(part).view(-1)[3] = math.nan
    with pytest.raises(StillwattError, match=rf"{model.name_or_path}: the model gives NaN on held-out text"):
        evaluate.make(model, tokenizer, data, _SPEC, stage=CountingStage(), task=CountingTask(), ranks=Ranks())


def test_perplexity_refuses_what_has_no_standard_error_or_no_value() -> None:
    with pytest.raises(StillwattError, match="at least two"):
        perplexity_score(np.zeros((1, 5)))
    with pytest.raises(StillwattError, match="broken"):
        perplexity_score(np.full((2, 2), 1e4))


@given(answers=st.lists(st.booleans(), min_size=1, max_size=80))
def test_accuracy_is_a_share_and_never_certain(answers: list[bool]) -> None:
    score = choice_score(answers)
    assert score["value"] == sum(answers) / len(answers)
    assert 0.0 < score["se"] <= 0.5 / math.sqrt(len(answers) + 4) + 1e-12
    mirrored = choice_score([not answer for answer in answers])
    assert mirrored["se"] == pytest.approx(score["se"])


def test_perplexity_on_real_text_is_that_of_the_models_own_loss(
    model: CausalModel, tokenizer: Any, data: Prepared
) -> None:
    stage, task = CountingStage(), CountingTask()
    scores = evaluate.make(model, tokenizer, data, _SPEC, stage=stage, task=task, ranks=Ranks())
    assert [score["task"] for score in scores] == ["perplexity", "choice4"]
    assert scores[0]["n"] == 4 * 31
    assert task.done == total_work(_SPEC) == 128 + 8 * (8 + 4 * 4)
    assert stage.counts == {"tokens": task.done}
    end = np.array([tokenizer.eos_token_id])
    stream = np.concatenate([piece for ids in data.held_out_documents for piece in (ids, end)])
    available = len(stream) // 32
    rows = torch.from_numpy(stream[: available * 32].reshape(-1, 32)[[i * available // 4 for i in range(4)]]).long()
    with torch.no_grad():
        own = float(model(input_ids=rows, labels=rows).loss)
    assert scores[0]["value"] == pytest.approx(math.exp(own), rel=1e-5)


def test_batches_do_not_alter_scores(model: CausalModel, tokenizer: Any, data: Prepared) -> None:
    scores = [
        evaluate.make(
            model,
            tokenizer,
            data,
            dataclasses.replace(_SPEC, batch_size=size),
            stage=CountingStage(),
            task=CountingTask(),
            ranks=Ranks(),
        )
        for size in (1, 3, 8)
    ]
    for other in scores[1:]:
        assert [s["value"] for s in other] == pytest.approx([s["value"] for s in scores[0]], rel=1e-5)


def test_too_little_held_out_text_names_the_numbers(model: CausalModel, tokenizer: Any, data: Prepared) -> None:
    with pytest.raises(StillwattError, match="perplexity_tokens = 10000000"):
        evaluate.make(
            model,
            tokenizer,
            data,
            dataclasses.replace(_SPEC, perplexity_tokens=10**7),
            stage=CountingStage(),
            task=CountingTask(),
            ranks=Ranks(),
        )
    with pytest.raises(StillwattError, match="choice_items = 100000"):
        choice_questions(data.held_out_documents, dataclasses.replace(_SPEC, choice_items=100_000))
    with pytest.raises(StillwattError, match="from 1 held-out documents"):
        choice_questions(data.held_out_documents[:1], _SPEC)


@given(seed=st.integers(0, 50), num_documents=st.integers(2, 6))
def test_questions_hold_the_real_continuation_and_three_from_elsewhere(seed: int, num_documents: int) -> None:
    # each document has tokens of its own, so that a token tells where it is from
    documents = [np.arange(100 * i, 100 * i + 60, dtype=np.int32) for i in range(num_documents)]
    spec = dataclasses.replace(_SPEC, seed=seed)
    questions = choice_questions(documents, spec)
    assert questions == choice_questions(documents, spec)
    assert len({item.context for item in questions}) == spec.choice_items
    for item in questions:
        own = item.context[0] // 100
        assert len(item.context) == 8
        assert item.options[item.right][0] == item.context[-1] + 1
        for number, option in enumerate(item.options):
            assert len(option) == 4
            assert (option[0] // 100 == own) == (number == item.right)


def test_the_right_answer_stands_anywhere() -> None:
    documents = [np.arange(400, dtype=np.int32), np.arange(400, 800, dtype=np.int32)]
    places = [item.right for item in choice_questions(documents, dataclasses.replace(_SPEC, choice_items=60))]
    assert set(places) == {0, 1, 2, 3}


def test_the_shared_cache_gives_the_losses_of_whole_sequences(model: CausalModel) -> None:
    rng = np.random.default_rng(1)
    questions = [
        Question(
            context=tuple(rng.integers(0, 256, 7).tolist()),
            options=tuple(tuple(rng.integers(0, 256, 5).tolist()) for _ in range(4)),
            right=0,
        )
        for _ in range(3)
    ]
    found = option_losses(model, questions)
    for row, item in zip(found, questions, strict=True):
        for loss, option in zip(row, item.options, strict=True):
            ids = torch.tensor([[*item.context, *option]])
            with torch.no_grad():
                logp = torch.log_softmax(model(input_ids=ids).logits[0, 6:-1], dim=-1)
            wanted = -logp[torch.arange(5), torch.tensor(option)].mean()
            assert float(loss) == pytest.approx(float(wanted), rel=1e-4)


def test_a_model_without_a_repeatable_cache_gives_the_same(
    model: CausalModel, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = choice_questions(data.held_out_documents, _SPEC)
    with_cache = option_losses(model, questions)
    decoder = type(model.get_decoder())
    plain = decoder.forward

    def without_cache(self: Any, **inputs: Any) -> Any:
        return plain(self, **{**inputs, "use_cache": False})

    monkeypatch.setattr(decoder, "forward", without_cache)
    assert torch.allclose(option_losses(model, questions), with_cache, atol=1e-5)


_SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_HYBRIDS: dict[str, dict[str, Any]] = {
    "lfm2": {"full_attn_idxs": [1, 3], "conv_L_cache": 3, "block_dim": 32},
    "qwen3_next": {
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "jamba": {
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 2,
    },
    "bamba": {
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
        "attn_layer_indices": [1, 3],
    },
    # attention and a state in one layer
    "falcon_h1": {
        "head_dim": 8,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
}


@pytest.mark.parametrize("kind", sorted(_HYBRIDS))
def test_a_model_with_states_beside_its_keys_gives_the_losses_of_whole_sequences(kind: str) -> None:
    """Its cache has the method that repeats it, and not for every layer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **_SIZES, **_HYBRIDS[kind])
    model: CausalModel = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    rng = np.random.default_rng(3)
    questions = [
        Question(
            context=tuple(rng.integers(3, 97, 9).tolist()),
            options=tuple(tuple(rng.integers(3, 97, 4).tolist()) for _ in range(4)),
            right=0,
        )
        for _ in range(2)
    ]
    found = option_losses(model, questions)
    for row, item in zip(found, questions, strict=True):
        for loss, option in zip(row, item.options, strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*item.context, *option]]), use_cache=False).logits[0, 8:-1]
            wanted = -torch.log_softmax(logits, dim=-1)[torch.arange(4), torch.tensor(option)].mean()
            assert float(loss) == pytest.approx(float(wanted), rel=1e-4)


def test_a_trained_model_scores_better_than_chance(tokenizer: Any) -> None:
    """Real continuations go on counting; a model that has learned to count finds them."""
    documents = [np.arange(start, start + 40, dtype=np.int32) % 200 for start in (0, 50, 100, 150)]
    model = load_model(
        resolve_model("tiny-random", revision=None, announce=lambda _: None).directory, dtype="float32"
    ).train()
    ids = torch.stack([torch.from_numpy(document).long() for document in documents])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    questions = choice_questions(documents, _SPEC)
    losses = option_losses(model.eval(), questions)
    right = [int(row.argmin()) == item.right for row, item in zip(losses, questions, strict=True)]
    assert sum(right) >= 7


def test_serving_counts_every_token_it_generates(model: CausalModel, tokenizer: Any) -> None:
    spec = smoke_spec().serve
    assert spec is not None
    stage, task = CountingStage(), CountingTask()
    end_id = int(tokenizer.eos_token_id)
    # a model that always wants to stop must still carry the whole load
    with torch.no_grad():
        model.get_output_embeddings().weight[end_id] *= 50
    count = serve.make(model, [[1, 2, 3], [4, 5, 6]], spec, end_id=end_id, task=task, stage=stage)
    assert count == 3 * 8
    assert stage.counts == {"tokens": 24, "generated_tokens": 24}
    assert task.done == 24
