"""Ranks of a real launch: one run, one count of each card, whoever reads it and however many there are."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nvml_simulator_build import ENVIRONMENT, nvml_simulator_path
from stillwatt.ledger.rundir import list_run_dirs, sessions
from stillwatt.records import Energy, RunRecord, Total
from stillwatt.workflows.books import show_run, verify

__all__ = ["nvml_simulator_path"]

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent.parent / "rank_program.py"
RANKS = 4
WATTS = (300.0, 100.0)
GAIN = 0.05


def launch(runs_dir: Path, library: Path, *arguments: str) -> RunRecord:
    """Run the ranks under torchrun and give the run they measured; the simulated cards began before all of them."""
    pytest.importorskip("torch")
    cards = " ; ".join(f"gpu watts={watts} uuid=GPU-{number}" for number, watts in enumerate(WATTS))
    environment = {
        **os.environ,
        ENVIRONMENT: f"driver=550.54 origin_ns={time.monotonic_ns()} ; {cards}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command += [str(PROGRAM), str(runs_dir), str(library), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return show_run(runs_dir, "launch")


def card_j(record: RunRecord, part: str) -> float:
    """What all stages drew of a card."""
    found = [energy for stage in record.stages for energy in stage.energies if energy.part == part]
    assert all(isinstance(energy, Energy) for energy in found)
    return sum(energy.value_j for energy in found if isinstance(energy, Energy))


def total_j(record: RunRecord) -> float:
    assert isinstance(record.total, Total)
    return record.total.value_j


def test_four_ranks_measure_one_run_and_each_card_once(tmp_path: Path, nvml_simulator_path: Path) -> None:
    record = launch(tmp_path, nvml_simulator_path, "4")
    (run_dir,) = list_run_dirs(tmp_path)
    assert len(sessions(run_dir)) == RANKS
    assert record.complete
    assert not [finding for finding in verify(tmp_path) if finding.severity.value == "error"]
    assert [stage.labels["rank"] for stage in sorted(record.stages, key=lambda s: s.stage_id)] == list("0123")
    assert sum(stage.workload["tokens"] for stage in record.stages) == 406
    # all ranks use both cards at once: what a card drew is divided among them, and adds up to what it drew
    for part, watts in zip(("gpu0", "gpu1"), WATTS, strict=True):
        union_s = max(s.end_s for s in record.spans) - min(s.start_s for s in record.spans)
        assert card_j(record, part) == pytest.approx(watts * union_s, rel=0.02)
    assert total_j(record) == pytest.approx(sum(WATTS) * record.duration_s, rel=0.1)


def test_whoever_is_left_goes_on_reading(tmp_path: Path, nvml_simulator_path: Path) -> None:
    """Rank 0 opened the run and read the cards; the others take over as soon as it ends."""
    record = launch(tmp_path, nvml_simulator_path, "4", "--leave-early")
    assert record.complete, record.warnings
    ranks = {stage.labels["rank"]: stage for stage in record.stages}
    assert ranks["0"].duration_s < 2 < ranks["3"].duration_s
    for energy in (energy for stage in record.stages for energy in stage.energies):
        assert isinstance(energy, Energy)
        assert energy.missing_s == 0
        assert energy.coverage > 0.9
    union_s = max(s.end_s for s in record.spans) - min(s.start_s for s in record.spans)
    assert card_j(record, "gpu0") == pytest.approx(WATTS[0] * union_s, rel=0.02)


def test_the_same_launch_again_is_another_run(tmp_path: Path, nvml_simulator_path: Path) -> None:
    first = launch(tmp_path, nvml_simulator_path, "0.3")
    second = launch(tmp_path, nvml_simulator_path, "0.3")
    assert first.run_id != second.run_id
    assert len(second.stages) == RANKS


ANY_PROCESS = """
import sys, time, stillwatt
constant = {"synthetic": {"channels": [{"watts": 100.0}], "origin_ns": int(sys.argv[2])}}
with stillwatt.Run("anyhow", runs_dir=sys.argv[1], sensors=("synthetic",), options=constant) as run:
    with run.stage("work", kind="teacher_generate") as stage:
        time.sleep(1.5)
        stage.add_tokens(7)
"""


def run_anyhow(runs_dir: Path, commands: list[list[str]], environment: dict[str, str]) -> RunRecord:
    """Start the same program several times at once, by whatever means, and give the one run they measured."""
    origin_ns = str(time.monotonic_ns())
    running = [
        subprocess.Popen(
            [*command, sys.executable, "-c", ANY_PROCESS, str(runs_dir), origin_ns], env={**os.environ, **environment}
        )
        for command in commands
    ]
    assert [each.wait(timeout=120) for each in running] == [0] * len(running)
    assert len(list_run_dirs(runs_dir)) == 1
    return show_run(runs_dir, "anyhow")


def check_one_count(record: RunRecord, processes: int) -> None:
    """The synthetic instrument is one device: what it gave is divided among all, and adds up to one device's energy."""
    assert record.complete, record.warnings
    assert len(record.stages) == processes
    assert sum(stage.workload["tokens"] for stage in record.stages) == 7 * processes
    union_s = max(span.end_s for span in record.spans) - min(span.start_s for span in record.spans)
    for trace in record.traces:
        watts = statistics.median(point.mean_w for point in trace.points)
        assert card_j(record, trace.part) == pytest.approx(watts * union_s, rel=0.05)


def test_processes_that_share_a_word_share_a_run(tmp_path: Path) -> None:
    """As Ray's workers do, or anybody's own scripts: no numbers, one name of the job."""
    record = run_anyhow(tmp_path, [[], [], []], {"STILLWATT_RUN_GROUP": "job"})
    check_one_count(record, 3)


def test_ranks_of_mpi_share_a_run(tmp_path: Path) -> None:
    mpirun = shutil.which("mpirun.openmpi") or shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("no mpirun on this machine (Debian: openmpi-bin)")
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-np", "3"]
    record = run_anyhow(tmp_path, [command], {})
    check_one_count(record, 3)
    assert sorted(stage.stage_id for stage in record.stages) == ["r0a1", "r1a1", "r2a1"]
