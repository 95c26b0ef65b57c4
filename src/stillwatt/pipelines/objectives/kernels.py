"""Values and gradients of the whole-vocabulary losses on a few rows, in place; the arithmetic under `dense`.

Each kernel takes log p, log q, p and q of R rows, returns the loss per row and leaves its derivative with respect
to the tempered logits u in the array that held log q. For a loss f(q) that derivative is q_j (g_j - sum_v q_v g_v)
with g = df/dq (method.md, eq. 54a). The arrays are the caller's to use up. Rows are few, so that all of them
stay in the processor's cache over the passes.

Shapes: R rows of a tile, V vocabulary; 1 a kept axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KERNELS", "Rows", "normalise"]


@dataclass(slots=True)
class Rows:
    """Two distributions over the vocabulary, with their logarithms."""

    log_p_RV: Tensor
    log_q_RV: Tensor
    p_RV: Tensor
    q_RV: Tensor


Kernel = Callable[[Rows, float], Tensor]


def normalise(logits_RV: Tensor, out_RV: Tensor) -> Tensor:
    """Turn logits into log-probabilities in place, with the probabilities in `out_RV`; returns log of the sum [R, 1].

    One exponential a token: the probabilities are the same weights, scaled.
    """
    greatest_R1 = logits_RV.amax(-1, keepdim=True)
    logits_RV.sub_(greatest_R1)
    torch.exp(logits_RV, out=out_RV)
    sum_R1 = out_RV.sum(-1, keepdim=True)
    log_sum_R1 = sum_R1.log()
    logits_RV.sub_(log_sum_R1)
    out_RV.mul_(sum_R1.reciprocal())
    return greatest_R1 + log_sum_R1


def _forward(rows: Rows, _parameter: float) -> Tensor:
    # a teacher may exclude tokens altogether; 0 * -inf must not become NaN
    log_p_RV = rows.log_p_RV.clamp_min_(torch.finfo(rows.p_RV.dtype).min)
    value_R = _dot(rows.p_RV, log_p_RV.sub_(rows.log_q_RV))
    torch.sub(rows.q_RV, rows.p_RV, out=rows.log_q_RV)
    return value_R


def _reverse(rows: Rows, _parameter: float) -> Tensor:
    ratio_RV = rows.log_q_RV.sub_(rows.log_p_RV)
    value_R = _dot(rows.q_RV, ratio_RV)
    ratio_RV.sub_(value_R[:, None]).mul_(rows.q_RV)
    return value_R


def _symmetric(rows: Rows, _parameter: float) -> Tensor:
    ratio_RV = rows.log_q_RV.sub_(rows.log_p_RV)
    # where the teacher excludes a token the ratio is infinite, and 0 * inf must not become NaN
    finite_RV = torch.clamp(ratio_RV, max=torch.finfo(ratio_RV.dtype).max, out=rows.log_p_RV)
    forward_R, reverse_R = -_dot(rows.p_RV, finite_RV), _dot(rows.q_RV, ratio_RV)
    ratio_RV.sub_(reverse_R[:, None] - 1.0).mul_(rows.q_RV).sub_(rows.p_RV).mul_(0.5)
    return 0.5 * (forward_R + reverse_R)


def _jsd(rows: Rows, beta: float) -> Tensor:
    log_m_RV = _log_mixture(rows.p_RV, rows.q_RV, beta)
    log_p_RV = rows.log_p_RV.clamp_min_(torch.finfo(rows.p_RV.dtype).min)
    to_teacher_R = _dot(rows.p_RV, log_p_RV.sub_(log_m_RV))
    ratio_RV = rows.log_q_RV.sub_(log_m_RV)
    to_student_R = _dot(rows.q_RV, ratio_RV)
    ratio_RV.sub_(to_student_R[:, None]).mul_(rows.q_RV).mul_(1.0 - beta)
    return beta * to_teacher_R + (1.0 - beta) * to_student_R


def _skew(rows: Rows, alpha: float) -> Tensor:
    mixture_RV = _mixture(rows.p_RV, rows.q_RV, alpha)
    share_RV = torch.div(rows.p_RV, mixture_RV, out=rows.log_q_RV)  # at most 1 / alpha
    log_p_RV = rows.log_p_RV.clamp_min_(torch.finfo(rows.p_RV.dtype).min)
    value_R = _dot(rows.p_RV, log_p_RV.sub_(mixture_RV.log_()))
    share_RV.sub_(_dot(rows.q_RV, share_RV)[:, None]).mul_(rows.q_RV).mul_(alpha - 1.0)
    return value_R


def _skew_reverse(rows: Rows, alpha: float) -> Tensor:
    mixture_RV = _mixture(rows.q_RV, rows.p_RV, alpha)
    share_RV = torch.div(rows.q_RV, mixture_RV, out=rows.p_RV)  # at most 1 / alpha
    slope_RV = rows.log_q_RV.sub_(mixture_RV.log_())
    value_R = _dot(rows.q_RV, slope_RV)
    slope_RV.sub_(share_RV, alpha=alpha)
    slope_RV.sub_(_dot(rows.q_RV, slope_RV)[:, None]).mul_(rows.q_RV)
    return value_R


def _tvd(rows: Rows, _parameter: float) -> Tensor:
    difference_RV = torch.sub(rows.q_RV, rows.p_RV, out=rows.p_RV)
    sign_RV = torch.sign(difference_RV, out=rows.log_q_RV)
    value_R = 0.5 * _dot(difference_RV, sign_RV)
    sign_RV.sub_(_dot(rows.q_RV, sign_RV)[:, None]).mul_(rows.q_RV).mul_(0.5)
    return value_R


def _mixture(a_RV: Tensor, b_RV: Tensor, share: float) -> Tensor:
    """The mixture share * a + (1 - share) * b, never 0: where both parts underflow, its logarithm meets zeros only."""
    return torch.lerp(b_RV, a_RV, share).clamp_min_(torch.finfo(a_RV.dtype).tiny)


def _log_mixture(a_RV: Tensor, b_RV: Tensor, share: float) -> Tensor:
    return _mixture(a_RV, b_RV, share).log_()


def _dot(a_RV: Tensor, b_RV: Tensor) -> Tensor:
    dot_R: Tensor = torch.linalg.vecdot(a_RV, b_RV)
    return dot_R


KERNELS: dict[str, Kernel] = {
    "forward_kl": _forward,
    "reverse_kl": _reverse,
    "symmetric_kl": _symmetric,
    "jsd": _jsd,
    "skew_kl": _skew,
    "skew_reverse_kl": _skew_reverse,
    "tvd": _tvd,
}
