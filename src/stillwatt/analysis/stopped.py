"""Trainings that a budget ended before their text did: how far they came, and what may be held against what (eq. 144).

A checkpoint is named after the share that the recipe wanted. Where a budget ended the training on the way there, the
share that counts is the one that was trained, in optimiser steps: a step on the student's own text has fewer tokens, by
design.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stillwatt.analysis.trainings import Label
from stillwatt.records.budget_rows import STOPPED_BY
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint
from stillwatt.records.run import StageRecord
from stillwatt.records.stop import UNREAD, Stop

_BUDGETS = "budgets"
_OF_THE_RUN, _OF_THE_ARM = "the run's budget of ", "its budget of "
EQUAL_JOULES = "at equal joules no training saves any, and their quality alone can be compared"
_ALIKE_REL = 0.01
"""Amounts of work within which two trainings are called equally long: less than any budget that ends one leaves."""


def ending_of(stages: Sequence[StageRecord]) -> StageRecord:
    """Of the stages of one increment, which are several where ranks trained together, the one that tells its end."""
    return next((stage for stage in stages if stage.results.get(STOPPED_BY)), stages[-1])


def find_stop(last: StageRecord) -> Stop | None:
    """What ended the training in this increment; None where its text did."""
    text = str(last.results.get(STOPPED_BY) or "")
    if not text:
        return None
    if text.startswith(UNREAD):
        limit, unread = _limit(last, "arm") or _limit(last, "run"), text.removeprefix(UNREAD)
        return Stop(is_own=False, said=str(limit.get("said", "")), unit=str(limit.get("unit", "")), unread=unread)
    is_own = not text.startswith(_OF_THE_RUN)
    limit = _limit(last, "arm" if is_own else "run")
    said = limit.get("said") or text.removeprefix(_OF_THE_ARM).removeprefix(_OF_THE_RUN).partition(":")[0]
    return Stop(is_own=is_own, said=str(said), unit=str(limit.get("unit", "")))


def trained_share(last: StageRecord, wanted: float) -> float:
    """Share of the token budget that was trained on by the end of an increment (method.md, eq. 144), dimensionless.

    Args:
        last: The increment.
        wanted: The share that its checkpoint is named after.
    """
    done, planned = last.results.get("steps_done"), last.results.get("steps_planned")
    if find_stop(last) is None or not done or not planned:
        return wanted
    return min(float(done) / float(planned), wanted)


def borne_share(last: StageRecord, wanted: float) -> float:
    """Share of its artefacts' energy on the bill of a training that ended so: what it was trained on.

    All that the checkpoint is named after, where the budget that ended it is one of joules which the artefact's are
    among: equal-joule arms have equal bills.
    """
    stop = find_stop(last)
    if stop is not None and stop.is_own and _limit(last, "arm").get("teacher_j"):
        return wanted
    return trained_share(last, wanted)


def is_as_long(one: float | None, other: float | None) -> bool | None:
    """Whether two counts of work are one, or near it; None where one of them is unknown.

    >>> is_as_long(512.0, 512.0), is_as_long(512.0, 320.0), is_as_long(512.0, None)
    (True, False, None)
    """
    if one is None or other is None:
        return None
    return math.isclose(one, other, rel_tol=_ALIKE_REL)


def find_equal(point: ArmPoint, path: Sequence[ArmPoint]) -> tuple[ArmPoint | None, str]:
    """The baseline's point that was trained as long as an arm's, or why there is none (method.md, eq. 144).

    Args:
        point: The arm's point.
        path: The baseline's points, in checkpoint order.

    Returns:
        The point, or None; then the reason, which is empty where the baseline merely has no such checkpoint.
    """
    for other in path:
        if are_equal_joule(point, other):
            return None, _of_equal_joules(point, other)
    for other in path:
        if math.isclose(other.budget_share, point.budget_share):
            return (other, "") if _are_as_long(point, other) else (None, f"trained {_length(point)}, {_length(other)}")
    stopped = next((entry for entry in (point, *path) if entry.stop is not None), None)
    whose = path[-1].arm if stopped is point else point.arm
    return None, "" if stopped is None else f"{stop_text(stopped)}, where {whose} was not observed"


def _are_as_long(point: ArmPoint, other: ArmPoint) -> bool:
    """Whether nothing counted speaks against it; of a training with a hole nothing is counted whole."""
    if any(isinstance(entry.student_energy, NoTotal) for entry in (point, other)):
        return True
    return is_as_long(point.tokens, other.tokens) is not False or bool(is_as_long(point.steps, other.steps))


def are_equal_joule(point: ArmPoint, other: ArmPoint) -> bool:
    """Whether both were trained until their own joules reached one budget: their energies are equal by construction."""
    return point.stop is not None and point.stop.is_as_dear_as(other.stop)


def stop_text(point: ArmPoint) -> str:
    """Where a training that was stopped ended, and by what."""
    assert point.stop is not None
    return f"{point.arm} was stopped at {100.0 * point.budget_share:.0f} % by {point.stop.words}"


def _of_equal_joules(point: ArmPoint, other: ArmPoint) -> str:
    assert point.stop is not None
    return (
        f"{point.arm} and {other.arm} were each trained on {point.stop.said} ({_length(point)}, {_length(other)}): "
        f"{EQUAL_JOULES}"
    )


def _length(point: ArmPoint) -> str:
    """On how much it was trained."""
    if point.tokens is None:
        return f"{point.arm} at {100.0 * point.budget_share:.0f} % of the token budget"
    return f"{point.arm} on {point.tokens:,.0f} tokens"


def unlike_lengths(label: Label, baseline: Label) -> str:
    """Why a label and its baseline are not at one token budget where a budget ended one of them; empty where they are.

    Trainings that no budget ended are held against the nearest baseline there is (method.md, eq. 119).
    """
    stop, other = _stop_of(label), _stop_of(baseline)
    if stop is not None and stop.is_as_dear_as(other):
        return f"{label.name} and {baseline.name} were each trained on {stop.said}: {EQUAL_JOULES}"
    counts = [(_mean(one, "tokens"), _mean(one, "steps")) for one in (label, baseline)]
    (own_tokens, own_steps), (tokens, steps) = counts
    if stop is other is None or is_as_long(own_tokens, tokens) is not False or is_as_long(own_steps, steps):
        return ""
    ended = f"{label.name} was stopped by {stop.words}" if stop else f"{baseline.name} was stopped by {_words(other)}"
    return f"{ended}, and the two were trained on unlike amounts: {own_tokens:,.0f} and {tokens:,.0f} tokens"


def _stop_of(label: Label) -> Stop | None:
    return next((row.stop for row in label.rows if row.stop is not None), None)


def _words(stop: Stop | None) -> str:
    return stop.words if stop else ""


def _mean(label: Label, name: str) -> float | None:
    counts = [_tokens(row) if name == "tokens" else row.steps for row in label.rows]
    known = [count for count in counts if count is not None]
    return math.fsum(known) / len(known) if known else None


def _tokens(row: Observation) -> float | None:
    """What the training came to; its budget where nobody counted, as in tables."""
    return row.settings.get("train_tokens") if row.tokens is None else row.tokens


def _limit(stage: StageRecord, of: str) -> dict[str, Any]:
    found = [limit for limit in stage.results.get(_BUDGETS, ()) if limit.get("of") == of]
    return dict(found[-1]) if found else {}
