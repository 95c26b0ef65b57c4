"""Design rules on a set of trainings: which hold, which fail, and what would settle the others (method.md, eq. 107)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.rule_cases import (
    SURE,
    Compared,
    Evidence,
    Gap,
    against_baseline,
    reuse_needed,
    teacher_by_student,
)
from stillwatt.analysis.rule_planes import same_plane
from stillwatt.analysis.rule_settings import falling_returns, outweighs, raising, reuse_by_size, some_beaten
from stillwatt.analysis.trainings import gather_labels
from stillwatt.analysis.words import listed
from stillwatt.records.comparison import Comparison, Observation
from stillwatt.records.rules import (
    Case,
    DesignRule,
    RuleFinding,
    RulesTested,
    RuleTest,
    Status,
    TestFinding,
    Unused,
)

COMPARISONS: Mapping[str, Compared] = {
    "against_baseline": against_baseline,
    "reuse_needed": reuse_needed,
    "reuse_by_size": reuse_by_size,
    "teacher_by_student": teacher_by_student,
    "raising": raising,
    "falling_returns": falling_returns,
    "outweighs": outweighs,
    "some_beaten": some_beaten,
    "same_plane": same_plane,
}
"""What a rule may be tested by, by name."""


def try_rules(rules: Sequence[DesignRule], rows: Sequence[Observation], comparison: Comparison) -> RulesTested:
    """Test every rule on the trainings.

    Args:
        rules: The rules.
        rows: Trainings; no two with the same label and seed.
        comparison: What `compare` found in the same rows; its warnings go along.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    trained = Trained.of(gather_labels(rows), comparison.baseline)
    evidence = Evidence(trained=trained, comparison=comparison)
    return RulesTested(
        source=comparison.source,
        baseline=comparison.baseline,
        rules=tuple(_try(rule, evidence) for rule in rules),
        warnings=comparison.warnings,
    )


def _try(rule: DesignRule, evidence: Evidence) -> RuleFinding:
    found = tuple(_try_test(test, evidence, among=len(rule.tests)) for test in rule.tests)
    return RuleFinding(rule=rule, status=_together([entry.status for entry in found]), tests=found)


def _together(statuses: Sequence[Status]) -> Status:
    """A rule of several parts holds where all of them do, and fails where one does."""
    if Status.FAILS in statuses:
        return Status.FAILS
    known = set(statuses)
    return known.pop() if len(known) == 1 else Status.UNDETERMINED


def _try_test(test: RuleTest, evidence: Evidence, *, among: int) -> TestFinding:
    found = list(COMPARISONS[test.comparison](test, evidence))
    cases = [entry for entry in found if isinstance(entry, Case)]
    gaps = [entry for entry in found if isinstance(entry, Gap)]
    status, reason = _judge(cases, among)
    return TestFinding(
        test=test,
        status=status,
        reason=reason if cases or not gaps else f"{reason}: {gaps[0].text}",
        cases=tuple(cases),
        gaps=tuple(gap.text for gap in gaps),
        unused=tuple(_unused(cases, gaps)),
        next_run=_next_run(test, status, cases),
    )


def _unused(cases: Sequence[Case], gaps: Sequence[Gap]) -> Iterator[Unused]:
    """Labels that would have been compared and stand in no case, each with the first reason why."""
    used = {label for case in cases for label in case.labels}
    for gap in gaps:
        for label in gap.labels:
            if label.name not in used:
                used.add(label.name)
                yield Unused(label=label.name, reason=gap.reason)


def _judge(cases: Sequence[Case], among: int) -> tuple[Status, str]:
    """All repeated cases on the expected side, or one beyond the chance of many on the other (method.md, eq. 107)."""
    repeated = [case for case in cases if case.is_repeated]
    if not cases:
        return Status.UNTESTED, "nothing here makes this comparison"
    if not repeated:
        return Status.UNDETERMINED, "one seed: no case has two seeds of each label, so nothing is claimed"
    against = [case for case in repeated if case.p_against * len(repeated) * among <= SURE]
    if against:
        return Status.FAILS, f"{listed(case.about for case in against)}: the other way, beyond the error"
    within = [case for case in repeated if case.p_for > SURE]
    if within:
        return Status.UNDETERMINED, f"{listed(case.about for case in within)}: not told from the bound"
    single = len(cases) - len(repeated)
    beside = f"; {single} on one seed not counted" if single else ""
    return Status.HOLDS, f"{len(repeated)} of {len(repeated)} repeated cases, each beyond its error{beside}"


def _next_run(test: RuleTest, status: Status, cases: Sequence[Case]) -> str:
    if status is Status.UNTESTED:
        return test.needs
    if status in (Status.HOLDS, Status.FAILS):
        return ""
    single = [label for case in cases if not case.is_repeated for label in case.labels]
    if single:
        return f"train {listed(dict.fromkeys(single))} again with other seeds: three of each"
    unsure = [label for case in cases if case.p_for > SURE for label in case.labels]
    return f"train {listed(dict.fromkeys(unsure))} with more seeds: the effect is within its error"
