"""What a model says to a prompt does not hang on the prompts beside it, whatever it makes of batches and padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stillwatt.pipelines import written_together
from stillwatt.pipelines.sampling import Writer
from stillwatt.pipelines.written_together import Together, together
from tiny_models import smoke_spec

VOCABULARY = 97
END = 2
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3}
KINDS: dict[str, dict[str, Any]] = {
    "rwkv": {**SIZES, "attention_hidden_size": 32},
    "llama": {**SIZES, "intermediate_size": 48, "num_attention_heads": 4},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "mamba": {**SIZES, "state_size": 8},
    "lfm2": {
        **SIZES, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "full_attn_idxs": [1],
        "conv_L_cache": 3, "block_dim": 32,
    },
}  # fmt: skip
PROMPTS = [[5], [9, 4, 7], [6, 8, 3, 11, 12, 13, 14, 20, 21], [30, 31, 32]]
_GENERATE = smoke_spec().generate
assert _GENERATE is not None
GREEDY = replace(_GENERATE, max_new_tokens=8, temperature=0.0)


@dataclass(frozen=True)
class Ends:
    """What a writer asks of a tokenizer."""

    eos_token_id: int = END
    pad_token_id: int = 0


def made(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **KINDS[kind], bos_token_id=1, eos_token_id=END, pad_token_id=0)
    model: Any = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.25)  # untrained, it says nearly the same to everything
    return model


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_prompt_is_continued_alike_by_itself_and_beside_others(kind: str) -> None:
    writer = Writer(made(kind), Ends(), GREEDY, frozenset({END}))
    alone = [writer.write_scored([prompt], 1)[0] for prompt in PROMPTS]
    beside = writer.write_scored(PROMPTS, 1)
    assert [one.tokens for one in beside] == [one.tokens for one in alone] == writer.write(PROMPTS, 1)
    for one, other in zip(beside, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    assert together(writer.model, 0) is (Together.NOTHING if kind == "rwkv" else Together.ANY_LENGTHS)


def test_drawn_text_of_several_lengths_is_the_same_for_the_same_seed() -> None:
    writer = Writer(made("rwkv"), Ends(), replace(GREEDY, temperature=1.0), frozenset({END}))
    assert writer.write(PROMPTS, 3) == writer.write(PROMPTS, 3) != writer.write(PROMPTS, 4)


def test_a_model_that_reads_padding_writes_behind_prompts_of_one_length_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(written_together, "_FOUND", {})
    model = made("llama")
    heeding = model.generate

    def unmasked(inputs: torch.Tensor, **settings: Any) -> Any:
        """Takes no notice of the mask, as models of a kind of their own may."""
        return heeding(inputs, **{**settings, "attention_mask": torch.ones_like(inputs)})

    monkeypatch.setattr(model, "generate", unmasked)
    writer = Writer(model, Ends(), GREEDY, frozenset({END}))
    assert together(model, 0) is Together.ONE_LENGTH
    assert writer.write(PROMPTS, 1) == [writer.write([prompt], 1)[0] for prompt in PROMPTS]
    assert writer._batches(PROMPTS) == [[0], [1, 3], [2]]


def test_the_probe_is_made_once_and_only_where_there_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_together, "_FOUND", {})
    looked: list[int] = []

    def look(_model: Any, pad_id: int) -> Together:
        looked.append(pad_id)
        return Together.ANY_LENGTHS

    monkeypatch.setattr(written_together, "_tried", look)
    writer = Writer(made("llama"), Ends(), GREEDY, frozenset({END}))
    writer.write([[3, 4]], 1)
    assert looked == []
    for _ in range(2):
        writer.write(PROMPTS, 1)
    assert looked == [0]


def test_two_tokens_that_are_as_good_end_the_comparison() -> None:
    first, other = torch.tensor([[0.0, 1.0, 1.0 + 1e-6]]), torch.tensor([[0.0, 1.0 + 1e-6, 1.0]])
    far, near = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 9.0]])
    assert written_together._is_alike([first, far], [other, near], 1e-7)  # which one is greater is rounding
    assert not written_together._is_alike([first, far], [first, near], 1e-7)
    assert not written_together._is_alike([first * torch.nan], [first * torch.nan], 1e-7)
