"""The life-cycle report: its published schema, and each rule of `stillwatt validate` broken once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from impact_studies import site, use
from lifecycle_studies import report
from stillwatt.config.lifecycle_schema import schema_faults, schema_text
from stillwatt.errors import ReportError
from stillwatt.records.impact import LifeStage
from stillwatt.report.data import report_json
from stillwatt.report.lifecycle_inputs import read_inputs
from stillwatt.report.lifecycle_rules import RULES, rule_faults
from stillwatt.report.lifecycle_text import lifecycle_text

DATA = report()
PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "reference" / "lifecycle.schema.json"


def test_a_report_keeps_the_published_schema_and_every_rule() -> None:
    jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8"))).validate(DATA)
    assert schema_faults(report_json(DATA)) == ()
    assert rule_faults(DATA) == ()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


def test_the_phases_stand_in_the_order_of_iso_14044() -> None:
    assert list(DATA) == [
        "schema",
        "goal_and_scope",
        "inventory",
        "factors",
        "cells",
        "totals",
        "functional_units",
        "coverage",
        "interpretation",
    ]
    assert {"stage", "impact", "unit", "status", "value", "low", "high"} <= set(DATA["cells"][0])


def index(data: dict[str, Any], stage: str, impact: str) -> int:
    return next(n for n, c in enumerate(data["cells"]) if (c["stage"], c["impact"]) == (stage, impact))


def total(data: dict[str, Any], impact: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in data["totals"] if one["impact"] == impact)
    return found


def _cell(stage: str, impact: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(data: dict[str, Any]) -> None:
        data["cells"][index(data, stage, impact)].update(changes)

    return spoil


def _of_total(impact: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: total(data, impact).update(changes)


def _of_use(*, scale: float) -> Callable[[dict[str, Any]], None]:
    def spoil(data: dict[str, Any]) -> None:
        energy = data["inventory"]["uses"][0]["energy_j"]
        energy.update({name: energy[name] * scale for name in ("value_j", "low_j", "high_j")})

    return spoil


def _of_factor(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["factors"][0].update(changes)


BROKEN: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    ("cells-whole", "$.cells", lambda data: data["cells"].pop()),
    ("cell-value", "$.cells[", _cell("training", "adpe", value=0.0, low=0.0, high=0.0)),
    ("cell-value", "$.cells[", _cell("data", "adpe", value=None)),
    ("cell-value", ".reason", _cell("training", "adpe", reason=None)),
    ("interval-ordered", "$.cells[", _cell("data", "gwp_location", low=1e9)),
    ("interval-ordered", "$.totals[", _of_total("gwp_location", high=0.0)),
    (
        "interval-ordered",
        "$.inventory.uses[0]",
        lambda data: data["inventory"]["uses"][0]["energy_j"].update(low_j=1e12),
    ),
    ("unit", ".unit", _cell("data", "gwp_location", unit="gCO2e")),
    ("boundary-named", ".boundary", _cell("data", "gwp_location", boundary=None)),
    ("not-applicable", ".status", _cell("training", "adpe", status="not_applicable")),
    ("water-kind", ".water", _cell("data", "water_onsite", water=None)),
    ("water-kind", ".water", _cell("data", "water_offsite", water="aware")),
    ("factor-named", ".factors", _cell("data", "gwp_location", factors=[])),
    ("factor-named", ".factors[0]", _cell("data", "gwp_location", factors=["nobody's"])),
    ("factor-named", "$.factors", lambda data: data["factors"].append(data["factors"][0])),
    ("factor-hash", "$.factors[0].hash", _of_factor(note="changed afterwards")),
    ("factor-possible", "$.factors[0].quantity", _of_factor(quantity="luck")),
    ("factor-possible", "$.factors[0].unit", _of_factor(unit="furlong")),
    ("total-sum", ".value", _of_total("gwp_location", value=1e9, high=1e9)),
    ("total-sum", ".stages", _of_total("gwp_location", stages=["data"])),
    ("total-sum", ".reason", _of_total("adpe", value=None, low=None, high=None, reason=None)),
    ("total-sum", "$.totals[", _cell("data", "gwp_location", boundary="board")),
    ("total-gaps", ".lacking", _of_total("gwp_location", lacking=[])),
    ("total-gaps", ".complete", _of_total("gwp_location", complete=True)),
    ("market-by-contract", "$.cells[", _cell("data", "gwp_market", factors=["pue", "grid_gwp_location"])),
    ("quality-class", ".quality", _cell("data", "energy_metered", quality="C")),
    ("quality-class", ".quality", _cell("data", "gwp_location", quality="A")),
    ("quality-class", ".quality", _cell("data", "gwp_location", quality="C")),
    ("status-grounded", ".status", _cell("data", "gwp_location", status="measured")),
    ("status-grounded", ".status", lambda data: data["inventory"]["uses"][0]["energy_j"].update(basis="assumed")),
    ("status-grounded", ".value", _of_use(scale=1e3)),
    ("status-grounded", ".value", lambda data: data["inventory"].update(uses=[])),
    ("coverage-score", "$.coverage.score", lambda data: data["coverage"].update(score=0.99)),
    ("coverage-score", ".coverage", _of_total("gwp_location", coverage=0.99)),
    ("functional-unit", ".values.adpe", lambda d: d["functional_units"][0]["values"]["adpe"].update(value=7.0)),
    ("functional-unit", ".reason", lambda data: data["functional_units"][1].update(reason=None)),
    (
        "functional-unit",
        ".values",
        lambda d: d["functional_units"][1].update(values=d["functional_units"][0]["values"]),
    ),
]


@pytest.mark.parametrize(
    ("rule", "where", "spoil"), BROKEN, ids=[f"{rule} {n}" for n, (rule, _, _) in enumerate(BROKEN)]
)
def test_each_rule_is_broken_at_its_place(rule: str, where: str, spoil: Callable[[dict[str, Any]], None]) -> None:
    data = copy.deepcopy(DATA)
    spoil(data)
    assert schema_faults(report_json(data)) == ()
    faults = rule_faults(data)
    assert any(fault.rule == rule and where in fault.path for fault in faults), faults


def test_no_rule_is_left_unbroken() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_schema_says_where() -> None:
    data = copy.deepcopy(DATA)
    data["cells"][3]["status"] = "guessed"
    data["totals"][0]["surprise"] = 1
    del data["coverage"]
    paths = [fault.path for fault in schema_faults(report_json(data))]
    assert paths == ["$.cells[3].status", "$.totals[0].surprise", "$.coverage"]


def test_a_report_written_by_hand_can_do_without_what_only_recomputing_needs() -> None:
    data = copy.deepcopy(DATA)
    for key in ("site_factors", "shared_factors"):
        del data["goal_and_scope"][key]
    data["inventory"] = {"uses": data["inventory"]["uses"]}
    data["functional_units"] = []
    data["interpretation"] = {"limits": []}
    for factor in data["factors"]:
        assert factor.pop("origin") == "stillwatt"
    assert schema_faults(report_json(data)) == ()
    assert rule_faults(data) == ()


def test_a_factor_that_was_changed_is_not_computed_with() -> None:
    data = copy.deepcopy(DATA)
    data["factors"][0]["note"] = "changed"
    with pytest.raises(ReportError, match="not what its hash names"):
        read_inputs(data)
    data = copy.deepcopy(DATA)
    data["goal_and_scope"]["site_factors"]["pue"]["factor"] = "gone"
    with pytest.raises(ReportError, match="gone is used and not listed"):
        read_inputs(data)


def test_an_energy_that_was_given_needs_no_factor() -> None:
    from stillwatt.records.channel import Basis

    data = report(uses=(use(stage=LifeStage.TRAINING, basis=Basis.ASSUMED),))
    assert rule_faults(data) == ()


def test_the_text_shows_coverage_beside_totals_and_never_0_for_what_is_not_counted() -> None:
    text = lifecycle_text(report(site=site(without=("grid_gwp_market",))))
    assert "coverage" in text
    assert "90 % interval" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("training"))
    assert set(row.split()[1:]) <= {"?", "·"}
    assert "per student: not known, none was trained" in text
    assert "what to improve first" in text
    assert max(map(len, text.splitlines())) <= 112
    assert lifecycle_text(DATA, is_terminal=True) != text


def test_a_market_based_0_is_never_silent() -> None:
    """A provider's claim of 0 is a value; the text says first whose it is."""
    from impact_studies import catalog_of, figure
    from stillwatt.factors.places import find_place
    from stillwatt.impact.site import site_at

    here = site_at(catalog_of([figure("pue"), figure("grid_gwp_market", 0.0)]), find_place("FRA"))
    data = report(site=here)
    assert data["cells"][index(data, "data", "gwp_market")]["value"] == 0.0
    lines = lifecycle_text(data).splitlines()
    assert "the provider's claim" in lines[lines.index("to be known of what is in it") + 1]
