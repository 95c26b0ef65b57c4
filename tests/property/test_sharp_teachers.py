"""Laws of what is trained on a cache of a teacher that is all but certain: through the files, into loss and gradient.

Shapes: N positions, V vocabulary, K kept or drawn tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CachedWeights, CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.logit_cache import CachedLogits, LogitCache, LogitCacheWriter
from stillwatt.pipelines.logit_forms import top_k_with_tail
from stillwatt.pipelines.loss_chunk import TeacherSide
from stillwatt.pipelines.losses import kd_head, topk_tail_kl
from stillwatt.pipelines.objectives.reference import renormalised_kl, top_p_tail_kl, weighted_kl
from stillwatt.pipelines.objectives.sparse import Weighted, cached_side, draw_head_and_tail, draw_samples

VOCAB, ROWS = 200, 12
TEMPERATURES = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
SEEDS = st.integers(0, 1 << 30)
DRAWN = [
    Scheme(name="head_draws", top_k=16, draws=8),
    Scheme(name="head_draws", top_k=64, draws=8, step=0.25),
    Scheme(name="rs_kd", draws=8),
]
KEPT = [
    (Scheme(name="topk", top_k=16), "top_k_tail"),
    (Scheme(name="topk", top_k=64), "top_k_tail"),
    (Scheme(name="topk", top_k=64), "truncated_top_k"),
    (Scheme(name="topk", top_k=64), "renormalised_top_k"),
    (Scheme(name="topp", top_k=64, mass=0.9), "top_p_tail"),
]
FIXED = [(top_k, name) for top_k in (16, 64) for name in ("top_k_tail", "truncated_top_k", "renormalised_top_k")]

Plain = Callable[[Tensor], Tensor]
"""A loss per position of student logits over the temperature."""


def _logits(seed: int) -> Tensor:
    return torch.randn(ROWS, VOCAB, generator=torch.Generator().manual_seed(seed)) * 4


def _coded(scheme: Scheme, logits_NV: Tensor, temperature: float, folder: Path) -> CodedCache:
    with CodedCacheWriter(folder, scheme=scheme, vocab_size=VOCAB, temperature=temperature, inputs={}) as writer:
        cut = cut_logits(logits_NV, scheme, temperature=temperature, sequence_index=0, is_wide=True)
        writer.add(0, np.arange(ROWS + 1), cut)
    return CodedCache.open(folder)


def _weights(scheme: Scheme, logits_NV: Tensor, temperature: float) -> CachedWeights:
    with tempfile.TemporaryDirectory() as folder:
        return _coded(scheme, logits_NV, temperature, Path(folder)).weights([0])


def _kept(scheme: Scheme, logits_NV: Tensor, temperature: float) -> CachedLogits:
    with tempfile.TemporaryDirectory() as folder:
        return _coded(scheme, logits_NV, temperature, Path(folder)).batch([0])


def _fixed(top_k: int, logits_NV: Tensor, temperature: float) -> CachedLogits:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with LogitCacheWriter(place, vocab_size=VOCAB, top_k=top_k, temperature=temperature, inputs={}) as writer:
            found = top_k_with_tail(logits_NV, top_k=top_k, temperature=temperature)
            writer.add(0, *(part.numpy() for part in found))
        return LogitCache.open(place).batch([0])


def _plain_kept(name: str, ids_NK: Tensor, logp_NK: Tensor, tail_N: Tensor) -> Plain:
    """The definition in double precision."""
    wide_NK, wide_N = logp_NK.double(), tail_N.double()
    plain: dict[str, Plain] = {
        "top_k_tail": lambda logits_NV: topk_tail_kl(logits_NV, ids_NK, wide_NK, wide_N),
        "top_p_tail": lambda logits_NV: top_p_tail_kl(logits_NV, ids_NK, wide_NK, wide_N),
        "truncated_top_k": lambda logits_NV: weighted_kl(logits_NV, ids_NK, wide_NK.exp(), wide_NK),
        "renormalised_top_k": lambda logits_NV: renormalised_kl(logits_NV, ids_NK, wide_NK),
    }
    return plain[name]


def _agree(side: TeacherSide, plain: Plain, temperature: float, seed: int) -> None:
    """Loss and gradient are numbers, and those of the definition; hidden states are the logits themselves."""
    student_NV = torch.randn(ROWS, VOCAB, generator=torch.Generator().manual_seed(seed + 1))
    targets_N, eye_VV = torch.arange(ROWS), torch.eye(VOCAB)
    hidden_NV = student_NV.clone().requires_grad_()
    loss = kd_head(hidden_NV, eye_VV, targets_N, side, alpha=0.5, temperature=temperature, chunk_tokens=5)
    gradient_NV = torch.autograd.grad(loss.sum, hidden_NV)[0]
    assert loss.sum.isfinite()
    assert gradient_NV.isfinite().all()
    wide_NV = student_NV.double().requires_grad_()
    hard = torch.nn.functional.cross_entropy(wide_NV, targets_N, reduction="sum")
    exact = 0.5 * hard + 0.5 * temperature**2 * plain(wide_NV / temperature).sum()
    torch.testing.assert_close(loss.sum.detach().double(), exact.detach(), rtol=1e-4, atol=1e-4)
    wanted_NV = torch.autograd.grad(exact, wide_NV)[0]
    torch.testing.assert_close(gradient_NV.double(), wanted_NV, rtol=1e-3, atol=1e-5)


def _by_hand(ids_NK: Tensor, weight_NK: Tensor, logp_NK: Tensor) -> Plain:
    """The sum over tokens that weigh something, one by one."""

    def loss_N(logits_NV: Tensor) -> Tensor:
        log_q_NV = torch.log_softmax(logits_NV, -1)
        sums = []
        for row, (ids_K, weight_K, logp_K) in enumerate(zip(ids_NK, weight_NK.double(), logp_NK.double(), strict=True)):
            heavy_K = (ids_K >= 0) & (weight_K > 0)
            terms = weight_K[heavy_K] * (logp_K[heavy_K] - log_q_NV[row, ids_K[heavy_K]])
            sums.append(terms.sum())
        return torch.stack(sums)

    return loss_N


@pytest.mark.parametrize("scheme", DRAWN, ids=lambda s: f"{s.name}-{s.top_k}")
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, temperature=TEMPERATURES)
def test_weighted_tokens_of_a_cache(scheme: Scheme, seed: int, temperature: float) -> None:
    found = _weights(scheme, _logits(seed), temperature)
    ids_NK, weight_NK = found.ids_BTK[0], found.weight_BTK[0]
    assert found.logp_BTK.isfinite().all()
    plain = _by_hand(ids_NK, weight_NK, weight_NK.double().log())
    _agree(Weighted(ids_NK, weight_NK, found.logp_BTK[0]), plain, temperature, seed)
    _agree(Weighted(ids_NK, weight_NK, weight_NK.log()), plain, temperature, seed)  # whoever takes the logarithm
    logits_NV = torch.randn(ROWS, VOCAB, dtype=torch.float64)
    torch.testing.assert_close(weighted_kl(logits_NV, ids_NK, weight_NK, weight_NK.log()), plain(logits_NV))


@pytest.mark.parametrize(("scheme", "name"), KEPT, ids=lambda value: str(getattr(value, "top_k", value)))
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, temperature=TEMPERATURES)
def test_kept_tokens_of_a_coded_cache(scheme: Scheme, name: str, seed: int, temperature: float) -> None:
    found = _kept(scheme, _logits(seed), temperature)
    parts = found.ids_BTK[0], found.logp_BTK[0], found.tail_logmass_BT[0]
    _agree(cached_side(name, *parts), _plain_kept(name, *parts), temperature, seed)


@pytest.mark.parametrize(("top_k", "name"), FIXED)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, temperature=TEMPERATURES)
def test_kept_tokens_of_fixed_rows(top_k: int, name: str, seed: int, temperature: float) -> None:
    found = _fixed(top_k, _logits(seed), temperature)
    parts = found.ids_BTK[0], found.logp_BTK[0], found.tail_logmass_BT[0]
    _agree(cached_side(name, *parts), _plain_kept(name, *parts), temperature, seed)


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, temperature=TEMPERATURES, head=st.sampled_from([0, 16, 64]))
def test_weighted_tokens_of_the_teacher_beside_the_student(seed: int, temperature: float, head: int) -> None:
    log_p_NV = torch.log_softmax(_logits(seed) / temperature, -1)
    generator = torch.Generator().manual_seed(seed)
    if head:
        drawn = draw_head_and_tail(log_p_NV, head=head, draws=8, generator=generator)
    else:
        drawn = draw_samples(log_p_NV, draws=8, generator=generator)
    _agree(drawn, _by_hand(drawn.ids_NK, drawn.weight_NK, drawn.logp_NK), temperature, seed)
