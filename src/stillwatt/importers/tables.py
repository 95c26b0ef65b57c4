"""Tables as other tools write them: separators, decimal commas, times in any form; each fault with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stillwatt.errors import ConfigError
from stillwatt.importers.intake import LogFile
from stillwatt.importers.numbers import is_number
from stillwatt.units import NS_PER_MS, NS_PER_S, NS_PER_US

_SEPARATORS = (",", ";", "\t")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR_S, _LAST_YEAR_S = 946_684_800, 4_102_444_800
"""2000 and 2100 in seconds since 1970: which of s, ms, µs and ns an epoch time is in, is told by its size."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row with the line it ends on."""

    line: int
    cells: Mapping[str, str]

    def get(self, *names: str) -> str:
        """The first cell of these names that is there, without blanks; empty where none is."""
        return next((self.cells[name] for name in names if name in self.cells), "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its header, and the rows that do not fit it."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    misfits: tuple[tuple[int, str], ...]
    """Line and what is wrong: too few or too many cells."""


def header_of(file: LogFile) -> tuple[str, ...]:
    """The first line's cells, lower case; empty where the file is no text."""
    try:
        return tuple(_cells(file.text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")))
    except (ConfigError, csv.Error):
        return ()


def read_table(file: LogFile) -> Table:
    """The file as a table with a header.

    Raises:
        ConfigError: it is no text, or no table that the csv module can read; names the line.
    """
    text = file.text
    separator = _separator(text.lstrip("\r\n").split("\n", 1)[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows: list[Row] = []
    misfits: list[tuple[int, str]] = []
    header: tuple[str, ...] = ()
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = tuple(cell.strip().lower() for cell in cells)
            elif len(cells) != len(header):
                misfits.append((reader.line_num, f"{len(cells)} cells under a header of {len(header)}"))
            else:
                rows.append(Row(reader.line_num, {n: c.strip() for n, c in zip(header, cells, strict=True)}))
    except csv.Error as err:
        raise file.wrong(f"not a table ({err}); was it cut off?", reader.line_num) from err
    if len(set(header)) != len(header):
        raise file.wrong("two columns have the same name; which is meant cannot be told", 1)
    return Table(header, tuple(rows), tuple(misfits))


def _cells(line: str) -> Iterator[str]:
    for cells in csv.reader([line], delimiter=_separator(line), skipinitialspace=True):
        yield from (cell.strip().lower() for cell in cells)


def _separator(line: str) -> str:
    return max(_SEPARATORS, key=line.count)


@dataclass(frozen=True, slots=True)
class Moment:
    """A wall-clock time as a cell gave it."""

    utc_ns: int
    has_zone: bool
    """Whether the cell said which zone it is in; epoch times always do."""


def moment(text: str) -> Moment:
    """A cell as a time: ISO 8601 and near it (no zone: taken as UTC), or seconds, ms, µs or ns since 1970 by size.

    Raises:
        ValueError: it is neither, or lies outside 2000 to 2100.

    >>> moment("1769299160.5").utc_ns == moment("1769299160500").utc_ns
    True
    >>> moment("2026/01/25 16:43:37.250").has_zone
    False
    """
    bare = text.strip()
    if is_number(bare.replace(",", ".")):
        return Moment(_epoch_ns(bare.replace(",", ".")), has_zone=True)
    try:
        found = datetime.fromisoformat(bare.replace("/", "-"))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time") from None
    zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    since = zoned - _EPOCH
    utc_ns = (since // timedelta(microseconds=1)) * NS_PER_US
    if not _FIRST_YEAR_S * NS_PER_S <= utc_ns < _LAST_YEAR_S * NS_PER_S:
        raise ValueError(f"{text[:40]!r} lies outside 2000 to 2100")
    return Moment(utc_ns, has_zone=found.tzinfo is not None)


def _epoch_ns(text: str) -> int:
    """Nanoseconds of an epoch time, exact to its last digit where it is written without an exponent."""
    value = float(text)
    for unit_ns in (NS_PER_S, NS_PER_MS, NS_PER_US, 1):
        per_s = NS_PER_S / unit_ns
        if _FIRST_YEAR_S * per_s <= value < _LAST_YEAR_S * per_s:
            return _scaled(text, unit_ns)
    raise ValueError(f"{text[:40]!r} is no time between 2000 and 2100 in s, ms, us or ns since 1970")


def _scaled(text: str, unit_ns: int) -> int:
    whole, _, rest = text.partition(".")
    if not whole.lstrip("+").isdigit() or (rest and not rest.isdigit()):
        return round(float(text) * unit_ns)
    digits = rest[:9].ljust(9, "0")
    return int(whole) * unit_ns + int(digits) * unit_ns // NS_PER_S
