"""Which columns of a table are powers, of what and in what unit: told by their names, and by cells that are numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillwatt.importers.numbers import number
from stillwatt.importers.tables import Table
from stillwatt.importers.told_apart import CARD_COLUMNS
from stillwatt.records.channel import Boundary
from stillwatt.units import W_PER_MW_MILLI, W_PER_UW

TIMES = (
    "timestamp",
    "time",
    "datetime",
    "date",
    "utc",
    "utc_ns",
    "unix_time",
    "epoch",
    "timestamp_ns",
    "timestamp_ms",
)
RELATIVE_TIMES = ("t_s", "time_s", "elapsed_s", "seconds")
BY_ROW = "gpu"
"""The part of a column whose rows say which card they are of."""
_UNITS = {"w": 1.0, "watt": 1.0, "watts": 1.0, "mw": W_PER_MW_MILLI, "milliwatts": W_PER_MW_MILLI, "uw": W_PER_UW}
_KILO = {"kw": 1 / W_PER_MW_MILLI, "kilowatts": 1 / W_PER_MW_MILLI}
_POWER = re.compile(r"(?:^|[^a-z])(?:power|watts?|[mkµu]?w|draw|milliwatts|kilowatts)(?:$|[^a-z])")
_UNIT = re.compile(r"[\[(]\s*([a-zµ]+)\s*[\])]$|(?:^|[_ .-])(w|mw|uw|kw|watts?|milliwatts|kilowatts)$")
_CELL_UNIT = re.compile(r"\s*([mkuµ]?W)$")


def _words(*words: str) -> re.Pattern[str]:
    """A pattern of whole words, alone or grown together with what they are of: `max`, `maxpower`, `gputotal`."""
    return re.compile(rf"(?<![a-z])(?:gpu|cpu|power)?(?:{'|'.join(words)})(?:power)?(?![a-z])")


_NOT_POWER = _words(
    *("limits?", "max", "maximum", "min", "minimum", "cap", "default", "enforced", "energy"),
    *("util", "utili[sz]ation", "management"),
)
_SUM = _words("totals?", "sum")
_SOCKET = re.compile(r"(?<![a-z])socket(?![a-z])")
_PARTS = (
    (re.compile(r"gpu[ _.-]?(\d+)"), "gpu{}", Boundary.BOARD),
    (re.compile(r"gpu|graphics"), "gpu0", Boundary.BOARD),
    (re.compile(r"wall|plug(?!in)|outlet|mains|pdu|smart[ _.-]?socket"), "wall", Boundary.WALL),
    (re.compile(r"(?:cpu|package|pkg|socket)[ _.-]?(\d+)[ _.-](?:d?ram|memory)(?![a-z])"), "dram{}", Boundary.CHIP),
    (re.compile(r"(?:cpu|package|pkg|socket)[ _.-]?(\d+)"), "cpu{}", Boundary.CHIP),
    (re.compile(r"cpu|package|pkg"), "cpu", Boundary.CHIP),
    (re.compile(r"(?<![a-z])(?:d?ram|memory)[ _.-]?(\d+)"), "dram{}", Boundary.CHIP),
    (re.compile(r"(?<![a-z])d?ram(?![a-z])|memory"), "dram", Boundary.CHIP),
    (re.compile(r"node|psu|server|system"), "node", Boundary.NODE),
)
_NUMBERED = re.compile(r"(?:gpu|cpu|package|pkg|socket|d?ram|memory)[ _.-]?\d")
_UNTOLD = "machine"
_INSIDE = ("gpu", "cpu", "dram")
"""Kinds of parts that lie in the machine, so that a power of what is not told may hold them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of power."""

    name: str
    part: str
    boundary: Boundary
    unit: str
    scale_w: float
    is_numbered: bool
    """Whether its name says which card or socket it is of."""

    @property
    def is_query(self) -> bool:
        """Whether it is of nvidia-smi's query."""
        return "power.draw" in self.name

    def bare(self, cell: str) -> str:
        """A cell without its unit.

        Raises:
            ValueError: it has another unit than the column.
        """
        if match := _CELL_UNIT.search(cell):
            if match.group(1).lower().replace("µ", "u") != self.unit.replace("watts", "w").replace("watt", "w"):
                raise ValueError(f"{self.name} = {cell[:40]!r} is not in the column's unit, {self.unit}")
            return cell[: match.start()]
        return cell


def columns_of(header: Sequence[str]) -> list[Column]:
    """Columns that hold powers, by their names."""
    found = []
    has_cards = not CARD_COLUMNS.isdisjoint(header)
    for name in header:
        if name in (*TIMES, *RELATIVE_TIMES) or _NOT_POWER.search(name) or not _POWER.search(name):
            continue
        match = _UNIT.search(name)
        unit = next((text for text in match.groups() if text), "w") if match else "w"
        scale = {**_UNITS, **_KILO}.get(unit.replace("µ", "u"))
        if scale is not None:
            part, boundary = _part(name, has_cards=has_cards)
            is_numbered = part != BY_ROW and _NUMBERED.search(name) is not None
            found.append(Column(name, part, boundary, unit, scale, is_numbered))
    return found


def _part(name: str, *, has_cards: bool) -> tuple[str, Boundary]:
    if "power.draw" in name:
        return BY_ROW, Boundary.BOARD
    for pattern, part, boundary in _PARTS:
        if match := pattern.search(name):
            return part.format(*match.groups()), boundary
    if has_cards and _SOCKET.search(name):  # what AMD's tools call a card
        return BY_ROW, Boundary.BOARD
    return _UNTOLD, Boundary.COMPONENTS


def chosen_columns(table: Table) -> tuple[list[Column], list[str]]:
    """The columns to book, and what had to be said: none without numbers, no sum beside what it sums, one a part."""
    named, said = columns_of(table.header), []
    columns = [column for column in named if _has_numbers(table, column)] or named
    said += [f"{c.name}: no row has a power" for c in named if c not in columns]
    sums = list(_sums(columns))
    if sums:
        columns = [column for column in columns if column not in sums]
        said.append(f"{', '.join(c.name for c in sums)}: the sum of other columns is not counted beside them")
    columns, beside = _without_holders(columns)
    said += beside
    chosen: dict[str, Column] = {}
    for column in sorted(columns, key=lambda column: "average" in column.name):
        if column.part in chosen:
            said.append(f"{column.name}: {chosen[column.part].name} is of the same part and is booked; this one is not")
        else:
            chosen[column.part] = column
    return [column for column in columns if chosen[column.part] is column], said


def _has_numbers(table: Table, column: Column) -> bool:
    """Whether any cell is a number; a state, a mode or a reading that always failed is no power."""
    for row in table.rows:
        try:
            if number(_CELL_UNIT.sub("", row.get(column.name))) is not None:
                return True
        except ValueError:
            continue
    return False


def _sums(columns: Sequence[Column]) -> Iterator[Column]:
    """Columns that are called sums, where the others hold what they may be the sum of."""
    single = [column for column in columns if not _SUM.search(column.name)]
    kinds = {_kind(column) for column in single}
    for column in columns:
        is_of_all = _kind(column) not in ("gpu", "cpu", "dram")
        if column not in single and single and (is_of_all or _kind(column) in kinds):
            yield column


def _without_holders(columns: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """Columns without those that others may be parts of, as nothing is to be counted twice; and what had to be said.

    `cpu_w` beside `cpu0_w` and `cpu1_w` is the sum of both, by all that its name says, and `power_w` or `core_w` beside
    `cpu_w` what holds it or lies in it.
    """
    kept, said = [], []
    for column in columns:
        parts = [c for c in columns if c is not column and _kind(c) in _INSIDE]
        if column.part != _UNTOLD:
            numbered = [c for c in parts if c.is_numbered and _kind(c) == _kind(column)]
            is_clear = column.is_numbered or column.part == BY_ROW
            parts = numbered if not is_clear and (len(numbered) > 1 or f"{_kind(column)}0" in _parts(numbered)) else []
        if parts:
            names = ", ".join(c.name for c in parts)
            said.append(f"{column.name}: by its name it may hold, or lie in, {names}; it is not counted beside them")
        else:
            kept.append(column)
    return kept, said


def _parts(columns: Sequence[Column]) -> set[str]:
    return {column.part for column in columns}


def _kind(column: Column) -> str:
    return column.part.rstrip("0123456789")
