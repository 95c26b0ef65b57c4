"""Which process of this machine a number stands for, and what it descends from: `/proc`, read as little as may be.

Drivers give the numbers of the host. Whoever looks from a container with a process namespace of its own sees other
processes under these numbers, or none, so a number is believed there only where the process that it names here holds
one of the driver's device files open.
"""

from __future__ import annotations

import os
from pathlib import Path

from stillwatt.records import ProcessId

_HOST_NAMESPACE = "pid:[4026531836]"
"""What the kernel always calls the process namespace of the host."""
_MOST_ANCESTORS = 64
_STAT_BYTES = 4096
_SAMPLING = b"stillwatt.ledger.apart"
"""What a sampling process was started as."""


class Processes:
    """Chains of ancestors by process number; remembers each process it has seen for as long as it lives.

    `device_prefix` is how the paths of the driver's device files begin. `namespace` is the process namespace that this
    process lives in; None asks the kernel.
    """

    def __init__(
        self, *, root: str = "/proc", device_prefix: str = "/dev/nvidia", namespace: str | None = None
    ) -> None:
        self._root = root
        self._device_prefix = device_prefix
        self._known: dict[int, tuple[ProcessId, ...]] = {}
        self._believed: dict[ProcessId, bool] = {}
        self._user = os.getuid()
        found = _link(f"{self._root}/self/ns/pid") if namespace is None else namespace
        self.is_host = found == _HOST_NAMESPACE
        """Whether the numbers here are the host's."""
        self._is_hiding = self.is_host and _hides(self._root)

    def chain(self, pid: int) -> tuple[ProcessId, ...]:
        """The process, its parent, and so on up; empty where there is no such process here, or it cannot be told.

        A chain is that of the first look: a process that lost its parent since is still known to descend from it.
        """
        start_ticks = self._stat(pid)[1] if pid > 0 else None
        if start_ticks is None:
            self._known.pop(pid, None)
            return ()
        known = self._known.get(pid)
        if known is None or known[0].start_ticks != start_ticks:
            known = self._climb(pid, start_ticks)
            self._known[pid] = known
        return known if self.is_host or self._is_believed(known[0]) else ()

    def process(self, pid: int) -> ProcessId | None:
        """The process of this number here, as this namespace has it; None where there is none."""
        start_ticks = self._stat(pid)[1]
        return None if start_ticks is None else ProcessId(pid, start_ticks)

    def is_sampling(self, pid: int) -> bool:
        """Whether it is a sampling process of a program that is measured: it opens drivers and uses no device."""
        try:
            return _SAMPLING in Path(f"{self._root}/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def is_same_user(self, pid: int) -> bool | None:
        """Whether the process belongs to this user; None where it cannot be told.

        A number that the host's `/proc` does not show because it hides other users' processes is another user's.
        """
        try:
            return os.stat(f"{self._root}/{pid}").st_uid == self._user
        except OSError:
            return False if self._is_hiding and pid > 0 else None

    def keep_only(self, pids: set[int]) -> None:
        """Forget all processes but these."""
        self._known = {pid: chain for pid, chain in self._known.items() if pid in pids}
        self._believed = {process: is_so for process, is_so in self._believed.items() if process.pid in pids}

    def _climb(self, pid: int, start_ticks: int) -> tuple[ProcessId, ...]:
        chain = [ProcessId(pid, start_ticks)]
        parent = self._stat(pid)[0]
        while parent and len(chain) < _MOST_ANCESTORS:
            above, started = self._stat(parent)
            if started is None:
                break
            chain.append(ProcessId(parent, started))
            parent = above
        return tuple(chain)

    def _stat(self, pid: int) -> tuple[int, int | None]:
        """Parent and start of a process; no start where there is no such process."""
        try:
            fd = os.open(f"{self._root}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                text = os.read(fd, _STAT_BYTES)
            finally:
                os.close(fd)
            # the second field is the program's name in brackets and may hold anything, brackets included
            fields = text.rpartition(b")")[2].split()
            return int(fields[1]), int(fields[19])
        except (OSError, ValueError, IndexError):
            return 0, None

    def _is_believed(self, process: ProcessId) -> bool:
        if process not in self._believed:
            files = f"{self._root}/{process.pid}/fd"
            try:
                names = os.listdir(files)
            except OSError:
                names = []
            self._believed[process] = any(_link(f"{files}/{name}").startswith(self._device_prefix) for name in names)
        return self._believed[process]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _hides(root: str) -> bool:
    """Whether this `/proc` shows a user only their own processes."""
    try:
        lines = Path(root, "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    options = [line for line in lines if len(fields := line.split()) > 4 and fields[4] == root]
    return any("hidepid=" in line and "hidepid=0" not in line and "hidepid=off" not in line for line in options)
