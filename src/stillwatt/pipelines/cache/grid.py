"""Numbers made small: probabilities and tails as levels of fixed grids (method.md, eqs. 81 and 82).

Levels are integers, and only they reach the coder; what a level stands for is computed when a block is read.

Shapes: any, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["TAIL_LEVELS", "Grid", "tail_level", "tail_logit", "tail_logmass"]

_FINE_NATS = 2.0
"""Down to here, a probability of 0.14, steps are a quarter as wide: few values lie there, and most of the mass."""
_FINE = 4
_LAST_NATS = 40.0
"""Smaller probabilities are stored as this one, except 0, which has a level of its own."""
_TAIL_STEP = 0.125
_TAIL_SPAN = 20.0
TAIL_LEVELS = 2 * round(_TAIL_SPAN / _TAIL_STEP) + 2
"""Levels of a tail; the last one is no tail at all."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Levels of a log-probability: level 0 is probability 1, the last level probability 0."""

    step: float
    """Width below probability 0.14, in nats."""

    def __post_init__(self) -> None:
        if not 1 / 64 <= self.step <= _FINE_NATS:
            raise ValueError(f"step {self.step} nats must lie between 1/64 and {_FINE_NATS:g}")

    @cached_property
    def points(self) -> Floats:
        """Log-probability of each level, descending; -inf at the end."""
        fine = np.arange(0.0, _FINE_NATS, self.step / _FINE)
        coarse = np.arange(_FINE_NATS, _LAST_NATS + self.step / 2, self.step)
        return np.concatenate([-fine, -coarse, [-np.inf]])

    @property
    def size(self) -> int:
        """Number of levels."""
        return len(self.points)

    @cached_property
    def _edges(self) -> Floats:
        """Midpoints between neighbours, ascending in -log p."""
        finite = self.points[:-1]
        return -(finite[1:] + finite[:-1]) / 2

    def nearest(self, logp: npt.NDArray[np.floating]) -> Ints:
        """The level nearest in log-probability.

        >>> Grid(0.5).points[Grid(0.5).nearest(np.array([0.0, -2.1, -7.3, -99.0, -np.inf]))].tolist()
        [-0.0, -2.0, -7.5, -40.0, -inf]
        """
        found = np.searchsorted(self._edges, -np.asarray(logp, dtype=np.float64), side="right")
        return np.where(np.isneginf(logp), self.size - 1, found).astype(np.int64)

    def either(self, logp: npt.NDArray[np.floating], uniform: Floats) -> Ints:
        """One of the two levels around, by chance, such that the expected probability is the exact one (eq. 82)."""
        points, wide = self.points, np.asarray(logp, dtype=np.float64)
        below = np.searchsorted(-points[:-1], -np.minimum(wide, 0.0), side="left")
        above = np.maximum(below - 1, 0)
        p, high, low = np.exp(wide), np.exp(points[above]), np.exp(points[below])
        gap = high - low
        share = np.divide(p - low, gap, out=np.zeros_like(p), where=gap > 0)
        return np.where(uniform < share, above, below).astype(np.int64)


def tail_logit(logmass: npt.NDArray[np.floating]) -> Floats:
    """Log-odds of the mass outside the kept tokens; keeps full precision where either side nearly vanishes."""
    wide = np.asarray(logmass, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return wide - np.log(-np.expm1(wide))


def tail_level(logmass: npt.NDArray[np.floating], uniform: Floats | None = None) -> Ints:
    """The level of a tail: the nearest in log-odds, or by chance one of two so that the expected mass is exact.

    >>> round(float(np.exp(tail_logmass(tail_level(np.log(np.array([0.1])))))[0]), 3)
    0.095
    """
    place = np.clip((tail_logit(logmass) + _TAIL_SPAN) / _TAIL_STEP, 0, TAIL_LEVELS - 2)
    if uniform is None:
        level = np.rint(place)
    else:
        low = np.floor(place)
        mass, at, up = (np.exp(tail_logmass(level.astype(np.int64))) for level in (place, low, low + 1))
        mass = np.clip(np.exp(np.asarray(logmass, dtype=np.float64)), at, up)
        share = np.divide(mass - at, up - at, out=np.zeros_like(mass), where=up > at)
        level = np.minimum(low + (uniform < share), TAIL_LEVELS - 2)
    return np.where(np.isneginf(logmass), TAIL_LEVELS - 1, level).astype(np.int64)


def tail_logmass(level: Ints) -> Floats:
    """Log of the tail's mass at those levels."""
    logit = level * _TAIL_STEP - _TAIL_SPAN
    return np.where(level == TAIL_LEVELS - 1, -np.inf, -np.logaddexp(0.0, -logit))
