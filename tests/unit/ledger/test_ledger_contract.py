"""The contract `stillwatt.run/1`: a committed run directory, the record it gives, and the schema both obey."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from golden_run import golden_run
from run_dirs import FakeLiveness, quick_run
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.ledger.store import LedgerStore
from stillwatt.ledger.verify import verify

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "run_contract"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "run.schema.json").read_text(encoding="utf-8"))
DEAD = FakeLiveness(False)
HOW = "run `python tests/golden/run_contract/regenerate.py` and read the difference"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@pytest.fixture
def golden(runs_dir: Path) -> Path:
    """A copy of the committed run directory, since posting seals it."""
    (committed,) = GOLDEN.glob("20*")
    shutil.copytree(committed, runs_dir / committed.name)
    return runs_dir / committed.name


def test_the_committed_directory_is_what_the_processes_write(golden: Path, tmp_path: Path) -> None:
    assert _files(golden_run(tmp_path / "made").path) == _files(golden), HOW


def test_the_golden_directory_gives_the_golden_record_byte_for_byte(golden: Path) -> None:
    expected = (GOLDEN / "run.json").read_text(encoding="utf-8")
    assert _text(build_record(golden, liveness=DEAD).to_dict()) == expected, HOW
    with LedgerStore(golden.parent, liveness=DEAD) as store:
        store.refresh()
        assert _text(store.get(golden.name).to_dict()) == expected
        store.rebuild()
        assert _text(store.get(golden.name).to_dict()) == expected


def test_the_golden_record_has_everything_in_it() -> None:
    record = json.loads((GOLDEN / "run.json").read_text(encoding="utf-8"))
    assert {stage["status"] for stage in record["stages"]} == {"ended", "failed", "recovered"}
    assert any("absent" in channel for stage in record["stages"] for channel in stage["channels"])
    assert record["complete"] is False
    assert len(record["warnings"]) >= 5


def test_the_golden_directory_verifies_but_for_its_planted_losses(golden: Path) -> None:
    codes = {finding.code for finding in verify(golden.parent, liveness=DEAD)}
    assert codes == {"torn-line", "torn-segment", "session-lost", "stage-recovered", "gaps"}
    assert list(conservation_findings(build_record(golden, liveness=DEAD))) == []


def _errors(document: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_one_and_accepts_what_is_printed(golden: Path, tmp_path: Path) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for run_dir in (golden, quick_run(tmp_path / "other").path):
        assert _errors(json.loads(_text(build_record(run_dir, liveness=DEAD).to_dict()))) == []


def _objects(node: Any) -> list[dict[str, Any]]:
    """Every object of a document whose keys the schema fixes."""
    found = [node] if isinstance(node, dict) else []
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found + [each for value in inner for each in _objects(value)]


def _with_fixed_keys_only() -> dict[str, Any]:
    """A golden record of one stage, less what is free in form."""
    document: dict[str, Any] = json.loads((GOLDEN / "run.json").read_text(encoding="utf-8"))
    document["stages"] = document["stages"][:1]
    document["stages"][0].update({name: {} for name in ("workload", "labels", "results")})
    document["environment"] = {}
    return document


def test_the_schema_refuses_an_extra_key_anywhere() -> None:
    document = _with_fixed_keys_only()
    count = len(_objects(document))
    accepted = []
    for number in range(count):
        planted = copy.deepcopy(document)
        target = _objects(planted)[number]
        if not target:
            continue
        target["surprise"] = "planted"
        if not _errors(planted):
            accepted.append(sorted(target))
    assert accepted == []


def test_the_schema_refuses_a_missing_key_anywhere() -> None:
    document = _with_fixed_keys_only()
    accepted = set()
    for number, node in enumerate(_objects(document)):
        for key in node:
            planted = copy.deepcopy(document)
            del _objects(planted)[number][key]
            if not _errors(planted):
                accepted.add(key)
    cost = {"cpu_s", "energy_j", "energy_low_j", "energy_high_j"}
    assert accepted == {*cost, "caches", "failed_reads", "in_step_j", "skipped_ticks", "measured", "modelled"}


def _number_as_text(document: dict[str, Any]) -> None:
    document["duration_s"] = "1"


def _zero_for_absent(document: dict[str, Any]) -> None:
    document["total_j"] = 0


def _both(document: dict[str, Any]) -> None:
    document["total_j"]["absent"] = "and yet"


def _share(document: dict[str, Any]) -> None:
    document["stages"][0]["channels"][0]["energy"]["coverage"] = 1.5


def _kind(document: dict[str, Any]) -> None:
    document["stages"][0]["kind"] = "nonsense"


def _version(document: dict[str, Any]) -> None:
    document["schema"] = "stillwatt.run/2"


@pytest.mark.parametrize("plant", [_number_as_text, _zero_for_absent, _both, _share, _kind, _version])
def test_the_schema_refuses_what_cannot_be(plant: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((GOLDEN / "run.json").read_text(encoding="utf-8"))
    assert _errors(document) == []
    plant(document)
    assert _errors(document)
