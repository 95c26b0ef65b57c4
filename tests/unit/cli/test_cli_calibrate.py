"""`stillwatt doctor --calibrate` says what it found and where it wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from calibration_files import CALIBRATION
from stillwatt.workflows.calibrate import CalibrationOutcome, MeterFacts

Stillwatt = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `calibrate` was asked for."""
    questions: list[Any] = []

    def calibrate(path: Path, meter: MeterFacts, **given: Any) -> CalibrationOutcome:
        questions.append((path, meter, given))
        return CalibrationOutcome(part="gpu0", path=given["out"], calibrations=(CALIBRATION,), notes=("a note",))

    monkeypatch.setattr("stillwatt.workflows.calibrate.calibrate", calibrate)
    return questions


def test_a_gain_is_shown_with_its_interval_and_what_it_rests_on(stillwatt: Stillwatt, asked: list[Any]) -> None:
    shown = stillwatt("doctor", "--calibrate", "log.csv", "--meter", "PMD2", "--run", "r1", "--max-offset", "300")
    assert shown.exit_code == 0, shown.output
    assert "gpu0 energy_counter: gain 1.0800 (1.0600 to 1.1000) by PMD2" in shown.stdout
    assert "300 readings over 300 s from 60 to 350 W" in shown.stdout
    assert "calibration.toml; it counts for this card" in shown.stdout
    assert shown.stdout.endswith("note: a note\n")
    ((path, meter, given),) = asked
    assert (path, meter) == (Path("log.csv"), MeterFacts(boundary="board", name="PMD2"))
    assert (given["part"], given["run"], given["max_offset_s"]) == ("gpu0", "r1", 300.0)


def test_a_gain_as_json(stillwatt: Stillwatt, asked: list[Any]) -> None:
    shown = stillwatt(
        "doctor", "--calibrate", "x", "--json", "--boundary", "wall", "--efficiency", "0.9", "0.92", "--part", "gpu1"
    )
    assert json.loads(shown.stdout)["calibrations"][0]["gain"] == 1.08
    assert asked[0][1] == MeterFacts(boundary="wall", efficiency=(0.9, 0.92))


def test_a_log_that_is_not_there_is_named(stillwatt: Stillwatt, tmp_path: Path) -> None:
    shown = stillwatt("doctor", "--calibrate", str(tmp_path / "none.csv"), "--runs", str(tmp_path))
    assert shown.exit_code == 2
    assert "none.csv" in shown.stderr


def test_what_is_said_of_a_meter_without_a_log_is_misuse(stillwatt: Stillwatt, asked: list[Any]) -> None:
    shown = stillwatt("doctor", "--part", "gpu1", "--runs", "elsewhere")
    assert shown.exit_code == 2
    assert "--part, --runs: only with --calibrate CSV" in shown.stderr
    assert stillwatt("doctor", "--calibrate", "log.csv", "--max-offset", "-3").exit_code == 2
    assert asked == []
