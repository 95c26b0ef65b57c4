"""Simulated cards of published behaviour, and the meter's own parts driven over them at a set time.

Everything between the card and the estimate is real: the NVML driver, the sampler, its close looks at stage edges, the
recorder's deadlines. What is simulated is the card (a C library with NVML's interface, tests/nvml_simulator), the time,
and how late the sampling process wakes up.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes import DEFAULT_RANGE_UJ, FakePowercap
from nvml_simulator_build import NvmlSimulator, SimulatedClock, build
from stillwatt.ledger.recorder import Recorder
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Energy, Quantity, Readings, Role
from stillwatt.sensors.base import Sensor
from stillwatt.sensors.clock_watch import ClockWatch
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.rapl import RaplSensor
from stillwatt.sensors.registry import OpenSensor, Resolution
from stillwatt.sensors.worker import InlineWorker
from stillwatt.units import J_PER_UJ, NS_PER_MS, NS_PER_S

PERIOD_NS = 100 * NS_PER_MS
NO_COUNTER = "counter=0 average=0 instant=0"
SENSORS: Mapping[str, str] = {
    "V100 counter 20 ms, power 20/10": "arch=5 name=V100 step_ms=20 window_ms=10 usage_ms=10 average=0",
    "T4 counter 100 ms, power 100/100": "arch=6 name=T4 window_ms=100 usage_ms=100 average=0",
    "A100 counter 100 ms, power 100/25": "arch=7 name=NVIDIA-A100-SXM4-80GB average=0",
    "RTX 3090 counter 100 ms, power 100/100": "arch=7 name=RTX-3090 window_ms=100 usage_ms=1000",
    "H100 counter 100 ms, power 100/25": "arch=9 name=H100 usage_ms=1000",
    "H200 counter 100 ms (2.6 ms a call), buffer 20/25": (
        "arch=9 name=NVIDIA-H200 usage_ms=1000 samples=1 samples_ms=20 samples_window_ms=25 samples_jitter_ms=1.5 "
        "samples_missed=0.06 call_ms=2.6"
    ),
    "B200 counter 100 ms, power unknown": "arch=10 name=B200 usage_ms=1000",
    "A100, power renewed 40 ms later": "arch=7 name=NVIDIA-A100-SXM4-80GB average=0 power_phase_ms=40",
    "H100, no power readable": "arch=9 name=H100 power=0 instant=0 average=0",
}
COUNTERLESS: Mapping[str, str] = {
    "P100 20/10, driver's buffer": f"arch=4 name=P100 step_ms=20 usage_ms=10 samples=1 {NO_COUNTER}",
    "P100 20/10, polled": f"arch=4 name=P100 step_ms=20 usage_ms=10 {NO_COUNTER}",
    "Ada 100/100, no counter": "arch=8 name=L4 window_ms=100 usage_ms=1000 counter=0",
    "H100 100/1000 boxcar, no counter": "arch=9 name=H100 usage_ms=1000 counter=0",
    "K40 100, settles in 0.84 s": f"arch=2 name=Tesla-K40m settle_ms=840 {NO_COUNTER}",
}


@dataclass(slots=True)
class MemoryDisk:
    """Takes what the recorder writes."""

    samples: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    room = sys.maxsize

    def keep(self, samples: Readings) -> None:
        """Keep samples."""
        self.samples.setdefault(samples.stream, []).extend(zip(samples.times_ns, samples.counts, strict=True))

    def event(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        self.events.append(event)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


class MachineClock(SimulatedClock):
    """The clocks of a machine that sleeps, and whose wall clock somebody sets; `moved` is called at every step."""

    def __init__(self, simulator: NvmlSimulator, happenings: Sequence[Happening] = ()) -> None:
        self.moved: Callable[[int], None] = lambda _now_ns: None
        self._coming: list[Happening] = []
        self._asleep_ns = 0
        super().__init__(simulator)
        self._begun_ns, self._coming = self.now_ns, list(happenings)
        simulator.set_wall_offset_ns(self.utc_offset_ns)

    def set_ns(self, now_ns: int) -> None:
        """Move there; what happens on the way has happened then."""
        super().set_ns(now_ns)
        while self._coming and now_ns >= self._begun_ns + self._coming[0].at_s * NS_PER_S:
            happening = self._coming.pop(0)
            self._asleep_ns += round(happening.asleep_s * NS_PER_S)
            self.utc_offset_ns += round((happening.asleep_s + happening.wall_set_s) * NS_PER_S)
            self._simulator.set_wall_offset_ns(self.utc_offset_ns)
        self.moved(now_ns)

    def boot_ns(self) -> int:
        """The clock that goes on while the machine sleeps."""
        return self.monotonic_ns() + self._asleep_ns


@dataclass(frozen=True, slots=True)
class Measured:
    """One stage of one card: what was drawn and what the meter says."""

    true_j: float
    energy: Energy | Absent
    length_s: float
    peer_j: float
    """What the difference of the counter's readings at both edges gives, as other meters take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What befalls the machine's clocks while it measures."""

    at_s: float
    """After the trace's start, on the monotonic clock, which stands while the machine sleeps."""
    asleep_s: float = 0.0
    wall_set_s: float = 0.0
    """By how much somebody sets the wall clock forward; what it gains by itself in a sleep is not meant."""


class Rig:
    """The driver, the sampler and the recorder over the simulator, at a set time."""

    part = "gpu"
    """Before a card's number."""

    def __init__(self, simulator: NvmlSimulator, rng: np.random.Generator, *, is_marked: bool = True) -> None:
        self.simulator, self.rng, self._is_marked = simulator, rng, is_marked

    def measure(
        self,
        text: str,
        num_cards: int,
        windows_s: Sequence[tuple[float, float]],
        length_s: float,
        *,
        begins_s: float | None = None,
        happenings: Sequence[Happening] = (),
        **options: Any,
    ) -> list[list[Measured]]:
        """Play a trace and measure stages, for every card.

        Args:
            text: the simulator's configuration.
            num_cards: how many cards it has.
            windows_s: start and end of each stage in seconds after the meter began.
            length_s: how long the meter goes on.
            begins_s: when after the trace's start the meter begins; a second and a bit, at no phase, by default.
            happenings: what befalls the clocks, in order.
            options: of the driver.
        """
        simulator, disk = self.simulator, MemoryDisk()
        clock = MachineClock(simulator, happenings)
        simulator.configure(text, now_ns=clock.now_ns)
        begins_s = self.rng.uniform(1.1, 1.3) if begins_s is None else begins_s
        clock.set_ns(clock.now_ns + round(begins_s * NS_PER_S))
        start_ns = clock.now_ns
        sensor = self._sensor(clock, num_cards, round(length_s / 2 * NS_PER_S), {"gain_rel": 0.0} | options)
        channels = sensor.open()
        resolution = Resolution(opened=(OpenSensor(sensor=sensor, channels=channels),), probes=(), absent=())
        recorder = Recorder(
            resolution,
            disk,  # type: ignore[arg-type]  # it has what the recorder asks of a `Disk`, and writes nothing
            clock,
            PERIOD_NS,
            make_worker=InlineWorker,
            watch=ClockWatch(clock, clock.boot_ns),
        )
        recorder.start()
        recorder.edge(is_first=True)
        windows = [(start_ns + round(a * NS_PER_S), start_ns + round(b * NS_PER_S)) for a, b in windows_s]
        edges_ns = sorted({edge for window in windows for edge in window}) if self._is_marked else []
        self._play(recorder, clock, edges_ns, start_ns + round(length_s * NS_PER_S))
        recorder.finish(is_parent_lost=False)
        described = next(event for event in disk.events if event["event"] == "sampler_started")["channels"]
        sampled = {f"{one['part']}.{one['quantity']}": one["sampling_period_ns"] for one in described}
        return [self._card(index, channels, disk, windows, sampled) for index in range(num_cards)]

    def _sensor(self, clock: MachineClock, num_cards: int, middle_ns: int, options: Mapping[str, Any]) -> Sensor:
        """The driver over the simulated cards; `middle_ns` from now, half of the session is over."""
        return NvmlSensor(clock, library=self.simulator.path, **options)

    def _play(self, recorder: Recorder, clock: SimulatedClock, edges_ns: list[int], end_ns: int) -> None:
        beats = recorder.beats()
        marks = [edge + int(self.rng.exponential(0.3) * NS_PER_MS) for edge in edges_ns]
        while clock.monotonic_ns() < end_ns:
            due = [due_ns for beat in beats if (due_ns := beat.due_ns(clock.now_ns)) is not None]
            # a process that sleeps wakes up a little late
            wake_ns = max(min(due) + int(self.rng.exponential(0.15) * NS_PER_MS), clock.now_ns + 1)
            if marks and marks[0] <= wake_ns:
                clock.set_ns(max(marks.pop(0), clock.now_ns + 1))
                recorder.edge()
                continue
            clock.set_ns(wake_ns)
            for beat in beats:
                beat.keep(clock.monotonic_ns())

    def _card(
        self,
        index: int,
        channels: Any,
        disk: MemoryDisk,
        windows: Sequence[tuple[int, int]],
        sampled: Mapping[str, Any],
    ) -> list[Measured]:

        series: dict[Role, Series] = {}
        for channel in channels:
            if channel.part == f"{self.part}{index}":
                samples = np.array(disk.samples.get(channel.stream, []), dtype=np.float64).reshape(-1, 2)
                t_ns = np.array([t for t, _ in disk.samples.get(channel.stream, [])], dtype=np.int64)
                told = replace(channel, sampling_period_ns=sampled[channel.stream])
                series[channel.role] = Series(told, t_ns, samples[:, 1])
        ledger = series[Role.LEDGER]
        owners = [[WeightedWindow(a, b)] for a, b in windows]
        marks_ns = [edge for window in windows for edge in window] if self._is_marked else []
        energies = estimate_many(ledger, series.get(Role.WITNESS), owners, marks_ns=marks_ns).energies
        return [
            Measured(self.simulator.true_energy_j(index, a, b), energy, (b - a) / NS_PER_S, _peer_j(ledger, a, b))
            for (a, b), energy in zip(windows, energies, strict=True)
        ]


class RaplRig(Rig):
    """The RAPL driver over a powercap tree of files, whose counters follow the same traces each millisecond.

    They have the range that servers have, and each begins again at 0 once, around the middle of the session.
    """

    part = "cpu"

    def __init__(self, simulator: NvmlSimulator, rng: np.random.Generator, folder: Path) -> None:
        super().__init__(simulator, rng)
        self._tree = FakePowercap(folder)
        self.shows_zero_s = 0.0
        """For how long every counter shows 0, half-way to the middle of the session."""

    def _sensor(self, clock: MachineClock, num_cards: int, middle_ns: int, options: Mapping[str, Any]) -> Sensor:
        simulator, origin_ns = self.simulator, self.simulator.origin_ns
        wrap_ns = [clock.now_ns + middle_ns + int(self.rng.uniform(-2, 2) * NS_PER_S) for _ in range(num_cards)]
        before_uj = [
            DEFAULT_RANGE_UJ - round(simulator.true_energy_j(number, origin_ns, ns) / J_PER_UJ)
            for number, ns in enumerate(wrap_ns)
        ]

        zero_ns = clock.now_ns + middle_ns // 2

        def show(now_ns: int) -> None:
            is_zero = 0 <= now_ns - zero_ns < self.shows_zero_s * NS_PER_S
            for number, offset_uj in enumerate(before_uj):
                true_j = simulator.true_energy_j(number, origin_ns, now_ns // NS_PER_MS * NS_PER_MS)
                shown_uj = (offset_uj + round(true_j / J_PER_UJ)) % (DEFAULT_RANGE_UJ + 1)
                self._tree.set_uj(f"intel-rapl:{number}", 0 if is_zero else shown_uj)

        for number in range(num_cards):
            self._tree.zone(f"intel-rapl:{number}", f"package-{number}")
        show(clock.now_ns)
        clock.moved = show
        return RaplSensor(clock, root=self._tree.root, **options)


def _peer_j(ledger: Series, start_ns: int, end_ns: int) -> float:
    """The counter's reading right after the end less that right after the start."""
    if ledger.channel.quantity is not Quantity.ENERGY_COUNTER or not ledger.t_ns.size:
        return float("nan")
    at = np.minimum(np.searchsorted(ledger.t_ns, [start_ns, end_ns]), ledger.t_ns.size - 1)
    return float((ledger.count[at[1]] - ledger.count[at[0]]) * ledger.channel.unit_si)


def load_simulator() -> NvmlSimulator:
    """Compile and load it; the folder is left to the system's temp cleaner, as the library stays mapped."""
    return NvmlSimulator(build(Path(tempfile.mkdtemp(prefix="stillwatt-bench-"))))
