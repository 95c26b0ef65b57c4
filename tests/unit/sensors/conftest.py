"""Fixtures of the sensors."""

from __future__ import annotations

from nvml_simulator_build import nvml_simulator, nvml_simulator_path

__all__ = ["nvml_simulator", "nvml_simulator_path"]
