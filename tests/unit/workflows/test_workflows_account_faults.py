"""What was once counted twice, left out or crashed in an account, and is not again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lifecycle_studies import catalog, report, study
from run_dirs import quick_run
from run_records import energy, quickstart, run_record, stage
from stillwatt.cli.main import cli
from stillwatt.config.account_options import parse_pretraining, parse_serving
from stillwatt.errors import ReportError, StillwattError
from stillwatt.factors.catalog import build_catalog, choose
from stillwatt.factors.parametric import making_of
from stillwatt.factors.places import find_place
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Total
from stillwatt.records.factor import Choice
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.records.lifecycle import Count
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind, StageStatus
from stillwatt.report.data import report_json
from stillwatt.report.lifecycle_text import SHOWN, lifecycle_text
from stillwatt.units import J_PER_KWH
from stillwatt.workflows.account import Wanted, inputs_of, recompute
from stillwatt.workflows.account_hardware import storage_of
from stillwatt.workflows.factors import open_catalog


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def served(run: RunRecord) -> RunRecord:
    """The run with the number of tokens that its serving stages wrote."""
    stages = tuple(
        replace(one, workload={**one.workload, "generated_tokens": 2048.0}) if one.kind is StageKind.SERVE else one
        for one in run.stages
    )
    return replace(run, stages=stages)


def count_of(runs: list[RunRecord], student: str) -> Count:
    """How many students an account has."""
    found = inputs_of(runs, Wanted(region="FRA", student=student), catalog(), find_place("FRA"), Path("/nowhere"))
    return next(count for count in found.counts if count.unit == "student")


def test_deployment_alone_is_the_scenario_where_there_is_one() -> None:
    found = study(served(quickstart()), serving=parse_serving("1e6,10"), request_tokens=400.0)
    in_it = [use for use in found.uses if use.stage is LifeStage.DEPLOYMENT]
    assert [use.run for use in in_it] == ["serving scenario"]
    assert isinstance(in_it[0].energy, Total)
    (unit,) = [one for one in assess(found).units if one.count.unit == "1,000 requests, deployment alone"]
    metered_kwh = {impact: value for impact, value, *_ in unit.values}[Impact.ENERGY_METERED]
    assert unit.count.count is not None
    assert metered_kwh == pytest.approx(in_it[0].energy.value_j / J_PER_KWH / unit.count.count)


def test_a_scenario_moves_joules_and_loses_none() -> None:
    def metered_j(**wanted: Any) -> float:
        uses = study(served(quickstart()), **wanted).uses
        return sum(
            use.energy.value_j for use in uses if isinstance(use.energy, Total) and use.run != "serving scenario"
        )

    assert metered_j(serving=parse_serving("1e6,10")) == pytest.approx(metered_j())


def test_other_runs_of_the_same_name_are_named_as_lacking(tmp_path: Path) -> None:
    first = quick_run(tmp_path, number=1).path.name
    second = quick_run(tmp_path, number=2).path.name
    other = quick_run(tmp_path, number=3, name="something-else").path.name
    asked = ("account", "--runs", str(tmp_path), "--region", "FRA", "--draws", "200", "--json")
    data = json.loads(ask(*asked, first).stdout)
    lacks = [lack for lack in data["inventory"]["lacks"] if "of the same name" in lack["reason"]]
    assert [lack["stage"] for lack in lacks] == ["experimentation"]
    assert second in lacks[0]["reason"]
    assert other not in lacks[0]["reason"]
    total = next(one for one in data["totals"] if one["impact"] == "energy_metered")
    assert any(second in lack for lack in total["lacking"])
    both = json.loads(ask(*asked, first, second).stdout)
    assert not any("of the same name" in lack["reason"] for lack in both["inventory"]["lacks"])


def test_with_the_teachers_pre_training_that_of_the_students_is_still_lacking() -> None:
    found = study(pretraining=parse_pretraining("1MWh,use:100,facility"))
    lacks = [lack.reason for lack in found.lacks if lack.stage is LifeStage.TRAINING]
    assert any("what the students were made from" in lack for lack in lacks)


def test_students_of_one_arm_are_counted_in_each_run() -> None:
    again = replace(quickstart(), run_id="20260302T100000-quickstart-5e1f0d")
    assert count_of([quickstart()], "kd").count == 1.0
    assert count_of([quickstart(), again], "kd").count == 2.0


def test_a_student_whose_training_failed_is_none() -> None:
    stages = tuple(
        replace(one, status=StageStatus.FAILED) if one.labels.get("arm") == "kd" else one for one in quickstart().stages
    )
    found = count_of([replace(quickstart(), stages=stages)], "kd")
    assert (found.count, found.reason) == (None, "no student was trained")


def test_a_suspect_factor_says_so() -> None:
    found = making_of(build_catalog(), "embodied_gwp", "a100-sxm")
    assert isinstance(found, Choice)
    assert any(found.factor.id in said and "suspect" in said for said in found.cautions)


def test_an_artefacts_label_that_is_a_path_is_not_followed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for folder in (tmp_path / "private", runs / "artifacts" / "logits-1"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 5000)
    for label, size in (("logits-1", 5000.0), (str(tmp_path / "private"), None), ("../../private", None)):
        run = run_record([stage("a", "made", StageKind.TEACHER_LOGITS, joules=9.0, labels={"artifact": label})])
        found = storage_of([run], runs, build_catalog(), days=10.0)
        assert [one.size_bytes for one in found.kept] == ([] if size is None else [size])


def test_serving_stages_that_are_left_out_of_a_token_are_named() -> None:
    def serve(name: str, **more: Any) -> StageRecord:
        return stage(name, f"serve.{name}", StageKind.SERVE, **more)

    board = [energy(90.0, "gpu0", boundary=Boundary.BOARD, driver="nvml")]
    silent = serve("silent", joules=5.0)
    unread = serve("unread", workload={"generated_tokens": 10.0})
    card = serve("card", energies=board, workload={"generated_tokens": 10.0})
    card = replace(card, gross=replace(as_total(card), boundary=Boundary.BOARD))
    good = serve("good", joules=50.0, duration_s=10.0, workload={"generated_tokens": 100.0})
    found = study(run_record([good, silent, unread, card]), serving=parse_serving("1000,1"))
    (use,) = [use for use in found.uses if use.run == "serving scenario"]
    assert isinstance(use.energy, Total)
    assert use.energy.value_j == pytest.approx(500.0)
    assert use.meter == "host_model"
    assumptions = found.about["assumptions"]
    assert isinstance(assumptions, list)
    (said,) = [one for one in assumptions if "tokens a day" in one]
    assert "serve.silent" in said
    assert "nobody counted its tokens" in said
    assert "serve.unread" in said
    assert "serve.card" in said
    assert "boundary board" in said
    assert "serve.good" not in said
    with pytest.raises(StillwattError, match=r"not used: serve\.silent"):
        study(run_record([silent]), serving=parse_serving("1000,1"))


def as_total(one: StageRecord) -> Total:
    """A stage's energy, which is known."""
    assert isinstance(one.gross, Total)
    return one.gross


def test_a_factor_without_a_year_is_cautioned_of() -> None:
    given = open_catalog(overrides=("grid_gwp_location@FRA=56gCO2e/kWh",), packages=[])
    found = choose(given, "grid_gwp_location", find_place("FRA"), year=2026)
    assert isinstance(found, Choice)
    assert any("no year is given with it" in said and "--factors" in said for said in found.cautions)


def test_a_total_that_is_not_whole_is_marked() -> None:
    data = json.loads(report_json(report()))
    (line,) = [line.strip() for line in lifecycle_text(data).splitlines() if "counted in all" in line]
    totals = {total["impact"]: total for total in data["totals"]}
    marks = [mark.endswith("+") for mark in line.removeprefix("counted in all").split()]
    shown = [totals[impact] for impact in SHOWN]
    assert marks == [total["value"] is not None and not total["complete"] for total in shown]
    assert any(marks)
    for total in data["totals"]:
        total["complete"] = total["value"] is not None
    (line,) = [line for line in lifecycle_text(data).splitlines() if "counted in all" in line]
    assert "+" not in line


@pytest.mark.parametrize("what", ["account", "recompute"])
def test_a_report_is_not_written_over_unasked(what: str, tmp_path: Path) -> None:
    source, out = tmp_path / "source.json", tmp_path / "there" / "report.json"
    source.write_bytes(report_json(report()).encode())
    quick_run(tmp_path / "runs")
    made = ("latest", "--runs", str(tmp_path / "runs"), "--region", "FRA", "--draws", "200")
    asked = ("account", *(made if what == "account" else ("--recompute", str(source))), "-o", str(out))
    assert ask(*asked).exit_code == 0
    assert b"\r" not in out.read_bytes()
    out.write_text("mine", encoding="utf-8")
    again = ask(*asked)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert out.read_text(encoding="utf-8") == "mine"
    assert ask(*asked, "--force").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("{")
    assert [path.name for path in out.parent.iterdir()] == ["report.json"]
    folder = ask(*asked[:-1], str(tmp_path), "--force")
    assert folder.exit_code == 2
    assert "name a file" in folder.stderr


def test_a_report_may_go_to_no_file(tmp_path: Path) -> None:
    source = tmp_path / "source.json"
    source.write_bytes(report_json(report()).encode())
    assert ask("account", "--recompute", str(source), "-o", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


def test_a_seed_below_0_is_refused() -> None:
    found = ask("account", "latest", "--region", "FRA", "--seed", "-1")
    assert found.exit_code == 2
    assert "--seed" in found.stderr


def _without_lifetime(data: dict[str, Any]) -> None:
    del data["goal_and_scope"]["shared_factors"]["lifetime"]


def _draws(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["goal_and_scope"]["uncertainty"].update(draws=value)


@pytest.mark.parametrize(
    "spoil", [_draws(0), _draws(-1), _draws("x"), _draws(None), _without_lifetime], ids=["0", "-1", "x", "null", "life"]
)
def test_a_report_that_cannot_be_computed_anew_says_so(spoil: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    data = json.loads(report_json(report()))
    spoil(data)
    path = tmp_path / "report.json"
    path.write_text(report_json(data), encoding="utf-8")
    with pytest.raises(ReportError, match=r"does not hold.*stillwatt validate"):
        recompute(path)


def test_json_that_is_too_deep_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ReportError, match="not JSON"):
        recompute(path)


def test_other_ends_of_lines_are_not_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(report_json(report()).encode())
    assert recompute(path)[1] == ""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert recompute(path)[1] == "$ (the same values, written otherwise)"
    assert ask("account", "--recompute", str(path)).exit_code == 1
