"""From a teacher's logits to what a scheme keeps of them; as little work as can be, as the teacher waits meanwhile.

Shapes: T positions, V vocabulary, K kept tokens, W wide ones, R draws, U different drawn tokens, P parts of the
vocabulary, D different parts of all rows that draws fell on, M tokens of a part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillwatt.pipelines.cache.codec import Wide
from stillwatt.pipelines.cache.places import places
from stillwatt.pipelines.cache.scan import LOG2_E, PART, scaled, scan
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import Cut

__all__ = ["WIDE", "cut_logits"]

WIDE = 192
"""Tokens that the prior is learned from, at least."""
_BEHIND = 1 << 32
_EIGHT = 8

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def cut_logits(
    logits_TV: Tensor, scheme: Scheme, *, temperature: float, sequence_index: int, is_wide: bool = False
) -> Cut:
    """Cut a sequence's distributions down to what the scheme keeps; draws depend on its seed and the index alone.

    Args:
        logits_TV: The teacher's logits; left as they are.
        scheme: What to keep.
        temperature: What logits are divided by.
        sequence_index: Second part of the key of the random numbers.
        is_wide: Whether to give more tokens to learn the prior from.

    Raises:
        ValueError: Some logits make no distribution.
    """
    kept = scheme.top_k
    count = min(max(kept, WIDE if is_wide else 0), logits_TV.shape[-1])
    try:
        found = scan(logits_TV, temperature, count=count, kept=kept, is_parted=scheme.draws > 0)
    except ValueError as err:
        raise ValueError(f"sequence {sequence_index}, {err}") from err
    # not normalised yet: relative to the most probable token
    logp_TW = found.logits_TK - found.peak_T[:, None]
    weight_TK = np.exp(logp_TW[:, :kept])
    # the others' own sum, never 1 less the kept mass
    rest_T1 = found.sums_TP.sum(1, keepdims=True)
    total_T1 = rest_T1 + weight_TK.sum(1, keepdims=True)
    logp_TW -= np.log(total_T1)
    ids_TK, logp_TK = found.ids_TK[:, :kept], logp_TW[:, :kept]
    if scheme.is_variable:
        reached_TK = np.cumsum(weight_TK, axis=1) - weight_TK
        is_out_TK = reached_TK >= scheme.mass * total_T1
        is_out_TK[:, 0] = False
        rest_T1 = rest_T1 + np.where(is_out_TK, weight_TK, 0.0).sum(1, keepdims=True)
        ids_TK, logp_TK = np.where(is_out_TK, -1, ids_TK), np.where(is_out_TK, -np.inf, logp_TK)
        weight_TK[is_out_TK] = 0.0
    with np.errstate(divide="ignore"):
        rest_to_kept_T = np.log(rest_T1[:, 0]) - np.log(weight_TK.sum(1))
    tail_T = -np.logaddexp(0.0, -rest_to_kept_T)
    drawn = counts = np.zeros((len(logits_TV), 0), dtype=np.int64)
    if scheme.draws:
        has_tail_T = (rest_T1[:, 0] > 0) & ~np.isneginf(tail_T)
        rng = np.random.Generator(np.random.Philox(key=[scheme.seed, sequence_index << 1]))
        at_TR, within_TR = (rng.random((len(logits_TV), scheme.draws)) for _ in range(2))
        part_TR = _chosen(found.sums_TP, at_TR)  # which part, then which token of it
        drawn_TR = _inside(logits_TV, temperature, ids_TK, part_TR, within_TR)
        drawn, counts = _counted(np.where(has_tail_T[:, None], drawn_TR, -1))
    return Cut(
        ids_TK=ids_TK, logp_TK=logp_TK, tail_logmass_T=tail_T, draw_ids_TU=drawn, draw_counts_TU=counts,
        wide=Wide(found.ids_TK, logp_TW) if is_wide else None,
    )  # fmt: skip


def _inside(logits_TV: Tensor, temperature: float, ids_TK: Ints, part_TR: Ints, within_TR: Floats) -> Ints:
    """Which token of its part each draw falls on, never a kept one; a part is weighed once, however often drawn."""
    num, size = logits_TV.shape
    parts = -(-size // PART)
    place_TR = part_TR + np.arange(num)[:, None] * parts
    is_drawn = np.zeros(num * parts, dtype=np.bool_)
    is_drawn[place_TR] = True
    part_D = places(is_drawn)
    slot = np.empty(len(is_drawn), dtype=np.int64)
    slot[part_D] = np.arange(len(part_D))
    first_D = part_D % parts * PART
    if size % PART:
        places_DM = part_D[:, None] // parts * size + np.minimum(first_D[:, None] + np.arange(PART), size - 1)
        picked_DM = logits_TV.flatten()[torch.from_numpy(places_DM).to(logits_TV.device)]
    else:
        picked_DM = logits_TV.reshape(-1, PART).index_select(0, torch.from_numpy(part_D).to(logits_TV.device))
    logits_DM = scaled(picked_DM, temperature)
    peak_D1 = logits_DM.amax(1, keepdim=True)
    weights_DM = (logits_DM - peak_D1.masked_fill(peak_D1.isinf(), 0.0)).mul_(LOG2_E).exp2_().cpu().numpy()
    weights_DM[first_D[:, None] + np.arange(PART) >= size] = 0.0
    kept_N = (np.arange(num)[:, None] * parts + ids_TK // PART).ravel()
    is_hit_N = is_drawn[kept_N]
    weights_DM[slot[kept_N[is_hit_N]], ids_TK.ravel()[is_hit_N] % PART] = 0.0
    which_TR = slot[place_TR]
    return part_TR * PART + _chosen_of(weights_DM, which_TR, within_TR)


def _counted(drawn_TR: Ints) -> tuple[Ints, Ints]:
    """Different tokens, rising, -1 at the end of rows, and how often each was drawn."""
    drawn = np.sort(drawn_TR, axis=1)
    is_first = np.ones(drawn.shape, dtype=np.bool_)
    is_first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    starts = np.flatnonzero(is_first.ravel())
    counts = np.zeros(drawn.size, dtype=np.int64)
    counts[starts] = np.diff(np.append(starts, drawn.size))
    ids = np.where(is_first, drawn, -1)
    order = np.argsort(np.where(ids < 0, _BEHIND, ids), axis=1, kind="stable")
    ids, counts = np.take_along_axis(ids, order, 1), np.take_along_axis(counts.reshape(drawn.shape), order, 1)
    return ids, np.where(ids < 0, 0, counts)


def _chosen(weights_NC: Floats, uniform_NR: Floats) -> Ints:
    """Which of the columns each uniform number falls on; never one of weight 0 before the last one above 0."""
    sums_NC = torch.from_numpy(weights_NC).cumsum(-1)
    total_N1 = sums_NC[:, -1:].contiguous()
    at_NR = torch.searchsorted(sums_NC, torch.from_numpy(uniform_NR) * total_N1, right=True)
    last_N1 = torch.searchsorted(sums_NC, total_N1, right=False)
    return torch.minimum(at_NR, last_N1).numpy()


def _chosen_of(weights_DM: npt.NDArray[np.floating], which_TR: Ints, uniform_TR: Floats) -> Ints:
    """As `_chosen`, each number in a row of its own choice: first which eight columns, then which of them."""
    sums_DM = np.cumsum(weights_DM, axis=1, dtype=np.float64)
    total_D = sums_DM[:, -1]
    last_D = np.count_nonzero(sums_DM < total_D[:, None], axis=1)
    sought_TR1 = (uniform_TR * total_D[which_TR])[..., None]
    ends_DE = np.ascontiguousarray(sums_DM[:, _EIGHT - 1 :: _EIGHT])
    eights = np.count_nonzero(ends_DE[which_TR] <= sought_TR1, axis=-1)
    eights = np.minimum(eights, PART // _EIGHT - 1)
    inside = np.count_nonzero(sums_DM.reshape(-1, _EIGHT)[which_TR * (PART // _EIGHT) + eights] <= sought_TR1, axis=-1)
    chosen: Ints = np.minimum(eights * _EIGHT + inside, last_D[which_TR])
    return chosen
