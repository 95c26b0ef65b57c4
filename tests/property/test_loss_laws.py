"""Laws of the divergences, over random and adversarial distributions.

Shapes: N positions, D hidden width, V vocabulary, K kept tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillwatt.pipelines.losses import cached_kd_head, full_kl, topk_tail_kl

ROUNDING = 1e-9
"""What fp64 may add to a law: values go up to about 1e2, with 1e-16 each over some tens of terms."""


@dataclass(frozen=True)
class Cached:
    """A teacher, its cache, and a student; fp64."""

    teacher_NV: Tensor
    student_NV: Tensor
    ids_NK: Tensor
    logp_NK: Tensor
    tail_N: Tensor

    def loss_N(self, student_NV: Tensor) -> Tensor:
        return topk_tail_kl(student_NV, self.ids_NK, self.logp_NK, self.tail_N)


LOGIT = st.one_of(
    st.floats(-5, 5, allow_nan=False),
    st.sampled_from([-50.0, 0.0, 50.0]),  # ties, near one-hot rows and vanishing tails
)


@st.composite
def cached_teachers(draw: st.DrawFn) -> Cached:
    num, vocabulary = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    top_k = draw(st.integers(1, vocabulary))
    rows = st.lists(LOGIT, min_size=vocabulary, max_size=vocabulary)
    matrices = st.lists(rows, min_size=num, max_size=num).map(lambda m: torch.tensor(m, dtype=torch.float64))
    teacher_NV, student_NV = draw(matrices), draw(matrices)
    logp_NV = torch.log_softmax(teacher_NV, -1)
    logp_NK, ids_NK = logp_NV.topk(top_k, -1)
    tail_N = torch.logsumexp(logp_NV.scatter(-1, ids_NK, -torch.inf), -1)
    return Cached(teacher_NV, student_NV, ids_NK, logp_NK, tail_N)


@given(cached_teachers())
@settings(deadline=None)
def test_never_negative_and_never_above_the_full_divergence(cached: Cached) -> None:
    coarse_N = cached.loss_N(cached.student_NV)
    fine_N = full_kl(cached.teacher_NV, cached.student_NV, temperature=1.0)
    assert (coarse_N >= -ROUNDING).all()
    assert (coarse_N <= fine_N + ROUNDING).all()


@given(cached_teachers())
@settings(deadline=None)
def test_keeping_more_tokens_never_lowers_it(cached: Cached) -> None:
    logp_NV = torch.log_softmax(cached.teacher_NV, -1)
    values = []
    for top_k in range(1, logp_NV.shape[-1] + 1):
        logp_NK, ids_NK = logp_NV.topk(top_k, -1)
        tail_N = torch.logsumexp(logp_NV.scatter(-1, ids_NK, -torch.inf), -1)
        values.append(topk_tail_kl(cached.student_NV, ids_NK, logp_NK, tail_N))
    steps_KN = torch.stack(values).diff(dim=0)
    assert (steps_KN >= -ROUNDING).all()
    full_N = full_kl(cached.teacher_NV, cached.student_NV, temperature=1.0)
    torch.testing.assert_close(values[-1], full_N, rtol=1e-9, atol=ROUNDING)  # K = V is the full divergence


@given(cached_teachers(), st.floats(-30, 30))
@settings(deadline=None)
def test_zero_where_the_buckets_agree(cached: Cached, shift: float) -> None:
    # equal logits, up to a shift and to a permutation of the tokens outside K
    student_NV = cached.teacher_NV + shift
    for row in range(student_NV.shape[0]):
        outside = [v for v in range(student_NV.shape[1]) if v not in cached.ids_NK[row].tolist()]
        student_NV[row, outside] = student_NV[row, outside[::-1]].clone()
    assert cached.loss_N(student_NV).abs().max() <= ROUNDING


@given(cached_teachers())
@settings(deadline=None)
def test_zero_only_where_the_buckets_agree(cached: Cached) -> None:
    loss_N = cached.loss_N(cached.student_NV)
    log_q_NV = torch.log_softmax(cached.student_NV, -1)
    distance_N = (log_q_NV.gather(-1, cached.ids_NK).exp() - cached.logp_NK.exp()).abs().sum(-1)
    # Pinsker's inequality: KL >= (sum |p - q|)^2 / 2, so a small loss forces the buckets together
    assert (loss_N + ROUNDING >= distance_N**2 / 2).all()


@given(cached_teachers(), st.floats(-100, 100))
@settings(deadline=None)
def test_a_shift_of_all_logits_changes_nothing(cached: Cached, shift: float) -> None:
    torch.testing.assert_close(
        cached.loss_N(cached.student_NV + shift), cached.loss_N(cached.student_NV), rtol=1e-9, atol=1e-9
    )


@given(cached_teachers(), st.floats(0.0, 1.0), st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(1, 5), st.data())
@settings(deadline=None)
def test_head_obeys_the_reference_whatever_the_chunk_or_split(
    cached: Cached, alpha: float, temperature: float, chunk_tokens: int, data: st.DataObject
) -> None:
    num, vocabulary = cached.student_NV.shape
    weight_VD = torch.eye(vocabulary, dtype=torch.float64)  # hidden states are the logits themselves
    targets_N = torch.tensor(data.draw(st.lists(st.integers(0, vocabulary - 1), min_size=num, max_size=num)))
    cut = data.draw(st.integers(0, num))

    def head(rows: slice, chunk: int) -> tuple[Tensor, Tensor]:
        hidden_ND = cached.student_NV[rows].clone().requires_grad_()
        kept = (cached.ids_NK[rows], cached.logp_NK[rows], cached.tail_N[rows])
        loss = cached_kd_head(
            hidden_ND, weight_VD, targets_N[rows], *kept, alpha=alpha, temperature=temperature, chunk_tokens=chunk
        )
        (gradient_ND,) = torch.autograd.grad(loss.sum, hidden_ND)
        return loss.sum.detach(), gradient_ND

    whole, gradient_ND = head(slice(None), 100)
    left, right = head(slice(0, cut), chunk_tokens), head(slice(cut, num), chunk_tokens)
    torch.testing.assert_close(left[0] + right[0], whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.cat([left[1], right[1]]), gradient_ND, rtol=1e-9, atol=1e-9)

    logits_NV = cached.student_NV.clone().requires_grad_()
    hard = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
    reference = alpha * hard + (1 - alpha) * temperature**2 * cached.loss_N(logits_NV / temperature).sum()
    torch.testing.assert_close(whole, reference.detach(), rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(gradient_ND, torch.autograd.grad(reference, logits_NV)[0], rtol=1e-9, atol=1e-8)


@given(cached_teachers(), st.sampled_from([1.0, 3.0]))
@settings(deadline=None)
def test_gradient_of_the_logits_sums_to_zero(cached: Cached, temperature: float) -> None:
    # the loss does not see a shift, so its gradient has no component along one
    hidden_ND = cached.student_NV.clone().requires_grad_()
    weight_VD = torch.eye(hidden_ND.shape[1], dtype=torch.float64)
    targets_N = torch.zeros(hidden_ND.shape[0]).long()
    kept = (cached.ids_NK, cached.logp_NK, cached.tail_N)
    loss = cached_kd_head(hidden_ND, weight_VD, targets_N, *kept, alpha=0.5, temperature=temperature)
    (gradient_ND,) = torch.autograd.grad(loss.sum, hidden_ND)
    assert gradient_ND.sum(-1).abs().max() <= ROUNDING
