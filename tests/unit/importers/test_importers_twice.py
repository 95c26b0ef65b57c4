"""Nothing twice, in whatever order files come; and where something is left as it is, the true reason."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from import_files import (
    OUTPUT_LOG,
    STANDARD_LOG,
    START_S,
    Import,
    carbon_row,
    harness_stage,
    only_record,
    total_j,
    write_carbon,
    write_harness,
    write_summary,
)
from stillwatt.units import J_PER_KWH
from stillwatt.workflows.books import list_runs
from stillwatt.workflows.import_logs import Outcome

STAGE = harness_stage("sft_demo")
NAME = "exp_carbontracker.log"


def row_of(stage: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """CodeCarbon's own row of a stage, as its backups round it."""
    figures: dict[str, Any] = {
        "cpu_energy": stage["codecarbon_cpu_energy_kwh"],
        "gpu_energy": stage["codecarbon_gpu_energy_kwh"],
        "ram_energy": stage["codecarbon_ram_energy_kwh"],
        "energy_consumed": f"{stage['total_codecarbon_energy_kwh']:.16f}",
    }
    return carbon_row(project=str(stage["stage_id"]), end_s=22.0, duration_s=21.0, **figures | changes)


def standard(path: Path, *, gpu: str = "[300.0]", epochs: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = STANDARD_LOG.format(gpu=gpu, cpu="[50.0]", devices="NVIDIA A100")
    path.write_text("\n".join(text.splitlines()[: 4 + 4 * epochs]) + "\n")
    return path


def output(path: Path, kwh: float = 7000.0 * 1.58 / J_PER_KWH) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OUTPUT_LOG.format(kwh=kwh))
    return path


@pytest.mark.parametrize("order", [*permutations(["row", "stage"]), ("both",)])
def test_work_that_two_tools_wrote_down_is_booked_once(
    tmp_path: Path, run_import: Import, order: tuple[str, ...]
) -> None:
    row = write_carbon(tmp_path / "row" / "emissions.csv", [row_of(STAGE)])
    write_harness(tmp_path / "stage", STAGE)
    shutil.copytree(tmp_path / "stage", tmp_path / "both")
    shutil.copy(row, tmp_path / "both")
    reports = [run_import(tmp_path / name) for name in order]
    (run,) = list_runs(tmp_path / "runs")
    (kept,) = reports[0].lines
    assert kept.run_id == run.run_id
    if len(order) > 1:
        assert reports[1].lines == ()
        (why,) = {left.reason for left in reports[1].left_out if "twice" in left.reason}
        assert f"is in run {run.run_id} already" in why or f"are in run {run.run_id} already" in why
        assert f"delete the directory of {run.run_id}" in why


def test_the_other_one_can_be_had_by_doing_what_is_said(tmp_path: Path, run_import: Import) -> None:
    row = write_carbon(tmp_path / "emissions.csv", [row_of(STAGE)])
    write_harness(tmp_path / "stage", STAGE)
    first = only_record(run_import(row))
    shutil.rmtree(tmp_path / "runs" / first.run_id)
    assert only_record(run_import(tmp_path / "stage")).name == "sft_demo"
    assert [run.name for run in list_runs(tmp_path / "runs")] == ["sft_demo"]


def test_stages_of_one_run_are_left_out_together(tmp_path: Path, run_import: Import) -> None:
    other = harness_stage("sft_next", start_s=START_S + 100)
    run_import(write_carbon(tmp_path / "emissions.csv", [row_of(STAGE)]))
    for stage in (STAGE, other):
        write_harness(tmp_path / "h", stage, summary=False)
    write_summary(tmp_path / "h" / "experiment_summary.json", [STAGE, other])
    report = run_import(tmp_path / "h")
    assert report.lines == ()
    reasons = {Path(left.name).name: left.reason for left in report.left_out}
    assert "is in run" in reasons["sft_demo.json"]
    assert "of one run with 'sft_demo', which is there already" in reasons["sft_next.json"]


def test_another_session_of_the_same_project_is_another_run(tmp_path: Path, run_import: Import) -> None:
    run_import(write_carbon(tmp_path / "emissions.csv", [row_of(STAGE, energy_consumed=0.00201)]))
    assert len(run_import(write_harness(tmp_path / "stage", STAGE).parent).lines) == 1
    assert len(list_runs(tmp_path / "runs")) == 2


def test_two_runs_whose_logs_have_one_name_are_two(tmp_path: Path, run_import: Import) -> None:
    logs = [standard(tmp_path / "logs" / sub / NAME, gpu=gpu) for sub, gpu in (("a", "[300.0]"), ("b", "[100.0]"))]
    for given in ([tmp_path / "logs"], logs):
        report = run_import(*given, runs_dir=tmp_path / f"runs{len(given)}")
        assert [line.outcome for line in report.lines] == [Outcome.IMPORTED] * 2
        assert sorted(total_j(line.record) for line in report.lines if line.record) == pytest.approx([3000.0, 7000.0])


@pytest.mark.parametrize("is_together", [True, False])
def test_a_log_under_another_name_is_the_same_run(tmp_path: Path, run_import: Import, is_together: bool) -> None:
    first = standard(tmp_path / "logs" / NAME)
    copy = standard(tmp_path / ("logs" if is_together else "copies") / "copy_carbontracker.log")
    report = run_import(first.parent)
    again = run_import(copy)
    assert [line.outcome for line in again.lines] == [Outcome.ALREADY_THERE]
    assert again.lines[0].run_id == report.lines[0].run_id
    assert ["the same run as in" in left.reason for left in report.left_out] == [True] * is_together


def test_a_log_that_went_on_is_the_same_run_and_said_to_have_changed(tmp_path: Path, run_import: Import) -> None:
    path = standard(tmp_path / NAME, epochs=1)
    run_import(path)
    (line,) = run_import(standard(path)).lines
    assert line.outcome is Outcome.CHANGED
    assert line.reason == f"{NAME} changed since it was imported"


@pytest.mark.parametrize("order", [*permutations(["standard", "output"])])
def test_the_two_logs_of_a_run_are_one_run_when_they_come_apart(
    tmp_path: Path, run_import: Import, order: tuple[str, str]
) -> None:
    standard(tmp_path / "standard" / NAME)
    output(tmp_path / "output" / "other_carbontracker_output.log")
    first, second = (run_import(tmp_path / name) for name in order)
    assert [line.outcome for line in first.lines + second.lines] == [Outcome.IMPORTED, Outcome.CHANGED]
    assert "it was imported from" in second.lines[0].reason
    together = run_import(*(tmp_path / name for name in order), runs_dir=tmp_path / "fresh")
    assert total_j(only_record(together)) == pytest.approx(7000.0)
    assert ["the same run as in standard" in left.reason for left in together.left_out] == [True]


def test_a_ledger_whose_identity_was_the_logs_name_knows_the_log(tmp_path: Path, run_import: Import) -> None:
    run = only_record(run_import(standard(tmp_path / NAME)))
    manifest = tmp_path / "runs" / run.run_id / "manifest.json"
    document = json.loads(manifest.read_text())
    told = document["settings"]["import"]
    told["identity"] = "exp"
    del told["log"], told["sums"]
    manifest.write_text(json.dumps(document))
    assert [line.outcome for line in run_import(tmp_path / NAME).lines] == [Outcome.ALREADY_THERE]


def test_an_epoch_that_is_logged_twice_is_booked_once(tmp_path: Path, run_import: Import) -> None:
    path = standard(tmp_path / NAME)
    path.write_text(path.read_text() * 2)
    report = run_import(path)
    assert total_j(only_record(report)) == pytest.approx(7000.0)
    assert [(left.line, "is logged twice: line" in left.reason) for left in report.left_out] == [(17, True), (21, True)]


def test_a_summary_before_its_stage_is_not_said_to_have_changed(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", STAGE)
    run_import(own.parent / "experiment_summary.json")
    (line,) = run_import(own.parent).lines
    assert line.outcome is Outcome.CHANGED
    assert "changed" not in line.reason
    assert line.reason.startswith("it was imported from experiment_summary.json, and ")
    assert "sft_demo.json" in line.reason


def test_files_that_another_release_read_otherwise_are_not_said_to_have_changed(
    tmp_path: Path, run_import: Import
) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    run = only_record(run_import(path))
    manifest = tmp_path / "runs" / run.run_id / "manifest.json"
    document = json.loads(manifest.read_text())
    document["settings"]["import"] |= {"content_sha256": "0" * 64, "importer": "stillwatt 0.0.1"}
    manifest.write_text(json.dumps(document))
    (line,) = run_import(path).lines
    assert line.outcome is Outcome.CHANGED
    assert line.reason == "this release reads the same files otherwise than stillwatt 0.0.1 did"


def power(
    path: Path, seconds: int, *, time: str = "2026-11-28T10:00:{:02}Z", header: str = "time,gpu0_power_w"
) -> Path:
    path.write_text("\n".join([header, *(f"{time.format(at)},{100 + at}" for at in range(seconds))]) + "\n")
    return path


def test_a_power_log_that_has_gone_on_is_the_same_run_and_changed(tmp_path: Path, run_import: Import) -> None:
    log = power(tmp_path / "log.csv", 10)
    (first,) = run_import(log).lines
    assert run_import(log).lines[0].outcome is Outcome.ALREADY_THERE
    power(log, 30)
    (again,) = run_import(log).lines
    assert (again.outcome, again.run_id) == (Outcome.CHANGED, first.run_id)
    assert len(list_runs(tmp_path / "runs")) == 1


def test_of_a_power_log_and_an_earlier_copy_the_log_is_taken(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    power(folder / "a-copy.csv", 10)
    power(folder / "log.csv", 30)
    report = run_import(folder)
    assert [line.found.sources[0].name for line in report.lines] == ["logs/log.csv"]
    assert [left.reason for left in report.left_out] == ["the same run as in logs/log.csv"]


@pytest.mark.parametrize("other", [{"header": "time,gpu1_power_w"}, {"time": "2026-11-28T11:00:{:02}Z"}])
def test_other_columns_or_another_beginning_make_another_power_log(
    tmp_path: Path, run_import: Import, other: dict[str, str]
) -> None:
    run_import(power(tmp_path / "log.csv", 10))
    (line,) = run_import(power(tmp_path / "log.csv", 10, **other)).lines
    assert line.outcome is Outcome.IMPORTED


def test_power_logs_that_count_from_their_own_start_are_the_same_only_where_all_of_them_is(
    tmp_path: Path, run_import: Import
) -> None:
    for seconds in (10, 12):
        (line,) = run_import(power(tmp_path / "log.csv", seconds, time="{}", header="elapsed_s,gpu0_power_w")).lines
        assert line.outcome is Outcome.IMPORTED


def test_a_power_log_that_an_earlier_release_took_in_is_there_already(tmp_path: Path, run_import: Import) -> None:
    log = power(tmp_path / "log.csv", 10)
    (line,) = run_import(log).lines
    manifest = tmp_path / "runs" / str(line.run_id) / "manifest.json"
    told = json.loads(manifest.read_text())
    told["settings"]["import"]["identity"] = told["settings"]["import"]["sources"][0]["sha256"]
    manifest.write_text(json.dumps(told))
    assert run_import(log).lines[0].outcome is Outcome.ALREADY_THERE


def test_stages_beside_a_log_that_is_named_are_its_stages(tmp_path: Path, run_import: Import) -> None:
    log = power(tmp_path / "log.csv", 30)
    (tmp_path / "log.stages.csv").write_text("name,start,end\ntrain,2026-11-28T10:00:05Z,2026-11-28T10:00:20Z\n")
    (tmp_path / "other.stages.csv").write_text("name,start,end\nno,2026-11-28T10:00:05Z,2026-11-28T10:00:20Z\n")
    assert [stage.name for stage in only_record(run_import(log)).stages] == ["train"]
