"""What a student is trained on: cross-entropy, and the divergence from a teacher's cached distribution.

Two kinds of functions stand here. `full_kl` and `topk_tail_kl` say in a few lines of autograd what the losses
are; they hold whole rows of logits and serve as the reference. `cross_entropy_head` and `cached_kd_head` compute
the same numbers fused with the output layer: logits exist for `chunk_tokens` positions at a time and are turned
into their own gradient in place, so that the memory of a step does not grow with tokens times vocabulary.

Shapes: N positions (batch and time flattened, supervised positions only), C positions of one chunk,
D hidden width, V vocabulary, K kept teacher tokens per position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stillwatt.pipelines.loss_chunk import (
    HeadShape,
    Teacher,
    TeacherSide,
    check_temperature,
    chunk_buffer,
    cross_entropy_to_gradient,
    cross_terms,
    loss_dtype,
)

__all__ = ["CHUNK_TOKENS", "HeadLoss", "cached_kd_head", "cross_entropy_head", "full_kl", "kd_head", "topk_tail_kl"]

CHUNK_TOKENS = 256
"""Positions whose logits exist at once; 256 of them over 49152 tokens fill 50 MB in fp32. Never alters a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLoss:
    """A loss summed over positions, in nats; divide by `count`, or by the count of a whole accumulated step."""

    sum: Tensor
    """Scalar with gradient: the quantity to minimise."""
    count: int
    """Positions in the sum."""
    cross_entropy_sum: Tensor
    """Scalar, detached: the cross-entropy alone at temperature 1, before any weighting."""
    divergence_sum: Tensor
    """Scalar, detached: the divergence alone, before alpha and T^2; 0 where there is no teacher."""


def full_kl(teacher_logits_NV: Tensor, student_logits_NV: Tensor, *, temperature: float) -> Tensor:
    """Divergence over the whole vocabulary, per position, in nats (method.md, eq. 40); shape [N].

        KL_n = sum_v p_v (log p_v - log q_v),  p = softmax(teacher / T),  q = softmax(student / T)

    >>> logits_NV = torch.tensor([[0.0, 1.0, 2.0]])
    >>> full_kl(logits_NV, logits_NV + 3.0, temperature=2.0).abs().max().item() < 1e-6
    True
    """
    check_temperature(temperature)
    teacher_NV = torch.log_softmax(teacher_logits_NV / temperature, dim=-1)
    student_NV = torch.log_softmax(student_logits_NV / temperature, dim=-1)
    return cross_terms(teacher_NV, student_NV).sum(-1)


def topk_tail_kl(logits_NV: Tensor, ids_NK: Tensor, logp_NK: Tensor, tail_logmass_N: Tensor) -> Tensor:
    """Divergence on the teacher's kept tokens plus one bucket for the rest, per position (method.md, eq. 41).

        L_n = sum_{k in K} p_k (log p_k - log q_k) + p_r (log p_r - log q_r),   q_r = 1 - sum_{k in K} q_k

    The mass outside K counts as one outcome, so L is a Kullback-Leibler divergence itself: never negative, zero
    only where student and teacher agree on every bucket, and never above eq. 40 (coarsening). Plain autograd in the
    dtype of the logits, as the reference for `cached_kd_head`.

    Args:
        logits_NV: Student logits, already divided by the temperature of the cache.
        ids_NK: Kept token ids, no id twice in a row.
        logp_NK: The teacher's log-probabilities of those ids.
        tail_logmass_N: Log of the teacher's mass outside K; -inf where there is none (always so when K = V).

    >>> logits_NV = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    >>> half = torch.log(torch.tensor([0.5]))
    >>> loss_N = topk_tail_kl(logits_NV, torch.tensor([[2]]), half[None], half)
    >>> round(loss_N.item(), 4)  # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75)
    0.1438
    """
    inside_NK = logits_NV.gather(-1, ids_NK)
    student_NK = inside_NK - torch.logsumexp(logits_NV, dim=-1, keepdim=True)
    kept_N = cross_terms(logp_NK, student_NK).sum(-1)
    if ids_NK.shape[-1] == logits_NV.shape[-1]:
        nothing_N = torch.full_like(tail_logmass_N, -torch.inf)
        return kept_N + cross_terms(tail_logmass_N, nothing_N)
    outside_N = torch.logsumexp(logits_NV.scatter(-1, ids_NK, -torch.inf), dim=-1)
    # 1 - sum_K q cancels when K holds nearly everything; the ratio of the two sums does not
    student_tail_N = F.logsigmoid(outside_N - torch.logsumexp(inside_NK, dim=-1))
    return kept_N + cross_terms(tail_logmass_N, student_tail_N)


def cross_entropy_head(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> HeadLoss:
    """Summed cross-entropy of `softmax(hidden @ weight.T)`, fused with the output layer (method.md, eq. 43, alpha 1).

    Equal to `F.cross_entropy(hidden @ weight.T, targets, reduction="sum")` for any `chunk_tokens`; gradients reach
    `hidden_ND` and `weight_VD`. Every position counts: pass supervised positions only. In bfloat16 the matrix products
    run in bfloat16, the softmax and the sum over chunks in fp32.

    Raises:
        ValueError: Shapes do not fit, or the hidden states are float16.
    """
    shape = HeadShape(alpha=1.0, temperature=1.0, chunk_tokens=chunk_tokens)
    return _apply(hidden_ND, weight_VD, targets_N, None, shape)


def cached_kd_head(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    ids_NK: Tensor,
    logp_NK: Tensor,
    tail_logmass_N: Tensor,
    *,
    alpha: float,
    temperature: float,
    chunk_tokens: int = CHUNK_TOKENS,
) -> HeadLoss:
    """Summed loss of logit distillation, fused with the output layer (method.md, eq. 43).

        loss_n = alpha * CE_n + (1 - alpha) * T^2 * L_n,   L_n of eq. 41 at z / T, CE_n at temperature 1

    Its gradient is analytic (eq. 42). With u = z / T, M = sum_K p + p_r (1 up to rounding):

        dL/du_j = M q_j - p_j  for j in K,      dL/du_j = q_j (M - p_r / q_r)  outside K

    Outside K it is computed as s_j (M q_r - p_r), where s is the softmax over the tokens outside K alone: bounded
    however small q_r is. One pass over the logits serves both terms when T = 1.

    Args:
        hidden_ND: Last hidden states of the student.
        weight_VD: Output matrix of the student.
        targets_N: The next token of the text.
        ids_NK: Kept token ids of the cache, no id twice in a row.
        logp_NK: Teacher's log-probabilities of those ids at `temperature`.
        tail_logmass_N: Log of the teacher's mass outside K, -inf where there is none.
        alpha: Weight of the cross-entropy, in [0, 1].
        temperature: T; must be the cache's.
        chunk_tokens: Positions whose logits exist at once.

    Raises:
        ValueError: Shapes do not fit, the hidden states are float16, `alpha` is not a share, or `temperature` is not
            positive.
    """
    shape = HeadShape(alpha=alpha, temperature=temperature, chunk_tokens=chunk_tokens)
    return _apply(hidden_ND, weight_VD, targets_N, Teacher(ids_NK, logp_NK, tail_logmass_N), shape)


def kd_head(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    teacher: TeacherSide,
    *,
    alpha: float,
    temperature: float,
    temperature_power: int = 2,
    chunk_tokens: int = CHUNK_TOKENS,
) -> HeadLoss:
    """Summed loss of any named kind, fused with the output layer (method.md, eq. 54).

        loss_n = alpha * CE_n + (1 - alpha) * T^a * D_n

    `objectives.dense` and `objectives.sparse` make the teacher's side for each name of the register.

    Args:
        hidden_ND: Last hidden states of the student.
        weight_VD: Output matrix of the student.
        targets_N: The next token of the text.
        teacher: What the student is compared with, and how.
        alpha: Weight of the cross-entropy, in [0, 1].
        temperature: T; must be the cache's where there is one.
        temperature_power: a; 1 for `tvd`, 2 for all others.
        chunk_tokens: Positions whose logits exist at once.

    Raises:
        ValueError: Shapes do not fit, the hidden states are float16, `alpha` is not a share, or `temperature` is not
            positive.
    """
    shape = HeadShape(
        alpha=alpha, temperature=temperature, chunk_tokens=chunk_tokens, temperature_power=temperature_power
    )
    return _apply(hidden_ND, weight_VD, targets_N, teacher, shape)


@dataclass(slots=True)
class _Passed:
    """What one pass over all chunks yields; a gradient is None where nobody needs it."""

    cross_entropy: Tensor
    divergence: Tensor
    hidden_ND: Tensor | None
    weight_VD: Tensor | None


class _Head(torch.autograd.Function):
    """Output layer and loss as one node; its gradients are made in the forward pass, while the logits exist."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        teacher: TeacherSide | None,
        shape: HeadShape,
        needed: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum the loss over all chunks, and the gradients with it."""
        passed = _pass_over_chunks(hidden_ND, weight_VD, targets_N, teacher, shape, needed)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N)
        ctx.teacher, ctx.shape, ctx.needed = teacher, shape, needed
        ctx.passed = passed
        loss = shape.alpha * passed.cross_entropy
        if teacher is not None and shape.divergence_weight:  # 0 * inf must not become NaN at alpha = 1
            loss = loss + shape.divergence_weight * passed.divergence
        cross_entropy, divergence = passed.cross_entropy.clone(), passed.divergence.clone()
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return loss, cross_entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients in place and let go of them, so that autograd can keep them without a copy."""
        hidden_ND, weight_VD, targets_N = ctx.saved_tensors  # here autograd refuses inputs changed since the forward
        passed, ctx.passed = ctx.passed, None
        if passed is None:  # a second backward over the same graph: the first took the gradients along
            passed = _pass_over_chunks(hidden_ND, weight_VD, targets_N, ctx.teacher, ctx.shape, ctx.needed)
        for gradient in (passed.hidden_ND, passed.weight_VD):
            if gradient is not None:
                gradient.mul_(grad)
        return passed.hidden_ND, passed.weight_VD, None, None, None, None


def _apply(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher: TeacherSide | None, shape: HeadShape
) -> HeadLoss:
    _check_shapes(hidden_ND, weight_VD, targets_N, teacher)
    weight_VD = weight_VD.to(hidden_ND.dtype)  # under autocast the hidden states arrive in a narrower dtype
    enabled = torch.is_grad_enabled()
    needed = (enabled and hidden_ND.requires_grad, enabled and weight_VD.requires_grad)
    # the products below choose their own precision
    with torch.autocast(hidden_ND.device.type, enabled=False):
        loss, cross_entropy, divergence = _Head.apply(  # type: ignore[no-untyped-call]
            hidden_ND, weight_VD, targets_N, teacher, shape, needed
        )
    return HeadLoss(sum=loss, count=hidden_ND.shape[0], cross_entropy_sum=cross_entropy, divergence_sum=divergence)


def _pass_over_chunks(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    teacher: TeacherSide | None,
    shape: HeadShape,
    needed: tuple[bool, bool],
) -> _Passed:
    """Compute logits, losses and gradients chunk by chunk; three matrix products a chunk."""
    dtype = loss_dtype(hidden_ND)
    passed = _Passed(
        cross_entropy=hidden_ND.new_zeros((), dtype=dtype),
        divergence=hidden_ND.new_zeros((), dtype=dtype),
        hidden_ND=torch.empty_like(hidden_ND) if needed[0] else None,
        weight_VD=torch.zeros_like(weight_VD, dtype=dtype) if needed[1] else None,
    )
    compare = None if teacher is None else teacher.begin(hidden_ND, weight_VD.shape[0], shape)
    for rows, logits_CV in _chunks_of_logits(hidden_ND, weight_VD, shape.chunk_tokens):
        target_C = targets_N[rows].long()
        if compare is None:
            cross_entropy_C = cross_entropy_to_gradient(logits_CV, target_C)
        else:
            cross_entropy_C, divergence_C = compare(rows, logits_CV, target_C)
            passed.divergence += divergence_C.sum()
        passed.cross_entropy += cross_entropy_C.sum()
        narrow_CV = logits_CV.to(hidden_ND.dtype)
        if passed.hidden_ND is not None:
            torch.mm(narrow_CV, weight_VD, out=passed.hidden_ND[rows])
        if passed.weight_VD is not None:
            _accumulate(passed.weight_VD, narrow_CV, hidden_ND[rows])
    if passed.weight_VD is not None:
        passed.weight_VD = passed.weight_VD.to(weight_VD.dtype)
    return passed


def _chunks_of_logits(hidden_ND: Tensor, weight_VD: Tensor, chunk_tokens: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield each chunk's rows and its logits in at least fp32; the buffer is the caller's until the next chunk."""
    num_rows = hidden_ND.shape[0]
    buffer_CV = chunk_buffer(hidden_ND, weight_VD.shape[0], chunk_tokens, hidden_ND.dtype)
    for start in range(0, num_rows, chunk_tokens):
        rows = slice(start, min(start + chunk_tokens, num_rows))
        logits_CV = buffer_CV[: rows.stop - rows.start]
        torch.mm(hidden_ND[rows], weight_VD.T, out=logits_CV)
        yield rows, logits_CV.to(loss_dtype(hidden_ND))


def _accumulate(total_VD: Tensor, gradient_CV: Tensor, hidden_CD: Tensor) -> None:
    """Add one chunk's gradient of the output matrix; sums over chunks are taken in fp32 at least."""
    if total_VD.dtype == hidden_CD.dtype:
        total_VD.addmm_(gradient_CV.T, hidden_CD)
    else:
        total_VD.add_(torch.mm(gradient_CV.T, hidden_CD))


def _check_shapes(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher: TeacherSide | None) -> None:
    """Refuse what broadcasting would let through, and a dtype that small gradients vanish in."""
    if hidden_ND.dtype is torch.float16:
        raise ValueError("float16 loses gradients below 6e-8, made here before any loss scale; use bfloat16 or float32")
    if hidden_ND.dim() != 2 or weight_VD.dim() != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise ValueError(f"hidden {tuple(hidden_ND.shape)} and weight {tuple(weight_VD.shape)} must be [N, D], [V, D]")
    num_rows = hidden_ND.shape[0]
    if targets_N.shape != (num_rows,):
        raise ValueError(f"targets {tuple(targets_N.shape)} must be [{num_rows}], one for each hidden state")
    if teacher is not None:
        teacher.check(num_rows, weight_VD.shape[0])
