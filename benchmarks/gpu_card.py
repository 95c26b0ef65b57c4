"""What a real NVIDIA card's sensors do: loads to put on it, a dense poll of every reading, and what the poll shows.

Used by gpu_check.py. The poll runs in a process of its own and asks as fast as NVML answers, so that the times at which
readings are renewed, what they average over and how late they are can be seen, and compared with what the driver
table (`stillwatt.sensors.nvml_windows`) and the simulator take for granted.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000
MJ_PER_J = 1_000
FIELDS = ("counter", "instant", "average", "usage")


class Load:
    """Real kernels: products of large bf16 matrices for a busy card, none for an idle one."""

    def __init__(self, size: int = 8192) -> None:
        import torch

        self.torch = torch
        self._a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
        self._b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
        self._out = torch.empty_like(self._a)
        self._small = torch.randn(256, 256, device="cuda")
        self._wide = torch.empty(1 << 28, device="cuda", dtype=torch.uint8)
        self._narrow = torch.empty_like(self._wide)
        self.products(20)

    def products(self, count: int) -> None:
        """This many products, and wait for them."""
        for _ in range(count):
            self.torch.matmul(self._a, self._b, out=self._out)
        self.torch.cuda.synchronize()

    def burn(self, seconds: float) -> None:
        """Products until the time is over."""
        self._until(seconds, lambda: self.torch.matmul(self._a, self._b, out=self._out), 4)

    def copy(self, seconds: float) -> None:
        """Copies inside the card's memory until the time is over: a middling level."""
        self._until(seconds, lambda: self._narrow.copy_(self._wide), 16)

    def launches(self, seconds: float) -> int:
        """Small kernels, each as short as its launch; how many were done tells what the host lost meanwhile."""
        done, end_s = 0, time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            for _ in range(50):
                self._small.add_(1.0)
            self.torch.cuda.synchronize()
            done += 50
        return done

    def _until(self, seconds: float, kernel: Any, at_once: int) -> None:
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            for _ in range(at_once):
                kernel()
            self.torch.cuda.synchronize()


@contextmanager
def dense_poll(path: Path, fields: tuple[str, ...] = FIELDS) -> Iterator[None]:
    """Poll the first card in another process until the block ends; the readings lie in `path` then."""
    command = [sys.executable, str(Path(__file__).resolve()), str(path), *fields]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def poll(path: str, fields: tuple[str, ...]) -> None:
    """Ask until the standard input closes; called in the process of its own."""
    import select

    from stillwatt.sensors import nvml_library

    nvml = nvml_library.load(None)
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    readers = readers_of(nvml)
    rows: dict[str, list[tuple[int, int, int]]] = {name: [] for name in fields}
    dead = dict.fromkeys(fields, 0)
    print("polling", flush=True)
    while not select.select([sys.stdin], [], [], 0.0005)[0]:
        for name in fields:
            if dead[name] > 100:
                continue
            before_ns = time.monotonic_ns()
            try:
                value = readers[name](handle)
            except nvml.NVMLError:
                dead[name] += 1
                continue
            rows[name].append((before_ns, time.monotonic_ns(), value))
    arrays: dict[str, Any] = {name: np.array(found, dtype=np.int64).reshape(-1, 3) for name, found in rows.items()}
    np.savez_compressed(path, **arrays)


def readers_of(nvml: Any) -> dict[str, Any]:
    """The driver's own readers of each quantity, so that what is timed is what the meter calls."""
    from stillwatt.sensors import nvml_library

    return {
        "counter": nvml_library.number_reader(nvml, "nvmlDeviceGetTotalEnergyConsumption"),
        "usage": nvml_library.number_reader(nvml, "nvmlDeviceGetPowerUsage"),
        "instant": nvml_library.field_reader(nvml, nvml_library.POWER_INSTANT),
        "average": nvml_library.field_reader(nvml, nvml_library.POWER_AVERAGE),
    }


def changes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times (the middle between the last old and the first new reading) and new values of every renewal seen."""
    values = rows[:, 2]
    index = np.nonzero(np.diff(values))[0] + 1
    return (rows[index - 1, 1] + rows[index, 1]) // 2, values[index]


def describe(rows: np.ndarray) -> dict[str, float]:
    """What a poll shows of one quantity: how long a call takes and how often its value is renewed."""
    if len(rows) < 10:
        return {"polls": len(rows)}
    call_us = (rows[:, 1] - rows[:, 0]) / NS_PER_US
    gap_ms = np.diff(rows[:, 0]) / NS_PER_MS
    times, _ = changes(rows)
    renewed_ms = np.diff(times) / NS_PER_MS
    found = {
        "polls": len(rows),
        "poll_every_ms_median": float(np.median(gap_ms)),
        "call_us_median": float(np.median(call_us)),
        "call_us_p99": float(np.percentile(call_us, 99)),
        "renewals": len(times),
    }
    for percent in (1, 10, 50, 90, 99):
        if len(renewed_ms):
            found[f"renewed_ms_p{percent}"] = float(np.percentile(renewed_ms, percent))
    return found


def boxcar_fit(times: np.ndarray, values: np.ndarray, edges_ns: list[tuple[int, int]]) -> dict[str, float]:
    """The averaging window and the delay that explain a power reading of a square wave best (least squares).

    `edges_ns` are the starts and ends of the busy spells. The model: power is one level inside a spell and another
    outside, a reading is its mean over `window` that ended `delay` ago. Levels are fitted too. `times`, `values` are
    the renewals; those of the first spell, when the card was cold, are left out.
    """
    keep = (times > edges_ns[0][1] + NS_PER_S) & (times < edges_ns[-1][1])
    times, values = times[keep], values[keep].astype(float)
    if len(times) < 8:
        return {"renewals": len(times)}
    best: tuple[float, float, float, Any] | None = None
    for window_ms in (1, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1250, 1500):
        for delay_ms in range(0, 161, 5):
            share = busy_share(times - delay_ms * NS_PER_MS, window_ms * NS_PER_MS, edges_ns)
            basis = np.stack([np.ones_like(share), share], axis=1)
            solution, *_ = np.linalg.lstsq(basis, values, rcond=None)
            rms = float(np.sqrt(np.mean((basis @ solution - values) ** 2)))
            if best is None or rms < best[0]:
                best = (rms, window_ms, delay_ms, solution)
    assert best is not None
    return {
        "renewals": len(times),
        "window_ms": best[1],
        "delay_ms": best[2],
        "idle_w": float(best[3][0]) / MJ_PER_J,
        "step_w": float(best[3][1]) / MJ_PER_J,
        "rms_w": best[0] / MJ_PER_J,
    }


def busy_share(ends_ns: np.ndarray, window_ns: int, edges_ns: list[tuple[int, int]]) -> np.ndarray:
    """The busy part of each window that ends at these times."""
    busy = np.zeros(len(ends_ns))
    for start_ns, end_ns in edges_ns:
        busy += np.clip(np.minimum(ends_ns, end_ns) - np.maximum(ends_ns - window_ns, start_ns), 0, None)
    return busy / window_ns


def counter_at(rows: np.ndarray, t_ns: int) -> float:
    """Joules of the counter at a time, straight between its renewals."""
    times, values = changes(rows)
    return float(np.interp(t_ns, times, values)) / MJ_PER_J


def integral_j(rows: np.ndarray, start_ns: int, end_ns: int) -> float:
    """Joules of a power reading between two times, each value held until the next."""
    times, values = changes(rows)
    inside = (times > start_ns) & (times < end_ns)
    first = values[max(int(np.searchsorted(times, start_ns, "right")) - 1, 0)]
    knots = np.concatenate([[start_ns], times[inside], [end_ns]])
    held = np.concatenate([[first], values[inside]])
    return float(np.sum(np.diff(knots) / NS_PER_S * held)) / MJ_PER_J


if __name__ == "__main__":
    poll(sys.argv[1], tuple(sys.argv[2:]))
