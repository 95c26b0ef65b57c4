"""Turns a Llama-architecture GGUF file into a folder that transformers loads directly.

The file is parsed once, straight from its published layout, and the weights are unpacked to float32. The
general loaders read such a file three times, and a converted folder cannot be written from what they return.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import StillwattError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import LlamaConfig, PreTrainedTokenizerFast

_MAGIC = b"GGUF"
_NUMBER_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_CONTROL_TOKEN = 3
_DEFAULT_ALIGNMENT = 32

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where one tensor lies in the file and how it is packed."""

    name: str
    shape: tuple[int, ...]
    """Slowest dimension first, as numpy and torch count them."""
    packing: int
    start: int
    """Bytes from the start of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says before its weights."""

    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]


class _Cursor:
    """Reads the little-endian values of a GGUF header one after the other."""

    def __init__(self, data: mmap.mmap, place: str) -> None:
        self._data, self._place = data, place
        self.offset = len(_MAGIC)

    def number(self, form: str) -> Any:
        try:
            (value,) = struct.unpack_from(f"<{form}", self._data, self.offset)
        except struct.error:
            raise StillwattError(f"{self._place}: the file ends inside its header; get it again") from None
        self.offset += struct.calcsize(f"<{form}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        raw = self._data[self.offset : self.offset + length]
        self.offset += length
        return raw.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            element, count = self.number("I"), self.number("Q")
            return [self.value(element) for _ in range(count)]
        if kind not in _NUMBER_FORMATS:
            raise StillwattError(f"{self._place}: value kind {kind} is not known; the file is damaged or newer")
        return self.number(_NUMBER_FORMATS[kind])


def read_header(path: Path) -> GgufHeader:
    """Parse the metadata and the table of tensors.

    Raises:
        StillwattError: The file is not a GGUF file, or it is cut short.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_MAGIC)] != _MAGIC:
            raise StillwattError(f"{path}: not a GGUF file; get it again")
        cursor = _Cursor(data, str(path))
        cursor.number("I")
        num_tensors, num_entries = cursor.number("Q"), cursor.number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(num_entries):
            key = cursor.text()
            metadata[key] = cursor.value(cursor.number("I"))
        table = [_tensor_entry(cursor) for _ in range(num_tensors)]
        alignment = int(metadata.get("general.alignment", _DEFAULT_ALIGNMENT))
        base = -(-cursor.offset // alignment) * alignment
    tensors = tuple(
        GgufTensor(name=name, shape=shape, packing=packing, start=base + offset)
        for name, shape, packing, offset in table
    )
    return GgufHeader(metadata=metadata, tensors=tensors)


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text()
    fastest_first = [cursor.number("Q") for _ in range(cursor.number("I"))]
    return name, tuple(reversed(fastest_first)), cursor.number("I"), cursor.number("Q")


def convert(gguf_path: Path, out_dir: Path) -> None:
    """Write config, tokenizer and float32 weights of a Llama-architecture file to `out_dir`.

    Raises:
        StillwattError: Another architecture, a tensor that has no place in it, or a damaged file.
    """
    import torch
    from transformers import LlamaForCausalLM

    header = read_header(gguf_path)
    config = llama_config(header.metadata, is_tied=all(t.name != "output.weight" for t in header.tensors))
    num_heads = config.num_attention_heads
    num_kv_heads = config.num_key_value_heads or num_heads
    weights: dict[str, torch.Tensor] = {}
    for tensor in header.tensors:
        values = unpack(gguf_path, tensor)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            values = _undo_rotary_order(values, num_heads if ".attn_q." in tensor.name else num_kv_heads)
        weights[transformers_name(tensor.name)] = torch.from_numpy(values.copy())
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    model.tie_weights()
    model.save_pretrained(out_dir)
    gguf_tokenizer(header.metadata).save_pretrained(out_dir)


def transformers_name(gguf_name: str) -> str:
    """The parameter that a Llama tensor of a GGUF file becomes.

    >>> transformers_name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if gguf_name in _OUTER_NAMES:
        return _OUTER_NAMES[gguf_name]
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    raise StillwattError(
        f"GGUF tensor {gguf_name!r} has no place in a Llama model; only that architecture is converted"
    )


def unpack(path: Path, tensor: GgufTensor) -> npt.NDArray[np.float32]:
    """The tensor's values in float32, in its own shape."""
    import gguf
    import numpy as np

    packing = gguf.GGMLQuantizationType(tensor.packing)
    values_per_block, bytes_per_block = gguf.GGML_QUANT_SIZES[packing]
    num_values = int(np.prod(tensor.shape))
    num_bytes = num_values // values_per_block * bytes_per_block
    packed = np.fromfile(path, dtype=np.uint8, count=num_bytes, offset=tensor.start)
    if packed.size != num_bytes:
        raise StillwattError(f"{path}: the file ends inside tensor {tensor.name!r}; get it again")
    rows = packed.reshape(-1, tensor.shape[-1] // values_per_block * bytes_per_block)
    if packing in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        rows = rows.view(np.float32 if packing == gguf.GGMLQuantizationType.F32 else np.float16)
    values: npt.NDArray[np.float32] = gguf.dequantize(rows, packing).astype(np.float32, copy=False)
    return values.reshape(tensor.shape)


def _undo_rotary_order(values: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """GGUF interleaves the two halves of each head's rotary pairs; transformers keeps the halves apart."""
    half = values.shape[0] // num_heads // 2
    pairs = values.reshape(num_heads, half, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def llama_config(metadata: Mapping[str, Any], *, is_tied: bool) -> LlamaConfig:
    """The transformers configuration that the metadata describe."""
    from transformers import LlamaConfig

    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise StillwattError(f"GGUF architecture {architecture!r}; only 'llama' is converted")
    num_heads = metadata["llama.attention.head_count"]
    return LlamaConfig(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=num_heads,
        num_key_value_heads=metadata.get("llama.attention.head_count_kv", num_heads),
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": float(metadata.get("llama.rope.freq_base", 10_000.0))},
        tie_word_embeddings=is_tied,
        bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=metadata.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=metadata.get("tokenizer.ggml.padding_token_id"),
    )


def gguf_tokenizer(metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer that the metadata describe, with its chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    if metadata.get("tokenizer.ggml.model") != "gpt2":
        raise StillwattError(f"GGUF tokenizer {metadata.get('tokenizer.ggml.model')!r}; only 'gpt2' is converted")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if metadata.get("tokenizer.ggml.pre") == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, k in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True) if k == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])

    def named(key: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        return None if index is None else tokens[index]

    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=named("bos"),
        eos_token=named("eos"),
        unk_token=named("unknown"),
        pad_token=named("padding"),
        model_max_length=metadata["llama.context_length"],
    )
    if template := metadata.get("tokenizer.chat_template"):
        fast.chat_template = template
    return fast
