"""Time and memory of the output layer with its loss, forward and backward; prints a table and JSON.

    python benchmarks/bench_kd_head.py [--repeats 5] [--threads 2] [--only VARIANT ...] [--json FILE]

Every variant runs in a fresh process, so that one's freed memory does not serve the next; the processes take turns,
so that a busy machine slows all variants alike. Seconds are the best of all repeats: compare ratios, not digits.
Processor seconds say more than the clock where others use the machine too; take them with `--threads 1`, as threads
that wait for each other spin.
Peak is the growth of the resident set over the state with inputs in place, read every 2 ms; it includes the gradients
of the hidden states and of the output matrix, which every variant has to make. Variants `naive_full_*` and `full_*`
compute the teacher's logits, too; `cached_*` read them, and what made them is not in their time.

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

N, D, V, K = 2048, 576, 49_152, 64
ALPHA = 0.5
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
VARIANTS = ("plain_ce", *NAIVE, "ce_head", *CACHED, *FULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes a variant; each times two passes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="these variants, and plain_ce, only")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--variant", choices=VARIANTS, help="time this one alone, in this process")
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments.threads)))
        return
    chosen = [v for v in VARIANTS if arguments.only is None or v in arguments.only or v == "plain_ce"]
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in chosen}
    for _ in range(arguments.repeats):
        for variant in chosen:
            runs[variant].append(in_fresh_process(variant, arguments.threads))
    result = summarise(runs, arguments.threads)
    print_table(result)
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def in_fresh_process(variant: str, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--variant", variant, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def summarise(runs: dict[str, list[dict[str, float]]], threads: int) -> dict[str, Any]:
    best = {variant: min(run["seconds"] for run in found) for variant, found in runs.items()}
    least_cpu = {variant: min(run["cpu_seconds"] for run in found) for variant, found in runs.items()}
    return {
        "shape": {"N": N, "D": D, "V": V, "K": K, "dtype": "float32", "threads": threads},
        "variants": {
            variant: {
                "seconds": round(best[variant], 4),
                "ratio_to_plain_ce": round(best[variant] / best["plain_ce"], 4),
                "cpu_seconds": round(least_cpu[variant], 4),
                "cpu_ratio_to_plain_ce": round(least_cpu[variant] / least_cpu["plain_ce"], 4),
                "seconds_all": [round(run["seconds"], 4) for run in found],
                "peak_mb": round(max(run["peak_mb"] for run in found), 1),
                "loss": found[0]["loss"],
            }
            for variant, found in runs.items()
        },
    }


def print_table(result: dict[str, Any]) -> None:
    print(f"{'variant':<21}{'s':>8}{'x CE':>8}{'cpu s':>8}{'x CE':>8}{'tok/s':>8}{'peak MB':>9}")
    for variant, row in result["variants"].items():
        print(
            f"{variant:<21}{row['seconds']:>8.3f}{row['ratio_to_plain_ce']:>8.3f}{row['cpu_seconds']:>8.3f}"
            f"{row['cpu_ratio_to_plain_ce']:>8.3f}{N / row['seconds']:>8.0f}{row['peak_mb']:>9.0f}"
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
    return {"seconds": min(seconds), "cpu_seconds": min(cpu_seconds), "peak_mb": growth_mb, "loss": loss}


def make_step(variant: str) -> Callable[[], float]:
    """One forward and backward pass, inputs in place; returns the mean loss."""
    import torch

    hidden_ND = torch.randn(N, D, requires_grad=True)
    weight_VD = (torch.randn(V, D) * 0.05).requires_grad_()
    inputs = (hidden_ND, weight_VD, torch.randint(0, V, (N,)))
    if variant in NAIVE or variant in FULL:
        forward = full_forward(variant, inputs, torch.randn(N, D))
    else:
        forward = cached_forward(variant, inputs, make_cache(torch) if variant in CACHED else None)

    def step() -> float:
        hidden_ND.grad = weight_VD.grad = None
        loss = forward()
        loss.backward()
        return float(loss.detach())

    return step


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
        settings = {"loss": loss, "alpha": 0.0, "temperature": temperature, "parameter": parameter}
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


def make_cache(torch: Any) -> tuple[Any, Any, Any]:
    """What a cache of top-64 gives: kept ids, their log-probabilities, the tail; 0.9 of the mass kept."""
    ids_NK = (torch.randperm(V)[:K] + torch.randint(0, V, (N, 1))) % V  # different in each row, and over rows
    kept_NK = torch.log_softmax(torch.randn(N, K) * 3.0, -1) + torch.log(torch.tensor(0.9))
    return ids_NK, kept_NK, torch.full((N,), 0.1).log()


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
