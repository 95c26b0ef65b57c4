"""The protocol and how far a report keeps it: every rule of it broken once, levels, and the document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_by_hand import blank, change, whole_report
from stillwatt.literature.corpus import shipped_corpus
from stillwatt.literature.coverage import coverage_map
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.records.literature import Treatment
from stillwatt.report.conformance import (
    SCHEMA_RULE,
    VALIDATE_RULES,
    Keyword,
    conformance,
    conformance_dict,
    conformance_lines,
    protocol,
    protocol_markdown,
)
from stillwatt.report.conformance_rules import CHECKS

Spoil = Callable[[dict[str, Any]], None]


@dataclass
class Broken:
    """A fault as `stillwatt validate` finds it."""

    rule: str
    path: str = "$.cells[3]"
    message: str = "it is wrong"


def test_a_whole_report_written_by_hand_reaches_the_last_level() -> None:
    found = conformance(whole_report())
    assert found.reached is not None
    assert found.reached.number == 3
    assert not found.before_next
    assert not found.advice
    assert list(conformance_lines(found)) == ["protocol 1.1: level 3 (whole) is reached"]


def _scope(**more: Any) -> Spoil:
    return lambda report: report["goal_and_scope"].update(more)


def _blank(stage: str, *impacts: str) -> Spoil:
    def spoil(report: dict[str, Any]) -> None:
        for impact in impacts:
            blank(report, stage, impact)

    return spoil


def _all_modelled(report: dict[str, Any]) -> None:
    for stage in LifeStage:
        change(report, stage.value, "energy_metered", status="modelled")


def _unexplained(report: dict[str, Any]) -> None:
    blank(report, "data", "energy_metered")
    change(report, "data", "energy_metered", reason="")


def _nothing_trained(report: dict[str, Any]) -> None:
    blank(report, "training", "energy_metered")
    blank(report, "post_training", "energy_metered")


def _worked_for_nothing(report: dict[str, Any]) -> None:
    for stage in ("training", "post_training"):
        change(report, stage, "energy_metered", status="measured", value=0.0, low=0.0, high=0.0)


def _place(**more: str) -> Spoil:
    return lambda report: report["goal_and_scope"]["place"].update(more)


def _point(impact: str, status: str, high: float = 10.0) -> Spoil:
    return lambda report: change(report, "training", impact, status=status, low=10.0, high=high)


SPOILED: tuple[tuple[str, int, str, Spoil], ...] = (
    ("energy-listed", 0, "$.inventory.uses", lambda r: r["inventory"].update(uses=[])),
    ("energy-listed", 0, "$.inventory.uses[0].energy_j", lambda r: r["inventory"]["uses"][0]["energy_j"].pop("basis")),
    ("eight-stages", 0, "$.goal_and_scope.system_boundary", lambda r: r["goal_and_scope"]["system_boundary"].pop()),
    (
        "eight-stages",
        0,
        "$.goal_and_scope.system_boundary[0].left_out",
        lambda r: r["goal_and_scope"]["system_boundary"][0].update(counted=[]),
    ),
    ("factor-sourced", 0, "$.factors[0].source", lambda r: r["factors"][0].update(source=" ")),
    ("goal-and-limits", 0, "$.goal_and_scope.about", _scope(about={})),
    ("goal-and-limits", 0, "$.interpretation.limits", lambda r: r["interpretation"].update(limits=[])),
    ("goal-and-limits", 0, "$.interpretation.limits", lambda r: r["interpretation"].update(limits=["", " "])),
    ("goal-and-limits", 0, "$.goal_and_scope.about", _scope(about={"goal": ""})),
    ("factor-sourced", 0, "$.factors[0].source", lambda r: r["factors"][0].update(source="Unknown")),
    ("factor-sourced", 0, "$.factors[0].source", lambda r: r["factors"][0].update(source=None)),
    ("data-accounted", 1, "$.cells[20]", _unexplained),
    ("node-and-facility", 1, "$.cells[", _blank("post_training", "energy_node")),
    ("unit-counted", 1, "$.functional_units", lambda r: r.update(functional_units=[])),
    ("unit-counted", 1, "$.functional_units[0].means", lambda r: r["functional_units"][0].update(means="")),
    ("work-counted", 1, "$.cells", _nothing_trained),
    ("work-counted", 1, "$.cells", _worked_for_nothing),
    ("conventions-named", 1, "$.goal_and_scope.conventions.time_share", _scope(conventions={"charge_idle": False})),
    ("grid-dated", 1, "$.factors[0].year", lambda r: r["factors"][0].update(year=None)),
    ("place-named", 1, "$.goal_and_scope.place.code", _scope(place={"code": "world", "kind": "world"})),
    ("place-named", 1, "$.goal_and_scope.place.code", _place(code="WORLD", kind="country")),
    ("place-named", 1, "$.goal_and_scope.place.code", _place(name="Global")),
    ("place-named", 1, "$.goal_and_scope.place.code", _place(code="", kind="", name="")),
    ("place-named", 1, "$.goal_and_scope.place.code", _place(code="unknown")),
    ("interval-wide", 1, "$.cells[", _point("gwp_location", "measured")),
    ("interval-wide", 1, "$.cells[", _point("energy_node", "measured")),
    ("interval-wide", 1, "$.cells[", _point("gwp_location", "factor", 10.0 * (1.0 + 1e-15))),
    ("interval-wide", 1, "$.cells[", _point("energy_metered", "modelled")),
    ("interval-wide", 1, "$.cells[", lambda r: change(r, "training", "adpe", low=None, high=None)),
    ("interval-wide", 1, "$.cells[", lambda r: change(r, "training", "adpe", low=10.0, high=10.0)),
    ("carbon-of-energy", 1, "$.cells[", _blank("deployment", "gwp_location")),
    ("hardware-carbon", 1, "$.cells[", _blank("hardware_manufacturing", "gwp_location")),
    ("some-water", 1, "$.cells[", _blank("training", "water_onsite", "water_offsite")),
    ("energy-measured", 2, "$.cells[", lambda r: change(r, "training", "energy_metered", status="modelled")),
    ("experimentation-counted", 2, "$.cells[", _blank("experimentation", "energy_metered")),
    ("sensitivity-shown", 2, "$.interpretation.sensitivity", lambda r: r["interpretation"].update(sensitivity=[])),
    ("both-waters", 2, "$.cells[", _blank("training", "water_onsite")),
    ("materials-counted", 2, "$.cells[", _blank("end_of_life", "ewaste")),
    ("carbon-of-every-stage", 2, "$.cells[", _blank("infrastructure_construction", "gwp_location")),
)
ADVISED: tuple[tuple[str, Spoil], ...] = (
    ("some-measured", _all_modelled),
    ("student-unit", lambda r: r["functional_units"].pop()),
    ("factors-read", lambda r: r["factors"][0].update(verified=False)),
    ("doubt-shared", lambda r: r["totals"][0].update(shares_of_variance={})),
    ("hot-spots-named", lambda r: r["interpretation"].update(hot_spots=[])),
)


@pytest.mark.parametrize(("rule", "level", "path", "spoil"), SPOILED)
def test_each_rule_broken_lowers_the_level_and_says_where(rule: str, level: int, path: str, spoil: Spoil) -> None:
    report = whole_report()
    spoil(report)
    found = conformance(report)
    assert (found.reached.number if found.reached else 0) == level
    assert any(gap.rule == rule and gap.path.startswith(path) for gap in found.before_next), found.before_next


@pytest.mark.parametrize(("rule", "spoil"), ADVISED)
def test_what_should_be_is_advised_and_lowers_nothing_by_itself(rule: str, spoil: Spoil) -> None:
    report = whole_report()
    spoil(report)
    found = conformance(report)
    assert rule in {gap.rule for gap in found.advice}
    assert all(gap.requirement.keyword is Keyword.SHOULD for gap in found.advice)
    if rule != "some-measured":
        assert not found.before_next


def test_a_meter_may_be_read_without_an_interval_and_a_zero_needs_none() -> None:
    report = whole_report()
    change(report, "training", "energy_metered", low=10.0, high=10.0)
    change(report, "training", "adpe", value=0.0, low=0.0, high=0.0)
    change(report, "training", "energy_metered", value=0.0, low=0.0)
    assert conformance_dict(conformance(report))["level"] == 3


@pytest.mark.parametrize(
    ("tried", "path"),
    [
        (None, "$.cells["),
        ({"runs_looked_at": 0, "attempts": 0, "means": "the ledger"}, "$.cells["),
        ({"runs_looked_at": 4, "attempts": 0, "means": "n/a"}, "$.cells["),
        ({"runs_looked_at": 1, "attempts": 0, "means": "the ledger"}, "$.inventory.tried.runs_looked_at"),
        ({"runs_looked_at": 4, "attempts": 2, "means": "the ledger"}, "$.inventory.tried.attempts"),
    ],
    ids=str,
)
def test_an_experimentation_of_0_is_no_measurement_until_somebody_looked(
    tried: dict[str, Any] | None, path: str
) -> None:
    report = whole_report()
    report["inventory"]["uses"] += [{**report["inventory"]["uses"][0], "run": "another"}]
    change(report, "experimentation", "energy_metered", status="measured", value=0.0, low=0.0, high=0.0)
    if tried:
        report["inventory"]["tried"] = tried
    found = conformance(report)
    assert found.reached is not None
    assert found.reached.number == 2
    assert any(gap.rule == "experimentation-counted" and gap.path.startswith(path) for gap in found.before_next)
    report["inventory"]["tried"] = {"runs_looked_at": 2, "attempts": 0, "means": "all runs of the ledger, by name"}
    assert conformance_dict(conformance(report))["level"] == 3


def test_the_version_is_the_latest_of_the_changes_and_none_comes_twice() -> None:
    known = protocol()
    versions = [number for number, _ in known.changes]
    assert versions[0] == known.version
    assert versions == sorted(set(versions), key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_no_rule_is_left_unbroken() -> None:
    assert {rule for rule, *_ in SPOILED} | {rule for rule, _ in ADVISED} == set(CHECKS)


@pytest.mark.parametrize("rule", sorted(VALIDATE_RULES))
def test_faults_of_validate_lower_the_level(rule: str) -> None:
    found = conformance(whole_report(), [Broken(rule)])
    assert any(gap.rule == rule and gap.path == "$.cells[3]" for gap in found.before_next)
    assert conformance_dict(found)["level"] < 3


def test_where_the_schema_is_broken_nothing_else_is_looked_at() -> None:
    found = conformance({}, [Broken(SCHEMA_RULE, "$.cells", "field required")])
    assert found.reached is None
    assert [gap.requirement.id for gap in found.before_next] == ["SW-34"]
    assert list(conformance_lines(found)) == [
        "protocol 1.1: no level is reached",
        "before level 1 (stated):",
        "  SW-34 $.cells: field required (schema)",
    ]


def test_for_programs() -> None:
    report = whole_report()
    blank(report, "training", "water_onsite")
    report["factors"][0]["verified"] = False
    said = conformance_dict(conformance(report))
    assert (said["level"], said["name"], said["next"]) == (2, "comparable", 3)
    assert said["before_next"][0]["requirement"] == "SW-28"
    assert said["advice"][0]["rule"] == "factors-read"
    text = list(conformance_lines(conformance(report)))
    assert "and it should:" in text


CELLS = [(stage.value, impact.value) for stage in LifeStage for impact in Impact if impact is not Impact.ENERGY_METERED]


@given(st.lists(st.sampled_from(CELLS), max_size=12))
def test_counting_less_never_raises_the_level(cells: list[tuple[str, str]]) -> None:
    report = whole_report()
    levels = [3]
    for stage, impact in cells:
        blank(report, stage, impact)
        levels.append(conformance_dict(conformance(report))["level"])
    assert levels == sorted(levels, reverse=True)


def test_a_stage_without_energy_is_spared_what_is_asked_of_it_as_the_protocol_says() -> None:
    """Levels judge what is counted; how much that is, the coverage score says."""
    report = whole_report()
    blank(report, "deployment", "gwp_location")
    assert conformance_dict(conformance(report))["level"] == 1
    blank(report, "deployment", "energy_metered")
    assert conformance_dict(conformance(report))["level"] == 2


def test_requirements_are_numbered_and_each_must_has_a_rule() -> None:
    known = protocol()
    assert [one.id for one in known.requirements] == [
        f"SW-{number}" for number in range(1, len(known.requirements) + 1)
    ]
    assert [level.number for level in known.levels] == [1, 2, 3]
    for one in known.requirements:
        assert set(one.rules) <= set(CHECKS) | VALIDATE_RULES, one.id
        assert bool(one.rules) == (one.keyword is not Keyword.MAY), one.id
        assert one.why.endswith(".")
        assert one.level in (1, 2, 3)
    assert {rule for one in known.requirements for rule in one.rules} == set(CHECKS) | VALIDATE_RULES


def test_the_document_holds_every_requirement_once() -> None:
    text = protocol_markdown()
    for one in protocol().requirements:
        assert len(re.findall(rf"\*\*{one.id}\*\*", text)) == 1
    assert "version 1.1" in text


def test_counts_of_works_in_the_reasons_are_those_of_the_corpus() -> None:
    drawn = coverage_map(shipped_corpus())
    why = {one.id: one.why for one in protocol().requirements}
    quantified = {cover.stage: cover.of(Treatment.QUANTIFIED) for cover in drawn.stages}
    works = len(drawn.works)
    assert f"{drawn.metric_works('water')} of {works} works" in why["SW-27"]
    assert f"{drawn.metric_works('adpe')} of {works} works" in why["SW-29"]
    assert f"{drawn.metric_works('ewaste')} e-waste" in why["SW-29"]
    few = [quantified[stage] for stage in (LifeStage.INFRASTRUCTURE, LifeStage.DATA, LifeStage.END_OF_LIFE)]
    assert f"by {few[0]}, {few[1]} and {few[2]} of {works} works" in why["SW-30"]
    statistical = sum(work.uncertainty == "statistical" for work in shipped_corpus().works)
    assert f"{statistical} of {works}" in why["SW-20"]
