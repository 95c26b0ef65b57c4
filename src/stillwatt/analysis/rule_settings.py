"""Comparisons of settings: what raising one does, which of two weighs more, who is beaten (method.md, eq. 108)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from stillwatt.analysis.breakeven import NOTHING_TO_SHARE
from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, UNITS, Ladder, Mix, ends, ladders, made_with
from stillwatt.analysis.reuse import has_nothing_to_share
from stillwatt.analysis.rule_cases import RATIO, Evidence, Found, Gap, case_of, unsized
from stillwatt.analysis.sizes import parameters_of, size_text
from stillwatt.analysis.stopped import unlike_lengths
from stillwatt.analysis.trainings import Label, Term
from stillwatt.analysis.words import listed
from stillwatt.records.energy import NoTotal
from stillwatt.records.rules import Case, RuleTest

_MOST_PAIRED = 100
"""Labels of one student beyond which pairs are not looked at: there would be too many."""


def raising(test: RuleTest, evidence: Evidence) -> Found:
    """An outcome at the highest level of a setting over that at the lowest, the others held."""
    setting, outcome = test.options["setting"], test.options["outcome"]
    labels = evidence.distilled(test)
    yield from _off_ladder(labels, setting)
    for ladder in ladders(labels, setting):
        low, high = ladder.labels[0], ladder.labels[-1]
        terms = [Term(label=high, numerator=OUTCOMES[outcome]), Term(label=low, denominator=OUTCOMES[outcome])]
        effect = effect_of(terms, evidence.trained.rel, is_ratio=True)
        about = f"{setting} {ladder.levels[-1]:g} against {ladder.levels[0]:g}: {high.name} against {low.name}"
        if isinstance(effect, NoTotal):
            yield Gap(about=about, reason=effect.reason, labels=(high, low))
        else:
            yield case_of(effect, test, about=about, labels=(high, low), unit=RATIO)


def falling_returns(test: RuleTest, evidence: Evidence) -> Found:
    """How much steeper an outcome rises over the lower half of a setting's levels than over the upper one."""
    setting, outcome = test.options["setting"], test.options["outcome"]
    labels = evidence.distilled(test)
    yield from _off_ladder(labels, setting)
    for ladder in ladders(labels, setting):
        if len(ladder.levels) < 3:
            yield Gap(
                about=f"{setting} of {ladder.labels[0].name}",
                reason="there are two levels; a third one shows whether returns fall",
                labels=ladder.labels,
            )
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
            yield Gap(about=about, reason=effect.reason, labels=(low, between, high))
        else:
            unit = f"{UNITS.get(outcome, 'J')} per unit of {setting}"
            yield case_of(effect, test, about=about, labels=(low, between, high), unit=unit)


def outweighs(test: RuleTest, evidence: Evidence) -> Found:
    """Whether one setting moves an outcome further than another does: |x| - |y| above 0 (method.md, eq. 108)."""
    setting, other, outcome = (test.options[name] for name in ("setting", "other", "outcome"))
    labels = evidence.distilled(test)
    first, second = _by_student(ladders(labels, setting)), _by_student(ladders(labels, other))
    yield from _off_both(labels, setting, other, first, second)
    for key in [key for key in first if key in second]:
        x, y = ends(first[key]), ends(second[key])
        about = f"{outcome} of {key[0]} {key[1]}: {setting} against {other}"
        plus, minus = (
            effect_of(_mixed(x, y, sign).terms(outcome), evidence.trained.rel, is_ratio=False) for sign in (1.0, -1.0)
        )
        if isinstance(plus, NoTotal) or isinstance(minus, NoTotal):
            reasons = [found.reason for found in (plus, minus) if isinstance(found, NoTotal)]
            yield Gap(about=about, reason=reasons[0], labels=(*x.labels.values(), *y.labels.values()))
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
        lacks = _lacks_to_be_beaten(label, setting, other)
        if lacks:
            yield Gap(about=label.name, reason=lacks, labels=(label,))
        else:
            groups.setdefault((label.method, label.student), []).append(label)
    for (method, student), labels in groups.items():
        about = f"{method} {student}"
        if not 1 < len(labels) <= _MOST_PAIRED:
            few = "one point" if len(labels) == 1 else f"{len(labels)} points, too many to look at in pairs,"
            yield Gap(about=about, reason=f"there is {few} of {setting} and {other}", labels=tuple(labels))
            continue
        found = [
            (p, case)
            for one, two in itertools.permutations(labels, 2)
            if (case := _beats(one, two, evidence.trained.rel)) is not None
            for p in [case.p_for]
        ]
        if not found:
            yield Gap(about=about, reason="no point is beaten by another in the mean", labels=tuple(labels))
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
    yield from unsized(evidence.distilled(test))
    for label in evidence.distilled(test):
        size = parameters_of(label)
        lacks = _lacks(label, roles.baseline_of(label))
        if lacks and size is not None:
            yield Gap(about=f"N* of {label.name}", reason=lacks, labels=(label,))
        elif size is not None:
            methods.setdefault(label.method, []).append((size, label))
    for method, entries in methods.items():
        yield from _by_rising_size(test, evidence, method, entries)


def _by_rising_size(test: RuleTest, evidence: Evidence, method: str, entries: Sequence[tuple[float, Label]]) -> Found:
    """Every label against every one of the next size that is made with the same settings."""
    found = sorted({size for size, _ in entries})
    if len(found) == 1:
        alone = tuple(label for _, label in entries)
        yield Gap(about=f"{method} of {size_text(found[0])}", reason="there is no second size", labels=alone)
    for sizes in itertools.pairwise(found):
        small, large = ([label for size, label in entries if size == at] for at in sizes)
        pairs = itertools.product(small, large)
        alike = [(one, other) for one, other in pairs if made_with(one) == made_with(other)]
        for one, other in alike:
            yield _order(test, evidence, one, other)
        paired = {label.name for pair in alike for label in pair}
        left = tuple(label for label in (*small, *large) if label.name not in paired)
        if left:
            who = "no two labels" if not alike else f"{listed(label.name for label in left)} and no other label"
            about = f"{method} of {size_text(sizes[0])} and {size_text(sizes[1])}"
            yield Gap(about=about, reason=f"{who} are made with the same settings", labels=left)


def _lacks(label: Label, baseline: Label | None) -> str:
    """Why there is no N* to speak of; empty where there is one."""
    if baseline is None:
        return f"no baseline has student {label.student!r}"
    if why_not := unlike_lengths(label, baseline):
        return why_not
    if has_nothing_to_share(label):
        return f"of {label.name}, {NOTHING_TO_SHARE}"
    if not label.mean("teacher_j"):
        return f"the teacher's energy of {label.name} is unknown or 0"
    missing = [one.name for one in (label, baseline) if one.mean("student_j") is None]
    return f"the student's energy of {missing[0]} is unknown" if missing else ""


def _order(test: RuleTest, evidence: Evidence, small: Label, large: Label) -> Case | Gap:
    roles, rel = evidence.trained.roles, evidence.trained.rel
    about = f"N* of {small.name} against that of {large.name}"
    teachers = small.mean("teacher_j") or 0.0, large.mean("teacher_j") or 0.0
    of_small, of_large = roles.baseline_of(small), roles.baseline_of(large)
    assert of_small is not None, small.name  # neither lacks one, or there were no pair
    assert of_large is not None, large.name
    terms = [
        Term(label=of_large, numerator={"student_j": teachers[0]}),
        Term(label=large, numerator={"student_j": -teachers[0]}),
        Term(label=of_small, denominator={"student_j": teachers[1]}),
        Term(label=small, denominator={"student_j": -teachers[1]}),
    ]
    effect = effect_of(terms, rel, is_ratio=True)
    assert isinstance(effect, Effect), effect  # all four energies are known, or there were no pair
    if effect.contrast.numerator <= 0.0 and effect.contrast.denominator <= 0.0:
        return Gap(about=about, reason="neither saves anything, so no reuse repays either", labels=(small, large))
    return case_of(effect, test, about=about, labels=(small, of_small, large, of_large), unit=RATIO)


def _off_ladder(labels: Sequence[Label], setting: str) -> Iterator[Gap]:
    """Labels of which the setting is not known, and those that differ from no other in it alone."""
    without = tuple(label for label in labels if setting not in label.settings)
    if without:
        yield Gap(about=listed(label.name for label in without), reason=f"{setting} is not known", labels=without)
    on = {label.name for ladder in ladders(labels, setting) for label in ladder.labels}
    alone = tuple(label for label in labels if setting in label.settings and label.name not in on)
    if alone:
        yield Gap(
            about=listed(label.name for label in alone),
            reason=f"no other label differs in {setting} alone",
            labels=alone,
        )


def _off_both(
    labels: Sequence[Label],
    setting: str,
    other: str,
    first: Mapping[tuple[str, str], Sequence[Ladder]],
    second: Mapping[tuple[str, str], Sequence[Ladder]],
) -> Iterator[Gap]:
    """Labels whose method and student do not climb both settings, and those that are on no ladder of either."""
    for name, own in ((setting, first), (other, second)):
        lacking = tuple(label for label in labels if (label.method, label.student) not in own)
        if lacking:
            yield Gap(
                about=listed(label.name for label in lacking),
                reason=f"no two labels of the method and student differ in {name} alone",
                labels=lacking,
            )
    climbed = {
        label.name for found in (first, second) for steps in found.values() for one in steps for label in one.labels
    }
    both = [label for label in labels if (label.method, label.student) in first.keys() & second.keys()]
    aside = tuple(label for label in both if label.name not in climbed)
    if aside:
        yield Gap(
            about=listed(label.name for label in aside),
            reason=f"no other label differs in {setting} or {other} alone",
            labels=aside,
        )


def _lacks_to_be_beaten(label: Label, setting: str, other: str) -> str:
    """What is unknown of a label that pairs are to be made with; empty where nothing is."""
    unknown = [name for name in (setting, other) if name not in label.settings]
    fields = {"quality": "the quality", "teacher_j": "the teacher's energy", "own_j": "the energy beside it"}
    unknown += [words for name, words in fields.items() if not label.is_known(name)]
    if unknown:
        return f"{listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not known"
    is_whole = any(row.teacher_j is not None and row.own_j is not None for row in label.rows)
    return "" if is_whole else "of no training are the teacher's energy and the energy beside it both known"


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
    # `_lacks_to_be_beaten` has set aside whatever lacks one
    assert not isinstance(cheaper, NoTotal), cheaper.reason
    assert not isinstance(better, NoTotal), better.reason
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
