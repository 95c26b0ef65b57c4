"""Time and memory of the output layer with its loss, forward and backward; prints a table and JSON.

    python benchmarks/bench_kd_head.py [--vocab 49152 128256] [--repeats 5] [--threads 2] [--only VARIANT ...]
                                       [--json FILE] [--latest]

Every variant runs in a fresh process, so that one's freed memory does not serve the next; the processes take turns,
so that a busy machine slows all variants alike. Seconds are the best of all repeats: compare ratios, not digits.
Processor seconds say more than the clock where others use the machine too; take them with `--threads 1`, as threads
that wait for each other spin.
Peak is the growth of the resident set over the state with inputs in place, read every 2 ms; it includes the gradients
of the hidden states and of the output matrix, which every variant has to make. Variants `naive_full_*` and `full_*`
compute the teacher's logits, too; `cached_*` read them, and what made them is not in their time. `trl_*` and `liger_*`
are other tools' losses over the whole vocabulary (`kd_peers.py`).

The gradient's error is taken apart from the time, on the first 64 positions: the largest difference to an fp64
gradient by autograd of the loss's definition, over that gradient's largest entry, of hidden states and output matrix.
`--latest` writes the rows of `benchmarks/latest/kd.json`.

Shapes: N positions, D hidden width, V vocabulary, K kept teacher tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd_peers import PEERS, installed, peer_forward

N, D, V, K = 2048, 576, 49_152, 64
ALPHA = 0.5
CHECKED_N = 64
LATEST = Path(__file__).resolve().parent / "latest" / "kd.json"
BYTES_PER_MB = 1_000_000
NS_PER_S = 1_000_000_000
FULL = {
    "full_forward_kl": ("forward_kl", None, 1.0),
    "full_forward_kl_t2": ("forward_kl", None, 2.0),
    "full_reverse_kl": ("reverse_kl", None, 1.0),
    "full_symmetric_kl": ("symmetric_kl", None, 1.0),
    "full_jsd": ("jsd", 0.5, 1.0),
    "full_skew_kl": ("skew_kl", 0.1, 1.0),
    "full_skew_reverse_kl": ("skew_reverse_kl", 0.1, 1.0),
    "full_tvd": ("tvd", None, 1.0),
}
"""Fused losses of the whole vocabulary: name in the register, parameter, temperature; no cross-entropy mixed in."""
NAIVE = {
    "naive_full_kl": ("forward_kl", None),
    "naive_full_jsd": ("jsd", 0.5),
}
"""The same from whole arrays by autograd; JSD as its definition in `objectives.reference`."""
SPARSE = ("cached_truncated", "cached_renormalised", "cached_sampled")
CACHED = ("cached_tail_t1", "cached_tail_t2", *SPARSE)
VARIANTS = ("plain_ce", *NAIVE, "ce_head", *CACHED, *FULL, *PEERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[V])
    parser.add_argument("--repeats", type=int, default=5, help="processes a variant; each times two passes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="these variants, and plain_ce, only")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--latest", action="store_true", help=f"write the rows of {LATEST.name} as well")
    parser.add_argument("--variant", choices=VARIANTS, help="time this one alone, in this process")
    arguments = parser.parse_args()
    if arguments.variant:
        set_vocab(arguments.vocab[0])
        print(json.dumps(measure(arguments.variant, arguments.threads)))
        return
    results = [bench(vocab, arguments) for vocab in arguments.vocab]
    if arguments.json:
        whole = results[0] if len(results) == 1 else results
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    if arguments.latest:
        keep_latest(results)


def set_vocab(vocab: int) -> None:
    """The size that this process works with."""
    global V
    V = vocab


def bench(vocab: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All variants at one size of vocabulary, in turns."""
    there = [v for v in VARIANTS if v not in PEERS or v in installed()]
    chosen = [v for v in there if arguments.only is None or v in arguments.only or v == "plain_ce"]
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in chosen}
    for _ in range(arguments.repeats):
        for variant in chosen:
            runs[variant].append(in_fresh_process(variant, arguments.threads, vocab))
    result = summarise(runs, arguments.threads, vocab)
    print_table(result)
    print(json.dumps(result))
    return result


def in_fresh_process(variant: str, threads: int, vocab: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--variant", variant, "--threads", str(threads), "--vocab", str(vocab)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def keep_latest(results: list[dict[str, Any]]) -> None:
    """Put this bench's rows in place of the earlier ones; those of the other bench stay."""
    kept = json.loads(LATEST.read_text(encoding="utf-8"))["rows"] if LATEST.exists() else []
    rows = [
        {
            "bench": "head",
            "name": variant,
            "vocab": result["shape"]["V"],
            "seconds": row["seconds"],
            "ratio_to_ce": row["ratio_to_plain_ce"],
            "peak_mb": row["peak_mb"],
            "max_grad_error": row["max_grad_error"],
        }
        for result in results
        for variant, row in result["variants"].items()
    ]
    LATEST.parent.mkdir(exist_ok=True)
    whole = {"rows": [row for row in kept if row["bench"] != "head"] + rows}
    LATEST.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def summarise(runs: dict[str, list[dict[str, float]]], threads: int, vocab: int) -> dict[str, Any]:
    best = {variant: min(run["seconds"] for run in found) for variant, found in runs.items()}
    least_cpu = {variant: min(run["cpu_seconds"] for run in found) for variant, found in runs.items()}
    return {
        "shape": {"N": N, "D": D, "V": vocab, "K": K, "dtype": "float32", "threads": threads},
        "variants": {
            variant: {
                "seconds": round(best[variant], 4),
                "ratio_to_plain_ce": round(best[variant] / best["plain_ce"], 4),
                "cpu_seconds": round(least_cpu[variant], 4),
                "cpu_ratio_to_plain_ce": round(least_cpu[variant] / least_cpu["plain_ce"], 4),
                "seconds_all": [round(run["seconds"], 4) for run in found],
                "peak_mb": round(max(run["peak_mb"] for run in found), 1),
                "loss": found[0]["loss"],
                "max_grad_error": found[0]["max_grad_error"],
            }
            for variant, found in runs.items()
        },
    }


def print_table(result: dict[str, Any]) -> None:
    print(f"vocabulary {result['shape']['V']}")
    print(f"{'variant':<21}{'s':>8}{'x CE':>8}{'cpu s':>8}{'x CE':>8}{'tok/s':>8}{'peak MB':>9}{'grad err':>10}")
    for variant, row in result["variants"].items():
        print(
            f"{variant:<21}{row['seconds']:>8.3f}{row['ratio_to_plain_ce']:>8.3f}{row['cpu_seconds']:>8.3f}"
            f"{row['cpu_ratio_to_plain_ce']:>8.3f}{N / row['seconds']:>8.0f}{row['peak_mb']:>9.0f}"
            f"{row['max_grad_error']:>10.1e}"
        )


def measure(variant: str, threads: int) -> dict[str, float]:
    """Time two passes of one variant; the first also gives the peak, as memory it frees may be kept."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    # one small product first, so that the libraries' own threads and buffers are not counted
    (torch.randn(64, 64) @ torch.randn(64, 64)).sum()
    step = make_step(variant)
    peak = PeakMemory()
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    loss = 0.0
    for _ in range(2):
        start_ns, cpu_start_ns = time.perf_counter_ns(), time.process_time_ns()
        if not seconds:
            with peak:
                loss = step()
        else:
            step()
        cpu_seconds.append((time.process_time_ns() - cpu_start_ns) / NS_PER_S)
        seconds.append((time.perf_counter_ns() - start_ns) / NS_PER_S)
    growth_mb = peak.growth_bytes / BYTES_PER_MB
    found = {"seconds": min(seconds), "cpu_seconds": min(cpu_seconds), "peak_mb": growth_mb, "loss": loss}
    return {**found, "max_grad_error": gradient_error(variant)}


def make_step(variant: str) -> Callable[[], float]:
    """One forward and backward pass, inputs in place; returns the mean loss."""
    hidden_ND, weight_VD, _ = inputs = make_inputs(N)
    forward = make_forward(variant, inputs, make_teacher(N), make_cache(N) if variant in CACHED else None)

    def step() -> float:
        hidden_ND.grad = weight_VD.grad = None
        loss = forward()
        loss.backward()
        return float(loss.detach())

    return step


def make_inputs(n: int) -> tuple[Any, Any, Any]:
    import torch

    hidden_ND = torch.randn(n, D, requires_grad=True)
    weight_VD = (torch.randn(V, D) * 0.05).requires_grad_()
    return hidden_ND, weight_VD, torch.randint(0, V, (n,))


def make_teacher(n: int) -> Any:
    import torch

    return torch.randn(n, D)


def make_forward(variant: str, inputs: tuple[Any, Any, Any], teacher_ND: Any, cached: Any) -> Callable[[], Any]:
    if variant in PEERS:
        return peer_forward(variant, *inputs, teacher_ND)
    if variant in NAIVE or variant in FULL:
        return full_forward(variant, inputs, teacher_ND)
    return cached_forward(variant, inputs, cached)


def gradient_error(variant: str) -> float:
    """The largest error of a gradient's entry, over the largest entry, against autograd in fp64."""
    inputs = make_inputs(CHECKED_N)
    teacher_ND, cached = make_teacher(CHECKED_N), make_cache(CHECKED_N) if variant in CACHED else None
    make_forward(variant, inputs, teacher_ND, cached)().backward()
    exact = [tensor.detach().double().requires_grad_(tensor.is_floating_point()) for tensor in inputs[:2]]
    reference_loss(variant, (*exact, inputs[2]), teacher_ND.double(), cached).backward()
    pairs = zip(inputs, exact, strict=False)
    return max(float((a.grad.double() - b.grad).abs().max() / b.grad.abs().max()) for a, b in pairs)


def reference_loss(variant: str, inputs: tuple[Any, Any, Any], teacher_ND: Any, cached: Any) -> Any:
    """What a variant stands for, from whole rows of logits."""
    import torch
    import torch.nn.functional as F

    from stillwatt.pipelines.objectives import reference

    hidden_ND, weight_VD, targets_N = inputs
    student_NV = hidden_ND @ weight_VD.T
    if cached is None and variant in ("plain_ce", "ce_head"):
        return F.cross_entropy(student_NV, targets_N)
    if cached is None:
        loss, parameter, temperature = definition(variant)
        with torch.no_grad():
            teacher_NV = teacher_ND @ weight_VD.T
        values_N = reference.divergence(loss, teacher_NV, student_NV, temperature=temperature, parameter=parameter)
        # TVD's slope does not fall with the square of the temperature, and only one variant has another than 1
        return values_N.mean() * temperature**2
    ids_NK, logp_NK, tail_N = cached[0], cached[1].double(), cached[2].double()
    temperature = 2.0 if variant == "cached_tail_t2" else 1.0
    if variant == "cached_renormalised":
        values_N = reference.renormalised_kl(student_NV, ids_NK, logp_NK)
    elif variant in SPARSE:
        weight_NK = logp_NK.exp() if variant == "cached_truncated" else torch.softmax(logp_NK, -1)
        values_N = reference.weighted_kl(student_NV, ids_NK, weight_NK, logp_NK)
    else:
        values_N = reference.top_p_tail_kl(student_NV / temperature, ids_NK, logp_NK, tail_N) * temperature**2
    return ALPHA * F.cross_entropy(student_NV, targets_N) + (1.0 - ALPHA) * values_N.mean()


def definition(variant: str) -> tuple[str, float | None, float]:
    """Name in the register, parameter and temperature of a loss of the whole vocabulary."""
    if variant in FULL:
        return FULL[variant]
    if variant in NAIVE:
        return (*NAIVE[variant], 1.0)
    beta = PEERS[variant][1]
    return ("jsd", beta, 1.0) if beta else ("forward_kl", None, 1.0)


def full_forward(variant: str, inputs: tuple[Any, Any, Any], teacher_ND: Any) -> Callable[[], Any]:
    """The losses that see all of the teacher's logits; the teacher has the student's output matrix."""
    import torch
    import torch.nn.functional as F

    from stillwatt.pipelines.objectives.dense import full_kd_head
    from stillwatt.pipelines.objectives.reference import divergence

    hidden_ND, weight_VD, targets_N = inputs

    def naive_forward_kl() -> Any:
        with torch.no_grad():
            teacher_NV = torch.log_softmax(teacher_ND @ weight_VD.T, -1)
        student_NV = torch.log_softmax(hidden_ND @ weight_VD.T, -1)
        return F.kl_div(student_NV, teacher_NV, log_target=True, reduction="batchmean")

    def naive() -> Any:
        loss, parameter = NAIVE[variant]
        with torch.no_grad():
            teacher_NV = teacher_ND @ weight_VD.T
        return divergence(loss, teacher_NV, hidden_ND @ weight_VD.T, temperature=1.0, parameter=parameter).mean()

    def fused() -> Any:
        loss, parameter, temperature = FULL[variant]
        settings: dict[str, Any] = {"loss": loss, "alpha": 0.0, "temperature": temperature, "parameter": parameter}
        head = full_kd_head(hidden_ND, weight_VD, targets_N, teacher_ND, weight_VD, **settings)
        return head.sum / head.count

    if variant in FULL:
        return fused
    return naive_forward_kl if variant == "naive_full_kl" else naive


def cached_forward(
    variant: str, inputs: tuple[Any, Any, Any], cached: tuple[Any, Any, Any] | None
) -> Callable[[], Any]:
    """Cross-entropy, and the losses that read what a cache holds."""
    import torch
    import torch.nn.functional as F

    from stillwatt.pipelines.losses import cached_kd_head, cross_entropy_head, kd_head

    hidden_ND, weight_VD, targets_N = inputs

    def forward() -> Any:
        if variant == "plain_ce":
            return F.cross_entropy(hidden_ND @ weight_VD.T, targets_N)
        if cached is None:
            head = cross_entropy_head(*inputs)
        elif variant in SPARSE:
            head = kd_head(*inputs, sparse(torch, variant, cached), alpha=ALPHA, temperature=1.0)
        else:
            head = cached_kd_head(
                *inputs, *cached, alpha=ALPHA, temperature=2.0 if variant == "cached_tail_t2" else 1.0
            )
        return head.sum / head.count

    return forward


def make_cache(n: int) -> tuple[Any, Any, Any]:
    """What a cache of top-64 gives: kept ids, their log-probabilities, the tail; 0.9 of the mass kept."""
    import torch

    ids_NK = (torch.randperm(V)[:K] + torch.randint(0, V, (n, 1))) % V  # different in each row, and over rows
    kept_NK = torch.log_softmax(torch.randn(n, K) * 3.0, -1) + torch.log(torch.tensor(0.9))
    return ids_NK, kept_NK, torch.full((n,), 0.1).log()


def sparse(torch: Any, variant: str, cached: tuple[Any, Any, Any]) -> Any:
    """The teacher's side of a loss without a tail bucket."""
    from stillwatt.pipelines.objectives.sparse import Renormalised, Weighted, truncated

    ids_NK, logp_NK, _ = cached
    if variant == "cached_truncated":
        return truncated(ids_NK, logp_NK)
    if variant == "cached_renormalised":
        return Renormalised(ids_NK, logp_NK)
    return Weighted(ids_NK, torch.softmax(logp_NK, -1), logp_NK)


class PeakMemory:
    """Greatest growth of the resident set inside the block."""

    def __init__(self) -> None:
        self.growth_bytes = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._start_bytes = resident_bytes()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.002):
            self.growth_bytes = max(self.growth_bytes, resident_bytes() - self._start_bytes)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
