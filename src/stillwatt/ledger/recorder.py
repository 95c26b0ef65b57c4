"""The sampling process: reads every sensor at fixed deadlines and keeps what it read.

`python -m stillwatt.ledger.recorder` takes one line of JSON on its standard input (`parse_config`), answers
`ready` once every stream was read for the first time (or `failed <why>`), samples until the line `stop` or the end of
its input, which means that the measured program is gone, and says `ended` last. A measured program starts it apart
(`ledger.apart`).

Nothing may hold sampling up. Each sensor reads in a thread of its own, so one that hangs leaves a gap in its own
streams only; files are written in another thread, so a slow disk costs no reading, and a full one costs none
until the buffers are full. Signals for the program's process group are ignored: the one way to end is that the
program ends. Only the standard library and the drivers are imported, to stay at some 20 MB.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import StillwattError, UsageError
from stillwatt.ledger.claims import Claims
from stillwatt.ledger.disk import Disk
from stillwatt.ledger.fork_watch import ForkWatch
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.life import LifeSign, life_path
from stillwatt.ledger.pace import SLOW_NS, Pace
from stillwatt.ledger.sampling_loop import Commands, Loop
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.ledger.users import LOOK_NS, UserWatch, parts_of_program
from stillwatt.records import Channel
from stillwatt.sensors.base import Urgency
from stillwatt.sensors.beat import Beat
from stillwatt.sensors.clock_watch import ClockWatch
from stillwatt.sensors.processes import Processes
from stillwatt.sensors.registry import Resolution, resolve
from stillwatt.sensors.relay import Relay
from stillwatt.sensors.sampler import Sampler, own_period_ns
from stillwatt.sensors.worker import Job, Worker, WorkerLike
from stillwatt.units import seconds

_DISK_PATIENCE_S = 5.0
_GARBAGE_OBJECTS = 10_000
"""Objects made and kept before the interpreter looks for cycles among them; there are next to none here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderConfig:
    """What the sampling process is told."""

    run_dir: Path
    session: str
    period_ns: int
    sensors: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]]
    fsync_journal: Path | None
    """The measured program's journal: it is asked of the disk here, so that the program never waits for that."""
    calibration: Path | None = None
    """File of gains against a meter; it need not be there."""
    slow_after_ns: int | None = None
    """Without a stage's edge for so long, read once a second until the next one; None for never."""
    place: str = ""
    """The machine, by which the sampling processes of one run on one machine share its devices; empty for a process
    that shares nothing."""
    program: int = 0
    """The measured program's process number; 0 for this process's parent."""


def parse_config(line: str) -> RecorderConfig:
    """Read the line of JSON that starts the sampling process.

    Raises:
        UsageError: it is not JSON, a key is missing, or a value cannot be meant.

    >>> parse_config('{"run_dir": "r", "session": "h-1-a", "period_ns": 100000000}').sensors
    ('auto',)
    """
    try:
        given = json.loads(line)
        fsync_journal = given.get("fsync_journal")
        config = RecorderConfig(
            run_dir=Path(given["run_dir"]),
            session=str(given["session"]),
            period_ns=int(given["period_ns"]),
            sensors=tuple(given.get("sensors", ["auto"])),
            options=dict(given.get("options", {})),
            fsync_journal=Path(fsync_journal) if fsync_journal else None,
            calibration=Path(given["calibration"]) if given.get("calibration") else None,
            slow_after_ns=int(given["slow_after_ns"]) if given.get("slow_after_ns") else None,
            place=str(given.get("place", "")),
            program=int(given.get("program", 0)),
        )
    except KeyError as err:
        raise UsageError(f"the sampling process was not told its {err.args[0]}") from err
    except (ValueError, TypeError, AttributeError) as err:
        raise UsageError(f"the sampling process cannot understand what it was told ({err})") from err
    try:
        raw_path(config.run_dir, config.session, "stream")
    except ValueError as err:
        raise UsageError(str(err)) from err
    if config.period_ns <= 0:
        raise UsageError(f"period_ns = {config.period_ns} is not a length of time")
    return config


class Recorder:
    """A sampler, the disk its samples go to, and the thread that writes them."""

    def __init__(
        self,
        resolution: Resolution,
        disk: Disk,
        clock: Clock,
        period_ns: int,
        *,
        make_worker: Callable[[str, Job], WorkerLike] = Worker,
        make_writer: Callable[[str, Job], WorkerLike] | None = None,
        watch: ClockWatch | None = None,
        claims: Claims | None = None,
        slow_after_ns: int | None = None,
        forks: ForkWatch | None = None,
        program: int = 0,
    ) -> None:
        self._program = program or os.getppid()
        self._resolution = resolution
        self._disk = disk
        self._clock = clock
        self._period_ns = period_ns
        self._sampler = Sampler(resolution.opened, disk, clock, period_ns, make_worker=make_worker)
        # neither the disk nor the list of a card's users may hold up the thread that reads
        self._writer = (make_writer or make_worker)("write", self._write)
        self._users = UserWatch(resolution, disk.event, clock, make_writer or make_worker)
        self._watch = watch
        self._claims = claims
        self._forks = forks
        self._mine: list[Channel] = list(resolution.channels)
        self._skipped_ticks = 0
        self._pace = Pace(period_ns, slow_after_ns, self._event, clock)

    def start(self) -> None:
        """Write what is measured, take the first reading of every stream, and see both on disk."""
        resolution = self._resolution
        self._claim()
        self._event(
            "sampler_started",
            pid=os.getpid(),
            period_ns=self._period_ns,
            probes=[
                {"driver": probe.driver, "usable": probe.usable, "detail": probe.detail, "cure": probe.cure}
                for probe in resolution.probes
            ],
            channels=[dataclasses.asdict(channel) for channel in self._channels(self._mine)],
            program=Processes().process(self._program),
            **parts_of_program(resolution, os.environ),
            absent=[dataclasses.asdict(absent) for absent in resolution.absent],
        )
        self._users.tick()
        self._sampler.tick()
        self.flush()
        self._writer.wait(_DISK_PATIENCE_S)

    @property
    def claims(self) -> Claims | None:
        """What says which devices are this process's; None where it shares nothing."""
        return self._claims

    @property
    def fork_descriptors(self) -> tuple[int, ...]:
        """What can be read as soon as the program or a process that it forked is gone."""
        return self._forks.descriptors if self._forks is not None else ()

    def watch_fork(self, name: str) -> None:
        """A forked process of the program writes from now on."""
        if self._forks is not None:
            self._forks.begun(name)

    def look_at_forks(self) -> bool:
        """Write down which forked processes are gone; gives whether one is, or the program."""
        return self._forks is not None and self._forks.look()

    @property
    def is_program_gone(self) -> bool:
        """Whether the measured program was seen to be gone."""
        return self._forks is not None and self._forks.is_program_gone

    def beats(self) -> list[Beat]:
        """What is to be read how often, with the close look last: it beats only while there is one."""
        pace, period_ns = self._pace, max(self._period_ns, self._sampler.rests_ns)
        beats = [Beat(period_ns, self.tick, is_on=lambda: bool(self._mine) and not pace.is_slow)]
        if pace.may_slow:
            beats.append(Beat(SLOW_NS, self.tick, is_on=lambda: bool(self._mine) and pace.is_slow))
        often_ns = self._sampler.own_period_ns
        if often_ns is not None:
            beats.append(Beat(often_ns, lambda _skipped: self._sampler.tick_often(), is_on=lambda: not pace.is_slow))
        if self._users.is_needed:
            beats.append(Beat(LOOK_NS, self._users.tick, early_ns=LOOK_NS // 10))
        closeup = self._sampler.closeup
        if closeup.period_ns:
            beats.append(
                Beat(closeup.period_ns, lambda _skipped: self._sampler.tick_closely(), is_on=lambda: closeup.is_on)
            )
        return beats

    def edge(self, *, is_first: bool = False, is_own: bool = True) -> None:
        """Look closely: a stage begins or ends now, or the session does; if it is our program's, tell the others."""
        self._pace.edge()
        self._sampler.look_at_edge(is_first=is_first)
        if is_own and self._claims is not None:
            self._claims.tell()

    def end_closeup(self, sleep: Callable[[float], None]) -> None:
        """Go on with a close look until it has seen what it waits for: the last stage has just ended."""
        closeup = self._sampler.closeup
        for _ in range(closeup.most_readings):
            if not closeup.is_on:
                return
            sleep(seconds(closeup.period_ns))
            self._sampler.tick_closely()

    def take_over(self) -> bool:
        """Claim devices that nobody of this run counts any more; gives whether there are other beats from now on."""
        before = {channel.stream for channel in self._mine}
        if len(before) == len(self._resolution.channels) or not self._claim():
            return False
        taken = [channel for channel in self._mine if channel.stream not in before]
        self._event("channels_taken", channels=[dataclasses.asdict(channel) for channel in self._channels(taken)])
        self._sampler.tick(waits=False)
        self.edge(is_first=True, is_own=False)
        return True

    def _claim(self) -> bool:
        """Read those devices that are this process's to count; gives whether they are others than before."""
        if self._claims is None:
            return False
        had_problem = bool(self._claims.problem)
        mine = self._claims.take(self._resolution.channels)
        if self._claims.problem and not had_problem:
            self._event("warning", message=self._claims.problem)
        if mine == self._mine:
            return False  # a close look that is going on goes on
        self._mine = mine
        self._sampler.keep_only({channel.stream for channel in mine})
        self._users.keep_only(channel.part for channel in mine)
        return True

    def _channels(self, wanted: Sequence[Channel]) -> Iterator[Channel]:
        """Channels as they are sampled."""
        for opened in self._resolution.opened:
            period_ns = own_period_ns(opened, self._period_ns)
            for channel in opened.channels:
                if channel in wanted:
                    every_ns = max(period_ns, channel.sampling_period_ns or period_ns)  # what costs much, more rarely
                    yield dataclasses.replace(channel, sampling_period_ns=every_ns)

    def tick(self, skipped: int = 0) -> None:
        """Take one reading of every stream; `skipped` deadlines passed without one."""
        self._skipped_ticks += skipped
        self._sampler.tick(waits=False)
        self._pace.look()

    def quick_turn(self) -> Callable[[], bool] | None:
        """A reading of every stream with next to nothing around it (`Sampler.quick_turn`)."""
        return self._sampler.quick_turn()

    def flush(self) -> None:
        """Have everything written; a disk that still works on the flush before is left to it."""
        self._sampler.settle()
        for step in self._watch.look() if self._watch else ():
            self._disk.event(step)
        self.look_at_forks()
        self._writer.ask()

    def _write(self) -> None:
        """The writing thread's job."""
        if self._forks is not None:
            self._forks.find()
        self._disk.flush()

    def account(self, event: str = "meter") -> None:
        """Write the sampling process's own account, cumulative."""
        self._sampler.settle()
        self._event(
            event,
            samples=self._sampler.samples,
            failed_reads=self._sampler.failed_reads,
            skipped_ticks=self._skipped_ticks,
            cpu_s=round(time.process_time(), 6),
        )

    def finish(self, *, is_parent_lost: bool) -> None:
        """Take the last reading, end open gaps, write everything and close.

        Raises:
            Exception: the last flush failed in a way that is a mistake of this program; everything else is done.
        """
        if is_parent_lost:
            self._event("parent_lost")
        self._sampler.tick(urgency=Urgency.LAST)
        self._sampler.finish()
        self._users.finish()
        self.look_at_forks()
        self.account()
        self.account("sampler_ended")
        try:
            if self._writer.wait(_DISK_PATIENCE_S):
                self._disk.close()
        finally:
            self._writer.close()
            self._sampler.close()
            for held in (self._claims, self._forks):
                if held is not None:
                    held.close()
        if self._writer.error is not None:
            raise self._writer.error

    def _event(self, event: str, **fields: Any) -> None:
        self._disk.event({"event": event, "t_ns": self._clock.monotonic_ns(), **fields})


def record(
    commands: Commands,
    answer: Callable[[str], None],
    clock: Clock,
    *,
    sleep: Callable[[float], None] = time.sleep,
    make_worker: Callable[[str, Job], WorkerLike] | None = None,
    watch: ClockWatch | None = None,
) -> int:
    """Run the sampling process from its configuration to its end; gives the exit status.

    With `make_worker` left out, sensors are read by a `Relay`; with one given, everything stays in this thread.
    """
    line = commands.wait(None)
    try:
        config = parse_config(line or "")
        journal = JournalWriter(config.run_dir / f"journal.{config.session}.meter.jsonl")
        resolution = resolve(config.sensors, clock, config.options, calibration=config.calibration)
    except (StillwattError, OSError) as err:
        answer(f"failed {' '.join(str(err).split())}")
        return getattr(err, "exit_code", 1)
    disk = Disk(
        journal,
        lambda stream: RawWriter(raw_path(config.run_dir, config.session, stream)),
        clock,
        fsync_journal=config.fsync_journal,
        life=LifeSign(life_path(config.run_dir, config.session)),
    )
    claims = Claims(config.run_dir, config.place) if config.place else None
    relay, program = Relay(clock), config.program or os.getppid()
    recorder = Recorder(
        resolution,
        disk,
        clock,
        config.period_ns,
        make_worker=make_worker or relay.worker,
        make_writer=make_worker or Worker,
        watch=watch,
        claims=claims,
        slow_after_ns=config.slow_after_ns,
        forks=ForkWatch(config.run_dir, config.session, disk.event, clock, program=program),
        program=program,
    )
    recorder.start()
    answer("ready")
    recorder.edge(is_first=True)
    loop = Loop(recorder, commands, clock)
    is_parent_lost = relay.run(loop.run) if make_worker is None else loop.run()
    recorder.end_closeup(sleep)
    recorder.finish(is_parent_lost=is_parent_lost)
    answer("ended")
    return 0


def _answer(line: str) -> None:
    try:
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
    except OSError:
        return  # nobody listens any more; the end of input says the same in a moment


def main() -> int:
    """Sample on behalf of the process at the other end of the standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.set_threshold(_GARBAGE_OBJECTS)
    clock = SystemClock()
    return record(Commands(sys.stdin.fileno()), _answer, clock, watch=ClockWatch(clock))


if __name__ == "__main__":
    sys.exit(main())
