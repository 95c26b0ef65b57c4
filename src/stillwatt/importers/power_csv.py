"""A CSV of power over time: any logger's, several columns or rows by card, nvidia-smi's query; with stages beside it.

The energy is not taken from the file but estimated from its samples (method.md, eqs. 4, 5 and 7), with the interval.
Stages come from a second CSV with the columns name, start and end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stillwatt.importers.cards import power_window
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Trace
from stillwatt.importers.tables import Row, Table, header_of, moment, number, read_table
from stillwatt.importers.traces import CARD_GAIN, UNKNOWN_GAIN, Instrument, is_absurd, make_trace
from stillwatt.records.channel import Boundary
from stillwatt.records.window import StageKind
from stillwatt.sensors.nvml_windows import Field
from stillwatt.units import W_PER_MW_MILLI, W_PER_UW, nanoseconds

FORM = "power-csv"
_WHOLE = "recorded"
_TIMES = (
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
_RELATIVE = ("t_s", "time_s", "elapsed_s", "seconds")
_UNITS = {"w": 1.0, "watt": 1.0, "watts": 1.0, "mw": W_PER_MW_MILLI, "milliwatts": W_PER_MW_MILLI, "uw": W_PER_UW}
_KILO = {"kw": 1 / W_PER_MW_MILLI, "kilowatts": 1 / W_PER_MW_MILLI}
_POWER = re.compile(r"(?:^|[^a-z])(?:power|watts?|[mkµu]?w|draw|milliwatts|kilowatts)(?:$|[^a-z])")
_UNIT = re.compile(r"[\[(]\s*([a-zµ]+)\s*[\])]$|(?:^|[_ .-])(w|mw|uw|kw|watts?|milliwatts|kilowatts)$")
_CELL_UNIT = re.compile(r"\s*([mkuµ]?W)$")
_NOT_POWER = re.compile(r"limit|max|min|cap|default|enforced|energy|util")
_VARYING = re.compile(r"'[^']*'|[-+]?\d[\d.e+-]*")
_PARTS = (
    (re.compile(r"gpu[ _.-]?(\d+)"), "gpu{}", Boundary.BOARD),
    (re.compile(r"gpu"), "gpu0", Boundary.BOARD),
    (re.compile(r"(?:cpu|package|pkg)[ _.-]?(\d+)"), "cpu{}", Boundary.CHIP),
    (re.compile(r"cpu|package|pkg"), "cpu", Boundary.CHIP),
    (re.compile(r"dram|ram|memory"), "dram", Boundary.CHIP),
    (re.compile(r"wall|plug|socket|mains|pdu"), "wall", Boundary.WALL),
    (re.compile(r"node|psu|server|system"), "node", Boundary.NODE),
)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of power."""

    name: str
    part: str
    boundary: Boundary
    unit: str
    scale_w: float


def recognises(file: LogFile) -> bool:
    """Whether a file is a table with a time and a power, or one of stages for it."""
    header = header_of(file)
    return bool(_time_column(header) and _columns(header)) or is_marks(file)


def is_marks(file: LogFile) -> bool:
    """Whether a file tells of stages: the columns name, start and end."""
    return {"name", "start", "end"} <= set(header_of(file))


def read(files: Sequence[LogFile]) -> Found:
    """One run a file of powers.

    Raises:
        ConfigError: a file is no table, or its times cannot be read at all.
    """
    marks = [file for file in files if is_marks(file)]
    powers = [file for file in files if not is_marks(file)]
    runs, left_out = [], []
    used: set[str] = set()
    for file in powers:
        own = _marks_of(file, marks, is_alone=len(powers) == 1 and len(marks) == 1)
        run, faults = _read_file(file, own)
        left_out += faults
        if run is not None:
            runs.append(run)
            used |= {own.name} if own is not None else set()
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
    table = read_table(file)
    traces, said, left_out = read_traces(file, table)
    if not traces:
        left_out.append(LeftOut(name=file.name, reason="no row with a time and a power"))
        return None, left_out
    first_ns = min(trace.utc_ns[0] for trace in traces)
    last_ns = max(trace.utc_ns[-1] for trace in traces)
    stages: list[ImportedStage] = []
    if marks is not None:
        stages, faults = _read_marks(marks)
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
        identity=file.source.sha256,
        name=file.path.stem,
        host="",
        sessions=(session,),
        sources=(file.source, *((marks.source,) if marks is not None else ())),
        warnings=tuple(dict.fromkeys(said)),
    )
    return run, left_out


def read_traces(file: LogFile, table: Table) -> tuple[tuple[Trace, ...], list[str], list[LeftOut]]:
    """The powers of a table, one trace a part, what had to be said, and the rows that were left out.

    Raises:
        ConfigError: no time in the file can be read, or two columns are of the same part.
    """
    time_column = _time_column(table.header)
    columns, said = _chosen(table.header)
    faults = _Faults(file)
    for line, what in table.misfits:
        faults.add(line, what)
    readings: dict[str, list[tuple[int, float | None]]] = {}
    first: dict[str, tuple[_Column, Row]] = {}
    zoneless = False
    for row in table.rows:
        try:
            utc_ns, has_zone = _time(row.get(time_column), time_column)
        except ValueError as err:
            faults.add(row.line, str(err))
            continue
        zoneless = zoneless or not has_zone
        for column in columns:
            part = _row_part(row, column)
            first.setdefault(part, (column, row))
            readings.setdefault(part, []).append((utc_ns, _power_w(row, column, faults)))
    if zoneless:
        said.append("times have no zone; they are taken for UTC")
    if time_column in _RELATIVE:
        said.append("times are seconds from an unknown start; dates are made up (1970)")
    traces = []
    for part, rows in readings.items():
        trace, remarks = make_trace(_instrument(part, *first[part]), rows)
        said += remarks
        traces += [trace] if trace is not None else []
    return tuple(traces), said, faults.left_out()


class _Faults:
    """Rows that cannot be used, one entry for each kind of fault."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._found: dict[str, list[tuple[int, str]]] = {}

    def add(self, line: int, what: str) -> None:
        """Remember a row; faults that differ in their numbers and quotes only are of one kind."""
        self._found.setdefault(_VARYING.sub("…", what), []).append((line, what))

    def left_out(self) -> list[LeftOut]:
        """The first of each kind, with the number of the others."""
        left_out = []
        for found in self._found.values():
            line, what = found[0]
            more = f" (and {len(found) - 1} more rows like it)" if len(found) > 1 else ""
            left_out.append(LeftOut(name=self._file.name, line=line, reason=what + more))
        return left_out


def _time_column(header: Sequence[str]) -> str:
    return next((name for name in (*_TIMES, *_RELATIVE) if name in header), "")


def _time(text: str, column: str) -> tuple[int, bool]:
    if column in _RELATIVE:
        value = number(text)
        if value is None or value < 0:
            raise ValueError(f"{text[:40]!r} is no number of seconds")
        return nanoseconds(value), True
    found = moment(text)
    return found.utc_ns, found.has_zone


def _columns(header: Sequence[str]) -> list[_Column]:
    """Columns that hold powers, by their names."""
    found = []
    for name in header:
        if name in (*_TIMES, *_RELATIVE) or _NOT_POWER.search(name) or not _POWER.search(name):
            continue
        match = _UNIT.search(name)
        unit = next((text for text in match.groups() if text), "w") if match else "w"
        scale = {**_UNITS, **_KILO}.get(unit.replace("µ", "u"))
        if scale is not None:
            part, boundary = _part(name)
            found.append(_Column(name, part, boundary, unit, scale))
    return found


def _part(name: str) -> tuple[str, Boundary]:
    if "power.draw" in name:
        return "gpu", Boundary.BOARD
    for pattern, part, boundary in _PARTS:
        if match := pattern.search(name):
            return part.format(*match.groups()), boundary
    return "machine", Boundary.COMPONENTS


def _chosen(header: Sequence[str]) -> tuple[list[_Column], list[str]]:
    """The columns to book: no sum beside what it sums, one field of nvidia-smi's."""
    columns, said = _columns(header), []
    sums = [column for column in columns if "total" in column.name or "sum" in column.name]
    if sums and len(sums) < len(columns):
        columns = [column for column in columns if column not in sums]
        said.append(f"{', '.join(c.name for c in sums)}: the sum of other columns is not counted beside them")
    chosen: dict[str, _Column] = {}
    for column in sorted(columns, key=lambda column: "average" in column.name):
        if column.part in chosen:
            said.append(f"{column.name}: {chosen[column.part].name} is of the same part and is booked; this one is not")
        else:
            chosen[column.part] = column
    return [column for column in columns if chosen[column.part] is column], said


def _row_part(row: Row, column: _Column) -> str:
    """The part of one cell: with nvidia-smi the row says which card it is."""
    if column.part != "gpu":
        return column.part
    card = row.get("index", "gpu_index", "pci.bus_id", "uuid", "gpu_uuid", "gpu") or "0"
    return f"gpu{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-') or '0'}"


def _power_w(row: Row, column: _Column, faults: _Faults) -> float | None:
    text = row.get(column.name)
    if match := _CELL_UNIT.search(text):
        if match.group(1).lower().replace("µ", "u") != column.unit.replace("watts", "w").replace("watt", "w"):
            faults.add(row.line, f"{column.name} = {text[:40]!r} is not in the column's unit, {column.unit}")
            return None
        text = text[: match.start()]
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


def _instrument(part: str, column: _Column, row: Row) -> Instrument:
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


def _read_marks(file: LogFile) -> tuple[list[ImportedStage], list[LeftOut]]:
    """Stages of a second table, each in the shortest one around it."""
    table = read_table(file)
    faults = _Faults(file)
    for line, what in table.misfits:
        faults.add(line, what)
    found: list[tuple[int, int, Row]] = []
    for row in table.rows:
        try:
            start_ns, end_ns = _mark_time(row.get("start")), _mark_time(row.get("end"))
            if end_ns < start_ns:
                raise ValueError("the stage ends before it starts")
            found.append((start_ns, end_ns, row))
        except ValueError as err:
            faults.add(row.line, str(err))
    found.sort(key=lambda mark: (mark[0], -mark[1], mark[2].line))
    return list(_stages(found)), faults.left_out()


def _mark_time(text: str) -> int:
    """A date, an epoch time, or seconds from the file's own start where they are small."""
    try:
        return moment(text).utc_ns
    except ValueError:
        value = number(text)
        if value is None or value < 0:
            raise
        return nanoseconds(value)


def _stages(found: Sequence[tuple[int, int, Row]]) -> Iterator[ImportedStage]:
    for place, (start_ns, end_ns, row) in enumerate(found):
        around = [p for p in range(place) if found[p][1] >= end_ns and found[p][1] > start_ns]
        kind = row.get("kind")
        tokens = row.get("tokens")
        yield ImportedStage(
            name=row.get("name") or "stage",
            kind=StageKind(kind) if kind in list(StageKind) else StageKind.OTHER,
            start_utc_ns=start_ns,
            end_utc_ns=end_ns,
            parent=min(around, key=lambda p: (found[p][1] - found[p][0], -p), default=None),
            workload={"tokens": float(tokens)} if tokens.isdigit() and int(tokens) > 0 else {},
        )
