"""A calibration and files of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from stillwatt.config.tomlvalue import toml_value
from stillwatt.sensors.calibration import CALIBRATION_SCHEMA, Calibration

CALIBRATION = Calibration(
    device="GPU-5c1a8f0e-0000-4000-8000-0123456789ab",
    quantity="energy_counter",
    driver="nvml",
    source="nvmlDeviceGetTotalEnergyConsumption; NVIDIA Test; driver 580.65.06",
    driver_version="580.65.06",
    meter="PMD2",
    boundary="board",
    date="2026-11-20T12:00:00Z",
    gain=1.08,
    gain_low=1.06,
    gain_high=1.10,
    offset_w=1.5,
    offset_half_w=0.8,
    readings=300,
    length_s=300.0,
    low_w=60.0,
    high_w=350.0,
    residual_w=1.2,
    correlation=0.999,
    shift_s=37.0,
    run="20260101-000001-demo-0001",
)


def written(path: Path, *calibrations: Calibration) -> Path:
    """A file of calibrations."""
    lines = [f"schema = {toml_value(CALIBRATION_SCHEMA)}"]
    for entry in calibrations:
        lines += ["[[calibrations]]", *(f"{name} = {toml_value(value)}" for name, value in asdict(entry).items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
