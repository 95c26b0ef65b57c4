"""A CSV of power over time: any logger's, several columns or rows by card, nvidia-smi's query; with stages beside it.

The energy is not taken from the file but estimated from its samples (method.md, eqs. 4, 5 and 7), with the interval.
Stages come from a second CSV with the columns name, start and end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from stillwatt.errors import ConfigError
from stillwatt.importers.cards import power_window
from stillwatt.importers.dmon import is_dmon, read_dmon
from stillwatt.importers.faults import Faults
from stillwatt.importers.intake import LogFile, left_with
from stillwatt.importers.marks import is_marks, read_marks
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Trace
from stillwatt.importers.numbers import length_s, needed, number
from stillwatt.importers.power_columns import BY_ROW, RELATIVE_TIMES, TIMES, Column, chosen_columns, columns_of
from stillwatt.importers.tables import Row, Table, header_of, moment, read_table
from stillwatt.importers.told_apart import Cards, check_times
from stillwatt.importers.traces import CARD_GAIN, UNKNOWN_GAIN, Instrument, hole_remarks, is_absurd, make_trace
from stillwatt.records.window import StageKind
from stillwatt.sensors.nvml_windows import Field
from stillwatt.units import nanoseconds

FORM = "power-csv"
_WHOLE = "recorded"
_WHOLES = ("wall", "node")
"""Parts of which a machine has one, so that several rows of them are several readings."""


def recognises(file: LogFile) -> bool:
    """Whether a file is a table with a time and a power, or one of stages for it."""
    header = header_of(file)
    return bool(_time_column(header) and columns_of(header)) or is_marks(file) or _is_dmon(file)


def _is_dmon(file: LogFile) -> bool:
    try:
        return is_dmon(file)
    except ConfigError:  # no text
        return False


def read(files: Sequence[LogFile]) -> Found:
    """One run a file of powers.

    Raises:
        ConfigError: a file is no table.
    """
    marks = [file for file in files if is_marks(file)]
    powers = [file for file in files if not is_marks(file)]
    runs, left_out = [], []
    used: set[str] = set()
    for file in powers:
        own = _marks_of(file, marks, is_alone=len(powers) == 1 and len(marks) == 1)
        run, faults = _read_file(file, own)
        left_out += faults
        used |= {own.name} if own is not None else set()
        if run is not None:
            runs.append(run)
        elif own is not None:
            left_out.append(LeftOut(name=own.name, reason=f"stages of {file.name}, which is left out"))
    for file in marks:
        if file.name not in used:
            reason = "stages, and it is not clear of which power file; call it <power file's name>.stages.csv"
            left_out.append(LeftOut(name=file.name, reason=reason))
    return Found(runs=tuple(runs), left_out=tuple(left_out))


def _marks_of(file: LogFile, marks: Sequence[LogFile], *, is_alone: bool) -> LogFile | None:
    stem = PurePosixPath(file.name).with_suffix("")
    named = [mark for mark in marks if PurePosixPath(mark.name) == PurePosixPath(f"{stem}.stages.csv")]
    return named[0] if named else (marks[0] if is_alone else None)


def _read_file(file: LogFile, marks: LogFile | None) -> tuple[ImportedRun | None, list[LeftOut]]:
    table = read_dmon(file) if is_dmon(file) else read_table(file)
    try:
        traces, said, left_out = read_traces(file, table)
    except ConfigError as err:
        return None, [left_with(file, err)]
    if not traces:
        left_out.append(LeftOut(name=file.name, reason="no row with a time and a power"))
        return None, left_out
    said += [remark for trace in traces for remark in hole_remarks(trace)]
    first_ns = min(trace.utc_ns[0] for trace in traces)
    last_ns = max(trace.utc_ns[-1] for trace in traces)
    stages: list[ImportedStage] = []
    if marks is not None:
        stages, faults = read_marks(marks)
        left_out += faults
    if not stages:
        # not named after the file: a copy of it under another name is the same log
        whole = ImportedStage(name=_WHOLE, kind=StageKind.OTHER, start_utc_ns=first_ns, end_utc_ns=last_ns)
        stages = [whole]
        said.append("no stages were given: all of the file is one stage")
    session = ImportedSession(
        stages=tuple(stages),
        traces=traces,
        start_utc_ns=min(first_ns, *(stage.start_utc_ns for stage in stages)),
        end_utc_ns=max(last_ns, *(stage.end_utc_ns for stage in stages)),
    )
    run = ImportedRun(
        form=FORM,
        tool="nvidia-smi" if any("power.draw" in name for name in table.header) else "a power log",
        tool_version="",
        identity=_identity(file, table),
        name=file.path.stem,
        host="",
        sessions=(session,),
        sources=(file.source, *((marks.source,) if marks is not None else ())),
        warnings=tuple(dict.fromkeys(said)),
    )
    return run, left_out


def _identity(file: LogFile, table: Table) -> str:
    """What a log and its copies have in common, and stays where it is written on: its columns and its first row.

    Logs whose times count from their own start may all begin alike; they are the same where all of them is.
    """
    if _time_column(table.header) in RELATIVE_TIMES:
        return file.source.sha256
    first = [table.rows[0].get(name) for name in table.header]
    return hashlib.sha256(json.dumps([list(table.header), first]).encode()).hexdigest()


def read_traces(file: LogFile, table: Table) -> tuple[tuple[Trace, ...], list[str], list[LeftOut]]:
    """The powers of a table, one trace a part, what had to be said, and the rows that were left out.

    Raises:
        ConfigError: its rows are of several instruments that nothing tells apart, or of a time that was gone through
            twice; says what to log.
    """
    time_column = _time_column(table.header)
    columns, said = chosen_columns(table)
    faults = Faults(file)
    for line, what in table.misfits:
        faults.add(line, what)
    rows = _Rows(file, table, columns, faults)
    for row in table.rows:
        try:
            utc_ns, has_zone = _time(row.get(time_column), time_column)
        except ValueError as err:
            faults.add(row.line, str(err))
        else:
            rows.add(row, utc_ns, has_zone=has_zone)
    if not rows.is_zoned:
        said.append("times have no zone; they are taken for UTC")
    if time_column in RELATIVE_TIMES:
        said.append("times are seconds from an unknown start; dates are made up (1970)")
    traces, remarks = rows.traces()
    return traces, said + remarks, faults.left_out()


class _Rows:
    """Readings by part, as they stand in the table."""

    def __init__(self, file: LogFile, table: Table, columns: Sequence[Column], faults: Faults) -> None:
        self._file, self._columns, self._faults = file, columns, faults
        is_by_row = any(column.part == BY_ROW for column in columns)
        is_alone = len(columns) == 1 and not columns[0].is_numbered
        is_query = any(column.is_query for column in columns)
        is_of_cards = is_by_row or any(column.part.startswith("gpu") for column in columns)
        has_cards = is_by_row or is_alone
        self._cards = Cards(table, is_query=is_query, is_of_cards=is_of_cards) if has_cards else None
        self._readings: dict[str, list[tuple[int, float | None]]] = {}
        self._lines: dict[str, list[int]] = {}
        self._first: dict[str, tuple[Column, Row]] = {}
        self.is_zoned = True

    def add(self, row: Row, utc_ns: int, *, has_zone: bool) -> None:
        """Take the powers of one row."""
        self.is_zoned = self.is_zoned and has_zone
        for column in self._columns:
            try:
                part = self._part(row, column)
            except ValueError as err:
                self._faults.add(row.line, str(err))
                continue
            self._first.setdefault(part, (column, row))
            self._readings.setdefault(part, []).append((utc_ns, _power_w(row, column, self._faults)))
            self._lines.setdefault(part, []).append(row.line)

    def _part(self, row: Row, column: Column) -> str:
        """The part of one cell: by its column's name, or by the card that the row names."""
        if self._cards is None or column.is_numbered or column.part in _WHOLES:
            return column.part
        is_told = bool(self._cards.column) or column.part == BY_ROW
        return self._cards.part(row) if is_told else column.part

    def traces(self) -> tuple[tuple[Trace, ...], list[str]]:
        """A trace a part, and what had to be said.

        Raises:
            ConfigError: rows of one part cannot be of one instrument.
        """
        traces, said = [], []
        if self._cards is not None and self._cards.is_by_name:
            said.append("cards are told apart by their names alone; two of one name would be taken for one")
        for part, readings in self._readings.items():
            column, row = self._first[part]
            is_told = self._cards is not None and bool(self._cards.column) and not self._cards.is_by_name
            check_times(
                self._file,
                column.name,
                [(at, line) for (at, _), line in zip(readings, self._lines[part], strict=True)],
                is_one=column.is_numbered or is_told,
                is_whole=column.part in _WHOLES,
                is_zoned=self.is_zoned,
            )
            trace, remarks = make_trace(_instrument(part, column, row), readings)
            said += remarks
            if trace is not None:
                traces.append(trace)
        return tuple(traces), said


def _time_column(header: Sequence[str]) -> str:
    return next((name for name in (*TIMES, *RELATIVE_TIMES) if name in header), "")


def _time(text: str, column: str) -> tuple[int, bool]:
    if column in RELATIVE_TIMES:
        value = needed(text, column)
        return nanoseconds(length_s(value, column) if value else 0.0), True
    found = moment(text)
    return found.utc_ns, found.has_zone


def _power_w(row: Row, column: Column, faults: Faults) -> float | None:
    try:
        text = column.bare(row.get(column.name))
    except ValueError as err:
        faults.add(row.line, str(err))
        return None
    try:
        value = number(text)
    except ValueError as err:
        faults.add(row.line, f"{column.name}: {err}")
        return None
    if value is None:
        return None
    power_w = value * column.scale_w
    if is_absurd(power_w):
        faults.add(row.line, f"{column.name} = {power_w:g} W cannot be meant")
        return None
    return power_w


def _instrument(part: str, column: Column, row: Row) -> Instrument:
    is_card = part.startswith("gpu")
    field = Field.USAGE
    if "instant" in column.name:
        field = Field.INSTANT
    elif "average" in column.name:
        field = Field.AVERAGE
    name = row.get("name", "gpu_name")
    return Instrument(
        part=part,
        device=name,
        boundary=column.boundary,
        driver="imported-gpu" if is_card else "imported",
        source=f"column {column.name} of an imported power log"
        + ("" if is_card else "; what read it, and how well, is not told"),
        gain_rel=CARD_GAIN if is_card else UNKNOWN_GAIN,
        window=power_window(name, row.get("driver_version"), field) if is_card and name else None,
    )
