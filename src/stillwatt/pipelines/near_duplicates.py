"""Which texts are nearly the same as one that is kept already: exactly, and fast for many texts (method.md, eq. 134).

Two texts are as near as their sets of token 5-grams overlap. What is near enough must share one of a few grams: of
those that a text has, all but as many as may be shared with nothing (prefix filtering). Rare grams come first in that
choice, so that a phrase which stands in every text leads nowhere; which are rare is counted anew whenever the kept
texts have doubled. Nothing is estimated and nothing is missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["GRAM", "KeptTexts", "grams_of", "similarity"]

GRAM = 5
"""Tokens of a gram."""
_FACTOR = 0x9E3779B97F4A7C15
_FIRST_COUNT = 256
_ROUNDING = 2.0**-30

Grams = npt.NDArray[np.uint64]
"""Hashes of a text's grams, ascending, each once."""


def grams_of(tokens: Sequence[int]) -> Grams:
    """The set of a text's 5-grams, as 64-bit hashes; a text of fewer tokens is one gram, and one of none has none.

    >>> len(grams_of([1, 2, 3, 4, 5, 6])), len(grams_of([1, 2])), len(grams_of([]))
    (2, 1, 0)
    """
    if not tokens:
        return np.empty(0, dtype=np.uint64)
    ids = np.asarray(tokens, dtype=np.uint64) + np.uint64(1)
    length = min(GRAM, len(ids))
    hashes = np.zeros(len(ids) - length + 1, dtype=np.uint64)
    for start in range(length):
        hashes = _mixed(hashes ^ ids[start : start + len(hashes)])
    return np.unique(hashes)


def similarity(grams: Grams, other: Grams) -> float:
    """How near two texts are: grams they share over grams that either has; 0 where neither has one (eq. 134).

        J(A, B) = |A n B| / |A u B|

    >>> similarity(grams_of([1, 2, 3, 4, 5, 6]), grams_of([1, 2, 3, 4, 5, 7])) == 1 / 3
    True
    """
    shared = len(np.intersect1d(grams, other, assume_unique=True))
    whole = len(grams) + len(other) - shared
    return shared / whole if whole else 0.0


@dataclass(slots=True)
class KeptTexts:
    """The grams of kept texts, and what is near to them; the same texts in the same order give the same answers."""

    threshold: float
    """Texts this near, or nearer, are near-duplicates; above 0, at most 1."""
    _kept: list[Grams] = field(default_factory=list)
    _holders: dict[int, list[int]] = field(default_factory=dict)
    """For each gram that leads somewhere: the texts it leads to."""
    _common: dict[int, int] = field(default_factory=dict)
    """In how many texts a gram stood when that was last counted; those of one text are left out."""
    _count_next_at: int = _FIRST_COUNT

    def has_near(self, grams: Grams) -> bool:
        """Whether a kept text is as near as the threshold."""
        low, high = self.threshold * len(grams) - _ROUNDING, len(grams) / self.threshold + _ROUNDING
        tried: set[int] = set()
        for gram in self._leading(grams):
            for number in self._holders.get(gram, ()):
                if number in tried:
                    continue
                tried.add(number)
                kept = self._kept[number]
                # of texts of too unlike lengths the longer one has too much of its own
                if low <= len(kept) <= high and similarity(grams, kept) >= self.threshold:
                    return True
        return False

    def keep(self, grams: Grams) -> None:
        """Take a text in."""
        self._kept.append(grams)
        self._enter(len(self._kept) - 1)
        if len(self._kept) >= self._count_next_at:
            self._count()

    def _enter(self, number: int) -> None:
        for gram in self._leading(self._kept[number]):
            self._holders.setdefault(gram, []).append(number)

    def _leading(self, grams: Grams) -> list[int]:
        """The rarest of a text's grams, as many as it takes: one of them is in every text that is near enough.

        A near text shares at least threshold * n of the n grams, so it cannot miss more than the rest.
        """
        most_missed = len(grams) - max(1, math.ceil(self.threshold * len(grams) - _ROUNDING))
        common = self._common
        ordered = sorted(grams.tolist(), key=lambda gram: (common.get(gram, 0), gram))
        return ordered[: most_missed + 1]

    def _count(self) -> None:
        """Count anew in how many texts each gram stands, and enter all texts by it."""
        self._count_next_at = 2 * len(self._kept)
        grams, times = np.unique(np.concatenate(self._kept), return_counts=True)
        is_common = times > 1
        self._common = dict(zip(grams[is_common].tolist(), times[is_common].tolist(), strict=True))
        self._holders = {}
        for number in range(len(self._kept)):
            self._enter(number)


def _mixed(values: Grams) -> Grams:
    """Whole numbers of 64 bits spread evenly, one to one (a multiplication and two shifts)."""
    values = (values ^ (values >> np.uint64(29))) * np.uint64(_FACTOR)
    return values ^ (values >> np.uint64(32))
