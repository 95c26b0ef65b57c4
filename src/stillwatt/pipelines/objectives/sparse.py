"""Losses of a cache other than the top-k with a tail bucket, for `losses.kd_head`; and how their tokens are chosen.

Shapes: N positions, C positions of one chunk, V vocabulary, K tokens a position; rows with fewer are filled up with
id -1. 1 a kept axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.pipelines.loss_chunk import (
    ChunkLoss,
    HeadShape,
    Teacher,
    TeacherSide,
    check_kept,
    chunk_buffer,
    cross_entropy_to_gradient,
    cross_terms,
)

__all__ = ["Renormalised", "Weighted", "cached_side", "draw_head_and_tail", "draw_samples", "top_p", "truncated"]

PADDING = -1
"""The id that fills up a row; no token."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """Tokens with weights: samples of the teacher's distribution (method.md, eq. 56), or a cut-off one (eq. 57)."""

    ids_NK: Tensor
    """No id twice in a row; -1 fills up."""
    weight_NK: Tensor
    logp_NK: Tensor
    """The teacher's log-probabilities; anything where the id is -1 or the weight 0, which both add nothing."""

    def check(self, num_rows: int, vocab_size: int) -> None:
        """Refuse what broadcasting would let through."""
        check_kept(self.ids_NK, num_rows, vocab_size)
        _check_like_ids(self.ids_NK, weights=self.weight_NK, log_probabilities=self.logp_NK)

    def begin(self, hidden_ND: Tensor, vocab_size: int, shape: HeadShape) -> ChunkLoss:
        """A second array of logits is taken where the temperature is not 1."""
        scratch_CV = None if shape.temperature == 1.0 else chunk_buffer(hidden_ND, vocab_size, shape.chunk_tokens)

        def to_gradient(rows: slice, logits_CV: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
            dtype = logits_CV.dtype
            ids_CK = self.ids_NK[rows].long()
            weight_CK = self.weight_NK[rows].to(dtype).masked_fill(ids_CK < 0, 0.0)
            # where a teacher is sure of itself, tokens of its head may weigh nothing: their logarithm is then -inf
            logp_CK = self.logp_NK[rows].to(dtype).masked_fill(weight_CK == 0.0, 0.0)
            part = Weighted(ids_CK.clamp_min(0), weight_CK, logp_CK)
            spare_CV = None if scratch_CV is None else scratch_CV[: len(target_C)]
            return _weighted_to_gradient(logits_CV, target_C, part, shape, spare_CV)

        return to_gradient


def truncated(ids_NK: Tensor, logp_NK: Tensor) -> Weighted:
    """The teacher's side of `truncated_top_k` (method.md, eq. 57).

    Warning: this is no divergence. It is negative for a student surer than its teacher, and least where the student
    leaves nothing to the tokens outside K.
    """
    return Weighted(ids_NK, logp_NK.exp(), logp_NK)


def cached_side(name: str, ids_NK: Tensor, logp_NK: Tensor, tail_logmass_N: Tensor) -> TeacherSide:
    """What a cache of the most probable tokens gives to a loss of that name.

    Raises:
        ValueError: The loss reads something else.
    """
    if name in ("top_k_tail", "top_p_tail"):
        return Teacher(ids_NK, logp_NK, tail_logmass_N, is_padded=name == "top_p_tail")
    if name == "truncated_top_k":
        return truncated(ids_NK, logp_NK)
    if name == "renormalised_top_k":
        return Renormalised(ids_NK, logp_NK)
    raise ValueError(f"loss {name!r} does not read a cache of the most probable tokens")


def _weighted_to_gradient(
    logits_CV: Tensor, target_C: Tensor, part: Weighted, shape: HeadShape, scratch_CV: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Values per position; `logits_CV` becomes alpha (s - 1_g) + (1 - alpha) T (M q - w), with s the softmax at T = 1.

    M is the sum of the weights: 1 in expectation for samples, the kept mass for a cut-off distribution.
    """
    temperature, ids_CK, weight_CK = shape.temperature, part.ids_NK, part.weight_NK
    target_C1 = target_C[:, None]
    logit_C1, inside_CK = logits_CV.gather(-1, target_C1), logits_CV.gather(-1, ids_CK)
    mass_C1 = weight_CK.sum(-1, keepdim=True)
    slope = shape.slope_weight
    if scratch_CV is None:
        log_sum_C1, per_weight_C1 = _exponentiate(logits_CV)
        plain_sum_C1 = log_sum_C1
        logits_CV.mul_((shape.alpha + slope * mass_C1) * per_weight_C1)
    else:
        tempered_CV = torch.div(logits_CV, temperature, out=scratch_CV)
        log_sum_C1, per_weight_C1 = _exponentiate(tempered_CV)
        plain_sum_C1, plain_per_weight_C1 = _exponentiate(logits_CV)
        logits_CV.mul_(shape.alpha * plain_per_weight_C1)
        logits_CV.addcmul_(tempered_CV, slope * mass_C1 * per_weight_C1)
    divergence_C = (weight_CK * (part.logp_NK - inside_CK / temperature + log_sum_C1)).sum(-1)
    # added, not set: fillers stand on token 0 with weight 0
    logits_CV.scatter_add_(-1, ids_CK, -slope * weight_CK)
    logits_CV.scatter_add_(-1, target_C1, torch.full_like(logit_C1, -shape.alpha))
    return (plain_sum_C1 - logit_C1).squeeze(-1), divergence_C


def _exponentiate(logits_CV: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits into unnormalised weights in place; the log of their sum, and one over the sum of the weights."""
    greatest_C1 = logits_CV.amax(-1, keepdim=True)
    sum_C1 = logits_CV.sub_(greatest_C1).exp_().sum(-1, keepdim=True)
    return greatest_C1 + sum_C1.log(), sum_C1.reciprocal()


@dataclass(frozen=True, slots=True)
class Renormalised:
    """The teacher's side of `renormalised_top_k` (method.md, eq. 58).

    Warning: blind to all mass outside the kept tokens. A student that gives them nearly none has the same loss as one
    that gives them all.
    """

    ids_NK: Tensor
    """No id twice in a row."""
    logp_NK: Tensor

    def check(self, num_rows: int, vocab_size: int) -> None:
        """Refuse what broadcasting would let through."""
        check_kept(self.ids_NK, num_rows, vocab_size)
        _check_like_ids(self.ids_NK, log_probabilities=self.logp_NK)

    def begin(self, hidden_ND: Tensor, vocab_size: int, shape: HeadShape) -> ChunkLoss:
        """No memory is needed: outside the kept tokens only the cross-entropy has a gradient."""

        def to_gradient(rows: slice, logits_CV: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
            ids_CK = self.ids_NK[rows].long()
            log_p_CK = torch.log_softmax(self.logp_NK[rows].to(logits_CV.dtype), -1)
            log_q_CK = torch.log_softmax(logits_CV.gather(-1, ids_CK) / shape.temperature, -1)
            cross_entropy_C = cross_entropy_to_gradient(logits_CV, target_C)
            logits_CV.mul_(shape.alpha)
            logits_CV.scatter_add_(-1, ids_CK, shape.slope_weight * (log_q_CK.exp() - log_p_CK.exp()))
            return cross_entropy_C, cross_terms(log_p_CK, log_q_CK).sum(-1)

        return to_gradient


def draw_samples(log_p_NV: Tensor, *, draws: int, generator: torch.Generator, power: float = 1.0) -> Weighted:
    """Draw tokens with replacement from a distribution proportional to p^power (method.md, eq. 56).

        w_v = n_v p_v / (n pi_v),   pi = p^t / sum p^t,   E[w_v] = p_v

    At power 1 a token's weight is the share of draws it got. Unbiased for every power, as the weights are not divided
    by their sum; they sum to 1 at power 1 alone.

    Args:
        log_p_NV: Teacher's log-probabilities at the temperature of the loss.
        draws: n, of each position.
        generator: Where the randomness comes from.
        power: t.

    Raises:
        ValueError: `draws` is below 1, or `power` is negative.
    """
    if draws < 1 or power < 0.0:
        raise ValueError(f"{draws} draws at power {power}; draw at least one token, at a power of at least 0")
    log_pi_NV = log_p_NV if power == 1.0 else torch.log_softmax(log_p_NV * power, -1)
    drawn_NK = torch.multinomial(log_pi_NV.exp(), draws, replacement=True, generator=generator)
    ids_NK, count_NK = _merged(drawn_NK)
    at_NK = ids_NK.clamp_min(0)
    log_p_NK = log_p_NV.gather(-1, at_NK)
    weight_NK = count_NK / draws * (log_p_NK - log_pi_NV.gather(-1, at_NK)).exp()
    return Weighted(ids_NK, weight_NK.masked_fill(ids_NK < 0, 0.0), log_p_NK)


def draw_head_and_tail(log_p_NV: Tensor, *, head: int, draws: int, generator: torch.Generator) -> Weighted:
    """Keep the most probable tokens as they are and draw from all others (method.md, eq. 56a).

        w_v = p_v  in the head,      w_v = n_v / n * p_r  outside,  drawn from p / p_r

    Unbiased, as `draw_samples`, with less variance: the head is known, not drawn.

    Raises:
        ValueError: `head` leaves nothing to draw from, or `draws` is below 1.
    """
    if draws < 1 or not 0 < head < log_p_NV.shape[-1]:
        raise ValueError(
            f"head {head} and {draws} draws of {log_p_NV.shape[-1]} tokens; keep at least one, leave at least one, and "
            "draw at least one"
        )
    kept_NK, head_ids_NK = log_p_NV.topk(head, -1)
    rest_NV = log_p_NV.scatter(-1, head_ids_NK, -torch.inf)
    tail_N1 = torch.logsumexp(rest_NV, -1, keepdim=True)
    # a tail that is nothing in this dtype has nothing to draw from: any token will do, as its weight is 0
    share_NV = torch.softmax(rest_NV.clamp_min(torch.finfo(rest_NV.dtype).min), -1).scatter(-1, head_ids_NK, 0.0)
    drawn_NK = torch.multinomial(share_NV, draws, replacement=True, generator=generator)
    ids_NK, count_NK = _merged(drawn_NK)
    weight_NK = (count_NK / draws * tail_N1.exp()).masked_fill(ids_NK < 0, 0.0)
    logp_NK = log_p_NV.gather(-1, ids_NK.clamp_min(0)).masked_fill(weight_NK == 0.0, 0.0)
    return Weighted(
        torch.cat([head_ids_NK, ids_NK], -1),
        torch.cat([kept_NK.exp(), weight_NK], -1),
        torch.cat([kept_NK.masked_fill(kept_NK == -torch.inf, 0.0), logp_NK], -1),
    )


def top_p(log_p_NV: Tensor, *, mass: float, most: int) -> Teacher:
    """The smallest set of most probable tokens with at least that mass, and the tail (method.md, eq. 55).

    Args:
        log_p_NV: Teacher's log-probabilities at the temperature of the loss.
        mass: P, above 0 and below 1.
        most: Tokens kept at most, whatever their mass; the tail then holds more than 1 - P.

    Raises:
        ValueError: `mass` is no share, or `most` is not between 1 and the vocabulary.
    """
    if not 0.0 < mass < 1.0 or not 1 <= most <= log_p_NV.shape[-1]:
        raise ValueError(f"mass {mass} must lie between 0 and 1, and most {most} between 1 and {log_p_NV.shape[-1]}")
    sorted_NV, order_NV = log_p_NV.sort(-1, descending=True)
    before_NK = (sorted_NV.exp().cumsum(-1) - sorted_NV.exp())[:, :most]
    is_kept_NK = before_NK < mass
    is_kept_NK[:, 0] = True
    width = int(is_kept_NK.sum(-1).max())
    is_kept_NK = is_kept_NK[:, :width]
    ids_NK = order_NV[:, :width].masked_fill(~is_kept_NK, PADDING)
    rest_NV = sorted_NV.clone()
    rest_NV[:, :width].masked_fill_(is_kept_NK, -torch.inf)
    inside_N = torch.logsumexp(sorted_NV[:, :width].masked_fill(~is_kept_NK, -torch.inf), -1)
    tail_N = F.logsigmoid(torch.logsumexp(rest_NV, -1) - inside_N)
    return Teacher(ids_NK, sorted_NV[:, :width], tail_N, is_padded=True)


def _merged(drawn_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Drawn tokens with each once a row, filled up with -1, and how often each was drawn (anything for a filler)."""
    sorted_NK = drawn_NK.sort(-1).values
    is_first_NK = torch.ones_like(sorted_NK, dtype=torch.bool)
    is_first_NK[:, 1:] = sorted_NK[:, 1:] != sorted_NK[:, :-1]
    count_NK = (sorted_NK[:, :, None] == sorted_NK[:, None, :]).sum(-1)
    ids_NK, order_NK = sorted_NK.masked_fill(~is_first_NK, PADDING).sort(-1, descending=True)
    width = int(is_first_NK.sum(-1).max())
    return ids_NK[:, :width], count_NK.gather(-1, order_NK)[:, :width].to(torch.float64)


def _check_like_ids(ids_NK: Tensor, **arrays: Tensor) -> None:
    for name, array in arrays.items():
        if array.shape != ids_NK.shape:
            raise ValueError(f"{name.replace('_', '-')} {tuple(array.shape)} must be {tuple(ids_NK.shape)}, as the ids")
