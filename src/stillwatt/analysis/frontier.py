"""Which points are beaten by none on energy and quality, and how sure that is (method.md, eqs. 23 and 24)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NODES = 33
"""Quantile nodes per axis: the probability is good to about 1 %, far below what the intervals are good for."""
_NEGLIGIBLE = 0.000_000_1
_Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One point: energy (less is better) and quality (more is better), with their random errors."""

    name: str
    energy_j: float
    energy_random_j: float
    """Half-width, 95 %."""
    quality: float
    quality_se: float | None

    @property
    def problem(self) -> str | None:
        """Why the point cannot be placed, or None."""
        for what, value in (("energy", self.energy_j), ("quality", self.quality)):
            if not math.isfinite(value):
                return f"its {what} is {value}, not a number"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A point's place: on the frontier, or beaten by another."""

    is_on_frontier: bool
    dominated_by: str | None


def place_points(points: Sequence[Candidate]) -> tuple[Place, ...]:
    """Mark the non-dominated points (method.md, eq. 23), in O(n log n).

    A point is beaten by another that needs no more energy and is no worse, and is better in at least one of the
    two. Equal points do not beat each other.

    Args:
        points: Finite points; see `Candidate.problem`.

    Raises:
        ValueError: A point is not finite.

    >>> cheap = Candidate(name="a", energy_j=1.0, energy_random_j=0.0, quality=0.9, quality_se=None)
    >>> dear = Candidate(name="b", energy_j=2.0, energy_random_j=0.0, quality=0.8, quality_se=None)
    >>> [place.dominated_by for place in place_points([dear, cheap])]
    ['a', None]
    """
    for point in points:
        if point.problem:
            raise ValueError(f"{point.name}: {point.problem}")
    places: dict[int, Place] = {}
    best: Candidate | None = None
    for index in sorted(range(len(points)), key=lambda i: (points[i].energy_j, -points[i].quality)):
        point = points[index]
        is_equal = best is not None and (point.energy_j, point.quality) == (best.energy_j, best.quality)
        if best is None or point.quality > best.quality or is_equal:
            best = point if not is_equal else best
            places[index] = Place(is_on_frontier=True, dominated_by=None)
        else:
            places[index] = Place(is_on_frontier=False, dominated_by=best.name)
    return tuple(places[index] for index in range(len(points)))


def frontier_probabilities(points: Sequence[Candidate]) -> tuple[float | None, ...]:
    """Probability that each point is on the frontier, given this run's random errors (method.md, eq. 24).

        p_i = E over (e, q) of  prod_{j != i} [1 - P(E_j <= e) P(Q_j >= q)]                                [1]

    with independent normal errors, by the midpoint rule on quantiles: no random numbers, so the same points give
    the same answer. Errors that points share (evaluation items, data preparation) are treated as independent,
    which understates how well points can be told apart. Seeds are not in it.

    Returns:
        One probability a point; all None where any quality has no standard error.
    """
    if any(point.quality_se is None for point in points):
        return tuple(None for _ in points)
    return tuple(_probability(index, points) for index in range(len(points)))


def _probability(index: int, points: Sequence[Candidate]) -> float:
    own = points[index]
    energies = _quantiles(own.energy_j, own.energy_random_j / _Z_95)
    qualities = _quantiles(own.quality, own.quality_se or 0.0)
    unbeaten = [[1.0] * len(qualities) for _ in energies]
    for position, other in enumerate(points):
        if position == index or _is_exact_twin(own, other):
            continue
        cheaper = [_at_most(e, other.energy_j, other.energy_random_j / _Z_95) for e in energies]
        no_worse = [_at_most(-q, -other.quality, other.quality_se or 0.0) for q in qualities]
        for row, p_cheaper in zip(unbeaten, cheaper, strict=True):
            if p_cheaper > _NEGLIGIBLE:
                row[:] = [cell * (1.0 - p_cheaper * p) for cell, p in zip(row, no_worse, strict=True)]
    return min(math.fsum(map(math.fsum, unbeaten)) / (len(energies) * len(qualities)), 1.0)


def _quantiles(mean: float, sigma: float) -> list[float]:
    """Midpoints of equal slices of a normal distribution; the mean alone where it has no width."""
    if sigma == 0.0:
        return [mean]
    normal = NormalDist(mean, sigma)
    return [normal.inv_cdf((node + 0.5) / _NODES) for node in range(_NODES)]


def _at_most(bound: float, mean: float, sigma: float) -> float:
    """P(X <= bound) for a normal X, which may have no width."""
    if sigma == 0.0:
        return 1.0 if mean <= bound else 0.0
    return 0.5 * math.erfc((mean - bound) / (sigma * math.sqrt(2.0)))


def _is_exact_twin(own: Candidate, other: Candidate) -> bool:
    """The same point without errors: neither beats the other."""
    widths = (own.energy_random_j, other.energy_random_j, own.quality_se, other.quality_se)
    return not any(widths) and (own.energy_j, own.quality) == (other.energy_j, other.quality)
