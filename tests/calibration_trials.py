"""Simulated cards with a known gain, and meters beside them whose clock is 37 s off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.calibrate import GainFit, MeterLog, Refused, fit_gain
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records.channel import Basis, Boundary, Channel, Quantity, Role
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_MS, NS_PER_S

LENGTH_S = 300.0
MARGIN_S = 10.0
OFFSET_S = 37.0
STEP_S = 0.01
UPDATE_NS = 100 * NS_PER_MS
UPDATE_S = UPDATE_NS / NS_PER_S
ORIGIN_NS = 1_000 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Trial:
    """One card under load with a meter beside it."""

    gain: float
    curve: Curve
    log: MeterLog


def tried(quantity: Quantity, seed: int, every_s: float = UPDATE_S) -> tuple[Trial, GainFit | Refused]:
    """One trial and its fit."""
    trial = simulate(quantity, np.random.default_rng(seed), every_s)
    return trial, fit_gain(trial.curve, ORIGIN_NS, trial.log, max_shift_s=120.0)


def simulate(quantity: Quantity, random: np.random.Generator, every_s: float = UPDATE_S) -> Trial:
    """A card that is read so often, and a meter beside it that starts `MARGIN_S` earlier and ends as much later."""
    gain = 1.0 + random.uniform(-0.08, 0.13)
    t_s = np.arange(-MARGIN_S, LENGTH_S + MARGIN_S, STEP_S)
    true_w = load_w(t_s, random)
    energy_j = np.concatenate(([0.0], np.cumsum(true_w) * STEP_S))
    edges_s = np.append(t_s, t_s[-1] + STEP_S)
    read_s = np.arange(0.0, LENGTH_S, every_s)
    return Trial(gain, card_curve(quantity, read_s, edges_s, energy_j / gain), meter_log(edges_s, energy_j, random))


def load_w(t_s: FloatArray, random: np.random.Generator) -> FloatArray:
    """Rest, steps that last 3 to 30 s, ramps and ripple: 60 to 400 W."""
    knots_s = np.cumsum(random.uniform(3.0, 30.0, 200)) + t_s[0]
    levels_w = random.choice([60.0, 150.0, 250.0, 330.0, 400.0], 201) * random.uniform(0.9, 1.0, 201)
    steps_w = levels_w[np.searchsorted(knots_s, t_s)]
    smooth = np.convolve(steps_w, np.ones(50) / 50, mode="same")
    ripple = 1.0 + 0.02 * np.sin(2 * np.pi * t_s / random.uniform(0.3, 3.0))
    return np.asarray(np.maximum(smooth, 50.0) * ripple, dtype=np.float64)


def card_curve(quantity: Quantity, read_s: FloatArray, edges_s: FloatArray, energy_j: FloatArray) -> Curve:
    """Cumulative energy as the card's own readings give it."""
    is_counter = quantity is Quantity.ENERGY_COUNTER
    channel = Channel(
        part="gpu0",
        device="GPU-00000000-0000-4000-8000-000000000000",
        boundary=Boundary.BOARD,
        quantity=quantity,
        role=Role.LEDGER,
        unit_si=J_PER_MJ_MILLI if is_counter else 1.0,
        driver="synthetic",
        basis=Basis.MEASURED,
        gain_low_rel=0.05,
        gain_high_rel=0.05,
        update_period_ns=UPDATE_NS,
    )
    shown_s = np.floor(read_s / UPDATE_S + 1e-6) * UPDATE_S  # what was renewed last
    at_j = np.interp(shown_s, edges_s, energy_j)
    before_j = np.interp(shown_s - UPDATE_S, edges_s, energy_j)
    count = np.floor(at_j / J_PER_MJ_MILLI) if is_counter else (at_j - before_j) / UPDATE_S
    curve = cumulate(Series(channel, (ORIGIN_NS + read_s * NS_PER_S).astype(np.int64), count))
    if isinstance(curve, str):
        raise TypeError(curve)
    return curve


def meter_log(edges_s: FloatArray, energy_j: FloatArray, random: np.random.Generator) -> MeterLog:
    """Mean power of each second, on the meter's own clock."""
    read_s = np.arange(-MARGIN_S + 0.5, LENGTH_S + MARGIN_S - 1.0, 1.0) + random.uniform(0.0, 0.4)
    power_w = np.diff(np.interp(read_s, edges_s, energy_j)) / np.diff(read_s)
    wander_w = np.cumsum(random.normal(0.0, 0.05, power_w.size))
    power_w = power_w * (1.0 + random.normal(0.0, 0.005, power_w.size)) + wander_w - np.mean(wander_w)
    own_s = (read_s[1:] - OFFSET_S) * (1.0 + random.uniform(-20e-6, 20e-6))
    # a log's first reading has nothing before it, so that its power is of no use
    return MeterLog(np.concatenate(([own_s[0] - 1.0], own_s)), np.concatenate(([power_w[0]], power_w)))
