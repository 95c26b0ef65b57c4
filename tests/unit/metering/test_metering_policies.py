"""Gross, net and marginal: nothing is lost between a policy's energy and its baseline."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.baseline import IdlePower, net
from stillwatt.metering.policies import Drawn, Split, nothing_off, split
from stillwatt.metering.totals import combine
from stillwatt.records import Absent, Basis, Boundary, Energy, NoTotal, Total

GONE = Absent(part="gpu0", boundary=Boundary.BOARD, reason="gone")


def energy(value_j: float, part: str = "gpu0", **changes: Any) -> Energy:
    fields: dict[str, Any] = {
        "part": part, "device": "x", "boundary": Boundary.BOARD, "value_j": value_j, "random_j": 3.0,
        "systematic_low_j": 0.05 * abs(value_j), "systematic_high_j": 0.1 * abs(value_j), "basis": Basis.MEASURED,
        "method": "counter", "coverage": 1.0, "failed_reads": 0, "estimated_j": 0.0, "missing_s": 0.0,
        "driver": "nvml", "source": "",
    }  # fmt: skip
    return Energy(**(fields | changes))


def power(value_w: float, random_w: float = 0.4, **changes: Any) -> IdlePower:
    fields: dict[str, Any] = {
        "part": "gpu0", "value_w": value_w, "random_w": random_w, "systematic_low_w": 0.05 * value_w,
        "systematic_high_w": 0.1 * value_w, "basis": Basis.MEASURED, "driver": "nvml",
    }  # fmt: skip
    return IdlePower(**(fields | changes))


def drawn(gross: Energy | Absent, value_w: float, length_s: float, random_w: float = 0.4) -> Drawn:
    return Drawn(energy=gross, power=power(value_w, random_w), length_s=length_s)


def both(found: Split) -> tuple[Total, Total]:
    assert isinstance(found.energy, Total)
    assert isinstance(found.baseline, Total)
    return found.energy, found.baseline


@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(0.0, 500.0), st.floats(0.0, 1e4)), min_size=1, max_size=5),
    st.floats(0.0, 100.0),
)
def test_a_policys_energy_and_its_baseline_are_the_gross_energy(
    parts: list[tuple[float, float, float]], missing_s: float
) -> None:
    gross = [energy(value_j, f"gpu{n}", missing_s=missing_s) for n, (value_j, _, _) in enumerate(parts)]
    above, below = both(
        split([drawn(each, value_w, length_s) for each, (_, value_w, length_s) in zip(gross, parts, strict=True)])
    )
    total = combine(gross)
    assert isinstance(total, Total)
    assert math.isclose(above.value_j + below.value_j, total.value_j, rel_tol=1e-12, abs_tol=1e-6)
    assert below.value_j >= 0.0


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e4))
def test_an_idle_power_of_0_takes_nothing_off(value_j: float, length_s: float) -> None:
    above, below = both(split([drawn(energy(value_j), 0.0, length_s, 0.0)]))
    assert above == combine([energy(value_j, is_net=True)])
    assert below.value_j == 0.0


@given(st.floats(0.0, 1e6), st.floats(0.0, 500.0), st.floats(0.0, 1e4))
def test_a_split_of_one_stage_is_eq_13(value_j: float, value_w: float, length_s: float) -> None:
    gross, powers = [energy(value_j)], {"gpu0": power(value_w)}
    assert split([drawn(gross[0], value_w, length_s)]).energy == net(gross, powers, {"gpu0": length_s})


def test_the_gain_acts_on_the_difference_and_on_the_baseline_alike() -> None:
    above, below = both(split([drawn(energy(1000.0, random_j=0.0), 50.0, 10.0, 0.0)]))
    assert (above.value_j, above.low_j, above.high_j) == pytest.approx((500.0, 475.0, 550.0))
    assert (below.value_j, below.low_j, below.high_j) == pytest.approx((500.0, 475.0, 550.0))


def test_gross_takes_off_nothing_at_all() -> None:
    gross = [energy(1000.0)]
    above, below = both(nothing_off(gross))
    assert above == combine(gross)
    assert (below.value_j, below.low_j, below.high_j) == (0.0, 0.0, 0.0)
    found = nothing_off([GONE])
    assert found.energy == found.baseline == NoTotal(reason="gpu0: gone")


def test_absent_parts_stay_absent() -> None:
    gone = Absent(part="cpu0", boundary=Boundary.CHIP, reason="gone")
    found = split([drawn(energy(1000.0), 50.0, 10.0), Drawn(energy=gone, power=None, length_s=10.0)])
    assert both(found)[0].absent == both(found)[1].absent == ("cpu0",)


def test_a_part_without_a_baseline_power_has_no_net_and_is_named() -> None:
    one = energy(1.0)
    assert split([Drawn(energy=one, power=None, length_s=1.0)]).energy == NoTotal(reason="no baseline power for gpu0")
    found = split([Drawn(energy=one, power=GONE, length_s=1.0)])
    assert found.baseline == found.energy == NoTotal(reason="no baseline power for gpu0 (gone)")


def test_each_device_of_one_name_is_net_of_its_own_power() -> None:
    """Cards of two nodes, both called gpu0: 1000 J above 50 W and 3000 J above 90 W, ten seconds each."""
    above, below = both(split([drawn(energy(1000.0), 50.0, 10.0), drawn(energy(3000.0, device="y"), 90.0, 10.0)]))
    assert (above.value_j, below.value_j) == pytest.approx((500.0 + 2100.0, 500.0 + 900.0))
