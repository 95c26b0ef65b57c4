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
SCRIPT = ("sh", "-c", '"$@"; exit $?', "sh")
"""What people put between launcher and program, to choose a card or to set a variable."""
LAUNCHERS = (
    "mpirun of Open MPI",
    "mpiexec of MPICH",
    "mpiexec of MPICH and a script",
    "srun",
    "srun by PMI-2",
    "mpirun of Open MPI in a SLURM job",
    "mpiexec of MPICH in a SLURM job",
)


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
    name: str = request.param
    steps = ("srun", "-n", str(RANKS), "--overcommit")
    if "Open MPI" in name:
        command, kind = open_mpi(), "openmpi"
    elif "MPICH" in name:
        command, kind = hydra(), "pmi"
    elif "PMI-2" in name:
        command, kind = (*steps, "--mpi=pmi2"), "pmi"
    else:
        command, kind = steps, "slurm"
    if "script" in name:
        command = (*command, *SCRIPT)
    if "SLURM job" in name:
        command = ("salloc", "-n", "1", *command)
    if not {"srun", "salloc"} & set(command):
        return Launcher(command, kind)
    cluster: SlurmCluster = request.getfixturevalue("slurm")
    return Launcher(command, kind, cluster.environment)


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


def test_a_launch_is_one_run_and_the_next_another_that_tells_who_never_came(
    launcher: Launcher, tmp_path: Path, nvml_simulator_path: Path
) -> None:
    record = launch(launcher, tmp_path, nvml_simulator_path, "1.2")
    assert record.complete, record.warnings
    assert sorted(stage.labels["rank"] for stage in record.stages) == list("0123")
    assert sum(stage.workload["tokens"] for stage in record.stages) == 406
    check_each_card_once(record)

    later = launch(launcher, tmp_path, nvml_simulator_path, "0.5", "--without", "2")
    assert later.run_id != record.run_id
    assert later.complete, later.warnings  # the others measured the machine
    assert any("1 of 4 ranks opened no run here (2)" in warning for warning in later.warnings)
    assert sorted(stage.labels["rank"] for stage in later.stages) == list("013")

    counts = {run_dir.name: len(sessions(run_dir)) for run_dir in list_run_dirs(tmp_path)}
    assert counts == {record.run_id: RANKS, later.run_id: RANKS - 1}
    assert not [finding for finding in verify(tmp_path) if finding.severity.value == "error"]
