"""Four ranks under launchers that are really there: one run, each card once, and nobody missed without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nvml_simulator_build import ENVIRONMENT, nvml_simulator_path
from slurm_cluster import SlurmCluster, missing
from stillwatt.ledger.rundir import list_run_dirs, sessions
from stillwatt.records import Energy, RunRecord
from stillwatt.workflows.books import show_run, verify

__all__ = ["nvml_simulator_path"]

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent.parent / "launched_program.py"
RANKS = 4
WATTS = (300.0, 100.0)
LAUNCHERS = ("mpirun of Open MPI", "mpiexec of MPICH", "srun", "srun by PMI-2", "mpirun of Open MPI in a SLURM job")


@dataclass(frozen=True)
class Launcher:
    """How four ranks are started, and what stillwatt is to take the launch for."""

    command: tuple[str, ...]
    kind: str
    environment: dict[str, str] = field(default_factory=dict)


def open_mpi() -> tuple[str, ...]:
    """Open MPI's command; another MPI's may have its name."""
    for name in ("mpirun.openmpi", "mpirun"):
        path = shutil.which(name)
        if path is not None:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
            if "Open MPI" in said or "OpenRTE" in said:
                return (path, "--allow-run-as-root", "--oversubscribe", "-n", str(RANKS))
    pytest.skip("no mpirun of Open MPI on this machine (Debian: openmpi-bin)")


def hydra() -> tuple[str, ...]:
    """MPICH's command."""
    path = shutil.which("mpiexec.hydra")
    if path is None:
        pytest.skip("no mpiexec.hydra on this machine (Debian: mpich)")
    return (path, "-n", str(RANKS))


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    why_not = missing()
    if why_not:
        pytest.skip(why_not)
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> Launcher:
    if request.param == "mpirun of Open MPI":
        return Launcher(open_mpi(), "openmpi")
    if request.param == "mpiexec of MPICH":
        return Launcher(hydra(), "pmi")
    cluster: SlurmCluster = request.getfixturevalue("slurm")
    if request.param == "srun":
        return Launcher(("srun", "-n", str(RANKS), "--overcommit"), "slurm", cluster.environment)
    if request.param == "srun by PMI-2":
        return Launcher(("srun", "--mpi=pmi2", "-n", str(RANKS), "--overcommit"), "pmi", cluster.environment)
    return Launcher(("salloc", "-n", "1", *open_mpi()), "openmpi", cluster.environment)


def launch(launcher: Launcher, runs_dir: Path, library: Path, *arguments: str) -> RunRecord:
    """Run the ranks and give the run they measured; the simulated cards began before all of them."""
    cards = " ; ".join(f"gpu watts={watts} uuid=GPU-{number}" for number, watts in enumerate(WATTS))
    environment = {
        **os.environ,
        **launcher.environment,
        ENVIRONMENT: f"driver=550.54 origin_ns={time.monotonic_ns()} ; {cards}",
    }
    command = [*launcher.command, sys.executable, str(PROGRAM), str(runs_dir), str(library), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    said = sorted(line for line in done.stdout.splitlines() if " of " in line)
    assert said == [f"{launcher.kind} {rank} of {RANKS}" for rank in range(RANKS)], done.stderr[-3000:]
    return show_run(runs_dir, "launch")


def check_each_card_once(record: RunRecord) -> None:
    """What the stages of all ranks drew of a card adds up to what it drew while any of them was open."""
    union_s = max(span.end_s for span in record.spans) - min(span.start_s for span in record.spans)
    for part, watts in zip(("gpu0", "gpu1"), WATTS, strict=True):
        energies = [energy for stage in record.stages for energy in stage.energies if energy.part == part]
        assert all(isinstance(energy, Energy) for energy in energies)
        drawn_j = sum(energy.value_j for energy in energies if isinstance(energy, Energy))
        assert drawn_j == pytest.approx(watts * union_s, rel=0.05)


def test_ranks_measure_one_run_and_another_launch_another(
    launcher: Launcher, tmp_path: Path, nvml_simulator_path: Path
) -> None:
    records = [launch(launcher, tmp_path, nvml_simulator_path, "2") for _ in range(2)]
    assert len({record.run_id for record in records}) == 2
    run_dirs = list_run_dirs(tmp_path)
    assert len(run_dirs) == 2
    assert [len(sessions(run_dir)) for run_dir in run_dirs] == [RANKS] * 2
    for record in records:
        assert record.complete, record.warnings
        assert sorted(stage.labels["rank"] for stage in record.stages) == list("0123")
        assert sum(stage.workload["tokens"] for stage in record.stages) == 406
        check_each_card_once(record)
    assert not [finding for finding in verify(tmp_path) if finding.severity.value == "error"]


def test_a_rank_that_never_came_makes_the_run_incomplete(
    launcher: Launcher, tmp_path: Path, nvml_simulator_path: Path
) -> None:
    record = launch(launcher, tmp_path, nvml_simulator_path, "1", "--without", "2")
    assert not record.complete
    assert any("1 of 4 ranks have no journal here (2)" in warning for warning in record.warnings)
    assert len(record.stages) == RANKS - 1
    check_each_card_once(record)
