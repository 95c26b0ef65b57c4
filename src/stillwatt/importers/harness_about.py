"""What the distillation harness says around its stages: the machine, and how it measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.importers.harness_file import Stage
from stillwatt.importers.harness_stage import card, inner


def environment(machine: Mapping[str, Any]) -> dict[str, Any]:
    """The measured machine under the names that every manifest has; empty where the file is not there."""
    if not machine:
        return {}
    software, cpu, git = (inner(machine, key) for key in ("software", "cpu", "git_info"))
    name, num_gpus = card(machine)
    return {
        "host": machine.get("hostname"),
        "platform": " ".join(str(software.get(key) or "") for key in ("platform", "os_version")).strip() or None,
        "python": software.get("python_version"),
        "cpu_model": cpu.get("brand"),
        "logical_cpus": cpu.get("logical_cores"),
        "git_commit": git.get("commit_hash"),
        "gpu_model": name or None,
        "gpu_count": num_gpus or None,
        "packages": {"torch": software.get("pytorch_version"), "transformers": software.get("transformers_version")},
    }


def settings(stage: Stage, config: Mapping[str, Any]) -> dict[str, Any]:
    """What bears on the measurement: how often, by which policy; and the total by which CodeCarbon's row is known."""
    energy = inner(config, "energy")
    return {
        "nvml_poll_interval_ms": stage.document.get("nvml_poll_interval_ms"),
        "total_energy_policy": energy.get("total_energy_policy"),
        "track_cpu": energy.get("track_cpu"),
        "snapshot_step": stage.document.get("snapshot_step"),
        "codecarbon_total_kwh": stage.number("total_codecarbon_energy_kwh") or None,
    }
