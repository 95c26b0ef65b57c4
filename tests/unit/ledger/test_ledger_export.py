"""Exports: the same numbers in every form, units beside them, nothing a spreadsheet would calculate."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from run_dirs import (
    EPOCH_UTC_NS,
    FakeLiveness,
    SyntheticRun,
    constant_counter,
    gpu_counter,
    gpu_power,
    quick_run,
)
from stillwatt.errors import UnknownNameError
from stillwatt.ledger.export import FORMS, energy_rows, escape_formula, export, stage_rows
from stillwatt.ledger.post import build_record
from stillwatt.records import Absent, Boundary
from stillwatt.units import J_PER_MJ_MILLI

DEAD = FakeLiveness(False)


def _export(run: SyntheticRun, form: str, out_dir: Path) -> dict[str, Path]:
    paths = export(build_record(run.path, liveness=DEAD), run.path, form=form, out_dir=out_dir)
    assert [path.name for path in paths] == [
        f"{run.run_id}.{what}.{form}" for what in ("stages", "energies", "samples")
    ]
    assert sorted(path for path in out_dir.iterdir() if path.is_file()) == sorted(paths)
    return dict(zip(("stages", "energies", "samples"), paths, strict=True))


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def test_every_form_holds_the_same_rows(runs_dir: Path, tmp_path: Path) -> None:
    run = quick_run(runs_dir)
    record = build_record(run.path, liveness=DEAD)
    lines = _export(run, "jsonl", tmp_path / "jsonl")
    tables = _export(run, "parquet", tmp_path / "parquet")
    cells = _export(run, "csv", tmp_path / "csv")
    for what in ("stages", "energies", "samples"):
        from_json = [json.loads(line) for line in lines[what].read_text(encoding="utf-8").splitlines()]
        assert pq.read_table(tables[what]).to_pylist() == from_json
        from_csv = _read_csv(cells[what])
        assert len(from_csv) == len(from_json)
        for text, row in zip(from_csv, from_json, strict=True):
            assert list(text) == list(row)
            numbers = {name: value for name, value in row.items() if isinstance(value, float)}
            assert {name: float(text[name]) for name in numbers} == numbers, "to the last bit"
            assert all((text[name] == "") for name, value in row.items() if value is None)
        if what != "samples":
            rows = stage_rows(record) if what == "stages" else energy_rows(record)
            assert [_known(row) for row in from_json] == [_known(row) for row in rows]


def test_samples_have_units_and_wall_clock(runs_dir: Path, tmp_path: Path) -> None:
    rows = pq.read_table(_export(quick_run(runs_dir), "parquet", tmp_path)["samples"]).to_pylist()
    assert len(rows) == 3 * 163
    first = rows[0]
    assert (first["part"], first["quantity"], first["unit"], first["unit_si"]) == (
        "gpu0",
        "energy_counter",
        "mJ",
        0.001,
    )
    assert first["utc_ns"] == EPOCH_UTC_NS + first["t_ns"]
    assert {row["unit"] for row in rows} == {"mJ", "W", "uJ"}


def test_parquet_fields_carry_their_unit(runs_dir: Path, tmp_path: Path) -> None:
    paths = _export(quick_run(runs_dir), "parquet", tmp_path)
    schema = pq.read_schema(paths["energies"])
    assert schema.field("value_j").metadata == {b"unit": b"J"}
    assert schema.field("missing_s").metadata == {b"unit": b"s"}
    assert pq.read_schema(paths["samples"]).field("t_ns").metadata == {b"unit": b"ns"}


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", 'a "quoted", name'])
def test_no_name_becomes_a_formula(runs_dir: Path, tmp_path: Path, name: str) -> None:
    run = SyntheticRun(runs_dir, name=name)
    session = run.session()
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.stage(name, 101.0, 105.0)
    session.end(111.0)
    (row,) = _read_csv(_export(run, "csv", tmp_path / "csv")["stages"])
    assert row["name"] == row["run_name"] == (name if name.startswith("a") else f"'{name}")
    (line,) = _export(run, "jsonl", tmp_path / "jsonl")["stages"].read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["name"] == name


def test_negative_numbers_stay_numbers(runs_dir: Path, tmp_path: Path) -> None:
    rows = _read_csv(_export(quick_run(runs_dir), "csv", tmp_path)["stages"])
    assert float(rows[0]["net_low_j"]) < 0


def test_an_absent_part_is_an_empty_cell_beside_its_reason(runs_dir: Path, tmp_path: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler(
        [gpu_counter(), gpu_power()], absent=[Absent(part="dram0", boundary=Boundary.CHIP, reason="no counter")]
    )
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.stage("train", 101.0, 105.0)
    session.end(111.0)
    paths = _export(run, "csv", tmp_path)
    by_part = {row["part"]: row for row in _read_csv(paths["energies"])}
    assert (by_part["dram0"]["value_j"], by_part["dram0"]["absent_reason"]) == ("", "no counter")
    assert float(by_part["gpu0"]["value_j"]) > 0
    (stage,) = _read_csv(paths["stages"])
    assert stage["gross_complete"] == "false"
    assert (stage["net_value_j"], stage["tokens"]) == ("", "")
    assert "idle" in stage["net_absent_reason"]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_with_nothing_in_it_still_has_its_columns(runs_dir: Path, tmp_path: Path, form: str) -> None:
    paths = _export(SyntheticRun(runs_dir), form, tmp_path)
    if form == "csv":
        assert paths["stages"].read_text().startswith("run_id,run_name,stage_id")
    if form == "parquet":
        assert pq.read_table(paths["samples"]).num_rows == 0


def test_an_unknown_form_is_refused(runs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'parquet'"):
        _export(quick_run(runs_dir), "parket", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_file(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = quick_run(runs_dir)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        _export(run, "csv", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_begins_a_formula() -> None:
    assert escape_formula("") == ""
    assert escape_formula("a=b") == "a=b"
    assert escape_formula("-x") == "'-x"
