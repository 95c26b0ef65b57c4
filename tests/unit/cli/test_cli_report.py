"""`report` writes the files and says where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from run_dirs import quick_run
from stillwatt.records import RunRecord
from stillwatt.records.finding import Study
from stillwatt.records.forecast import Figure, Held, PredictionCheck
from stillwatt.workflows.publish import ReportPaths

Stillwatt = Callable[..., Result]


@pytest.fixture
def asked(
    monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., RunRecord], make_study: Callable[[RunRecord], Study]
) -> dict[str, Any]:
    """What `write_report` was asked for."""
    question: dict[str, Any] = {}

    def write_report(reference: str, **options: Any) -> ReportPaths:
        question.update(options, reference=reference)
        record = make_record()
        return ReportPaths(
            html=Path("d/report.html"), json=Path("d/report.json"), record=record, study=make_study(record)
        )

    monkeypatch.setattr("stillwatt.workflows.publish.write_report", write_report)
    return question


def test_paths_and_answer_are_printed(stillwatt: Stillwatt, asked: dict[str, Any]) -> None:
    result = stillwatt("report", "latest", "--runs", "r", "--out", "d")
    assert result.exit_code == 0
    assert asked == {"reference": "latest", "runs_dir": "r", "out_dir": "d", "is_forced": False}
    assert "1,500" in result.stdout
    assert result.stdout.endswith("report  d/report.html\ndata    d/report.json\n")


def test_paths_as_json(stillwatt: Stillwatt, asked: dict[str, Any]) -> None:
    answer = json.loads(stillwatt("report", "latest", "--json").stdout)
    assert answer == {"run_id": "20261122-225501-demo-3f2a", "html": "d/report.html", "json": "d/report.json"}
    assert asked["out_dir"] is None


def test_a_report_is_renewed_and_somebody_elses_files_are_left_as_they_were(
    stillwatt: Stillwatt, tmp_path: Path
) -> None:
    quick_run(tmp_path)
    folder = tmp_path / "out"
    ask = ("report", "latest", "--runs", str(tmp_path), "--out", str(folder))
    files = [folder / "report.json", folder / "report.html"]
    assert stillwatt(*ask).exit_code in (0, 3)
    written = [file.read_bytes() for file in files]
    assert stillwatt(*ask).exit_code in (0, 3)
    assert [file.read_bytes() for file in files] == written
    others = b'{"schema": "stillwatt.lifecycle/1"}', b"<!doctype html><title>mine</title>"
    for file, words in zip(files, others, strict=True):
        before = file.read_bytes()
        file.write_bytes(words)
        refused = stillwatt(*ask)
        assert (refused.exit_code, file.read_bytes()) == (2, words)
        assert f"{file} is there already and was left as it is; give another --out, or --force" in refused.stderr
        assert stillwatt(*ask, "--force").exit_code in (0, 3)
        assert file.read_bytes() == before
    assert stillwatt(*ask[:-1], str(files[0])).exit_code == 2


def test_what_was_predicted_is_told_too(
    stillwatt: Stillwatt, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillwatt.workflows import publish

    whole = Held(name="total", predicted=Figure(value=900.0, low=700.0, high=1200.0), measured=1000.0)
    told = PredictionCheck(run_id="r", is_from_before=True, energy=(whole,), duration=(whole,), notes=())
    plain = publish.write_report
    monkeypatch.setattr(publish, "write_report", lambda *a, **k: replace(plain(*a, **k), comparison=told))
    result = stillwatt("report", "latest")
    assert "total energy: predicted 900 J [700, 1,200], measured 1,000 J (off by −10 %)" in result.stdout
