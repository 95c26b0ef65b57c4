"""What the sampling process writes, and how it never waits for it: samples and events, held until the next flush."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from stillwatt.clock import Clock
from stillwatt.ledger.life import LifeSign
from stillwatt.ledger.segments_raw import RawWriter
from stillwatt.records import Readings
from stillwatt.sensors.sampler import Gaps

DROPPED = "readings dropped"
"""How the reason of a gap begins for whose readings there was no room."""
_MAX_PENDING = 50_000
"""Samples held while the disk does not answer at all: some 8 MB."""
_MAX_BUFFERED = 36_000
"""Samples of one stream held while the disk is full: an hour at 10 Hz, 0.6 MB."""
_MAX_EVENTS = 10_000


class Journal(Protocol):
    """Where events are kept."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event; may raise OSError."""
        ...

    def fsync(self) -> None:
        """Ask the disk to keep it; may raise OSError."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Disk:
    """Everything that is written: samples and journal. `keep` and `event` never wait, `flush` may.

    `keep` and `event` belong to the sampling thread, `flush` to the writing one; the two meet in deques only.
    """

    def __init__(
        self,
        journal: Journal,
        open_writer: Callable[[str], RawWriter],
        clock: Clock,
        *,
        fsync_journal: Path | None = None,
        life: LifeSign | None = None,
        max_pending: int = _MAX_PENDING,
        max_buffered: int = _MAX_BUFFERED,
        max_events: int = _MAX_EVENTS,
    ) -> None:
        self._journal = journal
        self._open_writer = open_writer
        self._clock = clock
        self._fsync_journal = fsync_journal
        self._life = life
        self._max_pending, self._max_buffered, self._max_events = max_pending, max_buffered, max_events
        self._samples: deque[Readings] = deque()
        self._kept = self._taken = 0
        """Samples that came in and that went on; each number belongs to one thread."""
        self._events: deque[Mapping[str, Any]] = deque()
        self._writers: dict[str, RawWriter] = {}
        self._unwritten: dict[str, int] = {}
        self._dropped = Gaps(self.event)
        self._lost_events = 0
        self._synced_bytes = -1
        """Size of the measured program's journal when the disk was last asked to keep it."""

    @property
    def room(self) -> int:
        """How many more samples can be taken before the disk answers."""
        return self._max_pending - (self._kept - self._taken)

    def keep(self, samples: Readings) -> None:
        """Hold samples of one stream until the next flush."""
        self._kept += len(samples.times_ns)
        self._samples.append(samples)

    def event(self, event: Mapping[str, Any]) -> None:
        """Hold an event until the next flush; beyond a bound it is counted and let go."""
        if len(self._events) >= self._max_events:
            self._lost_events += 1
        else:
            self._events.append(event)

    def flush(self) -> None:
        """Write what is held, one write a stream, then ask the disk to keep it; what fails stays held.

        Without a sample to write, a sign of life is left in its stead.
        """
        if self._life is not None and not self._samples:
            with contextlib.suppress(OSError):  # the next flush leaves a later one
                self._life.leave(self._clock.monotonic_ns())
        while self._samples:
            samples = self._samples.popleft()
            self._taken += len(samples.times_ns)
            self._buffer(samples)
        for stream, writer in self._writers.items():
            with contextlib.suppress(OSError):  # what did not fit stays in the writer, and is counted in _unwritten
                writer.flush()
                self._unwritten[stream] = 0
        self._write_events()
        self._fsync()

    def close(self) -> None:
        """Write the rest, end the gaps of dropped samples, and close the files."""
        self.flush()
        now_ns = self._clock.monotonic_ns()
        for stream, writer in self._writers.items():
            try:
                writer.close()
            except OSError as err:
                self._dropped.failed(stream, now_ns, f"{DROPPED}: {err}")
        self._dropped.finish(now_ns)
        self._write_events()
        self._fsync()
        self._journal.close()
        if self._life is not None:
            self._life.close()

    def _buffer(self, samples: Readings) -> None:
        """Give samples to their stream's writer, as many as it may hold; the rest are dropped and counted."""
        stream, times_ns, counts = samples
        unwritten = self._unwritten.get(stream, 0)
        room, why = self._max_buffered - unwritten, "nothing can be written and the buffer is full"
        try:
            if room > 0 and stream not in self._writers:
                self._writers[stream] = self._open_writer(stream)
        except OSError as err:
            room, why = 0, str(err)
        if room > 0:
            self._writers[stream].extend(times_ns[:room], counts[:room])
            self._unwritten[stream] = unwritten + len(times_ns[:room])
            self._dropped.good(stream, times_ns[0], times_ns[:room][-1])
        for t_ns in times_ns[max(room, 0) :]:
            self._dropped.failed(stream, t_ns, f"{DROPPED}: {why}")

    def _write_events(self) -> None:
        """Write events in their order; one that cannot be written now is held with all that follow it."""
        with contextlib.suppress(OSError):
            while self._events:
                self._journal.write(self._events[0])
                self._events.popleft()
            if self._lost_events:
                message = f"{self._lost_events} events of the sampling process could not be kept"
                self._journal.write({"event": "warning", "t_ns": self._clock.monotonic_ns(), "message": message})
                self._lost_events = 0

    def _fsync(self) -> None:
        with contextlib.suppress(OSError):  # the lines are written; the next second asks again
            self._journal.fsync()
            if self._fsync_journal is not None:
                size = os.stat(self._fsync_journal).st_size
                if size != self._synced_bytes:
                    fd = os.open(self._fsync_journal, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)
                    self._synced_bytes = size
