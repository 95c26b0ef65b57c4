"""How flat a tail should be: what a rebuilt distribution loses by the power of the prior's means (eq. 86).

    python benchmarks/cache_tail.py [--held-out 6] [--gradient 2] [--json FILE]

Teacher, text, priors and the error of a student's gradient as in `bench_cache.py`; KL(teacher || rebuilt) in nats over
held-out positions, at the teacher's own vocabulary and at the wider one that `cache_wider.py` spreads it over.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_cache import SIZES, Bench
from cache_fidelity import Gradients, mean_kl, rebuilt
from cache_wider import VOCAB, WiderWorld
from torch import Tensor

from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.models import quieten

POWERS = (1.0, 0.9, 0.8, 0.7, 0.6)
SCHEMES = {
    "topk 24": Scheme(name="topk", top_k=24),
    "topk 64": Scheme(name="topk", top_k=64),
    "topk 64, no lists": Scheme(name="topk", top_k=64, prior="unigram"),
    "topp .95 cap 128": Scheme(name="topp", top_k=128, mass=0.95),
}
WIDER = ("topp .95 cap 128",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=int, default=200, help="training sequences the priors are learned from")
    parser.add_argument("--held-out", type=int, default=6, help="sequences the divergence is taken on")
    parser.add_argument("--gradient", type=int, default=2, help="of them, those for the gradient")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    quieten()
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        rows = measured(bench, Path(scratch))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def measured(bench: Bench, scratch: Path) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    written = bench.write(scratch, bench.learn(scratch, SCHEMES))
    rows = [row(name, cache, lambda index: bench.exact[index], bench.gradients) for name, (cache, _) in written.items()]
    world = WiderWorld(bench, SIZES)
    for name, fitted in world.learn(scratch, {name: SCHEMES[name] for name in WIDER}).items():
        cache = world.write(fitted, scratch / f"wider {name}")
        rows.append(row(name, cache, world.logits_TW, world.gradients))
    return rows


def row(name: str, cache: CodedCache, teacher_TV: Callable[[int], Tensor], gradients: Gradients) -> dict[str, Any]:
    """One cache at every power."""
    sequences = len(cache.sequence_indices)
    found: dict[str, Any] = {"name": name, "vocab": cache.vocab_size, "kl_to_full": {}, "gradient_error": {}}
    for power in POWERS:

        def at_power(index: int, _: Any, power: float = power) -> Tensor:
            return rebuilt(cache, index, power)

        kl = mean_kl(sequences, teacher_TV, at_power)
        errors = gradients.errors(lambda index, rows: at_power(index, rows).exp())
        found["kl_to_full"][str(power)], found["gradient_error"][str(power)] = kl, errors
    wider = ", ids spread" if cache.vocab_size == VOCAB else ""
    print(f"{name + wider:<30}KL      " + "".join(f"{kl:>8.4f}" for kl in found["kl_to_full"].values()), flush=True)
    for positions in errors:
        told = "".join(f"{each[positions]:>8.4f}" for each in found["gradient_error"].values())
        print(f"{'':<30}err {positions:<4}" + told, flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
