"""What is cut out of logits, against sorting and summing all of them in double precision, however odd they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.scan import PART, scan
from stillwatt.pipelines.cache.scheme import Scheme

Ints = npt.NDArray[np.int64]
SCHEMES = (
    Scheme(name="topk", top_k=12),
    Scheme(name="topp", top_k=24, mass=0.8),
    Scheme(name="head_draws", top_k=6, draws=9),
    Scheme(name="rs_kd", draws=60),
)


def mixed(logits: Tensor) -> Tensor:
    logits[::2] = 1.0
    logits[1::4, : logits.shape[1] // 2] = -torch.inf
    return logits


def lumpy(logits: Tensor) -> Tensor:
    """The greatest stand alone in light parts, and the heavy parts hold nothing great."""
    part = torch.arange(logits.shape[1]) // PART
    heavy = logits.clamp(-1.0, 1.0) / 8
    lone = torch.where(torch.arange(logits.shape[1]) % PART == 5, 1.0 + heavy, torch.full_like(heavy, -30.0))
    return torch.where(part % 2 == 0, heavy, lone)


def wild(logits: Tensor) -> Tensor:
    logits[::3] += 300.0
    logits[1::3] -= 300.0
    return logits


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda logits: logits,
    "few values": lambda logits: logits.round(),
    "one-hot": lambda logits: logits.index_fill(1, torch.tensor([logits.shape[1] // 3]), 500.0),
    "uniform": lambda logits: torch.full_like(logits, -3.5),
    "forbidden": lambda logits: logits.masked_fill(torch.arange(logits.shape[1]) % 7 > 0, -torch.inf),
    "steep": lambda logits: -torch.arange(float(logits.shape[1])).expand(len(logits), -1) * 1.7,
    "far up": lambda logits: logits + 2e4,
    "far down": lambda logits: logits - 2e4,
    "mixed": mixed,
    "lumpy": lumpy,
    "wild": wild,
    "zeros": lambda logits: torch.where(logits > 0, 0.0, -0.0),
}


def logits_of(kind: str, rows: int, size: int, seed: int) -> Tensor:
    return KINDS[kind](torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 4)


def plainly(logits_TV: Tensor, temperature: float, count: int, kept: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Ids by sorting, and the sums of parts relative to the greatest."""
    scaled = (logits_TV.float() / temperature).double().numpy()
    ids = np.argsort(-scaled, axis=1, kind="stable")[:, :count]
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    np.put_along_axis(weights, ids[:, :kept], 0.0, axis=1)
    short = -scaled.shape[1] % PART
    return ids, np.pad(weights, ((0, 0), (0, short))).reshape(len(scaled), -1, PART).sum(2)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    size=st.sampled_from([1, 10, 64, 320, 1000, 4096, 6401]),
    wanted=st.sampled_from([0, 1, 7, 33, 130]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    temperature=st.sampled_from([1.0, 1.7]),
    seed=st.integers(0, 99),
)
def test_the_greatest_are_found_and_all_others_weighed(
    kind: str, size: int, wanted: int, dtype: torch.dtype, temperature: float, seed: int
) -> None:
    logits = logits_of(kind, 37, size, seed).to(dtype)
    count = min(wanted, size)
    kept = count - count // 3
    before = logits.clone()
    ids, sums = plainly(logits, temperature, count, kept)
    found = scan(logits, temperature, count=count, kept=kept, is_parted=True)
    together = scan(logits, temperature, count=count, kept=kept, is_parted=False)
    assert torch.equal(logits, before)
    values = (logits.float() / temperature).double().numpy()
    assert np.allclose(np.take_along_axis(values, found.ids_TK, 1), np.take_along_axis(values, ids, 1), rtol=1e-7)
    assert np.allclose(found.logits_TK, np.take_along_axis(values, found.ids_TK, 1), rtol=1e-6, atol=1e-6)
    if dtype != torch.float64:  # there the library chooses among equal ones
        assert (found.ids_TK == ids).all()
    sums *= np.exp(values.max(1) - found.peak_T)[:, None]
    least = 1e-30 * max(float(sums.max()), 1.0)
    for have, want in ((found.sums_TP, sums), (together.sums_TP.sum(1), sums.sum(1))):
        far = np.abs(have - want) / np.maximum(np.abs(want), least)
        # where equal ones are told apart otherwise, they may lie in other parts
        assert dtype == torch.float64 or far.max() < 2e-5 * max(1.0, np.abs(values[np.isfinite(values)]).max() / 100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_a_row_is_cut_the_same_alone_and_among_others(scheme: Scheme, kind: str) -> None:
    logits = logits_of(kind, 290, 640, 3)
    whole = cut_logits(logits, scheme, temperature=1.0, sequence_index=4)
    first = cut_logits(logits[:150].contiguous(), scheme, temperature=1.0, sequence_index=4)
    other = cut_logits(logits[::2], scheme, temperature=1.0, sequence_index=4)
    for name in ("ids_TK", "logp_TK", "tail_logmass_T"):
        every = getattr(whole, name)
        assert np.array_equal(every[:150], getattr(first, name))
        assert np.allclose(every[::2], getattr(other, name), rtol=1e-6, atol=1e-9)


def drawn_plainly(logits_TV: Tensor, scheme: Scheme, index: int) -> list[dict[int, int]]:
    """One draw after the other: a part by the weights of parts, then a token by those in it."""
    kept, sums = plainly(logits_TV, 1.0, scheme.top_k, scheme.top_k)
    rng = np.random.Generator(np.random.Philox(key=[scheme.seed, index << 1]))
    at, within = (rng.random((len(logits_TV), scheme.draws)) for _ in range(2))
    weights = np.exp(logits_TV.double().numpy() - logits_TV.double().numpy().max(1, keepdims=True))
    rows = []
    for row, line in enumerate(weights):
        line[kept[row]] = 0.0
        counted: dict[int, int] = {}
        for u, v in zip(at[row], within[row], strict=True):
            part = int(np.searchsorted(np.cumsum(sums[row]), u * sums[row].sum(), side="right"))
            inside = line[part * PART : (part + 1) * PART]
            token = part * PART + int(np.searchsorted(np.cumsum(inside), v * inside.sum(), side="right"))
            counted[token] = counted.get(token, 0) + 1
        rows.append(counted)
    return rows


@pytest.mark.parametrize("size", [640, 1000])
@pytest.mark.parametrize("kind", ["plain", "few values", "forbidden", "far down"])
@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.is_unbiased], ids=lambda s: s.name)
def test_draws_are_those_made_one_by_one(scheme: Scheme, kind: str, size: int) -> None:
    logits = logits_of(kind, 40, size, 8)
    cut = cut_logits(logits, scheme, temperature=1.0, sequence_index=5)
    found = [
        {int(i): int(c) for i, c in zip(ids, counts, strict=True) if i >= 0}
        for ids, counts in zip(cut.draw_ids_TU, cut.draw_counts_TU, strict=True)
    ]
    assert found == drawn_plainly(logits, scheme, 5)
    double = cut_logits(logits.double(), scheme, temperature=1.0, sequence_index=5)
    if kind != "few values":
        assert np.array_equal(double.draw_ids_TU, cut.draw_ids_TU)


@pytest.mark.parametrize("first", [0, 150])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_no_tail_no_draws(scheme: Scheme, first: int) -> None:
    logits = torch.full((3, 200), -torch.inf)
    logits[:, first : first + max(scheme.top_k, 1)] = 1.0
    cut = cut_logits(logits, scheme, temperature=1.0, sequence_index=0)
    if scheme.has_head:
        assert (cut.draw_ids_TU == -1).all()
        assert scheme.is_variable or np.isneginf(cut.tail_logmass_T).all()
    else:
        assert (cut.draw_ids_TU[:, 0] == first).all()
        assert (cut.draw_counts_TU.sum(1) == scheme.draws).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_a_sequence_of_one_token_has_no_rows(scheme: Scheme) -> None:
    cut = cut_logits(torch.zeros(0, 200), scheme, temperature=1.0, sequence_index=0, is_wide=True)
    assert cut.ids_TK.shape == (0, scheme.top_k)
    assert cut.draw_ids_TU.shape == (0, scheme.draws)
    assert cut.wide is not None
    assert cut.wide.ids_RW.shape == (0, 192)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_logits_that_make_no_distribution_are_refused(scheme: Scheme, dtype: torch.dtype, bad: float) -> None:
    logits = logits_of("plain", 300, 640, 1).to(dtype)
    logits[271, slice(None) if bad == -torch.inf else 33] = bad
    with pytest.raises(ValueError, match=r"sequence 6, position 271: its greatest logit is (nan|inf|-inf)"):
        cut_logits(logits, scheme, temperature=1.0, sequence_index=6)
