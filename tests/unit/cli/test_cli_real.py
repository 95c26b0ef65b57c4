"""The real thing, in processes of its own: measure a command, then ask the ledger about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SYNTHETIC = ("--sensors", "synthetic", "--period-ms", "20")


def _stillwatt(*arguments: str, runs_dir: Path) -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    words = [verb, rest.pop(0)] if verb == "ledger" else [verb]
    command = [sys.executable, "-m", "stillwatt", *words, "--runs", str(runs_dir), *rest]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def measured(runs_dir: Path) -> Path:
    """A ledger with one measured command in it."""
    script = "import sys; print('to stdout'); print('to stderr', file=sys.stderr)"
    done = _stillwatt("measure", "--name", "demo", *SYNTHETIC, "--", sys.executable, "-c", script, runs_dir=runs_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "to stdout\n"
    assert "to stderr\n" in done.stderr
    return runs_dir


def test_a_measured_command_is_in_the_books(measured: Path) -> None:
    (entry,) = json.loads(_stillwatt("ledger", "list", "--json", runs_dir=measured).stdout)
    assert entry["name"] == "demo"
    shown = _stillwatt("ledger", "show", "demo", "--json", runs_dir=measured)
    record = json.loads(shown.stdout)
    assert record["run_id"] == entry["run_id"]
    assert shown.stdout == json.dumps(record, indent=2) + "\n"
    assert _stillwatt("ledger", "verify", "demo", runs_dir=measured).returncode == 0
    assert _stillwatt("ledger", "rebuild", runs_dir=measured).stdout.startswith("1 run in the ledger")
    assert json.loads(_stillwatt("ledger", "show", "latest", "--json", runs_dir=measured).stdout) == record


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("no-such-command-anywhere",), 127),
        (("/",), 126),
    ],
)
def test_the_exit_status_is_what_a_shell_would_say(command: tuple[str, ...], status: int, runs_dir: Path) -> None:
    done = _stillwatt("measure", *SYNTHETIC, "--", *command, runs_dir=runs_dir)
    assert done.returncode == status
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_run_below_a_name_that_is_not_utf_8_keeps_its_energy(tmp_path: Path) -> None:
    runs = tmp_path / os.fsdecode(b"caf\xe9") / "runs"
    done = _stillwatt("measure", *SYNTHETIC, "--", sys.executable, "-c", "import time; time.sleep(0.5)", runs_dir=runs)
    assert done.returncode == 0, done.stderr
    record = json.loads(_stillwatt("ledger", "show", "latest", "--json", runs_dir=runs).stdout)
    assert all(channel["energy"]["value_j"] > 0.0 for stage in record["stages"] for channel in stage["channels"])
    assert _stillwatt("ledger", "verify", "latest", runs_dir=runs).returncode == 0
    assert _stillwatt("report", "latest", runs_dir=runs).returncode == 0


def test_asking_for_a_run_that_is_not_there_is_one_sentence(measured: Path) -> None:
    done = _stillwatt("ledger", "show", "dmeo", runs_dir=measured)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no run 'dmeo' in ")
    assert done.stderr.count("\n") == 1


def test_a_runs_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    done = _stillwatt("measure", *SYNTHETIC, "--", "true", runs_dir=blocked / "runs")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Not a directory; nothing was run" in done.stderr
