"""Budgets as rows of the account: what an arm or a run was to take, and what the books say that it took (eq. 135)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.stop import UNREAD
from stillwatt.records.window import RANK, StageKind, StageStatus, joint_s

if TYPE_CHECKING:
    from stillwatt.records.run import RunRecord, StageRecord

__all__ = ["BudgetRow", "budget_rows"]

_JOULES, _SECONDS = "J", "s"
STOPPED_BY = "stopped_by"
"""Where a training's results say which budget ended it."""
_BUDGETS = "budgets"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """One budget of a run that was held to."""

    of: str
    """`arm` or `run`."""
    name: str
    """The arm's id; empty for the run's."""
    said: str
    """As the recipe writes it."""
    unit: str
    """`J`, `s` or `tokens`."""
    amount: float
    spent: float | NoTotal
    """Of an arm: its training with all inside it, and its share of the teacher's artefact. Of a run: all of it."""
    half_step: float | NoTotal
    """Half of what a step of the last training took, on average: whole steps keep a budget no closer."""
    is_reached: bool
    """Whether the budget ended a training; else its text did, or what `unread` says."""
    unread: str = ""
    """Which energy was not read any more, where that ended the training; empty where nothing of the kind did."""
    is_at_least: bool = False
    """Whether more was spent than is known: a part was absent, or seconds are missing."""

    def to_dict(self) -> dict[str, Any]:
        """The row's part of the contract `stillwatt.run/1`."""
        return {
            "of": self.of,
            "name": self.name,
            "said": self.said,
            "unit": self.unit,
            "amount": self.amount,
            "spent": _told(self.spent),
            "half_step": _told(self.half_step),
            "reached": self.is_reached,
            **({"unread": self.unread} if self.unread else {}),
            **({"at_least": True} if self.is_at_least else {}),
        }


def budget_rows(run: RunRecord, fate: Mapping[str, StageStatus]) -> tuple[BudgetRow, ...]:
    """A row for each arm that had a budget, in the order of training, and one for the run where it had one.

    Args:
        run: The run.
        fate: What became of each stage's work, by its id (`records.run.fates`).
    """
    arms: dict[str, list[StageRecord]] = {}
    for stage in run.stages:
        if stage.kind is StageKind.STUDENT_TRAIN and fate[stage.stage_id] is StageStatus.ENDED:
            arms.setdefault(stage.labels.get("arm", ""), []).append(stage)
    return (*(row for arm, stages in arms.items() for row in _of_arm(arm, stages)), *_of_run(run, arms))


def _of_arm(arm: str, stages: Sequence[StageRecord]) -> Iterator[BudgetRow]:
    limit = _limit(stages, "arm")
    if limit is not None:
        spent = _spent(stages, limit["unit"])
        if isinstance(spent, float) and limit["unit"] == _JOULES:
            spent += limit["teacher_j"]
        totals = [stage.gross for stage in stages] if limit["unit"] == _JOULES else []
        yield _row(arm, limit, spent, stages, totals, is_reached=_stopped_by(stages).startswith("its budget"))


def _of_run(run: RunRecord, arms: Mapping[str, Sequence[StageRecord]]) -> Iterator[BudgetRow]:
    held = [stages for stages in arms.values() if _limit(stages, "run") is not None]
    if not held:
        return
    limit = _limit(held[-1], "run")
    assert limit is not None
    spent: float | NoTotal
    if limit["unit"] == _JOULES:
        spent = run.total.value_j if isinstance(run.total, Total) else run.total
    elif limit["unit"] == _SECONDS:
        spent = run.duration_s
    else:
        spent = _sum([_spent(stages, limit["unit"]) for stages in arms.values()])
    totals = [run.total] if limit["unit"] == _JOULES else []
    is_reached = _stopped_by(held[-1]).startswith("the run's budget")
    yield _row("", limit, spent, held[-1], totals, is_reached=is_reached)


def _row(
    name: str,
    limit: Mapping[str, Any],
    spent: float | NoTotal,
    stages: Sequence[StageRecord],
    totals: Sequence[Total | NoTotal],
    *,
    is_reached: bool,
) -> BudgetRow:
    stopped_by = _stopped_by(stages)
    return BudgetRow(
        of=limit["of"],
        name=name,
        said=limit["said"],
        unit=limit["unit"],
        amount=limit["amount"],
        spent=spent,
        half_step=_half_step(stages, limit["unit"]),
        is_reached=is_reached,
        unread=stopped_by.removeprefix(UNREAD) if stopped_by.startswith(UNREAD) else "",
        is_at_least=any(isinstance(total, Total) and not total.complete for total in totals),
    )


def _limit(stages: Sequence[StageRecord], of: str) -> Mapping[str, Any] | None:
    """What the stages say of that budget; the first rank's stage does."""
    found = [limit for stage in stages for limit in stage.results.get(_BUDGETS, ()) if limit["of"] == of]
    return found[-1] if found else None


def _stopped_by(stages: Sequence[StageRecord]) -> str:
    return next((str(stage.results[STOPPED_BY]) for stage in stages if STOPPED_BY in stage.results), "")


def _spent(stages: Sequence[StageRecord], unit: str) -> float | NoTotal:
    """By all stages of an arm; ranks work at the same time."""
    if unit == _SECONDS:
        return joint_s((stage.labels.get(RANK), stage.duration_s) for stage in stages)
    if unit == _JOULES:
        return _sum([stage.gross.value_j if isinstance(stage.gross, Total) else stage.gross for stage in stages])
    return _sum([float(stage.workload.get("tokens", 0.0)) for stage in stages])


def _half_step(stages: Sequence[StageRecord], unit: str) -> float | NoTotal:
    spent, steps = _spent(stages, unit), sum(stage.workload.get("steps", 0.0) for stage in stages)
    if isinstance(spent, NoTotal):
        return spent
    return spent / steps / 2.0 if steps else NoTotal(reason="its steps were not counted")


def _sum(parts: Sequence[float | NoTotal]) -> float | NoTotal:
    return next((part for part in parts if isinstance(part, NoTotal)), None) or sum(
        part for part in parts if isinstance(part, float)
    )


def _told(amount: float | NoTotal) -> Any:
    return {"absent": amount.reason} if isinstance(amount, NoTotal) else amount
