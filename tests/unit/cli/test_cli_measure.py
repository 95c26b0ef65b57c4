"""`measure` is transparent: the command's words, output and exit status stay its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import Result

from stillwatt.records import RunRecord
from stillwatt.workflows.measure import MeasureOutcome

Stillwatt = Callable[..., Result]


class Workflow:
    """Stands in for `measure_command`: keeps what it was asked and answers as told."""

    def __init__(self, exit_code: int = 0, record: RunRecord | None = None, problem: str | None = None) -> None:
        self.outcome = MeasureOutcome(run_id="r1", exit_code=exit_code, record=record, problem=problem)
        self.argv: tuple[str, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, argv: Sequence[str], **options: Any) -> MeasureOutcome:
        self.argv, self.options = tuple(argv), options
        return self.outcome


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Workflow], Workflow]:
    def put(workflow: Workflow) -> Workflow:
        monkeypatch.setattr("stillwatt.workflows.measure.measure_command", workflow)
        return workflow

    return put


def test_options_and_command_reach_the_workflow(stillwatt: Stillwatt, install: Callable[[Workflow], Workflow]) -> None:
    workflow = install(Workflow())
    result = stillwatt(
        *("measure", "--name", "n", "--stage", "s", "--kind", "evaluate", "--runs", "d"),
        *(
            "--sensors",
            "nvml, rapl",
            "--period-ms",
            "20",
            "--idle",
            "2.5",
            "--slow-after",
            "600",
            "--sensor-option",
            "nvml.devices=[0, 1]",
            "--sensor-option",
            "nvml.gain_rel=0.02",
            "--",
            "prog",
            "--json",
            "-h",
            "--",
            "x y",
        ),
    )
    assert result.exit_code == 0
    assert workflow.argv == ("prog", "--json", "-h", "--", "x y")
    assert workflow.options == {
        "name": "n",
        "stage": "s",
        "kind": "evaluate",
        "runs_dir": "d",
        "sensors": ("nvml", "rapl"),
        "period_ms": 20,
        "idle_s": 2.5,
        "slow_after_s": 600.0,
        "options": {"nvml": {"devices": [0, 1], "gain_rel": 0.02}},
    }


def test_what_follows_the_command_is_the_commands_even_without_dashes(
    stillwatt: Stillwatt, install: Callable[[Workflow], Workflow]
) -> None:
    workflow = install(Workflow())
    stillwatt("measure", "prog", "--name", "x", "--help")
    assert workflow.argv == ("prog", "--name", "x", "--help")
    assert workflow.options["name"] is None
    assert workflow.options["sensors"] == ("auto",)
    assert workflow.options["runs_dir"] == "runs"


@pytest.mark.parametrize("code", [0, 1, 3, 42, 126, 127, 130, 143, 255])
def test_the_exit_status_is_the_commands(
    code: int, stillwatt: Stillwatt, install: Callable[[Workflow], Workflow], make_record: Callable[..., RunRecord]
) -> None:
    install(Workflow(code, make_record(complete=False)))
    assert stillwatt("measure", "prog").exit_code == code


def test_the_account_goes_to_stderr_and_stdout_stays_the_commands(
    stillwatt: Stillwatt, install: Callable[[Workflow], Workflow], make_record: Callable[..., RunRecord]
) -> None:
    install(Workflow(0, make_record()))
    result = stillwatt("measure", "prog")
    assert result.stdout == ""
    assert "1,500 J [1,400, 1,600]" in result.stderr
    assert "80 % measured, 20 % modelled" in result.stderr


def test_json_is_the_last_line_of_stderr(
    stillwatt: Stillwatt, install: Callable[[Workflow], Workflow], make_record: Callable[..., RunRecord]
) -> None:
    record = make_record()
    install(Workflow(5, record, "exit status 5"))
    result = stillwatt("measure", "--json", "prog")
    assert result.stdout == ""
    answer = json.loads(result.stderr.splitlines()[-1])
    assert answer == {"run_id": "r1", "exit_code": 5, "problem": "exit status 5", "record": record.to_dict()}


def test_a_problem_is_said_even_without_a_record(stillwatt: Stillwatt, install: Callable[[Workflow], Workflow]) -> None:
    install(Workflow(127, None, "prog: command not found"))
    result = stillwatt("measure", "prog")
    assert result.exit_code == 127
    assert result.stderr == "stillwatt: prog: command not found\nstillwatt: run r1: no account\n"


@pytest.mark.parametrize(
    "arguments", [(), ("--kind", "cooking", "prog"), ("--period-ms", "0", "prog"), ("--sensors", ",", "prog")]
)
def test_misuse_runs_nothing(
    arguments: tuple[str, ...], stillwatt: Stillwatt, install: Callable[[Workflow], Workflow]
) -> None:
    workflow = install(Workflow())
    assert stillwatt("measure", *arguments).exit_code == 2
    assert workflow.argv == ()
