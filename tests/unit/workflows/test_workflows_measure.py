"""`measure_command`: real commands, real signals, their own exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.records import StageStatus
from stillwatt.workflows.measure import measure_command

SYNTHETIC = ("synthetic",)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/nonexistent/program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_status_is_the_commands_own(runs_dir: Path, argv: list[str], code: int) -> None:
    outcome = measure_command(argv, runs_dir=runs_dir, sensors=SYNTHETIC)
    assert outcome.exit_code == code
    assert outcome.record is not None
    (stage,) = outcome.record.stages
    assert stage.status is (StageStatus.ENDED if code == 0 else StageStatus.FAILED)
    assert stage.results["exit_code"] == code
    assert (outcome.problem is None) == (code in (0, 7))


def test_names_and_kinds_are_taken(runs_dir: Path) -> None:
    outcome = measure_command(
        ["sleep", "0.3"], name="teacher run", stage="generate", kind="teacher_generate", runs_dir=runs_dir,
        sensors=SYNTHETIC,
    )  # fmt: skip
    assert outcome.record is not None
    assert outcome.record.name == "teacher run"
    assert outcome.record.stages[0].name == "generate"
    assert outcome.record.stages[0].duration_s == pytest.approx(0.3, abs=0.25)
    assert outcome.record.complete


def test_unknown_kind_runs_nothing(runs_dir: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(UnknownNameError, match="did you mean 'evaluate'"):
        measure_command(["touch", str(mark)], kind="evaluat", runs_dir=runs_dir, sensors=SYNTHETIC)
    assert not mark.exists()


def test_a_folder_that_no_run_can_be_kept_in_runs_nothing_and_says_so(tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "notes.txt"
    file.write_text("mine")
    measured = subprocess.run(
        [sys.executable, "-m", "stillwatt", "measure", "--runs", str(file / "runs"), "--", "touch", str(mark)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert measured.returncode == 2
    assert measured.stdout == ""
    assert measured.stderr.startswith("error: no run can be kept in ")
    assert "`--runs`" in measured.stderr
    assert "nothing was run" in measured.stderr
    assert not mark.exists()


def test_a_ledger_that_cannot_be_posted_keeps_the_exit_status(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs_dir.mkdir()
    (runs_dir / "ledger.sqlite").write_bytes(b"this is no database, and long enough to look like a file" * 4)
    outcome = measure_command(["sh", "-c", "exit 3"], runs_dir=runs_dir, sensors=SYNTHETIC)
    assert outcome.exit_code == 3


def test_interrupt_reaches_the_command_and_the_account_is_written(runs_dir: Path) -> None:
    """As a terminal does it: the signal goes to the whole foreground group."""
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        "print('up', flush=True)\ntime.sleep(30)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "stillwatt", "measure", "--runs", str(runs_dir), "--sensors", "synthetic",
         "--name", "interrupted", "--", sys.executable, "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 5, stderr
    shown = subprocess.run(
        [sys.executable, "-m", "stillwatt", "ledger", "show", "interrupted", "--runs", str(runs_dir), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"status": "failed"' in shown.stdout, shown.stderr


def _measuring(runs_dir: Path, *words: str) -> subprocess.Popen[str]:
    """A measured command in a group of its own, as a terminal has it; it has said `up`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stillwatt", "measure", "--runs", str(runs_dir), "--sensors", "synthetic", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_an_interrupt_in_the_rest_after_a_command_leaves_its_status_and_its_account(runs_dir: Path) -> None:
    process = _measuring(runs_dir, "--idle", "3", "--", "echo", "up")
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "interrupted: the idle machine after the command was measured for a shorter time" in stderr
    assert "idle_baseline" in stderr
    assert "total  " in stderr
    (note,) = [line for line in stderr.splitlines() if "idle stage" in line]
    assert re.fullmatch(
        r"note: idle stage 'idle_after' \(\S+\) was interrupted after \S+ s, before the time asked for was over", note
    )
    assert "KeyboardInterrupt" not in stderr


def test_impatience_does_not_cost_the_account(runs_dir: Path) -> None:
    process = _measuring(runs_dir, "--", "sh", "-c", "echo up; sleep 30")
    for _ in range(8):
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "total  " in stderr


def test_a_run_is_called_after_its_script(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("", encoding="utf-8")
    outcome = measure_command([sys.executable, str(tmp_path / "train.py")], runs_dir=runs_dir, sensors=SYNTHETIC)
    assert outcome.record is not None
    assert (outcome.record.name, outcome.record.stages[0].name) == ("train", "train")


def test_an_empty_word_is_no_command(runs_dir: Path) -> None:
    with pytest.raises(UsageError, match="the command is an empty word; write it after --"):
        measure_command([""], runs_dir=runs_dir, sensors=SYNTHETIC)
    assert not runs_dir.exists()


@pytest.mark.parametrize(("code", "names"), [(0, ["idle_baseline", "sh", "idle_after"]), (3, ["idle_baseline", "sh"])])
def test_the_idle_machine_is_measured_around_a_command(runs_dir: Path, code: int, names: list[str]) -> None:
    outcome = measure_command(["sh", "-c", f"exit {code}"], runs_dir=runs_dir, sensors=SYNTHETIC, idle_s=0.2)
    assert outcome.exit_code == code
    assert outcome.record is not None
    assert [stage.name for stage in outcome.record.stages] == names
