"""Ranks that pass a barrier together note the moment, so that their clocks can be compared; real process group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration_runs import synthetic_run
from stillwatt.integrations.clocks import tie_clocks
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import read_run
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.workflows.books import show_run

pytest.importorskip("torch", reason="the extra 'distill' is not installed")

RANK = """
import sys
import torch.distributed
from integration_runs import synthetic_run
from pathlib import Path
from stillwatt.integrations.clocks import tie_clocks

runs_dir, rank, store = sys.argv[1:]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
with synthetic_run(Path(runs_dir)) as run:
    assert tie_clocks(run, "train_begin")
    assert tie_clocks(run, "train_end")
    assert tie_clocks(None, "nothing is measured")
torch.distributed.destroy_process_group()
"""


def started(program: str, runs_dir: Path, tmp_path: Path, **more: str) -> list[subprocess.Popen[str]]:
    """Two ranks of one launch, which know no more of each other than a store."""
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            "STILLWATT_RUN_GROUP": "two-ranks",
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
            **more,
        }
        command = [sys.executable, "-c", program, str(runs_dir), str(rank), str(tmp_path / "store")]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return processes


def test_two_ranks_mark_the_same_moments(runs_dir: Path, tmp_path: Path) -> None:
    for process in started(RANK, runs_dir, tmp_path):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    (run_dir,) = list_run_dirs(runs_dir)
    marks = [session.marks for session in read_run(run_dir, liveness=ThisHost()).sessions]
    assert [list(passed) for passed in marks] == [["train_begin 1", "train_end 1"]] * 2


def test_a_program_without_a_process_group_waits_for_nobody(runs_dir: Path) -> None:
    with synthetic_run(runs_dir) as run:
        assert not tie_clocks(run, "alone")
    assert read_run(run.run_dir, liveness=ThisHost()).sessions[0].marks == {}


def test_a_group_of_one_marks_too(runs_dir: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        with synthetic_run(runs_dir) as run:
            assert tie_clocks(run, "alone")
            assert tie_clocks(None, "nothing is measured")
    finally:
        distributed.destroy_process_group()
    assert list(read_run(run.run_dir, liveness=ThisHost()).sessions[0].marks) == ["alone 1"]


ALONE = """
import sys, warnings
import torch.distributed as distributed
from pathlib import Path
from integration_runs import synthetic_run
from stillwatt.integrations import clocks
from stillwatt.integrations.stage_hook import StageHook

runs_dir, rank, store = sys.argv[1:]
clocks._FIRST_WAIT_S = 0.2
warnings.simplefilter("ignore")
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
with synthetic_run(Path(runs_dir)) as run:
    if rank == "0":
        hook = StageHook(run, None, None)
        hook._tie("train_begin")
        hook._tie("train_end")
    number = __import__("torch").ones(1)
    distributed.all_reduce(number)
    assert number.item() == 2.0
distributed.destroy_process_group()
"""


def test_a_rank_that_has_the_hook_alone_hangs_nobody_and_says_so(runs_dir: Path, tmp_path: Path) -> None:
    """Who gives the callback to the first rank alone has a training that goes on; its collectives are its own."""
    for process in started(ALONE, runs_dir, tmp_path, LOCAL_WORLD_SIZE=""):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    (run_dir,) = list_run_dirs(runs_dir)
    facts = read_run(run_dir, liveness=ThisHost())
    assert [session.marks for session in facts.sessions] == [{}, {}]
    (said,) = [text for text in show_run(runs_dir, run_dir.name).warnings if "clocks" in text]
    assert "not all of 2 ranks came to 'train_begin'" in said
    assert "give the callback to every rank" in said


def test_ranks_of_one_machine_wait_for_nobody(runs_dir: Path, tmp_path: Path) -> None:
    """They have one clock."""
    for process in started(ALONE, runs_dir, tmp_path, LOCAL_WORLD_SIZE="2"):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    (run_dir,) = list_run_dirs(runs_dir)
    assert not show_run(runs_dir, run_dir.name).warnings
