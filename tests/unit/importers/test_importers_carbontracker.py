"""CarbonTracker: epochs without the PUE, the mean over cards put right, a total alone with the PUE divided out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from import_files import OUTPUT_LOG, STANDARD_LOG, Import, absent_of, energy_of, only_record, total_j
from run_dirs import FixedClock
from stillwatt.errors import UsageError
from stillwatt.importers.carbontracker import FORM
from stillwatt.importers.carbontracker_log import Log, read_standard
from stillwatt.importers.intake import LogFile
from stillwatt.importers.known import KnownRun, same_run
from stillwatt.records import Basis
from stillwatt.units import J_PER_KWH
from stillwatt.workflows.import_logs import import_logs

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


@settings(max_examples=25, deadline=None)
@given(powers_w=st.lists(st.floats(0.01, 1000.0), min_size=2, max_size=40))
def test_every_card_is_booked_however_numpy_breaks_its_lines(
    tmp_path_factory: pytest.TempPathFactory, powers_w: list[float]
) -> None:
    """Releases 1.x print the array of mean powers, which numpy wraps after 75 characters."""
    array = np.array(powers_w)
    folder = write_logs(tmp_path_factory.mktemp("wrap"), gpu=str(array), devices=", ".join(["A100"] * len(powers_w)))
    log = Log()
    read_standard(LogFile(path=folder / f"{STEM}_carbontracker.log", name="log", is_named=True), log)
    assert log.faults == []
    assert log.devices["gpu"] == ("A100",) * len(powers_w)
    for epoch in log.epochs:
        assert epoch.powers_w["gpu"] == pytest.approx(powers_w, rel=1e-3, abs=1e-6)
        assert epoch.powers_w["cpu"] == (50.0,)


def test_eight_cards_of_a_wrapped_line(tmp_path: Path, run_import: Import) -> None:
    gpu = "[299.71134021 300.26804124 298.95876289 300.81443299 299.88659794\n 300.97938144 299.54639175 300.30927835]"
    report = run_import(write_logs(tmp_path / "logs", gpu=gpu, devices=", ".join(["NVIDIA A100-SXM4-40GB"] * 8)))
    assert energy_of(only_record(report), "gpu").value_j == pytest.approx(24_004.74, abs=0.01)
    assert energy_of(only_record(report), "cpu").value_j == pytest.approx(500.0)
    assert report.left_out == ()


@pytest.mark.parametrize(
    ("gpu", "what"),
    [
        ("[300. 301.", "its brackets do not close"),
        ("[300. 301.\n 302.", "its brackets do not close"),
        ("300. 301. 302.]", "its brackets do not close"),
        ("[[300. 301. 302.]", "its brackets do not close"),
        ("[300. 301.]", "2 powers for 3 devices"),
        ("[300.]", "1 powers for 3 devices"),
        ("[300. 301.\n 302. 303.]", "4 powers for 3 devices"),
    ],
)
def test_powers_of_which_some_may_be_missing_are_absent_and_no_smaller_number(
    tmp_path: Path, run_import: Import, gpu: str, what: str
) -> None:
    report = run_import(write_logs(tmp_path / "logs", gpu=gpu, devices="A100, A100, A100"))
    record = only_record(report)
    for stage in (0, 1):
        assert what in absent_of(record, "gpu", stage).reason
        assert energy_of(record, "cpu", stage).value_j == pytest.approx(500.0)
    assert [what in left.reason for left in report.left_out] == [True, True]
    assert report.left_out[0].line == 7
    assert not record.complete


def test_a_log_that_stops_inside_a_line_of_powers(tmp_path: Path, run_import: Import) -> None:
    folder = write_logs(tmp_path / "logs", gpu="[300. 301.\n 302.]", devices="A100, A100, A100")
    path = folder / f"{STEM}_carbontracker.log"
    path.write_text(path.read_text().rpartition("\n 302.]")[0])
    record = only_record(run_import(folder))
    assert energy_of(record, "gpu", 0).value_j == pytest.approx(9030.0)
    assert "do not close" in absent_of(record, "gpu", 1).reason


@pytest.mark.parametrize("gpu", ["5.0", "[5.0]"])
def test_apples_graphics_and_neural_engine_are_one_reading(tmp_path: Path, run_import: Import, gpu: str) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", gpu=gpu, devices="GPU, ANE")))
    assert energy_of(record, "gpu").value_j == pytest.approx(50.0)
    assert not any("takes the mean" in warning for warning in record.warnings)


def test_a_file_of_which_an_older_release_took_less_is_the_same_run(tmp_path: Path) -> None:
    folder = write_logs(tmp_path / "logs")
    (line,) = import_logs([folder], runs_dir=tmp_path / "runs", clock=FixedClock(), is_dry=True).lines
    (source,) = line.found.sources
    told = {"form": FORM, "identity": "less", "sources": [{"name": source.name, "sha256": source.sha256}]}
    known = KnownRun(run_dir=tmp_path / "runs" / "old", told=told)
    assert same_run(line.found, [known]) is known
    assert "reads the same files otherwise" in known.differs(line.found)
    other = KnownRun(run_dir=known.run_dir, told={**told, "sources": [{"name": source.name, "sha256": "0"}]})
    assert same_run(line.found, [other]) is None


@pytest.mark.parametrize(("cpu", "reason"), [("None", "too short"), ("[0.]", "may not read"), ("0.0", "may not read")])
def test_zeros_and_none_are_absent(tmp_path: Path, run_import: Import, cpu: str, reason: str) -> None:
    record = only_record(run_import(write_logs(tmp_path / "logs", cpu=cpu)))
    assert reason in absent_of(record, "cpu").reason
    assert not record.complete


@pytest.mark.parametrize("gpu", ["nan", "-5", "[100.0 abc]", "1e300", "9" * 5000, "[]"])
def test_a_power_that_cannot_be_meant_is_absent_with_that_reason(tmp_path: Path, run_import: Import, gpu: str) -> None:
    report = run_import(write_logs(tmp_path / "logs", gpu=gpu))
    reason = absent_of(only_record(report), "gpu").reason
    assert "cannot be meant" in reason
    assert gpu[:20] in reason
    assert "too short" not in reason
    assert [left.line for left in report.left_out] == [7, 11]


def test_a_part_of_which_an_epoch_says_nothing(tmp_path: Path, run_import: Import) -> None:
    folder = write_logs(tmp_path / "logs")
    path = folder / f"{STEM}_carbontracker.log"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    record = only_record(run_import(folder))
    assert "wrote no power of it" in absent_of(record, "cpu", 1).reason


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("Epoch 2:", "Epoch 2²:", 9, "not a number"),
        ("Epoch 2:", f"Epoch {'9' * 5000}:", 9, "too large"),
        ("2026-01-25 12:00:21 - Epoch 2:", "2026-02-30 12:00:21 - Epoch 2:", 9, "not a time"),
        ("of 1.58", f"of {'9' * 400}", 2, "too large"),
        ("of 1.58", "of 300", 2, "a PUE of 300 cannot be meant"),
        ("Duration: 0:00:10.00", f"Duration: {'9' * 5000}:00:10.00", 6, "not hours, minutes and seconds"),
        ("Duration: 0:00:10.00", "Duration: 999999999:00:10.00", 6, "at most ten years"),
        ("Duration: 0:00:10.00", "Duration: 1 day, 0:00:10.00", 6, "not hours, minutes and seconds"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_and_is_of_no_other_epoch(
    tmp_path: Path, run_import: Import, old: str, new: str, line: int, what: str
) -> None:
    folder = write_logs(tmp_path / "logs")
    path = folder / f"{STEM}_carbontracker.log"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    report = run_import(folder)
    (left,) = report.left_out
    assert left.line == line
    assert what in left.reason
    for stage in only_record(report).stages:
        assert stage.duration_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("kwh", "what"),
    [
        ("5e20", "no machine draws a megawatt"),
        ("1e400", "too large for a number"),
        ("1e", "not a number"),
        ("-1", "-1 kWh cannot be meant"),
        ("nan", "not a number"),
        ("9" * 5000, "too large"),
    ],
)
def test_a_total_that_cannot_be_meant_is_refused_and_the_others_are_imported(
    tmp_path: Path, run_import: Import, kwh: str, what: str
) -> None:
    folder = write_logs(tmp_path / "logs")
    (folder / "odd_carbontracker_output.log").write_text(OUTPUT_LOG.format(kwh=kwh))
    report = run_import(folder)
    assert total_j(only_record(report)) == pytest.approx(7000.0)
    (left,) = report.left_out
    assert left.place == "logs/odd_carbontracker_output.log:2"
    assert what in left.reason


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
