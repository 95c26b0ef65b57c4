"""Slow counters that begin anew, or are not renewed at all, while they are read: nothing of it is a silent 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes import fake_channel
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Energy, Quantity, Role
from stillwatt.units import NS_PER_S

POWER_W = 200.0


def plug(
    update_s: float, session_s: float, first_s: float, reset_s: float, every_s: float = 1.0
) -> tuple[Series, Series]:
    """A counter of whole joules and the power beside it, of a part that draws 200 W all along.

    Args:
        update_s: how often the counter is renewed,
        session_s: and for how long both are read.
        first_s: when it is renewed for the first time in the session.
        reset_s: when it begins again at 0.
        every_s: how often it is read.
    """
    t_s = np.arange(0.0, session_s, every_s)
    renewed_s = first_s + np.floor((t_s - first_s) / update_s) * update_s
    counted_j = np.where(t_s >= reset_s, np.maximum(renewed_s - reset_s, 0.0), 500.0 + renewed_s) * POWER_W
    counter = fake_channel("wall0", Quantity.ENERGY_COUNTER, gain_rel=0.0, update_period_ns=round(update_s * NS_PER_S))
    power = fake_channel("wall0", role=Role.WITNESS, gain_rel=0.0, update_period_ns=round(every_s * NS_PER_S))
    t_ns, told = np.round(t_s * NS_PER_S).astype(np.int64), round(every_s * NS_PER_S)
    return (
        Series(replace(counter, sampling_period_ns=told), t_ns, np.floor(counted_j)),
        Series(replace(power, sampling_period_ns=told, averaging_ns=told // 5), t_ns, np.full(t_s.size, POWER_W)),
    )


def between(start_s: float, end_s: float) -> list[WeightedWindow]:
    return [WeightedWindow(round(start_s * NS_PER_S), round(end_s * NS_PER_S))]


@pytest.mark.parametrize("reset_s", [20.0, 1_000.0], ids=["began anew", "just read for too short a time"])
def test_a_counter_that_was_not_renewed_tells_nothing_and_no_0_j(reset_s: float) -> None:
    counter, power = plug(60.0, 50.0, 55.0, reset_s)
    absent = estimate(counter, None, between(0.0, 49.0))
    assert isinstance(absent, Absent)
    assert "showed no step of known energy in 49 s; it is renewed every 60 s" in absent.reason
    energy = estimate(counter, power, between(0.0, 49.0))
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(49.0 * POWER_W)
    assert energy.flags[0].startswith("counter-silent")


def test_a_value_that_stood_for_two_updates_is_a_part_that_draws_nothing() -> None:
    counter, _ = plug(20.0, 50.0, 70.0, 1_000.0)
    energy = estimate(replace(counter, count=np.full(50, 7.0)), None, between(0.0, 49.0))
    assert isinstance(energy, Energy)
    assert energy.value_j == 0.0


@pytest.mark.parametrize(
    ("session_s", "first_s", "reset_s", "gone_s"), [(170.0, 30.0, 100.0, 10.0), (300.0, 50.0, 220.0, 50.0)]
)
def test_what_a_reset_takes_is_missing_since_the_last_renewal(
    session_s: float, first_s: float, reset_s: float, gone_s: float
) -> None:
    counter, power = plug(60.0, session_s, first_s, reset_s)
    energy = estimate(counter, None, between(0.0, session_s - 1.0))
    assert isinstance(energy, Energy)
    assert energy.missing_s == pytest.approx(gone_s, abs=1.0)
    assert energy.low_j <= POWER_W * (session_s - 1.0 - energy.missing_s) <= energy.high_j
    repaired = estimate(counter, power, between(0.0, session_s - 1.0))
    assert isinstance(repaired, Energy)
    assert repaired.value_j == pytest.approx(POWER_W * (session_s - 1.0), rel=0.01)
    assert repaired.coverage == pytest.approx(1.0 - gone_s / session_s, abs=0.01)


def test_a_reset_is_no_update_of_the_counters_rhythm() -> None:
    """A quarter of a second after an update, it would be taken for the shortest period, and all others for stands."""
    counter, power = plug(1.0, 60.0, 0.3, 30.6, every_s=0.25)
    energy = estimate(counter, power, between(0.0, 59.5))
    assert isinstance(energy, Energy)
    assert energy.flags == ()
    assert energy.random_j < 0.01 * energy.value_j
    after = estimate(counter, None, between(33.0, 59.0))
    assert isinstance(after, Energy)
    assert after.low_j <= 26.0 * POWER_W <= after.high_j


def test_a_first_value_that_stood_for_long_was_no_failed_reading() -> None:
    """What came after it counts from the reset on, and not from somewhere before the session."""
    counter, _ = plug(60.0, 50.0, 40.0, 20.0)
    energy = estimate(counter, None, between(23.0, 49.0))
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(26.0 * POWER_W, rel=0.02)
    whole = estimate(counter, None, between(0.0, 49.0))
    assert isinstance(whole, Energy)
    assert whole.missing_s == pytest.approx(20.0, abs=0.1)


def test_a_repair_is_no_surer_than_the_renewals_on_its_both_sides() -> None:
    """The power is known without any doubt; from when to when it stands in for the counter is not."""
    whole, repaired = (
        estimate(*plug(2.0, 80.0, 0.3, reset_s, every_s=1.0), between(10.0, 65.0)) for reset_s in (1_000.0, 36.4)
    )
    assert isinstance(whole, Energy)
    assert isinstance(repaired, Energy)
    assert repaired.random_j**2 - whole.random_j**2 > (0.5 * POWER_W) ** 2


def test_a_single_renewal_tells_less_than_the_power_beside_it() -> None:
    counter, power = plug(60.0, 90.0, 50.0, 1_000.0)
    energy = estimate(counter, power, between(5.0, 25.0))
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(20.0 * POWER_W)
    assert energy.random_j < 0.05 * energy.value_j
    (flag,) = energy.flags
    assert flag.startswith("counter-silent: wall0.energy_counter was renewed only once in 89 s; it is every 60 s")
    alone = estimate(counter, None, between(5.0, 25.0))
    assert isinstance(alone, Energy)
    assert alone.flags == ()
    rarely = Series(power.channel, power.t_ns[::30], power.count[::30])  # no faster than the counter's own steps
    beside = estimate(
        counter, replace(rarely, channel=replace(power.channel, sampling_period_ns=None)), between(5.0, 25.0)
    )
    assert isinstance(beside, Energy)
    assert not beside.flags


def test_two_renewals_tell_how_much() -> None:
    counter, power = plug(60.0, 90.0, 20.0, 1_000.0)
    off = replace(power, count=power.count * 0.9)
    energy = estimate(counter, off, between(20.0, 80.0))
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(60.0 * POWER_W, rel=0.01)
