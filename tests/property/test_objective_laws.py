"""Laws of the named losses, over random and adversarial distributions, against their plain definitions in fp64.

Shapes: N positions, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillwatt.pipelines.loss_chunk import TeacherSide
from stillwatt.pipelines.losses import full_kl, kd_head, topk_tail_kl
from stillwatt.pipelines.objectives.dense import DenseTeacher, full_kd_head
from stillwatt.pipelines.objectives.kernels import KERNELS
from stillwatt.pipelines.objectives.reference import divergence, renormalised_kl, top_p_tail_kl, weighted_kl
from stillwatt.pipelines.objectives.registry import OBJECTIVES
from stillwatt.pipelines.objectives.sparse import (
    Renormalised,
    Weighted,
    draw_head_and_tail,
    draw_samples,
    top_p,
    truncated,
)

ROUNDING = 1e-9
"""What fp64 may add to a law: values go up to about 1e2, with 1e-16 each over some tens of terms."""
PARAMETER = {"jsd", "skew_kl", "skew_reverse_kl"}

LOGIT = st.one_of(
    st.floats(-5, 5, allow_nan=False),
    st.sampled_from([-50.0, 0.0, 50.0]),  # ties, near one-hot rows and vanishing tails
)
NAMES = st.sampled_from(sorted(KERNELS))
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 4.0])
SHARES = st.floats(0.05, 0.95)


@dataclass(frozen=True)
class Pair:
    """A teacher and a student over one vocabulary; fp64."""

    teacher_NV: Tensor
    student_NV: Tensor
    targets_N: Tensor

    @property
    def log_p_NV(self) -> Tensor:
        return torch.log_softmax(self.teacher_NV, -1)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    num, vocabulary = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    rows = st.lists(LOGIT, min_size=vocabulary, max_size=vocabulary)
    matrices = st.lists(rows, min_size=num, max_size=num).map(lambda m: torch.tensor(m, dtype=torch.float64))
    targets = st.lists(st.integers(0, vocabulary - 1), min_size=num, max_size=num)
    return Pair(draw(matrices), draw(matrices), torch.tensor(draw(targets)))


def _parameter(name: str, share: float) -> float | None:
    return share if name in PARAMETER else None


def _value_N(name: str, teacher_NV: Tensor, student_NV: Tensor, share: float, temperature: float = 1.0) -> Tensor:
    return divergence(name, teacher_NV, student_NV, temperature=temperature, parameter=_parameter(name, share))


def _dense(name: str, share: float, teacher_NV: Tensor) -> DenseTeacher:
    return DenseTeacher(name, _parameter(name, share), teacher_NV, torch.eye(teacher_NV.shape[1], dtype=torch.float64))


def _head(
    pair: Pair, teacher: TeacherSide, alpha: float, temperature: float, power: int = 2, chunk: int = 100
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient; hidden states are the logits themselves."""
    hidden_ND = pair.student_NV.clone().requires_grad_()
    weight_VD = torch.eye(pair.student_NV.shape[1], dtype=torch.float64)
    settings_ = {"alpha": alpha, "temperature": temperature, "temperature_power": power, "chunk_tokens": chunk}
    loss = kd_head(hidden_ND, weight_VD, pair.targets_N, teacher, **settings_)  # type: ignore[arg-type]
    return loss.sum.detach(), torch.autograd.grad(loss.sum, hidden_ND)[0]


def _agrees(got: tuple[Tensor, Tensor], loss: Tensor, logits_NV: Tensor) -> None:
    torch.testing.assert_close(got[0], loss.detach(), rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(got[1], torch.autograd.grad(loss, logits_NV)[0], rtol=1e-9, atol=1e-8)


@given(pairs(), NAMES, SHARES, TEMPERATURES)
@settings(deadline=None)
def test_never_negative_and_within_its_scale(pair: Pair, name: str, share: float, temperature: float) -> None:
    value_N = _value_N(name, pair.teacher_NV, pair.student_NV, share, temperature)
    most = {
        "jsd": -share * math.log(share) - (1 - share) * math.log1p(-share),
        "skew_kl": -math.log(share),
        "skew_reverse_kl": -math.log(share),
        "tvd": 1.0,
    }.get(name, math.inf)
    assert (value_N >= -ROUNDING).all()
    assert (value_N <= most + ROUNDING).all()


@given(pairs(), NAMES, SHARES, st.floats(-30, 30))
@settings(deadline=None)
def test_zero_where_both_agree_and_only_there(pair: Pair, name: str, share: float, shift: float) -> None:
    assert _value_N(name, pair.teacher_NV, pair.teacher_NV + shift, share).abs().max() <= ROUNDING
    value_N = _value_N(name, pair.teacher_NV, pair.student_NV, share)
    distance_N = _value_N("tvd", pair.teacher_NV, pair.student_NV, share)
    # Pinsker's inequality, with the share of the mixture that each side is compared with
    least = {"tvd": 1.0, "jsd": 2 * share * (1 - share), "skew_kl": 2 * (1 - share) ** 2}.get(name, 2.0)
    least = 2 * (1 - share) ** 2 if name == "skew_reverse_kl" else least
    assert (value_N + ROUNDING >= least * distance_N**2).all()


@given(pairs(), SHARES)
@settings(deadline=None)
def test_losses_are_each_other_where_they_should_be(pair: Pair, share: float) -> None:
    teacher_NV, student_NV = pair.teacher_NV, pair.student_NV

    def value_N(name: str, left_NV: Tensor, right_NV: Tensor, of: float = share) -> Tensor:
        return _value_N(name, left_NV, right_NV, of)

    def same(left: Tensor, right: Tensor) -> None:
        torch.testing.assert_close(left, right, rtol=1e-9, atol=ROUNDING)

    same(value_N("forward_kl", teacher_NV, student_NV), full_kl(teacher_NV, student_NV, temperature=1.0))
    same(value_N("reverse_kl", teacher_NV, student_NV), value_N("forward_kl", student_NV, teacher_NV))
    same(value_N("symmetric_kl", teacher_NV, student_NV), value_N("symmetric_kl", student_NV, teacher_NV))
    same(value_N("tvd", teacher_NV, student_NV), value_N("tvd", student_NV, teacher_NV))
    same(value_N("skew_reverse_kl", teacher_NV, student_NV), value_N("skew_kl", student_NV, teacher_NV))
    same(value_N("jsd", teacher_NV, student_NV), value_N("jsd", student_NV, teacher_NV, 1 - share))
    parts = [value_N("skew_kl", teacher_NV, student_NV), value_N("skew_kl", student_NV, teacher_NV, 1 - share)]
    same(value_N("jsd", teacher_NV, student_NV), share * parts[0] + (1 - share) * parts[1])


@given(pairs(), NAMES, SHARES, TEMPERATURES, st.floats(0.0, 1.0), st.integers(1, 5))
@settings(deadline=None)
def test_the_fused_head_obeys_the_definition(
    pair: Pair, name: str, share: float, temperature: float, alpha: float, chunk: int
) -> None:
    power = OBJECTIVES[name].temperature_power
    got = _head(pair, _dense(name, share, pair.teacher_NV), alpha, temperature, power, chunk)
    logits_NV = pair.student_NV.clone().requires_grad_()
    hard = F.cross_entropy(logits_NV, pair.targets_N, reduction="sum")
    soft = _value_N(name, pair.teacher_NV, logits_NV, share, temperature).sum()
    if name == "tvd":  # at equal probabilities it has a corner, where rounding chooses the slope
        torch.testing.assert_close(got[0], (alpha * hard + (1 - alpha) * temperature * soft).detach())
        return
    _agrees(got, alpha * hard + (1 - alpha) * temperature**power * soft, logits_NV)


@given(pairs(), NAMES, SHARES, TEMPERATURES, st.data())
@settings(deadline=None)
def test_a_split_step_is_the_whole_step(
    pair: Pair, name: str, share: float, temperature: float, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(pair.targets_N)))
    whole = _head(pair, _dense(name, share, pair.teacher_NV), 0.25, temperature)
    sums, gradients = [], []
    for rows in (slice(0, cut), slice(cut, None)):
        part = Pair(pair.teacher_NV[rows], pair.student_NV[rows], pair.targets_N[rows])
        loss, gradient_ND = _head(part, _dense(name, share, part.teacher_NV), 0.25, temperature)
        sums.append(loss)
        gradients.append(gradient_ND)
    torch.testing.assert_close(sums[0] + sums[1], whole[0], rtol=1e-9, atol=ROUNDING)
    torch.testing.assert_close(torch.cat(gradients), whole[1], rtol=1e-9, atol=ROUNDING)


@given(pairs(), NAMES, SHARES, TEMPERATURES)
@settings(deadline=None)
def test_gradients_do_not_move_along_a_shift_and_stay_finite(
    pair: Pair, name: str, share: float, temperature: float
) -> None:
    _, gradient_NV = _head(pair, _dense(name, share, pair.teacher_NV), 0.0, temperature)
    assert gradient_NV.isfinite().all()
    assert (gradient_NV.sum(-1).abs() <= ROUNDING * temperature * (1 + gradient_NV.abs().sum(-1))).all()


@given(pairs(), NAMES, SHARES)
@settings(deadline=None)
def test_fp32_keeps_five_digits_of_fp64(pair: Pair, name: str, share: float) -> None:
    def head(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        teacher_NV, logits_NV = pair.teacher_NV.float().to(dtype), pair.student_NV.float().to(dtype).requires_grad_()
        eye = torch.eye(teacher_NV.shape[1], dtype=dtype)
        options = {"loss": name, "alpha": 0.0, "temperature": 1.0, "parameter": _parameter(name, share)}
        loss = full_kd_head(logits_NV, eye, pair.targets_N, teacher_NV, eye, **options)  # type: ignore[arg-type]
        return loss.sum.detach().double(), torch.autograd.grad(loss.sum, logits_NV)[0].double()

    narrow, wide = head(torch.float32), head(torch.float64)
    torch.testing.assert_close(narrow[0], wide[0], rtol=1e-5, atol=1e-5)
    if name != "tvd":
        torch.testing.assert_close(narrow[1], wide[1], rtol=1e-5, atol=1e-4)


# --- caches ---------------------------------------------------------------------------------------------------------


@given(pairs(), st.data(), TEMPERATURES, st.floats(0.0, 1.0), st.integers(1, 5))
@settings(deadline=None)
def test_sparse_heads_obey_their_definitions(
    pair: Pair, data: st.DataObject, temperature: float, alpha: float, chunk: int
) -> None:
    log_p_NV = pair.log_p_NV
    vocabulary = log_p_NV.shape[1]
    logp_NK, ids_NK = log_p_NV.topk(data.draw(st.integers(1, vocabulary)), -1)
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    nucleus = top_p(log_p_NV, mass=data.draw(SHARES), most=data.draw(st.integers(1, vocabulary)))
    samples = draw_samples(log_p_NV, draws=data.draw(st.integers(1, 6)), generator=rng)
    headed = draw_head_and_tail(log_p_NV, head=data.draw(st.integers(1, vocabulary - 1)), draws=3, generator=rng)
    logits_NV = pair.student_NV.clone().requires_grad_()
    tempered_NV = logits_NV / temperature
    cases: list[tuple[TeacherSide, Tensor]] = [
        (truncated(ids_NK, logp_NK), weighted_kl(tempered_NV, ids_NK, logp_NK.exp(), logp_NK)),
        (Renormalised(ids_NK, logp_NK), renormalised_kl(tempered_NV, ids_NK, logp_NK)),
        (samples, weighted_kl(tempered_NV, samples.ids_NK, samples.weight_NK, samples.logp_NK)),
        (headed, weighted_kl(tempered_NV, headed.ids_NK, headed.weight_NK, headed.logp_NK)),
        (nucleus, top_p_tail_kl(tempered_NV, nucleus.ids_NK, nucleus.logp_NK, nucleus.tail_logmass_N)),
    ]
    hard = F.cross_entropy(logits_NV, pair.targets_N, reduction="sum")
    for teacher, soft_N in cases:
        got = _head(pair, teacher, alpha, temperature, chunk=chunk)
        loss = alpha * hard + (1 - alpha) * temperature**2 * soft_N.sum()
        torch.testing.assert_close(got[0], loss.detach(), rtol=1e-9, atol=1e-8)
        gradient_NV = torch.autograd.grad(loss, logits_NV, retain_graph=True)[0]
        torch.testing.assert_close(got[1], gradient_NV, rtol=1e-9, atol=1e-8)


@given(pairs(), st.floats(0.05, 0.95), st.data())
@settings(deadline=None)
def test_top_p_keeps_the_mass_it_says_with_as_few_tokens_as_it_takes(
    pair: Pair, mass: float, data: st.DataObject
) -> None:
    log_p_NV = pair.log_p_NV
    vocabulary = log_p_NV.shape[1]
    kept = top_p(log_p_NV, mass=mass, most=vocabulary)
    p_NK = kept.logp_NK.exp().masked_fill(kept.ids_NK < 0, 0.0)
    assert (p_NK.sum(-1) >= mass - ROUNDING).all()
    least_N = p_NK.masked_fill(kept.ids_NK < 0, torch.inf).amin(-1)
    assert (p_NK.sum(-1) - least_N < mass).all()
    torch.testing.assert_close(p_NK.sum(-1) + kept.tail_logmass_N.exp(), torch.ones(len(p_NK), dtype=torch.float64))
    coarse_N = top_p_tail_kl(pair.student_NV, kept.ids_NK, kept.logp_NK, kept.tail_logmass_N)
    fine_N = full_kl(pair.teacher_NV, pair.student_NV, temperature=1.0)
    assert (coarse_N >= -ROUNDING).all()
    assert (coarse_N <= fine_N + ROUNDING).all()
    most = data.draw(st.integers(1, vocabulary))
    assert top_p(log_p_NV, mass=mass, most=most).ids_NK.shape[1] <= most


@given(pairs(), st.data())
@settings(deadline=None)
def test_what_the_cut_off_losses_cannot_see(pair: Pair, data: st.DataObject) -> None:
    logp_NK, ids_NK = pair.log_p_NV.topk(data.draw(st.integers(1, pair.log_p_NV.shape[1])), -1)
    mass_N = logp_NK.exp().sum(-1)
    # renormalised: the kept tokens as one, up or down, change nothing
    moved_NV = pair.student_NV.scatter_add(-1, ids_NK, torch.full_like(logp_NK, data.draw(st.floats(-9, 9))))
    torch.testing.assert_close(
        renormalised_kl(moved_NV, ids_NK, logp_NK),
        renormalised_kl(pair.student_NV, ids_NK, logp_NK),
        rtol=1e-9,
        atol=1e-8,
    )
    # truncated: its least value is the kept mass times its logarithm, below 0, at a student that leaves no tail
    least_N = mass_N * mass_N.log()
    assert (weighted_kl(pair.student_NV, ids_NK, logp_NK.exp(), logp_NK) >= least_N - 1e-8).all()
    sure_NV = torch.full_like(pair.student_NV, -1e4).scatter(-1, ids_NK, logp_NK)
    torch.testing.assert_close(weighted_kl(sure_NV, ids_NK, logp_NK.exp(), logp_NK), least_N, rtol=1e-9, atol=1e-8)
    # the tail bucket sees both
    tail_N = torch.logsumexp(pair.log_p_NV.scatter(-1, ids_NK, -torch.inf), -1)
    assert (topk_tail_kl(sure_NV, ids_NK, logp_NK, tail_N) >= -ROUNDING).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("is_headed", [False, True])
def test_sampled_losses_and_gradients_are_unbiased(power: float, is_headed: bool) -> None:
    rng = torch.Generator().manual_seed(5)
    num, vocabulary = 40_000, 12
    teacher_V, student_V = torch.randn(2, vocabulary, generator=rng, dtype=torch.float64) * 2.0
    log_p_NV = torch.log_softmax(teacher_V, -1).expand(num, vocabulary)
    if is_headed:
        drawn = draw_head_and_tail(log_p_NV, head=3, draws=4, generator=rng)
    else:
        drawn = draw_samples(log_p_NV, draws=6, generator=rng, power=power)
    pair = Pair(log_p_NV, student_V.expand(num, vocabulary), torch.zeros(num).long())
    loss, gradient_NV = _head(pair, drawn, 0.0, 1.0, chunk=8_000)
    full = _value_N("forward_kl", teacher_V[None], student_V[None], 0.5)
    slope_V = torch.softmax(student_V, -1) - torch.softmax(teacher_V, -1)
    terms_N = weighted_kl(pair.student_NV, drawn.ids_NK, drawn.weight_NK, drawn.logp_NK)
    assert abs(loss / num - full) < 5 * terms_N.std() / math.sqrt(num)
    # five standard errors, and as much again as rounding may add where the error is 0: the head is exact
    bound_V = 5 * gradient_NV.std(0) / math.sqrt(num) + ROUNDING
    assert ((gradient_NV.mean(0) - slope_V).abs() < bound_V).all()


def test_drawn_tokens_stand_once_a_row_and_fillers_weigh_nothing() -> None:
    log_p_NV = torch.log_softmax(torch.tensor([[5.0, 1.0, 0.0, -1.0]], dtype=torch.float64), -1).repeat(50, 1)
    rng = torch.Generator().manual_seed(0)
    for drawn in (
        draw_samples(log_p_NV, draws=8, generator=rng),
        draw_head_and_tail(log_p_NV, head=1, draws=8, generator=rng),
    ):
        for ids, weights in zip(drawn.ids_NK.tolist(), drawn.weight_NK.tolist(), strict=True):
            tokens = [token for token in ids if token >= 0]
            assert len(set(tokens)) == len(tokens)
            assert all((weight > 0) == (token >= 0) for token, weight in zip(ids, weights, strict=True))
        torch.testing.assert_close(drawn.weight_NK.sum(-1), torch.ones(50, dtype=torch.float64))


def test_what_is_drawn_or_kept_from_a_teacher_that_is_sure() -> None:
    log_p_NV = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    headed = draw_head_and_tail(log_p_NV, head=1, draws=2, generator=rng)
    pair = Pair(log_p_NV, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0]))
    for teacher in (headed, draw_samples(log_p_NV, draws=2, generator=rng), top_p(log_p_NV, mass=0.5, most=3)):
        loss, gradient_NV = _head(pair, teacher, 0.0, 1.0)
        torch.testing.assert_close(loss, torch.tensor(math.log(3), dtype=torch.float64))
        torch.testing.assert_close(gradient_NV, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]], dtype=torch.float64))
    assert isinstance(headed, Weighted)
