"""Which processes belong to one run: ranks that a launcher started, told by their environment; standard library only.

Every rank opens `Run(name)`; the ranks of one launch that give it one name measure one run, each as a session of its
own. Where they share a folder of runs, the first creates the run directory and the others find it. Where they do not
(nodes with disks of their own), each node has a directory with the same `group` in its manifest, and
`stillwatt ledger post` brings them together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stillwatt.ledger.environment import host_name

_SLURM_SPECIAL_STEPS = 0xFFFF_FFF0
"""Step numbers from here on are no launches: an interactive shell, a batch script, what SLURM does for itself."""


STARTED_AGAIN = "started again"
"""What stands for the launcher of a rank that the program itself has started (`ledger.launched`)."""
_THIS_HOST = ("localhost", "127.0.0.1", "::1")


class LaunchGroup(NamedTuple):
    """One process's place among those of a launch."""

    launcher: str
    launch_id: str
    """The same in all ranks of one launch, and in no other launch as far as the launcher sees to it."""
    rank: int | None
    """None where processes have no numbers; who is missing cannot be told then."""
    world_size: int
    restart: int = 0
    """How often the launcher has started its ranks anew."""

    @property
    def member(self) -> str:
        """What tells this process from the others of its launch."""
        if self.rank is None:
            return f"{host_name()}-{os.getpid()}"
        return f"{self.rank}-{self.restart}"

    @property
    def stage_prefix(self) -> str:
        """What sets this process's stage ids apart."""
        return f"p{os.getpid()}" if self.rank is None else f"r{self.rank}"

    def place(self, name: str) -> dict[str, Any]:
        """What a session says of itself that is of this launch."""
        launch = "" if self.launcher == STARTED_AGAIN else self.key(name)
        return {"rank": self.rank, "world_size": self.world_size or None, "launch": launch}

    def key(self, name: str) -> str:
        """What names this run among all: launch and name, hashed."""
        import hashlib

        text = f"{self.launcher}\0{self.launch_id}\0{name}"
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


def launch_group(environment: Mapping[str, str]) -> LaunchGroup | None:
    """The launch that a process's environment tells of; None for a process on its own.

    Looked for are, innermost launcher first: `STILLWATT_RUN_GROUP` (with `STILLWATT_RANK` and `STILLWATT_WORLD_SIZE`
    where processes have numbers: Ray's workers have none); torchrun; Open MPI; MPICH and others that speak PMI; SLURM
    steps; the variables by which torch's own ranks find each other, which DeepSpeed's launcher and others set. Numbers
    that make no sense count as no launch.

    >>> launch_group({"STILLWATT_RUN_GROUP": "job7", "STILLWATT_RANK": "1", "STILLWATT_WORLD_SIZE": "4"}).rank
    1
    """
    for find in (_by_hand, _torchrun, _open_mpi, _pmi, _slurm, _rendezvous):
        with contextlib.suppress(KeyError, ValueError):
            found = find(environment)
            if found is not None and (found.rank is None or 0 <= found.rank < found.world_size):
                return found
    return None


def _by_hand(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = env["STILLWATT_RUN_GROUP"]
    if "STILLWATT_RANK" not in env:
        return LaunchGroup(launcher="stillwatt", launch_id=launch_id, rank=None, world_size=0)
    rank, size = int(env["STILLWATT_RANK"]), int(env["STILLWATT_WORLD_SIZE"])
    return LaunchGroup(launcher="stillwatt", launch_id=launch_id, rank=rank, world_size=size)


def _torchrun(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = f"{env['TORCHELASTIC_RUN_ID']} {env.get('MASTER_ADDR', '')}:{env.get('MASTER_PORT', '')}"
    if int(env.get("GROUP_WORLD_SIZE", "1")) == 1:
        # the default run id and port come again with every launch
        launch_id += f" {_starter(env, 'RANK', 'MASTER_PORT', 'TORCHELASTIC_RUN_ID')}"
    else:
        launch_id += f" {env.get('SLURM_JOB_ID', '')}"
    return LaunchGroup(
        launcher="torchrun",
        launch_id=launch_id,
        rank=int(env["RANK"]),
        world_size=int(env["WORLD_SIZE"]),
        restart=int(env.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def _open_mpi(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or env["OMPI_MCA_orte_hnp_uri"]
    rank, size = int(env["OMPI_COMM_WORLD_RANK"]), int(env["OMPI_COMM_WORLD_SIZE"])
    return LaunchGroup(launcher="openmpi", launch_id=launch_id, rank=rank, world_size=size)


def _pmi(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = env.get("PMI_JOBID") or env.get("PALS_APID")
    if not launch_id:
        # MPICH tells of no job. In one of SLURM it begins a step with every launch, but not in an interactive shell;
        # what all ranks on a host have in common is the proxy that started them.
        launch_id = f"{env.get('SLURM_JOB_ID', '')}.{env.get('SLURM_STEP_ID', '')}"
        if "SLURM_JOB_ID" not in env or env.get("MPI_LOCALNRANKS") == env["PMI_SIZE"]:
            launch_id += f" {_starter(env, 'PMI_RANK', 'PMI_SIZE', 'PMI_FD')}"
    return LaunchGroup(launcher="pmi", launch_id=launch_id, rank=int(env["PMI_RANK"]), world_size=int(env["PMI_SIZE"]))


def _slurm(env: Mapping[str, str]) -> LaunchGroup | None:
    # a batch script has a job and no step, and an interactive shell a step of one task that says nothing of the job's
    # number: both run once, whatever number of tasks the job may have
    if int(env["SLURM_STEP_ID"]) >= _SLURM_SPECIAL_STEPS:
        return None
    return LaunchGroup(
        launcher="slurm",
        launch_id=f"{env.get('SLURM_CLUSTER_NAME', '')} {env['SLURM_JOB_ID']}.{env['SLURM_STEP_ID']}",
        rank=int(env["SLURM_PROCID"]),
        world_size=int(env.get("SLURM_STEP_NUM_TASKS") or env["SLURM_NTASKS"]),
        restart=int(env.get("SLURM_RESTART_COUNT", "0")),
    )


def _rendezvous(env: Mapping[str, str]) -> LaunchGroup | None:
    rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
    if size < 2:
        return None  # a program on its own that was told so
    launch_id = f"{env['MASTER_ADDR']}:{env['MASTER_PORT']} {env.get('SLURM_JOB_ID', '')}"
    if env["MASTER_ADDR"] in _THIS_HOST or size == int(env.get("LOCAL_WORLD_SIZE") or env.get("LOCAL_SIZE") or 0):
        launch_id += f" {_starter(env, 'RANK', 'WORLD_SIZE', 'MASTER_PORT')}"
    return LaunchGroup(launcher="rendezvous", launch_id=launch_id, rank=rank, world_size=size)


def _starter(env: Mapping[str, str], *names: str) -> str:
    """The process that started this rank: the nearest above it without the rank's own variables.

    Between it and the measured program there may be others, as where a script of one's own starts the program. It is
    told apart from later processes of the same number by when it began.
    """
    pid = os.getppid()
    own = {os.fsencode(f"{name}={env[name]}") for name in names if name in env}
    fields = _stat(pid)
    while fields and own and own <= _environment(pid):
        pid = int(fields[1])
        fields = _stat(pid)
    return f"parent {pid} {fields[19] if fields else ''}"


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on; nothing where it tells nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []
    return fields if len(fields) > 19 else []


def _environment(pid: int) -> set[bytes]:
    """What a process was started with; nothing where that is not ours to read."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()
