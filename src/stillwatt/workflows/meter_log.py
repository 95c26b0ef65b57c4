"""An external meter's log as CSV: one column of times, one of watts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stillwatt.errors import ConfigError, NoSuchInputError
from stillwatt.metering.calibrate import MeterLog

_TIMES = ("time", "time_s", "timestamp", "t", "t_s", "utc")
_POWERS = ("watts", "power_w", "power", "w", "watt", "active_power_w")
_LEAST_EPOCH_S = 100_000_000.0
"""Seconds since 1970 that are larger are times of day of this century or the last; smaller ones count from the log's
own beginning."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadLog:
    """A meter's log, and whether its times are on the wall clock."""

    log: MeterLog
    is_wall_clock: bool


def read_meter_log(path: Path) -> ReadLog:
    """Read a meter's log.

    Times are seconds (since 1970, or since the log began) or ISO 8601, UTC where they name no zone.

    Raises:
        NoSuchInputError: there is no such file.
        ConfigError: a column is missing, or a row cannot be meant; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, csv.reader(file)))
    except (FileNotFoundError, IsADirectoryError) as err:
        raise NoSuchInputError("a meter's log", str(path), "name a CSV file with the columns time and watts") from err
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise ConfigError(str(path), f"cannot be read as CSV ({err})") from err
    if len(rows) < 2:
        raise ConfigError(str(path), f"holds {len(rows)} readings; nothing can be learnt from so few")
    t_s, power_w = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return ReadLog(MeterLog(t_s, power_w), bool(t_s[0] >= _LEAST_EPOCH_S))


def _rows(path: Path, reader: Iterator[Sequence[str]]) -> Iterator[tuple[float, float]]:
    header = [name.strip().lower() for name in next(reader, [])]
    time_at, power_at = _column(path, header, _TIMES), _column(path, header, _POWERS)
    last_s = -math.inf
    for line, row in enumerate(reader, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(time_at, power_at):
            raise ConfigError(str(path), f"{len(row)} of {len(header)} columns are there", line=line)
        t_s, power_w = _time_s(path, line, row[time_at]), _watts(path, line, row[power_at])
        if not t_s > last_s:
            raise ConfigError(str(path), f"time {row[time_at].strip()} is not later than the row before", line=line)
        last_s = t_s
        yield t_s, power_w


def _column(path: Path, header: Sequence[str], names: Sequence[str]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    found = ", ".join(header) or "nothing"
    raise ConfigError(str(path), f"no column {names[0]!r} (or {', '.join(names[1:])}); its head is: {found}", line=1)


def _time_s(path: Path, line: int, text: str) -> float:
    number = _number(text)
    if number is not None:
        return number
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as err:
        raise ConfigError(str(path), f"time {text.strip()!r} is neither seconds nor ISO 8601", line=line) from err
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _watts(path: Path, line: int, text: str) -> float:
    number = _number(text)
    if number is None:
        raise ConfigError(str(path), f"{text.strip()!r} is not a power in watts", line=line)
    if number < 0:
        raise ConfigError(
            str(path), f"{number:g} W: a load does not give power back; turn the meter's clamp", line=line
        )
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
