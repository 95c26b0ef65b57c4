"""Effects with intervals and tail probabilities, from seeds and known errors alike (method.md, eqs. 29, 30 and 106)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.analysis.contrast import Z_95, Contrast, Evidence, combine, ratio_of
from stillwatt.analysis.trainings import Term, known_rows, weigh
from stillwatt.errors import MissingExtraError
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal

_SMALLEST = -700.0
"""Logarithm of the smallest tail probability that is told from 0."""
_HALVINGS = 60
_ROUNDING = 2.0**-30
"""Spread, as a share of the values, below which seeds agree but for the last bits of a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A ratio or a difference of weighted labels, and how surely it lies above a bound."""

    evidence: tuple[Evidence, ...]
    is_ratio: bool
    seeds: int
    """The fewest seeds of a label in it; 1 where they show no spread at all: that is rounding, and no certainty."""

    @property
    def contrast(self) -> Contrast:
        """Means and half-widths of numerator and denominator."""
        return combine(self.evidence)

    @property
    def value(self) -> float | None:
        """The effect; None for a ratio whose denominator is not above 0."""
        found = self.contrast
        if not self.is_ratio:
            return found.numerator
        return found.numerator / found.denominator if found.denominator > 0.0 else None

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """95 %; of a ratio Fieller's set, cut at 0 (method.md, eq. 30); None where nothing is known of its error."""
        found = self.contrast
        if not has_spread(self.evidence):
            return None, None
        if self.is_ratio:
            ends = ratio_of(found)
            return (ends.low, ends.high) if ends else (None, None)
        return found.numerator - found.extra.random, found.numerator + found.extra.random

    def p_above(self, bound: float) -> float:
        """Chance of an effect so far above the bound, were it at the bound (method.md, eq. 106)."""
        return tail(self.evidence, lambda n, d: n - bound * d if self.is_ratio else n, 0.0 if self.is_ratio else bound)

    def p_below(self, bound: float) -> float:
        """The same of below; the two sum to 1."""
        return 1.0 - self.p_above(bound)


def effect_of(terms: Iterable[Term], rel: float, *, is_ratio: bool) -> Effect | NoTotal:
    """Weigh labels against each other (method.md, eq. 29).

    Args:
        terms: Labels with their weights; a label stands in one term only. A difference has numerators alone.
        rel: Repeatability of a single training.
        is_ratio: Whether the numerator is divided by the denominator.

    Returns:
        The effect; NoTotal where a label has no row that knows what is needed.
    """
    kept = known_rows(list(terms))
    if isinstance(kept, NoTotal):
        return kept
    evidence = (*weigh(kept, rel), *_made_once(kept, rel))
    seeds = min(_num_seeds(term, rows) for term, rows in kept)
    is_known = _varies(evidence, 1.0 if is_ratio else 0.0, _size(kept))
    return Effect(evidence=evidence, is_ratio=is_ratio, seeds=seeds if is_known else 1)


def _made_once(kept: Sequence[tuple[Term, Sequence[Observation]]], rel: float) -> Iterable[Evidence]:
    """What a teacher's artefact that several seeds drew on would have taken if made again: within `rel` of itself.

    Labels that name the same energy to the last digit drew on one artefact, whose error is one.
    """
    weights: dict[float, list[float]] = {}
    for term, rows in kept:
        made = {row.teacher_j for row in rows if row.teacher_j}
        if "teacher_j" in term.fields and len(rows) > 1 and len(made) == 1:
            sums = weights.setdefault(made.pop(), [0.0, 0.0])
            sums[0] += term.numerator.get("teacher_j", 0.0)
            sums[1] += term.denominator.get("teacher_j", 0.0)
    for energy_j, (n, d) in weights.items():
        square = (rel * energy_j) ** 2
        yield Evidence(pairs=((0.0, 0.0),), known_nn=n * n * square, known_nd=n * d * square, known_dd=d * d * square)


def tail(evidence: Sequence[Evidence], of: Callable[[float, float], float], bound: float) -> float:
    """One-sided tail probability of a sum of independent evidence (method.md, eq. 106).

        sum_g t_{n_g - 1, 1 - p}^2 s_g^2 / n_g + z_{1 - p}^2 k = (x - bound)^2

    The p whose interval just reaches the bound: for one piece of evidence Student's t-test, for several no smaller than
    exact (as eq. 29).

    >>> round(tail([Evidence(pairs=((1.0, 0.0), (2.0, 0.0), (3.0, 0.0)))], lambda n, d: n, 0.0), 4)
    0.0371
    """
    special = _special()
    mean, known, parts = -bound, 0.0, []
    for entry in evidence:
        count = len(entry.pairs)
        values = [of(n, d) for n, d in entry.pairs]
        middle = math.fsum(values) / count
        mean += middle
        # the known part as it weighs on this combination; `of` is linear
        on_n, on_d = of(1.0, 0.0), of(0.0, 1.0)
        square = on_n * on_n * entry.known_nn + 2.0 * on_n * on_d * entry.known_nd + on_d * on_d * entry.known_dd
        known += max(square, 0.0) / Z_95**2
        spread = math.fsum((value - middle) ** 2 for value in values)
        if spread:
            parts.append((count - 1, spread / (count * (count - 1))))
    p = _two_ended(special, mean * mean, known, parts)
    return p if mean > 0.0 else 1.0 - p


def _two_ended(special: Any, square: float, known: float, parts: Sequence[tuple[int, float]]) -> float:
    """The tail beyond that squared distance, at most a half."""
    if square == 0.0:
        return 0.5
    if not known and not parts:
        return 0.0
    if len(parts) == 1 and not known:
        ((freedom, part),) = parts
        return float(special.stdtr(freedom, -math.sqrt(square / part)))
    low, high = _SMALLEST, math.log(0.5)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        p = math.exp(middle)
        quantiles = [(part, float(special.stdtrit(freedom, p))) for freedom, part in parts]
        # by products, which overflow to infinity where powers raise
        width = known * float(special.ndtri(p)) ** 2 + sum(part * t * t for part, t in quantiles)
        low, high = (middle, high) if width > square else (low, middle)
    return math.exp(high)


def _num_seeds(term: Term, rows: Sequence[Observation]) -> int:
    """Different draws among the rows; of a teacher's artefact, how often it was made."""
    if term.fields == {"teacher_j"}:
        return len({row.teacher_j for row in rows})
    if any(len({getattr(row, name) for row in rows}) == 1 for name in term.fields - {"teacher_j"}):
        return 1
    return len({row.drawn_with or row.seed for row in rows})


def _size(kept: Sequence[tuple[Term, Sequence[Observation]]]) -> float:
    """How large the values are that an effect is made of, before they cancel: floats are rounded by a share of it."""
    return math.fsum(
        max(abs(weight * getattr(row, name)) for row in rows)
        for term, rows in kept
        for weights in (term.numerator, term.denominator)
        for name, weight in weights.items()
    )


def _varies(evidence: Sequence[Evidence], bound: float, size: float) -> bool:
    """Whether anything is known of the error of n - bound d: seeds may differ by the same to the last digit."""
    for entry in evidence:
        known = entry.known_nn - 2.0 * bound * entry.known_nd + bound * bound * entry.known_dd
        if known > _ROUNDING * (entry.known_nn + bound * bound * entry.known_dd):
            return True
        values = [n - bound * d for n, d in entry.pairs]
        if max(values) - min(values) > _ROUNDING * size:
            return True
    return False


def has_spread(evidence: Sequence[Evidence]) -> bool:
    """Whether anything is known of the effect's error: rounded values may agree to the last digit."""
    found = combine(evidence)
    return found.h_nn + found.h_dd > 0.0


def _special() -> Any:
    try:
        from scipy import special
    except ImportError as err:
        raise MissingExtraError("scipy", "analysis") from err
    return special
