"""One idle power from rests before, between and after the work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.idle import Baseline, When, baseline
from stillwatt.metering.rest import Rest
from stillwatt.records import Absent, Basis, Boundary, Energy

GONE = Absent(part="gpu0", boundary=Boundary.BOARD, reason="gone")


def rest(power_w: float, random_w: float = 0.5, used_s: float = 10.0, **changes: Any) -> Rest:
    energy = Energy(
        part="gpu0", device="x", boundary=Boundary.BOARD, value_j=power_w * used_s, random_j=random_w * used_s,
        systematic_low_j=0.05 * power_w * used_s, systematic_high_j=0.1 * power_w * used_s, basis=Basis.MEASURED,
        method="counter", coverage=1.0, failed_reads=0, estimated_j=0.0, missing_s=0.0, driver="nvml", source="",
    )  # fmt: skip
    return Rest(energy=energy, used_s=used_s, **changes)


def known(found: Baseline) -> IdlePower:
    assert isinstance(found.power, IdlePower)
    return found.power


def test_rests_that_agree_are_pooled_over_their_seconds() -> None:
    found = baseline("gpu0", {When.BEFORE: [rest(60.0, used_s=30.0)], When.AFTER: [rest(60.8, used_s=10.0)]})
    assert found.agrees
    assert known(found).value_w == pytest.approx(60.2)
    assert found.drift_w == pytest.approx(0.8)
    assert found.drift_random_w == pytest.approx(0.5 * 2**0.5)
    assert known(found).systematic_high_w == pytest.approx(6.02)
    assert found.notes == ()
    assert [each.when for each in found.rests] == [When.BEFORE, When.AFTER]


def test_a_constant_agrees_with_itself_whatever_its_rounding() -> None:
    found = baseline("gpu0", {When.BEFORE: [rest(0.3, 0.0)], When.AFTER: [rest(0.1 + 0.2, 0.0)]})
    assert found.drift_w != 0.0
    assert found.agrees


def test_rests_that_disagree_are_both_told_and_both_covered() -> None:
    found = baseline("gpu0", {When.AFTER: [rest(80.0, 1.0)], When.BEFORE: [rest(60.0, 0.5)]})
    assert not found.agrees
    power = known(found)
    assert (power.value_w, power.random_w) == pytest.approx((70.0, 11.0))
    assert (power.systematic_low_w, power.systematic_high_w) == pytest.approx((3.5, 7.0))
    (note,) = found.notes
    assert note.startswith("gpu0: idle power differs: 60 ± 0.5 W before the work; 80 ± 1 W after the work (")
    assert "70 ± 11 W, which covers all of them" in note


@given(st.lists(st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 20.0)), min_size=1, max_size=3))
def test_the_interval_reaches_over_every_rest_that_disagrees(powers: list[tuple[float, float]]) -> None:
    rests = {when: [rest(power_w, random_w)] for when, (power_w, random_w) in zip(When, powers, strict=False)}
    found = baseline("gpu0", rests)
    power = known(found)
    if not found.agrees:
        for power_w, random_w in powers:
            assert power.value_w - power.random_w <= power_w + random_w + 1e-9
            assert power.value_w + power.random_w >= power_w - random_w - 1e-9
    values = [power_w for power_w, _ in powers]
    assert min(values) - 1e-9 <= power.value_w <= max(values) + 1e-9


def test_what_widens_a_rest_widens_the_power_by_its_seconds() -> None:
    found = baseline("gpu0", {When.BEFORE: [rest(60.0), rest(60.0, used_s=30.0, widened_w=4.0)]})
    assert known(found).random_w == pytest.approx((0.5**2 * 10**2 + 0.5**2 * 30**2) ** 0.5 / 40 + 3.0)


def test_seconds_without_the_part_do_not_thin_out_what_widens_the_others() -> None:
    found = baseline("gpu0", {When.BEFORE: [rest(60.0, widened_w=4.0), Rest(energy=GONE, used_s=600.0)]})
    assert known(found).random_w == pytest.approx(4.5)


def test_problems_of_a_rest_are_notes_and_spreads_are_kept() -> None:
    found = baseline(
        "gpu0",
        {When.BETWEEN: [rest(60.0, blocks_w=(59.0, 61.0), pieces=10, clean=8, problems=("contaminated: x",))]},
        name="standing",
    )
    assert found.notes == ("gpu0: standing power between the work contaminated: x",)
    (only,) = found.rests
    assert (only.pieces, only.clean, only.length_s) == (10, 8, 10.0)
    assert only.spread_w == pytest.approx(2**0.5)
    assert (found.drift_w, found.drift_random_w) == (None, None)


def test_a_rest_without_energy_leaves_the_others() -> None:
    found = baseline("gpu0", {When.BEFORE: [Rest(energy=GONE, used_s=10.0)], When.AFTER: [rest(60.0)]})
    assert known(found).value_w == pytest.approx(60.0)
    assert found.drift_w is None
    assert found.rests[0].power == GONE


def test_no_rest_with_energy_gives_no_power_and_the_reason() -> None:
    found = baseline("gpu0", {When.BEFORE: [Rest(energy=GONE, used_s=10.0)]})
    assert found.power == GONE
    assert found.notes == ()
