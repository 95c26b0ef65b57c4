"""The use phase: metered energy to the node, to the facility, to impacts (method.md, eqs. 64 to 69).

Rows of runs and stages are worked through one at a time over all draws at once, so that memory stays that of a few
rows. A row without an energy takes nothing away in silence: its stage says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.impact.draws import Draws, draw_energy, interval
from stillwatt.impact.site import FACTOR_OF, Site
from stillwatt.impact.tally import UNITS, Drawer, Tally, cell_of, without
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import Factor, NoFactor, Water
from stillwatt.records.impact import Cell, Impact, LifeStage, Status, Use
from stillwatt.records.lifecycle import Lack
from stillwatt.units import Joules, to_kwh

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
    LifeStage.TRAINING: "pre-training of teacher and student is left out unless its energy is given (--pretraining)",
    LifeStage.POST_TRAINING: "no training is in the ledger",
    LifeStage.DEPLOYMENT: "nothing was served in these runs",
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
        drawer: where inputs are drawn, shared with other parts of an account; it has its own draws and seed.
        by_run: whether each run's own intervals are wanted; without them it takes half the time.
    """

    def __init__(
        self,
        uses: Sequence[Use],
        site: Site,
        *,
        draws: int = 10_000,
        seed: int = 0,
        drawer: Drawer | None = None,
        by_run: bool = True,
    ) -> None:
        self._uses, self._site = tuple(uses), site
        self._drawer = drawer or Drawer(draws, seed)
        self.tallies: dict[tuple[LifeStage, Impact], Tally] = {}
        self._runs: dict[tuple[str, Impact], Interval | NoTotal] = {}
        for run in dict.fromkeys(use.run for use in self._uses):
            self._book_run(run, by_run=by_run)

    def cells(self, lacks: Sequence[Lack] = ()) -> tuple[Cell, ...]:
        """Every cell of the stages in which something runs.

        Args:
            lacks: what belongs to these stages and is in no use.
        """
        return tuple(
            self._cell(stage, impact, [lack.reason for lack in lacks if lack.concerns(stage, impact)])
            for stage in OPERATIONAL
            for impact in Impact
        )

    def run_interval(self, run: str, impact: Impact) -> Interval | NoTotal:
        """Value and 90 % interval of one impact of one run, over all its stages."""
        return self._runs.get((run, impact), NoTotal(reason=f"no use of run {run!r}"))

    def shares_of_variance(self, impact: Impact) -> dict[str, float]:
        """Which input the doubt of an impact's total comes from, most first (method.md, eq. 69)."""
        sums = [found.draws for (_, of), found in self.tallies.items() if of is impact and found.draws is not None]
        if not sums:
            return {}
        used = {factor for (_, of), found in self.tallies.items() if of is impact for factor in found.factors}
        return self._drawer.shares(np.sum(sums, axis=0), used)

    def _book_run(self, run: str, *, by_run: bool) -> None:
        """One run at a time: its draws are let go once its intervals are known."""
        sums: dict[Impact, Tally] = {}
        for use in (use for use in self._uses if use.run == run):
            levels = dict(self._levels(use))
            for impact in _COUNTED:
                stage = self.tallies.setdefault((use.stage, impact), Tally())
                for found in (stage, sums.setdefault(impact, Tally())) if by_run else (stage,):
                    self._book_impact(found, use, impact, levels)
                    if isinstance(use.energy, Total) and not use.energy.complete:
                        found.lacking.append(f"{run}: without {', '.join(use.energy.absent) or 'some seconds'}")
        self._runs.update({(run, impact): _closed(found) for impact, found in sums.items()})

    def _book_impact(
        self, found: Tally, use: Use, impact: Impact, levels: Mapping[Impact, _Level | NoFactor | NoTotal]
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
        level = base.times(factor, self._drawer.factor(factor), Boundary.FACILITY)
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
        draws = draw_energy(use.energy, use.meter, self._drawer.count, self._drawer.seed)
        drawn = self._drawer.drawn
        drawn[name] = drawn.get(name, 0.0) + draws
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
        return (
            factor
            if isinstance(factor, NoFactor)
            else metered.times(factor, self._drawer.factor(factor), Boundary.NODE)
        )

    def _to_facility(self, metered: _Level | NoTotal, node: _Level | NoFactor | NoTotal) -> _Level | NoFactor | NoTotal:
        if isinstance(metered, _Level) and metered.boundary is Boundary.FACILITY:
            return metered
        if not isinstance(node, _Level):
            return node
        factor = self._site.factor("pue")
        return (
            factor
            if isinstance(factor, NoFactor)
            else node.times(factor, self._drawer.factor(factor), Boundary.FACILITY)
        )

    def _cell(self, stage: LifeStage, impact: Impact, lacks: Sequence[str]) -> Cell:
        if impact is Impact.EWASTE:
            return without(stage, impact, Status.NOT_APPLICABLE, "hardware's end of life is a stage of its own")
        found = self.tallies.get((stage, impact))
        if found is None:
            reasons = dict.fromkeys((NOTHING_RAN[stage], *lacks))
            return without(stage, impact, Status.NOT_COUNTED, "; ".join(reasons))
        return cell_of(stage, impact, found, water=self._water(impact), cautions=self._cautions(impact), lacks=lacks)

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


def _closed(found: Tally) -> Interval | NoTotal:
    """Value and interval of a whole sum; an incomplete one has none."""
    if found.lacking or found.draws is None:
        return NoTotal(reason=f"incomplete: {'; '.join(dict.fromkeys(found.lacking))}")
    if len(set(found.boundaries)) > 1:
        return NoTotal(reason="metered at unlike boundaries, which are never added")
    return (found.value, *interval(found.draws, found.value))
