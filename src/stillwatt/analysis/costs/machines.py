"""What a machine can do, before anything was measured on it: medians of unit costs and how far off they may be.

    seconds per FLOP = 1 / (u F),  seconds per byte = 1 / (u B),  joules = seconds * watts       (method.md, eq. 91)

Peak rates are those of the makers' data sheets (dense, without sparsity); the share u of the peak that software
reaches is a prior, not a fact, and its doubt is wide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatt.records.forecast import Counts, Device

__all__ = ["COMPONENTS", "GPU_NAMES", "Machine", "amounts", "find_machine", "unit_costs"]

COMPONENTS = ("stages", "passes", "flops", "streamed_bytes", "stored_bytes", "waited_s")
"""The fields of `Counts`, in the order of every array here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Peak rates and powers of one device."""

    name: str
    flops_16: float
    """Per second, 16-bit, with tensor cores."""
    flops_32: float
    bytes_per_s: float
    busy_w: float
    idle_w: float
    is_known: bool = True


_KILO = 1_000.0
_TERA, _GIGA = _KILO**4, _KILO**3


def _gpu(name: str, tflops_16: float, tflops_32: float, gb_per_s: float, busy_w: float) -> Machine:
    return Machine(
        name=name,
        flops_16=tflops_16 * _TERA,
        flops_32=tflops_32 * _TERA,
        bytes_per_s=gb_per_s * _GIGA,
        busy_w=busy_w,
        idle_w=0.12 * busy_w,
    )


_GPUS = (
    _gpu("H200", 989, 67, 4_800, 700),
    _gpu("GH200", 989, 67, 4_000, 900),
    _gpu("H100 NVL", 835, 60, 3_900, 400),
    _gpu("H100 PCIe", 756, 51, 2_000, 350),
    _gpu("H100", 989, 67, 3_350, 700),
    _gpu("B200", 2_250, 75, 8_000, 1_000),
    _gpu("A100", 312, 19.5, 2_039, 400),
    _gpu("L40S", 362, 91.6, 864, 350),
    _gpu("L4", 121, 30.3, 300, 72),
    _gpu("A10G", 125, 31.2, 600, 300),
    _gpu("V100", 125, 15.7, 900, 300),
    _gpu("T4", 65, 8.1, 320, 70),
    _gpu("RTX 4090", 165, 82.6, 1_008, 450),
    _gpu("RTX 3090", 71, 35.6, 936, 350),
)
"""Makers' data sheets; the first whose words all stand in a device's name is taken."""
GPU_NAMES = tuple(gpu.name for gpu in _GPUS)
_UNKNOWN_GPU = _gpu("a GPU that is not known", 150, 30, 900, 300)
_THREAD_FLOPS, _THREAD_BYTES_PER_S, _CPU_BYTES_PER_S = 20.0 * _GIGA, 8.0 * _GIGA, 100.0 * _GIGA
_THREAD_W, _THREAD_IDLE_W, _MEMORY_W = 3.75, 0.75, 4.0
"""A logical CPU at full load and at rest as the host model has it (method.md, eq. 8), and the memory beside it."""
_REACHED, _REACHED_BYTES = 0.35, 0.5
"""Shares of the peaks that common software reaches."""
_STAGE_S, _PASS_S, _DISK_BYTES_PER_S = 0.3, 2e-4, 1.0 * _GIGA
_BUSY_SHARE = 0.7
"""Of full power while something runs."""
_SD = np.array([1.2, 1.0, 0.7, 0.7, 1.0, 0.02])
"""Doubt of the logarithm of seconds a unit, by component."""
_SD_UNKNOWN = 1.2
"""Beside it where the device is not known."""
_SD_WATTS = 0.5


def find_machine(device: Device) -> Machine:
    """Peak rates of a device; those of an average one, marked as not known, where it is not in the list.

    >>> find_machine(Device(name="NVIDIA H100 PCIe", is_gpu=True)).bytes_per_s
    2000000000000.0
    >>> find_machine(Device(name="Fantasia 9000", is_gpu=True)).is_known
    False
    >>> find_machine(Device(name="Intel(R) Xeon(R) Processor", is_gpu=False, count=2)).busy_w
    11.5
    """
    if not device.is_gpu:
        threads = float(device.count)
        return Machine(
            name=device.name,
            flops_16=threads * _THREAD_FLOPS,
            flops_32=threads * _THREAD_FLOPS,
            bytes_per_s=min(threads * _THREAD_BYTES_PER_S, _CPU_BYTES_PER_S),
            busy_w=threads * _THREAD_W + _MEMORY_W,
            idle_w=threads * _THREAD_IDLE_W + _MEMORY_W,
        )
    words = set(re.findall(r"[a-z0-9]+", device.name.casefold()))
    known = (gpu for gpu in _GPUS if set(gpu.name.casefold().split()) <= words)
    one = next(known, None)
    if one is not None:
        return one
    return Machine(
        name=_UNKNOWN_GPU.name,
        flops_16=_UNKNOWN_GPU.flops_16,
        flops_32=_UNKNOWN_GPU.flops_32,
        bytes_per_s=_UNKNOWN_GPU.bytes_per_s,
        busy_w=_UNKNOWN_GPU.busy_w,
        idle_w=_UNKNOWN_GPU.idle_w,
        is_known=False,
    )


def unit_costs(device: Device, dtype: str, *, in_joules: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of seconds or joules a unit, by component, and their standard deviations (method.md, eq. 91).

    >>> log_costs, doubts = unit_costs(Device(name="NVIDIA H100", is_gpu=True), "bfloat16", in_joules=False)
    >>> [round(float(cost), 1) for cost in np.exp(-log_costs[2:4]) / 1e12]
    [346.2, 1.7]
    """
    machine = find_machine(device)
    peak = machine.flops_16 if dtype == "bfloat16" else machine.flops_32
    seconds = np.array(
        [
            _STAGE_S,
            _PASS_S,
            1.0 / (_REACHED * peak),
            1.0 / (_REACHED_BYTES * machine.bytes_per_s),
            1.0 / _DISK_BYTES_PER_S,
            1.0,
        ]
    )
    sd = _SD.copy()
    if not machine.is_known:
        sd[1:4] = np.hypot(sd[1:4], _SD_UNKNOWN)
    if not in_joules:
        return np.log(seconds), sd
    watts = np.full(len(COMPONENTS), _BUSY_SHARE * machine.busy_w)
    watts[COMPONENTS.index("waited_s")] = machine.idle_w
    known_w = _SD_WATTS if machine.is_known else _SD_UNKNOWN
    return np.log(seconds * watts), np.hypot(sd, known_w)


def amounts(counts: Counts) -> NDArray[np.float64]:
    """Counts as an array, in the order of `COMPONENTS` (method.md, eq. 90).

    >>> amounts(Counts(flops=2.0)).tolist()
    [1.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    """
    return np.array([float(getattr(counts, name)) for name in COMPONENTS])
