"""A card's gain against a meter's log: known gains are found again, and weak logs are refused with figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calibration_trials as trials
from stillwatt.metering.calibrate import GainFit, MeterLog, Refused, fit_gain, no_finer
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.series import FloatArray, Series
from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
from stillwatt.units import NS_PER_MS

ORIGIN_NS = trials.ORIGIN_NS


@pytest.mark.parametrize("quantity", list(Quantity))
def test_known_gains_lie_inside_their_interval(quantity: Quantity) -> None:
    """40 fixed trials of the benchmark; 95 % of 200 is its figure."""
    found = [trials.tried(quantity, seed) for seed in range(40)]
    fits = [(trial, fit) for trial, fit in found if isinstance(fit, GainFit)]
    assert len(fits) == 40
    inside = [abs(fit.gain - trial.gain) <= fit.gain_half for trial, fit in fits]
    assert sum(inside) >= 37  # of 40 at 95 %, fewer come once in twenty
    assert max(fit.gain_half for _, fit in fits) < 0.02
    assert all(abs(fit.shift_s - trials.OFFSET_S) < 0.3 for _, fit in fits)


def test_a_counter_that_is_read_rarely_gives_no_gain_that_is_too_large() -> None:
    """Second by second, a straight line between readings 0.87 s apart puts the gain 1.2 % too high."""
    found = [trials.tried(Quantity.ENERGY_COUNTER, seed, every_s=0.87) for seed in range(20)]
    fits = [(trial, fit) for trial, fit in found if isinstance(fit, GainFit)]
    assert len(fits) == 20
    assert sum(abs(fit.gain - trial.gain) <= fit.gain_half for trial, fit in fits) >= 18
    assert abs(np.mean([fit.gain / trial.gain - 1.0 for trial, fit in fits])) < 0.003
    assert all(fit.readings == 74 for _, fit in fits)


# --- worked examples: a card that shows its power every 100 ms, and a meter at 1 Hz ---------------------------------


def card(power_w: FloatArray) -> Curve:
    """A card whose power reading changes every 100 ms."""
    channel = Channel(
        part="gpu0", device="GPU-0", boundary=Boundary.BOARD, quantity=Quantity.POWER, role=Role.LEDGER, unit_si=1.0,
        driver="synthetic", basis=Basis.MEASURED, gain_low_rel=0.05, gain_high_rel=0.05,
        update_period_ns=100 * NS_PER_MS,
    )  # fmt: skip
    t_ns = ORIGIN_NS + np.arange(power_w.size, dtype=np.int64) * 100 * NS_PER_MS
    curve = cumulate(Series(channel, t_ns, power_w))
    assert isinstance(curve, Curve)
    return curve


def meter(power_w: FloatArray, *, gain: float = 1.0, offset_w: float = 0.0, shift_s: float = 0.0) -> MeterLog:
    """A meter that gives the mean of each second of the same."""
    mean_w = (power_w[:-1] + power_w[1:]) / 2
    each_w = mean_w[: mean_w.size // 10 * 10].reshape(-1, 10).mean(axis=1)
    t_s = np.arange(each_w.size + 1, dtype=np.float64) - shift_s
    return MeterLog(t_s, np.concatenate(([0.0], offset_w + gain * each_w)))


def load(length_s: int, seed: int = 3, low_w: float = 60.0, high_w: float = 350.0) -> FloatArray:
    """Levels that hold for 3 to 14 s."""
    random = np.random.default_rng(seed)
    levels = [np.full(10 * int(random.integers(3, 15)), random.uniform(low_w, high_w)) for _ in range(length_s)]
    return np.concatenate(levels)[: 10 * length_s + 1]


def fitted(power_w: FloatArray, log: MeterLog, max_shift_s: float = 60.0) -> GainFit:
    found = fit_gain(card(power_w), ORIGIN_NS, log, max_shift_s=max_shift_s)
    assert isinstance(found, GainFit), found
    return found


def reasons(power_w: FloatArray, log: MeterLog, max_shift_s: float = 60.0) -> str:
    found = fit_gain(card(power_w), ORIGIN_NS, log, max_shift_s=max_shift_s)
    assert isinstance(found, Refused), found
    return "; ".join(found.reasons)


def test_gain_offset_and_clock_are_told_apart() -> None:
    power_w = load(200)
    found = fitted(power_w, meter(power_w, gain=1.13, offset_w=8.0, shift_s=37.0))
    assert found.gain == pytest.approx(1.13, rel=1e-3)
    assert found.offset_w == pytest.approx(8.0, abs=0.3)
    assert found.shift_s == pytest.approx(37.0, abs=0.1)
    assert found.correlation > 0.999
    assert found.low_w < 120.0 < 250.0 < found.high_w


def test_clocks_known_to_agree_are_not_searched_far() -> None:
    power_w = load(200)
    assert fitted(power_w, meter(power_w, gain=0.92), max_shift_s=0.0).gain == pytest.approx(0.92, rel=1e-3)


def test_a_meter_whose_clock_runs_fast_is_stretched() -> None:
    power_w = load(600)
    log = meter(power_w, gain=1.05)
    found = fitted(power_w, replace(log, t_s=log.t_s * 1.0005))
    assert found.gain == pytest.approx(1.05, rel=2e-3)
    assert found.drift == pytest.approx(0.0005, abs=2e-4)


def test_autocorrelated_residuals_widen_the_interval() -> None:
    power_w = load(300)
    log = meter(power_w)
    random = np.random.default_rng(5)
    white_w = random.normal(0.0, 2.0, log.power_w.size)
    slow_w = np.convolve(white_w, np.ones(25) / 5.0, mode="same")
    calm, slow = (fitted(power_w, replace(log, power_w=log.power_w + noise_w)) for noise_w in (white_w, slow_w))
    assert slow.autocorrelation > 0.8 > 0.3 > abs(calm.autocorrelation)
    assert slow.gain_half > calm.gain_half
    assert abs(slow.gain - 1.0) <= slow.gain_half


def test_a_meter_that_smooths_longer_than_it_logs_is_held_against_as_much_of_the_card() -> None:
    """It averages over 5 s and logs each second: against single seconds the gain comes out 0.7 % too small."""
    errors = []
    for seed in range(10):
        power_w = load(300, seed)
        log = meter(power_w, gain=1.05, shift_s=37.0)
        smooth_w = np.convolve(log.power_w, np.ones(5) / 5)[: log.power_w.size]
        found = fitted(power_w, MeterLog(log.t_s[6:], smooth_w[6:]))
        assert found.averaging_s == pytest.approx(5.0, rel=0.15)
        assert found.shift_s == pytest.approx(37.0, abs=0.3)
        errors.append(found.gain / 1.05 - 1.0)
        assert abs(errors[-1]) <= found.gain_half
    assert abs(np.mean(errors)) < 0.001


def test_a_meter_that_averages_from_reading_to_reading_is_taken_for_one() -> None:
    power_w = load(200)
    assert fitted(power_w, meter(power_w)).averaging_s == 0.0


def test_a_reading_between_two_unlike_ones_tells_little_however_alike_these_are() -> None:
    """An alternating load: every second changes, and a clock a tenth of a second off moves every one of them."""
    steady_w, turns_w = np.repeat([80.0, 300.0], 1_000), np.tile(np.repeat([80.0, 300.0], 10), 100)
    power_w = np.concatenate((steady_w, turns_w, turns_w[:1]))
    log = meter(power_w, gain=1.05)
    off_w = log.power_w.copy()
    off_w[-200:] = off_w[-200:] * 0.9 + 20.0  # as such a clock would have it, and a little more
    assert fitted(power_w, replace(log, power_w=off_w)).gain == pytest.approx(1.05, rel=0.004)


def test_few_readings_are_refused() -> None:
    power_w = load(60)
    assert reasons(power_w, meter(power_w)) == "61 readings of the meter; more than 60 are needed" or (
        "lie inside the run; 60 over 60 s are needed" in reasons(power_w, meter(power_w))
    )
    short_w = load(40)
    assert reasons(short_w, meter(short_w)) == "41 readings of the meter; more than 60 are needed"


def test_readings_that_are_put_together_keep_their_joules_and_are_counted_as_few() -> None:
    log = meter(load(100))
    rarely = replace(card(load(100)), x_ns=card(load(100)).x_ns * 10)
    found = fit_gain(rarely, ORIGIN_NS, log, max_shift_s=5.0)
    assert isinstance(found, Refused)
    assert found.reasons == (
        "26 readings of the meter of 4 each, as the card is read every 1 s; more than 60 are needed",
    )


@given(st.lists(st.floats(0.0, 500.0), min_size=2, max_size=60), st.floats(0.01, 20.0))
def test_putting_readings_together_keeps_their_joules(power_w: list[float], spacing_s: float) -> None:
    log = MeterLog(np.cumsum(np.linspace(0.9, 1.1, len(power_w))), np.array(power_w))
    coarse, together = no_finer(log, spacing_s)
    assert coarse.t_s.tolist() == log.t_s[::together].tolist()
    last = np.searchsorted(log.t_s, coarse.t_s[-1])
    energy_j = np.sum(log.power_w[1 : last + 1] * np.diff(log.t_s[: last + 1]))
    assert np.sum(coarse.power_w[1:] * np.diff(coarse.t_s)) == pytest.approx(energy_j)


def test_a_steady_load_is_refused() -> None:
    power_w = load(200, low_w=290.0, high_w=330.0)
    assert "let it rest and let it work" in reasons(power_w, meter(power_w))


def test_a_load_that_repeats_itself_is_refused_as_ambiguous() -> None:
    power_w = np.tile(np.repeat([60.0, 300.0], 100), 15)
    assert "the clocks' offset is ambiguous" in reasons(power_w, meter(power_w))


def test_an_offset_at_the_bound_is_refused() -> None:
    power_w = load(200)
    log = meter(power_w, shift_s=37.0)
    assert "lies at the bound; look further with --max-offset" in reasons(power_w, log, max_shift_s=36.0)


def test_another_machines_log_is_refused() -> None:
    power_w = load(200)
    assert "needed" in reasons(power_w, meter(load(200, seed=99)))
    far = meter(power_w, shift_s=10_000.0)
    assert "do not overlap" in reasons(power_w, far)
    flat = meter(power_w)
    assert "do not go together" in reasons(power_w, replace(flat, power_w=np.full_like(flat.power_w, 80.0)))


def test_a_meter_of_something_else_is_refused() -> None:
    power_w = load(200)
    assert "measures something else than this card" in reasons(power_w, meter(power_w, gain=3.0))


def test_a_relation_that_is_no_line_is_refused() -> None:
    power_w = load(300)
    log = meter(power_w)
    bent = replace(log, power_w=log.power_w + 80.0 * (log.power_w / 350.0) ** 2)
    assert "the relation is not a line: it bends by " in reasons(power_w, bent)


def test_two_levels_tell_of_no_bend() -> None:
    """A load of rest and full work only: gain and offset are known, and a bend cannot be."""
    random = np.random.default_rng(8)
    levels = [np.full(10 * int(random.integers(5, 20)), level_w) for _ in range(20) for level_w in (60.0, 300.0)]
    power_w = np.concatenate(levels)
    assert fitted(power_w, meter(power_w, gain=1.1)).gain == pytest.approx(1.1, rel=2e-3)


def test_a_log_without_residual_or_period_troubles_gives_plain_numbers() -> None:
    power_w = load(200)
    log = meter(power_w)
    assert log.period_s == pytest.approx(1.0)
    found = fitted(power_w, log)
    assert found.length_s == pytest.approx(199.0, abs=2.0)
    assert found.readings == pytest.approx(200, abs=2)
