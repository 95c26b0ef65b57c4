"""How near what a cache gives comes to the teacher: divergence, and the error of a student's gradient.

Shapes: T positions of a sequence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.whole import TAIL_POWER, rebuilt_logp

StandIn = Callable[[int, Tensor], Tensor]
"""Of a sequence's number and the log of the teacher's distributions: what stands in for these, [T, V]."""


def mean_kl(sequences: int, teacher_TV: Callable[[int], Tensor], rebuilt: StandIn) -> float:
    """KL of the log-probabilities that are rebuilt from the teacher's, nats, over all of so many sequences."""
    kls = []
    for index in range(sequences):
        logp_TV = torch.log_softmax(teacher_TV(index), -1)
        kls.append((logp_TV.exp() * (logp_TV - rebuilt(index, logp_TV))).sum(-1))
    return round(float(torch.cat(kls).mean()), 4)


@dataclass
class Gradients:
    """A student's gradient under the teacher, and under what stands in for it."""

    parameters: Sequence[Tensor]
    student_TV: Callable[[int], Tensor]
    """Its logits for a sequence, with their graph."""
    teacher_TV: Callable[[int], Tensor]
    """The teacher's logits."""
    sequences: int
    sizes: Sequence[int]
    """Numbers of sequences, from the first, that errors are told of."""
    _exact: dict[int, float] = field(default_factory=dict)

    def errors(self, stand_in: StandIn) -> dict[str, float]:
        """||g - g0|| / ||g0|| by positions: the difference of gradients is the gradient of a difference.

        Args:
            stand_in: Weights, which need not sum to 1.
        """

        def wrong(index: int, q_TV: Tensor, p_TV: Tensor) -> Tensor:
            w_TV = stand_in(index, p_TV.log())
            return (w_TV.sum(-1, keepdim=True) - 1.0) * q_TV - (w_TV - p_TV)

        if not self._exact:
            self._exact = {size: norm for size, _, norm in self._norms(lambda _, q_TV, p_TV: q_TV - p_TV)}
        return {str(positions): round(norm / self._exact[size], 4) for size, positions, norm in self._norms(wrong)}

    def _norms(self, slope: Callable[[int, Tensor, Tensor], Tensor]) -> list[tuple[int, int, float]]:
        """(sequences, positions, norm of the gradient over them) at each size."""
        sums, positions, found = [torch.zeros_like(each) for each in self.parameters], 0, []
        for index in range(self.sequences):
            student_TV = self.student_TV(index)
            p_TV, q_TV = torch.softmax(self.teacher_TV(index), -1), torch.softmax(student_TV.detach(), -1)
            slope_TV = slope(index, q_TV, p_TV)
            parts = torch.autograd.grad(student_TV, list(self.parameters), slope_TV, allow_unused=True)
            for total, part in zip(sums, parts, strict=True):
                if part is not None:  # where a head of its own stands for one that is tied
                    total += part
            positions += len(p_TV)
            if index + 1 in self.sizes:
                found.append((index + 1, positions, float(sum(each.square().sum() for each in sums)) ** 0.5))
        return found


def rebuilt(cache: CodedCache, index: int, power: float = TAIL_POWER) -> Tensor:
    """Log of the distribution with the tail in the prior's shape, raised to that power."""
    kept = cache.batch([index])
    mean_TV = torch.from_numpy(cache.mean_logp(index))
    return rebuilt_logp(kept.ids_BTK[0], kept.logp_BTK[0], kept.tail_logmass_BT[0], mean_TV, power=power)


def even_tail(logp_TV: Tensor, kept: int) -> Tensor:
    """Log of the distribution that keeps the most probable tokens and spreads the rest evenly."""
    found = logp_TV.topk(kept, -1)
    rest_T1 = torch.log1p(-found.values.exp().sum(-1, keepdim=True).clamp_max(1 - 1e-7))
    even_T1 = rest_T1 - float(np.log(logp_TV.shape[-1] - kept))
    return even_T1.expand(-1, logp_TV.shape[-1]).clone().scatter_(-1, found.indices, found.values)
