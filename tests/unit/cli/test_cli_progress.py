"""Bars on a terminal, lines elsewhere, the same work either way."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stillwatt.cli.progress import BarReporter, LineReporter, bars, reporter


class Watch:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns


def test_lines_say_start_end_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    with reporter(watch, console=Console(file=io.StringIO(), force_terminal=False)) as progress:
        assert isinstance(progress, LineReporter)
        progress.announce("run r1 [kd]")
        with progress.task("train.kd", total=16, unit="steps") as task:
            task.advance()
            task.advance(15)
            watch.now_ns = 2_500_000_000
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "run r1 [kd]\ntrain.kd: 16 steps\ntrain.kd: done, 16 steps in 2.5 s\n"


def test_a_task_that_fails_is_stopped_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineReporter(Watch())
    with pytest.raises(RuntimeError, match="no"), progress.task("t", total=2, unit="steps") as task:
        task.advance()
        raise RuntimeError("no")
    assert capsys.readouterr().err.endswith("t: stopped, 1 steps in 0.0 s\n")


def test_a_terminal_gets_bars_that_leave_nothing_behind() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with reporter(Watch(), console=screen) as progress:
        assert isinstance(progress, BarReporter)
        progress.announce("run [r1]")
        with progress.task("train [kd]", total=4, unit="steps") as task:
            task.advance(3)
            progress.announce("half way")
    shown = screen.file.getvalue() if isinstance(screen.file, io.StringIO) else ""
    assert "run [r1]\n" in shown
    assert "half way\n" in shown


def test_a_bar_is_there_while_its_task_runs_and_knows_how_far_it_is() -> None:
    drawn = bars(Console(file=io.StringIO(), force_terminal=True, width=100))
    progress = BarReporter(drawn)
    with progress.task("outer", total=2, unit="arms"), progress.task("inner", total=4, unit="steps") as task:
        task.advance(3)
        assert [(bar.description, bar.completed) for bar in drawn.tasks] == [("outer", 0), ("inner", 3)]
    assert drawn.tasks == []
