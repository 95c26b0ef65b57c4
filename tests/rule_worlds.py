"""Worlds with and without effects, awkward ones among them, and what of that which is mined from them is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rule_studies import World, draw_rows, mined
from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.claims import claims
from stillwatt.analysis.trainings import Label, gather_labels
from stillwatt.records.comparison import Observation
from stillwatt.records.rules import MinedRule

Rows = list[Observation]
Change = Callable[[Sequence[Observation], np.random.Generator], Rows]
KINDS = ("method", "matched", "setting", "monotone")
_SHARP_SEEDS, _SHARP_SD, _SHARP_P = 12, 1e-7, 1e-9
"""A study so exact that a statement is found in it where it is true, and else once in a thousand million."""
_TIE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWorld:
    """A truth, how studies are drawn around it, and what is done to their rows."""

    name: str
    world: World
    change: Change = lambda rows, _: list(rows)

    def study(self, stream: np.random.Generator) -> Rows:
        """One study."""
        return self.change(draw_rows(self.world, stream), stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedShare:
    """What mining came to over many studies of one world."""

    studies: int
    with_anything: float
    """Share of the studies in which something was found."""
    with_false: float
    """In which something false was."""
    false_share: float
    """Mean over studies of the share of false ones among those found; 0 where nothing was found. This is what was asked
    to be 5 % at most."""
    found: float
    """Statements found in a study, on average."""
    power: dict[str, float]
    """Share of the true statements of a kind that is found in a study; of those kinds that have any."""


def reruns(rows: Sequence[Observation], stream: np.random.Generator) -> Rows:
    """Every seed run three times: the energy is repeated, the draw is not."""
    return [
        replace(
            row,
            seed=f"run{again}:{row.seed}",
            drawn_with=row.seed,
            student_j=_times(row.student_j, factor := 1.0 + stream.normal(0.0, 0.003)),
            own_j=_times(row.own_j, factor),
        )
        for row in rows
        for again in range(3)
    ]


def rounded(rows: Sequence[Observation], _: np.random.Generator) -> Rows:
    """To about one standard deviation, as in a published table, so that seeds often agree to the last digit."""
    return [
        replace(
            row,
            quality=None if row.quality is None else round(row.quality, 2),
            student_j=None if row.student_j is None else round(row.student_j, 1),
            own_j=None if row.student_j is None else round(row.student_j, 1) + 1.0,
            teacher_j=None if row.teacher_j is None else round(row.teacher_j, 1),
        )
        for row in rows
    ]


def one_artefact(rows: Sequence[Observation], stream: np.random.Generator) -> Rows:
    """All seeds of a label drew on one artefact, made once: its error is the same for all of them."""
    errors = {label: 1.0 + stream.normal(0.0, 0.0153) for label in sorted({row.label for row in rows})}
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row.method + row.student, []).append(row.teacher_j or 0.0)
    return [
        replace(row, teacher_j=math.fsum(own := means[row.method + row.student]) / len(own) * errors[row.label])
        for row in rows
    ]


def unpaired(rows: Sequence[Observation], _: np.random.Generator) -> Rows:
    """No label has a seed in common with another, and some have two where others have all."""
    few = {label for number, label in enumerate(sorted({row.label for row in rows})) if number % 2}
    return [
        replace(row, seed=f"{row.label}-{row.seed}") for row in rows if row.label not in few or row.seed in ("0", "1")
    ]


def shared_seeds(rows: Sequence[Observation], stream: np.random.Generator) -> Rows:
    """A seed moves all labels alike, five times as far as it moves them apart."""
    moves = {seed: stream.normal(0.0, (0.1, 0.05)) for seed in sorted({row.seed for row in rows})}
    return [
        replace(
            row,
            student_j=_times(row.student_j, factor := 1.0 + float(moves[row.seed][0])),
            own_j=_times(row.own_j, factor),
            quality=None if row.quality is None else row.quality + float(moves[row.seed][1]),
        )
        for row in rows
    ]


def one_loud(rows: Sequence[Observation], stream: np.random.Generator) -> Rows:
    """One method varies five times as much as the others."""
    return [
        replace(
            row,
            quality=None if row.quality is None else row.quality + stream.normal(0.0, 0.05),
            student_j=_times(row.student_j, factor := 1.0 + stream.normal(0.0, 0.1)),
            own_j=_times(row.own_j, factor),
        )
        if row.method == "kdsweep"
        else row
        for row in rows
    ]


def heavy_tails(rows: Sequence[Observation], stream: np.random.Generator) -> Rows:
    """Errors of three degrees of freedom on top: now and then one lies far off."""
    return [
        replace(
            row,
            quality=None if row.quality is None else row.quality + 0.02 * stream.standard_t(3),
            student_j=_times(row.student_j, factor := max(1.0 + 0.03 * stream.standard_t(3), 0.1)),
            own_j=_times(row.own_j, factor),
        )
        for row in rows
    ]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


_PLANTED = World(
    seeds=3, teacher=1.5, saving=0.3, better=0.15, alpha_quality=0.2, length_energy=1.0, length_quality=0.2
)
_FAINT = World(
    seeds=3, teacher=0.2, saving=0.05, better=0.02, alpha_quality=0.03, length_energy=0.1, length_quality=0.03
)
NULL_WORLDS = (
    RuleWorld(name="no effect, two seeds", world=World(seeds=2)),
    RuleWorld(name="no effect, three seeds", world=World(seeds=3)),
    RuleWorld(name="no effect, five seeds", world=World(seeds=5)),
    RuleWorld(name="two seeds, each run thrice", world=World(seeds=2), change=reruns),
    RuleWorld(name="rounded energies and qualities, two seeds", world=World(seeds=2), change=rounded),
    RuleWorld(name="rounded energies and qualities, four seeds", world=World(seeds=4), change=rounded),
    RuleWorld(name="seeds of their own, two or five", world=World(seeds=5), change=unpaired),
    RuleWorld(name="seeds move all labels alike", world=World(seeds=3), change=shared_seeds),
    RuleWorld(name="one method five times as loud", world=World(seeds=3), change=one_loud),
    RuleWorld(name="heavy tails", world=World(seeds=3), change=heavy_tails),
)
"""Nothing makes any difference: whatever is found is false."""
MIXED_WORLDS = (
    RuleWorld(name="one artefact a label, nearly all", world=World(seeds=3, teacher=15.0), change=one_artefact),
    RuleWorld(name="planted effects, two seeds", world=replace(_PLANTED, seeds=2)),
    RuleWorld(name="planted effects, three seeds", world=_PLANTED),
    RuleWorld(name="planted effects, five seeds", world=replace(_PLANTED, seeds=5)),
    RuleWorld(name="planted effects, each seed run thrice", world=_PLANTED, change=reruns),
    RuleWorld(name="planted effects, seeds of their own", world=replace(_PLANTED, seeds=5), change=unpaired),
    RuleWorld(name="faint effects, three seeds", world=_FAINT),
    RuleWorld(name="faint effects, ten seeds", world=replace(_FAINT, seeds=10)),
)
"""Some statements are true; of others, such as those on temperature, none is."""


def mined_share(world: RuleWorld, *, studies: int, seed: int, rate: float = 0.05) -> MinedShare:
    """Mine many studies of a world, and hold what is found against its truth."""
    stream = np.random.default_rng([seed, *world.name.encode()])
    true = truths(world.world, stream)
    shares, found, some = [], 0, 0
    hits = dict.fromkeys(KINDS, 0)
    for _ in range(studies):
        rules = mined(world.study(stream), rate=rate).found
        false = [rule for rule in rules if not is_true(rule, true)]
        shares.append(len(false) / len(rules) if rules else 0.0)
        found += len(rules)
        some += bool(rules)
        for rule in rules:
            hits[rule.kind] += (rule.statement, rule.scope) in true.said[rule.kind]
    return MinedShare(
        studies=studies,
        with_anything=some / studies,
        with_false=sum(share > 0.0 for share in shares) / studies,
        false_share=float(np.mean(shares)),
        found=found / studies,
        power={kind: hits[kind] / studies / len(said) for kind, said in true.said.items() if said},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true in a world: statements by kind, and the labels' own means."""

    said: dict[str, set[tuple[str, str]]]
    labels: dict[str, Label]


def truths(world: World, stream: np.random.Generator) -> Truth:
    """Statements that are true, as a study without noise to speak of shows them."""
    sharp = replace(world, seeds=_SHARP_SEEDS, energy_sd=_SHARP_SD, quality_sd=_SHARP_SD)
    labels = gather_labels(draw_rows(sharp, stream))
    said: dict[str, set[tuple[str, str]]] = {kind: set() for kind in KINDS}
    for claim in claims(Trained.of(labels, "sft")):
        if not isinstance(claim, str) and claim.p < _SHARP_P:
            said[claim.kind].add((claim.says, claim.scope))
    return Truth(said=said, labels={label.name: label for label in labels})


def is_true(rule: MinedRule, truth: Truth) -> bool:
    """Whether a statement is; one at matched energy that the sharp study did not try is judged by its labels."""
    if (rule.statement, rule.scope) in truth.said[rule.kind]:
        return True
    if rule.kind != "matched":
        return False
    own = [truth.labels[name] for name in rule.supporting if truth.labels[name].method != "sft"]
    others = [truth.labels[name] for name in rule.supporting if truth.labels[name].method == "sft"]
    return not any(_is_as_cheap_and_good(other, label, rule.statement) for label in own for other in others)


def _is_as_cheap_and_good(other: Label, label: Label, statement: str) -> bool:
    bill = _mean(label, "own_j") + (_mean(label, "teacher_j") if "with all of" in statement else 0.0)
    return _mean(other, "own_j") <= bill * (1.0 + _TIE) and _mean(other, "quality") >= _mean(label, "quality") - _TIE


def _mean(label: Label, name: str) -> float:
    return label.mean(name) or 0.0


def worst_of(found: dict[str, MinedShare]) -> tuple[str, float]:
    """The world with the largest share of false statements."""
    name = max(found, key=lambda each: found[each].false_share)
    return name, found[name].false_share


def lines_of(found: dict[str, MinedShare]) -> Iterator[str]:
    """One line a world."""
    for name, share in found.items():
        power = "  ".join(f"{kind} {part:.0%}" for kind, part in share.power.items())
        yield f"{name:48} false {share.false_share:6.2%}  in {share.with_false:6.2%}  found {share.found:6.2f}  {power}"
