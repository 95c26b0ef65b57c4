"""One stage of the published distillation harness as its JSON tells it, each number of it checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.importers.intake import LogFile
from stillwatt.importers.numbers import MAX_S, count, energy_j, energy_kwh, length_s, of_json
from stillwatt.importers.tables import moment
from stillwatt.importers.traces import is_absurd
from stillwatt.units import NS_PER_MS, NS_PER_S, S_PER_DAY

_JOULES = ("cpu_energy_joules", "total_energy_joules")
_KWH = (
    "total_codecarbon_energy_kwh",
    "codecarbon_cpu_energy_kwh",
    "codecarbon_gpu_energy_kwh",
    "codecarbon_ram_energy_kwh",
)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One stage as one file tells it."""

    file: LogFile
    rank: int
    """0 for the stage's own file, 1 for a summary, 2 for a snapshot."""
    document: Mapping[str, Any]
    stage_id: str
    stage_name: str
    start_utc_ns: int
    duration_s: float
    gpu_j: float
    samples_w: tuple[float, ...]

    @property
    def identity(self) -> str:
        """The stage's id and start, which are the same in every file that repeats it."""
        return f"{self.stage_id}@{self.start_utc_ns // NS_PER_MS}"

    def number(self, key: str) -> float:
        """A number of the file; 0 where it is missing, as the harness writes for what it does not know."""
        return of_json(self.document.get(key), key)


def parse(file: LogFile, document: Mapping[str, Any], *, rank: int) -> Stage:
    """A stage from its JSON.

    Raises:
        ConfigError: a time, an energy or a sample cannot be meant; says which.
    """
    try:
        duration_s = _checked(document)
        start_ns = _start_ns(document["start_time"])
    except ValueError as err:
        key = str(err).partition(" ")[0].rstrip(":")
        raise file.wrong(str(err), _line_of(file, document, key, rank)) from err
    samples = document.get("gpu_power_samples") or ()
    samples_w = _samples_w(samples)
    if samples_w is None:
        line = _line_of(file, document, "gpu_power_samples", rank)
        raise file.wrong("gpu_power_samples holds something else than powers in watts", line)
    stage_id = str(document["stage_id"])
    return Stage(
        file=file,
        rank=rank,
        document=document,
        stage_id=stage_id,
        stage_name=str(document.get("stage_name") or stage_id),
        start_utc_ns=start_ns,
        duration_s=duration_s,
        gpu_j=of_json(document["gpu_energy_joules"], "gpu_energy_joules"),
        samples_w=samples_w,
    )


def _samples_w(samples: object) -> tuple[float, ...] | None:
    """The powers; None where something else is among them."""
    if not isinstance(samples, list | tuple) or any(sample is None for sample in samples):
        return None
    try:
        samples_w = tuple(of_json(sample, "gpu_power_samples") for sample in samples)
    except ValueError:
        return None
    return None if any(is_absurd(sample_w) for sample_w in samples_w) else samples_w


def _line_of(file: LogFile, document: Mapping[str, Any], key: str, rank: int) -> int:
    """Where a key stands: in a summary, which holds many stages, after the stage's id."""
    first = file.text.find(f'"{document["stage_id"]}"') if rank == 1 else 0
    return file.text[: max(0, file.text.find(f'"{key}"', max(0, first)))].count("\n") + 1


def _checked(document: Mapping[str, Any]) -> float:
    """A stage's length in seconds, where that and every other number taken from it can be meant.

    Raises:
        ValueError: one cannot be, or is none; says which.
    """
    duration_s = length_s(of_json(document["duration_seconds"], "duration_seconds"), "duration_seconds")
    around_s = duration_s + S_PER_DAY  # CodeCarbon's window, which these are copied from, is longer than the stage
    for key in _JOULES:
        energy_j(of_json(document.get(key), key), key, around_s)
    for key in _KWH:
        energy_kwh(of_json(document.get(key), key), key, around_s)
    gpu_j = energy_j(of_json(document["gpu_energy_joules"], "gpu_energy_joules"), "gpu_energy_joules", duration_s)
    if gpu_j < 0:
        raise ValueError(f"gpu_energy_joules = {gpu_j:g} cannot be meant")
    count(of_json(document.get("tokens_processed"), "tokens_processed"), "tokens_processed")
    of_json(document.get("joules_per_token"), "joules_per_token")
    interval_ms = of_json(document.get("nvml_poll_interval_ms"), "nvml_poll_interval_ms")
    if not 0 <= interval_ms * NS_PER_MS <= MAX_S * NS_PER_S:
        raise ValueError(f"nvml_poll_interval_ms = {interval_ms:g} cannot be meant")
    return duration_s


def _start_ns(value: object) -> int:
    try:
        return moment(repr(of_json(value, "start_time"))).utc_ns
    except ValueError as err:
        raise ValueError(f"start_time: {err}") from err
