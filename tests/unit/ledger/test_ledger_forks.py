"""Forked processes that are gone: noticed by the sampling process, believed by the books."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from run_dirs import FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, gpu_counter
from stillwatt.ledger import fork_watch as fork_watch_module
from stillwatt.ledger.fork_watch import ForkWatch
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import fork_name, fork_names
from stillwatt.records import Absent, Boundary, Energy, StageRecord
from stillwatt.records.run import RunRecord
from stillwatt.units import J_PER_MJ_MILLI, nanoseconds

DEAD = FakeLiveness()
SESSION = "host-1-ab"
WATTS = 200.0
GONE = Absent(part="dram0", boundary=Boundary.CHIP, reason="no counter for it")


class FakeProcesses:
    """Which processes live; each has a pipe whose reading end can be read once it is gone, as the kernel's descriptors.

    With `has_descriptors=False` it is a kernel that knows none.
    """

    def __init__(self, *, has_descriptors: bool = True) -> None:
        self.has_descriptors = has_descriptors
        self.alive: set[int] = set()
        self.looks = 0
        self._pipes: dict[int, int] = {}

    def is_alive(self, host: str, boot: str, pid: int, seen_ns: int) -> bool | None:
        self.looks += 1
        return pid in self.alive

    def open(self, pid: int) -> int:
        if not self.has_descriptors or pid not in self.alive:
            raise ProcessLookupError(pid)
        reading, self._pipes[pid] = os.pipe()
        return reading

    def end(self, pid: int) -> None:
        self.alive.discard(pid)
        if pid in self._pipes:
            os.close(self._pipes.pop(pid))

    def close(self) -> None:
        for pid in tuple(self._pipes):
            self.end(pid)


class Watched:
    """A fork watch at a set time, and what it writes down."""

    def __init__(self, run_dir: Path, processes: FakeProcesses, **given: Any) -> None:
        self.run_dir, self.processes = run_dir, processes
        self.clock = FakeClock()
        self.events: list[Mapping[str, Any]] = []
        self.watch = ForkWatch(
            run_dir,
            SESSION,
            self.events.append,
            self.clock,
            liveness=processes,
            open_descriptor=processes.open,
            **given,
        )

    def watched(self) -> int:
        return len(self.watch.descriptors)

    def ended(self) -> dict[str, tuple[int, int]]:
        return {event["fork"]: (event["since_ns"], event["t_ns"]) for event in self.events}

    def journal(self, name: str, session: str = SESSION) -> None:
        JournalWriter(self.run_dir / f"journal.{session}.fork-{name}.jsonl").close()


@pytest.fixture
def processes() -> Iterator[FakeProcesses]:
    fake = FakeProcesses()
    yield fake
    fake.close()


def test_a_process_that_is_watched_is_known_to_end_when_it_ends(tmp_path: Path, processes: FakeProcesses) -> None:
    here = Watched(tmp_path, processes)
    processes.alive = {7, 8}
    here.watch.begun("7-1")
    here.watch.begun("7-1")
    here.watch.begun("8-1")
    assert here.watched() == 2
    assert not here.watch.look()
    here.clock.advance(3.0)
    processes.end(7)
    assert select.select(here.watch.descriptors, [], [], 0)[0] == [here.watch.descriptors[0]]
    assert here.watch.look()
    assert here.ended() == {"7-1": (here.clock.now_ns, here.clock.now_ns)}
    assert here.watched() == 1
    here.watch.close()
    here.watch.begun("7-1")
    assert (here.watched(), len(here.events)) == (0, 1)


@pytest.mark.parametrize("most", [0, 256])
def test_without_descriptors_it_is_known_when_a_process_was_seen_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    processes = FakeProcesses(has_descriptors=most == 0)
    monkeypatch.setattr(fork_watch_module, "_MOST_DESCRIPTORS", most)
    here = Watched(tmp_path, processes)
    processes.alive = {7}
    here.watch.begun("7-1")
    assert here.watch.descriptors == ()
    here.clock.advance(0.75)
    assert not here.watch.look()
    seen_ns = here.clock.now_ns
    here.clock.advance(0.75)
    processes.end(7)
    assert here.watch.look()
    assert here.ended() == {"7-1": (seen_ns, here.clock.now_ns)}
    assert not here.watch.look()


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(tmp_path: Path, processes: FakeProcesses) -> None:
    here = Watched(tmp_path, processes)
    processes.alive = {7}
    processes.is_alive = lambda host, boot, pid, seen_ns: seen_ns > 0x10  # type: ignore[method-assign]  # one answer of a fake
    here.watch.begun("7-10")
    assert here.ended() == {"7-10": (0, here.clock.now_ns)}
    here.watch.begun("7-11")
    assert here.watched() == 1
    here.watch.close()


def test_who_did_not_get_through_is_found_by_his_journal(tmp_path: Path, processes: FakeProcesses) -> None:
    here = Watched(tmp_path, processes)
    processes.alive = {7}
    here.watch.find()
    here.journal("7-1")
    here.journal("9-1")
    here.journal("8-1", session="host-2-cd")
    here.journal("soon-1")
    os.utime(tmp_path, ns=(5, 5))
    here.watch.find()
    here.watch.look()
    assert here.ended() == {"9-1": (0, here.clock.now_ns)}, "7 lives, 8 is another session's, and soon is no number"
    looks = processes.looks
    here.journal("10-1")
    os.utime(tmp_path, ns=(5, 5))
    here.watch.find()
    here.watch.look()
    assert processes.looks == looks, "a folder that did not change is not listed again"
    here.watch.close()


def test_a_folder_that_takes_long_to_list_is_listed_rarely(
    tmp_path: Path, processes: FakeProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Watched(tmp_path, processes)
    lists: list[int] = []

    def takes_a_second(run_dir: Path, session: str) -> list[str]:
        lists.append(here.clock.now_ns)
        here.clock.advance(1.0)
        return fork_names(run_dir, session)

    monkeypatch.setattr(fork_watch_module, "fork_names", takes_a_second)
    for changed_ns in range(1, 5):
        os.utime(tmp_path, ns=(changed_ns, changed_ns))
        here.watch.find()
        here.clock.advance(400.0)
    assert len(lists) == 2


def test_a_folder_that_is_gone_stops_nobody(tmp_path: Path, processes: FakeProcesses) -> None:
    here = Watched(tmp_path / "gone", processes)
    here.watch.find()
    assert not here.watch.look()


def test_the_end_of_the_program_is_heard_and_is_no_forks(tmp_path: Path, processes: FakeProcesses) -> None:
    processes.alive = {5}
    here = Watched(tmp_path, processes, program=5)
    (descriptor,) = here.watch.descriptors
    processes.end(5)
    assert select.select([descriptor], [], [], 0)[0]
    assert here.watch.look()
    assert here.watch.descriptors == ()
    assert here.events == []


def test_a_program_of_which_no_descriptor_can_be_had_is_looked_for(tmp_path: Path, processes: FakeProcesses) -> None:
    """It had ended before it was asked for, or the kernel knows no such descriptors."""
    child = subprocess.Popen(["sleep", "600"])
    here = Watched(tmp_path, processes, program=child.pid)
    assert here.watch.descriptors == ()
    processes.alive = {child.pid}
    seen = [(here.watch.look(), here.watch.is_program_gone)]
    child.kill()
    child.wait()
    seen += [(here.watch.look(), here.watch.is_program_gone) for _ in range(2)]
    assert seen == [(False, False), (True, True), (False, True)]


def test_a_kernel_without_descriptors_gives_none() -> None:
    with pytest.raises(OSError, match="no descriptor of process 7"):
        fork_watch_module._no_descriptor(7)


class ForkedRun:
    """200 W for ten seconds: a worker with a stage from 101 s on, and a training alone from 104 s to 109 s."""

    def __init__(self, runs_dir: Path) -> None:
        self.run = SyntheticRun(runs_dir)
        self.session: SyntheticSession = self.run.session(start_s=100.0)
        self.session.sampler([gpu_counter()], absent=[GONE])
        self.session.samples("gpu0.energy_counter", constant_counter(WATTS, J_PER_MJ_MILLI), until_s=110.2)
        self.session.stage("train", 104.0, 109.0)
        path = self.run.path / f"journal.{self.session.name}.fork-77-5f.jsonl"
        self.fork = fork_name(path)
        self._writer = JournalWriter(path)
        self.says("forked", 101.0, pid=77, parent_pid=1001)
        self.begins("score", "f77x1", None, 101.0)

    def says(self, event: str, t_s: float, **fields: Any) -> None:
        self._writer.write({"event": event, "t_ns": nanoseconds(t_s), **fields})

    def begins(self, name: str, stage_id: str, parent_id: str | None, t_s: float) -> None:
        told = {"stage_id": stage_id, "parent_id": parent_id, "name": name, "kind": "evaluate", "attempt": 1}
        self.says("stage_started", t_s, labels={}, **told)

    def gone(self, t_s: float, since_s: float) -> None:
        self.session.meter("fork_ended", t_s, fork=self.fork, since_ns=nanoseconds(since_s))

    def booked(self) -> tuple[RunRecord, dict[str, StageRecord]]:
        self._writer.close()
        self.session.end(110.0)
        record = build_record(self.run.path, liveness=DEAD)
        return record, {stage.name: stage for stage in record.stages}


def _interval(stage: StageRecord) -> tuple[float, float]:
    energy, gone = sorted(stage.energies, key=lambda part: isinstance(part, Absent))
    assert isinstance(energy, Energy)
    assert gone == GONE
    return energy.low_j, energy.high_j


def test_a_stage_ends_with_the_process_that_it_was_begun_in(runs_dir: Path) -> None:
    forked = ForkedRun(runs_dir)
    forked.begins("batch", "f77x2", "f77x1", 102.0)
    forked.gone(103.0, 103.0)
    record, stages = forked.booked()
    assert {name: stage.duration_s for name, stage in stages.items()} == {"train": 5.0, "score": 2.0, "batch": 1.0}
    assert [stages[name].status.value for name in ("score", "batch", "train")] == ["recovered", "recovered", "ended"]
    low_j, high_j = _interval(stages["train"])
    assert low_j <= 1000.0 <= high_j < 1100.0
    said = [warning for warning in record.warnings if "ended with the forked process" in warning]
    assert len(said) == 2
    assert not any("at most" in warning for warning in said)


def test_doubt_about_a_processes_end_is_in_everybodys_interval(runs_dir: Path) -> None:
    forked = ForkedRun(runs_dir)
    forked.gone(105.0, 103.5)
    record, stages = forked.booked()
    assert stages["score"].duration_s == 2.5
    score, train = _interval(stages["score"]), _interval(stages["train"])
    # had it lived to 105 s, it would have had half a second alone and a second beside the training
    assert score[0] <= 500.0 < 700.0 <= score[1] < 780.0
    assert train[0] <= 900.0 < 1000.0 <= train[1] < 1080.0
    assert any("and at most 1.5 s after that" in warning for warning in record.warnings)


def test_a_processes_own_last_word_is_a_sign_of_life(runs_dir: Path) -> None:
    forked = ForkedRun(runs_dir)
    forked.says("workload", 102.5, stage_id="f77x1", counts={"tokens": 3})
    forked.gone(102.0, 0.0)
    _, stages = forked.booked()
    assert stages["score"].duration_s == 1.5


def test_an_end_that_was_written_down_stands(runs_dir: Path) -> None:
    forked = ForkedRun(runs_dir)
    forked.says("stage_ended", 102.0, stage_id="f77x1", status="ended", error=None)
    forked.gone(103.0, 103.0)
    _, stages = forked.booked()
    assert (stages["score"].status.value, stages["score"].duration_s) == ("ended", 1.0)


@pytest.mark.parametrize("gone_s", [None, 110.1])
def test_a_process_that_outlives_the_session_has_its_stage_to_the_end(runs_dir: Path, gone_s: float | None) -> None:
    forked = ForkedRun(runs_dir)
    if gone_s is not None:
        forked.gone(gone_s, gone_s)
    _, stages = forked.booked()
    assert (stages["score"].status.value, stages["score"].duration_s) == ("recovered", 9.0)


def test_names_of_journals_lead_back_to_processes(tmp_path: Path) -> None:
    for name in ("journal.s-1.fork-7-a.jsonl", "journal.s-2.fork-8-b.jsonl", "journal.s-1.jsonl"):
        (tmp_path / name).touch()
    assert fork_names(tmp_path, "s-1") == ["7-a"]
