"""`stillwatt plan` and `stillwatt advise` as people and programs call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from planned_runs import smoke, study_run
from stillwatt.ledger.environment import capture_environment

Stillwatt = Callable[..., Result]
TABLE = (
    "label,method,student,seed,quality,quality_se,teacher_kwh,student_kwh,other_kwh,throughput\n"
    "sft,sft,1B,1,0.69,0.01,0,6.28,0.70,\nkd,kd,1B,1,0.80,0.01,11.0,5.18,0.70,\n"
)


@pytest.fixture
def learnt(runs_dir: Path) -> str:
    here = capture_environment()
    study_run(runs_dir, smoke("data.train_tokens=1024"), number=1, environment=here)
    study_run(runs_dir, smoke("data.train_tokens=2048"), number=2, environment=here)
    return str(runs_dir)


def test_plan_prints_every_stage_with_its_interval_and_what_it_rests_on(stillwatt: Stillwatt, learnt: str) -> None:
    result = stillwatt("plan", "smoke_cpu", "--runs", learnt, "--region", "FR")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stage", "energy", "time", "disk", "CO2e", "rests", "on"]
    assert any(line.startswith("train.kd.1.0") and "[" in line for line in lines)
    assert any(line.startswith("total") for line in lines)
    assert "left out in turn (2 runs, each predicted from the rest)" in result.stdout
    assert "a whole run's energy: off by" in result.stdout
    answer = json.loads(stillwatt("plan", "smoke_cpu", "--runs", learnt, "--json").stdout)
    assert answer["schema"] == "stillwatt.prediction/1"
    assert answer["energy_j"]["low"] < answer["energy_j"]["value"] < answer["energy_j"]["high"]
    assert answer["kgco2e"] is None


def test_plan_before_any_run_is_wide_and_says_so(stillwatt: Stillwatt, tmp_path: Path) -> None:
    result = stillwatt("plan", "quickstart", "--runs", str(tmp_path / "none"))
    assert "first principles alone" in result.stdout
    assert "nothing was measured yet that could be left out" in result.stdout
    assert not (tmp_path / "none").exists()


def test_plan_with_a_region_without_a_factor_says_why(stillwatt: Stillwatt, tmp_path: Path) -> None:
    unknown = 'teacher.source="hf:nobody/nameless"'
    student = 'students.tiny.source="hf:nobody/nameless"'
    result = stillwatt(
        "plan", "smoke_cpu", "--runs", str(tmp_path), "--region", "FR", "--set", unknown, "--set", student
    )
    assert result.exit_code == 0, result.stderr
    assert "size is not known" in result.stdout


def test_plan_looks_back_at_a_run(stillwatt: Stillwatt, learnt: str) -> None:
    stillwatt("plan", "smoke_cpu", "--runs", learnt)
    run = study_run(Path(learnt), smoke(), number=3)
    result = stillwatt("plan", "smoke_cpu", "--runs", learnt, "--against", run.run_id)
    assert result.exit_code == 0, result.stderr
    assert "predicted without the run" in result.stdout
    answer = json.loads(stillwatt("plan", "smoke_cpu", "--runs", learnt, "--against", run.run_id, "--json").stdout)
    assert answer["energy_j"][-1]["name"] == "total"
    assert answer["energy_j"][-1]["measured"] > 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probe", "soon"], "no number with a unit"),
        (["--probe", "5 kWh"], "is no length of time"),
        (["--against", "latest", "--device", "H100"], "--against looks back at a run"),
        (["--probe", "5s", "--device", "H100"], "--device names another"),
    ],
)
def test_plan_refuses_what_cannot_be_meant(stillwatt: Stillwatt, learnt: str, options: list[str], said: str) -> None:
    result = stillwatt("plan", "smoke_cpu", "--runs", learnt, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_advise_ranks_and_names_an_experiment(stillwatt: Stillwatt, learnt: str) -> None:
    result = stillwatt("advise", "--budget", "1 kWh", "--runs", learnt, "--deadline", "2 h")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith("distil: kd")
    assert "ranked by expected quality" in result.stdout
    answer = json.loads(stillwatt("advise", "--budget", "1 kWh", "--runs", learnt, "--json").stdout)
    assert answer["answer"] == "distil"
    assert answer["ranked"][0]["option"]["evidence"]


def test_advise_on_a_table_and_within_nothing(stillwatt: Stillwatt, tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text(TABLE, encoding="utf-8")
    good = stillwatt("advise", "--budget", "20 kWh", "--table", str(table))
    assert good.exit_code == 0, good.stderr
    nothing = stillwatt("advise", "--budget", "1 J", "--table", str(table))
    assert nothing.exit_code == 1
    assert nothing.stdout.startswith("no configuration can meet this: nothing meets the limits")
    sure = stillwatt(
        "advise", "--budget", "20 kWh", "--co2", "100 kgCO2e", "--kgco2e-per-kwh", "0.1", "--table", str(table)
    )
    assert sure.exit_code == 0, sure.stderr
    placed = stillwatt("advise", "--budget", "20 kWh", "--co2", "9 kgCO2e", "--region", "Sweden", "--table", str(table))
    assert placed.exit_code == 0, placed.stderr
    assert "energy time carbon quality" in " ".join(placed.stdout.splitlines()[2].split())
    assert "kgCO2e per metered kWh in Sweden" in placed.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Missing option '--budget'"),
        (["--budget", "lots"], "no number with a unit"),
        (["--budget", "5 kWh", "--co2", "5 kWh"], "kgCO2e is meant"),
        (["--budget", "5 kgCO2e", "--table", "paper"], "needs a place: --region"),
        (["--budget", "5 kgCO2e", "--table", "paper", "--region", "Frence"], "did you mean"),
        (["--budget", "5 kWh", "--quality", "nan", "--table", "paper"], "nan is not a finite number"),
    ],
)
def test_advise_refuses_what_cannot_be_meant(stillwatt: Stillwatt, options: list[str], said: str) -> None:
    result = stillwatt("advise", *options)
    assert result.exit_code == 2
    assert said in result.stderr
