"""Labels that differ in one setting alone, by rising setting: what a change of it does, the others held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stillwatt.analysis.sizes import PARAMETERS
from stillwatt.analysis.trainings import Label, Term, Weights

OUTCOMES: Mapping[str, Weights] = {
    "one_off_energy": {"teacher_j": 1.0, "own_j": 1.0},
    "marginal_energy": {"own_j": 1.0},
    "teacher_energy": {"teacher_j": 1.0},
    "student_energy": {"student_j": 1.0},
    "student_time": {"student_s": 1.0},
    "student_power": {"student_w": 1.0},
    "quality": {"quality": 1.0},
}
"""What can be compared, by name, in fields of an observation."""
UNITS: Mapping[str, str] = {"student_time": "s", "student_power": "W", "quality": "quality"}
"""Units of the outcomes that are no joules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Labels of one method, student and further settings, one a level."""

    setting: str
    method: str
    student: str
    levels: tuple[float, ...]
    """Rising."""
    labels: tuple[Label, ...]

    def at(self, level: float) -> Label | None:
        """The label with that level; None where there is none."""
        return next((label for own, label in zip(self.levels, self.labels, strict=True) if own == level), None)


@dataclass(slots=True)
class Mix:
    """A weighted sum over labels, put together piece by piece; a label that comes twice has its weights added."""

    weights: dict[str, float] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)

    def add(self, label: Label, weight: float) -> None:
        """Put so much of a label on top."""
        self.labels[label.name] = label
        self.weights[label.name] = self.weights.get(label.name, 0.0) + weight

    def add_mix(self, other: Mix, factor: float) -> None:
        """Put so much of another sum on top."""
        for name, weight in other.weights.items():
            self.add(other.labels[name], factor * weight)

    def terms(self, outcome: str) -> list[Term]:
        """The sum as a numerator."""
        fields = OUTCOMES[outcome]
        return [
            Term(label=self.labels[name], numerator={key: weight * part for key, part in fields.items()})
            for name, weight in self.weights.items()
            if weight
        ]


def settings_of(labels: Iterable[Label]) -> tuple[str, ...]:
    """Settings that any label has, in order of name; the student's size is no setting of a training."""
    return tuple(sorted({name for label in labels for name in label.settings} - {PARAMETERS}))


def made_with(label: Label) -> dict[str, float]:
    """The label's settings but for its student's size."""
    return {name: value for name, value in label.settings.items() if name != PARAMETERS}


def ladders(labels: Sequence[Label], setting: str) -> tuple[Ladder, ...]:
    """Every group of labels with two levels or more of a setting and all else the same, by name.

    Labels that are alike in all settings differ in something that nobody says: none of them is on a ladder.
    """
    groups: dict[tuple[object, ...], dict[float, list[Label]]] = {}
    for label in labels:
        held = {name: value for name, value in label.settings.items() if name != setting}
        if setting in label.settings:
            key = (label.method, label.student, label.rows[0].otherwise, tuple(sorted(held.items())))
            groups.setdefault(key, {}).setdefault(label.settings[setting], []).append(label)
    found = []
    for _, twins in sorted(groups.items()):
        by_level = {level: own[0] for level, own in twins.items() if len(own) == 1}
        if len(by_level) > 1:
            levels = tuple(sorted(by_level))
            first = by_level[levels[0]]
            found.append(
                Ladder(
                    setting=setting,
                    method=first.method,
                    student=first.student,
                    levels=levels,
                    labels=tuple(by_level[level] for level in levels),
                )
            )
    return tuple(found)


def rise(steps: Sequence[Ladder], low: float, high: float) -> Mix:
    """The mean over ladders of the label at the high level less that at the low one."""
    mix = Mix()
    for ladder in steps:
        below, above = ladder.at(low), ladder.at(high)
        if below is not None and above is not None:
            mix.add(above, 1.0 / len(steps))
            mix.add(below, -1.0 / len(steps))
    return mix


def ends(steps: Sequence[Ladder]) -> Mix:
    """The mean over ladders of the label at its highest level less that at its lowest."""
    mix = Mix()
    for ladder in steps:
        mix.add(ladder.labels[-1], 1.0 / len(steps))
        mix.add(ladder.labels[0], -1.0 / len(steps))
    return mix
