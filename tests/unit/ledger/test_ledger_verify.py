"""Verify finds each planted fault, and nothing where all is well."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from run_dirs import (
    FakeLiveness,
    SyntheticRun,
    constant_counter,
    gpu_counter,
    gpu_power,
    quick_run,
)
from stillwatt.errors import RunNotFoundError
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.journal import checked_line, read_journal
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import meter_journals, program_journals
from stillwatt.ledger.segments_raw import RECORD, RawWriter, raw_path
from stillwatt.ledger.store import LEDGER_FILE, LedgerStore
from stillwatt.ledger.verify import Finding, Severity, verify
from stillwatt.records import Energy, Total
from stillwatt.units import J_PER_MJ_MILLI

DEAD = FakeLiveness(False)


def _verify(runs_dir: Path, reference: str | None = None) -> list[Finding]:
    return verify(runs_dir, reference, liveness=DEAD)


def _codes(runs_dir: Path) -> set[tuple[str, str]]:
    return {(finding.code, finding.severity.value) for finding in _verify(runs_dir)}


def _post(runs_dir: Path) -> None:
    with LedgerStore(runs_dir, liveness=DEAD) as store:
        store.refresh()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_nothing_is_found_where_all_is_well(runs_dir: Path) -> None:
    quick_run(runs_dir)
    assert _verify(runs_dir) == []
    _post(runs_dir)
    assert _verify(runs_dir) == []
    assert _verify(runs_dir, "latest") == []
    assert _verify(runs_dir / "nowhere") == []


def _torn_line(run: SyntheticRun) -> None:
    _append(program_journals(run.path)[0], b'{"event":')


def _bad_line(run: SyntheticRun) -> None:
    path = meter_journals(run.path)[0]
    path.write_bytes(b"\x00\x00\n" + path.read_bytes())


def _bad_event(run: SyntheticRun) -> None:
    _append(program_journals(run.path)[0], checked_line({"event": "stage_started", "t_ns": 1}) + b"\n")


def _settings(run: SyntheticRun) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["settings"]["sample_period_ms"] = 1
    (run.path / "manifest.json").write_text(json.dumps(manifest))


def _manifest(run: SyntheticRun) -> None:
    (run.path / "manifest.json").write_text("{}")


def _no_sampler(run: SyntheticRun) -> None:
    meter_journals(run.path)[0].unlink()


def _sampler_lost(run: SyntheticRun) -> None:
    path = meter_journals(run.path)[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _torn_segment(run: SyntheticRun) -> None:
    _append(next((run.path / "samples").glob("*gpu0.power.raw")), b"torn")


def _unreadable_segment(run: SyntheticRun) -> None:
    raw = next((run.path / "samples").glob("*gpu0.power.raw"))
    raw.with_suffix(".parquet").write_bytes(b"no")
    raw.unlink()


def _no_samples(run: SyntheticRun) -> None:
    next((run.path / "samples").glob("*cpu0.energy_counter.raw")).unlink()


def _dropped(run: SyntheticRun) -> None:
    raw = next((run.path / "samples").glob("*gpu0.power.raw"))
    writer = RawWriter(raw)
    for _ in range(2):
        writer.append(2**62, 1.0)
    writer.close()


def _damaged(run: SyntheticRun) -> None:
    raw = next((run.path / "samples").glob("*gpu0.power.raw"))
    data = bytearray(raw.read_bytes())
    data[20] ^= 1
    raw.write_bytes(data)


def _cut_at_a_block(run: SyntheticRun) -> None:
    raw = next((run.path / "samples").glob("*gpu0.power.raw"))
    records = [*RECORD.iter_unpack(raw.read_bytes())]
    last_but_one = [number for number, (t_ns, _) in enumerate(records) if t_ns < 0][-2]
    raw.write_bytes(raw.read_bytes()[: RECORD.size * (last_but_one + 1)])


def _changed_line(run: SyntheticRun) -> None:
    path = program_journals(run.path)[0]
    path.write_bytes(path.read_bytes().replace(b'"tokens":', b'"tokems":', 1))


def _copied_lines(run: SyntheticRun) -> None:
    path = program_journals(run.path)[0]
    path.write_bytes(2 * path.read_bytes())


def _renamed_segment(run: SyntheticRun) -> None:
    with LedgerStore(run.path.parent, liveness=DEAD) as store:
        store.refresh()
    (run.path.parent / LEDGER_FILE).unlink()
    of_card = next((run.path / "samples").glob("*gpu0.energy_counter.parquet"))
    of_card.replace(next((run.path / "samples").glob("*cpu0.energy_counter.parquet")))


def _orphan_segment(run: SyntheticRun) -> None:
    writer = RawWriter(raw_path(run.path, "nobody-1-f", "gpu0.power"))
    writer.append(1, 1.0)
    writer.close()


def _orphan_stage(run: SyntheticRun) -> None:
    path = program_journals(run.path)[0]
    events = [{**event, "parent_id": "a99"} if event.get("parent_id") else event for event in read_journal(path).events]
    path.write_bytes(b"".join(checked_line(event, n) + b"\n" for n, event in enumerate(events)))


def _cut_off(run: SyntheticRun) -> None:
    path = program_journals(run.path)[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def _leftover(run: SyntheticRun) -> None:
    (run.path / "samples" / ".x.parquet.7-abc.tmp").write_bytes(b"")


def _gap(run: SyntheticRun) -> None:
    gap = {
        "event": "gap",
        "t_ns": 2,
        "stream": "gpu0.power",
        "start_ns": 1,
        "end_ns": 2,
        "failed_reads": 1,
        "reason": "",
    }
    _append(meter_journals(run.path)[0], checked_line(gap) + b"\n")


def _rename(run: SyntheticRun) -> None:
    run.path.rename(run.path.with_name("renamed"))


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_torn_line, {("torn-line", "warning")}),
        (_bad_line, {("bad-line", "error")}),
        (_bad_event, {("bad-event", "error")}),
        (_changed_line, {("bad-line", "error")}),
        (_damaged, {("damaged-segment", "error")}),
        (_cut_at_a_block, {("samples-short", "error")}),
        (_settings, {("settings-hash", "error"), ("run-directory", "warning")}),
        (_manifest, {("unreadable", "error")}),
        (_no_sampler, {("no-sampler", "error"), ("orphan-segment", "error")}),
        (_sampler_lost, {("sampler-lost", "warning")}),
        (_torn_segment, {("torn-segment", "warning")}),
        (_unreadable_segment, {("segment-unreadable", "error"), ("samples-short", "error")}),
        (_no_samples, {("no-samples", "warning"), ("samples-short", "error")}),
        (_dropped, {("dropped-records", "warning")}),
        (_copied_lines, {("bad-line", "error")}),
        (
            _renamed_segment,
            {("segment-unreadable", "error"), ("samples-short", "error"), ("no-samples", "warning")},
        ),
        (_orphan_segment, {("orphan-segment", "error")}),
        (_orphan_stage, {("orphan-stage", "error")}),
        (_cut_off, {("session-lost", "warning"), ("stage-recovered", "info")}),
        (_leftover, {("leftover", "info")}),
        (_gap, {("gaps", "info")}),
        (_rename, {("run-directory", "warning")}),
    ],
)
def test_each_planted_fault_is_found_and_no_other(
    runs_dir: Path, plant: Callable[[SyntheticRun], None], expected: set[tuple[str, str]]
) -> None:
    run = quick_run(runs_dir)
    quick_run(runs_dir, number=2)
    plant(run)
    findings = _verify(runs_dir)
    assert {(finding.code, finding.severity.value) for finding in findings} == expected
    assert all(finding.where.split("/")[0] in (run.run_id, "renamed") for finding in findings)
    assert all(finding.message for finding in findings)


def test_a_fault_in_one_run_is_not_told_of_another(runs_dir: Path) -> None:
    bad, good = quick_run(runs_dir, number=1), quick_run(runs_dir, number=2)
    _manifest(bad)
    assert _verify(runs_dir, good.run_id) == []
    assert [finding.code for finding in _verify(runs_dir, bad.run_id)] == ["unreadable"]
    with pytest.raises(RunNotFoundError):
        _verify(runs_dir, "nobody")


def test_a_running_run_is_no_fault(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.stage("train", 101.0, None)
    assert verify(runs_dir, liveness=FakeLiveness(True)) == []


def _spoil(runs_dir: Path, statement: str) -> None:
    database = sqlite3.connect(runs_dir / LEDGER_FILE)
    database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE energies SET value_j = value_j + 1 WHERE stage_id = 'a2'", "ledger-differs"),
        ("UPDATE runs SET name = 'other'", "ledger-differs"),
        ("DELETE FROM warnings", None),
        ("DELETE FROM totals WHERE scope = 'net'", "ledger-row"),
        ("UPDATE stages SET kind = 'nonsense'", "ledger-row"),
        ("DELETE FROM runs", "not-posted"),
        ("PRAGMA user_version = 7", "ledger-version"),
    ],
)
def test_a_ledger_that_differs_is_found(runs_dir: Path, statement: str, code: str | None) -> None:
    quick_run(runs_dir)
    _post(runs_dir)
    _spoil(runs_dir, statement)
    assert [finding.code for finding in _verify(runs_dir)] == ([code] if code else [])
    with LedgerStore(runs_dir, liveness=DEAD) as store:
        store.rebuild()
    assert _verify(runs_dir) == [], "rebuilding mends it"


def test_a_column_whose_name_was_ruined_is_found(runs_dir: Path) -> None:
    quick_run(runs_dir)
    _post(runs_dir)
    _spoil(runs_dir, "ALTER TABLE totals RENAME COLUMN share_by_basis TO share_by_fasis")
    (found,) = _verify(runs_dir)
    assert (found.code, found.message) == ("ledger-row", "a table lacks its column 'share_by_basis'")


def test_runs_and_ledger_that_do_not_match(runs_dir: Path) -> None:
    gone = quick_run(runs_dir, number=1)
    _post(runs_dir)
    shutil.rmtree(gone.path)
    quick_run(runs_dir, number=2)
    assert _codes(runs_dir) == {("no-directory", "warning"), ("not-posted", "info")}


def test_a_ruined_ledger_is_told(runs_dir: Path) -> None:
    quick_run(runs_dir)
    (runs_dir / LEDGER_FILE).write_bytes(b"nothing of the kind" * 100)
    assert _codes(runs_dir) == {("ledger-unreadable", "error")}


def test_books_that_do_not_close_are_found(runs_dir: Path) -> None:
    record = build_record(quick_run(runs_dir).path, liveness=DEAD)
    assert list(conservation_findings(record)) == []
    assert isinstance(record.total, Total)
    more = replace(record.total, value_j=record.total.value_j + 0.1)
    assert [finding.severity for finding in conservation_findings(replace(record, total=more))] == [Severity.ERROR]
    child = record.stages[3]
    gross = child.gross
    assert isinstance(gross, Total)
    doubled = tuple(
        replace(energy, value_j=50 * energy.value_j) for energy in child.energies if isinstance(energy, Energy)
    )
    stages = (*record.stages[:3], replace(child, energies=doubled))
    assert len(list(conservation_findings(replace(record, stages=stages)))) == 3


def test_a_witness_is_no_orphan(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter(), gpu_power()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.samples("gpu0.power", lambda _t: 200.0, until_s=112.0)
    session.end(111.0)
    assert _verify(runs_dir) == []
