"""The arms of runs, and their readings, as pyarrow tables with units in the column names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stillwatt.errors import UnknownNameError
from stillwatt.ledger.export import sample_schema, sample_tables
from stillwatt.records.channel import Quantity
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import AllocatedEnergy, ArmPoint, NoQuality, Study
from stillwatt.records.run import RunRecord
from stillwatt.workflows.publish import summarise_run

_TEXT, _REAL, _FLAG = pa.string(), pa.float64(), pa.bool_()
POINT_COLUMNS: dict[str, pa.DataType] = {
    "run_id": _TEXT,
    "run_name": _TEXT,
    "arm": _TEXT,
    "method": _TEXT,
    "student": _TEXT,
    "seed": _TEXT,
    "checkpoint": _TEXT,
    "is_final": _FLAG,
    "tokens": _REAL,
    "allocation": _TEXT,
    "energy_j": _REAL,
    "energy_low_j": _REAL,
    "energy_high_j": _REAL,
    "energy_random_j": _REAL,
    "energy_basis": _TEXT,
    "energy_complete": _FLAG,
    "energy_absent_reason": _TEXT,
    "quality": _REAL,
    "quality_se": _REAL,
    "quality_absent_reason": _TEXT,
    "is_on_frontier": _FLAG,
    "on_frontier_probability": _REAL,
    "frontier_absent_reason": _TEXT,
}


def point_table(records: Sequence[RunRecord], *, runs_dir: str | Path) -> pa.Table:
    """One row an arm, checkpoint and allocation of every run that has arms."""
    rows = [row for record in records for row in _rows(record, summarise_run(record, runs_dir=runs_dir))]
    schema = pa.schema(list(POINT_COLUMNS.items()))
    return pa.Table.from_pylist([{name: row.get(name) for name in POINT_COLUMNS} for row in rows], schema=schema)


def _rows(record: RunRecord, study: Study) -> Iterator[dict[str, Any]]:
    placed = {(point.allocation, point.arm, point.checkpoint): point for point in study.frontier}
    rejected = {(entry.allocation, entry.arm, entry.checkpoint): entry.reason for entry in study.rejected}
    for point in study.arms:
        for entry in point.allocated:
            key = (entry.allocation.label, point.arm, point.checkpoint)
            place = placed.get(key)
            yield {
                "run_id": record.run_id,
                "run_name": record.name,
                **_arm(point),
                **_energy(entry),
                "is_on_frontier": place.is_on_frontier if place else None,
                "on_frontier_probability": place.on_frontier_probability if place else None,
                "frontier_absent_reason": None if place else rejected.get(key, "it was not placed"),
            }


def _arm(point: ArmPoint) -> dict[str, Any]:
    quality = point.quality
    known = None if isinstance(quality, NoQuality) else quality
    return {
        "arm": point.arm,
        "method": point.method,
        "student": point.student,
        "seed": str(point.seed),
        "checkpoint": point.checkpoint,
        "is_final": point.is_final,
        "tokens": point.tokens,
        "quality": known.value if known else None,
        "quality_se": known.se if known else None,
        "quality_absent_reason": quality.reason if isinstance(quality, NoQuality) else None,
    }


def _energy(entry: AllocatedEnergy) -> dict[str, Any]:
    energy = entry.energy
    if isinstance(energy, NoTotal):
        return {"allocation": entry.allocation.label, "energy_absent_reason": energy.reason}
    return {
        "allocation": entry.allocation.label,
        "energy_j": energy.value_j,
        "energy_low_j": energy.low_j,
        "energy_high_j": energy.high_j,
        "energy_random_j": energy.random_j,
        "energy_basis": energy.basis.value if energy.basis else None,
        "energy_complete": energy.complete,
    }


def reading_table(run_ids: Sequence[str], *, runs_dir: str | Path, part: str | None) -> pa.Table:
    """One row a reading of those runs, in SI: `power_w` of powers, `energy_j` of counters.

    Raises:
        UnknownNameError: None of the runs has such a part.
    """
    parts: set[str] = set()
    tables = []
    for run_id in run_ids:
        # one stream at a time, so that what is not asked for is not held
        for table in sample_tables(run_id, Path(runs_dir) / run_id):
            own = pc.unique(table["part"]).to_pylist()
            parts.update(own)
            if part is None or part in own:
                tables.append(table)
    if part is not None and part not in parts:
        raise UnknownNameError("part", part, parts)
    return _in_si(pa.concat_tables(tables) if tables else sample_schema().empty_table())


def _in_si(table: pa.Table) -> pa.Table:
    """The readings with their value in SI in a column that says the unit, in place of a count and a factor."""
    value = pc.multiply(table["count"], table["unit_si"])
    nothing = pa.scalar(None, type=_REAL)
    for name, quantity in (("power_w", Quantity.POWER), ("energy_j", Quantity.ENERGY_COUNTER)):
        is_so = pc.equal(table["quantity"], quantity.value)
        table = table.append_column(name, pc.if_else(is_so, value, nothing))
    return table.drop_columns(["count", "unit", "unit_si"])
