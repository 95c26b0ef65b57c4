"""A remark that nobody can read is dropped: no work ends, and no status changes, because stderr is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from stillwatt.cli import screen
from stillwatt.cli.progress import LineReporter
from stillwatt.clock import SystemClock

Lost = Callable[[], AbstractContextManager[int]]


@contextmanager
def _full_disk() -> Iterator[int]:
    number = os.open("/dev/full", os.O_WRONLY)
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def _closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


LOST = pytest.mark.parametrize("lost", [_full_disk, _closed_pipe])


def _stillwatt(*words: str, stderr: int | None, cwd: Path, more: dict[str, str] | None = None) -> int:
    command = [sys.executable, "-m", "stillwatt", *words]
    return subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=stderr, cwd=cwd, env={**os.environ, **(more or {})}, check=False
    ).returncode


@LOST
@pytest.mark.parametrize(("more", "unbuffered"), [((), ""), (("--json",), "1"), (("--idle", "0.2"), "")])
def test_a_command_runs_and_keeps_its_status_where_nothing_can_be_said(
    lost: Lost, more: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    words = ("measure", "--sensors", "synthetic", *more, "--", "sh", "-c", "touch ran; exit 7")
    with lost() as stderr:
        assert _stillwatt(*words, stderr=stderr, cwd=tmp_path, more={"PYTHONUNBUFFERED": unbuffered}) == 7
    assert (tmp_path / "ran").exists()
    assert len(list((tmp_path / "runs").glob("*-sh-*"))) == 1


@LOST
def test_the_status_of_an_error_is_its_own_where_it_cannot_be_told(lost: Lost, tmp_path: Path) -> None:
    with lost() as stderr:
        assert _stillwatt("recipe", "check", "nothing.toml", stderr=stderr, cwd=tmp_path) == 2


@LOST
def test_an_answer_that_cannot_be_written_still_fails(lost: Lost, tmp_path: Path) -> None:
    with lost() as stdout:
        command = [sys.executable, "-m", "stillwatt", "recipe", "list"]
        assert subprocess.run(command, stdout=stdout, stderr=subprocess.DEVNULL, check=False).returncode != 0


@LOST
def test_remarks_progress_and_warnings_of_others_are_dropped(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    with lost() as number:
        stream = io.TextIOWrapper(io.FileIO(number, "w", closefd=False), line_buffering=True)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        screen.prepare_streams()
        screen.note("a remark")
        with LineReporter(SystemClock()).task("prepare_data", total=1, unit="documents") as task:
            task.advance()
        sys.stderr.write("a bar of somebody else's\r")
        sys.stderr.flush()


def test_what_can_be_written_arrives_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "said.txt").open("w", encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        screen.prepare_streams()
        screen.note("caf\u00e9")
        screen.note("x" * 100_000)
        screen.note("\u2603")
        sys.stderr.flush()
    assert (tmp_path / "said.txt").read_text(encoding="latin-1").splitlines() == ["caf\u00e9", "x" * 100_000, "?"]
