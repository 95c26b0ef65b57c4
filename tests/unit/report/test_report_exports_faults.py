"""What exports once counted twice, left out or claimed, and do not again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from export_reports import DETAILS, FULL, rich
from stillwatt.report.exports.boamps import to_boamps
from stillwatt.report.exports.eu_gpai import to_eu_gpai
from stillwatt.report.exports.huggingface import to_card
from stillwatt.report.exports.rocrate import PROVENANCE, to_rocrate
from stillwatt.report.exports.sci import to_sci
from stillwatt.report.exports.spdx import to_spdx


def with_device(report: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The report with one device more, like the first."""
    report["inventory"]["devices"].append({**report["inventory"]["devices"][0], **changes})
    return report


def with_scenario(report: dict[str, Any]) -> dict[str, Any]:
    """The report with what serving would hold."""
    return with_device(report, run="serving scenario", time_s=1e9, count=100.0)


def form(report: dict[str, Any]) -> dict[str, Any]:
    return {field["id"]: field["value"] for field in json.loads(to_eu_gpai(report, FULL).text)["fields"]}


def components(report: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(to_boamps(report, FULL).text)["infrastructure"]["components"]
    return found


def test_days_of_training_are_those_of_the_runs_alone() -> None:
    assert form(with_scenario(rich()))["training_time_days"] == form(rich())["training_time_days"]
    assert form(with_scenario(rich()))["training_time_range"] == form(rich())["training_time_range"]


def test_boards_of_a_scenario_are_none_that_anything_was_made_on() -> None:
    assert components(with_scenario(rich())) == components(rich())
    card, plain = to_card(with_scenario(rich()), DETAILS), to_card(rich(), DETAILS)
    assert card.emissions is not None
    assert plain.emissions is not None
    assert card.emissions["hardware_used"] == plain.emissions["hardware_used"] == "1 x card"


def test_making_of_hardware_that_serves_is_not_the_providers() -> None:
    scores = json.loads(to_sci(with_scenario(rich()), FULL).text)["sci_ai"]["provider"]["scores"]
    assert {score["M_g"] for score in scores} == {None}
    plain = json.loads(to_sci(rich(), FULL).text)["sci_ai"]["provider"]["scores"]
    assert None not in {score["M_g"] for score in plain}


def test_deployment_alone_has_no_share_of_the_making() -> None:
    report = rich()
    alone = {"unit": "1,000 requests, deployment alone", "count": 5.0, "reason": "", "means": "requests"}
    report["inventory"]["counts"].append({**alone, "stages": ["deployment"]})
    scores = {one["unit"]: one for one in json.loads(to_sci(report, FULL).text)["sci"]["scores"]}
    score = scores["1,000 requests, deployment alone"]
    assert score["stages"] == ["deployment"]
    assert score["M_g"] is None
    assert score["sci_g_per_unit"] is None
    assert score["reason"]
    assert scores["run"]["M_g"] is not None


@pytest.mark.parametrize(
    ("count", "whole", "share"), [(0.125, 1, 0.125), (1.5, 2, 0.75), (2.4, 3, 0.8), (2.0, 2, None), (0.1 * 30, 3, None)]
)
def test_a_part_of_a_device_is_a_share_of_whole_ones(count: float, whole: int, share: float | None) -> None:
    report = rich()
    report["inventory"]["devices"][0]["count"] = count
    (one,) = components(report)
    assert one["nbComponent"] == whole
    assert one.get("share") == (None if share is None else pytest.approx(share))


def test_a_provider_is_no_country() -> None:
    report = rich()
    report["goal_and_scope"]["place"].update(code="aws", kind="provider", within=[], name="Amazon Web Services")
    made = to_boamps(report, FULL)
    assert "environment" not in json.loads(made.text)
    assert any("environment.country" in loss.what for loss in made.losses)
    plain = to_boamps(rich(), FULL)
    assert json.loads(plain.text)["environment"]["country"] == "FRA"
    assert not any("environment.country" in loss.what for loss in plain.losses)


def test_a_board_that_two_runs_held_is_one_board() -> None:
    report = rich()
    report["goal_and_scope"]["about"]["runs"].append({"run_id": "r2"})
    with_device(report, run="r2")
    assert components(report) == components(rich())
    emissions = to_card(report, DETAILS).emissions
    assert emissions is not None
    assert emissions["hardware_used"] == "1 x card"


def test_no_two_factors_share_a_name_of_provenance() -> None:
    names = ["x/y", "x_2Fy", "x_5F2Fy", "x%2Fy", "x y", "é", "_C3_A9"]
    report = rich()
    report["factors"] = [{**report["factors"][0], "id": name} for name in names]
    entities = json.loads(to_rocrate(report, FULL).files[PROVENANCE])["entity"]
    labels = [said["prov:label"] for name, said in entities.items() if name.startswith("sw:factor-")]
    assert sorted(labels) == sorted(names)


def test_spdx_claims_no_profile_whose_demands_are_not_met() -> None:
    made = to_spdx(rich(), FULL)
    (document,) = [one for one in json.loads(made.text)["@graph"] if one.get("type") == "SpdxDocument"]
    assert "ai" not in document["profileConformance"]
    assert any("profileConformance ai" in loss.what for loss in made.losses)
