"""A sampling process that is lost while its program lives: noticed at once, replaced, and given up in the end."""

from __future__ import annotations

import os
import select
import signal
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import stillwatt
from fakes import FakeClock
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.rundir import meter_journals
from stillwatt.records import Energy
from stillwatt.workflows.measure import measure_command
from stillwatt.workflows.sampler_start import StartedSampler
from stillwatt.workflows.sampling_process import KeepingJournal, SamplingProcess

PATIENCE_S = 60
APART = """
import os
number = os.fork()
os.write(1, b"process %d\\n" % (number or os.getpid()))
if number:
    os._exit(0)
"""
READY = "print('ready', flush=True)"
SILENT = "it was killed, or ended without a word"
ENDED = "print('ended', flush=True)"
HEARS_ALL = f"import sys; {READY}; sys.stdin.read(); {ENDED}"
HUNDRED_W = {"synthetic": {"channels": [{"watts": 100.0}], "origin_ns": 1}}


@dataclass
class Said:
    """What was warned of, and what of it the record has to keep."""

    warned: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def __call__(self, what: str, *, keeps: bool = False) -> None:
        (self.kept if keeps else self.warned).append(what)


@dataclass
class Rig:
    sampler: SamplingProcess
    said: Said
    clock: FakeClock

    @property
    def process(self) -> StartedSampler:
        assert self.sampler.process is not None
        return self.sampler.process

    def begun(self) -> int:
        """Its number, once it has begun or is gone again."""
        _wait_until(lambda: self.process.is_gone() or bool(self.process.words))
        return self.process.pid

    def lose(self) -> None:
        """Have it killed, and gone."""
        pid = self.begun()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        gone(pid)


def gone(pid: int) -> None:
    """Wait until a process that is nobody's child here has ended."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], PATIENCE_S)[0]
        finally:
            os.close(descriptor)


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(script: str = HEARS_ALL, config: str = "x") -> Rig:
        said, clock = Said(), FakeClock()
        sampler = SamplingProcess({"told": config}, said, clock, command=[sys.executable, "-S", "-c", APART + script])
        made.append(Rig(sampler, said, clock))
        return made[-1]

    yield make
    for each in made:
        if each.sampler.process is not None:
            each.process.kill()
        each.sampler.stop()


def test_one_that_is_there_is_left_alone(rig: Callable[..., Rig]) -> None:
    here = rig()
    here.sampler.say("before it was started")
    here.sampler.look()
    here.sampler.start()
    first = here.process
    here.sampler.say("mark")
    here.sampler.look()
    assert here.process is first
    here.sampler.stop()
    assert (here.said.warned, here.said.kept) == ([], [])
    here.sampler.look()
    assert here.process is first


@pytest.mark.parametrize("notice", ["say", "look"])
def test_one_that_is_lost_is_replaced_at_once(rig: Callable[..., Rig], notice: str) -> None:
    here = rig()
    here.sampler.start()
    first = here.process
    here.lose()
    here.sampler.say("mark") if notice == "say" else here.sampler.look()
    assert here.begun() != first.pid
    assert not here.process.is_gone()
    assert here.said.kept == [f"was lost ({SILENT}); another takes its place, and between them this run has a gap"]
    here.sampler.say("mark")
    here.sampler.stop()
    assert here.said.warned == []


def test_one_that_is_lost_again_and_again_is_given_up(rig: Callable[..., Rig]) -> None:
    here = rig()
    here.sampler.start()
    for losses in range(1, 5):
        here.lose()
        lost = here.process
        here.sampler.look()
        if losses > 1:
            assert here.process is lost, "the next one waits a little"
            here.clock.advance(2.0 * losses)
            here.sampler.look()
        assert (here.process is lost) == (losses == 4)
    assert len(here.said.kept) == 4
    assert here.said.kept[-1].startswith(f"was lost again and again ({SILENT}); no other is started")
    here.sampler.look()
    here.sampler.say("mark")
    assert len(here.said.kept) == 4


def test_one_that_lasted_is_replaced_however_many_were_lost_before(rig: Callable[..., Rig]) -> None:
    here = rig()
    here.sampler.start()
    for _ in range(6):
        here.clock.advance(60.0)
        here.lose()
        lost = here.process
        here.sampler.look()
        assert here.process is not lost
    assert not any("again and again" in what for what in here.said.kept)


def test_the_next_one_says_why_it_cannot_go_on(rig: Callable[..., Rig], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"import os, sys; first = not os.path.exists({str(begun)!r}); open({str(begun)!r}, 'w').close()\n"
    script += f"if first: {READY}; sys.stdin.read()\nelse: print('failed no such card', flush=True); sys.exit(3)"
    here = rig(script)
    here.sampler.start()
    here.lose()
    here.sampler.look()
    gone(here.begun())
    here.clock.advance(10.0)
    here.sampler.look()
    assert "was lost (no such card); another takes its place" in here.said.kept[1]


def test_one_that_ends_by_itself_is_lost_as_well(rig: Callable[..., Rig]) -> None:
    here = rig(f"import sys; {READY}; sys.stdin.readline(); sys.stdin.readline(); sys.exit(4)")
    here.sampler.start()
    here.sampler.say("mark")
    gone(here.process.pid)
    here.sampler.look()
    assert here.said.kept[0].startswith(f"was lost ({SILENT});")


def test_a_replacement_that_cannot_be_started_is_tried_again(rig: Callable[..., Rig], tmp_path: Path) -> None:
    here = rig()
    here.sampler.start()
    good = here.sampler._command
    here.sampler._command = [str(tmp_path / "gone")]
    here.lose()
    first = here.process
    here.sampler.look()
    assert "and another cannot be started: " in here.said.kept[0]
    here.sampler._command = good
    here.clock.advance(2.0)
    here.sampler.look()
    assert here.process is not first


def test_a_replacement_that_ends_before_it_was_told_anything(rig: Callable[..., Rig], tmp_path: Path) -> None:
    """More is to be told than a pipe holds, so that the rest of it is still there when the pipe is closed."""
    here = rig(config="x" * (1 << 20))
    here.sampler.start()
    here.sampler._command = [sys.executable, "-S", "-c", "pass"]
    here.lose()
    here.sampler.look()
    assert "and another cannot be started: " in here.said.kept[0]
    gone(here.begun())
    here.clock.advance(2.0)
    here.sampler.look()
    assert here.said.kept[1].startswith(f"was lost ({SILENT}")


def test_a_pipe_that_somebody_else_holds_open_does_not_hold_the_program_up(rig: Callable[..., Rig]) -> None:
    """A process that was forked just when the pipes were made has both of their ends."""
    script = f"import os, sys, time\nif os.fork() == 0: time.sleep({PATIENCE_S})\n{READY}; sys.stdin.read()"
    here = rig(script)
    here.sampler.start()
    group = os.getpgid(here.process.pid)
    here.lose()
    here.process._look_s = 0.0  # a second later
    here.sampler.look()
    os.killpg(group, signal.SIGKILL)
    assert here.said.kept[0].startswith(f"was lost ({SILENT});")


def test_words_that_nobody_takes_are_let_go(rig: Callable[..., Rig]) -> None:
    here = rig(f"import sys, time; {READY}; sys.stdin.readline(); time.sleep({PATIENCE_S})")
    here.sampler.start()
    for _ in range(2000):
        here.sampler.say("x" * 1000)
    here.process.kill()
    assert here.said.warned == []


def test_who_is_in_the_middle_of_it_is_not_waited_for(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.workflows.sampling_process._LOCK_TIMEOUT_S", 0.01)
    here = rig()
    here.sampler.start()
    first = here.process
    with here.sampler._lock:
        here.lose()
        here.sampler.look()
        assert here.process is first
        here.sampler.stop()
    assert "was lost" in here.said.warned[0]


def test_one_that_does_not_stop_is_ended(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.workflows.sampling_process._STOP_TIMEOUT_S", 0.01)
    here = rig(f"import time; {READY}; time.sleep({PATIENCE_S})")
    here.sampler.start()
    pid = here.process.pid
    here.sampler.stop()
    gone(pid)
    assert here.said.warned[0].startswith("did not stop by itself")


def test_one_that_cannot_measure_is_not_tried_again(rig: Callable[..., Rig]) -> None:
    here = rig("print('failed no such sensor', flush=True)")
    here.sampler.start()
    first = here.process
    gone(first.pid)
    here.sampler.say("mark")
    here.sampler.look()
    assert here.process is first
    assert here.said.warned == ["cannot measure (no such sensor); this run's energy will be absent or incomplete"]


def test_a_forked_process_replaces_nothing(rig: Callable[..., Rig]) -> None:
    here = rig()
    here.sampler.go_on_forked()
    here.sampler.start()
    first = here.process
    here.sampler.go_on_forked()
    os.kill(first.pid, signal.SIGKILL)
    gone(first.pid)
    here.sampler.say("mark")
    here.sampler.look()
    assert here.process is first
    assert here.said.kept == []


def test_each_event_is_an_occasion_to_look() -> None:
    done: list[object] = []

    class Journal:
        def write(self, event: object) -> None:
            done.append(event)

    KeepingJournal(Journal(), lambda: done.append("looked")).write({"event": "mark"})
    assert done == [{"event": "mark"}, "looked"]


def _wait_until(is_so: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit_s, "it never came to be"
        time.sleep(0.02)


def _starts(run_dir: Path) -> int:
    return sum(
        event["event"] == "sampler_started" for path in meter_journals(run_dir) for event in read_journal(path).events
    )


def test_a_run_whose_sampling_process_is_killed_has_a_gap_and_goes_on(tmp_path: Path) -> None:
    """The counter that went on counting says what was drawn meanwhile."""
    with stillwatt.Run("lost", runs_dir=tmp_path, sensors=("synthetic",), options=HUNDRED_W) as run:
        with run.stage("train", kind="student_train") as stage:
            time.sleep(0.5)
            assert run._sampler is not None
            assert run._sampler.process is not None
            os.kill(run._sampler.process.pid, signal.SIGKILL)
            gone(run._sampler.process.pid)
            with pytest.warns(stillwatt.MeterWarning, match=r"was lost \(it was killed, .*\); another takes its place"):
                stage.state_energy("elsewhere", device="x", boundary="board", value_j=None, reason="told to write")
            _wait_until(lambda: _starts(run.run_dir) == 2)
            time.sleep(0.5)
    (train,) = run.result.stages
    energy = train.energies[0]
    assert isinstance(energy, Energy)
    assert energy.low_j <= 100.0 * train.duration_s <= energy.high_j
    assert run.result.gaps >= 1
    assert any("another takes its place" in warning for warning in run.result.warnings)
    assert not any("no samples after its last flush" in warning for warning in run.result.warnings)


def test_measuring_a_command_notices_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.workflows.measure._LOOK_S", 0.05)
    script = textwrap.dedent(
        f"""
        import os, pathlib, signal, time
        runs = pathlib.Path({str(tmp_path)!r})
        def started():
            return [line for path in runs.glob("*/*.meter.jsonl") for line in path.read_text().splitlines()
                    if '"sampler_started"' in line]
        import json
        os.kill(json.loads(started()[0])["pid"], signal.SIGKILL)
        limit_s = time.monotonic() + {PATIENCE_S}
        while len(started()) < 2 and time.monotonic() < limit_s:
            time.sleep(0.02)
        """
    )
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        threads = threading.active_count()
        outcome = measure_command([sys.executable, "-c", script], runs_dir=tmp_path, sensors=("synthetic",))
    assert threading.active_count() == threads
    assert outcome.exit_code == 0
    assert _starts(tmp_path / outcome.run_id) == 2
