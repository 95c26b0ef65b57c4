"""The answer in plain words: which arm was worth it, by how much, and how sure that is.

Words are chosen by rules from the study's own verdicts; nothing is claimed that an interval does not carry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from stillwatt.analysis.bills import lacking
from stillwatt.analysis.breakeven import Estimate, left_nothing, ratio_interval
from stillwatt.analysis.missing import missing_text
from stillwatt.analysis.stopped import are_equal_joule
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint, Bill, BreakEven, BreakEvenKind, Quality, Study, Verdict
from stillwatt.records.run import RunRecord, total_dict
from stillwatt.report.arm_pairs import Pair, find_pairs
from stillwatt.report.format import (
    duration_text,
    energy_text,
    least_students_text,
    percent_text,
    rounded,
    students_text,
    times_interval_text,
    unmeasured_text,
)
from stillwatt.report.key_numbers import key_numbers
from stillwatt.report.passes import passes_sentence

_Z_95 = 1.96
_MOST_SENTENCES = 6
"""More comparisons than this are left to the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRatio:
    """One energy over another with its 95 % interval (method.md, eq. 24): as lopsided as a ratio is, never below 0."""

    value: float
    low: float
    high: float | None
    """None: no upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A distilled arm beside its baseline, both at the last checkpoint up to which both were trained (eq. 144)."""

    point: ArmPoint
    baseline: ArmPoint
    one_off_ratio: EnergyRatio | None
    """Energy with all of the teacher's work over the baseline's."""
    marginal_ratio: EnergyRatio | None
    """Energy without the teacher's work over the baseline's."""
    repeat_rel: float
    """How far one training repeats (method.md, eq. 28)."""
    quality_gain: float | None
    gain_half_width: float | None
    """95 %, from the items both were scored on; None where a score has no standard error."""
    reuse: BreakEven | None
    matched: BreakEven | None
    place: str = ""
    """Why and where they stand beside each other, where it is not at the end of the arm's training as planned."""
    is_equal_joule: bool = False
    """Whether both were trained until their joules reached one budget: neither can be cheaper."""

    @property
    def is_better(self) -> bool:
        """Better beyond its noise."""
        return self._beyond(self.quality_gain)

    @property
    def is_worse(self) -> bool:
        """Worse beyond its noise."""
        return self._beyond(None if self.quality_gain is None else -self.quality_gain)

    @property
    def is_cheaper(self) -> bool:
        """Cheaper beyond its noise, even with the whole teacher on its own account."""
        own, other = self.point.energy_under("one-off"), self.baseline.energy_under("one-off")
        if isinstance(own, NoTotal) or isinstance(other, NoTotal) or self.is_equal_joule:
            return False
        if lacking(own, other):
            return False
        noise_j = math.hypot(_random_j(own, self.repeat_rel), _random_j(other, self.repeat_rel))
        return own.value_j + noise_j < other.value_j

    @property
    def pays_by_reuse(self) -> bool:
        """Its N* has a value."""
        return self.reuse is not None and self.reuse.verdict is Verdict.VALUE

    def _beyond(self, gain: float | None) -> bool:
        return gain is not None and self.gain_half_width is not None and gain > self.gain_half_width


def compare(study: Study) -> tuple[Comparison, ...]:
    """Every distilled arm beside the baseline of the same student and seed, where both were trained as long."""
    return tuple(_compared(study, pair) for pair in find_pairs(study) if pair.baseline is not None)


def _compared(study: Study, pair: Pair) -> Comparison:
    point, baseline = pair.point, pair.baseline
    assert baseline is not None
    gain, half_width = _gain(point, baseline)
    return Comparison(
        point=point,
        baseline=baseline,
        one_off_ratio=_ratio(point, baseline, "one-off", study.repeat_rel),
        marginal_ratio=_ratio(point, baseline, "marginal", study.repeat_rel),
        repeat_rel=study.repeat_rel,
        quality_gain=gain,
        gain_half_width=half_width,
        reuse=study.break_even(BreakEvenKind.REUSE, point),
        matched=study.break_even(BreakEvenKind.MATCHED_QUALITY, point),
        place=pair.reason,
        is_equal_joule=are_equal_joule(point, baseline),
    )


def answer_dict(run: RunRecord, study: Study) -> dict[str, Any]:
    """Title, sentences and key numbers."""
    comparisons = compare(study)
    if not study.arms:
        title, sentences = _without_arms(run)
    elif not comparisons:
        count = len(study.final_points)
        title = (
            "1 arm was trained; it could not be held against a baseline"
            if count == 1
            else f"{count} arms were trained; none could be held against a baseline"
        )
        sentences = _apart_sentences(study) or [
            f"No other arm stands beside {study.baseline_arm} with the same student and seed."
        ]
    else:
        title = _title(comparisons)
        sentences = [_sentence(entry) for entry in comparisons[:_MOST_SENTENCES]] + _frontier_sentence(study)
        if len(comparisons) > _MOST_SENTENCES:
            sentences.append(f"{len(comparisons) - _MOST_SENTENCES} more comparisons stand in the tables alone.")
        sentences += _apart_sentences(study) + _lacking_sentence(comparisons)
    sentences += [*passes_sentence(run), *_basis_sentence(run)]
    if study.missing:
        title += f"; {missing_text(study.missing)}"
    return {"title": title, "sentences": sentences, "key_numbers": key_numbers(run, study)}


def _apart_sentences(study: Study) -> list[str]:
    """Arms that were not trained as long as their baseline, and why."""
    apart = [pair for pair in find_pairs(study) if pair.baseline is None]
    return [f"{pair.reason}: no verdict on {pair.point.arm}." for pair in apart]


def _gain(point: ArmPoint, baseline: ArmPoint) -> tuple[float | None, float | None]:
    if not isinstance(point.quality, Quality) or not isinstance(baseline.quality, Quality):
        return None, None
    errors = (point.quality.own_se, baseline.quality.own_se)
    known = [error for error in errors if error is not None]
    half_width = _Z_95 * math.hypot(*known) if len(known) == len(errors) else None
    return point.quality.value - baseline.quality.value, half_width


def _random_j(energy: Bill, repeat_rel: float) -> float:
    """What the meter and the next training may make of it; a single one is no better known than it repeats."""
    return math.hypot(energy.random_j, repeat_rel * energy.value_j)


def _ratio(point: ArmPoint, baseline: ArmPoint, allocation: str, repeat_rel: float) -> EnergyRatio | None:
    """One energy over another; what errs alike in both cancels."""
    own, other = point.energy_under(allocation), baseline.energy_under(allocation)
    if isinstance(own, NoTotal) or isinstance(other, NoTotal) or other.value_j <= 0.0:
        return None
    found = ratio_interval(
        Estimate(value=own.value_j, random=_random_j(own, repeat_rel)),
        Estimate(value=other.value_j, random=_random_j(other, repeat_rel)),
    )
    if found is None:
        return None
    return EnergyRatio(value=own.value_j / other.value_j, low=found.low, high=found.high)


class _Rank(IntEnum):
    """What can be said for an arm, best first."""

    AT_ONCE = 0
    BETTER = 1
    BY_REUSE = 2
    CHEAP_AND_WORSE = 3
    NOTHING = 4


_SEVERAL = {
    _Rank.AT_ONCE: "were worth it at once: less energy than {base}, their teacher included",
    _Rank.BETTER: "made better students than {base}, for more energy",
    _Rank.BY_REUSE: "are worth it if enough students share their teacher's work",
    _Rank.CHEAP_AND_WORSE: "took less energy than {base}, but made worse students",
}


def _title(comparisons: Sequence[Comparison]) -> str:
    """The best thing that can be said of any arm, and of which."""
    base = comparisons[0].baseline.name
    best = min(_rank(entry) for entry in comparisons)
    if best is not _Rank.NOTHING:
        praised = [entry for entry in comparisons if _rank(entry) is best]
        # one training an arm is one draw; the title must not sound like more
        hedge = "On one seed, " if len({entry.point.seed for entry in comparisons}) == 1 else ""
        short = {percent_text(entry.point.budget_share) for entry in praised if entry.place}
        where = f", at {' and '.join(sorted(short))} of the token budget" if short else ""
        if len(praised) == 1:
            return f"{hedge}{praised[0].point.arm} {_praise(best, praised[0])}{where}"
        names = [entry.point.arm for entry in praised]
        return f"{hedge}{', '.join(names[:-1])} and {names[-1]} {_SEVERAL[best].format(base=base)}{where}"
    if any(entry.one_off_ratio is None for entry in comparisons):
        return "Whether distilling was worth it cannot be said: an energy is missing"
    if all(entry.is_equal_joule for entry in comparisons):
        return f"On equal joules no distilled arm was clearly better than {base}"
    return f"Not shown to be worth it: no distilled arm was clearly better or clearly cheaper than {base}"


def _rank(entry: Comparison) -> _Rank:
    if entry.is_cheaper:
        return _Rank.CHEAP_AND_WORSE if entry.is_worse else _Rank.AT_ONCE
    if entry.is_worse:
        return _Rank.NOTHING
    if entry.is_better and entry.one_off_ratio is not None:
        return _Rank.BETTER
    return _Rank.BY_REUSE if entry.pays_by_reuse else _Rank.NOTHING


def _praise(rank: _Rank, entry: Comparison) -> str:
    """What speaks for the one arm of the best rank."""
    base = entry.baseline.arm
    if rank is _Rank.BETTER:
        energy = "" if entry.one_off_ratio is None else f", for {_times(entry.one_off_ratio)} the energy"
        return f"made a better student than {base}{energy}"
    if rank is _Rank.BY_REUSE:
        times = math.ceil(entry.reuse.value) if entry.reuse and entry.reuse.value else 1
        return f"is worth it if {max(times, 1):,} or more students share its teacher's work"
    if rank is _Rank.CHEAP_AND_WORSE:
        return f"took less energy than {base}, but made a worse student"
    return f"was worth it at once: less energy than {base}, its teacher included"


def _sentence(entry: Comparison) -> str:
    """One arm against its baseline: quality, energy, break-even."""
    place = f"{entry.place}. " if entry.place else ""
    return f"{place}{_quality_clause(entry)}{_energy_clause(entry)} {_reuse_clause(entry)}".strip()


def _quality_clause(entry: Comparison) -> str:
    arm, base = entry.point.arm, entry.baseline.arm
    if entry.quality_gain is None:
        return f"{arm} and {base} have no quality to compare."
    direction = "higher" if entry.quality_gain >= 0.0 else "lower"
    size = rounded(abs(entry.quality_gain), 2)
    if entry.gain_half_width is None:
        return f"{arm} scored {size} {direction} than {base} (no standard error was given)."
    noise = f"{size} ± {rounded(entry.gain_half_width, 2)}"
    if entry.is_better or entry.is_worse:
        return f"{arm} scored {direction} than {base}, beyond its noise (Q by {noise})."
    return f"{arm} scored {direction} than {base}, but within the noise (Q by {noise})."


def _energy_clause(entry: Comparison) -> str:
    # a sentence about two arms leaves nobody that "it" could mean
    its, it = ("Its", "It") if entry.quality_gain is not None else (f"{entry.point.arm}'s", entry.point.arm)
    if entry.one_off_ratio is None:
        energy = entry.point.energy_under("one-off")
        why = energy.reason if isinstance(energy, NoTotal) else "the baseline has no energy"
        return f" {its} energy with the teacher's work is not known: {why}."
    clause = (
        f" {it} used {_times(entry.one_off_ratio)} the energy of {entry.baseline.arm} with all of the "
        "teacher's work on one student"
    )
    if entry.marginal_ratio is not None:
        clause += f", {_times(entry.marginal_ratio)} with that work left out"
    return f"{clause}."


def _times(ratio: EnergyRatio) -> str:
    return f"{times_interval_text(ratio.value, ratio.low, ratio.high)} times"


def _reuse_clause(entry: Comparison) -> str:
    found, matched = entry.reuse, entry.matched
    clause = ""
    if found is not None:
        clause = _reuse_words(found, entry)
        if found.verdict is Verdict.VALUE and entry.is_worse:
            clause = f"{clause.removesuffix('.')}, each of them a worse student."
    if matched is not None and matched.verdict is Verdict.VALUE and matched.value is not None:
        number = students_text(matched.value, matched.low, matched.high)
        clause += f" Against {entry.baseline.arm} at the same quality, N* = {number}."
    return clause.strip()


def _reuse_words(found: BreakEven, entry: Comparison) -> str:
    if found.verdict is Verdict.VALUE and found.value is not None:
        return f"Its teacher's work is repaid at N* = {students_text(found.value, found.low, found.high)} students."
    if found.verdict is Verdict.NOT_AT_THIS_BUDGET:
        return f"There is no N* at an equal token budget: {found.reason}."
    if found.verdict is Verdict.NEVER and left_nothing(entry.point):
        return f"No amount of reuse repays its teacher: {found.reason}."
    if found.verdict is Verdict.NEVER:
        return "At the same token budget no amount of reuse repays its teacher, because training it saved nothing."
    if found.low is not None:
        earliest = least_students_text(found.low)
        return f"Reuse repays its teacher from {earliest} on at the earliest, or never: {found.reason}."
    return f"Its N* is not known: {found.reason}."


def _frontier_sentence(study: Study) -> list[str]:
    on = [p for p in study.frontier if p.allocation == "one-off" and p.is_on_frontier]
    if not on:
        return []
    budgets: dict[str, list[str]] = {}
    for point in on:
        budgets.setdefault(point.arm, []).append(percent_text(point.budget_share))
    names = "; ".join(f"{arm} at {' and '.join(shares)} of the budget" for arm, shares in budgets.items())
    sure = sum(1 for point in on if point.is_separable)
    return [
        f"On the energy-quality frontier with the teacher's work on one student: {names}. "
        f"Of these {len(on)} points, {sure} {'stands' if sure == 1 else 'stand'} out from the noise."
    ]


def _without_arms(run: RunRecord) -> tuple[str, list[str]]:
    if isinstance(run.total, NoTotal):
        return f"{run.name}: no energy", [f"The run has no total: {run.total.reason}."]
    total = total_dict(run.total)
    sentences = [f"It ran for {duration_text(run.duration_s)}; the interval is 95 %."]
    return f"{run.name} used {energy_text(total)}", sentences


def _lacking_sentence(comparisons: Sequence[Comparison]) -> list[str]:
    """What an arm's bill lacks and its baseline's does not: its figures are lower ends, however they look."""
    gaps: dict[str, None] = {}
    for entry in comparisons:
        own, other = entry.point.energy_under("one-off"), entry.baseline.energy_under("one-off")
        if isinstance(own, Bill) and isinstance(other, Bill):
            gaps |= dict.fromkeys(lacking(own, other))
    if not gaps:
        return []
    return [f"Distilling took more than is said here, and nobody knows how much: {'; '.join(gaps)}."]


def _basis_sentence(run: RunRecord) -> list[str]:
    if isinstance(run.total, NoTotal):
        return []
    text = unmeasured_text(dict(run.total.share_by_basis))
    return [text] if text else []
