"""Measure any command as one stage of a run; its exit status stays its own."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import parse_kind
from stillwatt.workflows.live import Run

if TYPE_CHECKING:
    from stillwatt.records.run import RunRecord

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNALLED = 128
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOutcome:
    """What came of a measured command."""

    run_id: str
    exit_code: int
    """The command's own; 128 + n where signal n ended it; 126 or 127 as a shell would say."""
    record: RunRecord | None
    problem: str | None
    """Why there is no record, or what the command could not do."""


def measure_command(
    argv: Sequence[str],
    *,
    name: str | None = None,
    stage: str | None = None,
    kind: str = "other",
    runs_dir: str | Path = "runs",
    sensors: Sequence[str] = ("auto",),
    period_ms: int = 100,
    idle_s: float = 0.0,
    slow_after_s: float | None = None,
) -> MeasureOutcome:
    """Run `argv` as one stage and account for it.

    The idle machine is measured for `idle_s` before the command, and after it where it ends with 0. With
    `slow_after_s`, readings come once a second after that long without a stage's edge.

    Raises:
        UnknownNameError: A sensor or stage kind that does not exist; the command has not run.
        OSError: The run directory cannot be made; the command has not run.
    """
    parse_kind(kind)
    program = Path(argv[0]).name
    run = Run(
        name or program,
        runs_dir=runs_dir,
        sensors=sensors,
        period_ms=period_ms,
        settings={"command": list(argv), "sample_period_ms": period_ms, "sensors": list(sensors), "idle_s": idle_s},
        idle_s=idle_s,
        slow_after_s=slow_after_s,
    )
    exit_code, problem = 1, None
    try:
        with run, run.stage(stage or program, kind=kind) as measured:
            exit_code, problem = _execute(argv)
            measured.record({"command": shlex.join(argv), "exit_code": exit_code})
            if exit_code != 0:
                raise CommandError(problem or f"exit status {exit_code}")
    except CommandError:
        pass
    return _account(run, exit_code, problem)


class CommandError(Exception):
    """The command did not end well; marks its stage failed, whose energy stays on the books."""


def _account(run: Run, exit_code: int, problem: str | None) -> MeasureOutcome:
    """Post the run; a failure to post never changes what the command returned."""
    try:
        record = run.result
    except (StillwattError, OSError) as err:
        return MeasureOutcome(run_id=run.run_id, exit_code=exit_code, record=None, problem=problem or str(err))
    return MeasureOutcome(run_id=run.run_id, exit_code=exit_code, record=record, problem=problem)


def _execute(argv: Sequence[str]) -> tuple[int, str | None]:
    """Run the command with our own terminal; Ctrl-C reaches it through its group, other signals are passed on."""
    try:
        child = subprocess.Popen(list(argv))
    except FileNotFoundError:
        return _NOT_FOUND, f"{argv[0]}: command not found"
    except PermissionError:
        return _NOT_EXECUTABLE, f"{argv[0]}: permission denied"
    except OSError as err:
        return _NOT_EXECUTABLE, f"{argv[0]}: {err.strerror or err}"

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    def leave_it_to_the_command(_number: int, _frame: FrameType | None) -> None:
        """The terminal sent Ctrl-C to the whole group; the command decides, and we stay to write its account."""

    handlers = {number: signal.signal(number, forward) for number in _FORWARDED}
    handlers[signal.SIGINT] = signal.signal(signal.SIGINT, leave_it_to_the_command)
    try:
        code = child.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code < 0:
        return _SIGNALLED - code, f"ended by signal {signal.Signals(-code).name}"
    return code, None
