"""Nodes' run directories are brought together, once, whole, and never over what is here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from run_dirs import GPU, FakeLiveness, SyntheticRun, constant_counter, gpu_counter
from stillwatt.errors import LedgerError, MissingInputError
from stillwatt.ledger.gather import gather
from stillwatt.ledger.post import build_record
from stillwatt.ledger.segments import seal
from stillwatt.records import RunRecord, Total
from stillwatt.units import J_PER_MJ_MILLI
from stillwatt.workflows import books


def node(
    folder: Path, rank: int, *, number: int | None = None, group: str = "g", until_s: float = 104.0
) -> SyntheticRun:
    """One node's run: 100 W for four seconds."""
    run = SyntheticRun(folder, number=rank + 1 if number is None else number, group=group)
    session = run.session(pid=4000 + rank, host=f"node-{rank}", boot=f"boot-{rank}", rank=rank, world_size=2)
    session.sampler([gpu_counter()], parts={"gpu0": GPU})
    session.stage("train", 101.0, 103.0)
    session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=until_s)
    session.end(104.0)
    return run


def record_of(run_dir: Path) -> RunRecord:
    return build_record(run_dir, liveness=FakeLiveness())


def total_j(record: RunRecord) -> float:
    assert isinstance(record.total, Total)
    return record.total.value_j


def test_nodes_of_a_launch_become_one_run(tmp_path: Path) -> None:
    ours, theirs = node(tmp_path / "a", 0), node(tmp_path / "b", 1)
    first, second = gather(tmp_path / "runs", [tmp_path / "a", theirs.path])
    assert (first.run_id, first.is_new) == (ours.run_id, True)
    assert (second.run_id, second.is_new) == (ours.run_id, False)
    record = record_of(tmp_path / "runs" / ours.run_id)
    assert record.complete
    assert total_j(record) == pytest.approx(800.0)
    assert [each.files for each in gather(tmp_path / "runs", [tmp_path / "a", tmp_path / "b"])] == [(), ()]


def test_the_order_does_not_matter(tmp_path: Path) -> None:
    node(tmp_path / "a", 0), node(tmp_path / "b", 1)
    for runs, order in (("one", ["a", "b"]), ("two", ["b", "a"])):
        gather(tmp_path / runs, [tmp_path / name for name in order])
    one, two = (record_of(next((tmp_path / runs).glob("2026*"))) for runs in ("one", "two"))
    assert one.total == two.total
    assert one.stages == two.stages


def test_bringing_a_run_to_where_it_is_changes_nothing(tmp_path: Path) -> None:
    run = node(tmp_path, 0)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    (there,) = gather(tmp_path, [run.path])
    assert (there.run_id, there.files) == (run.run_id, ())
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_runs_of_no_launch_are_taken_as_they_are(tmp_path: Path) -> None:
    node(tmp_path / "a", 0, group=""), node(tmp_path / "b", 1, group="")
    assert [each.is_new for each in gather(tmp_path / "runs", [tmp_path / "a", tmp_path / "b"])] == [True, True]


def test_what_has_grown_since_is_brought_again(tmp_path: Path) -> None:
    run = node(tmp_path / "a", 0, until_s=102.0)
    journal = next(run.path.glob("journal.*[0-9].jsonl"))
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    gather(tmp_path / "runs", [run.path])
    journal.write_bytes(whole)
    shutil.rmtree(run.path / "samples")
    (tmp_path / "again").mkdir()
    fresh = node(tmp_path / "again", 0)
    shutil.copytree(fresh.path / "samples", run.path / "samples")
    (there,) = gather(tmp_path / "runs", [run.path])
    assert len(there.files) == 2
    assert total_j(record_of(tmp_path / "runs" / run.run_id)) == pytest.approx(400.0)


def test_sealed_there_and_raw_here_is_the_same(tmp_path: Path) -> None:
    run = node(tmp_path / "a", 0)
    gather(tmp_path / "runs", [run.path])
    session = next((run.path / "samples").glob("*.raw")).name.partition(".")[0]
    seal(run.path, session, {"gpu0.energy_counter": gpu_counter()})
    assert gather(tmp_path / "runs", [run.path])[0].files == ()
    shutil.rmtree(tmp_path / "runs")
    gather(tmp_path / "runs", [run.path])
    assert total_j(record_of(tmp_path / "runs" / run.run_id)) == pytest.approx(400.0)


def test_a_journal_that_differs_is_left_and_said(tmp_path: Path) -> None:
    run = node(tmp_path / "a", 0)
    gather(tmp_path / "runs", [run.path])
    journal = next(run.path.glob("journal.*[0-9].jsonl"))
    journal.write_bytes(journal.read_bytes().replace(b"train", b"tempo"))
    (there,) = gather(tmp_path / "runs", [run.path])
    assert there.files == ()
    assert there.problems == (f"{journal.name}: differs from the one here; the one here is kept",)


def test_links_are_not_followed(tmp_path: Path) -> None:
    run = node(tmp_path / "a", 0)
    secret = tmp_path / "secret.jsonl"
    secret.write_text("private\n")
    (run.path / "journal.x-1-1.jsonl").symlink_to(secret)
    (run.path / "samples" / "x-1-1.gpu0.power.raw").symlink_to(secret)
    (there,) = gather(tmp_path / "runs", [run.path])
    assert there.problems == ("journal.x-1-1.jsonl: not a plain file; left out",)
    assert not any("x-1-1" in path.name for path in (tmp_path / "runs").rglob("*"))


@pytest.mark.parametrize("run_id", ["../outside", "a/b", "..", ""])
def test_an_id_that_is_no_name_is_refused(tmp_path: Path, run_id: str) -> None:
    run = node(tmp_path / "a", 0)
    manifest = json.loads((run.path / "manifest.json").read_text())
    from stillwatt.ledger.rundir import write_manifest

    del manifest["manifest_sha256"]
    write_manifest(run.path, {**manifest, "run_id": run_id})
    with pytest.raises(LedgerError, match="cannot be a directory's name"):
        gather(tmp_path / "runs", [run.path])
    assert not (tmp_path / "outside").exists()


def test_a_changed_manifest_and_a_taken_id_are_refused(tmp_path: Path) -> None:
    run = node(tmp_path / "a", 0, group="")
    other = node(tmp_path / "b", 1, number=1, group="")
    assert run.run_id == other.run_id
    gather(tmp_path / "runs", [run.path])
    manifest = other.path / "manifest.json"
    with pytest.raises(LedgerError, match="is another run with the id"):
        from stillwatt.ledger.rundir import write_manifest

        document = json.loads(manifest.read_text())
        del document["manifest_sha256"]
        write_manifest(other.path, {**document, "name": "another"})
        gather(tmp_path / "runs", [other.path])
    manifest.write_text(manifest.read_text().replace("another", "changed"))
    with pytest.raises(LedgerError, match="does not have the hash written in it"):
        gather(tmp_path / "runs", [other.path])


def test_a_folder_without_runs_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"run directories not found at .*nothing; name a run directory"):
        gather(tmp_path / "runs", [tmp_path / "nothing"])


def test_the_books_are_posted(tmp_path: Path) -> None:
    node(tmp_path / "a", 0), node(tmp_path / "b", 1)
    books.post(tmp_path / "runs", [tmp_path / "a", tmp_path / "b"])
    record = books.show_run(tmp_path / "runs", "demo")
    assert set(record.environment["nodes"]) == {"20260101-000002-demo-0002"}
    assert not [finding for finding in books.verify(tmp_path / "runs") if finding.severity.value == "error"]
