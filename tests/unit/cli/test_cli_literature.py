"""`stillwatt literature`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stillwatt.cli.main import cli

HEADER = "title,authors,year,source,subject,stage,metric,value,unit,per,boundary,evidence,verified"
ROW = "A study,Doe J,2026,https://example.org/a,Model X,training,energy,12.5,MWh,,node,full_text,yes"


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["literature", *arguments])


def answer(*arguments: str) -> Any:
    result = ask(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_works_and_figures() -> None:
    result = ask("list", "--stage", "end_of_life", "--metric", "ewaste")
    assert result.exit_code == 0
    assert "wang2024" in result.stdout
    assert "2 works" in result.stderr
    works = answer("list", "--evidence", "full_text", "--years", "2025-")["works"]
    assert works
    assert all(work["evidence"] == "full_text" and work["year"] >= 2025 for work in works)
    figures = answer("list", "--figures", "--method", "measured", "--subject", "olmo")["figures"]
    assert figures
    assert {"value", "unit", "boundary", "evidence", "verified", "hash"} <= set(figures[0])
    assert "measured" in ask("list", "--figures", "--subject", "lambert2026").stdout


def test_show_a_work_by_its_id_or_that_of_a_figure() -> None:
    result = ask("show", "morrison2025-dev-e")
    assert result.exit_code == 0
    assert "Holistically Evaluating" in result.stdout
    assert "model experimentation" in result.stdout
    shown = answer("show", "wright2025")
    assert shown["work"]["verified"] is False
    assert shown["figures"] == []
    assert "not checked" in ask("show", "wright2025").stdout
    assert ask("show", "morison2025").exit_code == 2


def test_map_in_three_forms(tmp_path: Path) -> None:
    assert "102" in ask("map").stdout
    drawn = answer("map", "--verified", "--years", "2024")
    assert 0 < drawn["works"] < 217
    assert drawn["stages"][0]["definition_of"] == "Stillwatt"
    page = tmp_path / "map.html"
    assert ask("map", "--html", str(page)).exit_code == 0
    assert "reporting rests predominantly on CO2e" in page.read_text(encoding="utf-8")
    assert ask("map", "--html", str(page), "--stage", "training", "--subject", "OLMo", "--verified").exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "stages: training; subject: OLMo; verified" in text
    assert "reporting rests predominantly" not in text


OF_CARBON = ("--metric", "co2e", "--boundary", "facility")
FIGURE = ("--value", "1.2", "--unit", "kWh", "--stage", "training", "--metric", "energy", "--boundary", "facility")


def test_compare_prints_conversions_with_their_intervals() -> None:
    result = ask("compare", *FIGURE, "--low", "1.1", "--high", "1.3")
    assert result.exit_code == 0, result.output
    assert "yours: 1.2 [1.1, 1.3] kWh, energy of training, facility" in result.stdout
    assert "converted, theirs board to facility: × node_overhead" in result.stdout
    assert "rank: larger than" in result.stdout
    assert "totals hang on the size of the job" in result.stdout
    assert "several stages together" in result.stdout


def test_compare_as_json_keeps_factors_with_hash_and_every_refusal() -> None:
    (found,) = answer("compare", *FIGURE)["comparisons"]
    by = [one for one in found["beside"] if one["converted_by"]["theirs"]]
    assert len(by[0]["converted_by"]["theirs"][0]["hash"]) == 64
    assert all(one["reason"] for one in found["refused"])
    assert found["rank"]["works"] >= 5
    few = answer("compare", *FIGURE[:4], "--stage", "data", "--boundary", "components")["comparisons"][0]
    assert few["rank"] is None
    assert "a rank needs 5" in few["no_rank"]
    assert "no rank" in ask("compare", *FIGURE[:4], "--stage", "data", "--boundary", "components").stdout


def test_a_users_factor_carries_the_figure() -> None:
    (found,) = answer("compare", *FIGURE, "--factor", "node_overhead@world=2")["comparisons"]
    factors = [by for one in found["beside"] for by in one["converted_by"]["theirs"]]
    assert any(by["quantity"] == "node_overhead" and by["value"] == 2.0 for by in factors)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--unit", "kWh", "--stage", "training"), "needs --value, --unit and --stage"),
        ((*FIGURE, "--account", "x.json"), "not both"),
        ((*FIGURE[:8],), "needs --boundary"),
        (("--value", "1", "--unit", "kg", *FIGURE[4:]), "kg is a unit of mass"),
        (("--value", "1", "--unit", "kwh", *FIGURE[4:]), "did you mean 'kWh'"),
        (("--value", "-1", *FIGURE[2:]), "is not in the range"),
        ((*FIGURE, "--low", "2"), "is no figure of 0 or more"),
        ((*FIGURE, "--counts", "location"), "comes in one kind"),
        (("--value", "1", "--unit", "kg", "--stage", "training", *OF_CARBON), "one of location, market, net, unstated"),
        (("--value", "1", "--unit", "L", "--stage", "training", "--metric", "water", "--boundary", "node"), "onsite"),
        ((*FIGURE, "--per", "0 requests"), "per nothing at all"),
        ((*FIGURE, "--per", "0_0 tokens"), "per nothing at all"),
        ((*FIGURE[:4], "--stage", "trainin", "--boundary", "node"), "did you mean 'training'"),
        ((*FIGURE[:8], "--boundary", "noed"), "did you mean 'node'"),
        ((*FIGURE, "--region", "Atlantis"), "unknown place"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], said: str) -> None:
    result = ask("compare", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


@pytest.mark.parametrize("years", ["x", "20x4-", "-", "2024-x"])
def test_years_that_are_none(years: str) -> None:
    assert "write 2024, 2022-2024" in ask("list", "--years", years).stderr


def test_years_the_wrong_way_round_are_refused() -> None:
    refused = ask("list", "--years", "2025-2023")
    assert refused.exit_code == 2
    assert "the last one comes before the first; write 2023-2025" in refused.stderr
    assert ask("list", "--years", "2024-2024").exit_code == 0


def test_what_is_embodied_needs_no_kind() -> None:
    embodied = ("--metric", "co2e", "--boundary", "cradle_to_gate")
    assert ask("compare", "--value", "1", "--unit", "kg", "--stage", "hardware", *embodied).exit_code == 0
    of_carbon = ("--value", "1", "--unit", "kg", "--stage", "training", *OF_CARBON)
    assert ask("compare", *of_carbon, "--counts", "location").exit_code == 0


def account(tmp_path: Path, *cells: dict[str, Any]) -> str:
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"schema": "stillwatt.lifecycle/1", "impact": {"cells": list(cells)}}), encoding="utf-8")
    return str(path)


def cell(**more: Any) -> dict[str, Any]:
    said = {"stage": "post_training", "impact": "energy_node", "unit": "kWh", "status": "measured", "boundary": "node"}
    return {**said, "value": 5.0, "low": 4.0, "high": 6.0, **more}


def test_compare_an_account_cell_by_cell(tmp_path: Path) -> None:
    path = account(
        tmp_path,
        cell(),
        cell(impact="gwp_location", unit="kgCO2e"),
        cell(impact="energy_metered", boundary="chip"),
        cell(impact="energy_metered", boundary=None),
        cell(value=None, status="not_counted", reason="no serving scenario is given"),
        cell(impact="adpe", unit="kgSbeq"),
        cell(stage="hardware_manufacturing", impact="gwp_location"),
    )
    found = answer("compare", "--account", path)
    assert [one["asked"]["what"] for one in found["comparisons"]] == [
        "post_training/energy_node",
        "post_training/gwp_location",
        "post_training/energy_metered",
    ]
    assert found["comparisons"][0]["beside"]
    assert found["comparisons"][1]["asked"]["counts"] == "location"
    reasons = {one["reason"] for one in found["uncompared"]}
    assert {"its boundary is not stated", "no serving scenario is given"} <= reasons
    result = ask("compare", "--account", path)
    assert "not compared: no serving scenario is given" in result.stderr


def test_an_account_that_is_none(tmp_path: Path) -> None:
    assert "no such" not in ask("compare", "--account", account(tmp_path)).stderr
    assert ask("compare", "--account", account(tmp_path)).exit_code == 2
    assert ask("compare", "--account", str(tmp_path / "none.json")).exit_code == 2
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    assert "is not JSON" in ask("compare", "--account", str(tmp_path / "bad.json")).stderr
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    assert "holds no cells" in ask("compare", "--account", str(tmp_path / "list.json")).stderr
    wrong = account(tmp_path, cell(unit="stone"))
    assert "cell post_training/energy_node: unknown unit 'stone'" in ask("compare", "--account", wrong).stderr


def test_check_names_each_fault_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8")
    good = ask("check", str(path))
    assert good.exit_code == 0
    assert "1 works, 1 figures, no fault" in good.stdout
    assert "added/added-a-study/2" in ask("list", "--figures", "--corpus", str(path), "--subject", "model x").stdout
    path.write_text(f"{HEADER}\n{ROW.replace('MWh', 'mwh').replace('2026', '')}\n", encoding="utf-8")
    bad = ask("check", str(path))
    assert bad.exit_code == 1
    assert f"{path}:2, column year: is required" in bad.stdout
    result = ask("check", str(path), "--json")
    assert result.exit_code == 1
    assert {one["column"] for one in json.loads(result.stdout)["problems"]} == {"unit", "year"}
    assert ask("list", "--corpus", str(path)).exit_code == 2
    assert ask("check", str(tmp_path / "none.csv")).exit_code == 2
