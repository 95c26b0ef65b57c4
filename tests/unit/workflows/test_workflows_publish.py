"""A run's report where a run that it rests on is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from planned_runs import smoke, study_run
from stillwatt.workflows.publish import write_report

MAKER = "an earlier run"


@pytest.mark.parametrize("manifest", [None, "", "{"])
def test_a_maker_that_cannot_be_read_keeps_no_report_from_being_written(tmp_path: Path, manifest: str | None) -> None:
    """The run is over and paid for: what it rests on is said to be missing, and the rest of it is told."""
    run = study_run(tmp_path, smoke(), reused=True)
    if manifest is not None:
        (tmp_path / MAKER).mkdir()
        (tmp_path / MAKER / "manifest.json").write_text(manifest, encoding="utf-8")
    paths = write_report(run.run_id, runs_dir=tmp_path)
    assert paths.html.exists()
    assert paths.json.exists()
    assert f"was made by run {MAKER}, which is not at hand" in paths.json.read_text(encoding="utf-8")
