"""Which student a serving scenario serves, and which bytes the runs fetched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_studies import study
from run_dirs import quick_run
from run_records import run_record, stage
from stillwatt.cli.main import cli
from stillwatt.config.account_options import GivenDevice, parse_downloaded, parse_machine, parse_serving
from stillwatt.errors import ConfigError, StillwattError
from stillwatt.factors.catalog import build_catalog
from stillwatt.records.energy import Total
from stillwatt.records.factor import Choice
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.records.lifecycle import Role
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind
from stillwatt.workflows.account_downloads import downloads_of
from stillwatt.workflows.account_hardware import hardware_of
from stillwatt.workflows.account_served import served_of

CATALOG = build_catalog()


def served(name: str, joules: float, tokens: float = 100.0, **labels: str) -> Any:
    one = stage(name, f"serve.{name}", StageKind.SERVE, joules=joules, labels=labels)
    return replace(one, workload={"generated_tokens": tokens})


def trained(arm: str, student: str) -> Any:
    return stage(
        f"t-{arm}", f"train.{arm}", StageKind.STUDENT_TRAIN, joules=5.0, labels={"arm": arm, "student": student}
    )


def unlike(*more: Any, **settings: Any) -> RunRecord:
    """Two arms with students of unlike shape, each served."""
    stages = [trained("kd", "small"), trained("sft", "large"), served("small", 10.0, student="small")]
    stages += [served("large", 60.0, student="large"), served("teacher", 500.0, arm="teacher"), *more]
    run = run_record(stages)
    return replace(run, settings={**run.settings, **settings})


def token_j(run: RunRecord, student: str | None) -> float:
    found = study(run, serving=parse_serving("1e6,1"), student=student)
    (use,) = [use for use in found.uses if use.run == "serving scenario"]
    assert isinstance(use.energy, Total)
    return use.energy.value_j / 1e6


def test_the_student_of_the_named_arm_is_served() -> None:
    assert token_j(unlike(), "kd") == pytest.approx(0.1)
    assert token_j(unlike(), "sft") == pytest.approx(0.6)


def test_without_a_name_unlike_students_are_not_averaged_and_the_dearest_is_said() -> None:
    assert token_j(unlike(), None) == pytest.approx(0.6)
    said = str(study(unlike(), serving=parse_serving("1e6,1")).about["assumptions"])
    assert "unlike students (large, small) large is served" in said
    assert "--student" in said
    named = str(study(unlike(), serving=parse_serving("1e6,1"), student="kd").about["assumptions"])
    assert "the student of arm kd is served" in named


def test_repeats_of_one_student_are_averaged_by_their_tokens() -> None:
    again = unlike(served("again", 50.0, tokens=300.0, student="small"))
    assert token_j(again, "kd") == pytest.approx(60.0 / 400.0)


def test_a_stage_under_the_arms_own_name_is_its_students() -> None:
    run = run_record(
        [trained("kd", "s"), trained("sft", "s"), served("a", 20.0, arm="kd"), served("b", 80.0, arm="sft")]
    )
    assert token_j(run, "kd") == pytest.approx(0.2)
    assert token_j(run, None) == pytest.approx(0.8)
    kept = run_record([trained("kd", "s"), served("a", 20.0)])
    assert token_j(kept, "kd") == pytest.approx(0.2)


def test_the_scenario_holds_the_host_too_or_says_that_it_is_not_known() -> None:
    known = unlike()
    known = replace(known, environment={"cpu_model": "AMD EPYC 7763", "logical_cpus": 128})
    found = study(known, serving=parse_serving("1e6,1"), student="kd")
    (host,) = (one for one in found.held if one.run == "serving scenario")
    assert host.role is Role.HOST
    (stage_served,) = (one for one in known.stages if one.name == "serve.small")
    assert host.time_s == pytest.approx(1e6 * stage_served.duration_s / 100.0)
    board = (GivenDevice(role=Role.ACCELERATOR, name="card", count=1.0),)
    unknown = replace(known, environment={})
    found = study(unknown, serving=parse_serving("1e6,1"), student="kd", devices=board)
    assert {one.role for one in found.held if one.run == "serving scenario"} == {Role.ACCELERATOR}
    assert any("the host that it holds is not known" in lack.reason for lack in found.lacks)


def test_a_student_that_nobody_served_is_not_replaced_by_another() -> None:
    run = run_record([trained("kd", "small"), trained("sft", "large"), served("large", 60.0, student="large")])
    with pytest.raises(StillwattError, match="of the student of arm kd"):
        served_of([run], frozenset({"kd"}))


def fetched(**results: Any) -> RunRecord:
    one = replace(stage("f", "fetch_models", StageKind.OTHER, joules=3.0), results=results)
    text = stage("p", "prepare", StageKind.PREPARE_DATA, joules=1.0)
    run = run_record([one, text])
    teacher = {"source": "hf:org/teacher"}
    students = [{"name": "s", "source": "hf:org/student"}, {"name": "p", "source": "prune-teacher"}]
    return replace(run, settings={**run.settings, "teacher": teacher, "students": students})


def test_bytes_of_the_record_are_counted_and_the_rest_is_named() -> None:
    run = fetched(models={}, fetched_bytes={"hf:org/teacher": 2e9})
    found = downloads_of([run], CATALOG)
    (moved,) = found.moved
    assert (moved.what, moved.size_bytes, moved.told_by) == ("hf:org/teacher", 2e9, "record")
    assert isinstance(moved.found, Choice)
    assert moved.found.factor.year == 2015
    said = " | ".join(lack.reason for lack in found.lacks)
    assert "hf:org/student: it was on this machine before the run" in said
    assert "download of text" in said
    assert "prune-teacher" not in said
    assert all(Impact.ENERGY_METERED not in lack.impacts and lack.impacts for lack in found.lacks)


def test_a_record_without_bytes_is_no_download_of_0() -> None:
    found = downloads_of([fetched(models={})], CATALOG)
    assert not found.moved
    assert any("its bytes were not recorded, give --downloaded hf:org/teacher=GB" in one.reason for one in found.lacks)
    assert not downloads_of([fetched(fetched_bytes={"x": 0, "y": True, "z": "many"})], CATALOG).moved
    assert not downloads_of([fetched(fetched_bytes=5)], CATALOG).moved


def test_a_run_without_a_recipe_lacks_its_downloads_until_one_is_stated() -> None:
    imported = replace(run_record([stage("a", "work", StageKind.OTHER, joules=9.0)]), settings={})
    (lack,) = downloads_of([imported], CATALOG).lacks
    assert "models and text: this run's record has no recipe" in lack.reason
    assert not downloads_of([imported], CATALOG, [("hf:org/teacher", 60.0)]).lacks


def test_what_the_user_states_stands_in_for_the_record_once() -> None:
    runs = [fetched(fetched_bytes={"hf:org/teacher": 2e9}), replace(fetched(), run_id="other")]
    found = downloads_of(runs, CATALOG, [("hf:org/teacher", 3.0), ("text", 0.5)])
    assert [(one.what, one.size_bytes, one.told_by) for one in found.moved] == [
        ("hf:org/teacher", 3e9, "user"),
        ("text", 5e8, "user"),
    ]
    assert not any("teacher" in lack.reason or "text" in lack.reason for lack in found.lacks)


def test_the_machine_that_the_user_states_is_the_host() -> None:
    machine = parse_machine("sockets=2,memory=512GB,disk=2000")
    found = hardware_of([run_record([stage("a", "work", StageKind.OTHER, joules=9.0)])], CATALOG, machine=machine)
    (host,) = (one for one in found.held if one.role is Role.HOST)
    making = host.found["embodied_gwp"]
    assert isinstance(making, Choice)
    assert making.factor.value == pytest.approx(1200 + 496 * 0.4 + 2000 * 0.16)
    assert not any("host of" in lack.reason for lack in found.lacks)


@pytest.mark.parametrize(
    "text", ["memory=5", "sockets=0", "sockets=1.5", "sockets=9", "sockets=2,cores=4", "2", "sockets=two"]
)
def test_machines_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--machine"):
        parse_machine(text)


@pytest.mark.parametrize("text", ["teacher", "=4", "teacher=", "teacher=-1", "teacher=nan", "teacher=0"])
def test_downloads_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--downloaded"):
        parse_downloaded(text)


def test_the_command_counts_downloads_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    run_dir = quick_run(tmp_path)
    out = tmp_path / "report.json"
    arguments = ["account", run_dir.name, "--runs", str(tmp_path), "--region", "FRA", "--draws", "200", "-o", str(out)]
    done = CliRunner().invoke(cli, [*arguments, "--downloaded", "teacher=10", "--machine", "sockets=1,memory=64"])
    assert done.exit_code in (0, 3), done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    cells = {(cell["stage"], cell["impact"]): cell for cell in report["cells"]}
    data = cells[LifeStage.DATA.value, Impact.ENERGY_FACILITY.value]
    assert data["value"] == pytest.approx(0.6, rel=0.01)  # and the little that its own stages took
    assert data["status"] == "factor"
    assert cells[LifeStage.HARDWARE.value, Impact.GWP_LOCATION.value]["covers"] == ["host"]
    assert report["inventory"]["tried"]["runs_looked_at"] == 1
    assert report["inventory"]["moved"][0]["told_by"] == "user"
    for command in (["validate", str(out)], ["account", "--recompute", str(out)]):
        again = CliRunner().invoke(cli, command)
        assert again.exit_code == 0, again.output


def test_who_is_served_and_who_is_not_stand_in_the_report() -> None:
    named = study(unlike(), serving=parse_serving("1e6,1"), student="kd").about["served"]
    assert isinstance(named, dict)
    assert (named["student"], named["why"]) == ("small", "the student of arm kd is served")
    assert [one["stage"] for one in named["stages"]] == ["serve.small"]
    assert named["not_served"] == ["serve.large of 20260301T100000-quickstart-5e1f0c (it serves large)"]
    nobody = study(unlike(), serving=parse_serving("1e6,1")).about["served"]
    assert isinstance(nobody, dict)
    assert nobody["student"] == "large"
    assert nobody["not_served"] == ["serve.small of 20260301T100000-quickstart-5e1f0c (it serves small)"]
    assert "served" not in study(unlike(), serving=parse_serving("1e6,1,0.4J,node"), student="kd").about


def test_serving_that_nobody_named_is_not_taken_for_one_of_unlike_students() -> None:
    run = run_record([trained("kd", "small"), trained("sft", "large"), served("x", 70.0)])
    with pytest.raises(StillwattError, match=r"serve\.x .*nobody said which student it serves"):
        served_of([run], frozenset({"kd"}))


def test_one_name_of_two_models_is_two_students() -> None:
    runs = []
    for number, joules in enumerate((10.0, 90.0)):
        run = run_record([trained("kd", "s"), served("s", joules, student="s")])
        settings = {**run.settings, "students": [{"name": "s", "source": "tiny-random", "layers": number}]}
        runs.append(replace(run, run_id=f"r{number}", settings=settings))
    found = served_of(runs, frozenset({"kd"}))
    assert (found.who, len(found.stages)) == ("s of r1", 1)
    assert found.left_out == ("serve.s of r0 (it serves s of r0)",)
    alike = [replace(run, settings=runs[0].settings) for run in runs]
    assert len(served_of(alike, frozenset({"kd"})).stages) == 2


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6))
def test_what_others_took_moves_nothing_of_the_student_that_is_named(one_j: float, other_j: float) -> None:
    stages = [trained("kd", "small"), trained("sft", "large"), served("small", 10.0, student="small")]
    found = [
        served_of([run_record([*stages, served("l", j, student="large")])], frozenset({"kd"})) for j in (one_j, other_j)
    ]
    assert [one.name for _, one in found[0].stages] == [one.name for _, one in found[1].stages] == ["serve.small"]
