"""Measure any command as one stage of a run; its exit status stays its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from stillwatt.clock import SystemClock
from stillwatt.errors import StillwattError, UsageError
from stillwatt.ledger.group import without_word
from stillwatt.metering.meter import parse_kind
from stillwatt.metering.resting import IDLE_AFTER, IDLE_BEFORE
from stillwatt.workflows.command_names import name_of_command
from stillwatt.workflows.live import Run

if TYPE_CHECKING:
    from stillwatt.records.run import RunRecord

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNALLED = 128
_LOOK_S = 1.0
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOutcome:
    """What came of a measured command."""

    run_id: str
    exit_code: int
    """The command's own; 128 + n where signal n ended it; 126 or 127 as a shell would say."""
    record: RunRecord | None
    problem: str | None
    """Why there is no record, what the command could not do, or what was cut short after it."""


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
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> MeasureOutcome:
    """Run `argv` as one stage and account for it.

    The idle machine is measured for `idle_s` before the command, and after it where it ends with 0; Ctrl-C cuts the
    latter short, and nothing else once the command has begun. With `slow_after_s`, readings come once a second after
    that long without a stage's edge. Run and stage are called as `name_of_command` says, where nothing is given.
    `options` are those of single drivers, by driver name.

    Raises:
        UnknownNameError: A sensor, an option of one or a stage kind that does not exist; the command has not run.
        UsageError: The command is an empty word, or a sensor's options cannot be meant; it has not run.
        RunsDirError: The run directory cannot be made; the command has not run.
    """
    parse_kind(kind)
    if not argv[0]:
        raise UsageError("the command is an empty word; write it after --, such as: measure -- python train.py")
    if options or any(one != "auto" for one in sensors):
        from stillwatt.sensors.registry import check_sensors

        check_sensors(sensors, options or {}, SystemClock())
    called = name_of_command(argv)
    asked = {"command": list(argv), "sample_period_ms": period_ms, "sensors": list(sensors), "idle_s": idle_s}
    run = Run(
        name or called,
        runs_dir=runs_dir,
        sensors=sensors,
        period_ms=period_ms,
        settings=asked | ({"sensor_options": options} if options else {}),
        options=options,
        slow_after_s=slow_after_s,
    )
    exit_code, problem = 1, None
    with ExitStack() as after:
        try:
            with run:
                run.idle(idle_s, name=IDLE_BEFORE)
                after.enter_context(undisturbed())
                with run.stage(stage or called, kind=kind) as measured:
                    with _looked_after(run):
                        exit_code, problem = _execute(argv)
                    measured.record({"command": shlex.join(argv), "exit_code": exit_code})
                    if exit_code != 0:
                        raise CommandError(problem or f"exit status {exit_code}")
                problem = _rest_after(run, idle_s)
        except CommandError:
            pass
        return _account(run, exit_code, problem)


def _rest_after(run: Run, idle_s: float) -> str | None:
    """Measure the idle machine; says so where Ctrl-C cut that short."""
    try:
        with _handled((signal.SIGINT,), signal.default_int_handler):
            run.idle(idle_s, name=IDLE_AFTER)
    except KeyboardInterrupt:
        return "interrupted: the idle machine after the command was measured for a shorter time than asked for"
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C does nothing in the block.

    The terminal sends it to the whole group: the command decides, and we stay to write and to show its account.
    """
    with _handled((signal.SIGINT,), lambda _number, _frame: None):
        yield


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Signals go to a handler in the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class CommandError(Exception):
    """The command did not end well; marks its stage failed, whose energy stays on the books."""


def _account(run: Run, exit_code: int, problem: str | None) -> MeasureOutcome:
    """Post the run; a failure to post never changes what the command returned."""
    try:
        record = run.result
    except (StillwattError, OSError) as err:
        return MeasureOutcome(run_id=run.run_id, exit_code=exit_code, record=None, problem=problem or str(err))
    return MeasureOutcome(run_id=run.run_id, exit_code=exit_code, record=record, problem=problem)


@contextmanager
def _looked_after(run: Run) -> Iterator[None]:
    """While the command runs, this program writes nothing and would not notice a sampling process that is gone."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            run.look()

    looks = threading.Thread(target=look, name="look", daemon=True)
    looks.start()
    try:
        yield
    finally:
        over.set()
        looks.join()


def _execute(argv: Sequence[str]) -> tuple[int, str | None]:
    """Run the command with our own terminal; Ctrl-C reaches it through its group, other signals are passed on."""
    try:
        child = subprocess.Popen(list(argv), env=without_word(os.environ))
    except FileNotFoundError:
        return _NOT_FOUND, f"{argv[0]}: command not found"
    except PermissionError:
        return _NOT_EXECUTABLE, f"{argv[0]}: permission denied"
    except OSError as err:
        return _NOT_EXECUTABLE, f"{argv[0]}: {err.strerror or err}"

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    with _handled(_FORWARDED, forward):
        code = child.wait()
    if code < 0:
        return _SIGNALLED - code, f"ended by signal {signal.Signals(-code).name}"
    return code, None
