"""Which processes belong to one run: ranks that a launcher started, told by their environment; standard library only.

Every rank opens `Run(name)`; the ranks of one launch that give it one name measure one run, each as a session of its
own. Where they share a folder of runs, the first creates the run directory and the others find it. Where they do not
(nodes with disks of their own), each node has a directory with the same `group` in its manifest, and
`stillwatt ledger post` brings them together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from stillwatt.ledger.ancestors import began_ticks, environment_of, holds_port, parents_alike, starter

_SLURM_SPECIAL_STEPS = 0xFFFF_FFF0
"""Step numbers from here on are no launches: an interactive shell, a batch script, what SLURM does for itself."""


STARTED_AGAIN = "started again"
"""What stands for the launcher of a rank that the program itself has started (`ledger.launched`)."""
_THIS_HOST = ("localhost", "127.0.0.1", "::1")
_CARDS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_NUMBERS = {
    "stillwatt": ("STILLWATT_RUN_GROUP", "STILLWATT_RANK"),
    "torchrun": ("TORCHELASTIC_RUN_ID", "RANK"),
    "openmpi": ("OMPI_COMM_WORLD_RANK",),
    "pmi": ("PMI_RANK", "PMI_SIZE"),
    "slurm": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"),
    "rendezvous": ("RANK", "WORLD_SIZE"),
}
"""The variables by which a launcher gives a rank its number."""
RANK_PROCESS = "STILLWATT_RANK_PROCESS"
"""The variable that tells those which a rank starts that it is the rank, and not they."""


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
    local_size: int | None = None
    """How many of the launch are on this machine; None where nobody says, or where each sees cards of its own."""

    @property
    def member(self) -> str | None:
        """What tells this process from the others of its launch; None where nothing does."""
        return None if self.rank is None else f"{self.rank}-{self.restart}"

    def stage_prefix(self) -> str:
        """What sets the stage ids of a session apart; another one each time where processes have no numbers."""
        # containers share process numbers, and a worker may open the run of its launch many times
        return f"p{os.getpid()}x{os.urandom(3).hex()}" if self.rank is None else f"r{self.rank}"

    def place(self, name: str) -> dict[str, Any]:
        """What a session says of itself that is of this launch."""
        launch = "" if self.launcher == STARTED_AGAIN else self.key(name)
        size = {} if self.local_size is None else {"local_size": self.local_size}
        return {"rank": self.rank, "world_size": self.world_size or None, "launch": launch, **size}

    def leave_word(self, environment: MutableMapping[str, str]) -> None:
        """Tell those that this process starts from now on that it is the rank whose variables they inherit."""
        if self.rank is not None:
            environment[RANK_PROCESS] = f"{self._word} {os.getpid()}"

    def is_anothers(self, environment: Mapping[str, str]) -> bool:
        """Whether the rank is a process above this one, from which this one has its variables and no place of its own.

        It is where that process has opened a run as the rank, or has met the others at the address that the launcher
        gave it. Nothing can be said of one that has done neither: it may be a script that only starts the rank.
        """
        word, _, pid = environment.get(RANK_PROCESS, "").rpartition(" ")
        if word == self._word and pid != str(os.getpid()):
            return True
        port = environment.get("MASTER_PORT", "")
        above = parents_alike(environment, _NUMBERS[self.launcher]) if port.isdecimal() else []
        return any(holds_port(pid, int(port)) for pid in above)

    @property
    def _word(self) -> str:
        return f"{self.key('')} {self.rank}"

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
    that make no sense count as no launch, and so do those that belong to a rank which started this process.

    >>> launch_group({"STILLWATT_RUN_GROUP": "job7", "STILLWATT_RANK": "1", "STILLWATT_WORLD_SIZE": "4"}).rank
    1
    """
    for find in (_by_hand, _torchrun, _open_mpi, _pmi, _slurm, _rendezvous):
        with contextlib.suppress(KeyError, ValueError):
            found = find(environment)
            if found is not None and (found.rank is None or 0 <= found.rank < found.world_size):
                return None if found.rank is not None and found.is_anothers(environment) else found
    return None


def without_word(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that this process only measures, so that it may be the rank itself."""
    own = f" {os.getpid()}"
    return {name: value for name, value in environment.items() if name != RANK_PROCESS or not value.endswith(own)}


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
        local_size=_local_size(env, _NUMBERS["torchrun"], env.get("LOCAL_WORLD_SIZE")),
    )


def _open_mpi(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or env["OMPI_MCA_orte_hnp_uri"]
    rank, size = int(env["OMPI_COMM_WORLD_RANK"]), int(env["OMPI_COMM_WORLD_SIZE"])
    local_size = _local_size(env, _NUMBERS["openmpi"], env.get("OMPI_COMM_WORLD_LOCAL_SIZE"))
    return LaunchGroup(launcher="openmpi", launch_id=launch_id, rank=rank, world_size=size, local_size=local_size)


def _pmi(env: Mapping[str, str]) -> LaunchGroup | None:
    launch_id = env.get("PMI_JOBID") or env.get("PALS_APID")
    if not launch_id:
        # MPICH tells of no job. In one of SLURM it begins a step with every launch, but not in an interactive shell;
        # what all ranks on a host have in common is the proxy that started them.
        launch_id = f"{env.get('SLURM_JOB_ID', '')}.{env.get('SLURM_STEP_ID', '')}"
        if "SLURM_JOB_ID" not in env or env.get("MPI_LOCALNRANKS") == env["PMI_SIZE"]:
            launch_id += f" {_starter(env, 'PMI_RANK', 'PMI_SIZE', 'PMI_FD')}"
    rank, size = int(env["PMI_RANK"]), int(env["PMI_SIZE"])
    here = env.get("MPI_LOCALNRANKS") or (size if env.get("SLURM_STEP_NUM_NODES") == "1" else None)
    local_size = _local_size(env, _NUMBERS["pmi"], here)
    return LaunchGroup(launcher="pmi", launch_id=launch_id, rank=rank, world_size=size, local_size=local_size)


def _slurm(env: Mapping[str, str]) -> LaunchGroup | None:
    # a batch script has a job and no step, and an interactive shell a step of one task that says nothing of the job's
    # number: both run once, whatever number of tasks the job may have
    if int(env["SLURM_STEP_ID"]) >= _SLURM_SPECIAL_STEPS:
        return None
    size = int(env.get("SLURM_STEP_NUM_TASKS") or env["SLURM_NTASKS"])
    return LaunchGroup(
        launcher="slurm",
        launch_id=f"{env.get('SLURM_CLUSTER_NAME', '')} {env['SLURM_JOB_ID']}.{env['SLURM_STEP_ID']}",
        rank=int(env["SLURM_PROCID"]),
        world_size=size,
        restart=int(env.get("SLURM_RESTART_COUNT", "0")),
        local_size=_local_size(env, _NUMBERS["slurm"], size if env.get("SLURM_STEP_NUM_NODES") == "1" else None),
    )


def _rendezvous(env: Mapping[str, str]) -> LaunchGroup | None:
    rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
    if size < 2:
        return None  # a program on its own that was told so
    launch_id = f"{env['MASTER_ADDR']}:{env['MASTER_PORT']} {env.get('SLURM_JOB_ID', '')}"
    here = size if env["MASTER_ADDR"] in _THIS_HOST else int(env.get("LOCAL_WORLD_SIZE") or env.get("LOCAL_SIZE") or 0)
    if here == size:
        launch_id += f" {_starter(env, 'RANK', 'WORLD_SIZE', 'MASTER_PORT')}"
    local_size = _local_size(env, _NUMBERS["rendezvous"], here)
    return LaunchGroup(launcher="rendezvous", launch_id=launch_id, rank=rank, world_size=size, local_size=local_size)


def _starter(env: Mapping[str, str], *names: str) -> str:
    """The process that started this rank: the nearest above it without the rank's own variables.

    Between it and the measured program there may be others, as where a script of one's own starts the program. It is
    told apart from later processes of the same number by when it began.
    """
    pid = starter(env, names)
    return f"parent {pid} {began_ticks(pid)}"


def _local_size(env: Mapping[str, str], names: Sequence[str], said: str | int | None) -> int | None:
    """How many ranks are on this machine, if this one may use all the cards there that the launch may.

    One to which a script has given a card of its own does not see what the others draw. Whether it has is told by what
    the launcher was started with.
    """
    given = {os.fsencode(f"{name}={env[name]}") for name in _CARDS if name in env}
    if said is None or not str(said).isdecimal() or (given and not given <= environment_of(starter(env, names))):
        return None
    return int(said) or None
