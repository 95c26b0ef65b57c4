"""CarbonTracker: epochs without the PUE, the mean over cards put right, a total alone with the PUE divided out."""

from __future__ import annotations

from pathlib import Path

import pytest

from import_files import OUTPUT_LOG, STANDARD_LOG, Import, absent_of, energy_of, only_record, total_j
from stillwatt.errors import UsageError
from stillwatt.records import Basis
from stillwatt.units import J_PER_KWH

STEM = "10151_2026-01-25T120000Z"


def write_logs(
    folder: Path,
    *,
    gpu: str = "[300.0]",
    cpu: str = "[50.0]",
    devices: str = "NVIDIA A100-SXM4-80GB",
    kwh: float | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = STANDARD_LOG.format(gpu=gpu, cpu=cpu, devices=devices)
    (folder / f"{STEM}_carbontracker.log").write_text(text)
    if kwh is not None:
        (folder / f"{STEM}_carbontracker_output.log").write_text(OUTPUT_LOG.format(kwh=kwh))
    return folder


def test_epochs_are_stages_with_power_times_duration(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs")))
    assert [stage.name for stage in record.stages] == ["epoch 1", "epoch 2"]
    gpu, cpu = energy_of(record, "gpu"), energy_of(record, "cpu")
    assert (gpu.value_j, cpu.value_j) == pytest.approx((3000.0, 500.0))
    assert (gpu.basis, cpu.basis) == (Basis.MEASURED, Basis.ASSUMED)
    assert gpu.systematic_high_j == pytest.approx(2.0 * 3000.0)
    assert total_j(record) == pytest.approx(7000.0)
    assert record.complete


def test_the_total_is_held_against_the_epochs_without_its_pue(tmp_path: Path, run_import: Import) -> None:
    kwh = 7000.0 * 1.58 / J_PER_KWH
    record = only_record(run_import(write_logs(tmp_path / "logs", kwh=kwh)))
    assert total_j(record) == pytest.approx(7000.0)
    assert any("holds a PUE of 1.58" in warning for warning in record.warnings)
    assert not any("the epochs are booked" in warning for warning in record.warnings)


def test_a_total_that_disagrees_is_said(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", kwh=0.5)))
    assert any("the epochs are booked" in warning for warning in record.warnings)


def test_the_mean_over_cards_is_put_right_and_said(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", gpu="200.0", devices="NVIDIA A100, NVIDIA A100")))
    assert energy_of(record, "gpu").value_j == pytest.approx(4000.0)
    assert any("2.4.7 takes the mean" in warning for warning in record.warnings)


def test_a_power_for_each_card_is_a_sum(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", gpu="[100. 300.]", devices="A100, A100")))
    assert energy_of(record, "gpu").value_j == pytest.approx(4000.0)


@pytest.mark.parametrize(("cpu", "reason"), [("None", "too short"), ("[0.]", "may not read"), ("0.0", "may not read")])
def test_zeros_and_none_are_absent(tmp_path: Path, run_import: Import, cpu: str, reason: str) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", cpu=cpu)))
    assert reason in absent_of(record, "cpu").reason
    assert not record.complete


def test_an_output_log_alone_gives_one_stage_without_the_pue(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / f"{STEM}_carbontracker_output.log"
    path.write_text(OUTPUT_LOG.format(kwh=0.158))
    record = only_record(run_import(path))
    assert [stage.name for stage in record.stages] == ["2 epochs"]
    whole = energy_of(record, "machine")
    assert whole.value_j == pytest.approx(0.1 * J_PER_KWH)
    assert whole.basis is Basis.ASSUMED
    assert any("the file does not tell its own" in warning for warning in record.warnings)


def test_an_interrupted_training_keeps_its_epochs_and_takes_no_prediction(tmp_path: Path, run_import: Import) -> None:
    folder = write_logs(tmp_path / "logs")
    with (folder / f"{STEM}_carbontracker.log").open("a") as file:
        file.write("2026-01-25 12:00:22 - Training was interrupted before all 100 epochs were monitored.\n")
    record = only_record(run_import(folder))
    assert any("predictions are not taken" in warning for warning in record.warnings)


def test_a_power_that_cannot_be_meant_is_left_out(tmp_path: Path, run_import: Import) -> None:
    report = run_import(write_logs(tmp_path / "logs", cpu="[-5.0]"))
    assert report.left_out[0].line == 8
    assert "cannot be meant" in report.left_out[0].reason


def test_the_log_of_errors_and_one_without_epochs(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / f"{STEM}_carbontracker_err.log").write_text("2026 - MainThread - CRITICAL - no\n")
    (folder / f"{STEM}_carbontracker.log").write_text("2026-01-25 12:00:00 - carbontracker version 1.2\n")
    with pytest.raises(UsageError, match="no epoch that ended"):
        run_import(folder)
