"""`stillwatt export`: of a run and of a report, losses on stderr, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export_reports import poor, rich
from run_dirs import quick_run
from stillwatt.cli.export import _FORMATS
from stillwatt.cli.main import cli
from stillwatt.report.data import report_json
from stillwatt.workflows.export import NAMES


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["export", *arguments])


def test_the_command_knows_every_format() -> None:
    assert set(_FORMATS) == set(NAMES)


def test_of_a_run(tmp_path: Path) -> None:
    quick_run(tmp_path)
    out = tmp_path / "bom.json"
    result = ask("latest", "--runs", str(tmp_path), "--region", "FRA", "--format", "cyclonedx", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "checked by cyclonedx-python-lib" in result.stdout
    losses = json.loads(out.with_name("bom.json.losses.json").read_text(encoding="utf-8"))["losses"]
    told = [line for line in result.stderr.splitlines() if line.startswith("lost: ")]
    assert len(told) == 3
    assert f"… and {len(losses) - 3} more, all in {out}.losses.json" in result.stderr
    assert f"{len(losses)} losses in" in result.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["specVersion"] == "1.6"
    assert out.with_name("bom.json.losses.json").is_file()
    again = ask("latest", "--runs", str(tmp_path), "--region", "FRA", "--format", "cyclonedx", "-o", str(out))
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_of_a_report_as_json(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    quick_run(tmp_path)
    made = CliRunner().invoke(
        cli, ["account", "latest", "--runs", str(tmp_path), "--region", "FRA", "--draws", "200", "-o", str(report)]
    )
    assert made.exit_code == 0, made.output
    out = tmp_path / "sci.json"
    for left_aside in (("--region", "POL"), ("--student", "kd"), ("--factor", "pue@FRA=1.2"), ("--grid", "ukcarbon")):
        refused = ask(str(report), "--format", "sci", "-o", str(out), *left_aside)
        assert refused.exit_code == 2
        assert f"is a saved report and is shown as it is: leave out {left_aside[0]}" in refused.stderr
        assert not out.exists()
    result = ask(str(report), "--format", "sci", "-o", str(out), "--detail", "parameters=135e6", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["path"] == str(out)
    assert data["validated_by"] is None
    assert len(data["losses"]) > 5


def test_an_energy_that_is_not_known_exits_with_3(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report_json(poor()), encoding="utf-8")
    result = ask(str(path), "--format", "eu-gpai", "-o", str(tmp_path / "form.json"))
    assert result.exit_code == 3, result.output
    assert '"N/A"' in (tmp_path / "form.json").read_text(encoding="utf-8")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    broken = rich()
    del broken["cells"]
    path = tmp_path / "report.json"
    path.write_text(report_json(broken), encoding="utf-8")
    result = ask(str(path), "--format", "sci", "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "cells" in result.stderr
    assert not (tmp_path / "out").exists()
    path.write_text("{", encoding="utf-8")
    assert ask(str(path), "--format", "sci", "-o", str(tmp_path / "out")).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (("nowhere.json", "--format", "sci", "-o", "x"), 2, "report not found"),
        (("latest", "--format", "sci", "-o", "x", "--detail", "nonsense"), 2, "KEY=VALUE"),
        (("latest", "--format", "word", "-o", "x"), 2, "Invalid value"),
    ],
)
def test_misuse(arguments: tuple[str, ...], status: int, what: str) -> None:
    result = ask(*arguments)
    assert result.exit_code == status
    assert what in result.stderr


@pytest.mark.parametrize("form", ["sci", "huggingface", "cyclonedx"])
def test_the_report_that_is_exported_is_never_written_over(form: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(report_json(rich()), encoding="utf-8")
    before = report.read_bytes()
    refused = ask(str(report), "--format", form, "-o", str(report), "--force")
    assert refused.exit_code == 2
    assert "is what the command reads" in refused.stderr
    assert report.read_bytes() == before
    assert not report.with_name("report.json.losses.json").exists()
