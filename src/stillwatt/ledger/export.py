"""A run's stages, energies and samples as files for other programs: CSV, Parquet or JSON lines.

Column names end in their unit (`_j`, `_s`, `_w`, `_ns`); in Parquet the unit also stands in the field metadata.
In CSV a text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage
return) gets an apostrophe in front; numbers are never changed. A missing number is an empty cell, null in the
other forms, and the reason stands in the column beside it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatt.errors import UnknownNameError
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import read_run
from stillwatt.ledger.rows import energy_row, total_row
from stillwatt.ledger.segments import unit_name
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import RunRecord, StageRecord

FORMS = ("csv", "parquet", "jsonl")

_TEXT, _REAL, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()
_UNITS = {"_j": "J", "_s": "s", "_w": "W", "_ns": "ns"}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_TOTAL_COLUMNS: dict[str, pa.DataType] = {
    "value_j": _REAL,
    "low_j": _REAL,
    "high_j": _REAL,
    "basis": _TEXT,
    "complete": _FLAG,
    "boundary": _TEXT,
    "absent_reason": _TEXT,
}
_STAGE_COLUMNS: dict[str, pa.DataType] = {
    "run_id": _TEXT,
    "run_name": _TEXT,
    "stage_id": _TEXT,
    "parent_id": _TEXT,
    "name": _TEXT,
    "kind": _TEXT,
    "attempt": _WHOLE,
    "status": _TEXT,
    "start_utc": _TEXT,
    "duration_s": _REAL,
    "tokens": _REAL,
    **{f"gross_{name}": kind for name, kind in _TOTAL_COLUMNS.items()},
    **{f"net_{name}": kind for name, kind in _TOTAL_COLUMNS.items()},
    "workload": _TEXT,
    "labels": _TEXT,
    "results": _TEXT,
}
_RUN_COLUMNS: dict[str, pa.DataType] = {
    "run_id": _TEXT,
    "run_name": _TEXT,
    "status": _TEXT,
    "start_utc": _TEXT,
    "duration_s": _REAL,
    "complete": _FLAG,
    "stages": _WHOLE,
    "gaps": _WHOLE,
    "warnings": _WHOLE,
    **{f"total_{name}": kind for name, kind in _TOTAL_COLUMNS.items()},
    **{f"unallocated_{name}": kind for name, kind in _TOTAL_COLUMNS.items()},
    "settings_sha256": _TEXT,
}
_ENERGY_COLUMNS: dict[str, pa.DataType] = {
    "run_id": _TEXT,
    "stage_id": _TEXT,
    "stage_name": _TEXT,
    "attempt": _WHOLE,
    "part": _TEXT,
    "device": _TEXT,
    "boundary": _TEXT,
    "value_j": _REAL,
    "low_j": _REAL,
    "high_j": _REAL,
    "random_j": _REAL,
    "systematic_low_j": _REAL,
    "systematic_high_j": _REAL,
    "basis": _TEXT,
    "method": _TEXT,
    "coverage": _REAL,
    "failed_reads": _WHOLE,
    "estimated_j": _REAL,
    "missing_s": _REAL,
    "driver": _TEXT,
    "source": _TEXT,
    "flags": _TEXT,
    "placing_j": _REAL,
    "in_step_cos_j": _REAL,
    "in_step_sin_j": _REAL,
    "absent_reason": _TEXT,
}
_SAMPLE_COLUMNS: dict[str, pa.DataType] = {
    "run_id": _TEXT,
    "session": _TEXT,
    "part": _TEXT,
    "quantity": _TEXT,
    "role": _TEXT,
    "unit": _TEXT,
    "unit_si": _REAL,
    "utc_ns": _WHOLE,
    "t_ns": _WHOLE,
    "count": _REAL,
}


def export(record: RunRecord, run_dir: Path, *, form: str, out_dir: Path) -> tuple[Path, ...]:
    """Write `<run_id>.stages`, `.energies` and `.samples` in one form; each file appears whole or not at all.

    Samples are long: one row a reading, with the unit of `count` and its value in SI beside it, and the wall
    clock time that the session's anchor gives.

    Args:
        record: The run.
        run_dir: Its directory, where the samples are.
        form: `csv`, `parquet` or `jsonl`.
        out_dir: Where to write; made if absent.

    Returns:
        The files written.

    Raises:
        UnknownNameError: no such form.
        OSError: the files cannot be written.
    """
    if form not in FORMS:
        raise UnknownNameError("export form", form, FORMS)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    tables = {
        "stages": (_STAGE_COLUMNS, iter([_table(_STAGE_COLUMNS, stage_rows(record))])),
        "energies": (_ENERGY_COLUMNS, iter([_table(_ENERGY_COLUMNS, energy_rows(record))])),
        "samples": (_SAMPLE_COLUMNS, sample_tables(record.run_id, run_dir)),
    }
    paths = []
    for name, (columns, parts) in tables.items():
        path = out_dir / f"{record.run_id}.{name}.{form}"
        _write_whole(path, columns, parts, _WRITERS[form])
        paths.append(path)
    return tuple(paths)


def stage_rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row a stage; workload, labels and results as JSON."""
    return [_stage_row(record, stage) for stage in record.stages]


def energy_rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row a stage and part."""
    return [
        {
            "run_id": record.run_id,
            "stage_id": stage.stage_id,
            "stage_name": stage.name,
            "attempt": stage.attempt,
            **energy_row(energy),
        }
        for stage in record.stages
        for energy in stage.energies
    ]


def run_table(records: Sequence[RunRecord]) -> pa.Table:
    """One row a run."""
    rows = [
        {
            "run_id": record.run_id,
            "run_name": record.name,
            "status": record.status.value,
            "start_utc": record.start_utc,
            "duration_s": record.duration_s,
            "complete": record.complete,
            "stages": len(record.stages),
            "gaps": record.gaps,
            "warnings": len(record.warnings),
            **_total_columns("total", record.total),
            **_total_columns("unallocated", record.unallocated),
            "settings_sha256": record.settings_sha256,
        }
        for record in records
    ]
    return _table(_RUN_COLUMNS, rows)


def stage_table(records: Sequence[RunRecord]) -> pa.Table:
    """One row a stage of any of the runs."""
    return _table(_STAGE_COLUMNS, [row for record in records for row in stage_rows(record)])


def sample_schema() -> pa.Schema:
    """The columns of `sample_tables`."""
    return _schema(_SAMPLE_COLUMNS)


def energy_table(records: Sequence[RunRecord]) -> pa.Table:
    """One row a stage and part of any of the runs."""
    return _table(_ENERGY_COLUMNS, [row for record in records for row in energy_rows(record)])


def escape_formula(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet would calculate it.

    >>> escape_formula("=1+1"), escape_formula("sft")
    ("'=1+1", 'sft')
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _stage_row(record: RunRecord, stage: StageRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "run_name": record.name,
        "stage_id": stage.stage_id,
        "parent_id": stage.parent_id,
        "name": stage.name,
        "kind": stage.kind.value,
        "attempt": stage.attempt,
        "status": stage.status.value,
        "start_utc": stage.start_utc,
        "duration_s": stage.duration_s,
        "tokens": stage.workload.get("tokens"),
        **_total_columns("gross", stage.gross),
        **_total_columns("net", stage.net),
        "workload": _json(stage.workload),
        "labels": _json(stage.labels),
        "results": _json(stage.results),
    }


def _total_columns(prefix: str, total: Total | NoTotal) -> dict[str, Any]:
    row = total_row(total)
    if "complete" in row:
        row["complete"] = bool(row["complete"])
    return {f"{prefix}_{name}": row.get(name) for name in _TOTAL_COLUMNS}


def _schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata=_unit_metadata(name)) for name, kind in columns.items()])


def _unit_metadata(name: str) -> dict[str, str] | None:
    units = [unit for suffix, unit in _UNITS.items() if name.endswith(suffix)]
    return {"unit": units[0]} if units else None


def _table(columns: Mapping[str, pa.DataType], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = _schema(columns)
    arrays = [pa.array([row.get(name) for row in rows], type=kind) for name, kind in columns.items()]
    return pa.Table.from_arrays(arrays, schema=schema)


def sample_tables(run_id: str, run_dir: Path) -> Iterator[pa.Table]:
    """One table a session and stream, so that no more than one is held at a time."""
    for session in read_run(run_dir, liveness=ThisHost()).sessions:
        for stream in session.channels:
            yield _sample_table(run_id, session, stream)


def _sample_table(run_id: str, session: SessionFacts, stream: str) -> pa.Table:
    channel, segment = session.channels[stream], session.segments[stream]
    rows = segment.t_ns.size
    constants = {
        "run_id": run_id,
        "session": session.session,
        "part": channel.part,
        "quantity": channel.quantity.value,
        "role": channel.role.value,
        "unit": unit_name(channel),
        "unit_si": channel.unit_si,
    }
    arrays = [pa.repeat(pa.scalar(value, type=_SAMPLE_COLUMNS[name]), rows) for name, value in constants.items()]
    arrays += [pa.array(segment.t_ns - session.start_ns + session.start_utc_ns)]
    arrays += [pa.array(segment.t_ns), pa.array(segment.count)]
    return pa.Table.from_arrays(arrays, schema=_schema(_SAMPLE_COLUMNS))


Columns = Mapping[str, pa.DataType]
Tables = Iterable[pa.Table]


def _write_csv(file: IO[bytes], columns: Columns, tables: Tables) -> None:
    file.write(_csv_line(columns))
    for row in _rows(tables):
        file.write(_csv_line(_cell(value) for value in row.values()))


def _csv_line(cells: Iterable[str]) -> bytes:
    line = _Line()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.text.encode("utf-8")


class _Line:
    """Takes what `csv` writes, one line at a time."""

    text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape_formula(value) if isinstance(value, str) else repr(value)


def _write_jsonl(file: IO[bytes], _columns: Columns, tables: Tables) -> None:
    for row in _rows(tables):
        file.write(_json(row).encode("utf-8") + b"\n")


def _write_parquet(file: IO[bytes], columns: Columns, tables: Tables) -> None:
    with pq.ParquetWriter(file, _schema(columns), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


_WRITERS: dict[str, Callable[[IO[bytes], Columns, Tables], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}


def _rows(tables: Tables) -> Iterator[dict[str, Any]]:
    for table in tables:
        for batch in table.to_batches(max_chunksize=10_000):
            yield from batch.to_pylist()


def _write_whole(
    path: Path, columns: Columns, tables: Tables, write: Callable[[IO[bytes], Columns, Tables], None]
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file, columns, tables)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
