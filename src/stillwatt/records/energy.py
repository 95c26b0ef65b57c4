"""Energies with their intervals, and what stands in their place when there is none.

The interval of an energy has two parts that behave differently: `random_j`, which shrinks with repeats
(sampling, counter steps, edges, gaps), and the systematic part (`systematic_low_j`, `systematic_high_j`: the
instrument's gain, a model's parameters), which does not. docs/method.md, eqs. 6, 7 and 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stillwatt.records.channel import Basis, Boundary

STATED = "stated"
"""The method of an energy that another tool's file states and that no reading here stands behind."""


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
    `witness-disagrees`."""

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
        """Lower end of the 95 % interval (method.md, eq. 9): random and systematic parts in quadrature."""
        return self.value_j - math.hypot(self.random_j, self.systematic_low_j)

    @property
    def high_j(self) -> float:
        """Upper end of the 95 % interval (method.md, eq. 9)."""
        return self.value_j + math.hypot(self.random_j, self.systematic_high_j)

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.energy_html(self)


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
