"""Worked examples of the divergences, and their refusals.

Shapes: N positions, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import math

import pytest
import torch

from stillwatt.pipelines.losses import full_kl, topk_tail_kl


def test_full_kl_of_two_coins_by_hand() -> None:
    teacher_NV = torch.log(torch.tensor([[0.75, 0.25]], dtype=torch.float64))
    student_NV = torch.zeros(1, 2, dtype=torch.float64)
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert full_kl(teacher_NV, student_NV, temperature=1.0).item() == pytest.approx(by_hand, rel=1e-12)


def test_temperature_flattens_both_sides() -> None:
    # at T = 2 the odds 9:1 become 3:1
    teacher_NV = torch.log(torch.tensor([[9.0, 1.0]], dtype=torch.float64))
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found_N = full_kl(teacher_NV, torch.zeros_like(teacher_NV), temperature=2.0)
    assert found_N.item() == pytest.approx(by_hand, rel=1e-12)


def test_bucket_counts_mass_that_leaves_the_kept_tokens() -> None:
    # the student keeps the odds inside K and moves half of K's mass out: a loss normalised on K would see nothing
    teacher = torch.tensor([0.6, 0.2, 0.1, 0.1], dtype=torch.float64)
    student_NV = torch.log(torch.tensor([[0.3, 0.1, 0.3, 0.3]], dtype=torch.float64))
    ids_NK = torch.tensor([[0, 1]])
    tail_N = torch.log(teacher[2:].sum())[None]
    found_N = topk_tail_kl(student_NV, ids_NK, torch.log(teacher[:2])[None], tail_N)
    assert found_N.item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(0.2 / 0.6), rel=1e-12)


def test_overconfidence_on_the_kept_tokens_is_penalised() -> None:
    # without the bucket this sum is negative: the student would be paid for being too sure
    student_NV = torch.log(torch.tensor([[0.98, 0.01, 0.01]], dtype=torch.float64))
    logp_NK, tail_N = torch.log(torch.tensor([[0.5]], dtype=torch.float64)), torch.log(torch.tensor([0.5])).double()
    assert topk_tail_kl(student_NV, torch.tensor([[0]]), logp_NK, tail_N).item() > 0.5


def test_teacher_without_tail_takes_no_notice_of_the_students_tail() -> None:
    logits_NV = torch.tensor([[2.0, 1.0, 0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    logp_NK = torch.log(torch.tensor([[0.7, 0.3]], dtype=torch.float64))
    nothing_N = torch.tensor([-torch.inf], dtype=torch.float64)
    loss_N = topk_tail_kl(logits_NV, torch.tensor([[0, 1]]), logp_NK, nothing_N)
    (gradient_NV,) = torch.autograd.grad(loss_N.sum(), logits_NV)
    q_NV = torch.softmax(logits_NV, -1)
    expected_NV = q_NV - torch.tensor([[0.7, 0.3, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient_NV, expected_NV)


def test_a_tail_that_the_student_cannot_have_costs_infinity() -> None:
    # every token is kept, so the student's tail is 0; a teacher's tail above 0 contradicts that
    logp_NK, tail_N = torch.log(torch.tensor([[0.5, 0.4]])), torch.log(torch.tensor([0.1]))
    assert topk_tail_kl(torch.zeros(1, 2), torch.tensor([[1, 0]]), logp_NK, tail_N).item() == math.inf


def test_one_hot_teacher_gives_cross_entropy() -> None:
    logits_NV = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    nothing_N = torch.tensor([-torch.inf], dtype=torch.float64)
    found_N = topk_tail_kl(logits_NV, torch.tensor([[2]]), torch.zeros(1, 1, dtype=torch.float64), nothing_N)
    expected = torch.nn.functional.cross_entropy(logits_NV, torch.tensor([2]))
    assert found_N.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        full_kl(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)
