"""Sums of stage energies: cancellation, quadrature, missing parts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_records import energy, stage
from stillwatt.analysis.bills import add, price
from stillwatt.records import Absent, Basis, Boundary, Energy, NoTotal, StageKind
from stillwatt.records.finding import Bill

joules = st.floats(min_value=0.0, max_value=1e9)
weights = st.floats(min_value=-10.0, max_value=10.0)


def one_part(stage_id: str, value_j: float, random_j: float = 0.0, gain: float = 0.0, driver: str = "rapl") -> Energy:
    return energy(value_j, random_j=random_j, gain=gain, driver=driver, basis=Basis.MEASURED)


def book(**parts: Energy | Absent) -> dict[str, object]:
    return {key: stage(key, key, StageKind.OTHER, energies=[part]) for key, part in parts.items()}


def priced(stages: dict[str, object], combination: dict[str, float]) -> Bill:
    found = price(stages, combination)  # type: ignore[arg-type]
    assert isinstance(found, Bill)
    return found


@given(joules, joules, weights, weights)
def test_a_bill_is_linear_in_its_weights(first: float, second: float, a: float, b: float) -> None:
    stages = book(a1=one_part("a1", first), a2=one_part("a2", second))
    both = priced(stages, {"a1": a, "a2": b})
    assert math.isclose(both.value_j, a * first + b * second, rel_tol=1e-9, abs_tol=1e-6)


@given(joules, joules, joules)
def test_a_stage_that_two_bills_share_cancels_in_their_difference(first: float, second: float, shared: float) -> None:
    stages = book(
        a1=one_part("a1", first, first / 10), a2=one_part("a2", second, second / 10), a3=one_part("a3", shared, shared)
    )
    left, right = {"a1": 1.0, "a3": 1.0}, {"a2": 1.0, "a3": 1.0}
    difference = priced(stages, add(left, add(right, factor=-1.0)))
    assert difference.value_j == pytest.approx(first - second, rel=1e-9, abs=1e-6)
    assert difference.random_j == pytest.approx(math.hypot(first / 10, second / 10), rel=1e-9)


@given(joules, st.integers(min_value=1, max_value=20))
def test_repeats_shrink_the_random_part_and_never_the_systematic_one(value_j: float, repeats: int) -> None:
    stages = book(**{f"a{i}": one_part(f"a{i}", value_j, 0.1 * value_j, gain=0.2) for i in range(repeats)})
    mean = priced(stages, {key: 1.0 / repeats for key in stages})
    assert mean.random_j == pytest.approx(0.1 * value_j / math.sqrt(repeats), rel=1e-9)
    assert mean.systematic_high_j == pytest.approx(0.2 * value_j, rel=1e-9)


def test_gains_of_different_drivers_move_apart() -> None:
    parts = [
        energy(100.0, "gpu0", random_j=0.0, gain=0.03, driver="nvml", boundary=Boundary.BOARD),
        energy(100.0, "cpu0", random_j=0.0, gain=0.04, driver="rapl"),
    ]
    bill = price({"a1": stage("a1", "train", StageKind.OTHER, energies=parts)}, {"a1": 1.0})
    assert isinstance(bill, Bill)
    assert bill.systematic_high_j == pytest.approx(5.0)
    assert bill.drivers == ("nvml", "rapl")
    assert bill.low_j == pytest.approx(195.0)
    assert bill.high_j == pytest.approx(205.0)


def test_the_gain_of_one_driver_cancels_in_a_difference_of_equal_energies() -> None:
    stages = book(a1=one_part("a1", 50.0, gain=0.4), a2=one_part("a2", 50.0, gain=0.4))
    assert priced(stages, {"a1": 1.0, "a2": -1.0}).systematic_high_j == 0.0


def test_an_uneven_gain_turns_round_in_a_negative_term() -> None:
    lopsided = energy(100.0, random_j=0.0, systematic_low_j=10.0, systematic_high_j=30.0)
    bill = priced(book(a1=lopsided), {"a1": -1.0})
    assert (bill.systematic_low_j, bill.systematic_high_j) == (30.0, 10.0)


@given(joules, joules, joules, joules)
def test_what_a_stage_draws_beside_its_stages_is_no_less_than_nothing(
    own: float, inner: float, random_j: float, inner_random_j: float
) -> None:
    stages = book(a1=one_part("a1", own + inner, random_j), a2=one_part("a2", inner, inner_random_j))
    beside = priced(stages, {"a1": 1.0, "a2": -1.0})
    assert min(beside.value_j, 0.0) <= beside.low_j <= beside.value_j <= beside.high_j
    assert beside.low_j == min(beside.value_j, max(beside.value_j - beside.random_j, 0.0))
    # a stage's own energy is cut after the sum: what was cut off the parts is not missing in the half-width
    assert beside.random_j == pytest.approx(math.hypot(random_j, inner_random_j), rel=1e-9)


def test_an_absent_part_makes_a_bill_incomplete_and_is_named() -> None:
    gone = Absent(part="dram0", boundary=Boundary.CHIP, reason="not readable")
    bill = price({"a1": stage("a1", "train", StageKind.OTHER, energies=[energy(10.0), gone])}, {"a1": 1.0})
    assert isinstance(bill, Bill)
    assert not bill.complete
    assert bill.absent == ("dram0 in train: not readable",)


def test_missing_seconds_make_a_bill_incomplete() -> None:
    assert not priced(book(a1=energy(10.0, missing_s=1.0)), {"a1": 1.0}).complete


def test_a_stage_without_any_energy_has_no_bill_and_says_why() -> None:
    gone = Absent(part="cpu0", boundary=Boundary.CHIP, reason="sampler lost")
    assert price(book(a1=gone), {"a1": 1.0}) == NoTotal(reason="a1 has no energy (cpu0: sampler lost)")  # type: ignore[arg-type]
    empty = {"a1": stage("a1", "train", StageKind.OTHER)}
    assert price(empty, {"a1": 1.0}) == NoTotal(reason="train has no energy (every part is absent)")


def test_a_node_reading_is_not_added_to_the_parts_inside_it() -> None:
    parts = [energy(10.0), energy(50.0, "node", boundary=Boundary.NODE)]
    bill = price({"a1": stage("a1", "train", StageKind.OTHER, energies=parts)}, {"a1": 1.0})
    assert isinstance(bill, Bill)
    assert bill.value_j == 10.0
    only_node = {"a1": stage("a1", "train", StageKind.OTHER, energies=parts[1:])}
    assert price(only_node, {"a1": 1.0}) == NoTotal(reason="train has no energy (none of its parts was metered)")


def test_what_is_not_in_a_bill_cannot_spoil_it() -> None:
    stages = {"a1": stage("a1", "teacher", StageKind.OTHER), "a2": stage("a2", "train", StageKind.OTHER, joules=5.0)}
    assert priced(stages, {"a1": 0.0, "a2": 1.0}).value_j == pytest.approx(5.0)  # type: ignore[arg-type]


def test_no_work_is_a_bill_of_nothing_without_a_basis() -> None:
    nothing = priced({}, {})
    assert (nothing.value_j, nothing.basis, nothing.complete) == (0.0, None, True)


@pytest.mark.parametrize(("value_j", "random_j"), [(math.nan, 0.0), (math.inf, 0.0), (1.0, -1.0), (1.0, math.nan)])
def test_a_bill_refuses_what_is_no_energy(value_j: float, random_j: float) -> None:
    with pytest.raises(ValueError, match=r"joules|must be"):
        Bill(
            value_j=value_j,
            random_j=random_j,
            systematic_low_j=0.0,
            systematic_high_j=0.0,
            basis=None,
            complete=True,
        )
