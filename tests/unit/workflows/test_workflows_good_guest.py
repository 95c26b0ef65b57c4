"""What a measured program does with its children and its descriptors is its own affair: the meter is not in its way.

Each program runs by itself, with a limit: what goes wrong here would wait for ever or write into a program's own file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs, meter_journals
from stillwatt.records import Energy, RunRecord, StageStatus

PATIENCE_S = 60
BEGIN = """
import json, os, signal, subprocess, sys, time, warnings
from pathlib import Path
import stillwatt
here = Path(sys.argv[1])
options = {"synthetic": {"channels": [{"watts": 100.0}], "origin_ns": 1}}
run = stillwatt.Run("guest", runs_dir=here / "runs", sensors=("synthetic",), options=options)

def children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()

def said(event):
    return [line for path in here.glob("runs/*/*.meter.jsonl") for line in path.read_text().splitlines()
            if f'"event":"{event}"' in line]

def wait_for(is_so):
    limit_s = time.monotonic() + 40
    while not is_so():
        assert time.monotonic() < limit_s
        time.sleep(0.02)

def own_files():
    return [open(here / f"own-{number}.txt", "w") for number in range(12)]

def are_mine(files):
    for file in files:
        file.write("mine")
        file.close()
    return all(Path(file.name).read_text() == "mine" for file in files)
"""


def told(folder: Path, program: str, *, status: int = 0) -> Any:
    """Run a program that prints one line of JSON; gives that."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program), str(folder)],
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == status
    return json.loads(done.stdout or "null")


def record(folder: Path) -> RunRecord:
    (run_dir,) = list_run_dirs(folder / "runs")
    return build_record(run_dir)


def samplers(folder: Path) -> list[int]:
    """The numbers of all sampling processes there were."""
    (run_dir,) = list_run_dirs(folder / "runs")
    events = [event for path in meter_journals(run_dir) for event in read_journal(path).events]
    return [int(event["pid"]) for event in events if event["event"] == "sampler_started"]


def are_gone(pids: list[int]) -> bool:
    """Wait until processes are gone, or all but reaped by whoever inherited them."""
    host = ThisHost()
    limit_s = time.monotonic() + PATIENCE_S
    while any(host.is_alive(host._host, host._boot, pid, time.monotonic_ns()) is not False for pid in pids):
        if time.monotonic() > limit_s:
            return False
        time.sleep(0.02)
    return True


REAPING = {
    "waits": """
        def reap():
            while True:
                try:
                    yield os.wait()[0]
                except ChildProcessError:
                    return
        """,
    "polls": """
        def reap():
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if pid:
                    yield pid
                time.sleep(0.001)
        """,
}


@pytest.mark.parametrize("how", REAPING)
def test_a_program_that_waits_for_all_its_children_has_only_its_own(tmp_path: Path, how: str) -> None:
    found = told(
        tmp_path,
        textwrap.dedent(REAPING[how])
        + textwrap.dedent(
            """
            with run, run.stage("reap"):
                counted = len(children())
                own = [os.spawnlp(os.P_NOWAIT, "true", "true") for _ in range(3)]
                print(json.dumps([counted, sorted(own) == sorted(reap())]))
            assert not children()
            """
        ),
    )
    assert found == [0, True]
    (stage,) = record(tmp_path).stages
    assert isinstance(stage.energies[0], Energy)
    assert record(tmp_path).complete
    assert are_gone(samplers(tmp_path))


@pytest.mark.parametrize(
    "handler",
    ["signal.SIG_IGN", "lambda *_: os.wait()", "lambda *_: [0 for _ in iter(lambda: os.waitpid(-1, 1)[0], 0)]"],
    ids=["ignored", "one", "all"],
)
def test_a_program_may_do_as_it_likes_when_a_child_ends(tmp_path: Path, handler: str) -> None:
    told(
        tmp_path,
        f"""
        def guarded(*given):
            try:
                return ({handler})(*given)
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, {handler} if "SIG_IGN" in {handler!r} else guarded)
        warnings.simplefilter("error")
        with run, run.stage("work") as stage:
            stage.add_tokens(5)
        """,
    )
    assert record(tmp_path).complete
    assert record(tmp_path).stages[0].workload == {"tokens": 5}
    assert are_gone(samplers(tmp_path))


def test_another_sampling_process_is_no_child_either(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        """
        warnings.simplefilter("ignore")
        with run, run.stage("work") as stage:
            os.kill(json.loads(said("sampler_started")[0])["pid"], signal.SIGKILL)
            wait_for(lambda: (run.look(), len(said("sampler_started")))[-1] == 2)
            wait_for(lambda: (run.look(), not children())[-1])
            print(json.dumps(children()))
        """,
    )
    assert found == []
    assert record(tmp_path).status is StageStatus.ENDED
    assert any("another takes its place" in warning for warning in record(tmp_path).warnings)
    assert are_gone(samplers(tmp_path))


def test_a_program_that_inherits_orphans_is_left_no_dead_one(tmp_path: Path) -> None:
    """As the first process of a container does; it asks for that itself here."""
    found = told(
        tmp_path,
        """
        import ctypes
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        with run, run.stage("work"):
            before = len(children())
        print(json.dumps([before, children()]))
        """,
    )
    assert found == [1, []]
    assert record(tmp_path).complete


def test_a_program_that_is_killed_ends_its_sampling_process(tmp_path: Path) -> None:
    """A process that it forked lives on, and holds the pipe of the sampling process open."""
    told(
        tmp_path,
        """
        with run, run.stage("work"):
            if not (pid := os.fork()):
                os.close(1)
                time.sleep(600)
            (here / "forked").write_text(str(pid))
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        status=-9,
    )
    try:
        assert are_gone(samplers(tmp_path))
    finally:
        os.kill(int((tmp_path / "forked").read_text()), 9)
    (run_dir,) = list_run_dirs(tmp_path / "runs")
    (journal,) = meter_journals(run_dir)
    assert "parent_lost" in [event["event"] for event in read_journal(journal).events]


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_a_program_that_closes_all_descriptors_has_its_files_to_itself(tmp_path: Path, is_long: bool) -> None:
    found_mine = told(
        tmp_path,
        f"""
        warnings.simplefilter("ignore")
        with run:
            with run.stage("before") as stage:
                stage.add_tokens(1)
                os.closerange(3, 256)
                files = own_files()
            with run.stage("after") as stage:
                stage.add_tokens(2)
                if {is_long}:
                    wait_for(lambda: (run.look(), len(said("sampler_started")))[-1] == 2)
        print(json.dumps(are_mine(files)))
        """,
    )
    assert found_mine
    found = record(tmp_path)
    assert [dict(stage.workload) for stage in found.stages] == [{"tokens": 1}, {"tokens": 2}]
    assert found.status is StageStatus.ENDED
    assert any("opened anew, and nothing of it is lost" in warning for warning in found.warnings)
    assert any("another takes its place" in warning for warning in found.warnings) == is_long
    assert are_gone(samplers(tmp_path))


def test_a_process_that_was_forked_and_closes_all_descriptors_is_measured_on(tmp_path: Path) -> None:
    """As libraries do that make a daemon of a program."""
    told(
        tmp_path,
        """
        with run, run.stage("work"):
            if not (pid := os.fork()):
                os.setsid()
                os.closerange(3, 256)
                files = own_files()
                for number in range(3):
                    with run.stage(f"served-{number}") as stage:
                        stage.add_tokens(10)
                os._exit(0 if are_mine(files) else 1)
            assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    served = [dict(stage.workload) for stage in record(tmp_path).stages if stage.name.startswith("served")]
    assert served == [{"tokens": 10}] * 3
    assert record(tmp_path).complete
