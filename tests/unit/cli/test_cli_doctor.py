"""The doctor says what is there, what is not, and what to type."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import Result

from stillwatt.workflows.doctor import DoctorFinding, Health

Stillwatt = Callable[..., Result]
FINDINGS = [
    DoctorFinding(subject="sensor nvml", status=Health.OK, detail="1 board", cure=""),
    DoctorFinding(subject="sensor rapl", status=Health.MISSING, detail="root only", cure="sudo chmod"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `examine` was asked for."""
    questions: list[Any] = []

    def examine(sensors: Sequence[str] = (), *, options: dict[str, Any]) -> list[DoctorFinding]:
        questions.append((*sensors, *([options] if options else [])))
        return FINDINGS

    monkeypatch.setattr("stillwatt.workflows.doctor.examine", examine)
    return questions


def test_findings_are_lines_with_the_cure_beneath(stillwatt: Stillwatt, asked: list[Any]) -> None:
    result = stillwatt("doctor")
    assert result.exit_code == 0
    assert (
        result.stdout == "ok       sensor nvml  1 board\nmissing  sensor rapl  root only\n         to fix: sudo chmod\n"
    )
    assert asked == [()]


def test_findings_as_json(stillwatt: Stillwatt, asked: list[Any]) -> None:
    answer = json.loads(stillwatt("doctor", "--json", "--sensors", "nvml,rapl").stdout)
    assert answer[1] == {"subject": "sensor rapl", "status": "missing", "detail": "root only", "cure": "sudo chmod"}
    assert asked == [("nvml", "rapl")]


def test_options_of_sensors_are_handed_on(stillwatt: Stillwatt, asked: list[Any]) -> None:
    given = ("--sensor-option", "redfish.url=http://bmc", "--sensor-option", "redfish.verify=false")
    assert stillwatt("doctor", "--sensors", "redfish", *given).exit_code == 0
    assert asked == [("redfish", {"redfish": {"url": "http://bmc", "verify": False}})]


def test_this_machine_can_be_examined(stillwatt: Stillwatt) -> None:
    result = stillwatt("doctor")
    assert result.exit_code == 0
    assert "disk" in result.stdout


def test_an_unknown_sensor_gets_the_right_name(stillwatt: Stillwatt) -> None:
    result = stillwatt("doctor", "--sensors", "nmvl")
    assert result.exit_code == 2
    assert "did you mean 'nvml'?" in result.stderr
