"""Which labels are held against which: the baseline of a student, and the baselines that match a label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatt.analysis.trainings import Label

BUDGET = "train_tokens"
"""The setting that says how many tokens a label was trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Labels by what they are: baselines, and those that a teacher's work went into."""

    baselines: tuple[Label, ...]
    distilled: tuple[Label, ...]
    best: Mapping[str, Label]
    """The baseline of each student: of several the best, of equally good ones the cheapest."""
    by_budget: Mapping[str, Sequence[tuple[float, Label]]]
    """The same of each token budget that is known, by rising budget."""

    def baseline_of(self, label: Label) -> Label | None:
        """The baseline that a label is held against; None where there is none (method.md, eq. 119).

        That of its student whose token budget is nearest to its own; where either is not known, the best one.
        """
        budget = self._budget_beside(label)
        if budget is None:
            return self.best.get(label.student)
        return next(other for own, other in self.by_budget[label.student] if own == budget)

    def all_of(self, label: Label) -> tuple[Label, ...]:
        """All baselines of the label's student, in input order; of the token budget nearest to its own, if known."""
        own = tuple(other for other in self.baselines if other.student == label.student)
        budget = self._budget_beside(label)
        return own if budget is None else tuple(other for other in own if budget_of(other) == budget)

    def _budget_beside(self, label: Label) -> float | None:
        """The baselines' budget nearest to the label's, by ratio; of two as near the smaller."""
        own = budget_of(label)
        known = self.by_budget.get(label.student, ()) if own else ()
        budgets = [budget for budget, _ in known]
        return min(budgets, key=lambda budget: abs(math.log(budget / own)), default=None) if own else None


def budget_of(label: Label) -> float | None:
    """Tokens that a label was trained on; None where nobody says, or none were."""
    return label.settings.get(BUDGET) or None


def assign_roles(labels: Sequence[Label], baseline: str) -> Roles:
    """Baselines are the labels of that method, in whatever case it is written; all others are distilled."""
    wanted = baseline.casefold()
    baselines = tuple(label for label in labels if label.method.casefold() == wanted)
    return Roles(
        baselines=baselines,
        distilled=tuple(label for label in labels if label.method.casefold() != wanted),
        best={label.student: label for label in sweep_of(baselines)},
        by_budget=_by_budget(baselines),
    )


def _by_budget(baselines: Sequence[Label]) -> dict[str, list[tuple[float, Label]]]:
    budgets: dict[float, list[Label]] = {}
    for label in baselines:
        if budget := budget_of(label):
            budgets.setdefault(budget, []).append(label)
    found: dict[str, list[tuple[float, Label]]] = {}
    for budget, own in sorted(budgets.items(), key=lambda entry: entry[0]):
        for label in sweep_of(own):
            found.setdefault(label.student, []).append((budget, label))
    return found


def sharing_students(roles: Roles) -> int:
    """N of `reuse:N`: the most students that one method distilled here from one artefact; seeds are not students.

    Where nobody names artefacts, those of one method are taken as one.
    """
    students: dict[tuple[str, str], set[str]] = {}
    for label in roles.distilled:
        for artefact in {row.artefact for row in label.rows}:
            students.setdefault((label.method, artefact), set()).add(label.student)
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
