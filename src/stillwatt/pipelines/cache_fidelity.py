"""How near a logit cache comes to the teacher, on a sample of the positions that it holds (method.md, eq. 121).

The teacher reads a few of the sequences once more and its whole distributions are compared with what the cache gives
back, as it is on disk. So the figure is of the written bytes, does not depend on where a writer was stopped, and costs
what the sample costs: a stage of its own inside the one that made the cache.

Shapes: T positions of a sequence, C of them at a time, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.teacher_logits import places_in_documents

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache
    from stillwatt.pipelines.teacher_logits import Counter, Positions, Teacher

__all__ = ["measure_fidelity", "sampled_sequences"]

SAMPLED_SHARE = 0.01
"""Of the sequences; one at least."""
_CHUNK = 64
"""Positions whose rebuilt distributions exist at once."""


def sampled_sequences(count: int) -> list[int]:
    """Which of so many sequences are read again: evenly over the text, and the same whenever it is asked.

    >>> sampled_sequences(3), sampled_sequences(400)
    ([1], [50, 150, 250, 350])
    """
    chosen = max(1, math.ceil(count * SAMPLED_SHARE)) if count else 0
    return [(2 * place + 1) * count // (2 * chosen) for place in range(chosen)]


def measure_fidelity(
    cache: LogitCache | CodedCache,
    teacher_model: Teacher,
    sequences: Sequence[Sequence[int]],
    stage: Counter,
    positions: Positions = None,
) -> dict[str, Any]:
    """Mean KL(teacher || what the cache gives back) over the positions of a sample, in nats (method.md, eq. 121).

    Args:
        cache: A complete one of `sequences`.
        teacher_model: The teacher that it was made from.
        sequences: Token ids, by the cache's own numbers.
        stage: Gets `tokens`, those that the teacher read again.
        positions: Those that the cache was made with.

    Returns:
        `kl_to_full` and `kl_positions`, or `kl_absent` with the reason: what is drawn at random stands for no
        distribution, and only its mean over many positions can be compared.
    """
    if not isinstance(cache, LogitCache) and cache.scheme.is_unbiased:
        return {"kl_absent": f"scheme {cache.scheme.name} keeps draws, whose divergence is infinite; see eq. 88"}
    total, num_positions = 0.0, 0
    for index in sampled_sequences(len(sequences)):
        if len(sequences[index]) < 2:
            continue
        ids_1S = torch.tensor([list(sequences[index])], dtype=torch.long)
        with torch.inference_mode():
            place = teacher_model.device
            apart = places_in_documents(positions, [index], place)
            whole_TV = teacher_model(input_ids=ids_1S.to(place), use_cache=False, **apart).logits[0, :-1]
            # of a teacher with more output rows than are kept, the distribution over the kept ones
            logits_TV = whole_TV[:, : cache.vocab_size]
            total += _divergence(cache, index, logits_TV)
        num_positions += len(sequences[index]) - 1
        stage.add(tokens=len(sequences[index]))
    if not num_positions:
        return {"kl_absent": "the sequences that were sampled have no positions"}
    return {"kl_to_full": total / num_positions, "kl_positions": num_positions}


def _divergence(cache: LogitCache | CodedCache, index: int, logits_TV: Tensor) -> float:
    """Sum over a sequence's positions."""
    kept = cache.batch([index])
    ids_TK, logp_TK, tail_T = kept.ids_BTK[0], kept.logp_BTK[0], kept.tail_logmass_BT[0]
    mean_TV = None if isinstance(cache, LogitCache) else torch.from_numpy(cache.mean_logp(index))
    total = 0.0
    for start in range(0, len(logits_TV), _CHUNK):
        part = slice(start, start + _CHUNK)
        p_CV = torch.log_softmax(logits_TV[part].float().cpu() / cache.temperature, -1)
        if mean_TV is None:
            q_CV = _even_tail(ids_TK[part], logp_TK[part], tail_T[part], p_CV.shape[1])
        else:
            from stillwatt.pipelines.cache.whole import rebuilt_logp

            q_CV = rebuilt_logp(ids_TK[part], logp_TK[part], tail_T[part], mean_TV[part])
        # where the teacher's probability is nothing, so is its term
        terms_CV = torch.where(p_CV > -torch.inf, p_CV.exp() * (p_CV - q_CV), 0.0)
        total += float(terms_CV.double().sum())
    return total


def _even_tail(ids_CK: Tensor, logp_CK: Tensor, tail_C: Tensor, vocab_size: int) -> Tensor:
    """Fixed rows know nothing of the tail's shape: each token outside gets as much of its mass."""
    others = max(vocab_size - ids_CK.shape[1], 1)
    even_CV = (tail_C - math.log(others))[:, None].expand(-1, vocab_size)
    return even_CV.scatter(-1, ids_CK, logp_CK)
