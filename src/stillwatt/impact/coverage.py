"""The coverage score: how much of stages × impacts is counted, and how well (method.md, eq. 76)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from stillwatt.records.factor import Factor
from stillwatt.records.impact import VALUED, Cell, Impact, LifeStage, Status
from stillwatt.records.lifecycle import Coverage

STAGE_WEIGHTS: Mapping[LifeStage, float] = dict.fromkeys(LifeStage, 1.0)
"""All eight alike: a stage that is thought small weighs no less until it is counted."""
IMPACT_WEIGHTS: Mapping[Impact, float] = {
    Impact.ENERGY_METERED: 0.25,
    Impact.ENERGY_NODE: 0.25,
    Impact.ENERGY_FACILITY: 0.25,
    Impact.PRIMARY_ENERGY: 0.25,
    Impact.GWP_LOCATION: 0.5,
    Impact.GWP_MARKET: 0.5,
    Impact.WATER_ONSITE: 0.5,
    Impact.WATER_OFFSITE: 0.5,
    Impact.ADPE: 1.0,
    Impact.EWASTE: 1.0,
}
"""Energy, climate, water, materials and waste weigh 1 each, shared evenly by the impacts of a kind."""
CLASSES: Mapping[str, float] = {"A": 1.0, "B": 0.8, "C": 0.6, "D": 0.4}
"""Data quality: A measured; B modelled; C by factors that were read in their sources; D by one that was not."""
INCOMPLETE = 0.5
"""What remains of a cell's weight where something that belongs to it is not in it."""
NOT_APPLICABLE: frozenset[tuple[LifeStage, Impact]] = frozenset(
    {
        *(
            (stage, impact)
            for stage in (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE, LifeStage.END_OF_LIFE)
            for impact in (
                Impact.ENERGY_METERED,
                Impact.ENERGY_NODE,
                Impact.ENERGY_FACILITY,
                Impact.WATER_ONSITE,
            )
        ),
        *((stage, Impact.EWASTE) for stage in LifeStage if stage is not LifeStage.END_OF_LIFE),
    }
)
"""Cells that do not exist; no other may be called not applicable, so nobody can raise a score by saying so."""


def quality_class(cell: Cell, factors: Mapping[str, Factor]) -> str:
    """The data-quality class of a cell that has a value.

    Args:
        cell: the cell.
        factors: factors by id; one that is not there was read by nobody.
    """
    if cell.status is Status.MEASURED:
        return "A"
    if cell.status is Status.MODELLED:
        return "B"
    known = [factors.get(name) for name in cell.factors]
    return "C" if known and all(factor is not None and factor.verified for factor in known) else "D"


def score(cells: Sequence[Cell], classes: Mapping[tuple[LifeStage, Impact], str]) -> float:
    """The score of some cells, 0 to 1; 0 where none applies (method.md, eq. 76).

    Adding a measured cell never lowers it: a cell adds at most as much above the line as below it.
    """
    reached = whole = 0.0
    for cell in cells:
        if cell.status is Status.NOT_APPLICABLE:
            continue
        weight = STAGE_WEIGHTS[cell.stage] * IMPACT_WEIGHTS[cell.impact]
        whole += weight
        if cell.status in VALUED:
            reached += weight * CLASSES[classes[cell.stage, cell.impact]] * (INCOMPLETE if cell.incomplete else 1.0)
    return reached / whole if whole else 0.0


def coverage(cells: Sequence[Cell], classes: Mapping[tuple[LifeStage, Impact], str]) -> Coverage:
    """Score of an account, in all, by stage and by impact."""
    best = dict.fromkeys(classes, "A")
    statuses = Counter(cell.status.value for cell in cells)
    return Coverage(
        score=score(cells, classes),
        counted=score(cells, best),
        by_stage=tuple((stage, score([c for c in cells if c.stage is stage], classes)) for stage in LifeStage),
        by_impact=tuple((impact, score([c for c in cells if c.impact is impact], classes)) for impact in Impact),
        by_status=tuple((status.value, statuses.get(status.value, 0)) for status in Status),
    )
