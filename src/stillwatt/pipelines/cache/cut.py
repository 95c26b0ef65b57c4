"""From a teacher's logits to what a scheme keeps of them; as little work as can be, as the teacher waits meanwhile.

Shapes: T positions, V vocabulary, K kept tokens, U different drawn ones, G groups of the vocabulary, M tokens a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.pipelines.cache.codec import Wide
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import Cut

__all__ = ["WIDE", "cut_logits", "greatest"]

WIDE = 192
"""Tokens that the prior is learned from, at least."""
_GROUP = 64
_PER_GROUP = 16
"""Tokens of a group that the greatest are looked for in."""
_ROWS_AT_ONCE = 8
"""Rows whose weights exist at once: 1.6 MB at a vocabulary of 49,152."""


def greatest(values_TV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest and their places, greatest first; as `topk`, in a fraction of its time.

    The `count` greatest lie in those `count` groups whose own greatest are greatest, so only these are sorted.
    """
    size = values_TV.shape[-1]
    groups = size // _PER_GROUP
    if size % _PER_GROUP or groups <= 2 * count:
        found = values_TV.topk(count, dim=-1)
        return found.values, found.indices
    # a group is every so many tokens, not neighbours: its greatest is taken of whole rows at once
    best_TG = values_TV.view(len(values_TV), _PER_GROUP, groups).amax(1)
    best_TK = best_TG.topk(count, dim=-1, sorted=False).indices
    steps = torch.arange(0, size, groups, device=values_TV.device)
    inside_TN = (best_TK[:, None, :] + steps[:, None]).flatten(1)
    found = values_TV.gather(1, inside_TN).topk(count, dim=-1)
    return found.values, inside_TN.gather(1, found.indices)


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
    """
    # one buffer for all: fresh memory for each few rows would take longer than the exponentials in it
    kind = torch.promote_types(logits_TV.dtype, torch.float32)
    buffer_CV = logits_TV.new_empty((min(_ROWS_AT_ONCE, len(logits_TV)), logits_TV.shape[-1]), dtype=kind)
    parts = [
        _cut_few(logits_CV, buffer_CV[: len(logits_CV)], scheme, temperature, is_wide)
        for logits_CV in torch.split(logits_TV, _ROWS_AT_ONCE)
    ]
    ids_TK, logp_TK, tail_T, ids_TW, logp_TW, sums_TG = (torch.cat(column) for column in zip(*parts, strict=True))
    drawn = counts = np.zeros((len(logits_TV), 0), dtype=np.int64)
    if scheme.draws:
        drawn, counts = _draw(_Source(logits_TV, temperature, ids_TK, sums_TG), tail_T, scheme, sequence_index)
    return Cut(
        ids_TK=ids_TK.cpu().numpy(),
        logp_TK=logp_TK.cpu().numpy(),
        tail_logmass_T=tail_T.cpu().numpy(),
        draw_ids_TU=drawn,
        draw_counts_TU=counts,
        wide=Wide(ids_TW.cpu().numpy(), logp_TW.cpu().numpy()) if is_wide else None,
    )


def _cut_few(
    logits_CV: Tensor, buffer_CV: Tensor, scheme: Scheme, temperature: float, is_wide: bool
) -> tuple[Tensor, ...]:
    """As many rows as stay in the processor's cache over the passes here; overwrites `buffer_CV`.

    Returns kept ids, their log-probabilities, tail, wide ids, their log-probabilities, and for each group of the
    vocabulary the weight of what is not kept, relative to the most probable token's.
    """
    scaled_CV = _scaled(logits_CV, temperature)
    size = scaled_CV.shape[-1]
    found_CW, ids_CW = greatest(scaled_CV, min(max(scheme.top_k, WIDE if is_wide else 1), size))
    # not normalised yet: relative to the most probable token
    ids_CK, weight_CK = ids_CW[:, : scheme.top_k], (found_CW[:, : scheme.top_k] - found_CW[:, :1]).double().exp_()
    weights_CV = torch.sub(scaled_CV, found_CW[:, :1], out=buffer_CV).exp_().scatter_(-1, ids_CK, 0.0)
    weights_CG = _groups(weights_CV).sum(-1)
    # the others' own sum, never 1 less the kept mass
    rest_C1 = weights_CG.double().sum(-1, keepdim=True)
    total_C1 = rest_C1 + weight_CK.sum(-1, keepdim=True)
    logp_CW = (found_CW - found_CW[:, :1]).double() - total_C1.log()
    logp_CK = logp_CW[:, : scheme.top_k]
    if scheme.is_variable:
        before_CK = logp_CK.exp().cumsum(-1) - logp_CK.exp()
        is_out_CK = before_CK >= scheme.mass
        is_out_CK[:, 0] = False
        rest_C1 = rest_C1 + weight_CK.masked_fill(~is_out_CK, 0.0).sum(-1, keepdim=True)
        ids_CK, logp_CK = ids_CK.masked_fill(is_out_CK, -1), logp_CK.masked_fill(is_out_CK, -torch.inf)
    tail_C = F.logsigmoid((rest_C1.log() - total_C1.log())[:, 0] - torch.logsumexp(logp_CK, -1))
    return ids_CK, logp_CK, tail_C, ids_CW, logp_CW, weights_CG


def _groups(values_CV: Tensor) -> Tensor:
    """The vocabulary in groups; filled up with 0 where it does not go into whole ones."""
    short = -values_CV.shape[-1] % _GROUP
    whole_CV = F.pad(values_CV, (0, short)) if short else values_CV
    return whole_CV.view(len(values_CV), whole_CV.shape[-1] // _GROUP, _GROUP)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide if temperature == 1.0 else wide / temperature


@dataclass(frozen=True, slots=True)
class _Source:
    """What is drawn from: everything but the kept tokens."""

    logits_TV: Tensor
    temperature: float
    ids_TK: Tensor
    sums_TG: Tensor

    def inside(self, group_TR: Tensor) -> Tensor:
        """Weights of the tokens of some groups, [T, R, M]."""
        size = self.logits_TV.shape[-1]
        at_TRM = group_TR[:, :, None] * _GROUP + torch.arange(_GROUP)
        logits_TRM = self.logits_TV.gather(1, at_TRM.clamp_max(size - 1).flatten(1)).view(at_TRM.shape)
        scaled_TRM = _scaled(logits_TRM, self.temperature).double()
        weights_TRM = (scaled_TRM - scaled_TRM.amax(-1, keepdim=True)).exp_().masked_fill_(at_TRM >= size, 0.0)
        if not self.ids_TK.shape[1]:
            return weights_TRM
        is_kept_TRM = (at_TRM[:, :, :, None] == self.ids_TK[:, None, None, :]).any(-1)
        return weights_TRM.masked_fill_(is_kept_TRM, 0.0)


def _draw(
    source: _Source, tail_T: Tensor, scheme: Scheme, sequence_index: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw with replacement, first a group, then a token in it; different tokens and how often each came."""
    num, size = source.logits_TV.shape
    sums_TG = source.sums_TG.double()
    rng = np.random.Generator(np.random.Philox(key=[scheme.seed, sequence_index << 1]))
    at_TR, within_TR = (torch.from_numpy(rng.random((num, scheme.draws))) for _ in range(2))
    group_TR = _chosen(sums_TG, at_TR)
    inside_TRM = source.inside(group_TR)
    place_TR = _chosen(inside_TRM.flatten(0, 1), within_TR.reshape(-1, 1)).view(num, scheme.draws)
    drawn = torch.sort(group_TR * _GROUP + place_TR, -1).values.cpu().numpy()
    is_first = np.ones(drawn.shape, dtype=np.bool_)
    is_first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    starts = np.flatnonzero(is_first.ravel())
    counts = np.zeros(drawn.size, dtype=np.int64)
    counts[starts] = np.diff(np.append(starts, drawn.size))
    ids = np.where(is_first, drawn, -1)
    ids[~(sums_TG.sum(-1) > 0).numpy() | np.isneginf(tail_T.numpy())] = -1
    order = np.argsort(np.where(ids < 0, size, ids), axis=1, kind="stable")
    ids, counts = np.take_along_axis(ids, order, 1), np.take_along_axis(counts.reshape(drawn.shape), order, 1)
    return ids, np.where(ids < 0, 0, counts)


def _chosen(weights_NC: Tensor, uniform_NR: Tensor) -> Tensor:
    """Which of the columns each uniform number falls on; never one of weight 0 before the last one above 0."""
    sums_NC = weights_NC.cumsum(-1)
    total_N1 = sums_NC[:, -1:].contiguous()
    at_NR = torch.searchsorted(sums_NC, uniform_NR * total_N1, right=True)
    last_N1 = torch.searchsorted(sums_NC, total_N1, right=False)
    return torch.minimum(at_NR, last_N1)
