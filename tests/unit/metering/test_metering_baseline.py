from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.baseline import NO_IDLE_STAGE, IdlePower, idle_power, net, net_energy
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Basis, Boundary, Energy, NoTotal, Total
from stillwatt.records.energy import STATED
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, power_channel


def energy(value_j: float, **changes: Any) -> Energy:
    fields: dict[str, Any] = {
        "part": "gpu0", "device": "x", "boundary": Boundary.BOARD, "value_j": value_j, "random_j": 3.0,
        "systematic_low_j": 0.05 * value_j, "systematic_high_j": 0.1 * value_j, "basis": Basis.MEASURED,
        "method": "counter", "coverage": 1.0, "failed_reads": 0, "estimated_j": 0.0, "missing_s": 0.0,
        "driver": "nvml", "source": "",
    }  # fmt: skip
    return Energy(**(fields | changes))


def idle(value_w: float = 50.0, **changes: Any) -> IdlePower:
    fields: dict[str, Any] = {
        "part": "gpu0", "value_w": value_w, "random_w": 0.4, "systematic_low_w": 0.05 * value_w,
        "systematic_high_w": 0.1 * value_w, "basis": Basis.MEASURED, "driver": "nvml",
    }  # fmt: skip
    return IdlePower(**(fields | changes))


GONE = Absent(part="gpu0", boundary=Boundary.BOARD, reason="gone")


def test_idle_power_is_energy_over_measured_seconds() -> None:
    power = idle_power(energy(500.0, missing_s=2.0), 12.0)
    assert isinstance(power, IdlePower)
    assert (power.value_w, power.random_w) == pytest.approx((50.0, 0.3))
    assert (power.systematic_low_w, power.systematic_high_w) == (2.5, 5.0)


def test_its_interval_joins_what_is_random_and_what_is_not() -> None:
    power = idle(100.0, random_w=12.0, systematic_low_w=5.0, systematic_high_w=9.0)
    assert (power.low_w, power.high_w) == pytest.approx((87.0, 115.0))


def test_the_spread_over_sub_windows_joins_in_quadrature() -> None:
    power = idle_power(energy(500.0), 10.0, [49.0, 51.0])
    assert isinstance(power, IdlePower)
    assert power.random_w == pytest.approx(math.hypot(0.3, 12.706 * 1.0))
    many = idle_power(energy(500.0, random_j=0.0), 10.0, [49.0, 51.0] * 10)
    assert isinstance(many, IdlePower)
    assert many.random_w == pytest.approx(2.131 * math.sqrt(20 / 19) / math.sqrt(20))
    one = idle_power(energy(500.0), 10.0, [70.0])
    assert isinstance(one, IdlePower)
    assert one.random_w == pytest.approx(0.3)


def test_no_idle_power_without_energy_or_time() -> None:
    assert idle_power(GONE, 10.0) is GONE
    nothing = idle_power(energy(0.0), 0.0)
    assert isinstance(nothing, Absent)
    assert nothing.reason == "the idle stage holds no measured time"


def test_the_same_instruments_gain_acts_on_the_difference() -> None:
    """5 % of 500 J, not 5 % of 1000 J and of 500 J side by side."""
    above = net_energy(energy(1000.0), idle(), 10.0)
    assert (above.value_j, above.random_j) == pytest.approx((500.0, 5.0))
    assert (above.systematic_low_j, above.systematic_high_j) == pytest.approx((25.0, 50.0))


def test_bounds_of_stated_energies_do_not_cancel() -> None:
    above = net_energy(energy(1000.0, method=STATED), idle(), 10.0)
    assert above.systematic_low_j == pytest.approx(math.hypot(50.0, 50.0))
    assert above.systematic_high_j == pytest.approx(math.hypot(100.0, 25.0))


def test_net_of_an_instrument_with_a_gain_lands_on_the_truth_within_it() -> None:
    """An instrument that reads 4 % low, with bounds of 5 %: the true net lies inside the interval."""
    t_ns = EPOCH_NS + np.arange(201) * 100 * NS_PER_MS
    true_w = np.where(np.arange(201) < 100, 50.0, 300.0)
    series = Series(power_channel(update_period_ns=1, gain_low_rel=0.05, gain_high_rel=0.05), t_ns, true_w * 0.96)
    spans = [WeightedWindow(EPOCH_NS + a * NS_PER_S, EPOCH_NS + b * NS_PER_S) for a, b in ((1, 9), (11, 19))]
    quiet, busy = (estimate(series, None, [span]) for span in spans)
    found = net([busy], {"gpu0": idle_power(quiet, 8.0)}, {"gpu0": 8.0})
    assert isinstance(found, Total)
    assert found.low_j <= 250.0 * 8 <= found.high_j
    assert found.value_j == pytest.approx(0.96 * 250.0 * 8)
    assert found.high_j - found.value_j == pytest.approx(0.05 * found.value_j)


def test_different_drivers_err_apart() -> None:
    above = net_energy(energy(1000.0), idle(driver="rapl"), 10.0)
    assert above.systematic_low_j == pytest.approx(math.hypot(50.0, 50.0))
    assert above.systematic_high_j == pytest.approx(math.hypot(100.0, 25.0))


def test_less_than_idle_is_negative_and_its_sides_change_places() -> None:
    below = net_energy(energy(400.0), idle(), 10.0)
    assert below.value_j == -100.0
    assert (below.systematic_low_j, below.systematic_high_j) == pytest.approx((10.0, 5.0))


def test_no_idle_energy_is_taken_off_for_missing_seconds() -> None:
    assert net_energy(energy(300.0, missing_s=5.0), idle(), 10.0).value_j == pytest.approx(50.0)
    assert net_energy(energy(300.0, missing_s=11.0), idle(), 10.0).value_j == pytest.approx(300.0)


def test_net_over_parts_is_a_total() -> None:
    found = net([energy(1000.0), replace(GONE, part="cpu0")], {"gpu0": idle()}, {"gpu0": 10.0, "cpu0": 10.0})
    assert isinstance(found, Total)
    assert (found.value_j, found.complete, found.absent) == (500.0, False, ("cpu0",))


def test_no_net_without_idle_power_and_the_reason_names_the_part() -> None:
    assert net([energy(1.0)], {}, {"gpu0": 10.0}) == NoTotal(reason=NO_IDLE_STAGE)
    other = {"gpu1": idle()}
    assert net([energy(1.0)], other, {"gpu0": 10.0}) == NoTotal(reason="no idle power for gpu0")
    assert net([energy(1.0)], {"gpu0": GONE}, {"gpu0": 10.0}) == NoTotal(reason="no idle power for gpu0 (gone)")
