"""The comparisons that design rules are tested by: pairs and groups of labels, each an effect (method.md, eq. 107)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stillwatt.analysis.breakeven import NOTHING_TO_SHARE
from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, UNITS, made_with
from stillwatt.analysis.reuse import has_nothing_to_share
from stillwatt.analysis.sizes import PARAMETERS, parameters_of
from stillwatt.analysis.stopped import unlike_lengths
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
        known = self.of_methods(test)
        if test.options.get("students") != "larger":
            return known
        sizes = [size for label in known if (size := parameters_of(label)) is not None]
        return [label for label in known if sizes and (parameters_of(label) or 0.0) > min(sizes)]

    def of_methods(self, test: RuleTest) -> list[Label]:
        """Distilled labels whose method is in the test's scope, whatever their student."""
        return [label for label in self.trained.roles.distilled if is_in_scope(label.method, test.methods)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A comparison that could not be made."""

    about: str
    reason: str
    labels: tuple[Label, ...]
    """Distilled labels that it would have rested on."""

    @property
    def text(self) -> str:
        """What it is of, and why there is none."""
        return f"{self.about}: {self.reason}"


Found = Iterator[Case | Gap]
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
    if test.options.get("students") == "larger":
        yield from unsized(evidence.of_methods(test))
    for label in evidence.distilled(test):
        baselines = evidence.trained.roles.all_of(label)
        if not baselines:
            yield Gap(about=label.name, reason=f"no baseline has student {label.student!r}", labels=(label,))
        for baseline in baselines:
            terms = _ratio_terms(label, baseline, fields) if is_ratio else _gap_terms(label, baseline, fields)
            effect = effect_of(terms, evidence.trained.rel, is_ratio=is_ratio)
            about = f"{label.name} against {baseline.name}"
            if isinstance(effect, NoTotal):
                yield Gap(about=about, reason=effect.reason, labels=(label,))
            else:
                unit = RATIO if is_ratio else UNITS.get(outcome, "J")
                yield case_of(effect, test, about=about, labels=(label, baseline), unit=unit)


def reuse_needed(test: RuleTest, evidence: Evidence) -> Found:
    """N* of each distilled label: its teacher's work over what its student saves (method.md, eq. 25)."""
    for label in evidence.distilled(test):
        baseline = evidence.trained.roles.baseline_of(label)
        if baseline is None:
            yield Gap(about=label.name, reason=f"no baseline has student {label.student!r}", labels=(label,))
            continue
        if has_nothing_to_share(label):
            yield Gap(about=f"N* of {label.name}", reason=NOTHING_TO_SHARE, labels=(label,))
            continue
        if why_not := unlike_lengths(label, baseline):
            yield Gap(about=f"N* of {label.name}", reason=why_not, labels=(label,))
            continue
        terms = [
            Term(label=label, numerator={"teacher_j": 1.0}, denominator={"student_j": -1.0}),
            Term(label=baseline, denominator={"student_j": 1.0}),
        ]
        effect = effect_of(terms, evidence.trained.rel, is_ratio=True)
        if isinstance(effect, NoTotal):
            yield Gap(about=f"N* of {label.name}", reason=effect.reason, labels=(label,))
            continue
        about = f"N* of {label.name} against {baseline.name}"
        yield case_of(effect, test, about=about, labels=(label, baseline), unit="students")


def teacher_by_student(test: RuleTest, evidence: Evidence) -> Found:
    """The teacher's energy for each larger student over that for the smallest, of one method."""
    yield from unsized(evidence.distilled(test))
    for method, labels in _by_size(evidence.distilled(test)).items():
        known = [label for label in labels if label.mean("teacher_j")]
        for label in labels:
            if label not in known:
                yield Gap(about=label.name, reason="the teacher's energy is unknown or 0", labels=(label,))
        smallest = [label for label in known if parameters_of(label) == parameters_of(known[0])]
        larger = known[len(smallest) :]
        alike = [pair for pair in itertools.product(smallest, larger) if made_with(pair[0]) == made_with(pair[1])]
        yield from _without_mate(method, known, alike, has_larger=bool(larger))
        for first, label in alike:
            if {row.teacher_j for row in first.rows} & {row.teacher_j for row in label.rows}:
                yield Gap(
                    about=f"{label.name} and {first.name}",
                    reason="they name the same teacher energy to the last digit; one artefact says nothing of a second "
                    "one",
                    labels=(label, first),
                )
                continue
            effect = effect_of(
                _ratio_terms(label, first, OUTCOMES["teacher_energy"]), evidence.trained.rel, is_ratio=True
            )
            assert isinstance(effect, Effect), effect  # both energies are known
            about = f"teacher of {method}: {label.name} against {first.name}"
            yield case_of(effect, test, about=about, labels=(label, first), unit=RATIO)


def unsized(labels: Sequence[Label]) -> Iterator[Gap]:
    """Labels that no size of a student is known of, so that they stand nowhere among the sizes."""
    unknown = tuple(label for label in labels if parameters_of(label) is None)
    if unknown:
        students = listed(dict.fromkeys(repr(label.student) for label in unknown))
        yield Gap(
            about=listed(label.name for label in unknown),
            reason=f"nobody says how large student {students} is (a name with 1B in it, or a column {PARAMETERS})",
            labels=unknown,
        )


def _without_mate(
    method: str, known: Sequence[Label], alike: Sequence[tuple[Label, Label]], *, has_larger: bool
) -> Iterator[Gap]:
    paired = {label.name for pair in alike for label in pair}
    alone = tuple(label for label in known if label.name not in paired)
    if alone:
        why = "no two sizes are made with the same settings" if has_larger else "all students are of one size"
        yield Gap(about=f"teacher of {method}", reason=f"{listed(label.name for label in alone)}: {why}", labels=alone)


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
