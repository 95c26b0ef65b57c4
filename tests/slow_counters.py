"""Counters that are all there is of a part, and slow or coarse, over loads of known energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fakes import fake_channel
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records import Boundary, Channel, Energy, Quantity
from stillwatt.units import NS_PER_S


def plug(unit_j: float, update_s: float) -> Channel:
    """A counter of so many joules a count, renewed so often; 0 for at once."""
    channel = fake_channel(
        "wall0",
        Quantity.ENERGY_COUNTER,
        driver="smart_plug",
        boundary=Boundary.WALL,
        unit_si=unit_j,
        gain_rel=0.0,
        update_period_ns=round(max(update_s, 1.0) * NS_PER_S),
    )
    return replace(channel, sampling_period_ns=NS_PER_S)


class Trace:
    """A load of random levels, and what a counter that is read once a second shows of it."""

    def __init__(self, rng: np.random.Generator, levels_w: FloatArray, dwell_s: tuple[float, float]) -> None:
        self._rng = rng
        self._t_s = np.append(0.0, np.cumsum(rng.uniform(*dwell_s, size=4000)))
        self._energy_j = np.append(0.0, np.cumsum(rng.choice(levels_w, self._t_s.size - 1) * np.diff(self._t_s)))

    def energy_j(self, t_s: FloatArray | float) -> FloatArray:
        """What was drawn up to some times."""
        return np.asarray(np.interp(t_s, self._t_s, self._energy_j))

    def read(self, unit_j: float, update_s: float, session_s: float) -> Series:
        """What the counter shows, read once a second."""
        t_s = np.arange(3.0, 3.0 + session_s, 1.0) + self._rng.uniform(0.0, 0.01, round(session_s))
        phase_s, offset_j = self._rng.uniform(0.0, max(update_s, 1e-9)), self._rng.uniform(0.0, unit_j)
        renewed_s = np.floor((t_s - phase_s) / update_s) * update_s + phase_s if update_s else t_s
        count = np.floor((self.energy_j(renewed_s) + offset_j) / unit_j)
        return Series(plug(unit_j, update_s), np.round(t_s * NS_PER_S).astype(np.int64), count)


def stages(rng: np.random.Generator, session_s: float) -> list[tuple[float, float]]:
    """Starts and ends of 5 s to a quarter of the session, anywhere."""
    found, start_s = [], 4.0
    while start_s < session_s - 8.0:
        length_s = min(rng.uniform(5.0, session_s / 4.0), session_s - 1.0 - start_s)
        found.append((start_s, start_s + length_s))
        start_s += length_s + rng.uniform(0.0, 10.0)
    return found


def measured(
    seed: int, levels_w: FloatArray, dwell_s: tuple[float, float], unit_j: float, update_s: float, session_s: float
) -> list[tuple[float, Energy]]:
    """Stages of one session: what was drawn and what the meter says."""
    rng = np.random.default_rng(seed)
    trace = Trace(rng, levels_w, dwell_s)
    windows = stages(rng, session_s)
    owners = [[WeightedWindow(round(a * NS_PER_S), round(b * NS_PER_S))] for a, b in windows]
    energies = estimate_many(trace.read(unit_j, update_s, session_s), None, owners, marks_ns=[]).energies
    true_j = [float(trace.energy_j(b) - trace.energy_j(a)) for a, b in windows]
    return [(one, energy) for one, energy in zip(true_j, energies, strict=True) if isinstance(energy, Energy)]


def covered(found: list[tuple[float, Energy]]) -> float:
    """Share of the stages whose interval holds what was drawn."""
    return float(np.mean([energy.low_j - 1e-6 <= true_j <= energy.high_j + 1e-6 for true_j, energy in found]))
