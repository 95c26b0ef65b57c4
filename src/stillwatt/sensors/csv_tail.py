"""The last row of a CSV that another program appends to, and whether that program still does.

A file whose logger has died looks like an instrument that shows a steady load. So a row is believed for several of the
file's own periods after the file was last seen to change, and then no more.
"""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.sensors.slow import FetchError
from stillwatt.units import NS_PER_S, seconds

_TAIL_BYTES = 4096
_PERIODS = 5
_RHYTHM = 5
"""The file's own period is the longest time between so many of its changes in a row: loggers write in bursts."""
_FIRST_NS = 60 * NS_PER_S
"""How old a file may be when it is first looked at, before its period is known."""


class CsvTail:
    """Reads the newest row of a file that grows.

    Args:
        clock: Tells how long ago the file changed.
        path: The file; its first line names the columns.
        period_ns: How often it is written to, as far as is known beforehand.
    """

    def __init__(self, clock: Clock, path: Path, period_ns: int) -> None:
        self.path = path
        self._clock = clock
        self._period_ns = period_ns
        self._seen: tuple[int, int, int] | None = None
        self._changed_ns = 0
        self._spacings_ns: deque[int] = deque(maxlen=_RHYTHM)

    def last_row(self) -> Mapping[str, str]:
        """The newest row, by column; a row without its newline is not whole yet.

        Raises:
            FetchError: no file, no row, or nothing was written to it for several of its periods.
        """
        try:
            with self.path.open("rb") as file:
                self._check_age(os.fstat(file.fileno()))
                header = file.readline().decode("utf-8-sig", errors="replace")
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - _TAIL_BYTES, len(header.encode())))
                rows = file.read().decode("utf-8", errors="replace").split("\n")[:-1]
        except OSError as err:
            raise FetchError(f"{self.path}: {err.strerror}") from None
        columns = next(csv.reader([header]), [])
        if not rows:
            raise FetchError(f"{self.path}: no row yet below {', '.join(columns) or 'no header'}")
        return {**dict.fromkeys(columns, ""), **dict(zip(columns, next(csv.reader(rows[-1:]), []), strict=False))}

    def _check_age(self, status: os.stat_result) -> None:
        """Refuse a file that has not changed for long; from the second look on, by the clock that nobody sets."""
        now_ns = self._clock.monotonic_ns()
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        is_first = self._seen is None
        if is_first:
            self._changed_ns = now_ns - max(0, self._clock.utc_ns() - status.st_mtime_ns)
        elif seen != self._seen:
            self._spacings_ns.append(now_ns - self._changed_ns)
            self._changed_ns = now_ns
        self._seen = seen
        period_ns = max(self._period_ns, *self._spacings_ns) if self._spacings_ns else self._period_ns
        longest_ns = max(_PERIODS * period_ns, _FIRST_NS if is_first else 0)
        if now_ns - self._changed_ns > longest_ns:
            silent_s, period_s = seconds(now_ns - self._changed_ns), seconds(period_ns)
            raise FetchError(
                f"{self.path}: nothing was written to it for {silent_s:.0f} s; does its program still run? "
                f"If it writes more rarely than every {period_s:.3g} s, say so as `period_ms`"
            )
