"""Which labels are held against which: the baseline of a student, and the baselines that match a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatt.analysis.trainings import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Labels by what they are: baselines, and those that a teacher's work went into."""

    baselines: tuple[Label, ...]
    distilled: tuple[Label, ...]
    best: Mapping[str, Label]
    """The baseline of each student: of several the best, of equally good ones the cheapest."""

    def baseline_of(self, label: Label) -> Label | None:
        """The baseline of the label's student; None where there is none."""
        return self.best.get(label.student)

    def all_of(self, label: Label) -> tuple[Label, ...]:
        """All baselines of the label's student, in input order."""
        return tuple(other for other in self.baselines if other.student == label.student)


def assign_roles(labels: Sequence[Label], baseline: str) -> Roles:
    """Baselines are the labels of that method, in whatever case it is written; all others are distilled."""
    wanted = baseline.casefold()
    baselines = tuple(label for label in labels if label.method.casefold() == wanted)
    return Roles(
        baselines=baselines,
        distilled=tuple(label for label in labels if label.method.casefold() != wanted),
        best={label.student: label for label in sweep_of(baselines)},
    )


def sharing_students(roles: Roles) -> int:
    """N of `reuse:N`: the most students that one method distilled in this table; seeds are not students."""
    students: dict[str, set[str]] = {}
    for label in roles.distilled:
        students.setdefault(label.method, set()).add(label.student)
    return max((len(found) for found in students.values()), default=1)


def sweep_of(labels: Sequence[Label]) -> tuple[Label, ...]:
    """One label a student, of one method: of several the best, of equally good ones the cheapest."""
    best: dict[str, tuple[tuple[float, float], Label]] = {}
    for label in labels:
        rank = _by_quality(label)
        if label.student not in best or rank < best[label.student][0]:
            best[label.student] = (rank, label)
    return tuple(label for _, label in best.values())


def _by_quality(label: Label) -> tuple[float, float]:
    quality, energy_j = label.mean("quality"), label.mean("own_j")
    return (
        float("inf") if quality is None else -quality,
        float("inf") if energy_j is None else energy_j,
    )
