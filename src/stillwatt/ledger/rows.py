"""Records to rows and back: what `load_run` returns equals what `insert_run` was given, to the last bit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stillwatt.errors import LedgerError
from stillwatt.ledger.schema import TABLES
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.run import ProbeRecord, RunRecord, StageRecord, StageSpan, Trace, TracePoint
from stillwatt.records.window import StageKind, StageStatus

Row = Mapping[str, Any]

_ENERGY_FIELDS = (
    "part",
    "device",
    "value_j",
    "random_j",
    "systematic_low_j",
    "systematic_high_j",
    "method",
    "coverage",
    "failed_reads",
    "estimated_j",
    "missing_s",
    "driver",
    "source",
    "placing_j",
    "in_step_cos_j",
    "in_step_sin_j",
)


def insert_run(database: sqlite3.Connection, record: RunRecord) -> None:
    """Write a run's rows in place of earlier ones; the caller holds the transaction."""
    delete_run(database, record.run_id)
    for table, row in _run_rows(record):
        _insert(database, table, {"run_id": record.run_id, **row})


def delete_run(database: sqlite3.Connection, run_id: str) -> None:
    """Remove a run's rows from every table, children first, also those whose run somebody deleted by hand."""
    for table in reversed(TABLES):
        database.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))


def load_run(database: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """The run of that id, or None where the ledger has none.

    Raises:
        LedgerError: rows that belong together are not all there.
    """
    found = _rows(database, "runs", run_id, "run_id")
    if not found:
        return None
    run = found[0]
    totals = {(row["scope"], row["stage_id"]): _total(row) for row in _rows(database, "totals", run_id, "rowid")}
    try:
        return RunRecord(
            run_id=run_id,
            name=run["name"],
            status=StageStatus(run["status"]),
            start_utc=run["start_utc"],
            duration_s=run["duration_s"],
            complete=bool(run["complete"]),
            stages=_load_stages(database, run_id, totals),
            unallocated=totals["unallocated", None],
            total=totals["run", None],
            meter={row["name"]: row["amount"] for row in _rows(database, "meter", run_id)},
            environment=json.loads(run["environment"]),
            settings=json.loads(run["settings"]),
            settings_sha256=run["settings_sha256"],
            probes=tuple(
                ProbeRecord(driver=row["driver"], usable=bool(row["usable"]), detail=row["detail"], cure=row["cure"])
                for row in _rows(database, "probes", run_id)
            ),
            gaps=run["gaps"],
            warnings=tuple(row["message"] for row in _rows(database, "warnings", run_id)),
            traces=_load_traces(database, run_id),
            spans=tuple(
                StageSpan(stage_id=row["stage_id"], session=row["session"], start_s=row["start_s"], end_s=row["end_s"])
                for row in _rows(database, "spans", run_id)
            ),
        )
    except KeyError as err:
        raise LedgerError(f"run {run_id}: the ledger lacks its row {err}; run `stillwatt ledger rebuild`") from err


def run_total(database: sqlite3.Connection, run_id: str) -> Total | NoTotal:
    """A run's total alone, for lists."""
    rows = [row for row in _rows(database, "totals", run_id, "rowid") if row["scope"] == "run"]
    return (
        _total(rows[0]) if rows else NoTotal(reason="the ledger lacks the run's total; run `stillwatt ledger rebuild`")
    )


def total_row(total: Total | NoTotal) -> dict[str, Any]:
    """The columns of a total, or of the reason there is none."""
    if isinstance(total, NoTotal):
        return {"absent_reason": total.reason}
    return {
        "value_j": total.value_j,
        "low_j": total.low_j,
        "high_j": total.high_j,
        "basis": total.basis.value,
        "complete": int(total.complete),
        "boundary": total.boundary.value,
        "absent": _json(list(total.absent)),
        "share_by_basis": _json([[basis.value, share] for basis, share in total.share_by_basis]),
    }


def energy_row(energy: Energy | Absent) -> dict[str, Any]:
    """The columns of an energy, or of the reason there is none; the interval is derived, for those who query."""
    if isinstance(energy, Absent):
        return {"part": energy.part, "boundary": energy.boundary.value, "absent_reason": energy.reason}
    return {
        **{name: getattr(energy, name) for name in _ENERGY_FIELDS},
        "boundary": energy.boundary.value,
        "basis": energy.basis.value,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "flags": _json(energy.flags),
    }


def _run_rows(record: RunRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "runs",
        {
            "name": record.name,
            "status": record.status.value,
            "start_utc": record.start_utc,
            "duration_s": record.duration_s,
            "complete": int(record.complete),
            "gaps": record.gaps,
            "settings": _json(record.settings),
            "settings_sha256": record.settings_sha256,
            "environment": _json(record.environment),
        },
    )
    yield "totals", {"scope": "run", **total_row(record.total)}
    yield "totals", {"scope": "unallocated", **total_row(record.unallocated)}
    for number, stage in enumerate(record.stages):
        yield from _stage_rows(number, stage)
    yield from _numbered("meter", ({"name": name, "amount": amount} for name, amount in record.meter.items()))
    yield from _numbered(
        "probes",
        ({"driver": p.driver, "usable": int(p.usable), "detail": p.detail, "cure": p.cure} for p in record.probes),
    )
    yield from _numbered("warnings", ({"message": message} for message in record.warnings))
    yield from _numbered(
        "spans",
        ({"stage_id": s.stage_id, "session": s.session, "start_s": s.start_s, "end_s": s.end_s} for s in record.spans),
    )
    for number, trace in enumerate(record.traces):
        yield "traces", {"trace": number, "session": trace.session, "part": trace.part}
        yield from _numbered(
            "trace_points",
            (
                {"trace": number, "t_s": p.t_s, "mean_w": p.mean_w, "low_w": p.low_w, "high_w": p.high_w}
                for p in trace.points
            ),
        )


def _stage_rows(number: int, stage: StageRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    own = {"stage_id": stage.stage_id}
    yield (
        "stages",
        {
            **own,
            "ordinal": number,
            "parent_id": stage.parent_id,
            "name": stage.name,
            "kind": stage.kind.value,
            "attempt": stage.attempt,
            "status": stage.status.value,
            "start_utc": stage.start_utc,
            "duration_s": stage.duration_s,
        },
    )
    yield "totals", {**own, "scope": "gross", **total_row(stage.gross)}
    yield "totals", {**own, "scope": "net", **total_row(stage.net)}
    yield from _numbered("workload", ({**own, "name": key, "amount": n} for key, n in stage.workload.items()))
    yield from _numbered("labels", ({**own, "name": key, "label": label} for key, label in stage.labels.items()))
    yield from _numbered("results", ({**own, "name": key, "value": _json(v)} for key, v in stage.results.items()))
    yield from _numbered("energies", ({**own, **energy_row(energy)} for energy in stage.energies))


def _numbered(table: str, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((table, {"ordinal": number, **row}) for number, row in enumerate(rows))


def _insert(database: sqlite3.Connection, table: str, row: Row) -> None:
    # table and column names come from this module alone; values are bound
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _rows(database: sqlite3.Connection, table: str, run_id: str, order: str = "ordinal") -> list[Row]:
    cursor = database.execute(f"SELECT * FROM {table} WHERE run_id = ? ORDER BY {order}", (run_id,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor]


def _load_stages(
    database: sqlite3.Connection, run_id: str, totals: Mapping[tuple[str, str | None], Total | NoTotal]
) -> tuple[StageRecord, ...]:
    workload = _by_stage(_rows(database, "workload", run_id))
    labels = _by_stage(_rows(database, "labels", run_id))
    results = _by_stage(_rows(database, "results", run_id))
    energies = _by_stage(_rows(database, "energies", run_id))
    return tuple(
        StageRecord(
            stage_id=row["stage_id"],
            parent_id=row["parent_id"],
            name=row["name"],
            kind=StageKind(row["kind"]),
            attempt=row["attempt"],
            status=StageStatus(row["status"]),
            start_utc=row["start_utc"],
            duration_s=row["duration_s"],
            workload={r["name"]: r["amount"] for r in workload.get(row["stage_id"], ())},
            labels={r["name"]: r["label"] for r in labels.get(row["stage_id"], ())},
            results={r["name"]: json.loads(r["value"]) for r in results.get(row["stage_id"], ())},
            energies=tuple(_energy(r) for r in energies.get(row["stage_id"], ())),
            gross=totals["gross", row["stage_id"]],
            net=totals["net", row["stage_id"]],
        )
        for row in _rows(database, "stages", run_id)
    )


def _load_traces(database: sqlite3.Connection, run_id: str) -> tuple[Trace, ...]:
    points: dict[int, list[TracePoint]] = {}
    for row in _rows(database, "trace_points", run_id, "trace, ordinal"):
        point = TracePoint(t_s=row["t_s"], mean_w=row["mean_w"], low_w=row["low_w"], high_w=row["high_w"])
        points.setdefault(row["trace"], []).append(point)
    return tuple(
        Trace(session=row["session"], part=row["part"], points=tuple(points.get(row["trace"], ())))
        for row in _rows(database, "traces", run_id, "trace")
    )


def _by_stage(rows: Sequence[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["stage_id"], []).append(row)
    return grouped


def _energy(row: Row) -> Energy | Absent:
    boundary = Boundary(row["boundary"])
    if row["absent_reason"] is not None:
        return Absent(part=row["part"], boundary=boundary, reason=row["absent_reason"])
    return Energy(
        boundary=boundary,
        basis=Basis(row["basis"]),
        flags=tuple(json.loads(row["flags"])),
        **{name: row[name] for name in _ENERGY_FIELDS},
    )


def _total(row: Row) -> Total | NoTotal:
    if row["absent_reason"] is not None:
        return NoTotal(reason=row["absent_reason"])
    return Total(
        value_j=row["value_j"],
        low_j=row["low_j"],
        high_j=row["high_j"],
        basis=Basis(row["basis"]),
        complete=bool(row["complete"]),
        boundary=Boundary(row["boundary"]),
        absent=tuple(json.loads(row["absent"])),
        share_by_basis=tuple((Basis(basis), share) for basis, share in json.loads(row["share_by_basis"])),
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
