"""The comparisons that design rules are tested by: pairs and groups of labels, each an effect (method.md, eq. 107)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, UNITS, made_with
from stillwatt.analysis.sizes import parameters_of
from stillwatt.analysis.trainings import Label, Term, Weights
from stillwatt.analysis.words import listed
from stillwatt.records.comparison import Comparison
from stillwatt.records.energy import NoTotal
from stillwatt.records.rules import Case, Expected, RuleTest

RATIO = "times"
SURE = 0.025
"""One-sided tail probability below which an effect lies beyond its 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What rules are tested on."""

    trained: Trained
    comparison: Comparison

    def distilled(self, test: RuleTest) -> list[Label]:
        """Distilled labels whose method is in the test's scope, and whose student is."""
        known = [label for label in self.trained.roles.distilled if is_in_scope(label.method, test.methods)]
        if test.options.get("students") != "larger":
            return known
        sizes = [size for label in known if (size := parameters_of(label)) is not None]
        return [label for label in known if sizes and (parameters_of(label) or 0.0) > min(sizes)]


Found = Iterator[Case | str]
"""Cases, and comparisons that could not be made, with the reason."""
Compared = Callable[[RuleTest, Evidence], Found]


def is_in_scope(method: str, beginnings: Sequence[str]) -> bool:
    """Whether a method begins as one of those does; any method where there are none.

    >>> is_in_scope("KD-rkl", ["kd"]), is_in_scope("synthetic_sft", ["kd"]), is_in_scope("mixed", [])
    (True, False, True)
    """
    return not beginnings or method.casefold().startswith(tuple(beginnings))


def case_of(effect: Effect, test: RuleTest, *, about: str, labels: Sequence[Label], unit: str) -> Case:
    """An effect as a case of a test: how far on the expected side, how far on the other (method.md, eq. 107)."""
    p_for, p_against = chances(effect, test)
    value, (low, high) = effect.value, effect.interval
    return Case(
        about=about,
        labels=tuple(label.name for label in labels),
        effect=value,
        low=low,
        high=high,
        unit=unit,
        seeds=effect.seeds,
        leans=_leans(effect, test),
        p_for=p_for,
        p_against=p_against,
    )


def chances(effect: Effect, test: RuleTest) -> tuple[float, float]:
    """Tail probabilities on the expected side and on the other; near: beyond both edges, and beyond either."""
    if test.expected is Expected.NEAR:
        under, over = effect.p_below(test.bound + test.margin), effect.p_above(test.bound - test.margin)
        return max(under, over), min(1.0 - under, 1.0 - over)
    above = effect.p_above(test.bound)
    return (above, 1.0 - above) if test.expected is Expected.ABOVE else (1.0 - above, above)


def _leans(effect: Effect, test: RuleTest) -> bool | None:
    if test.expected is Expected.NEAR:
        value = effect.value
        return None if value is None else abs(value - test.bound) <= test.margin
    above = effect.p_above(test.bound)
    return None if above == 0.5 else (above < 0.5) is (test.expected is Expected.ABOVE)


def against_baseline(test: RuleTest, evidence: Evidence) -> Found:
    """An outcome of each distilled label over, or less, that of every baseline of its student.

    Of every one, since the best of several would be the best by luck too.
    """
    outcome = test.options["outcome"]
    fields, is_ratio = OUTCOMES[outcome], test.bound != 0.0
    for label in evidence.distilled(test):
        baselines = evidence.trained.roles.all_of(label)
        if not baselines:
            yield f"{label.name}: no baseline has student {label.student!r}"
        for baseline in baselines:
            terms = _ratio_terms(label, baseline, fields) if is_ratio else _gap_terms(label, baseline, fields)
            effect = effect_of(terms, evidence.trained.rel, is_ratio=is_ratio)
            about = f"{label.name} against {baseline.name}"
            if isinstance(effect, NoTotal):
                yield f"{about}: {effect.reason}"
            else:
                unit = RATIO if is_ratio else UNITS.get(outcome, "J")
                yield case_of(effect, test, about=about, labels=(label, baseline), unit=unit)


def reuse_needed(test: RuleTest, evidence: Evidence) -> Found:
    """N* of each distilled label: its teacher's work over what its student saves (method.md, eq. 25)."""
    for label in evidence.distilled(test):
        baseline = evidence.trained.roles.baseline_of(label)
        if baseline is None:
            yield f"{label.name}: no baseline has student {label.student!r}"
            continue
        terms = [
            Term(label=label, numerator={"teacher_j": 1.0}, denominator={"student_j": -1.0}),
            Term(label=baseline, denominator={"student_j": 1.0}),
        ]
        effect = effect_of(terms, evidence.trained.rel, is_ratio=True)
        if isinstance(effect, NoTotal):
            yield f"N* of {label.name}: {effect.reason}"
            continue
        about = f"N* of {label.name} against {baseline.name}"
        yield case_of(effect, test, about=about, labels=(label, baseline), unit="students")


def teacher_by_student(test: RuleTest, evidence: Evidence) -> Found:
    """The teacher's energy for each larger student over that for the smallest, of one method."""
    for method, labels in _by_size(evidence.distilled(test)).items():
        known = [label for label in labels if label.mean("teacher_j")]
        smallest = [label for label in known if parameters_of(label) == parameters_of(known[0])]
        pairs = itertools.product(smallest, known[len(smallest) :])
        for first, label in ((small, large) for small, large in pairs if made_with(small) == made_with(large)):
            if {row.teacher_j for row in first.rows} & {row.teacher_j for row in label.rows}:
                yield (
                    f"{label.name} and {first.name} name the same teacher energy to the last digit: one artefact says "
                    "nothing of a second one"
                )
                continue
            effect = effect_of(
                _ratio_terms(label, first, OUTCOMES["teacher_energy"]), evidence.trained.rel, is_ratio=True
            )
            assert isinstance(effect, Effect), effect  # both energies are known
            about = f"teacher of {method}: {label.name} against {first.name}"
            yield case_of(effect, test, about=about, labels=(label, first), unit=RATIO)


def same_plane(test: RuleTest, evidence: Evidence) -> Found:
    """Whether the frontier by an impact is that by energy, under every allocation: the share of labels on both."""
    name = test.options["impact"]
    view = next((view for view in evidence.comparison.views if view.name == name), None)
    if view is None:
        yield f"what a kWh costs in {name} is not known"
        return
    seeds = min(label.num_seeds for label in evidence.trained.labels)
    energy = {front.allocation: front for front in evidence.comparison.fronts}
    for front in view.fronts:
        placed = {point.label for point in front.points}
        lost = [point.label for point in energy[front.allocation].placed if point.label not in placed]
        if lost:
            yield f"{name} of {listed(lost)} is unknown under {front.allocation}: the frontiers are of unlike labels"
            continue
        own = {point.label for point in front.points if point.is_on_frontier}
        other = set(energy[front.allocation].labels)
        if not own | other:
            yield f"nothing is on a frontier under {front.allocation}"
            continue
        share = len(own & other) / len(own | other)
        yield Case(
            about=f"frontiers by {name} and by energy under {front.allocation}",
            labels=tuple(sorted(own | other)),
            effect=share,
            low=share,
            high=share,
            unit="of the labels on both",
            seeds=seeds,
            leans=share == test.bound,
            p_for=0.0 if share == test.bound else 1.0,
            p_against=1.0 if share == test.bound else 0.0,
        )


def _by_size(labels: Sequence[Label]) -> dict[str, list[Label]]:
    """Labels of known size by method, by rising size."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        if parameters_of(label) is not None:
            found.setdefault(label.method, []).append(label)
    return {method: sorted(own, key=lambda label: parameters_of(label) or 0.0) for method, own in found.items()}


def _ratio_terms(label: Label, other: Label, fields: Weights) -> list[Term]:
    # a baseline has no teacher of its own; what it bears of one is among the cautions
    below = {name: part for name, part in fields.items() if name != "teacher_j"} or fields
    return [Term(label=label, numerator=fields), Term(label=other, denominator=below)]


def _gap_terms(label: Label, other: Label, fields: Weights) -> list[Term]:
    minus = {name: -part for name, part in fields.items()}
    return [Term(label=label, numerator=fields), Term(label=other, numerator=minus)]
