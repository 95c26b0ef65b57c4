"""Statements that might be mined: each an effect, on either side of its bound, with its words (method.md, eq. 109)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, Ladder, ladders, made_with, rise, settings_of
from stillwatt.analysis.rule_cases import unsized
from stillwatt.analysis.sizes import parameters_of, size_text
from stillwatt.analysis.trainings import Label, Term
from stillwatt.analysis.words import listed
from stillwatt.records.energy import NoTotal

QUALITY = "quality"
_MOST_LABELS = 500
"""Distilled labels that methods are tried on."""
_MOST_SIZES = 20
"""Sizes of students beyond which no sets of them are tried."""
_BILLS = {"one_off_energy": "with all of the teacher's work", "marginal_energy": "beside the teacher's work"}
_NAMES = {
    "one_off_energy": "energy with all of the teacher's work",
    "marginal_energy": "energy beside the teacher's work",
    QUALITY: "quality",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement in one direction, whose effects must all lie beyond the bound for it to be true."""

    kind: str
    says: str
    """With `{effect}` where the effect goes."""
    scope: str
    is_above: bool
    bound: float
    unit: str
    effects: tuple[Effect, ...]
    """All must be on that side: the least sure one decides, so the size of the test is that of one."""
    chances: tuple[float, ...]
    """Tail probability of each on that side."""
    labels: tuple[str, ...]
    about: tuple[str, ...]
    """What each effect is of."""
    beside: Effect | None = None
    """What the same change does to the quality, for the reader."""
    shown: Effect | None = None
    """The effect to be told, where it is not that of the least sure comparison."""

    @property
    def p(self) -> float:
        """The largest tail probability of its effects."""
        return max(self.chances)

    @property
    def weakest(self) -> Effect:
        """The effect to be told: that of the comparison that decides."""
        return self.shown or self.effects[self.chances.index(self.p)]

    @property
    def seeds(self) -> int:
        """The fewest seeds of a label in it."""
        return min(effect.seeds for effect in self.effects)

    @property
    def contradicting(self) -> tuple[str, ...]:
        """What its effects are of where one points the other way."""
        return tuple(name for name, p in zip(self.about, self.chances, strict=True) if p > 0.5)


def claims(trained: Trained) -> Iterator[Claim | str]:
    """Every statement that these trainings could support, in both directions, and what could not be tried.

    Which statements there are depends on what was trained and on what is held, never on the outcome they are about.
    """
    for label in trained.roles.distilled[:_MOST_LABELS]:
        baselines = trained.roles.all_of(label)
        scope = f"student {label.student or 'of no name'}, {label.name}"
        if not baselines:
            yield f"{label.name}: no baseline has student {label.student!r}"
        else:
            for outcome in _NAMES:
                yield from _method_claims(trained, [(label, other) for other in baselines], outcome, scope=scope)
        yield from _matched_claims(trained, [label], scope=scope)
    if len(trained.roles.distilled) > _MOST_LABELS:
        yield f"methods are tried on the first {_MOST_LABELS:,} of {len(trained.roles.distilled):,} distilled labels"
    yield from _size_claims(trained)
    for setting in settings_of(trained.labels):
        yield from _setting_claims(trained, setting)


def _method_claims(
    trained: Trained, pairs: Sequence[tuple[Label, Label]], outcome: str, *, scope: str
) -> Iterator[Claim | str]:
    """A method against every baseline of the same student, for every student in scope."""
    method, against = pairs[0][0].method, pairs[0][1].method
    is_ratio = outcome != QUALITY
    effects = []
    for label, baseline in pairs:
        effect = effect_of(_terms(label, baseline, outcome), trained.rel, is_ratio=is_ratio)
        if isinstance(effect, NoTotal):
            yield f"{outcome} of {label.name} against {baseline.name}: {effect.reason}"
            return
        effects.append(effect)
    energy = f"{method} takes {{effect}} times the energy of {against}, {_BILLS.get(outcome)}"
    yield from _both_ways(
        kind="method",
        says=(energy, energy)
        if is_ratio
        else (f"{method} is better than {against}, by {{effect}}", f"{method} is worse than {against}, by {{effect}}"),
        scope=scope,
        bound=1.0 if is_ratio else 0.0,
        unit="times" if is_ratio else QUALITY,
        effects=tuple(effects),
        labels=tuple(dict.fromkeys(label.name for pair in pairs for label in pair)),
        about=tuple(label.name for label, _ in pairs),
    )


def _size_claims(trained: Trained) -> Iterator[Claim | str]:
    """Methods over all students up to, or from, a size."""
    methods: dict[str, list[tuple[float, Label]]] = {}
    yield from (gap.text for gap in unsized(trained.roles.distilled))
    for label in trained.roles.distilled:
        size = parameters_of(label)
        if size is not None and trained.roles.all_of(label):
            methods.setdefault(label.method, []).append((size, label))
    for method, entries in methods.items():
        sizes = sorted({size for size, _ in entries})
        if len(sizes) > _MOST_SIZES or len(entries) > _MOST_LABELS:
            yield f"{method} by size of student: {len(entries):,} labels of {len(sizes):,} sizes are too many to try"
            continue
        sets = [(f"students of {size_text(size)} parameters and fewer", size, True) for size in sizes[1:]]
        sets += [(f"students of {size_text(size)} parameters and more", size, False) for size in sizes[1:-1]]
        for scope, bound, is_upper in sets:
            inside = [label for size, label in entries if (size <= bound if is_upper else size >= bound)]
            pairs = [(label, other) for label in inside for other in trained.roles.all_of(label)]
            for outcome in _NAMES:
                yield from _method_claims(trained, pairs, outcome, scope=scope)
            yield from _matched_claims(trained, inside, scope=scope)


def _matched_claims(trained: Trained, distilled: Sequence[Label], *, scope: str) -> Iterator[Claim]:
    """A method beats the baselines at matched energy: none of them, of any student, is both as cheap and as good.

    Which are as cheap is itself not sure, so each must be shown to be dearer or to be worse (method.md, eq. 109).
    """
    baselines = trained.roles.baselines[:_MOST_LABELS]
    for bill, words in _BILLS.items():
        found = [_duel(trained, own, other, bill) for own in distilled for other in baselines]
        duels = [duel for duel in found if duel is not None]
        cheap = [duel for duel in duels if duel.is_cheap]
        everyone = {duel.own for duel in cheap} == {own.name for own in distilled}
        if len(duels) == len(found) and everyone:
            method, against = distilled[0].method, baselines[0].method
            yield Claim(
                kind="matched",
                says=f"{method} beats {against} at matched energy, {words}: no {against} is as cheap and as good; by "
                "{effect} at least",
                scope=scope,
                is_above=True,
                bound=0.0,
                unit=QUALITY,
                effects=tuple(duel.better for duel in duels),
                chances=tuple(duel.p for duel in duels),
                labels=tuple(label.name for label in (*distilled, *baselines)),
                about=tuple(f"{duel.own} against {duel.other}" for duel in duels),
                shown=min((duel.better for duel in cheap), key=lambda effect: effect.contrast.numerator),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Duel:
    """A label against one baseline at matched energy."""

    own: str
    other: str
    better: Effect
    """How much better the label is."""
    p: float
    """Chance that the baseline is as cheap and as good after all."""
    is_cheap: bool
    """Whether the baseline is as cheap in the mean."""


def _duel(trained: Trained, own: Label, other: Label, bill: str) -> _Duel | None:
    """None where an energy or a quality is unknown."""
    better = effect_of(_terms(own, other, QUALITY), trained.rel, is_ratio=False)
    dearer = effect_of(_terms(own, other, bill), trained.rel, is_ratio=True)
    if isinstance(better, NoTotal) or isinstance(dearer, NoTotal):
        return None
    return _Duel(
        own=own.name,
        other=other.name,
        better=replace(better, seeds=min(better.seeds, dearer.seeds)),
        # either would do, so the chance of an error is twice that of one
        p=min(2.0 * min(better.p_above(0.0), dearer.p_below(1.0)), 1.0),
        is_cheap=(dearer.value or 0.0) >= 1.0,
    )


def _setting_claims(trained: Trained, setting: str) -> Iterator[Claim | str]:
    """What raising one setting does, the others held: step by step, from end to end, and whether always one way."""
    groups: dict[str, list[Ladder]] = {}
    for ladder in ladders(trained.labels, setting):
        groups.setdefault(ladder.method, []).append(ladder)
    if not groups:
        yield f"{setting}: no two labels differ in it alone"
    for found in groups.values():
        for outcome in _NAMES:
            for low, high in _steps(found):
                both = [ladder for ladder in found if ladder.at(low) and ladder.at(high)]
                yield from _step_claims(trained, both, outcome, low, high) if both else ()
            for ladder in found:
                yield from _monotone_claims(trained, ladder, outcome) if len(ladder.levels) > 2 else ()


def _steps(found: Sequence[Ladder]) -> list[tuple[float, float]]:
    """Each level to the next, and the lowest to the highest."""
    levels = sorted({level for ladder in found for level in ladder.levels})
    return list(dict.fromkeys([*itertools.pairwise(levels), (levels[0], levels[-1])]))


def _step_claims(
    trained: Trained, steps: Sequence[Ladder], outcome: str, low: float, high: float
) -> Iterator[Claim | str]:
    first = steps[0]
    is_ratio = outcome != QUALITY
    effect = effect_of(_risen(steps, outcome, low, high, is_ratio=is_ratio), trained.rel, is_ratio=is_ratio)
    names = tuple(label.name for ladder in steps for label in (ladder.at(low), ladder.at(high)) if label)
    if isinstance(effect, NoTotal):
        yield f"{outcome} by {first.setting} {low:g} to {high:g}: {effect.reason}"
        return
    change = f"raising {first.setting} from {low:g} to {high:g}"
    costs = f"{change} changes the {_NAMES[outcome]} by {{effect}}"
    quality = effect_of(_risen(steps, QUALITY, low, high, is_ratio=False), trained.rel, is_ratio=False)
    students = dict.fromkeys(ladder.student or "of no name" for ladder in steps)
    yield from _both_ways(
        kind="setting",
        says=(costs, costs),
        scope=f"{first.method}, student {listed(students)}, all other settings held",
        bound=1.0 if is_ratio else 0.0,
        unit="times" if is_ratio else QUALITY,
        effects=(effect,),
        labels=names,
        about=(listed(names),),
        beside=quality if is_ratio and isinstance(quality, Effect) else None,
    )


def _monotone_claims(trained: Trained, ladder: Ladder, outcome: str) -> Iterator[Claim | str]:
    effects = []
    for low, high in itertools.pairwise(ladder.levels):
        effect = effect_of(rise([ladder], low, high).terms(outcome), trained.rel, is_ratio=False)
        if isinstance(effect, NoTotal):
            yield f"{outcome} by {ladder.setting} {low:g} to {high:g}: {effect.reason}"
            return
        effects.append(effect)
    names = tuple(label.name for label in ladder.labels)
    over = (
        f"with {ladder.setting} over {listed(f'{level:g}' for level in ladder.levels)}: by {{effect}} at the least step"
    )
    yield from _both_ways(
        kind="monotone",
        says=(f"the {_NAMES[outcome]} rises {over}", f"the {_NAMES[outcome]} falls {over}"),
        scope=f"{ladder.method}, student {ladder.student or 'of no name'}, {_held(ladder)}",
        bound=0.0,
        unit=QUALITY if outcome == QUALITY else "J",
        effects=tuple(effects),
        labels=names,
        about=tuple(f"{one} to {two}" for one, two in itertools.pairwise(names)),
    )


def _held(ladder: Ladder) -> str:
    """At what the other settings are held, so that two ladders of one method and student are told apart."""
    others = {name: value for name, value in made_with(ladder.labels[0]).items() if name != ladder.setting}
    if not others:
        return "all other settings held"
    return f"{listed(f'{name} {value:g}' for name, value in sorted(others.items()))} held"


def _both_ways(
    *,
    kind: str,
    says: tuple[str, str],
    scope: str,
    bound: float,
    unit: str,
    effects: tuple[Effect, ...],
    labels: tuple[str, ...],
    about: tuple[str, ...],
    beside: Effect | None = None,
) -> Iterator[Claim]:
    above = tuple(effect.p_above(bound) for effect in effects)
    for is_above, words in zip((True, False), says, strict=True):
        yield Claim(
            kind=kind,
            says=words,
            scope=scope,
            is_above=is_above,
            bound=bound,
            unit=unit,
            effects=effects,
            chances=above if is_above else tuple(1.0 - p for p in above),
            labels=labels,
            about=about,
            beside=beside,
        )


def _terms(own: Label, other: Label, outcome: str) -> list[Term]:
    if outcome == QUALITY:
        return [Term(label=own, numerator={QUALITY: 1.0}), Term(label=other, numerator={QUALITY: -1.0})]
    return [Term(label=own, numerator=OUTCOMES[outcome]), Term(label=other, denominator=OUTCOMES["marginal_energy"])]


def _risen(steps: Sequence[Ladder], outcome: str, low: float, high: float, *, is_ratio: bool) -> list[Term]:
    if not is_ratio:
        return rise(steps, low, high).terms(outcome)
    fields = OUTCOMES[outcome]
    above = [Term(label=label, numerator=fields) for ladder in steps if (label := ladder.at(high))]
    return above + [Term(label=label, denominator=fields) for ladder in steps if (label := ladder.at(low))]
