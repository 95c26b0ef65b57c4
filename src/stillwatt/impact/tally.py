"""Sums under way: one impact of one stage with its draws, and the draws of every input, each drawn once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stillwatt.impact.draws import Draws, draw_factor, interval
from stillwatt.records.factor import Factor, Water
from stillwatt.records.impact import Cell, Extent, Impact, LifeStage, Status

UNITS: Mapping[Impact, str] = {
    Impact.ENERGY_METERED: "kWh",
    Impact.ENERGY_NODE: "kWh",
    Impact.ENERGY_FACILITY: "kWh",
    Impact.PRIMARY_ENERGY: "MJ",
    Impact.GWP_LOCATION: "kgCO2e",
    Impact.GWP_MARKET: "kgCO2e",
    Impact.WATER_ONSITE: "L",
    Impact.WATER_OFFSITE: "L",
    Impact.ADPE: "kgSbeq",
    Impact.EWASTE: "kg",
}
"""The unit of each impact."""


@dataclass(slots=True)
class Tally:
    """One impact of one stage, under way."""

    value: float = 0.0
    draws: Draws | None = None
    status: Status | None = None
    boundaries: list[Extent] = field(default_factory=list)
    covers: dict[str, None] = field(default_factory=dict)
    factors: dict[str, None] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def add(self, value: float, draws: Draws, status: Status, boundary: Extent, factors: Iterable[Factor]) -> None:
        """One row more; the status is that of the worst row."""
        self.value += value
        self.draws = draws.copy() if self.draws is None else np.add(self.draws, draws, out=self.draws)
        order = list(Status)
        self.status = status if self.status is None else max(self.status, status, key=order.index)
        self.boundaries.append(boundary)
        self.factors.update(dict.fromkeys(factor.id for factor in factors))


class Drawer:
    """Draws by name: the same input is drawn once, wherever it is used.

    Args:
        count: how many draws stand behind each interval.
        seed: the same seed gives the same account.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.drawn: dict[str, Draws] = {}

    def factor(self, factor: Factor) -> Draws:
        """Draws of a factor."""
        if factor.id not in self.drawn:
            self.drawn[factor.id] = draw_factor(factor, self.count, self.seed)
        return self.drawn[factor.id]

    def shares(self, total: Draws, used: Iterable[str]) -> dict[str, float]:
        """Which input the doubt of a total comes from, most first (method.md, eq. 69).

        Args:
            total: draws of the total.
            used: ids of the factors that made it; meters are always looked at.
        """
        wanted = set(used)
        inputs = {name: draws for name, draws in self.drawn.items() if name in wanted or name.startswith("meter ")}
        shares = {name: _squared_correlation(draws, total) for name, draws in inputs.items()}
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def cell_of(
    stage: LifeStage,
    impact: Impact,
    tally: Tally,
    *,
    water: Water | None = None,
    cautions: Sequence[str] = (),
    lacks: Sequence[str] = (),
) -> Cell:
    """The cell of a finished sum: its value and interval, or why there is none."""
    lacking = tuple(dict.fromkeys((*tally.lacking, *lacks)))
    if tally.draws is None or tally.status is None:
        return without(stage, impact, Status.NOT_COUNTED, "; ".join(lacking) or "nothing is known of it")
    boundaries = list(dict.fromkeys(tally.boundaries))
    if len(boundaries) > 1:
        names = " and ".join(boundary.value for boundary in boundaries)
        return without(
            stage, impact, Status.NOT_COUNTED, f"metered at unlike boundaries ({names}), which are never added"
        )
    low, high = interval(tally.draws, tally.value)
    return Cell(
        stage=stage,
        impact=impact,
        unit=UNITS[impact],
        status=tally.status,
        value=tally.value,
        low=low,
        high=high,
        boundary=boundaries[0],
        covers=tuple(tally.covers),
        water=water,
        factors=tuple(tally.factors),
        incomplete=lacking,
        cautions=tuple(dict.fromkeys((*cautions, *tally.cautions))),
    )


def without(stage: LifeStage, impact: Impact, status: Status, reason: str) -> Cell:
    """A cell that has no value."""
    return Cell(stage=stage, impact=impact, unit=UNITS[impact], status=status, reason=reason)


def _squared_correlation(one: Draws, other: Draws) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return (float(a @ b) / scale) ** 2 if scale > 0.0 else 0.0
