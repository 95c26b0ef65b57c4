"""The losses of other tools over the whole vocabulary, as they are called there, for `bench_kd_head.py`.

TRL's `generalized_jsd_loss` takes whole arrays of logits; TRL's chunked divergence and Liger's fused linear loss take
hidden states and output matrices. Liger runs uncompiled, as its compiler needs Triton. A tool that is not installed has
no row.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

LIGER_CHUNK = 256
"""Sequences' tokens that Liger works on at once; of 64 to 1024 the fastest here."""
PEERS = {
    "trl_gkd_kl": ("trl", 0.0),
    "trl_gkd_jsd": ("trl", 0.5),
    "trl_chunked_kl": ("trl", 0.0),
    "trl_chunked_jsd": ("trl", 0.5),
    "liger_kl": ("liger_kernel", 0.0),
    "liger_jsd": ("liger_kernel", 0.5),
}
"""Package and beta: 0 is the forward divergence."""


def installed() -> tuple[str, ...]:
    """Those peers that can run here."""
    return tuple(name for name, (package, _) in PEERS.items() if importlib.util.find_spec(package) is not None)


def peer_forward(name: str, hidden_ND: Any, weight_VD: Any, targets_N: Any, teacher_ND: Any) -> Callable[[], Any]:
    """A peer's mean loss over the positions; the teacher has the student's output matrix, out of the gradient."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    _, beta = PEERS[name]
    teacher_VD = weight_VD.detach()
    if name.startswith("liger"):
        return _liger(beta, hidden_ND, weight_VD, targets_N, teacher_ND, teacher_VD)
    if name.startswith("trl_gkd"):
        return _trl_gkd(beta, hidden_ND, weight_VD, teacher_ND, teacher_VD)
    return _trl_chunked(beta, hidden_ND, weight_VD, teacher_ND, teacher_VD)


def _liger(
    beta: float, hidden_ND: Any, weight_VD: Any, targets_N: Any, teacher_ND: Any, teacher_VD: Any
) -> Callable[[], Any]:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False, chunk_size=LIGER_CHUNK
    )
    return lambda: loss(hidden_ND, weight_VD, teacher_ND, teacher_VD, targets_N)


def _trl_gkd(beta: float, hidden_ND: Any, weight_VD: Any, teacher_ND: Any, teacher_VD: Any) -> Callable[[], Any]:
    import torch
    from trl.experimental.gkd import GKDTrainer

    def forward() -> Any:
        with torch.no_grad():
            teacher_NV = teacher_ND @ teacher_VD.T
        student_NV = hidden_ND @ weight_VD.T
        loss = GKDTrainer.generalized_jsd_loss(student_NV[None], teacher_NV[None], beta=beta, reduction="sum")
        return loss / len(student_NV)

    return forward


def _trl_chunked(beta: float, hidden_ND: Any, weight_VD: Any, teacher_ND: Any, teacher_VD: Any) -> Callable[[], Any]:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def forward() -> Any:
        divergence_N, _ = ChunkedDivergenceFunction.apply(
            hidden_ND, weight_VD, None, teacher_ND, teacher_VD, None, beta
        )
        return divergence_N.mean()

    return forward
