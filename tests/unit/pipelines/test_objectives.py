"""The register of named losses, the fused whole-vocabulary heads on worked examples, and shared vocabularies.

Shapes: N positions, D hidden width, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.errors import StillwattError, UnknownNameError, UsageError
from stillwatt.pipelines.losses import HeadLoss, kd_head
from stillwatt.pipelines.objectives.dense import full_kd_head
from stillwatt.pipelines.objectives.kernels import KERNELS
from stillwatt.pipelines.objectives.reference import divergence
from stillwatt.pipelines.objectives.registry import (
    DEFAULT_LOSS,
    OBJECTIVES,
    Source,
    check_parameter,
    find_objective,
)
from stillwatt.pipelines.objectives.sparse import (
    Renormalised,
    Weighted,
    draw_head_and_tail,
    draw_samples,
    top_p,
    truncated,
)
from stillwatt.pipelines.objectives.vocabulary import cut_to_shared, shared_rows

METHOD = Path(__file__).parents[3] / "docs" / "method.md"
NAMES = sorted(KERNELS)


@dataclass(frozen=True)
class Problem:
    """A student and a wider teacher over one vocabulary."""

    hidden_ND: Tensor
    weight_VD: Tensor
    targets_N: Tensor
    teacher_ND: Tensor
    teacher_VD: Tensor

    def head(
        self, name: str, *, alpha: float = 0.0, temperature: float = 1.0, parameter: float | None = None, chunk: int = 3
    ) -> HeadLoss:
        return full_kd_head(
            self.hidden_ND,
            self.weight_VD,
            self.targets_N,
            self.teacher_ND,
            self.teacher_VD,
            loss=name,
            alpha=alpha,
            temperature=temperature,
            parameter=parameter if parameter is not None else _parameter(name),
            chunk_tokens=chunk,
        )

    def reference(self, name: str, *, alpha: float = 0.0, temperature: float = 1.0) -> Tensor:
        student_NV, teacher_NV = self.hidden_ND @ self.weight_VD.T, self.teacher_ND @ self.teacher_VD.T
        soft_N = divergence(name, teacher_NV, student_NV, temperature=temperature, parameter=_parameter(name))
        hard = F.cross_entropy(student_NV, self.targets_N, reduction="sum")
        return alpha * hard + (1 - alpha) * temperature ** OBJECTIVES[name].temperature_power * soft_N.sum()


def _parameter(name: str) -> float | None:
    return 0.3 if OBJECTIVES[name].parameter else None


def _problem(*, num: int = 7, vocabulary: int = 11, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Problem:
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    return Problem(
        normal(num, 5).requires_grad_(),
        (normal(vocabulary, 5) * scale).requires_grad_(),
        torch.randint(0, vocabulary, (num,), generator=rng),
        normal(num, 8).requires_grad_(),
        (normal(vocabulary, 8) * scale).requires_grad_(),
    )


def _gradients(loss: Tensor, problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (problem.hidden_ND, problem.weight_VD), retain_graph=True)


# --- the register ---------------------------------------------------------------------------------------------------


def test_every_loss_has_its_equation_in_the_method() -> None:
    headings = dict(re.findall(r"^### Eq\. (\d+\w?)\. (.+)$", METHOD.read_text(encoding="utf-8"), re.MULTILINE))
    for objective in OBJECTIVES.values():
        assert objective.equation in headings, objective.name
        assert f"`{objective.name}`" in METHOD.read_text(encoding="utf-8")
        assert objective.unit in {"nats", "1"}
        assert all(paper.arxiv is None or re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv) for paper in objective.papers)


def test_losses_of_the_whole_vocabulary_have_kernels_and_cut_off_ones_say_what_they_miss() -> None:
    assert {name for name, objective in OBJECTIVES.items() if objective.is_online} == set(KERNELS)
    blind = {name for name, objective in OBJECTIVES.items() if objective.cannot_see}
    assert blind == {"top_k_tail", "top_p_tail", "truncated_top_k", "renormalised_top_k"}
    assert OBJECTIVES[DEFAULT_LOSS].source is Source.TOP_K


def test_the_register_needs_no_training_stack() -> None:
    script = "import stillwatt.pipelines.objectives.registry, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_misspelt_loss_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'forward_kl'"):
        find_objective("foward_kl")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("jsd", None, "needs beta, between 0 and 1"),
        ("jsd", 0.0, "use forward_kl or reverse_kl"),
        ("jsd", 1.0, "ends excluded"),
        ("skew_kl", -0.1, "at 0 it is forward_kl"),
        ("skew_reverse_kl", math.nan, "must lie between"),
        ("tvd", 0.5, "has no parameter"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(name: str, value: float | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_parameter(OBJECTIVES[name], value)


# --- heads of the whole vocabulary ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_heads_and_their_gradients_are_those_of_autograd(
    name: str, temperature: float, alpha: float, scale: float
) -> None:
    problem = _problem(scale=scale)
    head = problem.head(name, alpha=alpha, temperature=temperature)
    reference = problem.reference(name, alpha=alpha, temperature=temperature)
    torch.testing.assert_close(head.sum, reference, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(_gradients(head.sum, problem), _gradients(reference, problem), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    hard = F.cross_entropy(problem.hidden_ND @ problem.weight_VD.T, problem.targets_N, reduction="sum")
    torch.testing.assert_close(head.cross_entropy_sum, hard.detach(), rtol=1e-9, atol=1e-9)
    soft = problem.reference(name, temperature=temperature) / temperature ** OBJECTIVES[name].temperature_power
    torch.testing.assert_close(head.divergence_sum, soft.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    problem = _problem(num=3, vocabulary=6)

    def loss(hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
        moved = Problem(hidden_ND, weight_VD, problem.targets_N, problem.teacher_ND, problem.teacher_VD)
        return moved.head(name, alpha=0.3, temperature=1.5, chunk=2).sum

    assert torch.autograd.gradcheck(loss, (problem.hidden_ND, problem.weight_VD), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_vocabulary_in_fp32_keeps_five_digits(name: str) -> None:
    wide = _problem(num=20, vocabulary=5_000)
    narrow = Problem(*(t.detach().float() if t.is_floating_point() else t for t in vars(wide).values()))
    narrow.hidden_ND.requires_grad_()
    narrow.weight_VD.requires_grad_()
    ours, reference = narrow.head(name, chunk=16), wide.reference(name)
    assert ours.sum.item() == pytest.approx(reference.item(), rel=1e-5)
    for got, wanted in zip(_gradients(ours.sum, narrow), _gradients(reference, wide), strict=True):
        assert (got - wanted).norm() / wanted.norm() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_its_losses_in_fp32(name: str) -> None:
    narrow = _problem(dtype=torch.bfloat16)
    wide = Problem(*(t.detach().double() if t.is_floating_point() else t for t in vars(narrow).values()))
    assert narrow.head(name).sum.dtype is torch.float32
    assert narrow.head(name).sum.item() == pytest.approx(wide.reference(name).item(), rel=0.05, abs=0.05)


def test_no_gradient_reaches_the_teacher() -> None:
    problem = _problem()
    problem.head("jsd").sum.backward()  # type: ignore[no-untyped-call]
    assert problem.hidden_ND.grad is not None
    assert problem.teacher_ND.grad is None
    assert problem.teacher_VD.grad is None


def test_a_teacher_that_excludes_tokens_is_finite_where_the_loss_is() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    eye[2, 2] = -1e6  # a probability of 0, and a logarithm far from it
    hidden_ND = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    for name in NAMES:
        teacher_ND = torch.ones(1, 3, dtype=torch.float64)
        arguments = (hidden_ND, torch.eye(3, dtype=torch.float64), torch.tensor([0]), teacher_ND, eye)
        head = full_kd_head(*arguments, loss=name, alpha=0.0, temperature=1.0, parameter=_parameter(name))
        (gradient_ND,) = torch.autograd.grad(head.sum, hidden_ND)
        assert head.sum.isfinite()
        assert gradient_ND.isfinite().all()


def _excluding(name: str, *, alpha: float) -> tuple[Tensor, Tensor]:
    """Loss and gradient of an undecided student against a teacher with the logits 0, 0 and minus infinity."""
    hidden_ND = torch.zeros(1, 3, requires_grad=True)
    teacher_ND, teacher_VD = torch.tensor([[1e30]]), torch.tensor([[0.0], [0.0], [-1e30]])  # their product overflows
    arguments = (hidden_ND, torch.eye(3), torch.tensor([0]), teacher_ND, teacher_VD)
    loss = full_kd_head(*arguments, loss=name, alpha=alpha, temperature=1.0, parameter=_parameter(name)).sum
    return loss.detach(), torch.autograd.grad(loss, hidden_ND)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_token_of_no_logit_at_all(name: str) -> None:
    masked = torch.tensor([[0.0, 0.0, -torch.inf]], dtype=torch.float64)
    student_NV = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    reference = divergence(name, masked, student_NV, temperature=1.0, parameter=_parameter(name)).sum()
    loss, gradient_ND = _excluding(name, alpha=0.0)
    if name in {"reverse_kl", "symmetric_kl"}:
        assert loss.item() == reference.item() == math.inf
    else:
        torch.testing.assert_close(loss.double(), reference.detach(), rtol=1e-5, atol=1e-6)
        assert gradient_ND.isfinite().all()
    # without the divergence there is nothing infinite left
    loss, gradient_ND = _excluding(name, alpha=1.0)
    torch.testing.assert_close(loss, torch.tensor(math.log(3)))
    torch.testing.assert_close(gradient_ND, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_ND": torch.zeros(6, 8)}, "must be"),
        ({"teacher_VD": torch.zeros(11, 7)}, "must be"),
        ({"teacher_VD": torch.zeros(12, 8)}, "12 output rows and the student 11; cut both"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Tensor], message: str) -> None:
    problem = Problem(**{**vars(_problem(dtype=torch.float32)), **change})
    with pytest.raises(ValueError, match=message):
        problem.head("forward_kl")


def test_a_loss_of_a_cache_is_none_of_the_whole_vocabulary() -> None:
    with pytest.raises(ValueError, match="one of a cache"):
        _problem().head("top_k_tail")


# --- caches ---------------------------------------------------------------------------------------------------------


def test_the_measured_example_of_what_truncation_pays_for() -> None:
    """A student that is its teacher plus confidence on K: truncated falls below 0, renormalised stays at 0."""
    rng = torch.Generator().manual_seed(1)
    teacher_NV = torch.randn(1, 1000, generator=rng, dtype=torch.float64)
    logp_NV = torch.log_softmax(teacher_NV, -1)
    logp_NK, ids_NK = logp_NV.topk(50, -1)
    student_NV = teacher_NV.scatter_add(-1, ids_NK, torch.full_like(logp_NK, 2.0))
    eye, target = torch.eye(1000, dtype=torch.float64), torch.tensor([0])
    full = divergence("forward_kl", teacher_NV, student_NV, temperature=1.0).item()
    values = [
        kd_head(student_NV, eye, target, side, alpha=0.0, temperature=1.0).sum.item()
        for side in (truncated(ids_NK, logp_NK), Renormalised(ids_NK, logp_NK))
    ]
    assert full > 0.2
    assert values[0] < -0.1
    assert values[1] == pytest.approx(0.0, abs=1e-12)


def test_sparse_shapes_and_settings_that_do_not_fit_are_refused() -> None:
    ids_NK, logp_NK = torch.zeros(2, 3).long(), torch.zeros(2, 3)
    hidden_ND, eye, targets = torch.zeros(2, 4), torch.eye(4), torch.zeros(2).long()
    for side in (
        Weighted(ids_NK, logp_NK[:, :2], logp_NK),
        Renormalised(ids_NK, logp_NK[:1]),
        Renormalised(torch.zeros(2, 5).long(), torch.zeros(2, 5)),
        Weighted(ids_NK[0], logp_NK[0], logp_NK[0]),
    ):
        with pytest.raises(ValueError, match=r"must be|kept tokens of a vocabulary"):
            kd_head(hidden_ND, eye, targets, side, alpha=0.0, temperature=1.0)
    rng, log_p_NV = torch.Generator(), torch.log_softmax(torch.zeros(2, 4), -1)
    with pytest.raises(ValueError, match="at least one token"):
        draw_samples(log_p_NV, draws=0, generator=rng)
    with pytest.raises(ValueError, match="leave at least one"):
        draw_head_and_tail(log_p_NV, head=4, draws=1, generator=rng)
    with pytest.raises(ValueError, match="must lie between"):
        top_p(log_p_NV, mass=1.0, most=4)


# --- vocabularies ---------------------------------------------------------------------------------------------------


def test_rows_of_padding_are_cut_and_other_tokens_refused() -> None:
    assert shared_rows(152_064, 151_936, num_tokens=151_669, same_tokens=True, student="small") == 151_936
    with pytest.raises(StillwattError, match="each needs a row for every token"):
        shared_rows(152_064, 151_600, num_tokens=151_669, same_tokens=True, student="small")
    with pytest.raises(StillwattError, match="different tokens"):
        shared_rows(100, 100, num_tokens=100, same_tokens=False, student="small")


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_neither_loss_nor_gradient(name: str) -> None:
    problem = _problem()
    plain = problem.head(name, alpha=0.5)
    wanted = _gradients(plain.sum, problem)
    # rows of zero logits would have real mass; here they have none
    padded_VD = torch.cat([problem.weight_VD, torch.zeros(3, 5, dtype=torch.float64)])
    teacher_VD = torch.cat([problem.teacher_VD, torch.zeros(5, 8, dtype=torch.float64)])
    student_VD, teacher_VD = cut_to_shared(padded_VD, teacher_VD)
    assert len(student_VD) == len(teacher_VD) == 14
    student_VD, teacher_VD = cut_to_shared(padded_VD, problem.teacher_VD)
    moved = Problem(problem.hidden_ND, student_VD, problem.targets_N, problem.teacher_ND, teacher_VD)
    loss = moved.head(name, alpha=0.5).sum
    torch.testing.assert_close(loss, plain.sum)
    for got, want in zip(_gradients(loss, problem), wanted, strict=True):
        torch.testing.assert_close(got, want)
