"""The use phase: metered energy to the node, to the facility, to impacts (method.md, eqs. 64 to 69).

Rows of runs and stages are worked through one at a time over all draws at once, so that memory stays that of a few
rows. A row without an energy takes nothing away in silence: its stage says what it lacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stillwatt.impact.draws import Draws, draw_energy, draw_factor, interval
from stillwatt.impact.site import FACTOR_OF, Site
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import Factor, NoFactor, Water
from stillwatt.records.impact import Cell, Impact, LifeStage, Status, Use
from stillwatt.units import Joules, to_kwh

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
OPERATIONAL = (
    LifeStage.DATA,
    LifeStage.EXPERIMENTATION,
    LifeStage.TRAINING,
    LifeStage.POST_TRAINING,
    LifeStage.DEPLOYMENT,
)
"""Stages in which something runs."""
NOTHING_RAN: Mapping[LifeStage, str] = {
    LifeStage.DATA: "no work on data is in the ledger; what was done before it is not known",
    LifeStage.EXPERIMENTATION: "no failed or discarded attempt is in the ledger; what was tried before it is not known",
    LifeStage.TRAINING: "pre-training of teacher and student is left out unless its energy is given",
    LifeStage.POST_TRAINING: "no training is in the ledger",
    LifeStage.DEPLOYMENT: "no serving scenario is given",
}
"""Why a stage without any use has no value."""
Interval = tuple[float, float, float]
"""Value, and the 5 % and 95 % points."""
_TO_NODE: Mapping[Boundary, str] = {
    Boundary.CHIP: "node_overhead",
    Boundary.BOARD: "node_overhead",
    Boundary.COMPONENTS: "components_to_node",
}
_IS_NODE = frozenset({Boundary.NODE, Boundary.WALL})
_STATUS = {Basis.MEASURED: Status.MEASURED, Basis.MODELLED: Status.MODELLED, Basis.ASSUMED: Status.FACTOR}


@dataclass(slots=True)
class _Sum:
    """One impact of one stage, under way."""

    value: float = 0.0
    draws: Draws | None = None
    status: Status | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    factors: dict[str, None] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    def add(self, value: float, draws: Draws, status: Status, boundary: Boundary, factors: Sequence[Factor]) -> None:
        """One row more; the status is that of the worst row."""
        self.value += value
        self.draws = draws.copy() if self.draws is None else np.add(self.draws, draws, out=self.draws)
        order = list(Status)
        self.status = status if self.status is None else max(self.status, status, key=order.index)
        self.boundaries.append(boundary)
        self.factors.update(dict.fromkeys(factor.id for factor in factors))


@dataclass(slots=True)
class _Level:
    """Energy of a row at one boundary: its value and draws in kWh, and what brought it there."""

    value: float
    draws: Draws
    status: Status
    boundary: Boundary
    factors: tuple[Factor, ...] = ()

    def times(self, factor: Factor, draws: Draws, boundary: Boundary) -> _Level:
        """The same a boundary further out."""
        return _Level(
            value=self.value * factor.value,
            draws=self.draws * draws,
            status=Status.FACTOR,
            boundary=boundary,
            factors=(*self.factors, factor),
        )


class Operational:
    """Impacts of a study's use phase.

    Args:
        uses: energy by run and life-cycle stage.
        site: where the work ran.
        draws: how many draws stand behind each interval.
        seed: of the draws; the same seed gives the same account.
    """

    def __init__(self, uses: Sequence[Use], site: Site, *, draws: int = 10_000, seed: int = 0) -> None:
        self._uses, self._site, self._count, self._seed = tuple(uses), site, draws, seed
        self._sums: dict[tuple[LifeStage, Impact], _Sum] = {}
        self._runs: dict[tuple[str, Impact], Interval | NoTotal] = {}
        self._drawn: dict[str, Draws] = {}
        for run in dict.fromkeys(use.run for use in self._uses):
            self._book_run(run)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the stages in which something runs."""
        return tuple(self._cell(stage, impact) for stage in OPERATIONAL for impact in Impact)

    def run_interval(self, run: str, impact: Impact) -> Interval | NoTotal:
        """Value and 90 % interval of one impact of one run, over all its stages."""
        return self._runs.get((run, impact), NoTotal(reason=f"no use of run {run!r}"))

    def shares_of_variance(self, impact: Impact) -> dict[str, float]:
        """Which input the doubt of an impact's total comes from, most first (method.md, eq. 69)."""
        sums = [found.draws for (_, of), found in self._sums.items() if of is impact and found.draws is not None]
        if not sums:
            return {}
        total = np.sum(sums, axis=0)
        used = {factor for (_, of), found in self._sums.items() if of is impact for factor in found.factors}
        inputs = {name: draws for name, draws in self._drawn.items() if name in used or name.startswith("meter ")}
        shares = {name: _squared_correlation(draws, total) for name, draws in inputs.items()}
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    def _book_run(self, run: str) -> None:
        """One run at a time: its draws are let go once its intervals are known."""
        sums: dict[Impact, _Sum] = {}
        for use in (use for use in self._uses if use.run == run):
            levels = dict(self._levels(use))
            for impact in _COUNTED:
                for found in (
                    self._sums.setdefault((use.stage, impact), _Sum()),
                    sums.setdefault(impact, _Sum()),
                ):
                    self._book_impact(found, use, impact, levels)
                    if isinstance(use.energy, Total) and not use.energy.complete:
                        found.lacking.append(f"{run}: without {', '.join(use.energy.absent) or 'some seconds'}")
        self._runs.update({(run, impact): _closed(found) for impact, found in sums.items()})

    def _book_impact(
        self, found: _Sum, use: Use, impact: Impact, levels: Mapping[Impact, _Level | NoFactor | NoTotal]
    ) -> None:
        base = levels[_BASE.get(impact, impact)]
        if not isinstance(base, _Level):
            found.lacking.append(f"{use.run}: {base.reason}")
            return
        if impact not in _BASE:
            found.add(base.value, base.draws, base.status, base.boundary, base.factors)
            return
        factor = self._site.factor(_QUANTITY[impact])
        if isinstance(factor, NoFactor):
            found.lacking.append(factor.reason)
            return
        level = base.times(factor, self._draw(factor), Boundary.FACILITY)
        found.add(level.value, level.draws, level.status, level.boundary, level.factors)

    def _levels(self, use: Use) -> Iterator[tuple[Impact, _Level | NoFactor | NoTotal]]:
        """The row's energy as metered, of the node, of the facility."""
        metered = self._metered(use)
        node = self._to_node(metered)
        yield Impact.ENERGY_METERED, metered
        yield Impact.ENERGY_NODE, node
        yield Impact.ENERGY_FACILITY, self._to_facility(metered, node)

    def _metered(self, use: Use) -> _Level | NoTotal:
        if not isinstance(use.energy, Total):
            return use.energy
        name = f"meter {use.meter}"
        draws = draw_energy(use.energy, use.meter, self._count, self._seed)
        self._drawn[name] = self._drawn.get(name, 0.0) + draws
        return _Level(
            value=to_kwh(Joules(use.energy.value_j)),
            draws=draws * to_kwh(Joules(1.0)),
            status=_STATUS[use.energy.basis],
            boundary=use.energy.boundary,
        )

    def _to_node(self, metered: _Level | NoTotal) -> _Level | NoFactor | NoTotal:
        if not isinstance(metered, _Level) or metered.boundary in _IS_NODE:
            return metered
        quantity = _TO_NODE.get(metered.boundary)
        if quantity is None:
            return NoTotal(
                reason=f"metered at the boundary {metered.boundary}, from which the node's energy is not known"
            )
        factor = self._site.factor(quantity)
        return factor if isinstance(factor, NoFactor) else metered.times(factor, self._draw(factor), Boundary.NODE)

    def _to_facility(self, metered: _Level | NoTotal, node: _Level | NoFactor | NoTotal) -> _Level | NoFactor | NoTotal:
        if isinstance(metered, _Level) and metered.boundary is Boundary.FACILITY:
            return metered
        if not isinstance(node, _Level):
            return node
        factor = self._site.factor("pue")
        return factor if isinstance(factor, NoFactor) else node.times(factor, self._draw(factor), Boundary.FACILITY)

    def _draw(self, factor: Factor) -> Draws:
        if factor.id not in self._drawn:
            self._drawn[factor.id] = draw_factor(factor, self._count, self._seed)
        return self._drawn[factor.id]

    def _cell(self, stage: LifeStage, impact: Impact) -> Cell:
        if impact is Impact.EWASTE:
            return _without(stage, impact, Status.NOT_APPLICABLE, "hardware's end of life is a stage of its own")
        found = self._sums.get((stage, impact))
        if found is None:
            return _without(stage, impact, Status.NOT_COUNTED, NOTHING_RAN[stage])
        lacking = tuple(dict.fromkeys(found.lacking))
        if found.draws is None or found.status is None:
            return _without(stage, impact, Status.NOT_COUNTED, "; ".join(lacking))
        boundaries = list(dict.fromkeys(found.boundaries))
        if len(boundaries) > 1:
            names = " and ".join(boundary.value for boundary in boundaries)
            return _without(
                stage, impact, Status.NOT_COUNTED, f"metered at unlike boundaries ({names}), which are never added"
            )
        low, high = interval(found.draws, found.value)
        return Cell(
            stage=stage,
            impact=impact,
            unit=UNITS[impact],
            status=found.status,
            value=found.value,
            low=low,
            high=high,
            boundary=boundaries[0],
            water=self._water(impact),
            factors=tuple(found.factors),
            incomplete=lacking,
            cautions=self._cautions(impact),
        )

    def _water(self, impact: Impact) -> Water | None:
        if impact not in (Impact.WATER_ONSITE, Impact.WATER_OFFSITE):
            return None
        factor = self._site.factor(_QUANTITY[impact])
        return factor.water if isinstance(factor, Factor) else None

    def _cautions(self, impact: Impact) -> tuple[str, ...]:
        return self._site.cautions(_QUANTITY[impact]) if impact in _QUANTITY else ()


_QUANTITY: Mapping[Impact, str] = {**FACTOR_OF, Impact.WATER_ONSITE: "wue"}
_BASE: Mapping[Impact, Impact] = {
    **dict.fromkeys(FACTOR_OF, Impact.ENERGY_FACILITY),
    Impact.WATER_ONSITE: Impact.ENERGY_NODE,
}
"""Which energy an impact is a multiple of: water at the site of the IT energy, all else of the facility's."""


_COUNTED = tuple(impact for impact in UNITS if impact is not Impact.EWASTE)


def _closed(found: _Sum) -> Interval | NoTotal:
    """Value and interval of a whole sum; an incomplete one has none."""
    if found.lacking or found.draws is None:
        return NoTotal(reason=f"incomplete: {'; '.join(dict.fromkeys(found.lacking))}")
    if len(set(found.boundaries)) > 1:
        return NoTotal(reason="metered at unlike boundaries, which are never added")
    return (found.value, *interval(found.draws, found.value))


def _without(stage: LifeStage, impact: Impact, status: Status, reason: str) -> Cell:
    return Cell(stage=stage, impact=impact, unit=UNITS[impact], status=status, reason=reason)


def _squared_correlation(one: Draws, other: Draws) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return (float(a @ b) / scale) ** 2 if scale > 0.0 else 0.0
