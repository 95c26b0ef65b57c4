from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

from stillwatt.errors import StillwattError
from stillwatt.pipelines.gguf_convert import convert, read_header, transformers_name
from stillwatt.pipelines.models import load_model, load_tokenizer, quieten

_LAYERS, _WIDTH, _INNER, _HEADS, _KV_HEADS = 2, 64, 96, 4, 2
_MERGES = ["a b", "ab c", "Ġ a"]


def _tokens() -> list[str]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return ["<|end|>", "<|start|>", *alphabet, "ab", "abc", "Ġa"]


def _weights(rng: np.random.Generator) -> dict[str, Any]:
    kv = _WIDTH // _HEADS * _KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(_tokens()), _WIDTH),
        "output_norm.weight": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        for name, shape in {
            "attn_norm": (_WIDTH,),
            "attn_q": (_WIDTH, _WIDTH),
            "attn_k": (kv, _WIDTH),
            "attn_v": (kv, _WIDTH),
            "attn_output": (_WIDTH, _WIDTH),
            "ffn_norm": (_WIDTH,),
            "ffn_gate": (_INNER, _WIDTH),
            "ffn_up": (_INNER, _WIDTH),
            "ffn_down": (_WIDTH, _INNER),
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _write(path: Path, *, architecture: str = "llama", packing: str = "Q4_1") -> None:
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(_LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = _tokens()
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(_MERGES)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    quantised = gguf.GGMLQuantizationType[packing]
    for name, values in _weights(np.random.default_rng(3)).items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("packing", ["F32", "F16", "Q8_0", "Q4_1"])
def test_a_converted_file_has_the_weights_that_transformers_reads(tmp_path: Path, packing: str) -> None:
    quieten()
    _write(tmp_path / "tiny.gguf", packing=packing)
    convert(tmp_path / "tiny.gguf", tmp_path / "out")
    ours = load_model(tmp_path / "out", dtype="float32").state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(
        str(tmp_path), gguf_file="tiny.gguf", dtype=torch.float32
    ).state_dict()
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert torch.equal(values, theirs[name]), name


def test_the_tokenizer_merges_splits_digits_and_round_trips(tmp_path: Path) -> None:
    _write(tmp_path / "tiny.gguf")
    convert(tmp_path / "tiny.gguf", tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.tokenize("abc 42") == ["abc", "Ġ", "4", "2"]
    text = "é abc<|end|>\n 7"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert 0 in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == "ab"


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGML" + bytes(100))
    with pytest.raises(StillwattError, match="not a GGUF file"):
        read_header(tmp_path / "x.gguf")


@pytest.mark.parametrize("kept", [30, 2000, 9000, -64])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    _write(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:kept])
    with pytest.raises(StillwattError, match="the file ends inside"):
        convert(tmp_path / "cut.gguf", tmp_path / "out")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "tiny.gguf", architecture="falcon")
    with pytest.raises(StillwattError, match="only 'llama' is converted"):
        convert(tmp_path / "tiny.gguf", tmp_path / "out")


def test_a_tensor_without_a_place_is_refused() -> None:
    with pytest.raises(StillwattError, match=r"blk\.0\.attn_q_norm\.weight"):
        transformers_name("blk.0.attn_q_norm.weight")
