"""CodeCarbon: rows that add up, silent zeros, constants, versions, backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from import_files import (
    CARBON_COLUMNS,
    Import,
    absent_of,
    carbon_row,
    energy_of,
    harness_stage,
    only_record,
    write_carbon,
    write_harness,
)
from stillwatt.errors import ConfigError, UsageError
from stillwatt.records import Basis, Boundary, StageStatus, Total
from stillwatt.units import J_PER_KWH
from stillwatt.workflows.import_logs import Outcome


def test_components_are_booked_with_their_basis_and_bounds(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    record = only_record(run_import(path))
    assert record.name == "demo"
    assert record.status is StageStatus.ENDED
    assert (record.stages[0].name, record.stages[0].duration_s) == ("demo", 100.0)
    assert record.complete
    gpu, cpu, ram = (energy_of(record, part) for part in ("gpu", "cpu", "dram"))
    assert (gpu.value_j, cpu.value_j, ram.value_j) == pytest.approx((36_000.0, 7_200.0, 3_600.0))
    assert (gpu.basis, cpu.basis, ram.basis) == (Basis.MEASURED, Basis.ASSUMED, Basis.MODELLED)
    assert {gpu.method, cpu.method, ram.method} == {"stated"}
    assert (gpu.coverage, gpu.estimated_j) == (0.0, gpu.value_j)
    assert gpu.systematic_high_j == pytest.approx(0.06 * 36_000)
    assert cpu.systematic_low_j == pytest.approx(0.86 * 7_200)
    assert "does not tell which" in cpu.source
    assert isinstance(record.total, Total)
    assert record.total.value_j == pytest.approx(0.013 * J_PER_KWH)
    assert record.total.basis is Basis.ASSUMED


def test_of_the_rows_of_one_run_only_the_last_counts(tmp_path: Path, run_import: Import) -> None:
    early = carbon_row(end_s=50.0, duration_s=50.0, gpu_energy=0.004, cpu_energy=0.001, ram_energy=0.0005)
    report = run_import(write_carbon(tmp_path / "emissions.csv", [early, carbon_row()]))
    assert energy_of(only_record(report), "gpu").value_j == pytest.approx(36_000.0)
    assert ["only the last one counts" in left.reason for left in report.left_out] == [True]
    assert report.left_out[0].place == "emissions.csv:2"


def test_a_zero_is_absent_and_not_zero(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row(gpu_energy=0.0, energy_consumed=0.003)])
    report = run_import(path)
    assert "as it does where it cannot read" in absent_of(only_record(report), "gpu").reason
    assert not only_record(report).complete
    assert not report.is_complete
    assert isinstance(only_record(report).total, Total)
    assert only_record(report).total.absent == ("gpu",)  # type: ignore[union-attr]


def test_a_machine_without_a_gpu_is_whole_without_one(tmp_path: Path, run_import: Import) -> None:
    row = carbon_row(gpu_energy=0.0, gpu_count="", gpu_model="", energy_consumed=0.003)
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [row])))
    assert {entry.part for entry in record.stages[0].energies} == {"cpu", "dram"}
    assert record.complete


def test_the_pue_is_divided_out_and_said(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row(pue=2.0)])))
    assert energy_of(record, "gpu").value_j == pytest.approx(18_000.0)
    assert any("PUE of 2" in warning for warning in record.warnings)


def test_a_card_without_a_counter_has_wide_bounds(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row(gpu_model="Tesla P100")])))
    gpu = energy_of(record, "gpu")
    assert gpu.systematic_high_j == pytest.approx(2.0 * gpu.value_j)


def test_process_mode_is_said(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row(tracking_mode="process")])))
    assert "this process's share" in energy_of(record, "cpu").source
    assert any("tracking_mode=process" in warning for warning in record.warnings)


def test_version_1_states_a_total_alone(tmp_path: Path, run_import: Import) -> None:
    columns = ["timestamp", "experiment_id", "project_name", "duration", "emissions", "energy_consumed", "country_name"]
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row()], columns)))
    whole = energy_of(record, "machine")
    assert (whole.boundary, whole.basis) == (Boundary.COMPONENTS, Basis.ASSUMED)
    assert whole.value_j == pytest.approx(0.013 * J_PER_KWH)


def test_version_2_without_experiment_id_or_version(tmp_path: Path, run_import: Import) -> None:
    columns = [name for name in CARBON_COLUMNS if name not in ("experiment_id", "codecarbon_version", "pue")]
    record = only_record(run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row()], columns)))
    assert energy_of(record, "gpu").value_j == pytest.approx(36_000.0)
    assert any("which version" in warning for warning in record.warnings)


def test_tasks_lie_in_their_run_and_the_books_close(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "logs"
    write_carbon(folder / "emissions.csv", [carbon_row()])
    tasks = [
        {"task_name": "load", **carbon_row(end_s=40.0, duration_s=30.0, gpu_energy=0.002)},
        {"task_name": "train", **carbon_row(end_s=90.0, duration_s=50.0, gpu_energy=0.007)},
    ]
    write_carbon(folder / "emissions_base_r1.csv", tasks)
    record = only_record(run_import(folder))
    assert [(stage.name, stage.parent_id) for stage in record.stages] == [
        ("demo", None),
        ("load", "a1"),
        ("train", "a1"),
    ]
    assert energy_of(record, "gpu", 2).value_j == pytest.approx(0.007 * J_PER_KWH)
    assert isinstance(record.total, Total)
    assert record.total.value_j == pytest.approx(0.013 * J_PER_KWH)


TASK_COLUMNS = ["task_name", *(name for name in CARBON_COLUMNS if name not in ("pue", "experiment_id"))]


def task_rows(pue: float) -> list[dict[str, Any]]:
    """Two tasks that fill a run of 100 s, with the PUE multiplied in as the tool does."""
    return [
        {"task_name": name, **carbon_row(end_s=end_s, duration_s=duration_s, **scaled(share * pue))}
        for name, end_s, duration_s, share in (("load", 40.0, 40.0, 0.25), ("train", 100.0, 60.0, 0.75))
    ]


def scaled(factor: float) -> dict[str, Any]:
    """The energies of a row, multiplied."""
    names = ("gpu_energy", "cpu_energy", "ram_energy", "energy_consumed")
    return {name: carbon_row()[name] * factor for name in names}


@pytest.mark.parametrize("pue", [1.0, 1.5, 2.5])
def test_tasks_take_the_pue_of_their_run(tmp_path: Path, run_import: Import, pue: float) -> None:
    folder = tmp_path / "logs"
    write_carbon(folder / "emissions.csv", [carbon_row(pue=pue, **scaled(pue))])
    write_carbon(folder / "emissions_base_r1.csv", task_rows(pue), TASK_COLUMNS)
    record = only_record(run_import(folder))
    assert [stage.name for stage in record.stages] == ["demo", "load", "train"]
    for part in ("gpu", "cpu", "dram"):
        whole, *parts = (energy_of(record, part, stage) for stage in range(3))
        assert sum(energy.value_j for energy in parts) == pytest.approx(whole.value_j)
    assert energy_of(record, "gpu", 1).value_j == pytest.approx(9_000.0)
    assert energy_of(record, "gpu", 1).systematic_low_j == pytest.approx(0.06 * 9_000.0)
    assert not any("both stand" in warning or "do not tell the PUE" in warning for warning in record.warnings)
    assert any("it is divided out" in warning for warning in record.warnings) == (pue != 1.0)


def test_tasks_take_the_pue_of_a_run_that_only_a_backup_tells(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "logs"
    write_carbon(folder / "emissions.csv.bak", [carbon_row(pue=1.5, **scaled(1.5))])
    write_carbon(folder / "emissions_base_r1.csv", task_rows(1.5), TASK_COLUMNS)
    report = run_import(folder)
    assert energy_of(only_record(report), "gpu", 0).value_j == pytest.approx(9_000.0)
    assert any("older session" in left.reason for left in report.left_out)


def test_tasks_of_which_nobody_tells_the_pue_may_hold_one(tmp_path: Path, run_import: Import) -> None:
    report = run_import(write_carbon(tmp_path / "emissions_base_r1.csv", task_rows(1.5), TASK_COLUMNS))
    record = only_record(report)
    assert report.lines[0].found.settings["pue"] is None
    for stage, truth_j in ((0, 9_000.0), (1, 27_000.0)):
        gpu = energy_of(record, "gpu", stage)
        assert gpu.value_j == pytest.approx(1.5 * truth_j)
        assert gpu.value_j - gpu.systematic_low_j == pytest.approx(0.94 / 2 * gpu.value_j)
        assert gpu.systematic_high_j == pytest.approx(0.06 * gpu.value_j)
        assert "a PUE of up to 2, which is not told" in gpu.source
    assert any("do not tell the PUE" in warning for warning in record.warnings)
    assert not any("divided out" in warning and "multiplied its" in warning for warning in record.warnings)


def test_tasks_that_add_up_to_more_than_their_run_are_said(tmp_path: Path, run_import: Import) -> None:
    write_carbon(tmp_path / "logs" / "emissions.csv", [carbon_row()])
    write_carbon(tmp_path / "logs" / "t.csv", [{"task_name": "load", **carbon_row(duration_s=30.0, gpu_energy=0.02)}])
    record = only_record(run_import(tmp_path / "logs"))
    assert any("both stand, with the difference in the interval" in warning for warning in record.warnings)
    assert energy_of(record, "gpu").random_j >= 0.01 * J_PER_KWH


def test_tasks_without_their_run(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "t.csv", [{"task_name": "load", **carbon_row(duration_s=30.0)}])
    record = only_record(run_import(path))
    assert any("only tasks are in the files" in warning for warning in record.warnings)


def test_a_backup_is_never_counted_beside_the_live_file(tmp_path: Path, run_import: Import) -> None:
    folder = tmp_path / "logs"
    write_carbon(folder / "emissions.csv", [carbon_row("r2")])
    write_carbon(folder / "emissions.csv.bak", [carbon_row("r1", project="older"), carbon_row("r2")])
    report = run_import(folder)
    assert [line.found.identity for line in report.lines] == ["r2"]
    reasons = {left.place: left.reason for left in report.left_out}
    assert "older session (older, run r1)" in reasons["logs/emissions.csv.bak:2"]
    assert "in the file beside this backup already" in reasons["logs/emissions.csv.bak:3"]


def test_a_backup_that_is_named_gives_its_older_sessions(tmp_path: Path, run_import: Import) -> None:
    live = write_carbon(tmp_path / "emissions.csv", [carbon_row("r2")])
    backup = write_carbon(tmp_path / "emissions.csv.bak", [carbon_row("r1", end_s=50.0), carbon_row("r2")])
    report = run_import(live, backup)
    assert [line.found.identity for line in report.lines] == ["r1", "r2"]


def test_a_row_that_a_harness_stage_has_copied_is_left_out_then_and_later(tmp_path: Path, run_import: Import) -> None:
    stage = harness_stage()
    write_harness(tmp_path / "h", stage)
    row = carbon_row("cc", project="sft_demo", energy_consumed=stage["total_codecarbon_energy_kwh"])
    path = write_carbon(tmp_path / "h" / "codecarbon" / "emissions.csv", [row])
    report = run_import(tmp_path / "h")
    assert [line.found.form for line in report.lines] == ["energy-harness"]
    again = run_import(path)
    assert again.lines == ()
    assert report.lines[0].run_id is not None
    assert report.lines[0].run_id in again.left_out[0].reason


def test_importing_twice_gives_no_second_run(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    first = run_import(path)
    again = run_import(path)
    assert again.lines[0].outcome is Outcome.ALREADY_THERE
    assert again.lines[0].run_id == first.lines[0].run_id
    assert len(list((tmp_path / "runs").glob("2*"))) == 1


def test_a_run_that_went_on_since_is_left_as_it_is_and_said(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    run_import(path)
    write_carbon(path, [carbon_row(end_s=200.0, duration_s=200.0, gpu_energy=0.02)])
    report = run_import(path)
    assert report.lines[0].outcome is Outcome.CHANGED
    assert report.has_changed


def test_a_file_that_grew_gives_its_new_runs(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    run_import(path)
    write_carbon(path, [carbon_row(), carbon_row("r9", end_s=900.0)])
    assert [line.outcome for line in run_import(path).lines] == [Outcome.ALREADY_THERE, Outcome.IMPORTED]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpu_energy": -0.5}, "cannot be meant"),
        ({"gpu_energy": 1e9}, "cannot be meant"),
        ({"duration": 0}, "duration"),
        ({"duration": "long"}, "not a number"),
        ({"timestamp": "yesterday"}, "not a time"),
        ({"pue": 0.2}, "PUE"),
    ],
)
def test_rows_that_cannot_be_meant_are_left_out_with_their_line(
    tmp_path: Path, run_import: Import, changes: dict[str, Any], reason: str
) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row("bad", **changes), carbon_row("good")])
    report = run_import(path)
    assert [line.found.identity for line in report.lines] == ["good"]
    assert report.left_out[0].place == "emissions.csv:2"
    assert reason in report.left_out[0].reason


def test_a_row_that_lost_a_column_is_not_read_under_wrong_names(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row("good")])
    with path.open("a") as file:
        file.write("2026-01-25T13:00:00,demo,bad,1.0,2.0\n")
    report = run_import(path)
    assert [line.found.identity for line in report.lines] == ["good"]
    assert "under the wrong names" in report.left_out[0].reason


def test_a_header_alone_is_said(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "emissions.csv"
    path.write_text(",".join(CARBON_COLUMNS) + "\n")
    with pytest.raises(UsageError, match="a header and no row"):
        run_import(path)


def test_names_are_never_paths(tmp_path: Path, run_import: Import) -> None:
    name = "../../etc/<script>alert(1)</script>"
    report = run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row(project=name)]))
    assert only_record(report).name == name
    run_id = report.lines[0].run_id or ""
    assert set(run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert (tmp_path / "runs" / run_id / "manifest.json").is_file()


def test_a_file_of_another_encoding_names_the_line(tmp_path: Path, run_import: Import) -> None:
    path = write_carbon(tmp_path / "emissions.csv", [carbon_row()])
    path.write_bytes(path.read_bytes() + b"\xff\xfe\xfa\n")
    with pytest.raises(ConfigError, match=r"emissions\.csv:3: not utf-8"):
        run_import(path, form="codecarbon")
