"""What networks use for bytes that were fetched, into the data stage by factors (method.md, eq. 114).

A network is no part of the node that was metered: its electricity is the facility's of somebody else, and the impacts
are those of the grid where the work ran, which stands in for the grids on the way.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stillwatt.impact.embodied import Tallies
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.operational import NOTHING_RAN
from stillwatt.impact.site import FACTOR_OF
from stillwatt.impact.tally import Drawer, Tally
from stillwatt.records.channel import Boundary
from stillwatt.records.factor import Choice, Factor, NoFactor
from stillwatt.records.impact import Impact, LifeStage, Status
from stillwatt.records.lifecycle import Moved
from stillwatt.units import BYTES_PER_GB

CONCERNED = (Impact.ENERGY_FACILITY, Impact.WATER_ONSITE, *FACTOR_OF)
"""Impacts that a download has; none of it is metered, nor of the node."""
_UNKNOWN = {
    Impact.GWP_MARKET: "networks buy by contracts that are not known",
    Impact.WATER_ONSITE: "water at the network's sites is not known",
}
_STANDS_IN = "downloads: the grid of the place stands in for those along the way"
_OLD = "downloads: electricity of a network halved about every two years, and its year is in the factor"


def book_downloads(tallies: Tallies, inputs: Inputs, drawer: Drawer) -> None:
    """Electricity of networks and what comes of it, into `data`.

    Args:
        tallies: sums under way; a stage in which nothing ran goes on saying so.
        inputs: the account's inputs.
        drawer: where inputs are drawn.
    """
    if not inputs.moved:
        return
    is_alone = (LifeStage.DATA, Impact.ENERGY_METERED) not in tallies
    for impact in CONCERNED:
        tally = tallies.setdefault((LifeStage.DATA, impact), Tally())
        if is_alone:
            tally.lacking.append(NOTHING_RAN[LifeStage.DATA])
        for moved in inputs.moved:
            _book(tally, impact, moved, inputs, drawer)


def _book(tally: Tally, impact: Impact, moved: Moved, inputs: Inputs, drawer: Drawer) -> None:
    what = f"download of {moved.what}"
    if impact in _UNKNOWN:
        tally.lacking.append(f"{what}: {_UNKNOWN[impact]}")
        return
    lacking = list(_lacking(impact, moved, inputs))
    if lacking or not isinstance(moved.found, Choice):
        tally.lacking += [f"{what}: {reason}" for reason in lacking]
        return
    size_gb, factors = moved.size_bytes / BYTES_PER_GB, [moved.found.factor]
    if impact in FACTOR_OF and isinstance(grid := inputs.site.factor(FACTOR_OF[impact]), Factor):
        factors.append(grid)
    value, draws = size_gb, np.full(drawer.count, size_gb)
    for factor in factors:
        value, draws = value * factor.value, draws * drawer.factor(factor)
    tally.add(value, draws, Status.FACTOR, Boundary.FACILITY, factors)
    tally.cautions += [*moved.found.cautions, _OLD, *([_STANDS_IN] if len(factors) > 1 else [])]


def _lacking(impact: Impact, moved: Moved, inputs: Inputs) -> Iterator[str]:
    if isinstance(moved.found, NoFactor):
        yield moved.found.reason
    if impact in FACTOR_OF and isinstance(grid := inputs.site.factor(FACTOR_OF[impact]), NoFactor):
        yield grid.reason
