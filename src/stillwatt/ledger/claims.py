"""One count per physical device: sampling processes of a run on one host claim devices, and none reads another's.

A claim is an exclusive lock on a file that is named by a hash of machine and device. The kernel lets go of it when its
holder ends, however it ends, so that no claim outlives its sampling process and another can go on in its place. Who
holds a device also listens at a socket, where the others tell it of their programs' stage edges: they cannot look
closely at what they do not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stillwatt.records import Channel

CLAIMS_DIR = "claims"
_EDGE = b"mark"


@dataclass(frozen=True, slots=True)
class _Claim:
    lock: int
    ear: socket.socket | None
    """None where this system has no sockets without a file; edges of other ranks are then not looked at closely."""


class Claims:
    """The devices that this process counts.

    Args:
        run_dir: the run's directory, which all its processes on this machine share.
        place: names the machine, so that nodes on a shared disk do not meet.
    """

    def __init__(self, run_dir: Path, place: str) -> None:
        self._run_dir = Path(run_dir)
        self._place = place
        self._held: dict[str, _Claim] = {}
        self._others: dict[str, str] = {}
        self._mouth: socket.socket | None = None
        self.problem = ""
        """Why nothing can be claimed on this disk; everybody then counts every device, and the record says so."""

    @property
    def is_waiting(self) -> bool:
        """Whether somebody else holds a device that this process could count."""
        return bool(self._others)

    @property
    def ears(self) -> list[socket.socket]:
        """Sockets at which other processes of this run tell of their edges."""
        return [claim.ear for claim in self._held.values() if claim.ear is not None]

    def take(self, channels: Iterable[Channel]) -> list[Channel]:
        """Claim the devices of these channels; gives the channels whose device is this process's, now or from before.

        Where the disk knows no locks, all are given, with the reason in `problem`.
        """
        return [channel for channel in channels if self._is_mine(f"{channel.part}|{channel.device}")]

    def tell(self) -> None:
        """Tell those who hold the other devices that a stage begins or ends now; never waits, and is no promise."""
        if not self._others:
            return
        if self._mouth is None:
            self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._mouth.setblocking(False)
        for name in self._others.values():
            with contextlib.suppress(OSError):
                self._mouth.sendto(_EDGE, _address(name))

    def hear(self) -> None:
        """Take what was told; one edge or many are one reason to look."""
        for ear in self.ears:
            with contextlib.suppress(OSError):
                while ear.recv(len(_EDGE)):
                    pass

    def close(self) -> None:
        """Let go of everything."""
        for claim in self._held.values():
            os.close(claim.lock)
            if claim.ear is not None:
                claim.ear.close()
        if self._mouth is not None:
            self._mouth.close()
        self._held.clear()
        self._mouth = None

    def _is_mine(self, device: str) -> bool:
        if device in self._held or self.problem:
            return True
        name = self._name(device)
        try:
            lock = _lock(self._run_dir / CLAIMS_DIR, name)
        except OSError as err:
            self.problem = f"devices cannot be claimed ({err}); ranks of this run may each count them"
            self._others.clear()
            return True
        if lock is None:
            self._others[device] = name
            return False
        self._others.pop(device, None)
        self._held[device] = _Claim(lock, _ear(name))
        return True

    def _name(self, device: str) -> str:
        text = f"{self._run_dir.name}|{self._place}|{device}"
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def _lock(folder: Path, name: str) -> int | None:
    """A descriptor that holds the lock; None where somebody else holds it.

    Raises:
        OSError: the folder cannot be written, or its disk knows no locks.
    """
    folder.mkdir(exist_ok=True)
    fd = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def _ear(name: str) -> socket.socket | None:
    try:
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    try:
        ear.setblocking(False)
        ear.bind(_address(name))
    except OSError:
        ear.close()
        return None
    return ear


def _address(name: str) -> str:
    """An address without a file, which goes with its socket."""
    return f"\0stillwatt-{name}"
