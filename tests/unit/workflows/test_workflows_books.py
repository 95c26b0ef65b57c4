"""The ledger's use cases over real run directories."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import stillwatt
from stillwatt.errors import LedgerError, MissingInputError, RunNotFoundError
from stillwatt.workflows import books


@pytest.fixture
def kept(runs_dir: Path) -> Path:
    """A folder with one short run."""
    with stillwatt.Run("kept", runs_dir=runs_dir, sensors=("synthetic",)) as run, run.stage("work"):
        pass
    return runs_dir


def test_a_folder_that_is_not_there_is_not_called_well(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="--runs"):
        books.verify(tmp_path / "nowhere")


def test_a_run_is_found_listed_and_verified(kept: Path) -> None:
    (line,) = books.list_runs(kept)
    assert books.show_run(kept, "latest").run_id == line.run_id == books.show_run(kept, "kept").run_id
    assert [finding for finding in books.verify(kept) if finding.severity == "error"] == []
    with pytest.raises(RunNotFoundError, match="did you mean 'kept'"):
        books.show_run(kept, "kep_t")


def test_a_run_that_is_there_and_cannot_be_posted_is_not_called_unknown(kept: Path) -> None:
    (manifest,) = kept.glob("*/manifest.json")
    run_id = manifest.parent.name
    manifest.write_text("{")
    with pytest.raises(LedgerError, match=rf"run '{run_id}' in .* cannot be posted.*manifest.*ledger verify") as raised:
        books.show_run(kept, run_id)
    assert not isinstance(raised.value, RunNotFoundError)


def test_a_change_of_the_files_is_posted_before_it_is_verified(kept: Path) -> None:
    books.rebuild(kept)
    (journal,) = (path for path in kept.glob("*/journal.*.jsonl") if ".meter." not in path.name)
    with journal.open("ab") as file:
        file.write(b'{"torn')
    codes = [(finding.severity, finding.message) for finding in books.verify(kept)]
    assert [message for severity, message in codes if severity == "error"] == []
    assert any("torn" in message for _, message in codes)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_exports_are_written(kept: Path, tmp_path: Path, form: str) -> None:
    paths = books.export(kept, "latest", form=form, out=tmp_path / "out")
    assert paths
    assert all(path.stat().st_size > 0 for path in paths)
    if form == "jsonl":
        rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        assert any(row.get("name") == "work" for row in rows)


@pytest.mark.parametrize("policy", ["gross", "net", "marginal"])
def test_a_policy_is_computed_from_the_directory_and_not_from_rows(kept: Path, policy: str) -> None:
    before = books.show_policy(kept, "latest", policy)
    with sqlite3.connect(kept / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE totals SET value_j = 0, low_j = 0, high_j = 0 WHERE value_j IS NOT NULL")
    ledger.close()
    assert books.show_policy(kept, before.record.run_id, policy).to_dict() == before.to_dict()
    with pytest.raises(RunNotFoundError):
        books.show_policy(kept, "nowhere", policy)


def test_a_verdict_is_of_the_run_as_it_is_shown(kept: Path) -> None:
    judged = books.judge(kept, "latest")
    assert judged.record == books.show_run(kept, "latest")
    assert judged.verdicts.keys() == {stage.stage_id for stage in judged.record.stages}
    assert books.judge(kept, "kept", rule="even").verdicts == judged.verdicts
