"""The store: what it posts and when, and that it can be thrown away."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from run_dirs import FakeLiveness, SyntheticRun, constant_counter, gpu_counter, quick_run
from stillwatt.errors import AmbiguousRunError, LedgerError, RunNotFoundError
from stillwatt.ledger import schema
from stillwatt.ledger.fingerprint import stat_signature
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.post import build_record
from stillwatt.ledger.store import LEDGER_FILE, LedgerStore
from stillwatt.ledger.store_faults import ledger_fault
from stillwatt.records import StageStatus
from stillwatt.units import J_PER_MJ_MILLI

DEAD = FakeLiveness(False)


def _open(runs_dir: Path, **options: Any) -> LedgerStore:
    return LedgerStore(runs_dir, liveness=options.pop("liveness", DEAD), **options)


def test_what_is_posted_is_what_was_built_to_the_byte(runs_dir: Path) -> None:
    run = quick_run(runs_dir, name="=quick, 'ü'")
    built = build_record(run.path, liveness=DEAD)
    with _open(runs_dir) as store:
        assert store.refresh().posted == (run.run_id,)
        loaded = store.get(run.run_id)
    assert loaded == built
    assert json.dumps(loaded.to_dict()) == json.dumps(built.to_dict())
    assert loaded.traces == built.traces
    assert loaded.settings == built.settings


def test_posting_seals_and_a_second_look_does_nothing(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
        assert {path.suffix for path in (run.path / "samples").iterdir()} == {".parquet"}
        assert store.refresh().posted == ()
        assert store.get(run.run_id) == build_record(run.path, liveness=DEAD)
    shutil.copytree(run.path, runs_dir.parent / "copy")
    shutil.rmtree(run.path)
    shutil.copytree(runs_dir.parent / "copy", run.path, copy_function=shutil.copyfile)
    with _open(runs_dir) as store:
        assert store.refresh().posted == (), "new times of change on the same data are no change"


def test_a_growing_run_is_posted_again_and_sealed_only_when_over(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.stage("train", 101.0, None)
    alive = FakeLiveness(True)
    with _open(runs_dir, liveness=alive) as store:
        assert store.refresh().posted == (run.run_id,)
        assert store.get(run.run_id).status is StageStatus.RUNNING
        assert store.refresh().posted == (run.run_id,), "its processes may die without a change to any file"
        assert {path.suffix for path in (run.path / "samples").iterdir()} == {".raw"}
        alive.alive = False
        store.refresh()
        assert store.get(run.run_id).status is StageStatus.RECOVERED
        assert {path.suffix for path in (run.path / "samples").iterdir()} == {".parquet"}


def test_a_session_of_another_host_is_never_sealed_from_here(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.end(111.0, sampler=False)
    with _open(runs_dir, liveness=FakeLiveness(None)) as store:
        store.refresh()
    assert {path.suffix for path in (run.path / "samples").iterdir()} == {".raw"}


def test_rebuilding_gives_the_same_rows(runs_dir: Path) -> None:
    for number in (1, 2, 3):
        quick_run(runs_dir, number=number)
    with _open(runs_dir) as store:
        store.refresh()
        before = store.dump()
        assert len(before) > 100
        assert len(store.rebuild().posted) == 3
        assert store.dump() == before
    (runs_dir / LEDGER_FILE).unlink()
    with _open(runs_dir) as store:
        store.refresh()
        assert store.dump() == before


def test_an_unreadable_directory_hides_no_other(runs_dir: Path) -> None:
    good, bad = quick_run(runs_dir, number=1), quick_run(runs_dir, number=2)
    with _open(runs_dir) as store:
        store.refresh()
        (bad.path / "manifest.json").write_text("{")
        posted = store.refresh()
        assert posted.removed == (bad.run_id,)
        assert [problem.run_id for problem in posted.problems] == [bad.run_id]
        assert "manifest.json" in posted.problems[0].message
        assert [line.run_id for line in store.runs()] == [good.run_id]
        assert store.refresh().problems, "it is tried again each time"


def test_a_run_that_is_gone_leaves_the_ledger(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
        shutil.rmtree(run.path)
        assert store.refresh().removed == (run.run_id,)
        assert store.runs() == ()
        assert store.dump() == ()
        with pytest.raises(RunNotFoundError):
            store.get(run.run_id)


def test_a_name_with_a_slash_is_a_name_before_it_is_a_path(runs_dir: Path) -> None:
    hub = quick_run(runs_dir, number=1, name="org/model-7b")
    plain = quick_run(runs_dir, number=2, name="model-7b")
    with _open(runs_dir) as store:
        store.refresh()
        assert store.resolve("org/model-7b") == hub.run_id
        assert store.resolve("elsewhere/model-7b") == plain.run_id


def test_references(runs_dir: Path) -> None:
    old, new = quick_run(runs_dir, number=1, name="same"), quick_run(runs_dir, number=2, name="same")
    other = quick_run(runs_dir, number=12, name="other")
    with _open(runs_dir) as store:
        store.refresh()
        assert store.resolve(old.run_id) == old.run_id
        assert store.resolve("same") == new.run_id
        assert store.resolve("latest") == other.run_id
        assert store.resolve(other.run_id[:-1]) == other.run_id
        assert store.resolve(f"{runs_dir}/{old.run_id}/") == old.run_id
        assert [line.run_id for line in store.runs()] == [other.run_id, new.run_id, old.run_id]
        with pytest.raises(AmbiguousRunError, match="give more"):
            store.resolve("20260101-00000")
        for wanted in ("", "nothing", "%", "sam"):
            with pytest.raises(RunNotFoundError):
                store.resolve(wanted)
        with pytest.raises(RunNotFoundError, match="did you mean 'other'"):
            store.resolve("othre")


def test_an_empty_place_has_no_runs_and_stays_empty(tmp_path: Path) -> None:
    with _open(tmp_path / "nowhere") as store:
        assert store.refresh().posted == ()
        assert store.runs() == ()
        with pytest.raises(RunNotFoundError):
            store.resolve("latest")
    assert list(tmp_path.iterdir()) == []


def test_read_only_writes_nothing_and_answers_the_same(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    before = sorted(path.relative_to(runs_dir) for path in runs_dir.rglob("*"))
    with _open(runs_dir, read_only=True) as store:
        store.refresh()
        record = store.get(run.run_id)
    assert sorted(path.relative_to(runs_dir) for path in runs_dir.rglob("*")) == before
    with _open(runs_dir) as store:
        store.refresh()
        assert store.get(run.run_id) == record
    with _open(runs_dir, read_only=True) as store:
        assert store.refresh().posted == (), "it begins from the ledger that is there"
        assert store.get(run.run_id) == record


@pytest.mark.parametrize("content", [b"no database at all, just text", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_ruined_ledger_is_set_aside_and_made_again(runs_dir: Path, content: bytes) -> None:
    run = quick_run(runs_dir)
    (runs_dir / LEDGER_FILE).write_bytes(content)
    with _open(runs_dir) as store:
        assert store.refresh().posted == (run.run_id,)
    assert (runs_dir / f"{LEDGER_FILE}.unreadable").read_bytes() == content
    with _open(runs_dir, read_only=True) as store:
        assert len(store.runs()) == 1


def test_a_ledger_of_another_version_is_made_again(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
        before = store.dump()
    database = sqlite3.connect(runs_dir / LEDGER_FILE)
    database.execute("ALTER TABLE runs ADD COLUMN future TEXT")
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with _open(runs_dir) as store:
        assert store.refresh().posted == (run.run_id,)
        assert store.dump() == before


def test_somebody_elses_database_is_left_alone(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs_dir.mkdir()
    database = sqlite3.connect(runs_dir / LEDGER_FILE)
    database.execute("CREATE TABLE recipes (name TEXT)")
    database.commit()
    opened: list[sqlite3.Connection] = []

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", noted)
    with pytest.raises(LedgerError, match="recipes"):
        _open(runs_dir)
    (own,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        own.execute("SELECT 1")
    assert database.execute("SELECT count(*) FROM recipes").fetchone() == (0,)
    database.close()


def test_a_locked_ledger_says_so(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_run(runs_dir)
    with _open(runs_dir):
        pass
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
    holder = sqlite3.connect(runs_dir / LEDGER_FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError, match="locked"):
        _open(runs_dir)
    holder.close()


def test_a_ledger_that_is_locked_while_it_is_posted_to_is_never_said_to_be_for_deletion(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_run(runs_dir)
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
    with _open(runs_dir) as store:
        holder = sqlite3.connect(runs_dir / LEDGER_FILE, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"is held by another program \(database is locked\)") as caught:
            store.refresh()
        assert "deleted" not in str(caught.value)
        holder.close()
        assert len(store.refresh().posted) == 1


def test_a_ledger_file_that_is_not_ours_to_write_is_read_all_the_same(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
    before = (runs_dir / LEDGER_FILE).read_bytes()
    later = quick_run(runs_dir, number=2)
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != LEDGER_FILE)
    with _open(runs_dir) as store:
        assert store.is_in_memory
        assert store.refresh().posted == (later.run_id,)
        assert {line.run_id for line in store.runs()} == {run.run_id, later.run_id}
    assert (runs_dir / LEDGER_FILE).read_bytes() == before


def test_a_failed_post_leaves_the_old_rows_whole(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
        before = store.dump()
        (session,) = {path.name.split(".")[1] for path in run.path.glob("journal.*.jsonl")}
        writer = JournalWriter(run.path / f"journal.{session}.jsonl")
        writer.write({"event": "warning", "t_ns": 1, "message": "late"})
        writer.close()

        def crash(*_args: object, **_kwargs: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(LedgerStore, "_remember", crash)
            with pytest.raises(KeyboardInterrupt):
                store.refresh()
        assert store.dump() == before
        assert store.refresh().posted == (run.run_id,)
        assert store.get(run.run_id).warnings == ("late",)


def test_a_full_disk_while_sealing_is_a_problem_not_a_failure(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = quick_run(runs_dir)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with _open(runs_dir) as store:
            posted = store.refresh()
            assert posted.posted == (run.run_id,)
            assert "No space" in posted.problems[0].message
            assert len(store.runs()) == 1


def test_a_full_disk_while_posting_says_what_is_kept_and_what_to_do(runs_dir: Path) -> None:
    quick_run(runs_dir, number=1)
    with _open(runs_dir) as store:
        store.refresh()
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(2, 12):
            quick_run(runs_dir, number=number)
        with pytest.raises(LedgerError, match=r"the disk is full, .* is kept in the runs' own directories: make room"):
            store.refresh()
    with _open(runs_dir) as store:
        store.refresh()
        assert len(store.runs()) == 11


LISTS = """
import resource, sys
from pathlib import Path
from stillwatt.errors import LedgerError
from stillwatt.ledger.store import LedgerStore
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    with LedgerStore(Path(sys.argv[1])) as store:
        store.refresh()
except LedgerError as err:
    print(err)
"""


def test_a_limit_on_files_is_named_and_no_program_is_blamed(runs_dir: Path) -> None:
    quick_run(runs_dir)
    (runs_dir / "ledger.sqlite").unlink(missing_ok=True)
    command = [sys.executable, "-c", LISTS, str(runs_dir)]
    done = subprocess.run([*command, "6000"], capture_output=True, text=True, check=True)
    assert "(disk I/O error; no file may be larger than 6000 bytes here (`ulimit -f`)); what" in done.stdout
    assert "another program" not in done.stdout
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("ends", ["", "ROLLBACK;"])
def test_tables_that_cannot_be_made_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """SQLite may have ended the transaction itself; that there is none any more is not what went wrong."""
    monkeypatch.setattr(schema, "DDL", f"{ends} INSERT INTO nowhere VALUES (1)")
    database = sqlite3.connect(tmp_path / LEDGER_FILE, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
        schema._make_tables(database)
    assert not database.in_transaction
    database.close()


def test_a_file_that_cannot_be_opened_is_no_reason_to_delete_it(tmp_path: Path) -> None:
    err = sqlite3.OperationalError("unable to open database file")
    err.sqlite_errorname = "SQLITE_CANTOPEN"
    said = str(ledger_fault(tmp_path / "ledger.sqlite", err))
    assert "ledger.sqlite cannot be read or written (unable to open database file); what was measured is kept" in said
    said = str(ledger_fault(tmp_path / "gone" / "ledger.sqlite", sqlite3.OperationalError("no such table")))
    assert said.endswith("it is an index and may be deleted, it will be made again")


def test_two_stores_may_post_at_once(runs_dir: Path) -> None:
    for number in range(1, 5):
        quick_run(runs_dir, number=number)
    problems: list[object] = []

    def post() -> None:
        with _open(runs_dir) as store:
            problems.extend(store.refresh().problems)

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with _open(runs_dir) as store:
        assert store.refresh().posted == ()
        before = store.dump()
        store.rebuild()
        assert store.dump() == before


def test_sql_users_find_units_and_reasons(runs_dir: Path) -> None:
    quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
    database = sqlite3.connect(f"file:{runs_dir / LEDGER_FILE}?mode=ro", uri=True)
    rows = database.execute(
        "SELECT s.name, sum(e.value_j) FROM stages s JOIN energies e USING (run_id, stage_id)"
        " WHERE s.parent_id IS NULL GROUP BY s.stage_id ORDER BY s.ordinal"
    ).fetchall()
    strict = database.execute("SELECT count(*) FROM pragma_table_list WHERE strict = 0 AND name NOT LIKE 'sqlite%'")
    assert [name for name, _ in rows] == ["idle_baseline", "teacher_logits", "train.sft.1.0"]
    assert strict.fetchone() == (0,)
    database.close()


def test_a_directory_that_cannot_be_written_is_read_all_the_same(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quick_run(runs_dir)
    monkeypatch.setattr(os, "access", lambda *_args: False)
    with _open(runs_dir) as store:
        assert store.is_in_memory
        assert store.refresh().posted == (run.run_id,)
        assert store.get(run.run_id) == build_record(run.path, liveness=DEAD)
    assert not (runs_dir / LEDGER_FILE).exists()


def test_rows_deleted_by_hand_come_back(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    with _open(runs_dir) as store:
        store.refresh()
        before = store.dump()
    database = sqlite3.connect(runs_dir / LEDGER_FILE)
    database.execute("DELETE FROM runs")
    database.commit()
    database.close()
    with _open(runs_dir) as store:
        assert store.refresh().posted == (run.run_id,)
        assert store.dump() == before


def test_a_segment_sealed_while_it_is_looked_at_is_no_problem(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another process seals between the listing of the folder and the look at the file."""
    run_dir = runs_dir / quick_run(runs_dir, number=1).run_id
    real_scandir = os.scandir

    @contextmanager
    def sealing_scandir(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
        with real_scandir(folder) as entries:
            listed = list(entries)
        for name in os.listdir(folder):  # a glob would scan by the patched function
            if name.endswith(".raw"):
                (Path(folder) / name).unlink()
        yield listed

    before = stat_signature(run_dir)
    monkeypatch.setattr(os, "scandir", sealing_scandir)
    assert stat_signature(run_dir) != before
