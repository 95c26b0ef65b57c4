"""CPU and DRAM power by a model of the host, for machines whose counters cannot be read (method.md, eq. 8).

    P_cpu  = n_logical * p_thread * (s_idle + (1 - s_idle) * u)      [W] = [1] * [W] * [1]
    P_dram = MemTotal * p_gib                                        [W] = [GiB] * [W/GiB]

with `u` the share of all logical CPUs' time that was not idle in the last interval. In a virtual machine the
logical CPUs and the memory that can be seen are a share of the host's, and so is the power.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe
from stillwatt.sensors.host_parameters import IDLE_SHARE, WATTS_PER_GIB, WATTS_PER_THREAD, Parameter, gain_bounds
from stillwatt.units import BYTES_PER_GIB, NS_PER_MS, seconds

_KINDS = ("cpu", "dram")
_DEVICE = "host-model"
_FIRST_INTERVAL_NS = 100 * NS_PER_MS
_MIN_INTERVAL_NS = 150 * NS_PER_MS
"""The kernel counts CPU time in steps of 10 ms, and asking costs it more than a hundred microseconds a time."""
_DRAM_PERIOD_NS = 1_000 * NS_PER_MS
_BYTES_PER_KIB = 1 << 10
_LOGICAL_CPU = re.compile(rb"^cpu\d+ ", re.MULTILINE)
_IDLE_FIELDS = (3, 4, 7)
"""idle, iowait and steal of /proc/stat: time in which this machine's CPUs did no work of its own."""
_TIME_FIELDS = 8
"""Fields after the eighth (guest time) are contained in the first two."""
_CPU_SOURCE = re.compile(r"model: (\d+) logical CPUs x ([\d.e+-]+) W x \(([\d.]+) \+")
"""What a CPU channel says of itself, so that its powers can be read back as utilisations."""
_CURE = "the host model reads Linux's /proc"


@dataclass(frozen=True, slots=True)
class _CpuTime:
    """Ticks of all logical CPUs since boot."""

    t_ns: int
    busy: int
    total: int


class HostModelSensor:
    """Modelled power of the whole machine's CPUs (`cpu0`) and memory (`dram0`).

    `parts` chooses among `cpu` and `dram`. A parameter set by the user has the range `*_low` to `*_high`, or the
    default range scaled with it where those are left out. `sleep` waits for the first interval at `open`.
    """

    driver = "host_model"

    def __init__(
        self,
        clock: Clock,
        *,
        parts: Sequence[str] = _KINDS,
        proc_root: str | os.PathLike[str] = "/proc",
        watts_per_thread: float | None = None,
        watts_per_thread_low: float | None = None,
        watts_per_thread_high: float | None = None,
        watts_per_gib: float | None = None,
        watts_per_gib_low: float | None = None,
        watts_per_gib_high: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        unknown = [part for part in parts if part not in _KINDS]
        if unknown or not parts:
            raise UsageError(f"sensor {self.driver!r}: parts must be some of {', '.join(_KINDS)}, not {list(parts)}")
        self._clock = clock
        self._kinds = tuple(kind for kind in _KINDS if kind in parts)
        self._proc = Path(proc_root)
        self._sleep = sleep
        self._per_thread = _chosen(
            "watts_per_thread", WATTS_PER_THREAD, watts_per_thread, watts_per_thread_low, watts_per_thread_high
        )
        self._per_gib = _chosen("watts_per_gib", WATTS_PER_GIB, watts_per_gib, watts_per_gib_low, watts_per_gib_high)
        self._channels: tuple[Channel, ...] = ()
        self._stat_fd = -1
        self._num_cpus = 0
        self._dram_w = 0.0
        self._last: _CpuTime | None = None
        self._held_w: float | None = None

    def probe(self) -> Probe:
        """Say what the model would be made from."""
        try:
            num_cpus, memory_gib = self._size()
        except SensorUnavailableError as err:
            return self._unusable(err)
        return Probe(
            driver=self.driver,
            usable=True,
            detail=f"models {' and '.join(self._kinds)} power from {num_cpus} logical CPUs and {memory_gib:.1f} GiB",
            cure="a readable RAPL, or your CPU's rated power as `watts_per_thread`, narrows the interval",
            channels=self._describe(num_cpus, memory_gib),
        )

    def open(self) -> tuple[Channel, ...]:
        """Take the first CPU times and wait until there is an interval to average over.

        Raises:
            SensorUnavailableError: /proc cannot be read.
        """
        if not self._channels:
            self._num_cpus, memory_gib = self._size()
            self._dram_w = memory_gib * self._per_gib.value
            if "cpu" in self._kinds:
                self._stat_fd = os.open(self._proc / "stat", os.O_RDONLY | os.O_CLOEXEC)
                self._last = self._cpu_time()
                self._sleep(seconds(_FIRST_INTERVAL_NS))
            self._channels = self._describe(self._num_cpus, memory_gib)
        return self._channels

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Give the average CPU power of the last interval of at least 150 ms, and the constant DRAM power."""
        return [self._read_cpu() if channel.part == "cpu0" else self._read_dram() for channel in self._channels]

    def close(self) -> None:
        """Forget the interval that was begun."""
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
        self._stat_fd = -1
        self._channels, self._last, self._held_w = (), None, None

    def _read_cpu(self) -> Reading | ReadFailure:
        stream = f"cpu0.{Quantity.POWER.value}"
        now_ns = self._clock.monotonic_ns()
        if self._held_w is None or self._last is None or now_ns - self._last.t_ns >= _MIN_INTERVAL_NS:
            try:
                now = self._cpu_time()
            except (OSError, ValueError, IndexError) as err:
                return ReadFailure(stream=stream, t_ns=now_ns, reason=f"{self._proc}/stat: {err}")
            self._held_w = self._mean_power_w(self._last, now)
            self._last = now
        if self._held_w is None:
            return ReadFailure(stream=stream, t_ns=now_ns, reason="no CPU time has passed since the reading before")
        return Reading(stream=stream, t_ns=now_ns, count=self._held_w)

    def _mean_power_w(self, last: _CpuTime | None, now: _CpuTime) -> float | None:
        """Average power between two CPU times, or None where none has passed."""
        if last is None or now.total <= last.total:
            return None
        share = min(max((now.busy - last.busy) / (now.total - last.total), 0.0), 1.0)
        return self.cpu_power_w(share, self._num_cpus)

    def _read_dram(self) -> Reading:
        return Reading(stream=f"dram0.{Quantity.POWER.value}", t_ns=self._clock.monotonic_ns(), count=self._dram_w)

    def cpu_power_w(self, busy_share: float, num_cpus: int) -> float:
        """Power of `num_cpus` logical CPUs of which a share is busy (method.md, eq. 8), in W."""
        return num_cpus * self._per_thread.value * (IDLE_SHARE.value + (1.0 - IDLE_SHARE.value) * busy_share)

    def _cpu_time(self) -> _CpuTime:
        line = os.pread(self._stat_fd, 256, 0).split(b"\n", 1)[0]
        t_ns = self._clock.monotonic_ns()
        ticks = [int(field) for field in line.split()[1 : _TIME_FIELDS + 1]]
        total = sum(ticks)
        return _CpuTime(t_ns, total - sum(ticks[index] for index in _IDLE_FIELDS), total)

    def _size(self) -> tuple[int, float]:
        """Logical CPUs and memory in GiB."""
        try:
            num_cpus = len(_LOGICAL_CPU.findall((self._proc / "stat").read_bytes()))
            memory = re.search(rb"^MemTotal:\s+(\d+) kB", (self._proc / "meminfo").read_bytes(), re.MULTILINE)
        except OSError as err:
            raise SensorUnavailableError(self.driver, f"{err.filename}: {err.strerror}", _CURE) from err
        if not num_cpus or not memory:
            raise SensorUnavailableError(self.driver, f"{self._proc} lists no logical CPU or no MemTotal", _CURE)
        return num_cpus, int(memory[1]) * _BYTES_PER_KIB / BYTES_PER_GIB

    def _describe(self, num_cpus: int, memory_gib: float) -> tuple[Channel, ...]:
        cpu_low, cpu_high = gain_bounds(self._per_thread, IDLE_SHARE)
        dram_low, dram_high = gain_bounds(self._per_gib)
        cpu = (
            f"model: {num_cpus} logical CPUs x {self._per_thread.value:.3g} W "
            f"x ({IDLE_SHARE.value} + {1.0 - IDLE_SHARE.value} x utilisation), {self._proc}/stat"
        )
        dram = f"model: {memory_gib:.1f} GiB x {self._per_gib.value:.3g} W/GiB, {self._proc}/meminfo"
        known: dict[str, dict[str, Any]] = {
            "cpu": {
                "gain_low_rel": cpu_low,
                "gain_high_rel": cpu_high,
                "update_period_ns": _MIN_INTERVAL_NS,
                "source": cpu,
            },
            "dram": {
                "gain_low_rel": dram_low,
                "gain_high_rel": dram_high,
                "update_period_ns": _DRAM_PERIOD_NS,
                "is_constant": True,
                "source": dram,
            },
        }
        return tuple(
            Channel(
                part=f"{kind}0",
                device=_DEVICE,
                boundary=Boundary.CHIP,
                quantity=Quantity.POWER,
                role=Role.LEDGER,
                unit_si=1.0,
                driver=self.driver,
                basis=Basis.MODELLED,
                **known[kind],
            )
            for kind in self._kinds
        )

    def _unusable(self, err: SensorUnavailableError) -> Probe:
        absent = tuple(
            Absent(part=f"{kind}0", boundary=Boundary.CHIP, reason=f"{self.driver}: {err.detail}")
            for kind in self._kinds
        )
        return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure, absent=absent)


def utilisation(channel: Channel, power_w: float) -> float | None:
    """Share of the logical CPUs that was busy behind a modelled CPU power, from the channel's own source (eq. 8).

    None for a channel of another driver or part.
    """
    found = _CPU_SOURCE.match(channel.source) if channel.driver == HostModelSensor.driver else None
    if found is None:
        return None
    full_w = float(found[1]) * float(found[2])
    idle_share = float(found[3])
    return min(max((power_w / full_w - idle_share) / (1.0 - idle_share), 0.0), 1.0)


def _chosen(name: str, default: Parameter, value: float | None, low: float | None, high: float | None) -> Parameter:
    """The default, or the user's value with the user's range; a range that is not given scales with the value."""
    centre = default.value if value is None else value
    scale = centre / default.value
    try:
        return Parameter(
            value=centre,
            low=default.low * scale if low is None else low,
            high=default.high * scale if high is None else high,
        )
    except ValueError as err:
        raise UsageError(f"sensor 'host_model': {name}: {err}") from err
