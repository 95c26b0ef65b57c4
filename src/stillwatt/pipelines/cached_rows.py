"""What a cache says of the supervised positions of some sequences, whatever their lengths.

Shapes: B sequences, T rows of the longest, N supervised positions, K kept tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from stillwatt.pipelines.logit_cache import LogitCache

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache

__all__ = ["CachedReader", "CachedRows"]


@dataclass(frozen=True, slots=True)
class CachedRows:
    """One row for each supervised position, in the order of the batch."""

    ids_NK: Tensor
    rest: tuple[Tensor, ...]
    """Log-probabilities and tails; of draws, weights and their logarithms."""
    is_drawn: bool

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (self.ids_NK, *self.rest)


class CachedReader:
    """Reads a cache by the numbers of training sequences: from 0, in ascending order of the cache's own indices.

    Those may leave some out, where a table had rows of padding alone.
    """

    def __init__(self, cache: LogitCache | CodedCache, *, is_even: bool) -> None:
        """Prepare to read; `is_even` says that all sequences are of one length, and so can be read together."""
        self._cache, self._order, self._is_even = cache, cache.sequence_indices, is_even
        self._is_drawn = not isinstance(cache, LogitCache) and cache.scheme.is_unbiased
        # what fills a row that keeps fewer tokens than another: no token, and nothing of its mass
        self._fillers = (-1.0, 0.0, 0.0) if self._is_drawn else (-1.0, -math.inf, 0.0)

    def read(self, numbers: Sequence[int], predicted_BT: Tensor) -> CachedRows:
        """The rows of supervised positions.

        Args:
            numbers: Of the batch's sequences.
            predicted_BT: Which positions are supervised, False behind the end of a short sequence; on the CPU.

        Raises:
            IndexError: The cache has fewer sequences.
        """
        indices = [self._order[number] for number in numbers]
        if self._is_even:
            ids_NK, *rest = (part[predicted_BT] for part in self._parts(indices))
            return CachedRows(ids_NK, tuple(rest), self._is_drawn)
        kept: list[list[Tensor]] = []
        for index, predicted_T in zip(indices, predicted_BT, strict=True):
            parts = self._parts([index])
            kept.append([part[0][predicted_T[: part.shape[1]]] for part in parts])
        ids_NK, *rest = map(_joined, zip(*kept, strict=True), self._fillers)
        return CachedRows(ids_NK, tuple(rest), self._is_drawn)

    def _parts(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        if self._is_drawn:
            assert not isinstance(self._cache, LogitCache)  # fixed rows have no draws
            drawn = self._cache.weights(indices)
            return drawn.ids_BTK, drawn.weight_BTK, drawn.logp_BTK
        cached = self._cache.batch(indices)
        return cached.ids_BTK, cached.logp_BTK, cached.tail_logmass_BT


def _joined(parts: Sequence[Tensor], filler: float) -> Tensor:
    """Rows one behind the other, each as wide as the widest.

    >>> _joined([torch.tensor([[1, 2]]), torch.tensor([[3]])], -1.0).tolist()
    [[1, 2], [3, -1]]
    """
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    width = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, width - part.shape[1]), value=filler) for part in parts])
