"""What can be measured on this machine, and exactly what would fix the rest. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from stillwatt.clock import Clock, SystemClock
from stillwatt.sensors.base import Probe
from stillwatt.sensors.needs import check_needs
from stillwatt.sensors.registry import (
    AUTO,
    BY_NAME,
    MODEL,
    Options,
    check_names,
    held_kinds,
    kind_of,
    make_sensor,
    probe_all,
    says_something,
)
from stillwatt.units import BYTES_PER_GIB
from stillwatt.workflows.doctor_finding import DoctorFinding, Health
from stillwatt.workflows.doctor_users import user_findings

__all__ = ["DoctorFinding", "Health", "examine"]

_EXTRAS = {
    "distill": ("torch", "transformers", "accelerate", "safetensors", "gguf"),
    "evaluate": ("lm_eval",),
    "lora": ("peft",),
    "report": ("jinja2",),
}
_USES = {
    "distill": "`stillwatt run`",
    "evaluate": "lm-evaluation-harness tasks in a recipe",
    "lora": "students that are trained by LoRA ([train.lora] in a recipe)",
    "report": "report.html",
}
_ENOUGH_FREE_GIB = 3.0
"""The quick start keeps about 2 GiB: the converted model, checkpoints of three arms, the caches."""


def examine(
    sensors: Sequence[str] = (), *, options: Options | None = None, runs_dir: str | Path = "."
) -> list[DoctorFinding]:
    """Look at every instrument (or those named), the extras and the disk.

    Args:
        sensors: Drivers' names; none, or `auto` alone, for every instrument of this machine.
        options: Options of single drivers, by driver name.
        runs_dir: Where runs are to be written.

    Raises:
        UnknownNameError: A sensor name or an option that does not exist.
        UsageError: A sensor that is named lacks an option that it needs, or an option cannot be meant.
    """
    clock = SystemClock()
    given = options or {}
    named = [name for name in sensors if name != AUTO]
    check_names([*named, *given])
    check_needs(named, given)
    probes = _probes(sensors, clock, given) if named else probe_all(clock, given)
    return [
        *(_sensor_finding(probe) for probe in probes if named or says_something(probe)),
        *([] if named else [_elsewhere_finding(probes)]),
        *user_findings(
            [make_sensor(probe.driver, clock, **given.get(probe.driver, {})) for probe in probes if probe.usable],
            os.environ,
        ),
        _verdict(probes),
        *(_extra_finding(extra) for extra in _EXTRAS),
        _disk_finding(Path(runs_dir)),
        _python_finding(),
    ]


def _probes(names: Sequence[str], clock: Clock, options: Options) -> tuple[Probe, ...]:
    """What a run would go by that names these: where none is usable the host is modelled, as `resolve` does."""
    here = probe_all(clock, {name: options[name] for name in options if name in names}) if AUTO in names else ()
    named = [name for name in dict.fromkeys(names) if name != AUTO and name not in {probe.driver for probe in here}]
    probes = (*here, *(make_sensor(name, clock, **options.get(name, {})).probe() for name in named))
    if any(probe.usable for probe in probes) or MODEL in names:
        return probes
    return (*probes, make_sensor(MODEL, clock, **options.get(MODEL, {})).probe())


def _sensor_finding(probe: Probe) -> DoctorFinding:
    """A model is usable and yet no measurement, so it is never more than degraded."""
    is_model = any(channel.basis.value != "measured" for channel in probe.channels)
    status = Health.MISSING if not probe.usable else Health.DEGRADED if is_model else Health.OK
    return DoctorFinding(subject=f"sensor {probe.driver}", status=status, detail=probe.detail, cure=probe.cure)


def _elsewhere_finding(probes: Sequence[Probe]) -> DoctorFinding:
    """The instruments of other machines in one line: what is not here is no obstacle."""
    others = ", ".join(probe.driver for probe in probes if not says_something(probe))
    asked = f"{', '.join(BY_NAME)} read a node's controller or a meter at the wall, and are asked only when named"
    return DoctorFinding(
        subject="other sensors",
        status=Health.MISSING,
        detail=f"not on this machine: {others}; {asked}" if others else asked,
        cure="`stillwatt doctor --sensors NAME` says why; docs/reference/sensors.md has the options of each",
    )


def _verdict(probes: Sequence[Probe]) -> DoctorFinding:
    """What a run on this machine would stand on."""
    bases: dict[str, set[str]] = {}
    for probe in probes:
        for channel in probe.channels if probe.usable else ():
            bases.setdefault(channel.basis.value, set()).add(channel.part)
    measured = sorted(bases.get("measured", set()))
    held = held_kinds(channel for probe in probes for channel in probe.channels)
    parts = bases.get("modelled", set()) - set(measured)
    modelled = sorted(part for part in parts if kind_of(part) not in held)
    if not measured and not modelled:
        return DoctorFinding(
            subject="energy",
            status=Health.MISSING,
            detail="nothing can be measured or modelled here; runs go on with their energy absent",
            cure="see the sensors above",
        )
    detail = "; ".join(
        text
        for text in (
            f"measured: {', '.join(measured)}" if measured else "nothing is measured here",
            f"modelled: {', '.join(modelled)} (wide interval, said so on every number)" if modelled else "",
        )
        if text
    )
    return DoctorFinding(
        subject="energy",
        status=Health.OK if measured else Health.DEGRADED,
        detail=detail,
        cure="" if measured else "make one of the sensors above readable",
    )


def _extra_finding(extra: str) -> DoctorFinding:
    missing = [package for package in _EXTRAS[extra] if not _is_installed(package)]
    if missing:
        return DoctorFinding(
            subject=f"extra {extra}",
            status=Health.MISSING,
            detail=f"not installed: {', '.join(missing)}; needed for {_USES[extra]}",
            cure=f"pip install 'stillwatt[{extra}]'",
        )
    versions = ", ".join(f"{package} {_version(package)}" for package in _EXTRAS[extra][:3])
    return DoctorFinding(subject=f"extra {extra}", status=Health.OK, detail=versions, cure="")


def _is_installed(package: str) -> bool:
    try:
        _version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _disk_finding(place: Path) -> DoctorFinding:
    free_gib = shutil.disk_usage(place).free / BYTES_PER_GIB
    is_enough = free_gib >= _ENOUGH_FREE_GIB
    return DoctorFinding(
        subject="disk",
        status=Health.OK if is_enough else Health.DEGRADED,
        detail=f"{free_gib:.1f} GiB free in {place.resolve()}",
        cure="" if is_enough else f"the quick start needs about {_ENOUGH_FREE_GIB:.0f} GiB; --runs DIR moves its files",
    )


def _python_finding() -> DoctorFinding:
    return DoctorFinding(
        subject="python", status=Health.OK, detail=f"{sys.version.split()[0]} at {sys.executable}", cure=""
    )
