"""A program that forks: what its children do is on the books, in the stage they were forked in."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

import stillwatt
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.rundir import sessions
from stillwatt.records import Energy, StageRecord

LENGTH_S = 0.2
PATIENCE_S = 60


def fork(work: Callable[[], object]) -> int:
    """Do something in a forked process that then ends without unwinding; gives its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads are of no concern to this child
        pid = os.fork()
    if pid == 0:
        status = 1
        _end_in_time()
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def _end_in_time() -> None:
    """Have this process say where it stands, and end, should it wait for something that never comes."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(PATIENCE_S)


def join(*pids: int) -> None:
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0  # it ends itself, and says where it stood, after `PATIENCE_S`


def by_name(run: stillwatt.Run) -> dict[str, StageRecord]:
    return {stage.name: stage for stage in run.result.stages}


@pytest.fixture
def run(tmp_path: Path) -> stillwatt.Run:
    return stillwatt.Run("forks", runs_dir=tmp_path, sensors=("synthetic",))


def test_stages_of_forked_processes_lie_in_the_one_they_were_forked_in(run: stillwatt.Run) -> None:
    def work(number: int) -> None:
        with run.stage(f"shard-{number}") as stage:
            stage.add_tokens(10 + number)
            time.sleep(LENGTH_S)

    with run:
        with run.stage("generate", kind="teacher_generate"):
            children = [fork(partial(work, number)) for number in range(3)]
            join(*children)
        with run.stage("after"):
            time.sleep(LENGTH_S)
    stages = by_name(run)
    assert {name: stage.parent_id for name, stage in stages.items()} == {
        "generate": None,
        "after": None,
        **{f"shard-{number}": stages["generate"].stage_id for number in range(3)},
    }
    assert [stages[f"shard-{number}"].workload for number in range(3)] == [
        {"tokens": 10},
        {"tokens": 11},
        {"tokens": 12},
    ]
    assert len({stage.stage_id for stage in run.result.stages}) == 5
    assert run.result.complete
    assert run.result.warnings == ()
    assert list(conservation_findings(run.result)) == []


def test_a_program_that_goes_to_another_folder_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stillwatt.Run("forks", runs_dir="runs", sensors=("synthetic",))

    def work() -> None:
        with run.stage("shard") as stage:
            stage.add_tokens(10)
            time.sleep(LENGTH_S)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with run, run.stage("generate"):
        monkeypatch.chdir(tmp_path / "elsewhere")
        join(fork(work))
    assert run.run_dir.parent == tmp_path / "runs"
    assert by_name(run)["shard"].workload == {"tokens": 10}
    assert run.result.warnings == ()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_worker_may_count_for_its_parents_stage_and_does_not_end_it(run: stillwatt.Run) -> None:
    with run, run.stage("load") as stage:
        stage.add_tokens(5)

        def leaves_the_block() -> None:
            stage.add_tokens(7)
            stage.close()
            with pytest.raises(SystemExit), run, run.stage("nothing"):
                raise SystemExit

        join(fork(leaves_the_block))
        time.sleep(LENGTH_S)
    load = by_name(run)["load"]
    assert load.workload == {"tokens": 12}
    assert load.status.value == "ended"
    assert load.duration_s >= LENGTH_S


def test_a_forked_process_that_does_nothing_leaves_nothing(run: stillwatt.Run) -> None:
    with run:
        join(fork(lambda: None))
    (paths,) = sessions(run.run_dir).values()
    assert paths.forks == ()
    assert run.result.complete


def test_a_forked_process_leaves_the_sampling_process_alone(run: stillwatt.Run, tmp_path: Path) -> None:
    """A file that it opens must not get the number of the pipe of words, or these would go there."""

    with run, run.stage("outer"):

        def work() -> None:
            with ExitStack() as files:
                for number in range(10):
                    files.enter_context(open(tmp_path / f"own {number}", "w"))
                with run.stage("child"):
                    pass

        join(fork(work))
    assert [(tmp_path / f"own {number}").read_text() for number in range(10)] == [""] * 10
    assert {"outer", "child"} == set(by_name(run))
    assert run.result.complete


WARNS = """
import os, warnings, sys
import stillwatt
with stillwatt.Run("forks", runs_dir=sys.argv[1], sensors=("synthetic",)) as run:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_fork_warns_of_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "always", "-c", WARNS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ResourceWarning" not in done.stderr


def test_leaving_the_runs_block_in_a_forked_process_ends_nothing(run: stillwatt.Run) -> None:
    with run:
        join(fork(lambda: run.__exit__(None, None, None)))
        with run.stage("work"):
            time.sleep(LENGTH_S)
    assert by_name(run)["work"].status.value == "ended"
    assert run.result.complete


def test_a_lock_that_another_thread_held_at_the_fork_holds_nobody_up(run: stillwatt.Run) -> None:
    def work() -> None:
        with run.stage("child"):
            pass

    with run, run.stage("outer") as stage:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with stage._lock, run.meter._lock:
                held.set()
                done.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        child = fork(work)
        done.set()
        thread.join()
        join(child)
    assert set(by_name(run)) == {"outer", "child"}


def test_what_a_killed_worker_began_is_recovered(run: stillwatt.Run) -> None:
    def dies() -> None:
        with run.stage("shard"):
            os._exit(0)

    with run, run.stage("generate"):
        join(fork(dies))
        time.sleep(LENGTH_S)
    shard = by_name(run)["shard"]
    assert shard.status.value == "recovered"
    assert any("was cut off" in warning for warning in run.result.warnings)


def wait_for_word(run: stillwatt.Run, word: str) -> None:
    """Wait until the sampling process has written an event of that name."""
    for _ in range(1000):
        if any(f'"{word}"' in path.read_text() for path in run.run_dir.glob("journal.*.meter.jsonl")):
            return
        time.sleep(0.01)
    raise AssertionError(f"no {word} in ten seconds")


def test_a_worker_that_was_ended_draws_nothing_from_what_comes_after_it(tmp_path: Path) -> None:
    """As `Pool` does when its block is left: whoever is in the middle of something never gets to say so."""
    hundred_w = {"synthetic": {"channels": [{"watts": 100.0}]}}

    def waits() -> None:
        with run.stage("score"):
            os.write(begun, b".")
            time.sleep(PATIENCE_S)

    with stillwatt.Run("pool", runs_dir=tmp_path, sensors=("synthetic",), options=hundred_w) as run:
        told, begun = os.pipe()
        forked_s = time.monotonic()
        worker = fork(waits)
        os.read(told, 1)
        time.sleep(LENGTH_S)
        os.kill(worker, signal.SIGTERM)
        os.waitpid(worker, 0)
        wait_for_word(run, "fork_ended")  # on a machine that is full its sampling process may be late to see it
        longest_s = time.monotonic() - forked_s  # and any of these steps may take its time there
        with run.stage("train"):
            time.sleep(1.0)
        os.close(told)
        os.close(begun)
    stages = by_name(run)
    score, train = stages["score"], stages["train"]
    assert score.status.value == "recovered"
    assert LENGTH_S <= score.duration_s <= longest_s
    (energy,) = train.energies
    assert isinstance(energy, Energy)
    assert energy.low_j <= 100.0 * train.duration_s <= energy.high_j
    assert energy.high_j - energy.low_j < 0.2 * energy.value_j
    assert any("ended with the forked process that it was begun in" in warning for warning in run.result.warnings)
    assert run.result.complete


def test_a_workers_own_files_are_never_written_to_by_the_meter(run: stillwatt.Run, tmp_path: Path) -> None:
    """What a forked process opens first must not get the number of the pipe that tells of edges."""
    path = tmp_path / "out.txt"

    def writes() -> None:
        with path.open("w") as file, run.stage("shard"):
            file.write("mine")
            time.sleep(1.0)  # for the word of it to be heard while it lives, on a machine that is full too

    with run:
        join(fork(writes))
    assert path.read_text() == "mine"
    (meter,) = [paths.meter for paths in sessions(run.run_dir).values()]
    assert meter is not None
    (ended,) = [event for event in read_journal(meter).events if event["event"] == "fork_ended"]
    assert ended["since_ns"] == ended["t_ns"], "the sampling process heard of it, and watched it to its end"


def test_a_measured_function_in_a_forked_process_is_a_stage_of_the_same_run(run: stillwatt.Run) -> None:
    @stillwatt.measured("shard")
    def work() -> None:
        time.sleep(LENGTH_S)

    with run, stillwatt.measured("generate"):
        join(fork(work))
    stages = by_name(run)
    assert stages["shard"].parent_id == stages["generate"].stage_id
    assert run.result.complete


def test_a_forked_process_that_leaves_the_block_does_not_rest(tmp_path: Path) -> None:
    run = stillwatt.Run("forks", runs_dir=tmp_path, sensors=("synthetic",), idle_s=0.1)
    with run:
        join(fork(lambda: run.__exit__(None, None, None)))
    assert [stage.name for stage in run.result.stages] == ["idle_baseline", "idle_after"]
