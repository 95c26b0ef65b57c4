"""Energies with their intervals, and what stands in their place when there is none.

The interval of an energy has two parts that behave differently: `random_j`, which shrinks with repeats
(sampling, counter steps, edges, gaps), and the systematic part (`systematic_low_j`, `systematic_high_j`: the
instrument's gain, a model's parameters), which does not. docs/method.md, eqs. 6, 7 and 9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillwatt.records.channel import Basis, Boundary

STATED = "stated"
"""The method of an energy that another tool's file states and that no reading here stands behind."""


def low_end(value: float, below: float) -> float:
    """Lower end of the interval of what is drawn, an energy or a power (method.md, eq. 9): nothing draws less than 0.

    The interval of a sum is cut after adding: half-widths add up uncut, since a part's shortfall may be another's.

    >>> low_end(1.5, 2.5), low_end(4.0, 2.5), low_end(-0.25, 2.5)
    (0.0, 1.5, -0.25)
    """
    return min(value, max(value - below, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A part that should have an energy and has none. Never 0."""

    part: str
    boundary: Boundary
    reason: str

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.absent_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one part over one stage, with everything needed to judge it."""

    part: str
    device: str
    boundary: Boundary
    value_j: float
    random_j: float
    """Half-width of the random part, 95 %."""
    systematic_low_j: float
    """How far below the value the systematic part reaches, 95 %."""
    systematic_high_j: float
    basis: Basis
    method: str
    """`counter`, `power_trapezoid`, `model`: which estimator of method.md made the value; or `STATED`."""
    coverage: float
    """Share of the window's seconds between two good readings no further apart than the largest allowed gap."""
    failed_reads: int
    estimated_j: float
    """Of `value_j`, the joules in seconds that no reading covers, carried over by the estimator."""
    missing_s: float
    """Seconds with no reading near enough to estimate from; they hold no joules of `value_j`."""
    driver: str
    """Which driver read it; systematic errors of one driver's parts are held to move together."""
    source: str
    flags: tuple[str, ...] = ()
    """What speaks against the value or its interval, each a word, a colon and a sentence: `aliased`,
    `witness-disagrees`, `counter-stood`, `counter-silent`, `estimated`."""
    placing_j: float = 0.0
    """Of `random_j`, what is one unknown for several stages: placing inside the instrument's intervals, shares of spans
    that nothing was read in, which of two instruments is right. It adds up over stages (docs/method.md, eqs. 128 and
    140)."""
    in_step_cos_j: float = 0.0
    """Of the rest, what stages share that begin at the same place in the instrument's step: the vectors of such stages
    point the same way and add up, those of others scatter (docs/method.md, eqs. 127 and 128)."""
    in_step_sin_j: float = 0.0
    """The vector's other component."""
    is_net: bool = False
    """Whether a baseline's energy was taken off, so that there may be less than 0 J."""

    def __post_init__(self) -> None:
        for name in ("random_j", "systematic_low_j", "systematic_high_j", "missing_s"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{self.part}: {name} = {getattr(self, name)} must be >= 0")
        if not 0.0 <= self.coverage <= 1.0:
            raise ValueError(f"{self.part}: coverage {self.coverage} is not a share")
        if not math.isfinite(self.value_j):
            raise ValueError(f"{self.part}: {self.value_j} J is not a number of joules; use Absent")

    @property
    def low_j(self) -> float:
        """Lower end of the 95 % interval (method.md, eq. 9): random and systematic parts in quadrature, cut at 0 J.

        That of a net energy is not cut.
        """
        below_j = math.hypot(self.random_j, self.systematic_low_j)
        return self.value_j - below_j if self.is_net else low_end(self.value_j, below_j)

    @property
    def high_j(self) -> float:
        """Upper end of the 95 % interval (method.md, eq. 9)."""
        return self.value_j + math.hypot(self.random_j, self.systematic_high_j)

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.energy_html(self)


@dataclass(frozen=True, slots=True)
class RandomPart:
    """Half-width of the random part of a sum, 95 %, and what of it further sums share."""

    half_j: float
    placing_j: float
    in_step_cos_j: float
    in_step_sin_j: float


def random_of_sum(terms: Iterable[tuple[float, Energy]]) -> RandomPart:
    """Random part of a weighted sum of energies (docs/method.md, eq. 128).

    Within one part, biases (`placing_j`) add up, what is in step adds up as vectors, and the rest in quadrature;
    it is never less than all in quadrature. Different parts stand in quadrature.

    >>> part = Energy(part="gpu0", device="x", boundary=Boundary.BOARD, value_j=40.0, random_j=5.0,
    ...               systematic_low_j=0.0, systematic_high_j=0.0, basis=Basis.MEASURED, method="counter", coverage=1.0,
    ...               failed_reads=0, estimated_j=0.0, missing_s=0.0, driver="nvml", source="", in_step_cos_j=4.0)
    >>> round(random_of_sum([(1.0, part), (1.0, part)]).half_j ** 2, 9)  # 3² + 3² + (4 + 4)²
    82.0
    """
    by_part: dict[tuple[str, str], list[tuple[float, Energy]]] = {}
    for weight, energy in terms:
        by_part.setdefault((energy.part, energy.device), []).append((weight, energy))
    sums = [_random_of_part(some) for some in by_part.values()]
    return RandomPart(
        half_j=math.hypot(*(one.half_j for one in sums)),
        placing_j=math.fsum(one.placing_j for one in sums),
        in_step_cos_j=math.fsum(one.in_step_cos_j for one in sums),
        in_step_sin_j=math.fsum(one.in_step_sin_j for one in sums),
    )


def _random_of_part(terms: Sequence[tuple[float, Energy]]) -> RandomPart:
    placing_j = math.fsum(weight * energy.placing_j for weight, energy in terms)
    cos_j = math.fsum(weight * energy.in_step_cos_j for weight, energy in terms)
    sin_j = math.fsum(weight * energy.in_step_sin_j for weight, energy in terms)
    others = [(abs(weight) * (energy.random_j - energy.placing_j), weight, energy) for weight, energy in terms]
    vectors = [
        max(rest_j**2 - (weight * energy.in_step_cos_j) ** 2 - (weight * energy.in_step_sin_j) ** 2, 0.0)
        for rest_j, weight, energy in others
    ]
    in_step_j = math.hypot(math.sqrt(math.fsum(vectors)), cos_j, sin_j)
    rest_j = max(math.hypot(*(rest_j for rest_j, _, _ in others)), in_step_j)
    least_j = math.hypot(*(weight * energy.random_j for weight, energy in terms))
    return RandomPart(max(abs(placing_j) + rest_j, least_j), placing_j, cos_j, sin_j)


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum over parts, with its interval; `complete` is False where a part was absent or seconds are missing."""

    value_j: float
    low_j: float
    high_j: float
    basis: Basis
    complete: bool
    boundary: Boundary = Boundary.COMPONENTS
    absent: tuple[str, ...] = ()
    """Parts that are not in the sum."""
    share_by_basis: tuple[tuple[Basis, float], ...] = ()
    """Share of the value by basis, in Basis order; empty where the value is 0."""

    def __post_init__(self) -> None:
        if not self.low_j <= self.value_j <= self.high_j:
            raise ValueError(f"{self.value_j} J lies outside [{self.low_j}, {self.high_j}]")
        if self.absent and self.complete:
            raise ValueError(f"a total without {', '.join(self.absent)} is not complete")

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.total_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTotal:
    """A total that cannot be given, and why."""

    reason: str

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.no_total_html(self)
