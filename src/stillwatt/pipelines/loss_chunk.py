"""Losses of one chunk of logits, turned into their own gradient in place; the arithmetic under `losses`.

Shapes: C positions of one chunk, N all positions, V vocabulary, K kept teacher tokens per position; 1 a kept axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "ChunkLoss",
    "HeadShape",
    "Teacher",
    "TeacherSide",
    "check_kept",
    "check_temperature",
    "chunk_buffer",
    "cross_entropy_to_gradient",
    "cross_terms",
    "distil_to_gradient",
    "loss_dtype",
]


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The numbers of a head's loss."""

    alpha: float
    temperature: float
    chunk_tokens: int
    temperature_power: int = 2
    """The divergence is multiplied by T to this power; 1 for a distance that is linear near agreement (eq. 54)."""

    @property
    def divergence_weight(self) -> float:
        """What the divergence counts for in the loss."""
        return (1.0 - self.alpha) * self.temperature**self.temperature_power

    @property
    def slope_weight(self) -> float:
        """What its derivative to the tempered logits counts for in the gradient: one T less."""
        return (1.0 - self.alpha) * self.temperature ** (self.temperature_power - 1)

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha {self.alpha} is not a share; it must lie in [0, 1]")
        if self.chunk_tokens < 1:
            raise ValueError(f"chunk_tokens {self.chunk_tokens} must be at least 1")


ChunkLoss = Callable[[slice, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Called with a chunk's rows, its logits and its targets: returns cross-entropy and divergence per position, and
turns the logits into the gradient in place."""


class TeacherSide(Protocol):
    """What a student is compared with, and how."""

    def check(self, num_rows: int, vocab_size: int) -> None:
        """Refuse shapes that do not fit the student's; raises ValueError."""
        ...

    def begin(self, hidden_ND: Tensor, vocab_size: int, shape: HeadShape) -> ChunkLoss:
        """Take what memory one pass over the chunks needs, and return what is done to each."""
        ...


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the cache holds for some positions: kept tokens and a tail."""

    ids_NK: Tensor
    logp_NK: Tensor
    tail_logmass_N: Tensor
    is_padded: bool = False
    """Whether rows are of unequal length, filled up with id -1."""

    def rows(self, rows: slice, dtype: torch.dtype) -> Teacher:
        """The part for one chunk, in the dtype the loss is computed in."""
        part = self.ids_NK[rows].long(), self.logp_NK[rows].to(dtype), self.tail_logmass_N[rows].to(dtype)
        return Teacher(*part, self.is_padded)

    def filled(self) -> tuple[Teacher, Tensor | None]:
        """Rows filled up with their own first token instead, and where; None where none are filled up."""
        if not self.is_padded:
            return self, None
        is_filler_CK = self.ids_NK < 0
        ids_CK = torch.where(is_filler_CK, self.ids_NK[:, :1], self.ids_NK)
        return Teacher(ids_CK, self.logp_NK.masked_fill(is_filler_CK, -torch.inf), self.tail_logmass_N), is_filler_CK

    def check(self, num_rows: int, vocab_size: int) -> None:
        """Refuse what broadcasting would let through."""
        check_kept(self.ids_NK, num_rows, vocab_size)
        if self.logp_NK.shape != self.ids_NK.shape or self.tail_logmass_N.shape != (num_rows,):
            raise ValueError(
                f"log-probabilities {tuple(self.logp_NK.shape)} and tail {tuple(self.tail_logmass_N.shape)} "
                f"must be {tuple(self.ids_NK.shape)} and [{num_rows}]"
            )

    def begin(self, hidden_ND: Tensor, vocab_size: int, shape: HeadShape) -> ChunkLoss:
        """A second array of logits is taken where the temperature is not 1."""
        scratch_CV = None if shape.temperature == 1.0 else chunk_buffer(hidden_ND, vocab_size, shape.chunk_tokens)

        def to_gradient(rows: slice, logits_CV: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
            spare_CV = None if scratch_CV is None else scratch_CV[: len(target_C)]
            return distil_to_gradient(logits_CV, target_C, self.rows(rows, logits_CV.dtype), shape, spare_CV)

        return to_gradient


def loss_dtype(hidden_ND: Tensor) -> torch.dtype:
    """What losses and their sums are computed in: fp32, or fp64 where the hidden states are."""
    return torch.promote_types(hidden_ND.dtype, torch.float32)


def chunk_buffer(hidden_ND: Tensor, vocab_size: int, chunk_tokens: int, dtype: torch.dtype | None = None) -> Tensor:
    """Room for one chunk of logits; taken once, as fresh memory costs a page fault every 4 kB."""
    rows = min(chunk_tokens, hidden_ND.shape[0])
    return hidden_ND.new_empty(rows, vocab_size, dtype=dtype or loss_dtype(hidden_ND))


def check_kept(ids_NK: Tensor, num_rows: int, vocab_size: int) -> None:
    """Refuse kept tokens that are not one row for each position, or more than there are.

    Raises:
        ValueError: With both shapes.
    """
    if ids_NK.dim() != 2 or ids_NK.shape[0] != num_rows or ids_NK.shape[1] < 1:
        raise ValueError(f"ids {tuple(ids_NK.shape)} must be [{num_rows}, K] with K of at least 1")
    if ids_NK.shape[1] > vocab_size:
        raise ValueError(f"{ids_NK.shape[1]} kept tokens of a vocabulary of {vocab_size}")


def cross_entropy_to_gradient(logits_CV: Tensor, target_C: Tensor) -> Tensor:
    """Return the cross-entropy per position and turn `logits_CV` into its gradient, softmax minus one-hot."""
    target_C1 = target_C[:, None]
    logit_C1 = logits_CV.gather(-1, target_C1)
    greatest_C1 = logits_CV.amax(-1, keepdim=True)
    sum_C1 = logits_CV.sub_(greatest_C1).exp_().sum(-1, keepdim=True)
    logits_CV.div_(sum_C1)
    logits_CV.scatter_add_(-1, target_C1, torch.full_like(logit_C1, -1.0))
    return (sum_C1.log() + (greatest_C1 - logit_C1)).squeeze(-1)


@dataclass(frozen=True, slots=True)
class _Split:
    """A student's softmax in two parts: the kept tokens, and all others as one bucket."""

    log_q_CK: Tensor
    log_q_rest_C1: Tensor
    log_sum_C1: Tensor
    """Logarithm of the softmax's denominator."""
    per_weight_C1: Tensor
    """1 / sum of the weights outside K, which makes of each weight its share of the bucket; 0 where K = V."""


def _split(inside_CK: Tensor, shifted_CV: Tensor, greatest_C1: Tensor) -> _Split:
    """Split a softmax; `shifted_CV`, z minus its maximum outside K and -inf on K, is turned into weights in place.

    The two parts are compared through their sums, so that q_r needs no 1 - sum and keeps full relative precision.
    """
    sum_C1 = shifted_CV.exp_().sum(-1, keepdim=True)
    outside_C1 = greatest_C1 + sum_C1.log()
    inside_C1 = torch.logsumexp(inside_CK, dim=-1, keepdim=True)
    log_sum_C1 = torch.logaddexp(outside_C1, inside_C1)
    return _Split(
        log_q_CK=inside_CK - log_sum_C1,
        log_q_rest_C1=F.logsigmoid(outside_C1 - inside_C1),
        log_sum_C1=log_sum_C1,
        per_weight_C1=torch.where(sum_C1 > 0.0, sum_C1.reciprocal(), torch.zeros_like(sum_C1)),
    )


def distil_to_gradient(
    logits_CV: Tensor, target_C: Tensor, teacher: Teacher, shape: HeadShape, scratch_CV: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and divergence per position; turn `logits_CV` into the gradient of eq. 43 in place.

    At another temperature than 1 a second array of the same size is needed; `scratch_CV` is used if given.
    """
    teacher, is_filler_CK = teacher.filled()
    ids_CK, temperature = teacher.ids_NK, shape.temperature
    target_C1, tail_C1 = target_C[:, None], teacher.tail_logmass_N[:, None]
    logit_C1, inside_CK = logits_CV.gather(-1, target_C1), logits_CV.gather(-1, ids_CK)
    if is_filler_CK is not None:
        inside_CK = inside_CK.masked_fill(is_filler_CK, -torch.inf)
    logits_CV.scatter_(-1, ids_CK, -torch.inf)
    # a finite stand-in for the maximum of nothing (K = V) keeps -inf - (-inf) away
    greatest_C1 = logits_CV.amax(-1, keepdim=True).clamp_min(torch.finfo(logits_CV.dtype).min)
    logits_CV.sub_(greatest_C1)
    tempered_CV = logits_CV if temperature == 1.0 else torch.div(logits_CV, temperature, out=scratch_CV)
    tempered = _split(inside_CK / temperature, tempered_CV, greatest_C1 / temperature)
    plain = tempered if temperature == 1.0 else _split(inside_CK, logits_CV, greatest_C1)

    p_CK, p_rest_C1 = teacher.logp_NK.exp(), tail_C1.exp()
    mass_C1 = p_CK.sum(-1, keepdim=True) + p_rest_C1
    divergence_C = cross_terms(teacher.logp_NK, tempered.log_q_CK).sum(-1)
    divergence_C += cross_terms(tail_C1, tempered.log_q_rest_C1).squeeze(-1)
    cross_entropy_C = (plain.log_sum_C1 - logit_C1).squeeze(-1)

    # d(T^2 L)/dz = T dL/du; exact at T = 1
    to_divergence = (1.0 - shape.alpha) * temperature
    rest_C1 = to_divergence * (mass_C1 * tempered.log_q_rest_C1.exp() - p_rest_C1) * tempered.per_weight_C1
    plain_rest_C1 = shape.alpha * plain.log_q_rest_C1.exp() * plain.per_weight_C1
    if tempered_CV is logits_CV:
        logits_CV.mul_(rest_C1 + plain_rest_C1)
    else:
        logits_CV.mul_(plain_rest_C1).addcmul_(tempered_CV, rest_C1)
    kept_CK = to_divergence * (mass_C1 * tempered.log_q_CK.exp() - p_CK) + shape.alpha * plain.log_q_CK.exp()
    if is_filler_CK is not None:  # the same token's gradient, so that it is all one which of them is written last
        kept_CK = torch.where(is_filler_CK, kept_CK[:, :1], kept_CK)
    logits_CV.scatter_(-1, ids_CK, kept_CK)
    logits_CV.scatter_add_(-1, target_C1, torch.full_like(logit_C1, -shape.alpha))
    return cross_entropy_C, divergence_C


def cross_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return p (log p - log q), and 0 where p is 0 whatever q is; any shape."""
    nothing = log_p == -torch.inf
    # both operands are made finite before the product, or the untaken branch would still spoil gradients with NaN
    difference = log_p.masked_fill(nothing, 0.0) - log_q.masked_fill(nothing, 0.0)
    return log_p.exp() * difference


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that divides by nothing, or is not a number.

    Raises:
        ValueError: `temperature` is not positive.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature {temperature} must be positive")
