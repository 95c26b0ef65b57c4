"""A folder that one command at a time works in, on all machines that share its disk.

The kernel lets go of the lock when its holder ends, however it ends, so that a killed command stands in nobody's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from stillwatt.errors import UsageError

_LOCK_NAME = "under-way.lock"


@contextlib.contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Work in a folder alone; where its disk knows no locks, nobody can tell, and it is worked in all the same.

    Args:
        folder: Which is there.
        what: What is under way in it, for a message.

    Raises:
        UsageError: Another process does; says which.
    """
    lock = os.open(folder / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                who = os.pread(lock, 200, 0).decode("utf-8", "replace") or "another process"
                raise UsageError(f"{what} is under way already, by {who}; wait for that, or end it") from err
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(lock)
