"""A SLURM cluster of this one machine, for tests: its own key, ports, folders and daemons, all ended afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sinfo")
PATIENCE_S = 60.0
_POLL_S = 0.1
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE OverSubscribe=FORCE:8 State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    absent = [name for name in PROGRAMS if _find(name) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "a SLURM of one's own needs root"


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class SlurmCluster:
    """A context manager; while it is open, `environment` leads SLURM's commands to it."""

    def __enter__(self) -> SlurmCluster:
        # a socket's path is short by the kernel's limit, and a folder of pytest's may be long
        self._folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        configuration = self._folder / "slurm.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=self._folder,
                host=socket.gethostname().partition(".")[0],
                controller_port=_free_port(),
                node_port=_free_port(),
                cpus=os.cpu_count(),
            ),
            encoding="utf-8",
        )
        self.environment = {"SLURM_CONF": str(configuration)}
        try:
            self._start_munge()
            for name in ("slurmctld", "slurmd"):
                self._start(name, "-D", "-f", str(configuration))
            self._wait_until_idle()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(PATIENCE_S / 4)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def said(self) -> str:
        """The last of what the daemons wrote."""
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self._folder.glob("*.log")))

    def _start_munge(self) -> None:
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        places = [f"--{option}={self._folder / name}" for option, name in names.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", "--num-threads=1", *places)
        deadline = time.monotonic() + PATIENCE_S
        while not (self._folder / "munge.socket").exists():
            assert time.monotonic() < deadline, self.said()
            time.sleep(_POLL_S)

    def _start(self, name: str, *arguments: str) -> None:
        program = _find(name)
        assert program is not None
        with (self._folder / f"{name}.out.log").open("wb") as out:
            started = subprocess.Popen(
                [program, *arguments], env={**os.environ, **self.environment}, stdout=out, stderr=out
            )
        self._daemons.append(started)

    def _wait_until_idle(self) -> None:
        """Until the one node takes jobs."""
        sinfo = _find("sinfo")
        assert sinfo is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            told = subprocess.run(
                [sinfo, "--noheader", "--format=%T"],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_S,
            )
            if told.stdout.strip() == "idle":
                return
            assert all(daemon.poll() is None for daemon in self._daemons), self.said()
            assert time.monotonic() < deadline, told.stdout + told.stderr + self.said()
            time.sleep(_POLL_S)
