"""Samples while a run is measured: fixed 16-byte records, appended; standard library only.

A record is `<qd`: the monotonic time as a little-endian int64 of nanoseconds, then the instrument's count as
a float64. What one flush writes is a block, and ends in a seal: a record whose time is minus the number of records
before it that it stands for, and whose second half is their CRC-32. Records without their seal were cut off, records
that do not fit it were changed, and neither is believed. Importing a columnar library would cost the sampling process
tens of megabytes; this costs none.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

RECORD = struct.Struct("<qd")
"""One sample: t_ns, count."""
SEAL = struct.Struct("<qII")
"""The end of a block: minus its number of records, their checksum, and that of all before the seal."""
SAMPLES_DIR = "samples"
RAW_SUFFIX = ".raw"

_SAFE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def raw_path(run_dir: Path, session: str, stream: str) -> Path:
    """Where a stream's samples lie while they are written.

    Raises:
        ValueError: session or stream could not be a file name of this directory.

    >>> raw_path(Path("runs/r1"), "host-12-ab", "gpu0.power").as_posix()
    'runs/r1/samples/host-12-ab.gpu0.power.raw'
    """
    return Path(run_dir) / SAMPLES_DIR / f"{segment_stem(session, stream)}{RAW_SUFFIX}"


def segment_stem(session: str, stream: str) -> str:
    """`<session>.<stream>`, checked: neither a separator nor a leading dot can get into the name.

    Raises:
        ValueError: session or stream could not be a file name of this directory.
    """
    if not _SAFE.fullmatch(session) or "." in session:
        raise ValueError(f"session {session!r} must be letters, digits, '-' and '_' (it becomes a file name)")
    if not _SAFE.fullmatch(stream):
        raise ValueError(f"stream {stream!r} must be letters, digits, '-', '_' and inner '.' (it becomes a file name)")
    return f"{session}.{stream}"


def block_checksum(records: bytes | bytearray | memoryview, first: int) -> int:
    """CRC-32 of a block's records; `first` is the place in the file, in records, at which the block begins."""
    return zlib.crc32(records, first & 0xFFFF_FFFF)


class RawWriter:
    """Buffers one stream's samples and appends them, with their seal, in one `write` a flush.

    What a write that came out short left behind is cut off again, and its samples are kept for the next flush
    up to `max_buffered` records; beyond that the oldest are let go and counted in `dropped`.
    """

    def __init__(self, path: Path, *, max_buffered: int = 100_000) -> None:
        """Open the file to append; what an earlier writer left there without a seal is cut off first.

        Raises:
            OSError: the folder cannot be made or the file cannot be opened.
        """
        self.path = Path(path)
        self.dropped = 0
        self._max_buffered = max_buffered
        self._buffer = bytearray()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        self._running = 0
        self._size = self._align()

    def append(self, t_ns: int, count: float) -> None:
        """Keep one sample until the next flush; `count` is as the instrument gave it, in its own unit."""
        self.extend((t_ns,), (count,))

    def extend(self, times_ns: Sequence[int], counts: Sequence[float]) -> None:
        """Keep samples until the next flush."""
        fields = itertools.chain.from_iterable(zip(times_ns, counts, strict=True))
        self._buffer += struct.pack(f"<{'qd' * len(times_ns)}", *fields)
        excess = len(self._buffer) // RECORD.size - self._max_buffered
        if excess > 0:
            del self._buffer[: excess * RECORD.size]
            self.dropped += excess

    def flush(self) -> None:
        """Append what is buffered with one `write`.

        Raises:
            OSError: not everything fitted; the file is as it was, and all stays buffered.
        """
        if not self._buffer:
            return
        if self._fd < 0:
            raise OSError(errno.EBADF, "the segment is closed", str(self.path))
        checksum = block_checksum(self._buffer, self._size // RECORD.size)
        running = zlib.crc32(self._buffer, self._running)
        seal = SEAL.pack(-(len(self._buffer) // RECORD.size), checksum, running)
        block = self._buffer + seal
        written = os.write(self._fd, block)
        if written != len(block):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, f"only {written} of {len(block)} bytes fitted", str(self.path))
        self._size, self._running = self._size + written, zlib.crc32(seal, running)
        self._buffer.clear()

    def fsync(self) -> None:
        """Ask the disk to keep what was flushed."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Flush and close; closing twice is no error.

        Raises:
            OSError: the last samples did not fit; the file is closed all the same.
        """
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1

    def _align(self) -> int:
        """Cut the file back to its last seal, since nothing vouches for what follows it; gives its size."""
        data = self.path.read_bytes()
        size = len(data) - len(data) % RECORD.size
        while size and RECORD.unpack_from(data, size - RECORD.size)[0] >= 0:
            size -= RECORD.size
        if size < len(data):
            os.ftruncate(self._fd, size)
        self._running = zlib.crc32(data[:size])
        return size
