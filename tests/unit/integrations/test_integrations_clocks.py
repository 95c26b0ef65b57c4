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


def test_two_ranks_mark_the_same_moments(runs_dir: Path, tmp_path: Path) -> None:
    ranks = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            "STILLWATT_RUN_GROUP": "two-ranks",
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", RANK, str(runs_dir), str(rank), str(tmp_path / "store")]
        ranks.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in ranks:
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
