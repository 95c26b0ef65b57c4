"""The stage table: where the joules went, closing with the run's total (method.md, eqs. 12 and 21)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.analysis.arms import REFERENCE_ARMS
from stillwatt.analysis.bills import Weights, add, price
from stillwatt.analysis.bookings import REUSED_FROM, TEACHER_KINDS, Bookings, artifact_of
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.finding import Bill, StageGroup, StageRow, StageTable
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import JUDGED_AS, RANK, StageKind, joint_s

_TOLERANCE_REL = 0.000_01
"""The rows and the total are summed in different orders by different code; more than this is a fault."""

_VERBS = {StageKind.STUDENT_TRAIN: "train", StageKind.EVALUATE: "evaluate", StageKind.SERVE: "serve"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One stage, or what is left of it beside its children."""

    group: StageGroup
    arm: str
    label: str
    stage: StageRecord
    weights: Weights
    duration_s: float
    rank: str | None
    """Whose part of a launch's work it is; None where it is nobody's."""


def stage_table(run: RunRecord, bookings: Bookings) -> StageTable:
    """One row for each kind of work of each arm, plus unallocated, equals the total (method.md, eq. 12).

    A stage with children is shown as its children and what is left of it; a lost attempt is one row with all that
    is inside it. `residual_j` is what does not add up; it is 0 up to rounding for a ledger that closes.
    """
    users = _artifact_users(bookings)
    children: dict[str | None, list[StageRecord]] = {}
    ids = {stage.stage_id for stage in run.stages}
    for stage in run.stages:
        parent = stage.parent_id if stage.parent_id in ids else None
        children.setdefault(parent, []).append(stage)
    parts = [part for root in children.get(None, []) for part in _flatten(root, children, bookings, users, None)]
    merged: dict[tuple[StageGroup, str, str], list[_Part]] = {}
    for part in parts:
        merged.setdefault((part.group, part.arm, part.label), []).append(part)
    rows = tuple(_row(entries, bookings) for entries in merged.values())
    residual_j = _residual(rows, run.unallocated, run.total)
    closes = None
    if residual_j is not None and isinstance(run.total, Total):
        closes = math.isclose(residual_j, 0.0, abs_tol=_TOLERANCE_REL * max(abs(run.total.value_j), 1.0))
    return StageTable(rows=rows, unallocated=run.unallocated, total=run.total, residual_j=residual_j, closes=closes)


def _flatten(
    stage: StageRecord,
    children: Mapping[str | None, Sequence[StageRecord]],
    bookings: Bookings,
    users: Mapping[str, str],
    around: _Part | None,
) -> Iterator[_Part]:
    is_lost = stage in bookings.lost
    inner = [] if is_lost else children.get(stage.stage_id, [])
    group, arm, label = _place(stage, users, is_lost=is_lost)
    if group is StageGroup.OTHER and around is not None:
        # what a stage holds is on the bill that the stage is on
        group, arm = around.group, around.arm
    own = _Part(
        group=group,
        arm=arm,
        label=f"{label} (beside its stages)" if inner else label,
        stage=stage,
        weights=add({stage.stage_id: 1.0}, *({child.stage_id: -1.0} for child in inner)),
        duration_s=max(stage.duration_s - sum(child.duration_s for child in inner), 0.0),
        rank=stage.labels.get(RANK, around.rank if around else None),
    )
    yield own
    for child in inner:
        yield from _flatten(child, children, bookings, users, own)


def _place(stage: StageRecord, users: Mapping[str, str], *, is_lost: bool) -> tuple[StageGroup, str, str]:
    """Group, arm and label of a stage's row."""
    arm = stage.labels.get("arm", "")
    if is_lost:
        return StageGroup.EXPERIMENTATION, arm, f"{stage.name}, {stage.status.value}"
    if stage.kind is StageKind.PREPARE_DATA:
        return StageGroup.SHARED, "", stage.name
    if stage.kind in TEACHER_KINDS:
        label = f"{stage.name}, made before" if REUSED_FROM in stage.labels else stage.name
        return StageGroup.TEACHER, users.get(artifact_of(stage), arm), label
    if stage.kind in (StageKind.IDLE_BASELINE, StageKind.SERVE) or arm in REFERENCE_ARMS:
        return StageGroup.OVERHEAD, "", stage.name
    if arm:
        verb = "judge" if JUDGED_AS in stage.labels else _VERBS.get(stage.kind, stage.name)
        return StageGroup.ARM, arm, verb
    return StageGroup.OTHER, "", stage.name


def _artifact_users(bookings: Bookings) -> dict[str, str]:
    """The arms that train on each artefact, as one text."""
    users: dict[str, list[str]] = {}
    for stage in bookings.ended:
        if stage.kind is StageKind.STUDENT_TRAIN and artifact_of(stage):
            arms = users.setdefault(artifact_of(stage), [])
            arm = stage.labels.get("arm", stage.name)
            if arm not in arms:
                arms.append(arm)
    return {artifact: ", ".join(arms) for artifact, arms in users.items()}


def _row(parts: Sequence[_Part], bookings: Bookings) -> StageRow:
    counts = [part.stage.workload.get("tokens") for part in parts]
    known = [count for count in counts if count is not None]
    # a rank that had no part in what is counted counts nothing
    is_counted = all(count is not None or part.rank is not None for part, count in zip(parts, counts, strict=True))
    return StageRow(
        group=parts[0].group,
        arm=parts[0].arm,
        label=parts[0].label,
        kind=parts[0].stage.kind,
        stage_ids=tuple(part.stage.stage_id for part in parts),
        duration_s=joint_s((part.rank, part.duration_s) for part in parts),
        tokens=sum(known) if known and is_counted else None,
        energy=_energy(parts, bookings),
    )


def _energy(parts: Sequence[_Part], bookings: Bookings) -> Bill | NoTotal:
    found = price(bookings.book, add(*(part.weights for part in parts)))
    makers = [part.stage.labels[REUSED_FROM] for part in parts if REUSED_FROM in part.stage.labels]
    if makers and isinstance(found, NoTotal):
        return NoTotal(reason=f"booked in run {makers[0]}, which made the artefact")
    return found


def _residual(rows: Sequence[StageRow], unallocated: Total | NoTotal, total: Total | NoTotal) -> float | None:
    if isinstance(unallocated, NoTotal) or isinstance(total, NoTotal):
        return None
    values = [row.energy.value_j for row in rows if not isinstance(row.energy, NoTotal)]
    return total.value_j - unallocated.value_j - math.fsum(values)
