"""What every test of the importers gets: one call that imports and gives the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from import_files import Import
from run_dirs import FixedClock
from stillwatt.workflows.import_logs import ImportReport, import_logs


@pytest.fixture
def run_import(tmp_path: Path) -> Import:
    """Import paths into `tmp_path/runs`."""

    def run(*paths: Path | str, **options: object) -> ImportReport:
        given = {"runs_dir": tmp_path / "runs", "clock": FixedClock(), **options}
        return import_logs(paths, **given)  # type: ignore[arg-type]

    return run
