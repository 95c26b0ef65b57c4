"""Sums of stage energies with weights, random and systematic parts kept apart to the end.

A bill is a linear combination of stages, so that a stage that two bills share cancels in their difference and is
counted once in their sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from stillwatt.records.channel import Basis, is_summed, worst_basis
from stillwatt.records.energy import Absent, Energy, NoTotal, Total, random_of_sum
from stillwatt.records.finding import Bill
from stillwatt.records.run import StageRecord

Weights = Mapping[str, float]
"""How much of each stage, by the stage's key in the book."""


def add(*parts: Weights, factor: float = 1.0) -> dict[str, float]:
    """Sum of several combinations, times a factor.

    >>> add({"a1": 1.0}, {"a1": 0.5, "a2": 1.0}, factor=2.0)
    {'a1': 3.0, 'a2': 2.0}
    """
    total: dict[str, float] = defaultdict(float)
    for part in parts:
        for key, weight in part.items():
            total[key] += weight * factor
    return dict(total)


def price(book: Mapping[str, StageRecord], weights: Weights) -> Bill | NoTotal:
    """Energy of a combination of stages, at the boundary at which each is summed (method.md, eqs. 10, 11 and 128).

        E = sum_s w_s sum_p E_sp ;  random: quadrature over stages and parts, vectors for what is in step
        systematic: linear within a driver, quadrature between drivers                                    [J]

    Args:
        book: Stages by key.
        weights: How much of each; a weight of 0 leaves the stage out, with whatever is unknown about it.

    Returns:
        The bill, incomplete where a part is absent; NoTotal where a whole stage has no energy at all.
    """
    counted = {key: weight for key, weight in weights.items() if weight != 0.0}
    terms: list[tuple[float, Energy]] = []
    absent: list[str] = []
    for key, weight in counted.items():
        known, unknown = _parts(book[key])
        if not known:
            return NoTotal(reason=_why_nothing(book[key], unknown))
        terms += [(weight, energy) for energy in known]
        absent += [f"{gap.part} in {book[key].name}: {gap.reason}" for gap in unknown]
    low_j, high_j = _systematic(terms)
    return Bill(
        value_j=math.fsum(weight * energy.value_j for weight, energy in terms),
        random_j=random_of_sum(terms).half_j,
        systematic_low_j=low_j,
        systematic_high_j=high_j,
        basis=_basis([energy.basis for _, energy in terms]),
        complete=not absent and all(energy.missing_s == 0.0 for _, energy in terms),
        absent=tuple(absent),
        drivers=tuple(sorted({energy.driver for _, energy in terms})),
    )


def lacking(bill: Bill, *others: Bill) -> tuple[str, ...]:
    """What a bill lacks and none of the others does, so that they cannot be held against each other as they are.

    A part that no stage could read is lacking in all of them alike; one of another machine in the teacher's work alone.
    """
    common = {text.partition(" in ")[0] for other in others for text in other.absent}
    return tuple(text for text in bill.absent if text.partition(" in ")[0] not in common)


def _parts(stage: StageRecord) -> tuple[list[Energy], list[Absent]]:
    """What of a stage is in its gross energy, and what is absent from it; a stage without one has all absent."""
    if not isinstance(stage.gross, Total):
        return [], [part for part in stage.energies if isinstance(part, Absent)]
    inside = [part for part in stage.energies if is_summed(part.boundary, stage.gross.boundary)]
    return [p for p in inside if isinstance(p, Energy)], [p for p in inside if isinstance(p, Absent)]


def _why_nothing(stage: StageRecord, unknown: list[Absent]) -> str:
    reasons = "; ".join(f"{gap.part}: {gap.reason}" for gap in unknown)
    if not reasons:
        reasons = stage.gross.reason if isinstance(stage.gross, NoTotal) else "none of its parts was metered"
    return f"{stage.name} has no energy ({reasons})"


def _basis(bases: list[Basis]) -> Basis | None:
    return worst_basis(bases) if bases else None


def _systematic(terms: list[tuple[float, Energy]]) -> tuple[float, float]:
    """Half-widths below and above: each driver's gain moves all its terms together, drivers move apart."""
    down: dict[str, float] = defaultdict(float)
    up: dict[str, float] = defaultdict(float)
    for weight, energy in terms:
        down[energy.driver] += weight * energy.systematic_low_j
        up[energy.driver] += weight * energy.systematic_high_j
    # in a difference the same low gain can raise the result: take whichever way each end moves it
    low = [max(down[driver], -up[driver], 0.0) for driver in down]
    high = [max(up[driver], -down[driver], 0.0) for driver in down]
    return math.hypot(*low), math.hypot(*high)
