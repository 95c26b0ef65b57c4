"""From inputs to the whole account: eight stages, ten impacts, totals that name what they lack (method.md, eq. 75).

A function of its inputs alone: the same inputs give the same account.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stillwatt.impact.coverage import NOT_APPLICABLE, coverage, quality_class, score
from stillwatt.impact.downloads import book_downloads
from stillwatt.impact.draws import Draws, interval
from stillwatt.impact.embodied import Tallies, book_building, book_hardware
from stillwatt.impact.end_of_life import book_end_of_life
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.operational import OPERATIONAL, Operational
from stillwatt.impact.sums import missing_from, unlike_boundaries
from stillwatt.impact.tally import UNITS, Drawer, Tally, cell_of, without
from stillwatt.records.factor import Choice, Factor, Water
from stillwatt.records.impact import VALUED, Cell, Impact, LifeStage, Status
from stillwatt.records.lifecycle import Assessment, Count, Found, ImpactTotal, PerUnit, Swing

_SWINGS = 5
"""How many factors are followed to both ends of their interval."""
_NO_HARDWARE = "no device is known: give --device NAME"
_WHY_NOT: Mapping[Impact, str] = {
    Impact.WATER_ONSITE: "no water of this site goes into making or disposing",
    Impact.EWASTE: "hardware's end of life is a stage of its own",
}


def assess(inputs: Inputs) -> Assessment:
    """The account of these inputs."""
    account = _Account(inputs)
    cells = account.cells()
    factors = inputs.factors()
    classes = {(cell.stage, cell.impact): quality_class(cell, factors) for cell in cells if cell.status in VALUED}
    totals = tuple(account.total(impact, cells, classes) for impact in Impact)
    return Assessment(
        cells=cells,
        totals=totals,
        units=tuple(account.per_unit(count, cells, totals) for count in inputs.counts),
        coverage=coverage(cells, classes),
        classes=classes,
        swings=tuple(_swings(inputs, totals)),
    )


class _Account:
    """An account under way."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._drawer = Drawer(inputs.draws, inputs.seed)
        self._run = Operational(inputs.uses, inputs.site, drawer=self._drawer, by_run=False)
        book_downloads(self._run.tallies, inputs, self._drawer)
        self._tallies: Tallies = dict(self._run.tallies)
        node = [tally for stage in OPERATIONAL if (tally := self._tallies.get((stage, Impact.ENERGY_NODE)))]
        book_hardware(self._tallies, inputs, self._drawer)
        book_building(self._tallies, inputs, self._drawer, node)
        book_end_of_life(self._tallies, inputs, self._drawer)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell, stage by stage."""
        run = {(cell.stage, cell.impact): cell for cell in self._run.cells(self._inputs.lacks)}
        return tuple(
            run.get((stage, impact)) or self._hardware_cell(stage, impact) for stage in LifeStage for impact in Impact
        )

    def total(
        self, impact: Impact, cells: Sequence[Cell], classes: Mapping[tuple[LifeStage, Impact], str]
    ) -> ImpactTotal:
        """One impact over all stages that are counted."""
        of_it = [cell for cell in cells if cell.impact is impact]
        counted = [cell for cell in of_it if cell.status in VALUED]
        lacking = tuple(dict.fromkeys(missing_from(of_it)))
        covered = score(of_it, classes)
        value, draws, reason = self._sum(counted)
        empty = ImpactTotal(
            impact=impact,
            unit=UNITS[impact],
            value=None,
            low=None,
            high=None,
            stages=(),
            lacking=lacking,
            reason=reason,
            coverage=covered,
        )
        if draws is None:
            return empty
        low, high = interval(draws, value)
        used = {factor for cell in counted for factor in cell.factors}
        shares = tuple(self._drawer.shares(draws, used).items())
        stages = tuple(cell.stage for cell in counted)
        return replace(empty, value=value, low=low, high=high, stages=stages, shares=shares, reason="")

    def per_unit(self, count: Count, cells: Sequence[Cell], totals: Sequence[ImpactTotal]) -> PerUnit:
        """Impacts divided by a count (method.md, eq. 78)."""
        if count.count is None:
            return PerUnit(count=count, values=())
        found = self._of_stages(count.stages, cells) if count.stages else _numbers(totals)
        by = count.count
        return PerUnit(
            count=count, values=tuple((impact, v / by, low / by, high / by) for impact, (v, low, high) in found)
        )

    def _of_stages(
        self, stages: Sequence[LifeStage], cells: Sequence[Cell]
    ) -> Iterator[tuple[Impact, tuple[float, float, float]]]:
        wanted = [cell for cell in cells if cell.status in VALUED and cell.stage in stages]
        for impact in Impact:
            value, draws, _ = self._sum([cell for cell in wanted if cell.impact is impact])
            if draws is not None:
                yield impact, (value, *interval(draws, value))

    def _sum(self, cells: Sequence[Cell]) -> tuple[float, Draws | None, str]:
        """Value and draws of some cells of one impact, or why they are not added."""
        if not cells:
            return 0.0, None, "no stage is counted"
        boundaries = unlike_boundaries(cell.boundary for cell in cells if cell.boundary)
        waters = list(dict.fromkeys(cell.water.value if cell.water else "" for cell in cells))
        for kinds, what in ((list(boundaries), "boundaries"), (waters, "kinds of water")):
            if len(kinds) > 1:
                return 0.0, None, f"its stages are of unlike {what} ({' and '.join(kinds)}), which are never added"
        drawn = [self._tallies[cell.stage, cell.impact].draws for cell in cells]
        value = math.fsum(cell.value for cell in cells if cell.value is not None)
        return value, np.sum([draws for draws in drawn if draws is not None], axis=0), ""

    def _hardware_cell(self, stage: LifeStage, impact: Impact) -> Cell:
        if (stage, impact) in NOT_APPLICABLE:
            why = _WHY_NOT.get(impact, "no electricity of the work goes into it: its energy is in primary energy")
            return without(stage, impact, Status.NOT_APPLICABLE, why)
        lacks = [lack.reason for lack in self._inputs.lacks if lack.concerns(stage, impact)]
        if not self._inputs.held and stage is not LifeStage.INFRASTRUCTURE:
            lacks = lacks or [_NO_HARDWARE]
        water = Water.CONSUMPTION if impact is Impact.WATER_OFFSITE else None
        return cell_of(stage, impact, self._tallies.get((stage, impact), Tally()), water=water, lacks=lacks)


def _numbers(totals: Sequence[ImpactTotal]) -> Iterator[tuple[Impact, tuple[float, float, float]]]:
    for total in totals:
        if total.value is not None and total.low is not None and total.high is not None:
            yield total.impact, (total.value, total.low, total.high)


def _swings(inputs: Inputs, totals: Sequence[ImpactTotal]) -> Iterator[Swing]:
    """The total GWP at both ends of the factors that move it most, all else at its value (method.md, eq. 79)."""
    impact = Impact.GWP_LOCATION
    total = next(total for total in totals if total.impact is impact)
    factors = inputs.factors()
    for name in [name for name, _ in total.shares if name in factors][:_SWINGS]:
        factor = factors[name]
        ends = [_value_with(inputs, impact, replace(factor, value=end)) for end in (factor.low, factor.high)]
        if ends[0] is not None and ends[1] is not None:
            yield Swing(impact=impact, factor=name, at_low=ends[0], at_high=ends[1])


def _value_with(inputs: Inputs, impact: Impact, factor: Factor) -> float | None:
    changed = replace(
        inputs,
        draws=1,
        counts=(),
        site=replace(inputs.site, found=_put(inputs.site.found, factor)),
        shared=_put(inputs.shared, factor),
        held=tuple(replace(held, found=_put(held.found, factor)) for held in inputs.held),
        kept=tuple(replace(kept, found=_put({"": kept.found}, factor)[""]) for kept in inputs.kept),
        moved=tuple(replace(moved, found=_put({"": moved.found}, factor)[""]) for moved in inputs.moved),
    )
    account = _Account(changed)
    cells = [cell for cell in account.cells() if cell.impact is impact and cell.value is not None]
    return math.fsum(cell.value for cell in cells if cell.value is not None) if cells else None


def _put(found: Mapping[str, Found], factor: Factor) -> dict[str, Found]:
    return {
        name: replace(one, factor=factor) if isinstance(one, Choice) and one.factor.id == factor.id else one
        for name, one in found.items()
    }
