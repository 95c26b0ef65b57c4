"""The journal: one JSON object a line, appended; the first thing written and the last thing trusted.

The last keys of each line are its number and the CRC-32 of what stands before it, so that a line that was changed is
left out and not believed, and one that was taken out is missed. Each event is one `write` of one whole line on a
descriptor opened to append, so a kill can tear the last line only, and a full disk costs the event that did not fit
and no other. Only the standard library is imported: this module runs inside the measured program.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stillwatt.clock import Clock

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character, written as an escape by another program: valid JSON, but no text that can be stored."""

_TAIL_BYTES = 1 << 20
"""How much of a journal's end is looked at for its last line; no event is that long."""
_CRC_KEY = b',"crc":"'
_CRC_BYTES = len(_CRC_KEY) + 8 + len(b'"}')


def checked_line(event: Mapping[str, Any], number: int = 0) -> bytes:
    r"""An event as a line of a journal, without its newline: compact JSON that ends in its number and its CRC-32.

    Raises:
        TypeError: a value is not a JSON value.
        ValueError: a number is not finite.

    >>> checked_line({"event": "warning", "t_ns": 1, "message": "hot"}, 7)
    b'{"event":"warning","t_ns":1,"message":"hot","n":7,"crc":"1f376991"}'
    """
    text = json.dumps({**event, "n": number}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode("utf-8", errors="replace")
    return b'%s%s%08x"}' % (body[:-1], _CRC_KEY, zlib.crc32(body))


class Descriptor:
    """A descriptor that the meter holds in a program which may close it, as `os.closerange(3, 256)` does.

    Its number is then soon that of a file of the program's own, which the meter must neither write nor close.
    """

    def __init__(self, number: int) -> None:
        """Note what the number stands for now.

        Raises:
            OSError: it stands for nothing.
        """
        self.number = number
        found = os.fstat(number)
        self._file = (found.st_dev, found.st_ino)
        # to ask a file on NFS for its numbers has all that was written to it sent first; its path costs nothing
        self._path = _path(number) if stat.S_ISREG(found.st_mode) else ""

    def is_ours(self) -> bool:
        """Whether the number still stands for what was opened."""
        if self._path and _path(self.number) == self._path:
            return True
        try:
            found = os.fstat(self.number)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def close(self) -> None:
        """Close it, if it is ours; closing twice is no error."""
        if self.number >= 0 and self.is_ours():
            os.close(self.number)
        self.number = -1


def _path(number: int) -> str:
    """The path of an open file; empty where this system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


class JournalWriter:
    """Appends events to one journal file; may be shared by the threads of one process.

    A lone surrogate in a string (an undecodable file name in an error message) becomes `?`: a journal is
    valid UTF-8 to its last line.
    """

    def __init__(self, path: Path, on_closed: Callable[[], object] | None = None) -> None:
        """Open the file to append, making it where it does not exist; a torn last line is closed off.

        `on_closed` is called after an event that found the file closed by somebody else, and was written all the same.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = Path(path)
        # re-entrant: a signal handler may write while the interrupted frame of the same thread is writing
        self._is_synced = False
        self._lock = threading.RLock()
        self._on_closed = on_closed
        self._is_torn, self._number = _end(self.path)
        self._file: Descriptor | None = self._opened()

    def _opened(self) -> Descriptor:
        return Descriptor(os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event with one `write`.

        Raises:
            OSError: the line was not written whole, or the journal is closed; the next event starts a new line.
            TypeError: a value is not a JSON value; nothing was written.
            ValueError: a number is not finite; nothing was written.
        """
        with self._lock:
            line = checked_line(event, self._number) + b"\n"
            if self._file is None:
                raise OSError(errno.EBADF, "the journal is closed", str(self.path))
            is_closed = not self._file.is_ours()
            if is_closed:
                self._file = self._opened()
            data = b"\n" + line if self._is_torn else line
            self._is_torn, self._is_synced = True, False
            written = os.write(self._file.number, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes fitted", str(self.path))
            self._is_torn = False
            self._number += 1
        if is_closed and self._on_closed is not None:
            self._on_closed()

    def fsync(self) -> None:
        """Ask the disk to keep what is new; takes milliseconds, so never in the measured program."""
        with self._lock:
            if self._file is not None and not self._is_synced:
                os.fsync(self._file.number)
                self._is_synced = True

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


class ForkJournal:
    """The journal of a process that was forked: made with its first event, since most forked processes have none.

    `on_made` is called once the file is there, `on_closed` as `JournalWriter` does.
    """

    def __init__(
        self, path: Path, clock: Clock, on_made: Callable[[], object], on_closed: Callable[[], object] | None = None
    ) -> None:
        self.path = path
        self._clock = clock
        self._on_made, self._on_closed = on_made, on_closed
        self._parent = os.getppid()
        self._writer: JournalWriter | None = None

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event, as `JournalWriter.write` does."""
        if self._writer is None:
            self._writer = JournalWriter(self.path, self._on_closed)
            begun_ns = min(self._clock.monotonic_ns(), event["t_ns"])
            self._writer.write({"event": "forked", "t_ns": begun_ns, "pid": os.getpid(), "parent_pid": self._parent})
            self._on_made()
        self._writer.write(event)


class JournalRead(NamedTuple):
    """What a journal holds, and what could not be read of it."""

    events: tuple[dict[str, Any], ...]
    """Every whole event in the order written; each has an `event` name and an integer `t_ns`."""
    torn_bytes: int
    """Length of a torn last line, which is left out; 0 where the journal ends well."""
    problems: tuple[str, ...]
    """One entry a line that could not be read, with its number, counted from 1."""


def read_journal(path: Path) -> JournalRead:
    """Read a journal, keeping every whole event with its right checksum; a journal still being written may be read.

    A last line without its newline that is a whole event is kept: only its newline was lost. Empty lines
    are what a writer leaves before it goes on after a failed write; they say nothing and are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    lines = Path(path).read_bytes().split(b"\n")
    tail = lines.pop()
    events: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: set[int] = set()
    written: set[bytes] = set()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        parsed = parse_line(line)
        if isinstance(parsed, str):
            problems.append(f"line {number}: {parsed}")
        elif line in written:
            # lines carry their numbers, so no writer makes two alike; its counts would be added up twice
            problems.append(f"line {number}: it is there a second time; it was copied")
        else:
            written.add(line)
            seen.add(parsed.pop("n"))
            events.append(parsed)
    last = parse_line(tail) if tail and tail not in written else ""
    if not isinstance(last, str):
        seen.add(last.pop("n"))
        events.append(last)
    problems += [] if problems else _missing(seen)
    torn_bytes = len(tail) if isinstance(last, str) else 0
    return JournalRead(events=tuple(events), torn_bytes=torn_bytes, problems=tuple(problems))


def _missing(seen: set[int]) -> list[str]:
    """Lines that were taken out without a trace but for their numbers."""
    missing = sorted(set(range(max(seen, default=-1) + 1)) - seen)
    return [f"{len(missing)} lines are gone, the first of them number {missing[0]}"] if missing else []


def parse_line(line: bytes) -> dict[str, Any] | str:
    """The event on a line, its number among its keys, or what is wrong with it."""
    body = line[:-_CRC_BYTES] + b"}"
    if line[-_CRC_BYTES:-10] != _CRC_KEY:
        return "it carries no checksum, or was cut or changed"
    if line[-10:] != b'%08x"}' % zlib.crc32(body):
        return "it does not have the checksum written in it; it was changed"
    try:
        text = body.decode("utf-8")
        event = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE_ESCAPE.search(text):
            event = json.loads(json.dumps(event, ensure_ascii=False).encode("utf-8", errors="replace"))
    except (ValueError, RecursionError) as err:
        return f"not JSON ({err})"
    if not isinstance(event, dict):
        return f"a JSON {type(event).__name__}, not an event"
    if not isinstance(event.get("n"), int):
        return "not an event: it has no number"
    t_ns = event.get("t_ns")
    if not isinstance(event.get("event"), str) or not isinstance(t_ns, int) or isinstance(t_ns, bool):
        return "not an event: it has no name or no whole t_ns"
    return event


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _end(path: Path) -> tuple[bool, int]:
    """Whether the file's last byte is not a newline, and the number that the next line gets."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, 0))
            tail = file.read()
    except FileNotFoundError:
        return False, 0
    for line in reversed(tail.split(b"\n")):
        event = parse_line(line)
        if not isinstance(event, str):
            return not tail.endswith(b"\n"), int(event["n"]) + 1
    return bool(tail) and not tail.endswith(b"\n"), 0
