"""N*, T* and sweeps over tables of trainings, with seeds as repeats (method.md, eqs. 25, 26, 30, 31, 33, 143, 144)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stillwatt.analysis.breakeven import NOTHING_TO_SHARE
from stillwatt.analysis.contrast import Contrast, judge, unknown
from stillwatt.analysis.pairing import Roles, sweep_of
from stillwatt.analysis.stairs import Stairs, Step
from stillwatt.analysis.stopped import unlike_lengths
from stillwatt.analysis.trainings import Label, Term, contrast_of, has_quality_error
from stillwatt.records.comparison import Ratio, ReuseFinding, SweepFinding
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import Verdict

_SAME_CACHE = 0.000_000_001
"""Relative difference below which two teacher energies are one artefact's."""


def reuse_findings(roles: Roles, rel: float) -> tuple[ReuseFinding, ...]:
    """N* of every distilled label against its student's baseline (method.md, eq. 25).

    N* = T / (S_baseline - S_label) ;  S the student's training, a teacher beside it included               [1]
    """
    return tuple(_at_equal_budget(label, roles.baseline_of(label), rel) for label in roles.distilled)


def matched_reuse_findings(roles: Roles, rel: float) -> tuple[ReuseFinding, ...]:
    """N* against the cheapest baseline, of any student, that is at least as good (method.md, eq. 33).

        N*_Q = T / (O_match - O_label) ;  O all energy beside the teacher's                                 [1]

    Nothing is read off between two labels. Where none is as good, the best counts if it cannot be told from that.
    """
    stairs = Stairs(
        Step(energy_j=energy_j, quality=quality, item=label)
        for label in roles.baselines
        if (quality := label.mean("quality")) is not None and (energy_j := label.mean("own_j")) is not None
    )
    return tuple(_matched(label, stairs, roles, rel) for label in roles.distilled)


def serving_findings(roles: Roles, rel: float) -> tuple[ReuseFinding, ...]:
    """T* of every label whose serving was measured, against serving the teacher (method.md, eq. 26)."""
    return tuple(
        _serving(label, rel)
        for label in (*roles.baselines, *roles.distilled)
        if label.mean("served_teacher_j") is not None and label.mean("served_student_j") is not None
    )


def sweep_findings(roles: Roles, rel: float) -> tuple[SweepFinding, ...]:
    """How many sweeps over all students of a method repay one shared cache (method.md, eq. 31).

        T / sum_i (S_baseline,i - S_i)                                                                      [1]

    Given for methods whose students name the same teacher energy, which is what sharing looks like in a table.
    """
    methods: dict[str, list[Label]] = {}
    for label in roles.distilled:
        methods.setdefault(label.method, []).append(label)
    found = []
    for method, labels in methods.items():
        sweep = sweep_of([label for label in labels if label.mean("teacher_j") is not None])
        if len(sweep) > 1 and _share_one_cache(sweep):
            found.append(_sweep(method, sweep, roles, rel))
    return tuple(found)


def _at_equal_budget(label: Label, baseline: Label | None, rel: float) -> ReuseFinding:
    why_not = unlike_lengths(label, baseline) if baseline is not None else ""
    if not why_not:
        return _reuse(label, baseline, "student_j", rel)
    found = Ratio(verdict=Verdict.NOT_AT_THIS_BUDGET, value=None, low=None, high=None, reason=why_not)
    return _finding(label, baseline, found, None, rel)


def _reuse(label: Label, baseline: Label | None, field: str, rel: float) -> ReuseFinding:
    if baseline is None:
        reason = f"no baseline has student {label.student!r}" if label.student else "no baseline has this student"
        return _finding(label, None, unknown(reason), None, rel)
    contrast = contrast_of(
        [
            Term(label=label, numerator={"teacher_j": 1.0}, denominator={field: -1.0}),
            Term(label=baseline, denominator={field: 1.0}),
        ],
        rel,
    )
    if isinstance(contrast, NoTotal):
        return _finding(label, baseline, unknown(contrast.reason), None, rel)
    if has_nothing_to_share(label):
        return _never_shared(label, baseline, contrast, rel)
    return _finding(label, baseline, judge(contrast, unit="student", against=baseline.name), contrast, rel)


def has_nothing_to_share(label: Label) -> bool:
    """Whether a teacher ran beside its trainings, and no other work of a teacher's went into them (eq. 143)."""
    return all(row.online_j > 0.0 and row.teacher_j == 0.0 for row in label.rows)


def _never_shared(label: Label, baseline: Label, contrast: Contrast, rel: float) -> ReuseFinding:
    """No number of students repays a teacher that left nothing, whatever the first one saved (method.md, eq. 143)."""
    saving = contrast.saving
    outcome = f"{'takes more' if saving.value < 0.0 else 'saves'} energy against {baseline.name}"
    if abs(saving.value) <= saving.random:
        outcome = f"takes neither clearly more nor clearly less than {baseline.name}"
    elif saving.value > 0.0:
        outcome += " all the same"
    reason = f"{NOTHING_TO_SHARE}; with it, each student {outcome}"
    found = Ratio(verdict=Verdict.NEVER, value=None, low=None, high=None, reason=reason)
    return replace(_finding(label, baseline, found, contrast, rel), has_nothing_to_share=True)


def _matched(label: Label, stairs: Stairs[Label], roles: Roles, rel: float) -> ReuseFinding:
    quality = label.mean("quality")
    if quality is None:
        return _finding(label, None, unknown(f"the quality of {label.name} is unknown"), None, rel)
    match, best = stairs.cheapest_as_good(quality), stairs.best()
    if match is None and best is not None and lacks_nothing(label, best, rel):
        match = best
    if match is None:
        reason = "no baseline of known energy is as good" if roles.baselines else "there is no baseline"
        if best is not None:
            gap, half_width, _ = quality_gap(label, best, rel)
            within = "" if half_width is None else f" ± {half_width:.2g}"
            reason += f": the best, {best.name}, is worse by {gap:.2g}{within}"
        found = Ratio(verdict=Verdict.NOT_AT_THIS_QUALITY, value=None, low=None, high=None, reason=reason)
        return _finding(label, None, found, None, rel)
    return _reuse(label, match, "own_j", rel)


def _serving(label: Label, rel: float) -> ReuseFinding:
    contrast = contrast_of(
        [
            Term(label=label, numerator={"teacher_j": 1.0, "own_j": 1.0}),
            # serving is often measured once for all seeds: the bill is the mean of all of them nevertheless
            Term(label=label, denominator={"served_teacher_j": 1.0, "served_student_j": -1.0}),
        ],
        rel,
    )
    if isinstance(contrast, NoTotal):
        return _finding(label, None, unknown(contrast.reason), None, rel)
    return _finding(label, None, judge(contrast, unit="token", against="serving the teacher"), contrast, rel)


def _sweep(method: str, sweep: Sequence[Label], roles: Roles, rel: float) -> SweepFinding:
    students = tuple(label.student for label in sweep)
    terms = []
    for position, label in enumerate(sweep):
        baseline = roles.baseline_of(label)
        if baseline is None:
            found = unknown(f"no baseline has student {label.student!r}")
            return SweepFinding(method=method, students=students, found=found, teacher_j=None, saving_j=None)
        # the cache is made once: it is in the first label's evidence alone
        numerator = {"teacher_j": 1.0} if position == 0 else {}
        if why_not := unlike_lengths(label, baseline):
            found = unknown(why_not)
            return SweepFinding(method=method, students=students, found=found, teacher_j=None, saving_j=None)
        terms.append(Term(label=label, numerator=numerator, denominator={"student_j": -1.0}))
        terms.append(Term(label=baseline, denominator={"student_j": 1.0}))
    contrast = contrast_of(terms, rel)
    if isinstance(contrast, NoTotal):
        found = unknown(contrast.reason)
        return SweepFinding(method=method, students=students, found=found, teacher_j=None, saving_j=None)
    return SweepFinding(
        method=method,
        students=students,
        found=judge(contrast, unit="sweep", against="the baselines"),
        teacher_j=contrast.numerator,
        saving_j=contrast.denominator,
    )


def _share_one_cache(sweep: Sequence[Label]) -> bool:
    energies = [label.mean("teacher_j") or 0.0 for label in sweep]
    return min(energies) > 0.0 and max(energies) - min(energies) <= _SAME_CACHE * max(energies)


def _finding(label: Label, baseline: Label | None, found: Ratio, contrast: Contrast | None, rel: float) -> ReuseFinding:
    gap, _, is_significant = quality_gap(label, baseline, rel) if baseline else (None, None, False)
    return ReuseFinding(
        label=label.name,
        method=label.method,
        student=label.student,
        baseline=baseline.name if baseline else "",
        found=found,
        extra_j=contrast.numerator if contrast else None,
        saving_j=contrast.denominator if contrast else None,
        quality_gap=gap,
        seeds=min(label.num_seeds, baseline.num_seeds if baseline else label.num_seeds),
        is_significant=is_significant,
    )


def lacks_nothing(label: Label, other: Label, rel: float) -> bool:
    """Whether what the other's quality lacks lies within its error, so that it is as good as far as can be told."""
    gap, half_width, _ = quality_gap(label, other, rel)
    return gap is not None and gap <= (half_width or 0.0)


def quality_gap(label: Label, other: Label, rel: float) -> tuple[float | None, float | None, bool]:
    """The label's quality less the other's, its 95 % half-width, and whether it is significant (method.md, eq. 35).

    The half-width is None where one of the two has neither seeds nor a standard error. Nothing is significant that
    rests on one seed.
    """
    contrast = contrast_of(
        [Term(label=label, numerator={"quality": 1.0}), Term(label=other, numerator={"quality": -1.0})], rel
    )
    if isinstance(contrast, NoTotal):
        return None, None, False
    if not (has_quality_error(label) and has_quality_error(other)):
        return contrast.numerator, None, False
    half_width = contrast.extra.random
    is_repeated = min(label.num_seeds, other.num_seeds) > 1
    return contrast.numerator, half_width, is_repeated and abs(contrast.numerator) > half_width
