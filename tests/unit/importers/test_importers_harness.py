"""The distillation harness: samples instead of sums, repeats counted once, zeros absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from import_files import (
    H100,
    START_S,
    Import,
    absent_of,
    energy_of,
    harness_stage,
    only_record,
    total_j,
    write_harness,
    write_summary,
    write_table,
)
from stillwatt.errors import ConfigError, UsageError
from stillwatt.records import Basis, StageKind, StageStatus
from stillwatt.workflows.import_logs import Outcome


def test_the_gpu_is_estimated_from_its_samples_and_compared(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage()
    write_harness(tmp_path / "h", stage)
    report = run_import(tmp_path / "h")
    record = only_record(report)
    gpu = energy_of(record, "gpu0")
    assert (gpu.method, gpu.basis, gpu.device) == ("power_trapezoid", Basis.MEASURED, H100)
    assert gpu.value_j == pytest.approx(stage["gpu_energy_joules"], rel=0.03)
    (check,) = report.lines[0].checks
    assert check.check.stated_j == stage["gpu_energy_joules"]
    assert check.check.is_inside
    assert any("the file itself says" in warning for warning in record.warnings)
    assert record.complete
    assert record.environment["host"] == "node7"
    assert record.traces


def test_codecarbons_total_is_never_added(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage())
    record = only_record(run_import(tmp_path / "h"))
    parts_j = sum(energy_of(record, part).value_j for part in ("gpu0", "cpu", "dram"))
    assert total_j(record) == pytest.approx(parts_j)
    assert {entry.part for entry in record.stages[0].energies} == {"gpu0", "cpu", "dram"}


def test_the_cpu_figure_is_known_by_its_value(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage("sft_copy"))
    write_harness(tmp_path / "h", harness_stage("sft_rapl", start_s=START_S + 60, cpu_energy_joules=900.0))
    record = only_record(run_import(tmp_path / "h", form="energy-harness"))
    copy, rapl = (energy_of(record, "cpu", stage) for stage in range(2))
    assert copy.basis is Basis.ASSUMED
    assert "CodeCarbon" in copy.source
    assert rapl.basis is Basis.MEASURED
    assert "one wrap" in rapl.source


def test_a_figure_that_the_file_does_not_have_is_no_zero(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage(tokens_processed=5)
    stage["joules_per_token"] = None
    write_harness(tmp_path / "h", stage)
    record = only_record(run_import(tmp_path / "h"))
    assert record.stages[0].workload["tokens"] == 5
    assert "harness_j_per_token" not in record.stages[0].results


def test_zeros_of_the_file_are_absent(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage(
        tokens_processed=0, cpu_energy_joules=0.0, codecarbon_cpu_energy_kwh=0.0, codecarbon_ram_energy_kwh=0.0
    )
    write_harness(tmp_path / "h", stage)
    record = only_record(run_import(tmp_path / "h"))
    assert "tokens" not in record.stages[0].workload
    assert "harness_j_per_token" not in record.stages[0].results
    assert "no CPU draws" in absent_of(record, "cpu").reason
    assert not record.complete


def test_a_file_without_a_cpu_figure_says_no_0_of_it(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage()
    del stage["cpu_energy_joules"]
    write_harness(tmp_path / "h", stage)
    assert absent_of(only_record(run_import(tmp_path / "h")), "cpu").reason == "the file has no energy of the CPU"


def test_a_stage_without_samples_takes_the_files_word(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage(samples_w=()))
    gpu = energy_of(only_record(run_import(tmp_path / "h")), "gpu0")
    assert (gpu.method, gpu.value_j) == ("stated", 10_000.0)
    assert gpu.systematic_high_j == pytest.approx(600.0)


def test_without_an_environment_the_bounds_are_wide(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(harness_stage(samples_w=())))
    gpu = energy_of(only_record(run_import(path)), "gpu")
    assert gpu.systematic_high_j == pytest.approx(20_000.0)


def test_repeats_are_counted_once(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage()
    own = write_harness(tmp_path / "h", stage)
    before = total_j(only_record(run_import(tmp_path / "h", runs_dir=tmp_path / "one")))
    (own.parent.parent / own.name).write_text(own.read_text())
    write_summary(tmp_path / "h" / "experiment_summary.json", [stage])
    snapshot = {**stage, "snapshot": True, "duration_seconds": 10.0, "snapshot_step": 5}
    (own.parent / "sft_demo__step_5.json").write_text(json.dumps(snapshot))
    report = run_import(tmp_path / "h", runs_dir=tmp_path / "two")
    assert total_j(only_record(report)) == before
    reasons = " ".join(left.reason for left in report.left_out)
    for what in ("the same stage", "a summary that repeats", "a snapshot of the stage"):
        assert what in reasons


def test_a_snapshot_alone_is_a_stage_that_never_ended(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "kd__step_9.json"
    path.write_text(json.dumps(harness_stage("kd_demo", snapshot=True, snapshot_step=9)))
    record = only_record(run_import(path))
    assert record.status is StageStatus.RECOVERED
    assert record.stages[0].status is StageStatus.RECOVERED
    assert record.stages[0].duration_s == pytest.approx(19.75)
    assert any("only a snapshot is left" in warning for warning in record.warnings)


def test_stages_of_one_experiment_are_one_run(tmp_path: Path, run_import: Import) -> None:
    stages = [harness_stage("kd"), harness_stage("kd__2", start_s=START_S + 100)]
    for stage in stages:
        write_harness(tmp_path / "h", stage, summary=False)
    write_summary(tmp_path / "h" / "experiment_summary.json", stages)
    record = only_record(run_import(tmp_path / "h"))
    assert [stage.name for stage in record.stages] == ["kd", "kd__2"]
    assert record.duration_s == pytest.approx(39.5)
    assert record.complete


def test_a_power_log_gives_the_samples_their_times(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage())
    header = ["timestamp", "gpu_0_power_w", "total_power_w"]
    rows = [[START_S - 500 + place, 50.0, 50.0] for place in range(3)]
    rows += [[START_S + 0.5 * place, 300.0, 300.0] for place in range(-1, 42)]
    write_table(own.parent / "power_log.csv", header, rows)
    record = only_record(run_import(tmp_path / "h"))
    assert energy_of(record, "gpu0").value_j == pytest.approx(300.0 * 19.75, rel=1e-6)
    assert not any("carry no times" in warning for warning in record.warnings)


def test_several_cards_of_a_power_log_are_not_counted_with_their_sum(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage())
    header = ["timestamp", "gpu_0_power_w", "gpu_1_power_w", "total_power_w"]
    rows = [[START_S + 0.5 * place, 300.0, 100.0, 400.0] for place in range(-1, 42)]
    write_table(own.parent / "power_log.csv", header, rows)
    record = only_record(run_import(tmp_path / "h"))
    assert {entry.part for entry in record.stages[0].energies} == {"gpu0", "gpu1", "cpu", "dram"}
    assert energy_of(record, "gpu1").value_j == pytest.approx(100.0 * 19.75, rel=1e-6)


def test_a_power_log_of_another_time_is_left_out(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage())
    rows = [[START_S + 9000 + place, 50.0, 50.0] for place in range(3)]
    write_table(own.parent / "power_log.csv", ["timestamp", "gpu_0_power_w", "total_power_w"], rows)
    report = run_import(tmp_path / "h")
    assert any("none of its rows lies in the stage" in left.reason for left in report.left_out)
    assert energy_of(only_record(report), "gpu0").method == "power_trapezoid"


def test_codecarbons_figures_of_a_moment_are_absent(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage(codecarbon_gpu_energy_kwh=1.0)
    write_harness(tmp_path / "h", stage)
    record = only_record(run_import(tmp_path / "h"))
    assert "mostly of the time around it" in absent_of(record, "dram").reason
    assert "mostly of the time around it" in absent_of(record, "cpu").reason


def test_missed_samples_are_said(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage(duration_seconds=40.0))
    record = only_record(run_import(tmp_path / "h"))
    assert any("samples were due" in warning for warning in record.warnings)
    assert energy_of(record, "gpu0").systematic_high_j > 0.2 * energy_of(record, "gpu0").value_j


@pytest.mark.parametrize(
    ("stage_id", "kind"),
    [
        ("synthetic_tulu_generation", StageKind.TEACHER_GENERATE),
        ("logit_caching", StageKind.TEACHER_LOGITS),
        ("tulu_preprocess_dataset", StageKind.PREPARE_DATA),
        ("kd_olmo2_32b_to_1b", StageKind.STUDENT_TRAIN),
        ("burn_in", StageKind.OTHER),
    ],
)
def test_the_kind_is_inferred_from_the_name_and_said(
    tmp_path: Path, run_import: Import, stage_id: str, kind: StageKind
) -> None:
    write_harness(tmp_path / "h", harness_stage(stage_id))
    record = only_record(run_import(tmp_path / "h"))
    assert record.stages[0].kind is kind
    assert any("is inferred from" in warning for warning in record.warnings)


def test_the_folders_name_tells_a_generation_of_a_training_name(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "sft_demo_synthetic_gen"
    folder.mkdir()
    (folder / "sft_demo.json").write_text(json.dumps(harness_stage()))
    assert only_record(run_import(folder)).stages[0].kind is StageKind.TEACHER_GENERATE


def test_a_count_of_tokens_that_comes_again_is_said(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage("sft_a"))
    write_harness(tmp_path / "h", harness_stage("sft_b", start_s=START_S + 60, samples_w=(200.0,) * 9))
    for line in run_import(tmp_path / "h").lines:
        assert line.record is not None
        assert any("a constant, perhaps" in warning for warning in line.record.warnings)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"duration_seconds": -1.0}, "duration_seconds"),
        ({"gpu_energy_joules": -5.0}, "gpu_energy_joules"),
        ({"gpu_energy_joules": 1e15}, "gpu_energy_joules"),
        ({"gpu_energy_joules": "many"}, "not a number"),
        ({"start_time": 12.0}, "start_time"),
        ({"gpu_power_samples": [1.0, 1e9]}, "something else than powers"),
        ({"gpu_power_samples": [1.0, None]}, "something else than powers"),
        ({"gpu_power_samples": "many"}, "something else than powers"),
    ],
)
def test_stages_that_cannot_be_meant_are_left_out(
    tmp_path: Path, run_import: Import, changes: dict[str, Any], reason: str
) -> None:
    write_harness(tmp_path / "h", harness_stage("sft_good", start_s=START_S + 60))
    write_harness(tmp_path / "h", harness_stage(**changes), summary=False)
    report = run_import(tmp_path / "h")
    assert [line.found.name for line in report.lines] == ["sft_good"]
    assert any(reason in left.reason for left in report.left_out)


def test_a_truncated_stage_is_left_out_with_its_line(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage(), summary=False)
    own.write_text(own.read_text()[:-200])
    with pytest.raises(UsageError, match=r"sft_demo\.json:1: not JSON .*cut off"):
        run_import(tmp_path / "h")


def test_a_configuration_without_a_stage_is_an_aborted_run(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage("sft_gone"), summary=False)
    own.unlink()
    write_harness(tmp_path / "h", harness_stage())
    report = run_import(tmp_path / "h")
    assert sum("stopped before it wrote one" in left.reason for left in report.left_out) == 2


def test_a_json_of_something_else_is_refused_by_name(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"loss": 1.0}')
    with pytest.raises(ConfigError, match=r"s\.json:1: not a log that is known"):
        run_import(path)


def test_importing_the_folder_again_changes_nothing(tmp_path: Path, run_import: Import) -> None:
    write_harness(tmp_path / "h", harness_stage())
    first = run_import(tmp_path / "h")
    again = run_import(tmp_path / "h")
    assert [line.outcome for line in again.lines] == [Outcome.ALREADY_THERE]
    assert again.lines[0].record == first.lines[0].record
