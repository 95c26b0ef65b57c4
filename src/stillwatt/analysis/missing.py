"""Arms that a run's recipe asks for and that the run does not have, as after a kill, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.analysis.words import listed
from stillwatt.records.finding import ArmPoint
from stillwatt.records.kinds import StageKind, StageStatus
from stillwatt.records.missing import MissingArm
from stillwatt.records.run import RunRecord

_FATES = {
    StageStatus.FAILED: "failed",
    StageStatus.RECOVERED: "cut off",
    StageStatus.RUNNING: "under way",
}


def missing_arms(run: RunRecord, points: Sequence[ArmPoint]) -> tuple[MissingArm, ...]:
    """Every arm, student and seed of the recipe that no checkpoint was reached of; none where no recipe says."""
    found = {(point.name, point.student, point.seed) for point in points}
    asked = list(_asked(run))
    return tuple(
        MissingArm(run_id=run.run_id, arm=arm, reason=_became_of(run, arm), asked=len(asked))
        for arm, name, student, seed in asked
        if (name, student, seed) not in found
    )


def missing_text(missing: Sequence[MissingArm]) -> str:
    """Which arms runs lack of what their recipes ask for, and what became of them; empty where they have all.

    >>> arms = (("synthetic", "cut off"), ("gkd", "not begun"))
    >>> missing_text([MissingArm(run_id="r1", arm=arm, reason=reason, asked=4) for arm, reason in arms])
    '2 of 4 arms are missing (synthetic: cut off; gkd: not begun)'
    """
    runs: dict[str, list[MissingArm]] = {}
    for entry in missing:
        runs.setdefault(entry.run_id, []).append(entry)
    told = {run_id: _in_one_run(own) for run_id, own in runs.items()}
    return "; ".join(text if len(told) == 1 else f"in {run_id} {text}" for run_id, text in told.items())


def _in_one_run(missing: Sequence[MissingArm]) -> str:
    reasons: dict[str, list[str]] = {}
    for entry in missing:
        reasons.setdefault(entry.reason, []).append(entry.arm)
    why = "; ".join(f"{listed(arms)}: {reason}" for reason, arms in reasons.items())
    noun, verb = "arm" if missing[0].asked == 1 else "arms", "is" if len(missing) == 1 else "are"
    return f"{len(missing)} of {missing[0].asked} {noun} {verb} missing ({why})"


def _asked(run: RunRecord) -> Iterator[tuple[str, str, str, str]]:
    """The recipe's arms, in the order in which they are trained: id, name, student, seed."""
    arms, students = _names(run.settings.get("arms")), _names(run.settings.get("students"))
    train = run.settings.get("train")
    seeds = train.get("seeds") if isinstance(train, Mapping) else None
    if not arms or not students or not isinstance(seeds, Sequence):
        return
    for student in students:
        for name in arms:
            for seed in map(str, seeds):
                arm = name if len(students) == 1 else f"{student}.{name}"
                yield (arm if len(seeds) == 1 else f"{arm}.s{seed}"), name, student, seed


def _names(tables: Any) -> list[str]:
    named = [table for table in tables if isinstance(table, Mapping)] if isinstance(tables, Sequence) else []
    return [str(table["name"]) for table in named if table.get("name")]


def _became_of(run: RunRecord, arm: str) -> str:
    """What the last attempt at its training came to; where none was begun, why, as far as the run tells."""
    tried = [stage for stage in run.stages if stage.kind is StageKind.STUDENT_TRAIN and stage.labels.get("arm") == arm]
    if tried:
        return _FATES.get(tried[-1].status, "in no checkpoint")
    if run.status is StageStatus.ENDED and run.settings.get("budget"):
        return f"left out by the run's budget of {run.settings['budget']}"
    return "not begun"
