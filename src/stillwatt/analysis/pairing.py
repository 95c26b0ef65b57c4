"""Which labels are held against which: the baseline of a student, and the baselines that match a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.analysis.trainings import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Labels by what they are: baselines, and those that a teacher's work went into."""

    baselines: tuple[Label, ...]
    distilled: tuple[Label, ...]

    def baseline_of(self, label: Label) -> Label | None:
        """The baseline of the same student: of several the best, of equally good ones the cheapest."""
        same = [other for other in self.baselines if other.student == label.student]
        return min(same, key=_by_quality, default=None)


def assign_roles(labels: Sequence[Label], baseline: str) -> Roles:
    """Baselines are the labels of that method, in whatever case it is written; all others are distilled."""
    wanted = baseline.casefold()
    return Roles(
        baselines=tuple(label for label in labels if label.method.casefold() == wanted),
        distilled=tuple(label for label in labels if label.method.casefold() != wanted),
    )


def sharing_students(roles: Roles) -> int:
    """N of `reuse:N`: the most students that one method distilled in this table; seeds are not students."""
    students: dict[str, set[str]] = {}
    for label in roles.distilled:
        students.setdefault(label.method, set()).add(label.student)
    return max((len(found) for found in students.values()), default=1)


def sweep_of(labels: Sequence[Label]) -> tuple[Label, ...]:
    """One label a student, of one method: of several the best."""
    best: dict[str, Label] = {}
    for label in labels:
        held = best.get(label.student)
        if held is None or _by_quality(label) < _by_quality(held):
            best[label.student] = label
    return tuple(best.values())


def _by_quality(label: Label) -> tuple[float, float]:
    quality, energy_j = label.mean("quality"), label.mean("own_j")
    return (
        float("inf") if quality is None else -quality,
        float("inf") if energy_j is None else energy_j,
    )
