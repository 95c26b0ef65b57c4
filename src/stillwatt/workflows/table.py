"""A table of trainings as a spreadsheet leaves it, read into observations; what cannot be read is said with its line.

A cell that cannot be meant, and a table that could be read in two ways, are refused with their place: an answer from
the rest might be wrong.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatt.analysis.quality import is_training_loss
from stillwatt.analysis.words import listed
from stillwatt.errors import ConfigError, NoSuchInputError, suggest
from stillwatt.records.comparison import Observation
from stillwatt.units import KilowattHours, from_kwh
from stillwatt.workflows.cells import BadCellError, Numbers
from stillwatt.workflows.outputs import shown
from stillwatt.workflows.sites import read_sites
from stillwatt.workflows.table_cells import (
    boundary_of,
    cards_in,
    cards_of,
    check_ranges,
    half_widths_of,
    joules_of,
    own_kwh_of,
    settings_of,
)
from stillwatt.workflows.table_checks import (
    LEAST_PERCENT,
    MOST_SHARE,
    NO_SCORE,
    Scale,
    are_seeds,
    check_boundaries,
    check_definitions,
)
from stillwatt.workflows.table_names import COLUMNS, CONSTANT, NUMBERS, OPTIONAL, PLAIN, SETTINGS, SITES

__all__ = ["COLUMNS", "SETTINGS", "Table", "constant_tokens", "read_table"]


PAPER = "paper"
"""Stands for the published table."""
_PUBLISHED = Path(__file__).parent / "data" / "lambert_luccioni_2026.csv"
_LARGE = 200_000
"""Characters from which a table is read by columns, where it is plain enough."""
_NO_SETTINGS: Mapping[str, float] = {}
_MOST_LINES = 20
"""Rows that are named one by one; of more, how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows, and what a reader should know of them."""

    source: str
    rows: tuple[Observation, ...]
    boundary: str
    """What the energies cover, `gpu`, `node` or `facility`; empty where the table does not say."""
    warnings: tuple[str, ...]
    per_token: tuple[tuple[float, float], ...]
    """Total kWh and J per token of rows that give both."""
    published: tuple[tuple[str, str], ...]
    """Labels with the N* that their source gives, in its words."""


def read_table(table: str | Path) -> Table:
    """Read a table of trainings: a file, or `paper`, the one published by Lambert and Luccioni.

    Comma, semicolon or tab between cells, UTF-8 or UTF-16, with or without a byte-order mark; decimal commas where
    cells are not separated by commas. Lines that begin with `#` before the header are remarks.

    Raises:
        NoSuchInputError: There is no such file.
        ConfigError: A column is missing, a cell cannot be meant, two rows are one training, or the table could be read
            in two ways; names the line.
    """
    return _Reading(table).table()


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as err:
        raise NoSuchInputError("table", str(path), "name a CSV file, or `paper` for the published one") from err
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read: {err.strerror or err}; name a CSV file") from err
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise ConfigError(
            str(path), f"byte 0x{raw[err.start]:02x} is not UTF-8; save it as 'CSV UTF-8'", line=line
        ) from err


class _Reading:
    """One pass over one file."""

    def __init__(self, table: str | Path) -> None:
        self._path = shown(table)
        path = _PUBLISHED if self._path == PAPER else Path(table)
        self._numbers = Numbers()
        self._bad: list[tuple[int, str]] = []
        self._columns: tuple[str, ...] = ()
        self._short: list[tuple[int, str]] = []
        self._unplaced: list[tuple[int, str]] = []
        self._warnings: list[str] = []
        self._seen: dict[tuple[str, str], int] = {}
        self._labels: dict[str, tuple[int, str, str, Mapping[str, float]]] = {}
        self._has_settings = False
        self._definitions: dict[str, int] = {}
        self._boundaries: dict[str, int] = {}
        self._scale = Scale()
        self._per_token: list[tuple[float, float]] = []
        self._published: list[tuple[str, str]] = []
        self._text = _decoded(path)

    def table(self) -> Table:
        """Read everything."""
        plain = self._plain_rows()
        rows = [row for row in self._rows() if row is not None] if plain is None else plain
        self._check_whole(has_rows=bool(rows))
        self._name_rows(self._short, "the others are taken as unknown")
        self._name_rows(self._unplaced, "that row is in no frontier")
        return Table(
            source=self._path,
            rows=tuple(rows),
            boundary=next(iter(self._boundaries), ""),
            warnings=tuple(self._warnings),
            per_token=tuple(self._per_token),
            published=tuple(self._published),
        )

    def _header(self, stream: io.StringIO) -> tuple[int, list[str], str]:
        """The header's line number and names, and what stands between cells."""
        number, delimiter = 0, ""
        for line in stream:
            number += 1
            if match := re.fullmatch(r'"?sep=(.)"?\s*', line):
                delimiter = match[1]  # how Excel notes it
            elif line.strip() and not line.startswith("#"):
                break
        else:
            raise ConfigError(self._path, "the table is empty; its first line names the columns")
        delimiter = delimiter or max(",;\t", key=lambda mark: len(set(_names(line, mark)) & {*COLUMNS, *OPTIONAL}))
        return number, _names(line, delimiter), delimiter

    def _check_header(self, names: Sequence[str], line: int) -> None:
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise ConfigError(self._path, f"column {twice[0]!r} stands there twice", line=line)
        self._columns = tuple(name for name in NUMBERS if name in names)
        self._has_settings = any(name in SETTINGS for name in names)
        missing = [name for name in COLUMNS if name not in names]
        unread = [name for name in names if name not in (*COLUMNS, *OPTIONAL)]
        if missing:
            near = {name: suggest(name, unread) for name in missing}
            hints = [f"{name!r} (did you mean {near[name]!r}?)" if near[name] else repr(name) for name in missing]
            losses = [name for name in unread if is_training_loss(name)]
            if "quality" in missing and losses:
                raise ConfigError(self._path, f"no column 'quality', and {losses[0]!r}: {NO_SCORE}", line=line)
            raise ConfigError(
                self._path,
                f"no column {', '.join(hints)}; needed are {','.join(COLUMNS)}; a column may be empty",
                line=line,
            )
        if any(unread):
            self._warnings.append(f"{self._path}: columns not read: {', '.join(filter(None, unread))}")

    def _plain_rows(self) -> list[Observation] | None:
        """All rows by columns, where the table is large and plain and nothing in it is refused; None otherwise."""
        if len(self._text) < _LARGE:
            return None
        from stillwatt.workflows.table_columns import read_columns

        line, header, delimiter = self._header(io.StringIO(self._text, newline=None))
        odd = set(header) & {*COLUMNS, *OPTIONAL} - {*PLAIN, *CONSTANT}
        if delimiter != "," or odd or not set(COLUMNS) <= set(header) or len(set(header)) < len(header):
            return None
        columns = read_columns(self._text, header, line, [name for name in PLAIN if name in NUMBERS], CONSTANT)
        if columns is None:
            return None
        try:
            numbers = {name: self._numbers.read(columns.constants.get(name, ""), name, line + 1) for name in SITES}
            check_ranges(numbers, columns.constants)
            boundary = boundary_of(columns.constants.get("boundary", ""))
        except BadCellError:
            return None
        rows = list(columns.rows(SETTINGS, read_sites(numbers)))
        definition = columns.constants.get("quality_definition", "")
        if not rows or not self._note_plain(rows, line + 1, is_defined=bool(definition)):
            return None
        self._boundaries[boundary] = line + 1
        if any(row.quality is not None for row in rows):
            self._definitions[definition] = next(n for n, row in enumerate(rows, line + 1) if row.quality is not None)
        self._check_header(header, line)
        return rows

    def _note_plain(self, rows: Sequence[Observation], first_line: int, *, is_defined: bool) -> bool:
        """Note what the other way of reading notes; False where it would refuse."""
        if len({row.label for row in rows}) < len(rows) and not are_seeds(rows):
            return False
        known = [abs(row.quality) for row in rows if row.quality is not None]
        is_mixed = any(quality > LEAST_PERCENT for quality in known) and any(0.0 < q <= MOST_SHARE for q in known)
        if is_mixed and not is_defined:
            return False
        if len(known) < len(rows):
            lines = enumerate(rows, start=first_line)
            self._unplaced += [
                (line, _lacks_quality(row.label, row.seed)) for line, row in lines if row.quality is None
            ]
        return True

    def _rows(self) -> Iterator[Observation | None]:
        stream = io.StringIO(self._text, newline=None)
        header_line, header, delimiter = self._header(stream)
        self._check_header(header, header_line)
        self._numbers.comma_is_decimal = delimiter != ","
        reader = csv.reader(stream, delimiter=delimiter)
        try:
            for cells in reader:
                if any(cells):
                    yield self._row(header, cells, header_line + reader.line_num)
        except csv.Error as err:
            raise ConfigError(self._path, f"cannot be read: {err}", line=header_line + reader.line_num) from err

    def _row(self, header: Sequence[str], cells: list[str], line: int) -> Observation | None:
        try:
            if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
                hint = "" if self._numbers.comma_is_decimal else "; decimal commas need semicolons between cells"
                raise BadCellError(f"{len(cells)} cells where the header has {len(header)}{hint}")
            if len(cells) < len(header):
                self._short.append((line, f"{len(cells)} cells where the header has {len(header)}"))
            given = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
            read = self._observe(given, line)
        except BadCellError as err:
            self._bad.append((line, str(err)))
            return None
        self._check_training(read, line)
        return read

    def _observe(self, given: Mapping[str, str], line: int) -> Observation:
        for name in ("label", "method"):
            if not given.get(name):
                raise BadCellError(f"no {name}; each row needs a label and a method")
        numbers: dict[str, float | None] = dict.fromkeys(NUMBERS)
        for name in self._columns:
            numbers[name] = self._numbers.read(given.get(name, ""), name, line)
        check_ranges(numbers, given)
        quality = self._numbers.read(given.get("quality", ""), "quality", line)
        own_kwh = own_kwh_of(numbers)
        site, teacher_site = read_sites(numbers)
        self._boundaries.setdefault(boundary_of(given.get("boundary", "")), line)
        if quality is not None:
            self._scale.note(quality, line)
            self._definitions.setdefault(given.get("quality_definition", ""), line)
        else:
            self._unplaced.append((line, _lacks_quality(given["label"], given.get("seed", ""))))
        self._note_published(numbers, own_kwh, given)
        return Observation(
            label=given["label"],
            method=given["method"],
            student=given.get("student", ""),
            seed=given.get("seed", ""),
            place=f"line {line}",
            quality=quality,
            quality_se=numbers["quality_se"],
            teacher_j=joules_of(numbers["teacher_kwh"]),
            student_j=joules_of(numbers["student_kwh"]),
            own_j=joules_of(own_kwh),
            throughput=numbers["throughput"],
            teacher_tokens=numbers["teacher_tokens"],
            served_teacher_j=numbers["serving_teacher_j_per_token"],
            served_student_j=numbers["serving_student_j_per_token"],
            half_widths=half_widths_of(numbers),
            cards=cards_of(numbers),
            site=site,
            teacher_site=teacher_site,
            student_s=numbers["student_seconds"],
            **cards_in(given, numbers),
            settings=settings_of(numbers) if self._has_settings else _NO_SETTINGS,
        )

    def _check_training(self, row: Observation, line: int) -> None:
        first = self._seen.setdefault((row.label, row.seed), line)
        if first != line:
            which = f"with seed {row.seed!r} " if row.seed else "without a seed "
            raise ConfigError(
                self._path,
                f"label {row.label!r} {which}stands here and on line {first}: one training is one row, "
                "and repeats differ in their seed",
                line=line,
            )
        held = self._labels.setdefault(row.label, (line, row.method, row.student, row.settings))
        if held[3] != row.settings:
            name = next(name for name in SETTINGS if held[3].get(name) != row.settings.get(name))
            raise ConfigError(
                self._path,
                f"label {row.label!r} has another {name} here than on line {held[0]}: rows of one label differ in "
                "their seed alone",
                line=line,
            )
        if held[1:3] != (row.method, row.student):
            raise ConfigError(
                self._path,
                f"label {row.label!r} is {row.method}/{row.student} here and {held[1]}/{held[2]} on line {held[0]}: "
                "rows of one label differ in their seed alone",
                line=line,
            )

    def _note_published(
        self, numbers: Mapping[str, float | None], own_kwh: float | None, given: Mapping[str, str]
    ) -> None:
        if given.get("published_n_star"):
            self._published.append((given["label"], given["published_n_star"]))
        teacher, per_token = numbers["teacher_kwh"], numbers["j_per_token"]
        if per_token and own_kwh is not None and teacher is not None:
            self._per_token.append((own_kwh + teacher, per_token))

    def _check_whole(self, *, has_rows: bool) -> None:
        if self._bad:
            (line, why), *others = self._bad
            also = f"; also bad: {listed(f'line {other}' for other, _ in others)}" if others else ""
            raise ConfigError(self._path, f"{why}{also}", line=line)
        if not has_rows:
            raise ConfigError(self._path, "there is no row below the header")
        self._numbers.check(self._path)
        check_definitions(self._path, self._definitions)
        check_boundaries(self._path, self._boundaries)
        if "" in self._definitions:
            self._scale.check(self._path)
        if self._numbers.first_comma is not None:
            line, text = self._numbers.first_comma
            self._warnings.append(f"{self._path}:{line}: commas are decimal marks here, as in {text}")

    def _name_rows(self, rows: Sequence[tuple[int, str]], consequence: str) -> None:
        self._warnings += [f"{self._path}:{line}: {why}; {consequence}" for line, why in rows[:_MOST_LINES]]
        if len(rows) > _MOST_LINES:
            self._warnings.append(f"{self._path}: {len(rows) - _MOST_LINES:,} more rows like these; {consequence}")


def _names(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    return [re.sub(r"[\s-]+", "_", cell.strip().casefold()) for cell in cells]


def _lacks_quality(label: str, seed: str) -> str:
    return f"{label}, seed {seed}, has no quality" if seed else f"{label} has no quality"


def constant_tokens(table: Table) -> float | None:
    """The token count that a column `j_per_token` rests on, where it is one and the same in every row.

    Such a column says total kWh again, in another unit.
    """
    counts = [from_kwh(KilowattHours(kwh)) / per_token for kwh, per_token in table.per_token]
    if len(counts) < 3 or max(counts) - min(counts) > 0.01 * max(counts):
        return None
    return math.fsum(counts) / len(counts)
