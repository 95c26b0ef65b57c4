"""Plays a recorded CSV back as an instrument: in real time, or one recorded row a reading.

Columns: `t_s` (any origin, not falling within a stream), `part`, and `power_w` or `counter_j`; a row in which both are
empty stands for a reading that failed. Optional columns `device` and `boundary` (`chip`, `board`, …) are taken from
each part's first row. A part with both quantities has the counter as ledger and the power as witness.
"""

from __future__ import annotations

import csv
import math
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UnknownNameError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe
from stillwatt.units import NS_PER_MS, nanoseconds

PACES = ("real_time", "as_recorded")
_COLUMNS = {"power_w": Quantity.POWER, "counter_j": Quantity.ENERGY_COUNTER}
_CURE = "a recording has the columns t_s, part and power_w or counter_j (docs/reference/sensors.md)"
_DEFAULT_PERIOD_NS = 100 * NS_PER_MS
_MOST_S = 1e10
"""Times by the calendar are below 2e9; those in milliseconds are above."""


@dataclass(slots=True)
class _Stream:
    """The rows of one stream."""

    part: str
    quantity: Quantity
    device: str
    boundary: Boundary
    times_ns: list[int] = field(default_factory=list)
    counts: list[float | None] = field(default_factory=list)
    """None where the recorded reading had failed."""

    def period_ns(self) -> int:
        """Median distance of rows, for want of the instrument's own update period."""
        steps = sorted(b - a for a, b in zip(self.times_ns, self.times_ns[1:], strict=False) if b > a)
        return steps[len(steps) // 2] if steps else _DEFAULT_PERIOD_NS


class ReplaySensor:
    """A recording as an instrument.

    With `pace` `real_time` a reading shows the row that was current that long after the recording's start, stamped
    now; with `as_recorded` the n-th reading shows the n-th row, stamped with the recorded distance from the start.
    The basis is `assumed` unless `basis` says what it was when recorded; `gain_rel` bounds the systematic error.
    """

    driver = "replay"

    def __init__(
        self,
        clock: Clock,
        *,
        path: str | os.PathLike[str],
        pace: str = "real_time",
        basis: str = Basis.ASSUMED.value,
        gain_rel: float = 0.05,
    ) -> None:
        if pace not in PACES:
            raise UnknownNameError("pace of a replay", pace, PACES)
        if basis not in list(Basis):
            raise UnknownNameError("basis", basis, [known.value for known in Basis])
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'replay': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        self._clock = clock
        self._path = Path(path)
        self._is_paced = pace == "real_time"
        self._basis = Basis(basis)
        self._gain_rel = gain_rel
        self._streams: list[_Stream] = []
        self._origin_ns = 0
        self._reads = 0

    def probe(self) -> Probe:
        """Read the recording through; names the line that is wrong."""
        try:
            streams = self._load()
        except SensorUnavailableError as err:
            absent = (Absent(part=self.driver, boundary=Boundary.COMPONENTS, reason=err.detail),)
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure, absent=absent)
        rows = sum(len(stream.times_ns) for stream in streams)
        return Probe(
            driver=self.driver,
            usable=True,
            detail=f"REPLAY of {self._path}: {rows} rows, {len(streams)} streams; no measurement of this machine",
            channels=self._describe(streams),
        )

    def open(self) -> tuple[Channel, ...]:
        """Load the recording and start playing.

        Raises:
            SensorUnavailableError: the file cannot be read or understood; names the line.
        """
        if not self._streams:
            self._streams = self._load()
            self._origin_ns, self._reads = self._clock.monotonic_ns(), 0
        return self._describe(self._streams)

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Show every stream's current row; after the last one, and before the first, a failure."""
        self._reads += 1
        return [self._read_one(stream) for stream in self._streams]

    def close(self) -> None:
        """Stop playing; opening again starts from the beginning."""
        self._streams = []

    def _read_one(self, stream: _Stream) -> Reading | ReadFailure:
        name = f"{stream.part}.{stream.quantity.value}"
        now_ns = self._clock.monotonic_ns()
        if self._is_paced:
            row = bisect_right(stream.times_ns, now_ns - self._origin_ns) - 1
            is_over = now_ns - self._origin_ns > stream.times_ns[-1] + stream.period_ns()
            t_ns = now_ns
        else:
            row = min(self._reads, len(stream.times_ns)) - 1
            is_over = self._reads > len(stream.times_ns)
            t_ns = self._origin_ns + stream.times_ns[row]
        if is_over:
            return ReadFailure(stream=name, t_ns=t_ns, reason="the recording is over")
        count = stream.counts[row] if row >= 0 else None
        if count is None:
            reason = "the recorded reading had failed" if row >= 0 else "the recording of this stream begins later"
            return ReadFailure(stream=name, t_ns=t_ns, reason=reason)
        return Reading(stream=name, t_ns=t_ns, count=count)

    def _describe(self, streams: Sequence[_Stream]) -> tuple[Channel, ...]:
        counters = {stream.part for stream in streams if stream.quantity is Quantity.ENERGY_COUNTER}
        return tuple(
            Channel(
                part=stream.part,
                device=stream.device,
                boundary=stream.boundary,
                quantity=stream.quantity,
                role=Role.WITNESS if stream.quantity is Quantity.POWER and stream.part in counters else Role.LEDGER,
                unit_si=1.0,
                driver=self.driver,
                basis=self._basis,
                gain_low_rel=self._gain_rel,
                gain_high_rel=self._gain_rel,
                update_period_ns=stream.period_ns(),
                source=f"REPLAY of {self._path.name}, not a measurement of this run",
            )
            for stream in streams
        )

    def _load(self) -> list[_Stream]:
        """The streams of the file, in the order of their first rows, with times from the earliest row on."""
        streams: dict[tuple[str, Quantity], _Stream] = {}
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                for row in (reader := csv.DictReader(file)):
                    self._take(row, reader.line_num, streams)
        except (OSError, UnicodeDecodeError, csv.Error) as err:
            raise SensorUnavailableError(self.driver, f"{self._path}: {err}", _CURE) from err
        if not streams:
            raise SensorUnavailableError(self.driver, f"{self._path}: no row with a power or a counter", _CURE)
        origin_ns = min(stream.times_ns[0] for stream in streams.values())
        for stream in streams.values():
            stream.times_ns = [t_ns - origin_ns for t_ns in stream.times_ns]
        return list(streams.values())

    def _take(
        self,
        row: Mapping[str, str | None],
        line: int,
        streams: dict[tuple[str, Quantity], _Stream],
    ) -> None:
        """Add one row to its streams; an empty row fails every stream of its part."""
        part = (row.get("part") or "").strip()
        t_s = self._number(row, "t_s", line)
        if abs(t_s) > _MOST_S:
            raise self._wrong(line, f"t_s = {t_s:.6g} is no time in seconds")
        t_ns = nanoseconds(t_s)
        given = [name for name in _COLUMNS if (row.get(name) or "").strip()]
        for name in given:
            stream = streams.setdefault((part, _COLUMNS[name]), self._stream(row, part, _COLUMNS[name], line))
            self._append(stream, t_ns, self._number(row, name, line), line)
        if given:
            return
        own = [stream for (owner, _), stream in streams.items() if owner == part]
        if not own:
            raise self._wrong(line, f"{part or 'a row'} fails before its first value, so its quantity is not known")
        for stream in own:
            self._append(stream, t_ns, None, line)

    def _append(self, stream: _Stream, t_ns: int, count: float | None, line: int) -> None:
        if stream.times_ns and t_ns < stream.times_ns[-1]:
            raise self._wrong(line, f"the time of {stream.part} goes back")
        stream.times_ns.append(t_ns)
        stream.counts.append(count)

    def _stream(self, row: Mapping[str, str | None], part: str, quantity: Quantity, line: int) -> _Stream:
        if not part.replace("-", "").replace("_", "").isalnum():
            raise self._wrong(line, f"part {part!r} must be letters, digits, '-' and '_'")
        default = Boundary.BOARD if part.startswith("gpu") else Boundary.CHIP
        boundary = (row.get("boundary") or "").strip() or default.value
        if boundary not in list(Boundary):
            raise self._wrong(line, f"boundary {boundary!r} is none of {', '.join(Boundary)}")
        device = (row.get("device") or "").strip() or "recorded"
        return _Stream(part, quantity, device, Boundary(boundary))

    def _number(self, row: Mapping[str, str | None], name: str, line: int) -> float:
        text = row.get(name)
        try:
            value = float(text or "")
        except ValueError:
            raise self._wrong(line, f"{name} = {text!r} is not a number") from None
        if not math.isfinite(value):
            raise self._wrong(line, f"{name} = {text!r} is not finite")
        return value

    def _wrong(self, line: int, what: str) -> SensorUnavailableError:
        return SensorUnavailableError(self.driver, f"{self._path}:{line}: {what}", _CURE)
