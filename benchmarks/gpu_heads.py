"""The heads on a card, timed side by side with plain cross-entropy, naive losses and, where installed, other tools.

    python benchmarks/gpu_heads.py [--device cpu] [--tokens 2048] [--vocab 49152]

A part of `gpu_check.py`; by itself it also runs on a processor, which shows that it works.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from kd_peers import installed, peer_forward

_WIDTH, _KEPT, _ROUNDS = 576, 64, 9


def timed_heads(device: str, dtype_name: str, tokens: int, vocab: int) -> dict[str, dict[str, float | str]]:
    """Seconds (median) and peak MB of forward and backward of each head, in turns; what fails says why."""
    import torch

    dtype = getattr(torch, dtype_name)
    torch.manual_seed(0)
    hidden_ND, teacher_ND = (torch.randn(tokens, _WIDTH, device=device, dtype=dtype) for _ in range(2))
    weight_VD = (torch.randn(vocab, _WIDTH, device=device) * 0.05).to(dtype).requires_grad_()
    hidden_ND.requires_grad_()
    targets_N = torch.randint(0, vocab, (tokens,), device=device)
    heads = {
        **_ours(hidden_ND, weight_VD, targets_N, teacher_ND),
        **{name: peer_forward(name, hidden_ND, weight_VD, targets_N, teacher_ND) for name in installed()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in heads}
    found: dict[str, dict[str, float | str]] = {name: {} for name in heads}
    for number in range(_ROUNDS + 1):
        for name, forward in heads.items():
            if "failed" in found[name]:
                continue
            try:
                took_s, peak_mb = _once(forward, (hidden_ND, weight_VD), device)
            except Exception as err:  # noqa: BLE001 - another tool's failure is a row of the table
                found[name] = {"failed": f"{type(err).__name__}: {err}"[:200]}
                continue
            if number:  # the first one compiles and fills caches
                seconds[name].append(took_s)
            found[name]["peak_mb"] = peak_mb
    for name, took in seconds.items():
        if took and "failed" not in found[name]:
            found[name]["seconds"] = sorted(took)[len(took) // 2]
    return found


def _ours(hidden_ND: Any, weight_VD: Any, targets_N: Any, teacher_ND: Any) -> dict[str, Callable[[], Any]]:
    import torch
    import torch.nn.functional as F

    from stillwatt.pipelines.losses import cached_kd_head
    from stillwatt.pipelines.objectives.dense import full_kd_head

    ids_NK = torch.randint(0, len(weight_VD), (len(targets_N), _KEPT), device=targets_N.device).sort(-1).values
    ids_NK = (ids_NK // _KEPT) * _KEPT + torch.arange(_KEPT, device=targets_N.device)  # no token twice in a row
    ids_NK = ids_NK % len(weight_VD)
    logp_NK = torch.log_softmax(torch.randn(ids_NK.shape, device=targets_N.device), -1) - 0.1
    tail_N = torch.full((len(targets_N),), 1.0 - float(torch.tensor(-0.1).exp()), device=targets_N.device).log()
    teacher_VD = weight_VD.detach()

    def naive_kl() -> Any:
        log_q = F.log_softmax((hidden_ND @ weight_VD.T).float(), -1)
        p = F.softmax((teacher_ND @ teacher_VD.T).float(), -1)
        return F.kl_div(log_q, p, reduction="batchmean")

    def cached() -> Any:
        head = cached_kd_head(hidden_ND, weight_VD, targets_N, ids_NK, logp_NK, tail_N, alpha=0.5, temperature=1.0)
        return head.sum / head.count

    def full() -> Any:
        given = hidden_ND, weight_VD, targets_N, teacher_ND, teacher_VD
        head = full_kd_head(*given, loss="forward_kl", alpha=0.0, temperature=1.0)
        return head.sum / head.count

    def plain_ce() -> Any:
        return F.cross_entropy((hidden_ND @ weight_VD.T).float(), targets_N)

    return {"naive_ce": plain_ce, "naive_kl": naive_kl, "cached_kd_head": cached, "full_kd_head": full}


def _once(forward: Callable[[], Any], leaves: tuple[Any, ...], device: str) -> tuple[float, float]:
    import torch

    for leaf in leaves:
        leaf.grad = None
    is_card = device.startswith("cuda")
    if is_card:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start_s = time.perf_counter()
    forward().backward()
    if is_card:
        torch.cuda.synchronize()
    took_s = time.perf_counter() - start_s
    return took_s, (torch.cuda.max_memory_allocated() - before) / 1e6 if is_card else float("nan")


def main() -> None:
    """Print one table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=49_152)
    arguments = parser.parse_args()
    print(json.dumps(timed_heads(arguments.device, arguments.dtype, arguments.tokens, arguments.vocab), indent=1))


if __name__ == "__main__":
    main()
