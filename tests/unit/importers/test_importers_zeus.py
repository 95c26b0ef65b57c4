"""Zeus: windows that nest become stages in stages; those that cross keep no energy; negative and zero are absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from import_files import START_S, Import, absent_of, energy_of, only_record, total_j, write_table
from stillwatt.errors import UsageError

HEADER = ["start_time", "window_name", "elapsed_time", "gpu0_energy", "gpu1_energy"]


def zeus(path: Path, *windows: tuple[float, str, float, Any, Any]) -> Path:
    return write_table(path, HEADER, [[START_S + start_s, *rest] for start_s, *rest in windows])


def test_nested_windows_are_stages_in_stages_and_the_books_close(tmp_path: Path, run_import: Import) -> None:
    path = zeus(tmp_path / "zeus.csv", (2.0, "step", 3.0, 600.0, 300.0), (0.0, "epoch", 10.0, 2000.0, 1000.0))
    record = only_record(run_import(path))
    assert [(stage.name, stage.parent_id) for stage in record.stages] == [("epoch", None), ("step", "a1")]
    assert total_j(record) == pytest.approx(3000.0)
    assert record.complete
    gpu = energy_of(record, "gpu0", 1)
    assert gpu.value_j == 600.0
    assert gpu.random_j == pytest.approx(0.8 * 0.1 * 200.0)
    assert gpu.systematic_low_j == pytest.approx(0.28 * 600.0)
    assert any("neither its version" in warning for warning in record.warnings)


def test_windows_with_time_between_them_have_an_unknown_rest(tmp_path: Path, run_import: Import) -> None:
    path = zeus(tmp_path / "zeus.csv", (0.0, "a", 4.0, 400.0, 40.0), (6.0, "b", 4.0, 400.0, 40.0))
    record = only_record(run_import(path))
    assert total_j(record) == pytest.approx(880.0)
    assert not record.complete


def test_of_windows_that_cross_the_longer_keeps_its_energy(tmp_path: Path, run_import: Import) -> None:
    path = zeus(tmp_path / "zeus.csv", (0.0, "long", 6.0, 600.0, 60.0), (4.0, "late", 4.0, 400.0, 40.0))
    record = only_record(run_import(path))
    assert energy_of(record, "gpu0", 0).value_j == 600.0
    assert "overlaps 'long' in part" in absent_of(record, "gpu0", 1).reason
    assert record.stages[1].results["zeus_gpu0_energy_j"] == 400.0
    assert total_j(record) == pytest.approx(660.0)
    assert not record.complete


@pytest.mark.parametrize(
    ("written", "reason"), [(-126_000.0, "was reset"), (0.0, "shorter than a step"), ("nan", "no number")]
)
def test_figures_that_say_nothing_are_absent(tmp_path: Path, run_import: Import, written: object, reason: str) -> None:
    record = only_record(run_import(zeus(tmp_path / "zeus.csv", (0.0, "a", 4.0, written, 40.0))))
    assert reason in absent_of(record, "gpu0").reason
    assert energy_of(record, "gpu1").value_j == 40.0


def test_a_window_name_with_markup_is_only_a_name(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(zeus(tmp_path / "zeus.csv", (0.0, "<b>../x</b>", 4.0, 1.0, 1.0))))
    assert record.stages[0].name == "<b>../x</b>"


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ((0.0, "bad", -1.0, 1.0, 1.0), "cannot be meant"),
        ((0.0, "bad", 1.0, 1e9, 1.0), "more than a card can draw"),
        ((-2e9, "bad", 1.0, 1.0, 1.0), "no time between"),
    ],
)
def test_rows_that_cannot_be_meant_are_left_out(
    tmp_path: Path, run_import: Import, window: tuple[float, str, float, float, float], reason: str
) -> None:
    report = run_import(zeus(tmp_path / "zeus.csv", window, (0.0, "good", 1.0, 1.0, 1.0)))
    assert [stage.name for stage in only_record(report).stages] == ["good"]
    assert reason in report.left_out[0].reason


def test_a_log_of_a_killed_run_is_a_header_alone(tmp_path: Path, run_import: Import) -> None:
    with pytest.raises(UsageError, match="no window in it"):
        run_import(zeus(tmp_path / "zeus.csv"))
