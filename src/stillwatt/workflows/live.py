"""A run in progress: the public `Run`. Wires the in-process meter to the journal and the sampling process.

Runs inside the measured program: imports only the standard library and light rooms, and lets no error of the
meter's own out. What cannot be set up is warned of once and shows as a gap in the record.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from stillwatt import __version__
from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import LedgerError, RunsDirError
from stillwatt.ledger.environment import boot_id, capture_environment, host_name
from stillwatt.ledger.group import STARTED_AGAIN, LaunchGroup, launch_group
from stillwatt.ledger.joining import began_s, join_run
from stillwatt.ledger.journal import ForkJournal, JournalWriter
from stillwatt.ledger.launched import leave_word, run_begun_before, take_back
from stillwatt.ledger.rundir import create_run_dir, fork_journal, fork_name, session_name, session_prefix
from stillwatt.metering.measured import Measured, measured, note_closed, note_open
from stillwatt.metering.meter import Meter, Stage
from stillwatt.metering.resting import IDLE_AFTER, IDLE_BEFORE, rest
from stillwatt.records.kinds import StageKind, StageStatus
from stillwatt.units import NS_PER_MS, nanoseconds
from stillwatt.workflows.asked import check_lengths, sensor_names
from stillwatt.workflows.home import calibration_path
from stillwatt.workflows.sampling_process import KeepingJournal, SamplingProcess

if TYPE_CHECKING:
    from stillwatt.records.run import RunRecord

_F = TypeVar("_F", bound=Callable[..., Any])


class Run(AbstractContextManager["Run"]):
    """Measure a program from the inside.

    Example:
        with stillwatt.Run("my distillation", runs_dir="runs") as run:
            with run.stage("teacher_generate", kind="teacher_generate") as stage:
                stage.add_tokens(generate())
        print(run.result.to_dict())

    Args:
        name: What to call the run; `ledger show NAME` finds it again.
        runs_dir: Where run directories and the ledger live; made if absent.
        sensors: Driver names, or `("auto",)` for whatever can be read here.
        period_ms: Time between samples.
        settings: What the run was asked to do; kept in the manifest with its hash.
        options: Options for single drivers, by driver name.
        run_id: An existing run to go on with (a new session of it), or None for a new run.
        earlier_attempts: How often each stage was tried in earlier sessions of that run.
        session_number: 0 for a run's first session; keeps stage ids of later sessions apart.
        with_launch: `run_id` only: whether every process of this launch goes on with that run, each as a session.
        sync: Called at both ends of each stage; pass `torch.cuda.synchronize` where a GPU does the work.
        clock: The clocks; tests pass a fake.
        idle_s: How long to measure the idle machine at the block's beginning, and again at its end where that is
            reached without an exception, so that net energies can be given; the program waits for both.
        slow_after_s: Read once a second, and not every `period_ms`, where no stage began or ended for so long, until
            one does: for runs of days. None for never.

    Raises:
        UnknownNameError: A sensor name that does not exist.
        UsageError: A sensor that is named lacks an option that it needs; `period_ms` or `slow_after_s` is no length.
        RunsDirError: The run directory cannot be made or written (on entering); it is an OSError, too. Nothing has
            been measured then. What goes wrong later is warned of, and the program goes on.
    """

    def __init__(
        self,
        name: str,
        *,
        runs_dir: str | os.PathLike[str] = "runs",
        sensors: Sequence[str] = ("auto",),
        period_ms: int = 100,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        run_id: str | None = None,
        earlier_attempts: Mapping[str, int] | None = None,
        session_number: int = 0,
        with_launch: bool = False,
        sync: Callable[[], object] | None = None,
        clock: Clock | None = None,
        idle_s: float = 0.0,
        slow_after_s: float | None = None,
    ) -> None:
        check_lengths(period_ms, slow_after_s)
        sensors = sensor_names(sensors)
        if any(name != "auto" for name in sensors):
            from stillwatt.sensors.needs import check_needs
            from stillwatt.sensors.registry import check_names

            check_names(sensors)
            check_needs(sensors, options)
        self.name = name = str(name)
        self.runs_dir = Path(runs_dir)
        self._clock = clock or SystemClock()
        self._sampler_config = {
            "period_ns": round(period_ms * NS_PER_MS),
            "sensors": list(sensors),
            "options": {driver: dict(values) for driver, values in (options or {}).items()},
            "slow_after_ns": None if slow_after_s is None else max(1, nanoseconds(slow_after_s)),
        }
        self._settings = dict(settings or {})
        self._earlier_attempts = dict(earlier_attempts or {})
        # a run that is gone on with has one program, unless told; a launch may well stand around it
        self._group = launch_group(os.environ) if run_id is None or with_launch else None
        if self._group is None and run_id is None:
            self._group = run_begun_before(os.environ, self.runs_dir, name)
        number = session_number if self._group is None or run_id is not None else self._group.restart
        self._letters = session_prefix(number)
        if self._group is not None:
            self._group.leave_word(os.environ)
        self._sync = sync
        self._idle_s = idle_s
        self._meter: Meter | None = None
        self._journal: JournalWriter | None = None
        self._sampler: SamplingProcess | None = None
        self._result: RunRecord | None = None
        self._pid, self._session = 0, ""
        self._is_new = run_id is None
        self.run_id = run_id or ""

    def __enter__(self) -> Run:
        self._pid, self._session, self._result = os.getpid(), session_name(self._clock), None
        self._prefix = self._letters if self._group is None else f"{self._group.stage_prefix()}{self._letters}"
        try:
            journal_path = self._take_place()
            self._journal = JournalWriter(journal_path)
        except OSError as err:
            take_back(os.environ, self.run_id)
            raise RunsDirError(str(self.run_dir if self.run_id else self.runs_dir), err) from err
        self._meter = Meter(
            KeepingJournal(self._journal, self.look),
            self._clock,
            prefix=self._prefix,
            earlier_attempts=self._earlier_attempts,
            sync=self._sync,
            on_edge=self._mark_edge,
        )
        self._meter.write(
            "session_started",
            utc_ns=self._clock.utc_ns(),
            session=self._session,
            run_id=self.run_id,
            pid=os.getpid(),
            host=host_name(),
            boot_id=boot_id(),
            stillwatt=__version__,
            python=sys.version.split()[0],
            **({} if self._group is None else self._group.place(self.name)),
        )
        try:
            self._start_sampler(self._session, journal_path)
            _open_runs.add(self)
            note_open(self)
            self.idle(self._idle_s, name=IDLE_BEFORE)
        except BaseException:
            note_closed(self)
            self._end("failed")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        note_closed(self)
        if self._pid != os.getpid():
            return  # a forked process leaves the block; the run is its parent's to end
        try:
            self.idle(self._idle_s if kind is None else 0.0, name=IDLE_AFTER)
        finally:
            self._end("ended" if kind is None else "failed")

    def _end(self, status: str) -> None:
        """Write the session's end, then let the sampling process take its last reading."""
        meter = self.meter
        _open_runs.discard(self)
        take_back(os.environ, self.run_id)
        usage = os.times()
        # the sampler's last reading must lie after the session's end, or the last stage's edge has no reading behind it
        meter.write(
            "session_ended",
            utc_ns=self._clock.utc_ns(),
            status=status,
            lost_events=meter.lost_events,
            cpu_s=usage.user + usage.system,
        )
        if self._sampler is not None:
            self._sampler.stop()
        if self._journal is not None:
            self._journal.close()

    @property
    def run_dir(self) -> Path:
        """The run's directory."""
        return self.runs_dir / self.run_id

    @property
    def meter(self) -> Meter:
        """The in-process meter; only inside the `with` block and after it."""
        if self._meter is None:
            raise RuntimeError("a Run measures inside its `with` block; enter it first")
        return self._meter

    def stage(
        self, name: str, *, kind: StageKind | str = StageKind.OTHER, labels: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Stage]:
        """Measure a block as a stage; stages nest. See `Meter.stage`."""
        return self.meter.stage(name, kind=kind, labels=labels)

    @overload
    def measured(self, name: _F) -> _F: ...

    @overload
    def measured(
        self, name: str | None = None, *, kind: StageKind | str = ..., labels: Mapping[str, str] | None = ...
    ) -> Measured: ...

    def measured(
        self, name: Any = None, *, kind: StageKind | str = StageKind.OTHER, labels: Mapping[str, str] | None = None
    ) -> Any:
        """A decorator that makes each call of a function a stage of this run. See `stillwatt.measured`."""
        return measured(name, kind=kind, labels=labels, run=self)

    @property
    def current_stage(self) -> Stage | None:
        """The innermost stage that this thread or task has open; None outside any, and outside the `with` block."""
        return None if self._meter is None else self._meter.current_stage

    @property
    def only_stage(self) -> Stage | None:
        """The stage in which a thread without an open stage works, where one can be told. See `Meter.only_stage`."""
        return None if self._meter is None else self._meter.only_stage

    def note(self, message: str) -> None:
        """Warn of something that whoever reads the run's record must know, and keep it there; once for each message."""
        self.meter.note(message)

    def idle(self, seconds: float, *, name: str = "idle") -> None:
        """Measure the idle machine for so long, as a stage of kind `idle_baseline`; 0 s measure nothing.

        Waits without working. Measure before the first stage and after the last one: net energies are net of both.
        """
        rest(self.meter, name, seconds)

    def look(self) -> None:
        """Look whether the sampling process is still there, and start another where it is not.

        Each stage and each count does; a program that only waits for something long may call this now and then.
        """
        if self._sampler is not None:
            self._sampler.look()

    def mark(self, name: str) -> None:
        """Note a moment that all ranks pass together, such as the end of a barrier: it ties their clocks together."""
        self.meter.write("mark", name=str(name), utc_ns=self._clock.utc_ns())

    @property
    def result(self) -> RunRecord:
        """The run's account, posted to the ledger; of a run that is not over yet, as it stands at this moment.

        Raises:
            LedgerError: No account can be made of the run's directory, or it is gone; or the run has not begun.
        """
        from stillwatt.workflows.books import show_run

        if not self.run_id:
            raise LedgerError(f"run {self.name!r} has not begun: enter its `with` block first")

        if self._result is None:
            found = show_run(self.runs_dir, self.run_id)
            if found.status is StageStatus.RUNNING or (self._group is not None and self._group.rank is None):
                return found  # of this block, or of another rank's: it will say more later
            self._result = found
        return self._result

    def go_on_forked(self) -> None:
        """In a forked process: write to a journal of its own, made when there is something to write."""
        if self._meter is None:
            return
        if self._sampler is not None:
            self._sampler.go_on_forked()
        path = fork_journal(self.run_dir, self._session, self._clock)
        journal = ForkJournal(path, self._clock, lambda: self._say(f"fork {fork_name(path)}"))
        self._journal = None
        self._meter.go_on_forked(journal, f"{self._prefix}f{os.getpid()}x")

    def _take_place(self) -> Path:
        """Settle where the run is kept, and make it where it is new; gives the path of this session's journal."""
        # the program may go to another folder, as Hydra's do, and fork there
        self.runs_dir = self.runs_dir.absolute()
        if self._is_new:
            self.run_id = self._begin_alone() if self._group is None else self._join(self._group)
        return self.run_dir / f"journal.{self._session}.jsonl"

    def _begin_alone(self) -> str:
        """A run of this program's own; further ranks of it that it starts itself may join."""
        run_id = self._create()
        leave_word(os.environ, self.runs_dir, self.name, run_id)
        return run_id

    def _create(self, group: str = "") -> str:
        found = capture_environment()
        return create_run_dir(
            self.runs_dir, self.name, clock=self._clock, settings=self._settings, environment=found, group=group
        )

    def _join(self, group: LaunchGroup) -> str:
        """The run that all ranks of this launch measure under this name."""
        if group.launcher == STARTED_AGAIN:
            return group.launch_id
        key = group.key(self.name)
        began = began_s(self._clock) if group.restart == 0 else None
        return join_run(
            self.runs_dir, key, group.member, lambda: self._create(key), world_size=group.world_size, began_s=began
        )

    def _start_sampler(self, session: str, journal_path: Path) -> None:
        config = {
            **self._sampler_config,
            "run_dir": str(self.run_dir.resolve()),
            "session": session,
            "fsync_journal": str(journal_path.resolve()),
            "calibration": str(calibration_path().absolute()),
            "place": boot_id() or host_name(),
        }
        self._sampler = SamplingProcess(config, self._warn, self._clock)
        self._sampler.start()

    def _mark_edge(self) -> None:
        """Tell the sampling process of a stage's edge, so that it looks closely."""
        self._say("mark")

    def _say(self, word: str) -> None:
        if self._sampler is not None:
            self._sampler.say(word)

    def _warn(self, what: str, *, keeps: bool = False) -> None:
        message = f"the sampling process {what}"
        if keeps:
            self.meter.note(message, stacklevel=5)
        else:
            self.meter.warn(message, about="sampling process", stacklevel=5)


_open_runs: weakref.WeakSet[Run] = weakref.WeakSet()


def _after_fork() -> None:
    for run in tuple(_open_runs):
        run.go_on_forked()


os.register_at_fork(after_in_child=_after_fork)
