"""A sign of life of a sampling process that has no samples to leave: one small file, written over and over.

Samples tell when a session was there last, and so do events. A rank whose devices another rank reads has neither for
seconds on end, and the whole of it may be killed at any moment. The file has two lines of fixed length that are written
in turns, each with its checksum: however a write is cut off, the line before it stands. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

from stillwatt.ledger.journal import checked_line, parse_line

_SUFFIX = ".life"
_LINE_BYTES = 96
_LINES = 2


def life_path(run_dir: Path, session: str) -> Path:
    """Where a session's sign of life lies."""
    return Path(run_dir) / f"journal.{session}{_SUFFIX}"


def life_signs(run_dir: Path) -> tuple[Path, ...]:
    """The plain files of that kind in a run directory, in order of file name."""
    found = sorted(Path(run_dir).glob(f"journal.*{_SUFFIX}"))
    return tuple(path for path in found if path.is_file() and not path.is_symlink())


class LifeSign:
    """Writes the latest time of one session; made with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._number = 0

    def leave(self, t_ns: int) -> None:
        """Say that the sampling process is there at this time.

        Raises:
            OSError: it cannot be written.
        """
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        line = checked_line({"event": "life", "t_ns": t_ns}, self._number).ljust(_LINE_BYTES - 1) + b"\n"
        os.pwrite(self._fd, line, self._number % _LINES * _LINE_BYTES)
        self._number += 1

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def last_life_ns(path: Path) -> int:
    """The latest time in such a file; 0 where there is none, or it cannot be read.

    >>> last_life_ns(Path("/nowhere/journal.host-1-ab.life"))
    0
    """
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    # by place and not by their ends: a line that was spoilt must not take the other one along
    events = [parse_line(data[place : place + _LINE_BYTES].rstrip()) for place in range(0, len(data), _LINE_BYTES)]
    return max((event["t_ns"] for event in events if not isinstance(event, str)), default=0)
