"""Comparisons of settings: what raising one does, which of two weighs more, who is beaten (method.md, eq. 108)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, UNITS, Ladder, Mix, ends, ladders, made_with
from stillwatt.analysis.rule_cases import RATIO, Evidence, Found, case_of
from stillwatt.analysis.sizes import parameters_of, size_text
from stillwatt.analysis.trainings import Label, Term
from stillwatt.records.energy import NoTotal
from stillwatt.records.rules import Case, RuleTest

_MOST_PAIRED = 100
"""Labels of one student beyond which pairs are not looked at: there would be too many."""


def raising(test: RuleTest, evidence: Evidence) -> Found:
    """An outcome at the highest level of a setting over that at the lowest, the others held."""
    setting, outcome = test.options["setting"], test.options["outcome"]
    for ladder in ladders(evidence.distilled(test), setting):
        low, high = ladder.labels[0], ladder.labels[-1]
        terms = [Term(label=high, numerator=OUTCOMES[outcome]), Term(label=low, denominator=OUTCOMES[outcome])]
        effect = effect_of(terms, evidence.trained.rel, is_ratio=True)
        about = f"{setting} {ladder.levels[-1]:g} against {ladder.levels[0]:g}: {high.name} against {low.name}"
        if isinstance(effect, NoTotal):
            yield f"{about}: {effect.reason}"
        else:
            yield case_of(effect, test, about=about, labels=(high, low), unit=RATIO)


def falling_returns(test: RuleTest, evidence: Evidence) -> Found:
    """How much steeper an outcome rises over the lower half of a setting's levels than over the upper one."""
    setting, outcome = test.options["setting"], test.options["outcome"]
    for ladder in ladders(evidence.distilled(test), setting):
        if len(ladder.levels) < 3:
            yield f"{setting} of {ladder.labels[0].name} has two levels; a third one shows whether returns fall"
            continue
        middle = len(ladder.levels) // 2
        (a, b, c), (low, between, high) = (
            (ladder.levels[0], ladder.levels[middle], ladder.levels[-1]),
            (ladder.labels[0], ladder.labels[middle], ladder.labels[-1]),
        )
        mix = Mix()
        for label, weight in ((between, 1.0 / (b - a) + 1.0 / (c - b)), (low, -1.0 / (b - a)), (high, -1.0 / (c - b))):
            mix.add(label, weight)
        effect = effect_of(mix.terms(outcome), evidence.trained.rel, is_ratio=False)
        about = f"{outcome} by {setting} {a:g} to {b:g}, less {b:g} to {c:g}: {low.name} to {high.name}"
        if isinstance(effect, NoTotal):
            yield f"{about}: {effect.reason}"
        else:
            unit = f"{UNITS.get(outcome, 'J')} per unit of {setting}"
            yield case_of(effect, test, about=about, labels=(low, between, high), unit=unit)


def outweighs(test: RuleTest, evidence: Evidence) -> Found:
    """Whether one setting moves an outcome further than another does: |x| - |y| above 0 (method.md, eq. 108)."""
    setting, other, outcome = (test.options[name] for name in ("setting", "other", "outcome"))
    labels = evidence.distilled(test)
    first, second = _by_student(ladders(labels, setting)), _by_student(ladders(labels, other))
    for key in [key for key in first if key in second]:
        x, y = ends(first[key]), ends(second[key])
        about = f"{outcome} of {key[0]} {key[1]}: {setting} against {other}"
        plus, minus = (
            effect_of(_mixed(x, y, sign).terms(outcome), evidence.trained.rel, is_ratio=False) for sign in (1.0, -1.0)
        )
        if isinstance(plus, NoTotal) or isinstance(minus, NoTotal):
            reasons = [found.reason for found in (plus, minus) if isinstance(found, NoTotal)]
            yield f"{about}: {reasons[0]}"
        else:
            names = tuple(dict.fromkeys((*x.labels, *y.labels)))
            yield _weighed(plus, minus, about=about, names=names, unit=UNITS.get(outcome, "J"))


def some_beaten(test: RuleTest, evidence: Evidence) -> Found:
    """Whether some label is beaten on energy and quality by another of its method and student that has other settings.

    The pair that shows it best, with its tail probability times the number of pairs.
    """
    setting, other = test.options["setting"], test.options["other"]
    groups: dict[tuple[str, str], list[Label]] = {}
    for label in evidence.distilled(test):
        if setting in label.settings and other in label.settings:
            groups.setdefault((label.method, label.student), []).append(label)
    for (method, student), labels in groups.items():
        if not 1 < len(labels) <= _MOST_PAIRED:
            few = "one point" if len(labels) == 1 else f"{len(labels)} points, too many to look at in pairs"
            yield f"{method} {student} has {few} of {setting} and {other}"
            continue
        found = [
            (p, case)
            for one, two in itertools.permutations(labels, 2)
            if (case := _beats(one, two, evidence.trained.rel)) is not None
            for p in [case.p_for]
        ]
        if not found:
            yield f"no point of {method} {student} is beaten by another in the mean, or their quality is unknown"
            continue
        best = min(found, key=lambda entry: (entry[1].seeds < 2, entry[0]))[1]
        yield _among(best, len(labels) * (len(labels) - 1))


def reuse_by_size(test: RuleTest, evidence: Evidence) -> Found:
    """N* of a smaller student over that of the next larger one, of one method (method.md, eq. 107).

    N*_s > N*_l exactly where  T_s D_l - T_l D_s > 0,  D what a student saves; the teachers' energies are taken as they
    are.
    """
    roles = evidence.trained.roles
    methods: dict[str, list[tuple[float, Label]]] = {}
    for label in evidence.distilled(test):
        size = parameters_of(label)
        lacks = _lacks(label, roles.baseline_of(label))
        if size is None:
            yield f"{label.name}: nobody says how large student {label.student!r} is"
        elif lacks:
            yield f"N* of {label.name}: {lacks}"
        else:
            methods.setdefault(label.method, []).append((size, label))
    for entries in methods.values():
        for small_size, large_size in itertools.pairwise(sorted({size for size, _ in entries})):
            pairs = itertools.product(
                *([own for size, own in entries if size == at] for at in (small_size, large_size))
            )
            alike = [(small, large) for small, large in pairs if made_with(small) == made_with(large)]
            for small, large in alike:
                yield _order(test, evidence, small, large)
            if not alike:
                sizes = f"{size_text(small_size)} and {size_text(large_size)}"
                yield f"{entries[0][1].method} of {sizes}: no two labels are made with the same settings"


def _lacks(label: Label, baseline: Label | None) -> str:
    """Why there is no N* to speak of; empty where there is one."""
    if baseline is None:
        return f"no baseline has student {label.student!r}"
    if not label.mean("teacher_j"):
        return f"the teacher's energy of {label.name} is unknown or 0"
    missing = [one.name for one in (label, baseline) if one.mean("student_j") is None]
    return f"the student's energy of {missing[0]} is unknown" if missing else ""


def _order(test: RuleTest, evidence: Evidence, small: Label, large: Label) -> Case | str:
    roles, rel = evidence.trained.roles, evidence.trained.rel
    about = f"N* of {small.name} against that of {large.name}"
    teachers = small.mean("teacher_j") or 0.0, large.mean("teacher_j") or 0.0
    of_small, of_large = roles.best[small.student], roles.best[large.student]
    terms = [
        Term(label=of_large, numerator={"student_j": teachers[0]}),
        Term(label=large, numerator={"student_j": -teachers[0]}),
        Term(label=of_small, denominator={"student_j": teachers[1]}),
        Term(label=small, denominator={"student_j": -teachers[1]}),
    ]
    effect = effect_of(terms, rel, is_ratio=True)
    assert isinstance(effect, Effect), effect  # all four energies are known, or there were no pair
    if effect.contrast.numerator <= 0.0 and effect.contrast.denominator <= 0.0:
        return f"{about}: neither saves anything, so no reuse repays either"
    return case_of(effect, test, about=about, labels=(small, of_small, large, of_large), unit=RATIO)


def _by_student(found: Sequence[Ladder]) -> dict[tuple[str, str], list[Ladder]]:
    groups: dict[tuple[str, str], list[Ladder]] = {}
    for ladder in found:
        groups.setdefault((ladder.method, ladder.student), []).append(ladder)
    return groups


def _mixed(x: Mix, y: Mix, sign: float) -> Mix:
    mix = Mix()
    mix.add_mix(x, 1.0)
    mix.add_mix(y, sign)
    return mix


def _weighed(plus: Effect, minus: Effect, *, about: str, names: tuple[str, ...], unit: str) -> Case:
    """|x| - |y| from x + y and x - y: it is above 0 where both have the same sign (method.md, eq. 108)."""
    up, down = (effect.p_above(0.0) for effect in (plus, minus))
    p_for = min(max(up, down), max(1.0 - up, 1.0 - down))
    p_against = min(max(up, 1.0 - down), max(1.0 - up, down))
    a, b = plus.contrast, minus.contrast
    lows = a.numerator - a.extra.random, b.numerator - b.extra.random
    highs = a.numerator + a.extra.random, b.numerator + b.extra.random
    effect = max(min(a.numerator, b.numerator), min(-a.numerator, -b.numerator))
    return Case(
        about=about,
        labels=names,
        effect=effect,
        low=max(min(lows), min(-high for high in highs)),
        high=max(min(highs), min(-low for low in lows)),
        unit=unit,
        seeds=min(plus.seeds, minus.seeds),
        leans=None if effect == 0.0 else effect > 0.0,
        # either sign would do, so the chance of an error is twice that of one
        p_for=min(2.0 * p_for, 1.0),
        p_against=min(2.0 * p_against, 1.0),
    )


def _beats(one: Label, two: Label, rel: float) -> Case | None:
    """How surely one label takes less energy than another and is better; None where it does not in the mean."""
    cheaper = effect_of(
        [
            Term(label=two, numerator=OUTCOMES["one_off_energy"]),
            Term(label=one, numerator={"teacher_j": -1.0, "own_j": -1.0}),
        ],
        rel,
        is_ratio=False,
    )
    better = effect_of(
        [Term(label=one, numerator={"quality": 1.0}), Term(label=two, numerator={"quality": -1.0})], rel, is_ratio=False
    )
    if isinstance(cheaper, NoTotal) or isinstance(better, NoTotal):
        return None
    if cheaper.contrast.numerator <= 0.0 or better.contrast.numerator <= 0.0:
        return None
    low, high = better.interval
    return Case(
        about=f"{one.name} takes less energy than {two.name} and is better",
        labels=(one.name, two.name),
        effect=better.value,
        low=low,
        high=high,
        unit="quality",
        seeds=min(cheaper.seeds, better.seeds),
        leans=True,
        p_for=max(cheaper.p_above(0.0), better.p_above(0.0)),
        p_against=1.0,
    )


def _among(case: Case, pairs: int) -> Case:
    return replace(case, about=f"{case.about} (the best of {pairs} pairs)", p_for=min(case.p_for * pairs, 1.0))
