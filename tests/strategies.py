"""Simulated instruments over known power traces, and hypothesis strategies for traces, windows and stage trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.series import Series
from stillwatt.records import Basis, Boundary, Channel, Quantity, Role, SampleGap, StageWindow
from stillwatt.units import NS_PER_MS, NS_PER_S

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

EPOCH_NS = 5_000 * NS_PER_S
"""Where the traces begin: a machine that has been up for a while."""


def channel(quantity: Quantity = Quantity.ENERGY_COUNTER, **changes: Any) -> Channel:
    """A board's channel with no gain error, updated every 100 ms, in joules or watts."""
    fields: dict[str, Any] = {
        "part": "gpu0",
        "device": "simulated board",
        "boundary": Boundary.BOARD,
        "quantity": quantity,
        "role": Role.LEDGER,
        "unit_si": 1.0,
        "driver": "synthetic",
        "basis": Basis.MEASURED,
        "gain_low_rel": 0.0,
        "gain_high_rel": 0.0,
        "update_period_ns": 100 * NS_PER_MS,
        "source": "simulation",
    }
    return Channel(**(fields | changes))


def power_channel(**changes: Any) -> Channel:
    """The same for power."""
    return channel(Quantity.POWER, **changes)


@dataclass(frozen=True)
class StepLoad:
    """True power that is constant between its steps; the last level goes on for ever."""

    steps_ns: IntArray
    levels_w: FloatArray

    def energy_j(self, t_ns: IntArray) -> FloatArray:
        """Exact energy since the first step, which is at `steps_ns[0]`; before it the first level holds."""
        known_j = np.append(0.0, np.cumsum(np.diff(self.steps_ns) / NS_PER_S * self.levels_w[:-1]))
        j = np.clip(np.searchsorted(self.steps_ns, t_ns, side="right") - 1, 0, self.levels_w.size - 1)
        return np.asarray(known_j[j] + (t_ns - self.steps_ns[j]) / NS_PER_S * self.levels_w[j], dtype=np.float64)

    def power_w(self, t_ns: IntArray) -> FloatArray:
        """Power at some times."""
        j = np.clip(np.searchsorted(self.steps_ns, t_ns, side="right") - 1, 0, self.levels_w.size - 1)
        return self.levels_w[j]

    def window_j(self, start_ns: int, end_ns: int) -> float:
        """Exact energy of one window."""
        before_j, after_j = self.energy_j(np.array([start_ns, end_ns]))
        return float(after_j - before_j)


def random_load(rng: np.random.Generator, length_s: float, *, dwell_s: tuple[float, float] = (0.2, 3.0)) -> StepLoad:
    """Levels of 20 to 700 W that last from `dwell_s[0]` to `dwell_s[1]`."""
    dwells_s = rng.uniform(*dwell_s, size=int(length_s / dwell_s[0]) + 2)
    steps_ns = EPOCH_NS + np.append(0, np.cumsum(dwells_s * NS_PER_S)).astype(np.int64)
    return StepLoad(steps_ns, rng.uniform(20.0, 700.0, size=steps_ns.size))


def poll_times(
    rng: np.random.Generator, length_s: float, *, period_ns: int = 100 * NS_PER_MS, jitter_ns: int = 2 * NS_PER_MS
) -> IntArray:
    """Deadlines from the trace's start, each kept late by up to `jitter_ns`."""
    number = int(length_s * NS_PER_S) // period_ns + 1
    late_ns = rng.integers(0, jitter_ns + 1, size=number)
    return np.asarray(EPOCH_NS + np.arange(number) * period_ns + late_ns, dtype=np.int64)


def counter_readings(load: StepLoad, t_ns: IntArray, *, phase_ns: int, step_ns: int, unit_j: float) -> FloatArray:
    """Counts of a counter that updates every `step_ns`, in whole units of `unit_j`."""
    origin_ns = EPOCH_NS + phase_ns
    ticks_ns = origin_ns + (t_ns - origin_ns) // step_ns * step_ns
    return np.floor((load.energy_j(ticks_ns) + 10_000.0) / unit_j)


def step_counter(
    load: StepLoad, t_ns: IntArray, *, phase_ns: int = 0, step_ns: int = 100 * NS_PER_MS, **changes: Any
) -> Series:
    """A millijoule counter's readings."""
    counts = counter_readings(load, t_ns, phase_ns=phase_ns, step_ns=step_ns, unit_j=0.001)
    return Series(channel(unit_si=0.001, **({"update_period_ns": step_ns} | changes)), t_ns, counts)


def power_readings(load: StepLoad, t_ns: IntArray, **changes: Any) -> Series:
    """Momentary power at each time."""
    return Series(power_channel(**({"update_period_ns": NS_PER_MS} | changes)), t_ns, load.power_w(t_ns))


@st.composite
def traces(draw: st.DrawFn, quantity: Quantity | None = None) -> Series:
    """Readings of 2 to 40 times, with gaps, of a counter that may reset or of power."""
    chosen = quantity or draw(st.sampled_from(Quantity))
    spacings_ms = draw(st.lists(st.integers(20, 400) | st.just(5_000), min_size=1, max_size=39))
    t_ns = EPOCH_NS + np.append(0, np.cumsum(spacings_ms)).astype(np.int64) * NS_PER_MS
    levels = draw(st.lists(st.floats(0.0, 700.0), min_size=t_ns.size, max_size=t_ns.size))
    if chosen is Quantity.POWER:
        return Series(power_channel(), t_ns, np.array(levels))
    counts = 1.0 + np.cumsum(np.array(levels) * np.append(1.0, np.diff(t_ns) / NS_PER_S))
    if draw(st.booleans()):
        counts[draw(st.integers(0, t_ns.size - 1)) :] -= counts[-1] * 0.9
    gaps = (SampleGap(stream="gpu0", start_ns=int(t_ns[0]), end_ns=int(t_ns[-1]), failed_reads=7, reason="test"),)
    return Series(channel(), t_ns, counts, gaps)


@st.composite
def cuts(draw: st.DrawFn, series: Series) -> list[int]:
    """Three or more times in ascending order, in and around a trace."""
    first_ms, last_ms = -3_000, int(series.t_ns[-1] - series.t_ns[0]) // NS_PER_MS + 3_000
    offsets = draw(st.lists(st.integers(first_ms, last_ms), min_size=3, max_size=8, unique=True))
    return [int(series.t_ns[0]) + offset * NS_PER_MS for offset in sorted(offsets)]


@st.composite
def stage_trees(draw: st.DrawFn, *, broken: bool = True) -> list[StageWindow]:
    """Up to twelve stages between 0 and 100 ns; `broken` ones may outlive or never have known their parent."""
    stages: list[StageWindow] = []
    for number in range(draw(st.integers(0, 12))):
        names = [None, *(stage.stage_id for stage in stages), *(["lost", f"s{number}"] if broken else [])]
        parent_id = draw(st.sampled_from(names))
        above = next((stage for stage in stages if stage.stage_id == parent_id), None)
        low, high = (above.start_ns, above.end_ns) if above is not None and not broken else (0, 100)
        start_ns = draw(st.integers(low, high))
        end_ns = draw(st.integers(start_ns, high))
        stages.append(
            StageWindow(session="one", stage_id=f"s{number}", parent_id=parent_id, start_ns=start_ns, end_ns=end_ns)
        )
    return stages


def window(start_s: float, end_s: float, weight: float = 1.0) -> WeightedWindow:
    """A window in seconds after the traces' start."""
    return WeightedWindow(EPOCH_NS + round(start_s * NS_PER_S), EPOCH_NS + round(end_s * NS_PER_S), weight)
