"""What a run used beside its trainings' bills: both together are the run's total, so nothing is lost or counted twice.

total = sum of billed stages, each once + sum of the remainder                                             [J]
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from stillwatt.analysis.bills import Weights, add, price
from stillwatt.analysis.bookings import REUSED_FROM, TEACHER_KINDS, Bookings
from stillwatt.records.comparison import Unbilled
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import Bill
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind

_REASONS = {
    StageKind.IDLE_BASELINE: "idle power, measured to be compared with",
    StageKind.SERVE: "serving, which T* is about",
    StageKind.PREPARE_DATA: "prepared for no training that is compared here",
    StageKind.EVALUATE: "not the evaluation of a training's last checkpoint",
    StageKind.STUDENT_TRAIN: "a training that is not compared here",
}
_TEACHER = "the teacher's work, and no training names what it made"


def remainder(run: RunRecord, bookings: Bookings, billed: Collection[str]) -> tuple[Unbilled, ...]:
    """Every stage that is neither billed nor inside a billed one, and what lies between stages.

    Args:
        run: The run.
        bookings: Its stages, sorted.
        billed: Ids of the stages on some training's bill.
    """
    ids = {stage.stage_id for stage in run.stages}
    children: dict[str | None, list[StageRecord]] = {}
    for stage in run.stages:
        children.setdefault(stage.parent_id if stage.parent_id in ids else None, []).append(stage)
    lost = {stage.stage_id for stage in bookings.lost}
    walk = _Walk(run=run, book=bookings.book, children=children, billed=billed, lost=lost)
    found = [entry for root in children.get(None, []) for entry in walk.visit(root)]
    between = run.unallocated
    if isinstance(between, NoTotal) or between.value_j != 0.0:
        energy_j, why = (None, between.reason) if isinstance(between, NoTotal) else (between.value_j, "in no stage")
        found.append(Unbilled(run_id=run.run_id, stage="unallocated", energy_j=energy_j, reason=why))
    return tuple(found)


def without_inner(run: RunRecord, stage_id: str, billed: Collection[str]) -> Weights:
    """A billed stage less the billed ones inside it, so that the bills of nested stages add up."""
    parents = {stage.stage_id: stage.parent_id for stage in run.stages}
    weights = {stage_id: 1.0}
    for inner in billed:
        above = parents.get(inner)
        while above is not None and above not in billed:
            above = parents.get(above)
        if above == stage_id:
            weights[inner] = -1.0
    return weights


class _Walk:
    """Down the tree of stages."""

    def __init__(
        self,
        *,
        run: RunRecord,
        book: Mapping[str, StageRecord],
        children: Mapping[str | None, Sequence[StageRecord]],
        billed: Collection[str],
        lost: Collection[str],
    ) -> None:
        self._run, self._book, self._children, self._billed, self._lost = run, book, children, billed, lost

    def visit(self, stage: StageRecord) -> Iterator[Unbilled]:
        """What of a stage, and of those inside it, is on no bill."""
        if stage.stage_id in self._billed:
            return
        inner = self._children.get(stage.stage_id, []) if self._holds_billed(stage) else []
        beside = add({stage.stage_id: 1.0}, *({child.stage_id: -1.0} for child in inner))
        yield self._entry(stage, beside, f"{stage.name} (beside its stages)" if inner else stage.name)
        for child in inner:
            yield from self.visit(child)

    def _holds_billed(self, stage: StageRecord) -> bool:
        return any(
            child.stage_id in self._billed or self._holds_billed(child)
            for child in self._children.get(stage.stage_id, [])
        )

    def _entry(self, stage: StageRecord, weights: Weights, name: str) -> Unbilled:
        bill = price(self._book, weights)
        if isinstance(bill, Bill):
            return Unbilled(run_id=self._run.run_id, stage=name, energy_j=bill.value_j, reason=self._reason(stage))
        return Unbilled(
            run_id=self._run.run_id, stage=name, energy_j=None, reason=f"{self._reason(stage)}; {bill.reason}"
        )

    def _reason(self, stage: StageRecord) -> str:
        if stage.stage_id in self._lost:
            return f"experimentation: an attempt that {stage.status.value}"
        if REUSED_FROM in stage.labels:
            return f"looking up what run {stage.labels[REUSED_FROM]} made, which is on the bills"
        if stage.kind in TEACHER_KINDS:
            return _TEACHER
        return _REASONS.get(stage.kind, f"a stage of kind {stage.kind.value}, which belongs to no training")
