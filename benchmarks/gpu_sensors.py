"""What a real card's sensors do: renewals and windows of every reading, cost of every call, the driver's own buffer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gpu_card import FIELDS, Load, boxcar_fit, changes, counter_at, dense_poll, describe, integral_j, readers_of


def sensors(out: Path) -> dict[str, Any]:
    """A square wave at no multiple of any update, polled densely: renewals, windows, delays, counter against power."""
    load, spells = Load(), []
    raw = out / "gpu-poll.npz"
    with dense_poll(raw):
        for _ in range(11):
            time.sleep(0.713)
            start_ns = time.monotonic_ns()
            load.burn(0.617)
            spells.append((start_ns, time.monotonic_ns()))
        time.sleep(2.0)
    rows = dict(np.load(raw))
    found: dict[str, Any] = {name: describe(rows[name]) for name in FIELDS}
    for name in ("instant", "average", "usage"):
        if found[name].get("renewals", 0) > 20:
            found[name]["fit"] = boxcar_fit(*changes(rows[name]), spells)
    start_ns, end_ns = spells[2][0], spells[-1][1]
    counter_j = counter_at(rows["counter"], end_ns) - counter_at(rows["counter"], start_ns)
    found["counter_j"] = counter_j
    for name in ("instant", "average", "usage"):
        if found[name].get("renewals", 0) > 20:
            found[name]["integral_to_counter"] = integral_j(rows[name], start_ns, end_ns) / counter_j
    return found


def calls(out: Path) -> dict[str, Any]:
    """What each call of NVML costs, by the clock and in processor time, idle and busy."""
    from stillwatt.sensors import nvml_library

    nvml = nvml_library.load(None)
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    asked = {
        **readers_of(nvml),
        "energy field 83": nvml_library.field_reader(nvml, 83),
        "buffer": lambda handle: nvml_library.power_samples(nvml, handle, 0),
        "utilization": nvml.nvmlDeviceGetUtilizationRates,
        "processes": nvml.nvmlDeviceGetComputeRunningProcesses,
        "fields 83 and 186": lambda handle: nvml.nvmlDeviceGetFieldValues(handle, [83, 186]),
    }
    found: dict[str, Any] = {}
    load = Load()
    for state in ("idle", "busy"):
        for name, call in asked.items():
            if state == "busy":
                load.products(30)
                for _ in range(200):
                    load.torch.matmul(load._a, load._b, out=load._out)
            found[f"{name}, {state}"] = cost_of(call, handle, nvml)
            load.torch.cuda.synchronize()
    return found


def cost_of(call: Callable[[Any], Any], handle: Any, nvml: Any, times: int = 60) -> dict[str, Any]:
    wall, cpu = [], []
    try:
        for _ in range(times):
            begun, begun_cpu = time.perf_counter_ns(), time.thread_time_ns()
            call(handle)
            wall.append((time.perf_counter_ns() - begun) / 1e3)
            cpu.append((time.thread_time_ns() - begun_cpu) / 1e3)
            time.sleep(0.002)
    except nvml.NVMLError as err:
        return {"absent": str(err)}
    return {
        "wall_us_median": statistics.median(wall),
        "wall_us_max": max(wall),
        "cpu_us_mean": statistics.fmean(cpu),
    }


def buffer(out: Path) -> dict[str, Any]:
    """The driver's own buffer of power readings over a square wave: how far apart they lie, and what each averages."""
    from stillwatt.sensors import nvml_library

    nvml = nvml_library.load(None)
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    load, spells = Load(), []
    kept: dict[int, int] = {}
    offset_ns = time.time_ns() - time.monotonic_ns()
    try:
        for _ in range(12):
            time.sleep(0.713)
            start_ns = time.monotonic_ns()
            load.burn(0.617)
            spells.append((start_ns, time.monotonic_ns()))
            kept |= dict(zip(*nvml_library.power_samples(nvml, handle, max(kept, default=0)), strict=True))
    except nvml.NVMLError as err:
        return {"absent": str(err)}
    rows = np.array([(us * 1000 - offset_ns, us * 1000 - offset_ns, mw) for us, mw in sorted(kept.items())])
    np.savez_compressed(out / "gpu-buffer.npz", rows=rows, spells=np.array(spells))
    apart_ms = np.diff(rows[:, 0]) / 1e6
    return {
        "samples": len(rows),
        "apart_ms": [float(np.percentile(apart_ms, one)) for one in (1, 10, 50, 90, 99)],
        "fit": boxcar_fit(rows[:, 0], rows[:, 2], spells),
    }
