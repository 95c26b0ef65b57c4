"""The ledger closes: children fit into their stage, and stages and the unallocated rest add up to the total."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from stillwatt.ledger.finding import Finding, Severity
from stillwatt.metering.totals import in_sum
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.run import RunRecord, StageRecord

RELATIVE_TOLERANCE = 1 / 1_000_000
"""Of the run's total: what rounding may do, and no more."""


def conservation_findings(record: RunRecord) -> Iterator[Finding]:
    """Sums of a record that do not close (method.md, eq. 12).

    A stage that nothing could be read in adds no joules, as in the total itself, and neither does one on a machine that
    is summed at another boundary; a run without a total has nothing to add up.
    """
    if isinstance(record.total, NoTotal):
        return
    slack_j = RELATIVE_TOLERANCE * max(1.0, abs(record.total.value_j))
    known = {stage.stage_id for stage in record.stages}
    outermost = [stage for stage in record.stages if stage.parent_id not in known]
    totals = [record.unallocated, *(stage.gross for stage in outermost)]
    sum_j = math.fsum(
        each.value_j for each in totals if isinstance(each, Total) and each.boundary is record.total.boundary
    )
    if abs(sum_j - record.total.value_j) > slack_j:
        yield _finding(
            record.run_id, f"stages and the rest add up to {sum_j!r} J, the run's total is {record.total.value_j!r} J"
        )
    for stage in record.stages:
        yield from _stage_findings(record, stage, slack_j)


def _stage_findings(record: RunRecord, stage: StageRecord, slack_j: float) -> Iterator[Finding]:
    where = f"{record.run_id}/{stage.stage_id}"
    if isinstance(stage.gross, Total):
        summed = in_sum(stage.energies, stage.gross.boundary)
        parts_j = math.fsum(energy.value_j for energy in summed if isinstance(energy, Energy))
        if abs(parts_j - stage.gross.value_j) > slack_j:
            yield _finding(where, f"its parts add up to {parts_j!r} J, its gross energy is {stage.gross.value_j!r} J")
    children = [child for child in record.stages if child.parent_id == stage.stage_id]
    for energy in stage.energies:
        if isinstance(energy, Absent) or not children:
            continue
        children_j = math.fsum(_part_j(child, energy.part) for child in children)
        own_j = energy.value_j - children_j
        # noise may make a short stage's own energy a little negative; its half-width says how much
        if own_j < -slack_j - energy.random_j - _random_j(children, energy.part):
            yield _finding(
                where, f"its children drew {children_j!r} J of {energy.part}, it drew {energy.value_j!r} J with them"
            )


def _part_j(stage: StageRecord, part: str) -> float:
    return math.fsum(e.value_j for e in stage.energies if isinstance(e, Energy) and e.part == part)


def _random_j(stages: Sequence[StageRecord], part: str) -> float:
    return math.fsum(e.random_j for stage in stages for e in stage.energies if isinstance(e, Energy) and e.part == part)


def _finding(where: str, message: str) -> Finding:
    return Finding(severity=Severity.ERROR, code="conservation", where=where, message=message)
