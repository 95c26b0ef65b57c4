"""What the named losses are, in a few lines of autograd each: per position, whole rows of logits.

The fused forms are held to these, in fp64. Shapes: N positions, V vocabulary, K tokens of a cache (padded with
id -1 where positions have different numbers of them).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stillwatt.pipelines.loss_chunk import check_temperature, cross_terms
from stillwatt.pipelines.objectives.registry import check_parameter, find_objective

__all__ = ["divergence", "renormalised_kl", "top_p_tail_kl", "weighted_kl"]


def divergence(
    name: str,
    teacher_logits_NV: Tensor,
    student_logits_NV: Tensor,
    *,
    temperature: float,
    parameter: float | None = None,
) -> Tensor:
    """A loss of the whole vocabulary, per position (method.md, eqs. 40 and 48 to 53); shape [N].

    Args:
        name: Its name in the register.
        teacher_logits_NV: Teacher's logits.
        student_logits_NV: Student's logits over the same tokens.
        temperature: Both are divided by it.
        parameter: beta or alpha, for the losses that have one.

    Raises:
        UsageError: No such loss of the whole vocabulary, or a parameter it cannot have.

    >>> teacher_NV, student_NV = torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]])
    >>> round(divergence("tvd", teacher_NV, student_NV, temperature=1.0).item(), 4)
    0.5
    """
    check_parameter(find_objective(name), parameter)
    check_temperature(temperature)
    log_p_NV = torch.log_softmax(teacher_logits_NV / temperature, dim=-1)
    log_q_NV = torch.log_softmax(student_logits_NV / temperature, dim=-1)
    return _DIVERGENCES[name](log_p_NV, log_q_NV, 0.0 if parameter is None else parameter)


def _forward(log_p_NV: Tensor, log_q_NV: Tensor, _parameter: float) -> Tensor:
    return cross_terms(log_p_NV, log_q_NV).sum(-1)


def _reverse(log_p_NV: Tensor, log_q_NV: Tensor, _parameter: float) -> Tensor:
    return cross_terms(log_q_NV, log_p_NV).sum(-1)


def _symmetric(log_p_NV: Tensor, log_q_NV: Tensor, _parameter: float) -> Tensor:
    return 0.5 * (_forward(log_p_NV, log_q_NV, 0.0) + _reverse(log_p_NV, log_q_NV, 0.0))


def _jsd(log_p_NV: Tensor, log_q_NV: Tensor, beta: float) -> Tensor:
    log_m_NV = _log_mixture(log_p_NV, log_q_NV, beta)
    to_teacher_N, to_student_N = cross_terms(log_p_NV, log_m_NV).sum(-1), cross_terms(log_q_NV, log_m_NV).sum(-1)
    return beta * to_teacher_N + (1.0 - beta) * to_student_N


def _skew(log_p_NV: Tensor, log_q_NV: Tensor, alpha: float) -> Tensor:
    return cross_terms(log_p_NV, _log_mixture(log_p_NV, log_q_NV, alpha)).sum(-1)


def _skew_reverse(log_p_NV: Tensor, log_q_NV: Tensor, alpha: float) -> Tensor:
    return _skew(log_q_NV, log_p_NV, alpha)


def _tvd(log_p_NV: Tensor, log_q_NV: Tensor, _parameter: float) -> Tensor:
    return 0.5 * (log_p_NV.exp() - log_q_NV.exp()).abs().sum(-1)


def _log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """Logarithm of share * a + (1 - share) * b, without leaving the logarithm: both may underflow."""
    log_share = log_a.new_tensor(share)
    return torch.logaddexp(log_a + log_share.log(), log_b + torch.log1p(-log_share))


_DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward_kl": _forward,
    "reverse_kl": _reverse,
    "symmetric_kl": _symmetric,
    "jsd": _jsd,
    "skew_kl": _skew,
    "skew_reverse_kl": _skew_reverse,
    "tvd": _tvd,
}


def weighted_kl(logits_NV: Tensor, ids_NK: Tensor, weight_NK: Tensor, logp_NK: Tensor) -> Tensor:
    """The forward divergence's sum over weighted tokens only (method.md, eqs. 56 and 57); shape [N].

        L_n = sum_k w_k (log p_k - log q_k)

    With weights whose expectation is p it is an unbiased estimate of eq. 40 (`sampled_kl`); with w = p on the most
    probable tokens it is `truncated_top_k`, which is no divergence.

    Args:
        logits_NV: Student logits, already divided by the temperature of the cache.
        ids_NK: Tokens, no id twice in a row; -1 fills up.
        weight_NK: Their weights; one of 0 adds nothing.
        logp_NK: Teacher's log-probabilities; anything where the id is -1 or the weight 0.
    """
    is_nothing_NK = (ids_NK < 0) | (weight_NK == 0.0)
    log_q_NK = torch.log_softmax(logits_NV, -1).gather(-1, ids_NK.clamp_min(0))
    # made finite before the product, or the untaken branch would still spoil gradients with NaN
    difference_NK = logp_NK.masked_fill(is_nothing_NK, 0.0) - log_q_NK.masked_fill(is_nothing_NK, 0.0)
    return (weight_NK.masked_fill(is_nothing_NK, 0.0) * difference_NK).sum(-1)


def renormalised_kl(logits_NV: Tensor, ids_NK: Tensor, logp_NK: Tensor) -> Tensor:
    """Divergence of two distributions over the kept tokens alone (method.md, eq. 58); shape [N].

    Blind to all mass outside them: adding a constant to the kept logits changes nothing.
    """
    log_p_NK = torch.log_softmax(logp_NK, -1)
    return cross_terms(log_p_NK, torch.log_softmax(logits_NV.gather(-1, ids_NK), -1)).sum(-1)


def top_p_tail_kl(logits_NV: Tensor, ids_NK: Tensor, logp_NK: Tensor, tail_logmass_N: Tensor) -> Tensor:
    """Divergence with a tail bucket, for positions with different numbers of tokens (method.md, eq. 55); shape [N].

    As `losses.topk_tail_kl`, where a row's ids are filled up with -1.
    """
    is_kept_NV = torch.zeros_like(logits_NV, dtype=torch.bool)
    is_token_NK = ids_NK >= 0
    rows_NK = torch.arange(len(ids_NK), device=ids_NK.device)[:, None].expand_as(ids_NK)
    is_kept_NV[rows_NK[is_token_NK], ids_NK[is_token_NK]] = True
    log_q_NV = torch.log_softmax(logits_NV, -1)
    nothing_NK = torch.full_like(logp_NK, -torch.inf)
    kept_NK = torch.where(is_token_NK, logp_NK, nothing_NK)
    kept_N = cross_terms(kept_NK, log_q_NV.gather(-1, ids_NK.clamp_min(0))).sum(-1)
    tail_N = torch.logsumexp(log_q_NV.masked_fill(is_kept_NV, -torch.inf), -1)
    return kept_N + cross_terms(tail_logmass_N, tail_N)
