"""The fused heads against autograd, over ordinary and adversarial distributions.

Shapes: N positions, D hidden width, V vocabulary, K kept tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.pipelines.losses import HeadLoss, cached_kd_head, cross_entropy_head, topk_tail_kl


@dataclass(frozen=True)
class Problem:
    """One head problem; the teacher's cache is made from whole teacher logits."""

    hidden_ND: Tensor
    weight_VD: Tensor
    targets_N: Tensor
    ids_NK: Tensor
    logp_NK: Tensor
    tail_N: Tensor

    def kd(self, *, alpha: float, temperature: float = 1.0, chunk_tokens: int = 3) -> HeadLoss:
        return cached_kd_head(
            self.hidden_ND,
            self.weight_VD,
            self.targets_N,
            self.ids_NK,
            self.logp_NK,
            self.tail_N,
            alpha=alpha,
            temperature=temperature,
            chunk_tokens=chunk_tokens,
        )

    def reference(self, *, alpha: float, temperature: float = 1.0) -> Tensor:
        logits_NV = self.hidden_ND @ self.weight_VD.T
        hard = F.cross_entropy(logits_NV, self.targets_N, reduction="sum")
        soft = topk_tail_kl(logits_NV / temperature, self.ids_NK, self.logp_NK, self.tail_N).sum()
        return alpha * hard + (1 - alpha) * temperature**2 * soft


def make_problem(
    *,
    num: int = 7,
    width: int = 5,
    vocabulary: int = 11,
    top_k: int = 4,
    scale: float = 1.0,
    teacher_scale: float = 2.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Problem:
    rng = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(num, width, generator=rng, dtype=torch.float64)
    weight_VD = torch.randn(vocabulary, width, generator=rng, dtype=torch.float64) * scale
    targets_N = torch.randint(0, vocabulary, (num,), generator=rng)
    teacher_NV = torch.randn(num, vocabulary, generator=rng, dtype=torch.float64) * teacher_scale
    logp_NV = torch.log_softmax(teacher_NV, -1)
    logp_NK, ids_NK = logp_NV.topk(top_k, dim=-1)
    tail_N = torch.logsumexp(logp_NV.scatter(-1, ids_NK, -torch.inf), -1)
    return Problem(
        hidden_ND.to(dtype).requires_grad_(),
        weight_VD.to(dtype).requires_grad_(),
        targets_N,
        ids_NK,
        logp_NK.to(dtype),
        tail_N.to(dtype),
    )


CASES = {
    "ordinary": make_problem(),
    "one kept token": make_problem(top_k=1),
    "all but one kept": make_problem(top_k=10),
    "whole vocabulary": make_problem(top_k=11),
    "uniform teacher": make_problem(teacher_scale=0.0),
    "nearly one-hot teacher": make_problem(teacher_scale=50.0),
    "extreme student": make_problem(scale=20.0),
    "extreme both": make_problem(scale=20.0, teacher_scale=50.0),
    "nearly uniform student": make_problem(scale=1e-3),
    "vocabulary of two": make_problem(vocabulary=2, top_k=1),
    "one position": make_problem(num=1),
}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.7])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_kd_head_equals_the_autograd_reference(case: str, alpha: float, temperature: float) -> None:
    problem = CASES[case]
    inputs = (problem.hidden_ND, problem.weight_VD)
    found = problem.kd(alpha=alpha, temperature=temperature)
    reference = problem.reference(alpha=alpha, temperature=temperature)
    torch.testing.assert_close(found.sum, reference, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum, inputs), torch.autograd.grad(reference, inputs), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", ["ordinary", "one kept token", "whole vocabulary", "uniform teacher"])
def test_kd_head_passes_gradcheck(case: str, temperature: float) -> None:
    problem = CASES[case]

    def loss(hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
        cached = (problem.ids_NK, problem.logp_NK, problem.tail_N)
        head = cached_kd_head(
            hidden_ND, weight_VD, problem.targets_N, *cached, alpha=0.3, temperature=temperature, chunk_tokens=3
        )
        return head.sum

    assert torch.autograd.gradcheck(loss, (problem.hidden_ND, problem.weight_VD))


def test_cross_entropy_head_passes_gradcheck() -> None:
    problem = make_problem()

    def loss(hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
        return cross_entropy_head(hidden_ND, weight_VD, problem.targets_N, chunk_tokens=2).sum

    assert torch.autograd.gradcheck(loss, (problem.hidden_ND, problem.weight_VD))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
def test_cross_entropy_head_equals_torch(scale: float) -> None:
    problem = make_problem(scale=scale)
    inputs = (problem.hidden_ND, problem.weight_VD)
    found = cross_entropy_head(*inputs, problem.targets_N, chunk_tokens=3)
    reference = F.cross_entropy(problem.hidden_ND @ problem.weight_VD.T, problem.targets_N, reduction="sum")
    torch.testing.assert_close(found.sum, reference)
    torch.testing.assert_close(torch.autograd.grad(found.sum, inputs), torch.autograd.grad(reference, inputs))
    assert found.count == 7
    assert found.divergence_sum.item() == 0.0


def test_fp32_stays_close_to_fp64_where_the_students_tail_vanishes() -> None:
    # q_r is about e-40 here: 1 - sum_K q would be 0 or below in fp32, and its logarithm minus infinity or NaN
    hidden_ND = torch.eye(4, dtype=torch.float64)
    weight_VD = torch.full((9, 4), -20.0, dtype=torch.float64)
    weight_VD[:3] = 20.0
    ids_NK = torch.tensor([[0, 1, 2]]).expand(4, 3)
    logp_NK = torch.log(torch.tensor([[0.5, 0.3, 0.1]], dtype=torch.float64)).expand(4, 3)
    tail_N = torch.log(torch.tensor([0.1], dtype=torch.float64)).expand(4)
    results = []
    for dtype in (torch.float64, torch.float32):
        hidden = hidden_ND.to(dtype).requires_grad_()
        weight = weight_VD.to(dtype)
        head = cached_kd_head(
            hidden, weight, torch.zeros(4).long(), ids_NK, logp_NK, tail_N, alpha=0.0, temperature=1.0, chunk_tokens=2
        )
        results.append((head.sum.detach().double(), torch.autograd.grad(head.sum, hidden)[0].double()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    assert results[0][0].item() == pytest.approx(4 * 3.6, rel=0.15)  # 0.1 * about 40 nats each, less what K gives


@pytest.mark.parametrize("case", CASES)
def test_fp32_is_close_to_fp64(case: str) -> None:
    exact = CASES[case]
    narrow = Problem(
        exact.hidden_ND.detach().float().requires_grad_(),
        exact.weight_VD.detach().float().requires_grad_(),
        exact.targets_N,
        exact.ids_NK,
        exact.logp_NK.float(),
        exact.tail_N.float(),
    )
    found, expected = narrow.kd(alpha=0.2, temperature=2.0), exact.kd(alpha=0.2, temperature=2.0)
    torch.testing.assert_close(found.sum.double(), expected.sum, rtol=1e-5, atol=1e-5)
    for mine, true in zip(
        torch.autograd.grad(found.sum, (narrow.hidden_ND, narrow.weight_VD)),
        torch.autograd.grad(expected.sum, (exact.hidden_ND, exact.weight_VD)),
        strict=True,
    ):
        assert (mine.double() - true).norm() <= 2e-5 * true.norm() + 2e-5


def test_half_precision_keeps_the_softmax_in_fp32() -> None:
    problem = make_problem(num=64, width=32, vocabulary=200, top_k=16, scale=0.3, dtype=torch.float32)
    narrow = Problem(
        problem.hidden_ND.detach().bfloat16().requires_grad_(),
        problem.weight_VD.detach().bfloat16().requires_grad_(),
        problem.targets_N,
        problem.ids_NK,
        problem.logp_NK,
        problem.tail_N,
    )
    found, expected = narrow.kd(alpha=0.5, chunk_tokens=16), problem.kd(alpha=0.5)
    assert found.sum.dtype is torch.float32
    assert found.sum.item() == pytest.approx(expected.sum.item(), rel=5e-3)
    gradients = torch.autograd.grad(found.sum, (narrow.hidden_ND, narrow.weight_VD))
    references = torch.autograd.grad(expected.sum, (problem.hidden_ND, problem.weight_VD))
    for mine, true in zip(gradients, references, strict=True):
        assert mine.dtype is torch.bfloat16
        assert (mine.float() - true).norm() <= 0.02 * true.norm()


def test_autocast_hands_over_narrow_hidden_states_and_keeps_wide_weight_gradients() -> None:
    problem = make_problem(num=16, width=32, vocabulary=50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow_ND = F.linear(problem.hidden_ND, torch.eye(32))
        assert narrow_ND.dtype is torch.bfloat16
        head = cross_entropy_head(narrow_ND, problem.weight_VD, problem.targets_N)
    (gradient_VD,) = torch.autograd.grad(head.sum, problem.weight_VD)
    assert gradient_VD.dtype is torch.float32


def test_both_parts_are_reported_unweighted() -> None:
    problem = make_problem()
    head = problem.kd(alpha=0.25, temperature=2.0)
    assert not head.cross_entropy_sum.requires_grad
    assert not head.divergence_sum.requires_grad
    mixed = 0.25 * head.cross_entropy_sum + 0.75 * 4.0 * head.divergence_sum
    torch.testing.assert_close(head.sum.detach(), mixed)


def test_a_tied_weight_gets_the_gradient_of_both_its_uses() -> None:
    problem = make_problem()
    tokens_N = torch.arange(7) % 11

    def through(head: bool) -> Tensor:
        weight_VD = problem.weight_VD.detach().clone().requires_grad_()
        hidden_ND = torch.tanh(F.embedding(tokens_N, weight_VD))
        if head:
            loss = cross_entropy_head(hidden_ND, weight_VD, problem.targets_N, chunk_tokens=2).sum
        else:
            loss = F.cross_entropy(hidden_ND @ weight_VD.T, problem.targets_N, reduction="sum")
        (loss / 7).backward()  # type: ignore[no-untyped-call]
        assert weight_VD.grad is not None
        return weight_VD.grad

    torch.testing.assert_close(through(head=True), through(head=False))


def test_gradients_accumulate_over_microbatches() -> None:
    whole, parts = make_problem(num=8), make_problem(num=8)
    (whole.kd(alpha=0.5).sum / 8).backward()  # type: ignore[no-untyped-call]
    for rows in (slice(0, 3), slice(3, 8)):
        head = cached_kd_head(
            parts.hidden_ND[rows],
            parts.weight_VD,
            parts.targets_N[rows],
            parts.ids_NK[rows],
            parts.logp_NK[rows],
            parts.tail_N[rows],
            alpha=0.5,
            temperature=1.0,
        )
        (head.sum / 8).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(parts.weight_VD.grad, whole.weight_VD.grad)
    torch.testing.assert_close(parts.hidden_ND.grad, whole.hidden_ND.grad)


def test_a_second_backward_over_the_same_graph_is_right_too() -> None:
    problem = make_problem()
    inputs = (problem.hidden_ND, problem.weight_VD)
    head = problem.kd(alpha=0.4)
    first = torch.autograd.grad(3.0 * head.sum, inputs, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(head.sum, inputs)
    for before, now, other in zip(kept, first, second, strict=True):
        torch.testing.assert_close(before, now, rtol=0, atol=0)  # the first answer was not overwritten
        torch.testing.assert_close(now, 3.0 * other)


def test_without_gradients_none_are_made() -> None:
    problem = make_problem()
    with torch.no_grad():
        head = problem.kd(alpha=0.5)
    assert not head.sum.requires_grad
    torch.testing.assert_close(head.sum, problem.reference(alpha=0.5).detach())


def test_a_frozen_output_matrix_gets_no_gradient() -> None:
    problem = make_problem()
    frozen_VD = problem.weight_VD.detach()
    head = cross_entropy_head(problem.hidden_ND, frozen_VD, problem.targets_N)
    head.sum.backward()  # type: ignore[no-untyped-call]
    assert frozen_VD.grad is None
    assert problem.hidden_ND.grad is not None


def test_no_positions_are_no_loss() -> None:
    problem = make_problem(num=1)
    head = cross_entropy_head(problem.hidden_ND[:0], problem.weight_VD, problem.targets_N[:0])
    assert (head.sum.item(), head.count) == (0.0, 0)


def test_no_tensor_of_positions_times_vocabulary_is_made() -> None:
    problem = make_problem(num=96, width=4, vocabulary=1000, top_k=8, dtype=torch.float32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        problem.kd(alpha=0.5, chunk_tokens=8).sum.backward()  # type: ignore[no-untyped-call]
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    # one chunk of logits is 32 kB, all of them 384 kB
    assert 8 * 1000 * 4 <= largest < 2 * 8 * 1000 * 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets_N", torch.zeros(6).long()),
        ("ids_NK", torch.zeros(6, 4).long()),
        ("logp_NK", torch.zeros(7, 3)),
        ("tail_N", torch.zeros(7, 1)),
        ("weight_VD", torch.zeros(11, 4)),
        ("ids_NK", torch.zeros(7).long()),
    ],
)
def test_shapes_that_would_broadcast_are_refused(field: str, value: Tensor) -> None:
    problem = make_problem()
    changed = Problem(**{**problem.__dict__, field: value})
    with pytest.raises(ValueError, match="must be"):
        changed.kd(alpha=0.5)


def test_float16_is_refused() -> None:
    problem = make_problem()
    with pytest.raises(ValueError, match="bfloat16"):
        cross_entropy_head(problem.hidden_ND.half(), problem.weight_VD.half(), problem.targets_N)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": 0.5, "temperature": 0.0}, "temperature"),
        ({"alpha": 0.5, "chunk_tokens": 0}, "chunk_tokens"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_problem().kd(**settings)  # type: ignore[arg-type]
