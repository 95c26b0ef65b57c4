"""Design rules as data for programs and as words: energies in kWh, unknown is null."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillwatt.records.rules import (
    Case,
    DesignRule,
    MinedRule,
    RuleFinding,
    RulesMined,
    RulesTested,
    RuleTest,
    TestFinding,
)
from stillwatt.report.format import percent_text, significant, times_text
from stillwatt.units import Joules, to_kwh

SCHEMA = "stillwatt.rules/1"
_MOST = 30
"""Statements, and cases of a test, that are printed; of more, how many."""


def rules_dict(rules: tuple[DesignRule, ...]) -> dict[str, Any]:
    """The rules as they are shipped; what `stillwatt rules list --json` prints."""
    return {"schema": SCHEMA, "rules": [_rule_dict(rule) for rule in rules]}


def tested_dict(found: RulesTested) -> dict[str, Any]:
    """What a set of trainings says of every rule; what `stillwatt rules test --json` prints."""
    return {
        "schema": SCHEMA,
        "source": found.source,
        "baseline": found.baseline,
        "rules": [_finding_dict(finding) for finding in found.rules],
        "warnings": list(found.warnings),
    }


def mined_dict(found: RulesMined) -> dict[str, Any]:
    """What was mined, and out of how many tries; what `stillwatt rules mine --json` prints."""
    return {
        "schema": SCHEMA,
        "source": found.source,
        "baseline": found.baseline,
        "false_discovery_rate": found.rate,
        "procedure": "Benjamini-Hochberg",
        "tried": found.tried,
        "largest_p": found.largest_p,
        "mined": [_mined_dict(rule) for rule in found.found],
        "untried": list(found.untried),
        "warnings": list(found.warnings),
    }


def list_lines(rules: tuple[DesignRule, ...]) -> Iterator[str]:
    """The rules in words."""
    for number, rule in enumerate(rules, start=1):
        yield f"{number}. {rule.name}: {rule.statement}"
        yield f"   scope: {rule.scope}"
        for test in rule.tests:
            yield f"   tested by: {test.says}; expected {_expected(test)}"
        yield f"   source: {rule.source}; {rule.section}"


def tested_lines(found: RulesTested) -> Iterator[str]:
    """Every rule with its status, the evidence and what would settle it."""
    for number, finding in enumerate(found.rules, start=1):
        yield f"{number}. {finding.rule.name}: {finding.status.value}"
        yield f"   {finding.rule.statement}"
        for test in finding.tests:
            yield f"   - {test.test.says}, expected {_expected(test.test)}: {test.status.value} ({test.reason})"
            yield from (f"       {_case_text(case)}" for case in test.cases[:_MOST])
            if len(test.cases) > _MOST:
                yield f"       {len(test.cases) - _MOST:,} more cases"
            # where there is no case and one gap, the reason has said it
            gaps = test.gaps if test.cases else test.gaps[1:]
            yield from (f"       not compared: {gap}" for gap in gaps[:_MOST])
            if len(gaps) > _MOST:
                yield f"       not compared: {len(gaps) - _MOST:,} more"
            if test.next_run:
                yield f"       to settle it: {test.next_run}"


def mined_lines(found: RulesMined) -> Iterator[str]:
    """Every statement that was found, and how many were tried."""
    yield (
        f"{len(found.found)} of {found.tried:,} statements that were tried stand out; of such, "
        f"{percent_text(found.rate)} are false on average, at most (Benjamini-Hochberg)"
    )
    for rule in found.found[:_MOST]:
        against = f"; against it: {', '.join(rule.contradicting)}" if rule.contradicting else ""
        yield f"- {mined_text(rule)} ({rule.scope}; {rule.seeds} seeds, p {rule.p:.2g}{against})"
    if len(found.found) > _MOST:
        yield f"{len(found.found) - _MOST:,} more are in the JSON alone"
    for reason in found.untried[:_MOST]:
        yield f"not tried: {reason}"
    if len(found.untried) > _MOST:
        yield f"not tried: {len(found.untried) - _MOST:,} more"


def mined_text(rule: MinedRule) -> str:
    """A mined statement with its effect and interval in it."""
    if rule.kind == "setting" and rule.unit == "times":
        text = rule.statement.replace("{effect}", _percent(rule))
        if rule.quality_change is None or rule.quality_change_half_width is None:
            return text
        return f"{text}, for {rule.quality_change:+.3f} ± {rule.quality_change_half_width:.2g} of quality"
    return rule.statement.replace("{effect}", effect_text(rule.effect, rule.low, rule.high, rule.unit))


def effect_text(effect: float | None, low: float | None, high: float | None, unit: str) -> str:
    """An effect with its interval, in its unit.

    >>> effect_text(2.4, 2.3, 2.5, "times"), effect_text(None, 8.0, None, "students")
    ('2.40 [2.30, 2.50]', 'none [8.00, no end]')
    """
    if unit.startswith("J"):
        unit = f"kWh{unit.removeprefix('J')}"
        effect, low, high = (None if v is None else to_kwh(Joules(v)) for v in (effect, low, high))
    show = times_text if unit == "times" else significant
    value = "none" if effect is None else show(effect)
    interval = "" if low is None else f" [{show(low)}, {'no end' if high is None else show(high)}]"
    suffix = "" if unit in ("times", "quality", "students") else f" {unit}"
    return f"{value}{interval}{suffix}"


def _case_text(case: Case) -> str:
    lean = {True: "for it", False: "against it", None: "neither way"}[case.leans]
    seeds = "one seed" if case.seeds < 2 else f"{case.seeds} seeds"
    return f"{case.about}: {effect_text(case.effect, case.low, case.high, case.unit)}, {lean} ({seeds})"


def _expected(test: RuleTest) -> str:
    within = f" (within {test.margin:g})" if test.margin else ""
    return f"{test.expected.value} {test.bound:g}{within}"


def _percent(rule: MinedRule) -> str:
    def show(ratio: float | None) -> str:
        return "no end" if ratio is None else f"{100.0 * (ratio - 1.0):+.3g} %"

    return show(rule.effect) if rule.low is None else f"{show(rule.effect)} [{show(rule.low)}, {show(rule.high)}]"


def _rule_dict(rule: DesignRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "statement": rule.statement,
        "scope": rule.scope,
        "source": rule.source,
        "section": rule.section,
        "tests": [_test_dict(test) for test in rule.tests],
    }


def _test_dict(test: RuleTest) -> dict[str, Any]:
    return {
        "comparison": test.comparison,
        "says": test.says,
        "expected": test.expected.value,
        "bound": test.bound,
        "margin": test.margin or None,
        "methods": list(test.methods),
        "options": dict(test.options),
        "needs": test.needs,
    }


def _finding_dict(finding: RuleFinding) -> dict[str, Any]:
    return {
        **_rule_dict(finding.rule),
        "status": finding.status.value,
        "supporting": list(finding.supporting),
        "contradicting": list(finding.contradicting),
        "tests": [_tested_dict(test) for test in finding.tests],
    }


def _tested_dict(found: TestFinding) -> dict[str, Any]:
    return {
        **_test_dict(found.test),
        "status": found.status.value,
        "reason": found.reason,
        "cases": [_case_dict(case) for case in found.cases],
        "not_compared": list(found.gaps),
        "unused": [{"label": entry.label, "reason": entry.reason} for entry in found.unused],
        "next_run": found.next_run or None,
    }


def _case_dict(case: Case) -> dict[str, Any]:
    return {
        "about": case.about,
        "labels": list(case.labels),
        **_effect_dict(case.effect, case.low, case.high, case.unit),
        "seeds": case.seeds,
        "leans": {True: "for", False: "against", None: None}[case.leans],
        "p_for": case.p_for,
        "p_against": case.p_against,
    }


def _mined_dict(rule: MinedRule) -> dict[str, Any]:
    return {
        "kind": rule.kind,
        "statement": mined_text(rule),
        "scope": rule.scope,
        **_effect_dict(rule.effect, rule.low, rule.high, rule.unit),
        "quality_change": rule.quality_change,
        "quality_change_half_width": rule.quality_change_half_width,
        "supporting": list(rule.supporting),
        "contradicting": list(rule.contradicting),
        "seeds": rule.seeds,
        "p": rule.p,
    }


def _effect_dict(effect: float | None, low: float | None, high: float | None, unit: str) -> dict[str, Any]:
    if unit.startswith("J"):
        unit = f"kWh{unit.removeprefix('J')}"
        effect, low, high = (None if v is None else to_kwh(Joules(v)) for v in (effect, low, high))
    return {"effect": effect, "low": low, "high": high, "unit": unit}
