"""What looks after one rank on its machine: an actor of Ray, with the rank in a process of its own.

The rank is `python -m stillwatt run …` with the environment that `torchrun` would give it, and nothing else: what a
rank is told, and whatever it loads, must not stay behind in a worker that Ray may use again. It is an actor and no
task, as a task that is told to end cannot be heard to the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import site
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import stillwatt
from stillwatt.ledger.environment import host_name

_LAST_LINES = 12
_PIECE_BYTES = 65_536
_DRAIN_S = 1.0
"""For output that is still in the pipes; a sampling process holds them open a little longer than its rank lives."""
_DISK_PATIENCE_S = 5.0
"""For a file that was written on another machine to be seen on this one."""
_POLL_S = 0.1


class Look(NamedTuple):
    """What a machine says of itself before anything is started on it."""

    host: str
    version: str
    """Of Stillwatt there."""
    sees_runs: bool
    """Whether the folder of runs is the one that the launch means."""
    sees_recipe: bool
    port: int
    """Free a moment ago."""


class News(NamedTuple):
    """What a rank wrote since, or how it ended."""

    pieces: tuple[tuple[str, bytes], ...] = ()
    """(`stdout` or `stderr`, bytes), in the order in which they came; of a rank that is shown."""
    status: int | None = None
    """None while it is at work."""
    last_lines: tuple[str, ...] = ()


class Keeper:
    """Starts a rank, hands out what it writes, and ends it when told."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._interface = ""
        self._changed = threading.Condition()
        self._pieces: list[tuple[str, bytes]] = []
        self._tail: deque[bytes] = deque(maxlen=64)
        self._status: int | None = None

    def look(self, token: str, recipe: str, recipe_sha256: str, address: str) -> Look:
        """See whether this machine can take part.

        Args:
            token: A file in the folder of runs that holds its own name.
            recipe: The recipe's file; empty for one that comes along.
            recipe_sha256: Of what it holds where the launch was started.
            address: This machine's, as Ray knows it.
        """
        self._interface = _interface(address)
        return Look(
            host=host_name(),
            version=stillwatt.__version__,
            sees_runs=_reads(Path(token), Path(token).name.encode()),
            sees_recipe=not recipe or _sha256(Path(recipe)) == recipe_sha256,
            port=_free_port(address if self._interface else ""),
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], directory: str, is_shown: bool) -> int:
        """Start the rank; gives its process's number.

        Args:
            arguments: Of `stillwatt`.
            environment: What the rank is told, beside what this worker has.
            directory: Where to start it; where this machine does not have it, it starts where this worker is.
            is_shown: Whether all that it writes is wanted, not its last lines alone.
        """
        command = [sys.executable, "-m", "stillwatt.workflows.rank_start", str(os.getpid()), *arguments]
        # gloo would take the address that the host's own name stands for, which on many machines is its loopback
        network = {"GLOO_SOCKET_IFNAME": self._interface} if self._interface else {}
        process = subprocess.Popen(
            command,
            env={**network, **os.environ, **environment, "PYTHONPATH": _import_path()},
            cwd=directory if os.path.isdir(directory) else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        readers = [
            threading.Thread(target=self._read, args=(name, pipe, is_shown), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for each in (*readers, threading.Thread(target=self._wait, args=(process, readers), daemon=True)):
            each.start()
        return process.pid

    def news(self) -> News:
        """What is new; waits until something is."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pieces) or self._status is not None)
            pieces, self._pieces = tuple(self._pieces), []
            lines = b"".join(self._tail).decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
            return News(pieces, self._status, tuple(lines) if self._status is not None else ())

    def stop(self, signal_number: int) -> None:
        """Send a signal to the rank and all that it has started in its group, as a terminal does."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(self._process.pid, signal_number)

    def _read(self, name: str, pipe: IO[bytes], is_shown: bool) -> None:
        with pipe:
            while piece := os.read(pipe.fileno(), _PIECE_BYTES):
                with self._changed:
                    self._tail.append(piece)
                    if is_shown:
                        self._pieces.append((name, piece))
                        self._changed.notify_all()

    def _wait(self, process: subprocess.Popen[bytes], readers: Sequence[threading.Thread]) -> None:
        status = process.wait()
        for reader in readers:
            reader.join(_DRAIN_S / len(readers))
        with self._changed:
            self._status = status
            self._changed.notify_all()


def _reads(path: Path, wanted: bytes) -> bool:
    """Whether a file holds what it should; disks over a network may take a moment."""
    for _ in range(round(_DISK_PATIENCE_S / _POLL_S)):
        with contextlib.suppress(OSError):
            return path.read_bytes() == wanted
        time.sleep(_POLL_S)
    return False


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _free_port(address: str) -> int:
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def _interface(address: str) -> str:
    """The name of the network interface with that address; empty where this machine has none."""
    import psutil

    found = (name for name, ends in psutil.net_if_addrs().items() if any(end.address == address for end in ends))
    return next(found, "")


def _import_path() -> str:
    """PYTHONPATH for the rank and its sampling process, so that they import the Stillwatt that this worker imports."""
    paths = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    place = str(Path(stillwatt.__file__).parents[1])
    if place not in [*paths, *site.getsitepackages(), site.getusersitepackages()]:
        paths.insert(0, place)
    return os.pathsep.join(paths)
