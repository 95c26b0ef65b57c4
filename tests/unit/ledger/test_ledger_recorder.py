from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeSensor, fake_channel
from run_dirs import raw_records
from stillwatt.errors import UsageError
from stillwatt.ledger import recorder as recorder_module
from stillwatt.ledger.disk import Disk
from stillwatt.ledger.fork_watch import ForkWatch
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.pace import Pace
from stillwatt.ledger.recorder import Recorder, parse_config, record
from stillwatt.ledger.sampling_loop import HEARD, Commands, Loop
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.records import Absent, Boundary
from stillwatt.sensors.base import Probe
from stillwatt.sensors.clock_watch import ClockWatch
from stillwatt.sensors.registry import OpenSensor, Resolution
from stillwatt.sensors.worker import InlineWorker
from stillwatt.units import NS_PER_MS, NS_PER_S

SESSION = "host-1-ab"
PERIOD_NS = 100_000_000
PATIENCE_S = 30.0


class FakeJournal:
    """Keeps events; refuses while told to."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.error: OSError | None = None
        self.fsyncs = 0
        self.is_closed = False

    def write(self, event: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        json.dumps(event)
        self.events.append(event)

    def fsync(self) -> None:
        self.fsyncs += 1

    def close(self) -> None:
        self.is_closed = True

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] == name]


class FakeWriter(RawWriter):
    """A segment that fills up while told to."""

    full: bool = False

    def flush(self) -> None:
        if FakeWriter.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().flush()


@pytest.fixture(autouse=True)
def _room_on_disk() -> Iterator[None]:
    yield
    FakeWriter.full = False


class Rig:
    """A recorder at a set time, with a fake journal and real segments."""

    def __init__(
        self,
        run_dir: Path,
        sensor: FakeSensor,
        clock: FakeClock,
        slow_after_ns: int | None = None,
        forks: ForkWatch | None = None,
        **bounds: Any,
    ) -> None:
        self.clock, self.run_dir, self.sensor = clock, run_dir, sensor
        self.journal = FakeJournal()
        self.disk = Disk(self.journal, lambda stream: FakeWriter(raw_path(run_dir, SESSION, stream)), clock, **bounds)
        self.resolution = Resolution(
            opened=(OpenSensor(sensor=sensor, channels=sensor.open()),),
            probes=(Probe(driver="fake", usable=True, detail="a fake", channels=sensor.open()),),
            absent=(Absent(part="gpu1", boundary=Boundary.BOARD, reason="fake: lost"),),
        )
        self.recorder = Recorder(
            self.resolution,
            self.disk,
            clock,
            PERIOD_NS,
            make_worker=InlineWorker,
            slow_after_ns=slow_after_ns,
            forks=forks,
        )

    def ticks(self, number: int) -> None:
        for _ in range(number):
            self.clock.advance(0.1)
            self.recorder.tick()

    def stored(self, stream: str = "gpu0.power") -> list[tuple[int, float]]:
        return raw_records(raw_path(self.run_dir, SESSION, stream))


def _rig(tmp_path: Path, **bounds: Any) -> Rig:
    clock = FakeClock()
    return Rig(tmp_path, FakeSensor(clock), clock, **bounds)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "cannot understand"),
        ("[]", "cannot understand"),
        ('{"session": "s", "period_ns": 1}', "not told its run_dir"),
        ('{"run_dir": "r", "session": "s", "period_ns": "soon"}', "cannot understand"),
        ('{"run_dir": "r", "session": "s", "period_ns": 0}', "not a length of time"),
        ('{"run_dir": "r", "session": "../s", "period_ns": 1}', "file name"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_config(line)


def test_a_configuration_is_read_whole() -> None:
    config = parse_config(
        '{"run_dir": "/r", "session": "s", "period_ns": 5, "sensors": ["nvml"], "options": {"nvml": {"devices": [0]}},'
        ' "fsync_journal": "/r/journal.s.jsonl"}'
    )
    assert (config.run_dir, config.sensors, config.options["nvml"]["devices"]) == (Path("/r"), ("nvml",), [0])
    assert config.fsync_journal == Path("/r/journal.s.jsonl")


def test_the_start_is_on_disk_with_a_first_reading(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    rig.recorder.start()
    (started,) = rig.journal.named("sampler_started")
    assert started["period_ns"] == PERIOD_NS
    assert started["pid"] == os.getpid()
    assert started["probes"] == [{"driver": "fake", "usable": True, "detail": "a fake", "cure": ""}]
    assert started["absent"] == [{"part": "gpu1", "boundary": "board", "reason": "fake: lost"}]
    channel = json.loads(json.dumps(started["channels"]))[0]
    assert (channel["part"], channel["quantity"], channel["basis"]) == ("gpu0", "power", "measured")
    assert rig.stored() == [(NS_PER_S, 1.0)]
    assert rig.journal.fsyncs == 1


def test_the_end_has_a_last_reading_and_the_account(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    rig.recorder.start()
    rig.ticks(3)
    rig.recorder.tick(skipped=2)
    rig.clock.advance(0.05)
    rig.recorder.finish(is_parent_lost=False)
    assert [event["event"] for event in rig.journal.events[1:]] == ["gap", "meter", "sampler_ended"]
    ended = rig.journal.named("sampler_ended")[0]
    assert (ended["samples"], ended["failed_reads"], ended["skipped_ticks"]) == (5, 1, 2)
    assert ended["cpu_s"] > 0.0
    assert rig.stored()[-1][0] == rig.clock.now_ns
    assert rig.journal.is_closed
    assert not rig.sensor.is_open


def test_a_gap_that_is_open_at_the_end_is_written(tmp_path: Path) -> None:
    clock = FakeClock()
    rig = Rig(tmp_path, FakeSensor(clock, outcomes={"gpu0.power": [1.0, "lost"]}), clock)
    rig.recorder.start()
    rig.ticks(3)
    rig.clock.advance(0.1)
    rig.recorder.finish(is_parent_lost=True)
    (gap,) = rig.journal.named("gap")
    assert (gap["failed_reads"], gap["reason"]) == (4, "lost")
    assert (gap["start_ns"], gap["end_ns"]) == (NS_PER_S, rig.clock.now_ns)
    assert rig.journal.named("parent_lost")


def test_a_full_disk_costs_nothing_until_the_buffer_is_full(tmp_path: Path) -> None:
    rig = _rig(tmp_path, max_buffered=10)
    rig.recorder.start()
    FakeWriter.full = True
    rig.ticks(8)
    rig.recorder.flush()
    FakeWriter.full = False
    rig.recorder.flush()
    assert len(rig.stored()) == 9
    assert rig.journal.named("gap") == []


def test_what_a_full_disk_costs_is_a_gap_between_kept_readings(tmp_path: Path) -> None:
    rig = _rig(tmp_path, max_buffered=10)
    rig.recorder.start()
    FakeWriter.full = True
    for _ in range(5):
        rig.ticks(5)
        rig.recorder.flush()
    FakeWriter.full = False
    rig.recorder.flush()
    rig.ticks(1)
    rig.recorder.flush()
    stamps = [t_ns for t_ns, _ in rig.stored()]
    assert len(stamps) == 12
    (gap,) = rig.journal.named("gap")
    assert gap["failed_reads"] == 15
    assert (gap["start_ns"], gap["end_ns"]) == (stamps[-2], stamps[-1])
    assert "nothing can be written" in gap["reason"]


def test_a_disk_that_is_full_to_the_end_is_said_to_be(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    rig.recorder.start()
    rig.ticks(3)
    FakeWriter.full = True
    rig.clock.advance(0.1)
    rig.recorder.finish(is_parent_lost=False)
    (gap,) = rig.journal.named("gap")
    assert "No space left on device" in gap["reason"]


def test_events_wait_for_the_journal_in_their_order(tmp_path: Path) -> None:
    rig = _rig(tmp_path, max_events=3)
    rig.journal.error = OSError(errno.ENOSPC, "No space left on device")
    rig.recorder.start()
    for _ in range(4):
        rig.recorder.account()
    rig.recorder.flush()
    assert rig.journal.events == []
    rig.journal.error = None
    rig.recorder.flush()
    assert [event["event"] for event in rig.journal.events] == ["sampler_started", "meter", "meter", "warning"]
    assert "2 events" in rig.journal.events[-1]["message"]


def test_a_segment_that_cannot_be_opened_makes_a_gap(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("a file where the folder should be", encoding="ascii")
    rig = _rig(tmp_path)
    rig.recorder.start()
    rig.ticks(2)
    rig.clock.advance(0.1)
    rig.recorder.finish(is_parent_lost=False)
    (gap,) = rig.journal.named("gap")
    assert gap["failed_reads"] == 4
    assert "readings dropped" in gap["reason"]


def test_a_disk_that_never_answers_fills_the_queue_and_no_more(tmp_path: Path) -> None:
    rig = _rig(tmp_path, max_pending=5)
    rig.ticks(8)  # and no flush
    rig.clock.advance(0.1)
    rig.recorder.finish(is_parent_lost=False)
    (gap,) = rig.journal.named("gap")
    assert gap["failed_reads"] == 4
    assert "does not answer" in gap["reason"]
    assert len(rig.stored()) == 5


def test_the_programs_journal_is_asked_of_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    clock = FakeClock()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    disk = Disk(FakeJournal(), lambda stream: RawWriter(raw_path(tmp_path, SESSION, stream)), clock, fsync_journal=path)
    disk.flush()
    assert synced == []
    path.write_text("{}\n", encoding="ascii")
    disk.flush()
    assert synced == [path.stat().st_ino]


def test_a_mistake_in_writing_is_raised_once_all_else_is_done(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    rig.recorder.start()
    rig.disk.event({"event": "meter", "t_ns": object()})
    rig.recorder.flush()
    with pytest.raises(TypeError):
        rig.recorder.finish(is_parent_lost=False)
    assert not rig.sensor.is_open


class FakeCommands:
    """Gives lines at set times of the clock; nothing else makes time pass but waiting."""

    def __init__(self, clock: FakeClock, lines: dict[float, str]) -> None:
        self.clock = clock
        self.begun_ns = clock.now_ns
        self.lines = dict(sorted(lines.items()))

    def wait(self, timeout_s: float | None) -> str | None:
        due_s = next(iter(self.lines))
        now_s = (self.clock.now_ns - self.begun_ns) / NS_PER_S
        if timeout_s is None or due_s <= now_s + timeout_s:
            self.clock.advance(max(due_s - now_s, 0.0))
            return self.lines.pop(due_s)
        self.clock.advance(timeout_s)
        return None

    def speaks_within(self, timeout_ns: int) -> bool:
        due_ns = self.begun_ns + round(next(iter(self.lines)) * NS_PER_S)
        self.clock.now_ns = max(self.clock.now_ns, min(due_ns, self.clock.now_ns + timeout_ns))
        return due_ns <= self.clock.now_ns

    def listen(self, ears: object) -> None:
        """Other ranks say nothing here."""


def _run(rig: Rig, lines: dict[float, str]) -> bool:
    commands = FakeCommands(rig.clock, lines)
    return Loop(rig.recorder, commands, rig.clock).run()  # type: ignore[arg-type]


def test_readings_are_taken_at_the_deadlines(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    assert _run(rig, {1.05: "stop"}) is False
    rig.recorder.flush()
    assert [t_ns for t_ns, _ in rig.stored()] == [NS_PER_S + n * PERIOD_NS for n in range(1, 11)]


def test_the_end_of_input_means_the_program_is_lost(tmp_path: Path) -> None:
    assert _run(_rig(tmp_path), {0.35: ""}) is True


def test_a_forked_process_that_is_gone_is_an_edge_of_our_own(tmp_path: Path) -> None:
    clock = FakeClock()
    forks = ForkWatch(tmp_path, SESSION, lambda event: rig.disk.event(event), clock)
    rig = Rig(tmp_path, FakeSensor(clock), clock, forks=forks)
    child = subprocess.Popen(["sleep", "600"])
    lines = {0.15: f"fork {child.pid}-{time.monotonic_ns():x}", 0.25: HEARD, 0.35: "stop"}
    commands = FakeCommands(clock, lines)
    heard: list[int] = []

    def listen(ears: tuple[int, ...]) -> None:
        heard.append(len(ears))
        if ears:
            child.kill()
            child.wait()

    commands.listen = listen  # type: ignore[method-assign, assignment]  # one answer of a fake
    assert Loop(rig.recorder, commands, clock).run() is False  # type: ignore[arg-type]  # a fake
    rig.recorder.finish(is_parent_lost=False)
    (ended,) = rig.journal.named("fork_ended")
    assert ended["fork"].startswith(f"{child.pid}-")
    assert heard == [0, 1, 0]


def test_a_line_that_means_nothing_is_passed_over(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    assert _run(rig, {0.15: "what", 0.35: "stop"}) is False
    assert rig.sensor.reads == 3


@given(
    delays_ms=st.lists(st.sampled_from([0, 1, 5, 60, 99, 100, 140, 260, 1_300]), max_size=30),
    marks_ms=st.lists(st.integers(1, 3_000), max_size=4),
    failing=st.sets(st.integers(0, 30), max_size=3),
)
def test_readings_with_little_around_them_are_those_of_the_usual_way(
    tmp_path_factory: pytest.TempPathFactory, delays_ms: list[int], marks_ms: list[int], failing: set[int]
) -> None:
    def books(*, is_quick: bool) -> tuple[object, ...]:
        clock, delays, number = FakeClock(), iter(delays_ms), itertools.count()

        def before_read() -> None:
            clock.advance(next(delays, 0) / 1e3)
            if next(number) in failing:
                raise OSError("the driver fell over")

        rig = Rig(tmp_path_factory.mktemp("run"), FakeSensor(clock, before_read=before_read), clock)
        with pytest.MonkeyPatch.context() as patch:
            if not is_quick:
                patch.setattr(InlineWorker, "is_trusted", False)
            # not at a deadline: which comes first at one nanosecond is the fakes' choice
            _run(rig, {**{(mark_ms + 0.5) / 1e3: "mark" for mark_ms in marks_ms}, 3.05: "stop"})
        rig.recorder.account()
        rig.recorder.finish(is_parent_lost=False)
        gaps = [{**gap, "reason": str(gap["reason"]).split(":")[0]} for gap in rig.journal.named("gap")]
        account = {key: value for key, value in rig.journal.named("meter")[-1].items() if key != "cpu_s"}
        return rig.stored() if account["samples"] else [], gaps, account

    assert books(is_quick=True) == books(is_quick=False)


def test_late_ticks_are_skipped_and_counted_and_not_made_up(tmp_path: Path) -> None:
    clock = FakeClock()
    slow = iter([0.001, 0.001, 0.37])
    rig = Rig(tmp_path, FakeSensor(clock, before_read=lambda: clock.advance(next(slow, 0.001))), clock)
    _run(rig, {1.05: "stop"})
    rig.recorder.account()
    rig.recorder.flush()
    account = rig.journal.named("meter")[-1]
    assert account["skipped_ticks"] == 2
    assert account["samples"] + account["skipped_ticks"] == 10
    stamps = [(t_ns - NS_PER_S) // 10**6 for t_ns, _ in rig.stored()]
    assert stamps == [101, 201, 670, 671, 701, 801, 901, 1001]


def test_samples_are_on_disk_within_a_second_and_the_account_each_ten(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    _run(rig, {10.55: "stop"})  # flushes go with readings, every 0.7 s: the one before was at 10.5 s, the fifteenth
    assert len(rig.stored()) == 105
    assert len(rig.journal.named("meter")) == 1
    assert rig.journal.fsyncs == 15


def test_what_happens_to_the_clocks_is_in_the_journal(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    slept_ns = 0
    watch = ClockWatch(rig.clock, lambda: rig.clock.now_ns + slept_ns)
    rig.recorder = Recorder(rig.resolution, rig.disk, rig.clock, PERIOD_NS, make_worker=InlineWorker, watch=watch)
    rig.recorder.start()
    slept_ns = 30 * NS_PER_S
    rig.clock.utc_offset_ns += slept_ns
    assert not _run(rig, {3.0: "stop"})
    (step,) = rig.journal.named("clock_step")
    assert (step["kind"], step["step_s"]) == ("asleep", 30.0)


def test_a_program_that_is_gone_is_missed_though_its_pipe_is_open(tmp_path: Path) -> None:
    """It is looked for with each flush, where the kernel gives no descriptor of it."""
    clock, answers = FakeClock(), iter([True, True, False])

    def no_descriptor(pid: int) -> int:
        raise OSError(pid)

    class Lives:
        def is_alive(self, host: str, boot: str, pid: int, seen_ns: int) -> bool:
            assert pid == os.getpid()
            return next(answers)

    forks = ForkWatch(
        tmp_path,
        SESSION,
        lambda event: rig.disk.event(event),
        clock,
        program=os.getpid(),
        liveness=Lives(),
        open_descriptor=no_descriptor,
    )
    rig = Rig(tmp_path, FakeSensor(clock), clock, forks=forks)
    assert _run(rig, {99.0: "stop"}) is True
    # it begins at 1 s, and the third flush misses it
    assert rig.clock.now_ns == NS_PER_S + 3 * 7 * NS_PER_S // 10


def test_commands_are_lines_however_they_arrive() -> None:
    reading, writing = os.pipe()
    commands = Commands(reading)
    assert commands.wait(0.0) is None
    os.write(writing, b"st")
    assert commands.wait(0.0) is None
    os.write(writing, b"op\nmore\n\n")
    assert [commands.wait(0.0) for _ in range(3)] == ["stop", "more", " "]
    os.close(writing)
    assert commands.wait(0.0) == ""
    os.close(reading)


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("nonsense", 2, "cannot understand"),
        ('{"run_dir": "DIR", "session": "s", "period_ns": 1, "sensors": ["nmvl"]}', 2, "did you mean 'nvml'"),
        ('{"run_dir": "DIR/none", "session": "s", "period_ns": 1}', 1, "No such file"),
    ],
)
def test_what_cannot_start_answers_why(tmp_path: Path, line: str, status: int, words: str) -> None:
    clock = FakeClock()
    answers: list[str] = []
    commands = FakeCommands(clock, {0.0: line.replace("DIR", str(tmp_path))})
    assert record(commands, answers.append, clock) == status  # type: ignore[arg-type]
    (answer,) = answers
    assert answer.startswith("failed ")
    assert words in answer


class Process:
    """The sampling process itself."""

    def __init__(self, run_dir: Path, **config: Any) -> None:
        self.run_dir = run_dir
        self.program_journal = run_dir / f"journal.{SESSION}.jsonl"
        self.program_journal.write_text("", encoding="ascii")
        self.child = subprocess.Popen(
            [sys.executable, "-m", "stillwatt.ledger.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        told = {
            "run_dir": str(run_dir),
            "session": SESSION,
            "period_ns": 20_000_000,
            "sensors": ["synthetic"],
            "fsync_journal": str(self.program_journal),
            **config,
        }
        self.say(json.dumps(told))

    def say(self, line: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def answer(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().decode().strip()

    def end(self) -> str:
        """Wait for the end; gives what it said on stderr."""
        _, stderr = self.child.communicate(timeout=PATIENCE_S)
        return stderr.decode()

    def events(self) -> list[dict[str, Any]]:
        journal = read_journal(self.run_dir / f"journal.{SESSION}.meter.jsonl")
        assert journal.problems == ()
        return list(journal.events)

    def stored(self, stream: str) -> list[tuple[int, float]]:
        return raw_records(raw_path(self.run_dir, SESSION, stream))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        limit_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < limit_s, "it never came to be"
            time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def make(**config: Any) -> Process:
        started.append(Process(tmp_path, **config))
        return started[-1]

    yield make
    for process in started:
        if process.child.poll() is None:
            process.child.kill()
        process.child.communicate()


def test_the_process_samples_until_it_is_told_to_stop(start: Callable[..., Process]) -> None:
    process = start()
    assert process.answer() == "ready"
    assert process.events()[0]["event"] == "sampler_started"
    assert len(process.stored("gpu0.energy_counter")) >= 1
    told_ns = time.monotonic_ns()
    process.say("stop")
    assert process.end() == ""
    assert process.child.returncode == 0
    assert process.events()[-1]["event"] == "sampler_ended"
    for stream in ("gpu0.energy_counter", "gpu0.power", "cpu0.power"):
        stamps = [t_ns for t_ns, _ in process.stored(stream)]
        assert stamps == sorted(set(stamps))
        assert stamps[-1] >= told_ns


def test_the_process_notices_that_its_parent_is_gone(start: Callable[..., Process]) -> None:
    process = start()
    process.answer()
    assert process.child.stdin is not None
    process.child.stdin.close()
    process.child.stdin = None
    assert process.child.wait(PATIENCE_S) == 0
    assert [event["event"] for event in process.events()][-3:] == ["parent_lost", "meter", "sampler_ended"]


def test_signals_to_the_group_do_not_end_it(start: Callable[..., Process]) -> None:
    process = start()
    process.answer()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.child.send_signal(number)
    seen = len(process.stored("cpu0.power"))
    process.wait_until(lambda: len(process.stored("cpu0.power")) > seen)
    process.say("stop")
    process.end()
    assert process.events()[-1]["event"] == "sampler_ended"


def test_a_killed_process_leaves_all_but_its_last_second(start: Callable[..., Process]) -> None:
    process = start()
    process.answer()
    process.wait_until(lambda: len(process.stored("cpu0.power")) > 40)
    process.child.kill()
    process.end()
    assert len(process.stored("cpu0.power")) > 40
    assert process.events()[0]["event"] == "sampler_started"


def test_a_hanging_sensor_is_a_gap_and_the_process_still_stops(start: Callable[..., Process]) -> None:
    stalling = {"part": "gpu0", "quantity": "power", "stall_at_s": 0.0, "stall_s": 600.0}
    process = start(sensors=["synthetic", "host_model"], options={"synthetic": {"channels": [stalling]}})
    assert process.answer() == "ready"
    process.wait_until(lambda: len(process.stored("cpu0.power")) > 20)
    process.say("stop")
    process.end()
    assert process.child.returncode == 0
    gaps = [event for event in process.events() if event["event"] == "gap" and event["stream"] == "gpu0.power"]
    assert len(gaps) == 1
    assert "has not returned" in gaps[0]["reason"]
    assert gaps[0]["failed_reads"] > 20


def test_the_process_answers_what_it_cannot_start_with(start: Callable[..., Process]) -> None:
    process = start(sensors=["nmvl"])
    assert process.answer() == "failed unknown sensor 'nmvl'; did you mean 'nvml'?"
    process.end()
    assert process.child.returncode == 2


def test_a_disk_that_hangs_at_the_end_does_not_hold_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = _rig(tmp_path)
    release = threading.Event()
    monkeypatch.setattr(rig.disk, "flush", lambda: release.wait(PATIENCE_S))
    monkeypatch.setattr(recorder_module, "_DISK_PATIENCE_S", 0.01)
    recorder = Recorder(rig.resolution, rig.disk, rig.clock, PERIOD_NS)
    recorder.start()
    rig.clock.advance(0.1)
    recorder.finish(is_parent_lost=False)
    assert not rig.journal.is_closed
    release.set()


def test_a_mistake_that_passed_is_raised_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = _rig(tmp_path)
    rig.recorder.start()
    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "fsync", lambda: json.dumps(object()))
        rig.recorder.flush()
    with pytest.raises(TypeError):
        rig.recorder.finish(is_parent_lost=False)
    assert rig.journal.named("sampler_ended")


def test_the_whole_of_it_in_one_process(tmp_path: Path) -> None:
    clock = FakeClock()
    answers: list[str] = []
    told = {"run_dir": str(tmp_path), "session": SESSION, "period_ns": PERIOD_NS, "sensors": ["synthetic"]}
    commands = FakeCommands(clock, {0.0: json.dumps(told), 0.55: "stop"})
    assert record(commands, answers.append, clock, sleep=clock.advance, make_worker=InlineWorker) == 0  # type: ignore[arg-type]
    assert answers == ["ready", "ended"]
    names = [event["event"] for event in read_journal(tmp_path / f"journal.{SESSION}.meter.jsonl").events]
    assert names == ["sampler_started", "meter", "sampler_ended"]


def test_main_ignores_signals_and_reads_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"nonsense\n")
    ignored: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: ignored.append(number))
    with os.fdopen(reading) as source, os.fdopen(writing, "wb", buffering=0) as sink:
        monkeypatch.setattr(sys, "stdin", source)
        monkeypatch.setattr(sys, "stdout", sink)
        assert recorder_module.main() == 2
    assert ignored == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def test_a_process_whose_listener_is_gone_ends_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as deaf:
        monkeypatch.setattr(sys, "stdout", deaf)
        recorder_module._answer("ready")


def test_what_costs_much_is_on_record_with_its_own_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    slow = dataclasses.replace(fake_channel("gpu1"), sampling_period_ns=870 * NS_PER_MS)
    quick = dataclasses.replace(fake_channel("gpu2"), sampling_period_ns=None)
    rig = Rig(tmp_path, FakeSensor(clock, [slow, quick]), clock)
    rig.recorder.start()
    (started,) = rig.journal.named("sampler_started")
    paces = {one["part"]: one["sampling_period_ns"] for one in started["channels"]}
    assert paces == {"gpu1": 870 * NS_PER_MS, "gpu2": PERIOD_NS}


class RestingSensor(FakeSensor):
    """A fake that has nothing new for 375 ms after each reading."""

    rests_ns = 375 * NS_PER_MS


@pytest.mark.parametrize(("sensor", "reads"), [(RestingSensor, 8), (FakeSensor, 30)])
def test_a_sensor_that_rests_is_not_woken_up_for(tmp_path: Path, sensor: type[FakeSensor], reads: int) -> None:
    clock = FakeClock()
    rig = Rig(tmp_path, sensor(clock, [fake_channel()]), clock)
    rig.recorder.start()
    beats = rig.recorder.beats()
    before = rig.sensor.reads
    for _ in range(305):
        clock.advance(0.01)
        for beat in beats:
            beat.keep(clock.now_ns)
    assert rig.sensor.reads - before == reads
    rig.recorder.finish(is_parent_lost=False)


def test_a_long_stage_is_read_once_a_second_until_the_next_edge(tmp_path: Path) -> None:
    rig = _rig(tmp_path, slow_after_ns=2 * NS_PER_S)
    rig.recorder.start()
    beats = rig.recorder.beats()

    def play(seconds: float) -> list[int]:
        before = rig.sensor.reads
        for _ in range(round(seconds * 100)):
            rig.clock.advance(0.01)
            for beat in beats:
                beat.keep(rig.clock.now_ns)
        rig.recorder.flush()
        return list(range(before, rig.sensor.reads))

    assert 19 <= len(play(2.0)) <= 20
    assert 9 <= len(play(10.0)) <= 11
    rig.recorder.edge()
    assert 9 <= len(play(1.0)) <= 11
    rig.recorder.finish(is_parent_lost=False)
    changed = rig.journal.named("period_changed")
    assert [event["period_ns"] for event in changed] == [NS_PER_S, PERIOD_NS]
    assert changed[1]["t_ns"] - changed[0]["t_ns"] == pytest.approx(10 * NS_PER_S, rel=0.05)


def test_a_run_that_reads_once_a_second_anyway_has_no_lulls() -> None:
    told: list[object] = []
    clock = FakeClock()
    pace = Pace(NS_PER_S, 1, lambda *event, **fields: told.append(event), clock)
    clock.advance(100.0)
    pace.look()
    assert not pace.may_slow
    assert not pace.is_slow
    assert told == []
