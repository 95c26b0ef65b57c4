"""Which point of its baseline an arm is held against: the latest up to which both were trained (method.md, eq. 144)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillwatt.analysis.stopped import are_equal_joule, find_equal, stop_text
from stillwatt.records.finding import ArmPoint, Study
from stillwatt.report.format import percent_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A distilled arm at a checkpoint, and its baseline where it was trained as long."""

    point: ArmPoint
    baseline: ArmPoint | None
    """None where no two of their points can stand beside each other."""
    reason: str
    """Why it is not the ends of both as planned; empty where it is."""


def find_pairs(study: Study) -> Iterator[Pair]:
    """Every distilled arm that has a baseline of the same student and seed."""
    for final in study.final_points:
        if final.name == study.baseline_arm:
            continue
        key = (study.baseline_arm, final.student, final.seed)
        path = [point for point in study.arms if (point.name, point.student, point.seed) == key]
        if path:
            yield _pair([point for point in study.arms if point.arm == final.arm], path)


def _pair(own: Sequence[ArmPoint], path: Sequence[ArmPoint]) -> Pair:
    final, last = own[-1], path[-1]
    if are_equal_joule(final, last):
        return Pair(point=final, baseline=last, reason="")
    for point in reversed(own):
        other, _ = find_equal(point, path)
        if other is not None:
            is_end = point is final and other is last
            return Pair(point=point, baseline=other, reason="" if is_end else _place(final, last, point))
    _, why_not = find_equal(final, path)
    return Pair(point=final, baseline=None, reason=why_not or f"{final.arm} and {last.arm} share no checkpoint")


def _place(final: ArmPoint, last: ArmPoint, point: ArmPoint) -> str:
    """Where the two are compared, and why there."""
    stopped = next((entry for entry in (final, last) if entry.stop is not None), None)
    if stopped is None:
        shorter, longer = sorted((final, last), key=lambda entry: entry.budget_share)
        why = f"{shorter.arm} has no point at {percent_text(longer.budget_share)} of the token budget"
    else:
        why = stop_text(stopped)
    return f"{why}: both are compared at {percent_text(point.budget_share)}"
