"""`stillwatt import` says what it took, what it left out and why; for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from import_files import carbon_row, write_carbon, write_table

Stillwatt = Callable[..., Result]
START_S = 1_767_225_600


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Twenty seconds at 300 W."""
    rows = [[START_S + second, 300] for second in range(21)]
    return write_table(tmp_path / "log.csv", ["timestamp", "gpu0_w"], rows)


def test_what_was_taken_is_told(stillwatt: Stillwatt, tmp_path: Path, log: Path) -> None:
    runs = str(tmp_path / "runs")
    result = stillwatt("import", str(log), "--runs", runs)
    assert result.exit_code == 0, result.output
    assert "imported" in result.stdout
    assert "total 6,000 J" in result.stdout
    assert "already there" in stillwatt("import", str(log), "--runs", runs).stdout
    assert "gpu0" in stillwatt("ledger", "show", "log", "--runs", runs).stdout


def test_json_has_runs_and_what_was_left_out(stillwatt: Stillwatt, tmp_path: Path, log: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    result = stillwatt("import", str(tmp_path), "--runs", str(tmp_path / "runs"), "--json")
    document = json.loads(result.stdout)
    (run,) = document["runs"]
    assert (run["outcome"], run["format"], run["complete"]) == ("imported", "power-csv", True)
    assert run["sources"][0]["name"].endswith("log.csv")
    assert [left["name"].rpartition("/")[2] for left in document["left_out"]] == ["notes.csv"]


def test_a_dry_run_only_tells(stillwatt: Stillwatt, tmp_path: Path, log: Path) -> None:
    result = stillwatt("import", str(log), "--runs", str(tmp_path / "runs"), "--dry-run")
    assert "would be imported" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_what_is_left_as_it_is_says_why(stillwatt: Stillwatt, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    stillwatt("import", str(path), "--runs", runs)
    write_carbon(path, [carbon_row(gpu_energy=0.02, energy_consumed=0.023)])
    result = stillwatt("import", str(path), "--runs", runs)
    assert result.exit_code == 1
    reason = "emissions.csv changed since it was imported"
    assert f"left as it is: {reason}; delete the run directory to import it anew" in result.stdout
    (run,) = json.loads(stillwatt("import", str(path), "--runs", runs, "--json").stdout)["runs"]
    assert (run["outcome"], run["reason"]) == ("changed", reason)


def test_holes_in_time_are_told(stillwatt: Stillwatt, tmp_path: Path) -> None:
    rows = [[START_S + second, 300] for second in (*range(30), *range(630, 660))]
    path = write_table(tmp_path / "hole.csv", ["timestamp", "gpu0_w"], rows)
    result = stillwatt("import", str(path), "--runs", str(tmp_path / "runs"))
    assert "note: gpu0: a hole of 601 s without readings" in result.stdout
    assert "is estimated" in result.stdout


def test_an_incomplete_energy_exits_with_3(stillwatt: Stillwatt, tmp_path: Path) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row(gpu_energy=0.0, energy_consumed=0.003)])
    result = stillwatt("import", str(path), "--runs", str(tmp_path / "runs"))
    assert result.exit_code == 3
    assert "without gpu" in result.stdout


def test_misuse_says_what_is_wrong(stillwatt: Stillwatt, tmp_path: Path, log: Path) -> None:
    assert stillwatt("import").exit_code == 2
    gone = stillwatt("import", str(tmp_path / "gone.csv"))
    assert gone.exit_code == 2
    assert "gone.csv" in gone.stderr
    odd = stillwatt("import", str(log), "--format", "zues")
    assert odd.exit_code == 2
    assert "zeus" in odd.stderr
