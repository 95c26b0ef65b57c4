"""Small logs of other tools, of the same form as the real ones, for tests of the importers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stillwatt.records import Absent, Energy, RunRecord, Total
from stillwatt.workflows.import_logs import ImportReport

Import = Callable[..., ImportReport]

START = datetime(2026, 1, 25, 12, 0, 0, tzinfo=UTC)
START_S = START.timestamp()
H100 = "NVIDIA H100 80GB HBM3"
CARBON_COLUMNS = [
    "timestamp",
    "project_name",
    "run_id",
    "experiment_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "water_consumed",
    "country_name",
    "country_iso_code",
    "os",
    "python_version",
    "codecarbon_version",
    "cpu_count",
    "cpu_model",
    "gpu_count",
    "gpu_model",
    "ram_total_size",
    "tracking_mode",
    "on_cloud",
    "pue",
]


def stamp(seconds: float) -> str:
    """Seconds after the start as CodeCarbon writes a time."""
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, separator: str = ",") -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def carbon_row(
    run_id: str = "r1", *, project: str = "demo", end_s: float = 100.0, duration_s: float = 100.0, **changes: Any
) -> dict[str, Any]:
    """A row of emissions.csv: 0.01 kWh of GPU, 0.002 of CPU, 0.001 of RAM in 100 s."""
    row: dict[str, Any] = dict.fromkeys(CARBON_COLUMNS, "")
    row |= {
        "timestamp": stamp(end_s),
        "project_name": project,
        "run_id": run_id,
        "duration": duration_s,
        "emissions": 0.002,
        "cpu_energy": 0.002,
        "gpu_energy": 0.01,
        "ram_energy": 0.001,
        "energy_consumed": 0.013,
        "codecarbon_version": "3.2.1",
        "cpu_model": "AMD EPYC 9654",
        "gpu_count": 1,
        "gpu_model": f"1 x {H100}",
        "tracking_mode": "machine",
        "pue": 1.0,
    }
    return {**row, **changes}


def write_carbon(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Path:
    """An emissions.csv."""
    names = list(columns or rows[0])
    return write_table(path, names, [[row.get(name, "") for name in names] for row in rows])


def harness_stage(
    stage_id: str = "sft_demo",
    *,
    start_s: float = START_S,
    samples_w: Sequence[float] = (100.0, *(600.0,) * 38, 200.0),
    **changes: Any,
) -> dict[str, Any]:
    """A stage of the distillation harness: 2 Hz samples over 20 s."""
    duration_s = (len(samples_w) - 0.5) * 0.5 if samples_w else 20.0
    mean_w = sum(samples_w) / len(samples_w) if samples_w else 500.0
    gpu_j = mean_w * duration_s
    kwh = gpu_j / 3.6e6
    return {
        "stage_id": stage_id,
        "stage_name": stage_id,
        "start_time": start_s,
        "end_time": start_s + duration_s,
        "duration_seconds": duration_s,
        "tokens_processed": 1000,
        "gpu_energy_joules": gpu_j,
        "gpu_avg_power_watts": mean_w,
        "gpu_power_samples": list(samples_w),
        "total_codecarbon_energy_kwh": kwh + 0.0001 + 0.0002,
        "codecarbon_cpu_energy_kwh": 0.0001,
        "codecarbon_gpu_energy_kwh": kwh,
        "codecarbon_ram_energy_kwh": 0.0002,
        "cpu_energy_joules": 360.0,
        "total_energy_joules": gpu_j + 360.0,
        "joules_per_token": (gpu_j + 360.0) / 1000,
        "nvml_poll_interval_ms": 500,
        **changes,
    }


def write_harness(folder: Path, stage: Mapping[str, Any], *, summary: bool = True) -> Path:
    """A stage's folder: stage, environment, configuration and the summary that repeats it."""
    name = str(stage["stage_id"])
    own = folder / "stages" / name
    own.mkdir(parents=True, exist_ok=True)
    (own / f"{name}.json").write_text(json.dumps(stage))
    machine = {
        "hostname": "node7",
        "gpus": [{"index": 0, "name": H100, "driver_version": "570.1"}],
        "cpu": {"brand": "AMD EPYC 9654", "logical_cores": 96},
        "software": {"python_version": "3.11.5", "platform": "Linux", "os_version": "5.14"},
        "git_info": {"commit_hash": "0e6dc777"},
    }
    (own / f"environment_{name}__{name}.json").write_text(json.dumps(machine))
    config = {"pipeline": "sft", "model": {"student": "s", "teacher": "t"}, "data": {"dataset_choice": "tulu"}}
    (own / f"config_{name}__{name}.json").write_text(
        json.dumps({"stage_name": name, "stage_id": name, "config": config})
    )
    if summary:
        write_summary(own / "experiment_summary.json", [stage])
    return own / f"{name}.json"


def write_summary(path: Path, stages: Sequence[Mapping[str, Any]], experiment: str = "e1") -> Path:
    """The summary of an experiment, which repeats its stages without their samples."""
    inner = {
        str(stage["stage_id"]): {key: value for key, value in stage.items() if key != "gpu_power_samples"}
        for stage in stages
    }
    total_j = sum(stage["gpu_energy_joules"] for stage in stages)
    path.write_text(json.dumps({"experiment_id": experiment, "total_gpu_energy_joules": total_j, "stages": inner}))
    return path


STANDARD_LOG = """\
2026-01-25 12:00:00 - carbontracker version 2.4.7
2026-01-25 12:00:00 - Only predicted and actual consumptions are multiplied by a PUE coefficient of 1.58 (Daniel Bizo).
2026-01-25 12:00:00 - The following components were found: GPU with device(s) {devices}. CPU with device(s) cpu:0.
2026-01-25 12:00:00 - Monitoring thread started.
2026-01-25 12:00:11 - Epoch 1:
2026-01-25 12:00:11 - Duration: 0:00:10.00
2026-01-25 12:00:11 - Average power usage (W) for gpu: {gpu}
2026-01-25 12:00:11 - Average power usage (W) for cpu: {cpu}
2026-01-25 12:00:21 - Epoch 2:
2026-01-25 12:00:21 - Duration: 0:00:10.00
2026-01-25 12:00:21 - Average power usage (W) for gpu: {gpu}
2026-01-25 12:00:21 - Average power usage (W) for cpu: {cpu}
"""
OUTPUT_LOG = """\
2026-01-25 12:00:22 - CarbonTracker: 
Actual consumption for 2 epoch(s):
\tTime:\t0:00:20
\tEnergy:\t{kwh} kWh
\tCO2eq:\t1.0 g
2026-01-25 12:00:22 - CarbonTracker: 
Predicted consumption for 100 epoch(s):
\tTime:\t0:16:40
\tEnergy:\t9.9 kWh
\tCO2eq:\t50.0 g
"""


def only_record(report: ImportReport) -> RunRecord:
    """The record of the one run that was found."""
    (line,) = report.lines
    assert line.record is not None
    return line.record


def energy_of(record: RunRecord, part: str, stage: int = 0) -> Energy:
    """A part's energy in a stage that has one."""
    found = next(entry for entry in record.stages[stage].energies if entry.part == part)
    assert isinstance(found, Energy), found
    return found


def absent_of(record: RunRecord, part: str, stage: int = 0) -> Absent:
    """Why a part has no energy in a stage."""
    found = next(entry for entry in record.stages[stage].energies if entry.part == part)
    assert isinstance(found, Absent), found
    return found


def total_j(record: RunRecord) -> float:
    """The run's total."""
    assert isinstance(record.total, Total), record.total
    return record.total.value_j
