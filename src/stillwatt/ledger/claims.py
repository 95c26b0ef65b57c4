"""One count per physical device: sampling processes of a run on one host claim devices, and none reads another's.

A claim is an exclusive lock on a file that is named by a hash of host, boot and device. The kernel lets go of it when
its holder ends, however it ends, so that no claim outlives its sampling process and another can go on in its place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from stillwatt.records import Channel

CLAIMS_DIR = "claims"


class Claims:
    """The devices that this process counts. `place` names host and boot, so that nodes on a shared disk do not meet."""

    def __init__(self, run_dir: Path, place: str) -> None:
        self._folder = Path(run_dir) / CLAIMS_DIR
        self._place = place
        self._held: dict[str, int] = {}
        self.problem = ""
        """Why nothing can be claimed on this disk; everybody then counts every device, and the record says so."""

    def take(self, channels: Iterable[Channel]) -> list[Channel]:
        """Claim the devices of these channels; gives the channels whose device is this process's, now or from before.

        Where the disk knows no locks, all are given, with the reason in `problem`.
        """
        return [channel for channel in channels if self._is_mine(f"{channel.part}|{channel.device}")]

    def close(self) -> None:
        """Let go of everything."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    def _is_mine(self, device: str) -> bool:
        if device in self._held or self.problem:
            return True
        name = hashlib.sha256(f"{self._place}|{device}".encode("utf-8", "replace")).hexdigest()[:24]
        try:
            self._folder.mkdir(exist_ok=True)
            fd = os.open(self._folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as err:
            self.problem = (
                f"devices cannot be claimed ({err}); where several processes measure, they may be counted twice"
            )
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError as err:
            os.close(fd)
            self.problem = (
                f"this disk has no locks ({err}); where several processes measure, devices may be counted twice"
            )
            return True
        self._held[device] = fd
        return True
