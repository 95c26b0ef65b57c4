"""Tables as the Energy harness and DistillKit write them, of made-up distributions, and a study that trains on one.

Shapes: T tokens of a sequence, R its rows (one less), K kept tokens, V the vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from stillwatt.pipelines.cache.distillkit import CONFIG_NAME
from stillwatt.pipelines.cache.imports import convert_cache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.spec import ArmSpec, GivenCacheSpec, Method, PipelineSpec
from tiny_models import smoke_spec

KEPT = 20
LENGTH = 32
"""The most tokens a sequence has."""
TABLES = ("harness", "distillkit")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of a table, before it is written in any tool's way."""

    tokens_T: np.ndarray[Any, Any]
    supervised_T: np.ndarray[Any, Any]
    ids_RK: np.ndarray[Any, Any]
    logp_RK: np.ndarray[Any, Any]


def rows_of(vocab_size: int, lengths: Sequence[int], *, seed: int = 0, prompt: int = 3) -> list[Row]:
    """Made-up sequences; the first `prompt` tokens of each are not to be predicted."""
    rng, rows = np.random.default_rng(seed), []
    for length in lengths:
        logits = rng.normal(size=(length - 1, vocab_size)) * 3
        logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        ids = np.argsort(-logp, axis=1)[:, :KEPT]
        supervised = np.arange(length) >= prompt
        rows.append(Row(rng.integers(1, vocab_size, length), supervised, ids, np.take_along_axis(logp, ids, 1)))
    return rows


def write_harness(folder: Path, rows: Sequence[Row]) -> None:
    """Padded to `LENGTH`, one row a token, the labels masked."""
    columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "attention_mask", "labels")}
    columns |= {"logprob_indices": [], "logprob_values": []}
    for row in rows:
        num, after = len(row.tokens_T), LENGTH - len(row.tokens_T)
        columns["input_ids"].append([*row.tokens_T.tolist(), *[0] * after])
        columns["attention_mask"].append([1] * num + [0] * after)
        columns["labels"].append([*np.where(row.supervised_T, row.tokens_T, -100).tolist(), *[-100] * after])
        # the last token's own row, and those of padding, are there and mean nothing
        spare = [list(range(KEPT))] * (after + 1)
        columns["logprob_indices"].append([*row.ids_RK.tolist(), *spare])
        columns["logprob_values"].append([*row.logp_RK.tolist(), *[[-5.0] * KEPT] * (after + 1)])
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "data.parquet")


def write_distillkit(folder: Path, rows: Sequence[Row], vocab_size: int) -> None:
    """Every kept value exact, in float32; no labels, so all but the first token is to be predicted."""
    settings = {
        **{"d": vocab_size, "k": KEPT, "exact_k": KEPT, "exact_dtype": "float32", "polynomial_terms": []},
        **{"term_dtype": "float32", "residual_bins": [], "delta_encoding": False, "error_diffusion": False},
        "normalize_t": True,
    }
    bits = int(np.ceil(np.log2(vocab_size)))
    columns: dict[str, list[Any]] = {"input_ids": [], "compressed_logprobs": [], "bytepacked_indices": []}
    for row in rows:
        columns["input_ids"].append(row.tokens_T.tolist())
        columns["compressed_logprobs"].append([list(part.astype("<f4").tobytes()) for part in row.logp_RK])
        columns["bytepacked_indices"].append([list(_packed(part, bits)) for part in row.ids_RK])
    folder.mkdir(parents=True, exist_ok=True)
    bytes_of = pa.list_(pa.list_(pa.uint8()))
    types = {"input_ids": pa.list_(pa.uint64()), "compressed_logprobs": bytes_of, "bytepacked_indices": bytes_of}
    pq.write_table(pa.table(columns, schema=pa.schema(types.items())), folder / "data_0.parquet")
    (folder / CONFIG_NAME).write_text(yaml.safe_dump(settings), encoding="utf-8")


def _packed(ids: np.ndarray[Any, Any], bits: int) -> bytes:
    return np.packbits([int(digit) for token in ids for digit in f"{token:0{bits}b}"]).tobytes()


def converted(folder: Path, kind: str, rows: Sequence[Row], vocab_size: int, **how: Any) -> Path:
    """The rows as a table of that tool, brought in as fixed rows or in the coded form."""
    table, target = folder / f"{kind}-table", folder / f"{kind}-cache"
    if kind == "harness":
        write_harness(table, rows)
    else:
        write_distillkit(table, rows, vocab_size)
    told: dict[str, Any] = {"scheme": None, "top_k": KEPT, "vocab_size": vocab_size, "temperature": 1.0, **how}
    convert_cache(table, target, **told)
    return target


CODED = Scheme(name="topk", top_k=KEPT, step=0.05)


def given_spec(cache: Path, **changes: Any) -> PipelineSpec:
    """A study of two arms, plain and distilled, that trains on a cache and on its text."""
    spec = smoke_spec(serve=None, generate=None, logits=None)
    student = dataclasses.replace(
        spec.students[0], name="tiny", source="tiny-random", drop_layers=0, candidate_starts=(), selection_tokens=0
    )
    arms = (
        ArmSpec(name="sft", method=Method.SFT, alpha=None, temperature=None),
        ArmSpec(name="kd", method=Method.KD, alpha=0.25, temperature=1.0),
    )
    data = dataclasses.replace(spec.data, source=f"cache:{cache}", sequence_tokens=LENGTH, train_tokens=8 * LENGTH)
    evaluate = dataclasses.replace(spec.evaluate, perplexity_tokens=2 * LENGTH, choice_items=0)
    spec = dataclasses.replace(spec, students=(student,), arms=arms, data=data, evaluate=evaluate)
    return dataclasses.replace(spec, **{"given_cache": GivenCacheSpec(directory=str(cache)), **changes})


RECIPE = """
name = "given"
[meter]
sensors = ["synthetic"]
sample_period_ms = 20
idle_baseline_s = 0.0
[meter.options.synthetic]
channels = [{{ part = "gpu0", quantity = "energy_counter", shape = "constant", watts = 50.0, gain_bound_rel = 0.0 }}]
[teacher]
source = "tiny-random"
dtype = "float32"
[teacher_logits]
source = "path:{cache}"
[[students]]
name = "tiny"
source = "tiny-random"
dtype = "float32"
[data]
source = "{text}"
sequence_tokens = 32
train_tokens = 256
held_out_share = 0.25
seed = 1
[train]
optimizer = "adamw"
learning_rate = 1e-2
warmup_steps = 1
schedule = "cosine"
max_grad_norm = 1.0
batch_size = 2
accumulation_steps = 1
checkpoints = [0.5, 1.0]
seeds = [1]
[evaluate]
perplexity_tokens = 64
choice_items = 0
choice_context_tokens = 8
choice_continuation_tokens = 4
batch_size = 4
seed = 1
[run]
threads = 1
[[arms]]
name = "sft"
method = "sft"
[[arms]]
name = "kd"
method = "kd"
alpha = 0.25
temperature = 1.0
"""
