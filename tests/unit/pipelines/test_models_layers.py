from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from stillwatt.errors import StillwattError
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import (
    CausalModel,
    check_plain_head,
    choose_layers,
    load_model,
    load_tokenizer,
    next_token_losses,
    prune_layers,
    tokenizer_sha256,
)
from tiny_models import smoke_spec


@pytest.fixture
def teacher() -> CausalModel:
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    return load_model(place.directory, dtype="float32")


def _ids(rows: int = 3, length: int = 20) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(5))


def test_pruning_leaves_out_that_block_and_nothing_else(teacher: CausalModel) -> None:
    student = prune_layers(teacher, 1, 2)
    kept = student.state_dict()
    whole = teacher.state_dict()
    assert student.config.num_hidden_layers == 2
    assert [layer.self_attn.layer_idx for layer in student.model.layers] == [0, 1]
    for name, values in kept.items():
        source = name.replace("layers.1.", "layers.3.")
        assert torch.equal(values, whole[source]), name


def test_pruning_leaves_the_teacher_alone(teacher: CausalModel) -> None:
    before = {name: values.clone() for name, values in teacher.state_dict().items()}
    student = prune_layers(teacher, 0, 1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert teacher.config.num_hidden_layers == 4
    assert len(teacher.model.layers) == 4
    assert all(torch.equal(values, before[name]) for name, values in teacher.state_dict().items())


def test_a_pruned_student_keeps_its_tie_and_generates_with_its_cache(teacher: CausalModel) -> None:
    student = prune_layers(teacher, 1, 2)
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    ids = _ids(2, 6)
    cached = student.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    plain = student.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, use_cache=False
    )
    assert torch.equal(cached, plain)


def test_the_chosen_block_is_the_one_whose_pruned_model_loses_least(teacher: CausalModel) -> None:
    spec = dataclasses.replace(smoke_spec().students[0], candidate_starts=(0, 1, 2), drop_layers=2)
    ids = _ids()
    choice = choose_layers(teacher, spec, ids)
    by_hand = {start: float(next_token_losses(prune_layers(teacher, start, 2), ids).mean()) for start in (0, 1, 2)}
    assert choice.losses == pytest.approx(by_hand, rel=1e-5)
    assert choice.start == min(by_hand, key=lambda start: by_hand[start])
    assert len(set(choice.losses.values())) == 3


def test_next_token_losses_are_those_of_the_models_own_loss(teacher: CausalModel) -> None:
    ids = _ids()
    with torch.no_grad():
        own = float(teacher(input_ids=ids, labels=ids).loss)
    assert float(next_token_losses(teacher, ids).mean()) == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize(("starts", "count"), [((3,), 2), ((-1,), 2), ((0,), 4), ((), 2)])
def test_blocks_that_are_not_in_the_teacher_are_refused(
    teacher: CausalModel, starts: tuple[int, ...], count: int
) -> None:
    spec = dataclasses.replace(smoke_spec().students[0], candidate_starts=starts, drop_layers=count)
    with pytest.raises(StillwattError, match="candidate_starts"):
        choose_layers(teacher, spec, _ids())


def test_the_tokenizer_hash_is_that_of_its_tokens(teacher: CausalModel) -> None:
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    first, second = load_tokenizer(place.directory), load_tokenizer(place.directory)
    assert tokenizer_sha256(first) == tokenizer_sha256(second)
    second.add_tokens(["new"])
    assert tokenizer_sha256(first) != tokenizer_sha256(second)


def test_heads_that_do_more_than_multiply_are_refused() -> None:
    config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(config)
    check_plain_head(model)
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(StillwattError, match="final_logit_softcapping = 30"):
        check_plain_head(model)
    model.config.final_logit_softcapping = None
    model.lm_head = torch.nn.Linear(8, 16, bias=True)
    with pytest.raises(StillwattError, match="bias"):
        check_plain_head(model)


_SHAPE: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0},
    **{"intermediate_size": 16, "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": 0, "head_dim": 8},
}


def _falcon(multiplier: float) -> CausalModel:
    return FalconH1ForCausalLM(
        FalconH1Config(
            **_SHAPE, lm_head_multiplier=multiplier, mamba_d_ssm=16, mamba_n_heads=2, mamba_d_head=8, mamba_d_state=4,
            mamba_chunk_size=4,
        )
    )  # fmt: skip


def _griffin(cap: float) -> CausalModel:
    return RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(**{**_SHAPE, "num_hidden_layers": 3}, lru_width=16, logits_soft_cap=cap)
    )


def _gemma() -> CausalModel:
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma3Config(text_config=_SHAPE, vision_config={**vision, "image_size": 28, "patch_size": 14})
    return Gemma3ForConditionalGeneration(config)


def _opt() -> CausalModel:
    sizes: dict[str, Any] = {"ffn_dim": 16, "max_position_embeddings": 8, "word_embed_proj_dim": 8}
    return OPTForCausalLM(OPTConfig(**{k: v for k, v in _SHAPE.items() if k != "intermediate_size"}, **sizes))


def _halved() -> CausalModel:
    """Does something to its logits, and its configuration does not say so."""
    model: CausalModel = LlamaForCausalLM(LlamaConfig(**{**_SHAPE, "num_hidden_layers": 1}))
    model.register_forward_hook(lambda _model, _inputs, made: SimpleNamespace(logits=0.5 * made.logits))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "make",
    [lambda: _falcon(8.0), lambda: _falcon(1.05), lambda: _griffin(30.0), _halved],
    ids=["scaled", "hardly scaled", "capped", "by another's code"],
)
def test_a_head_that_no_name_tells_of_is_found_by_a_probe(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = make().to(dtype).train()
    with pytest.raises(StillwattError, match=r"its logits are not .* they differ by \d[\d.e-]* of their size"):
        check_plain_head(model)
    assert model.training
    assert not model.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: _falcon(1.0), _gemma, _opt], ids=["falcon", "gemma", "opt"])
def test_a_head_that_multiplies_alone_is_taken_and_looked_at_once(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    passes: list[Any] = []
    for _ in range(2):
        model = make().to(dtype)
        model.register_forward_hook(lambda *_: passes.append(1))
        check_plain_head(model)
    assert len(passes) <= 1  # none where a test before this one had such a model


def test_a_folder_whose_logits_are_scaled_is_refused_on_loading(tmp_path: Path) -> None:
    _falcon(8.0).save_pretrained(tmp_path)
    with pytest.raises(StillwattError, match="FalconH1ForCausalLM: its logits are not"):
        load_model(tmp_path, dtype="float32")
