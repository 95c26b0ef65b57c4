"""Stages are held against the rules, and what they lack is said with its figure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.verdict import Outcome, PartReadings, verdict
from stillwatt.records import Basis, Boundary, NoTotal, Total


def total(value_j: float = 1000.0, half_j: float = 20.0, absent: tuple[str, ...] = ()) -> Total:
    return Total(
        value_j=value_j, low_j=value_j - half_j, high_j=value_j + half_j, basis=Basis.MEASURED,
        share_by_basis=((Basis.MEASURED, 1.0),), complete=not absent, absent=absent, boundary=Boundary.COMPONENTS,
    )  # fmt: skip


def part(name: str = "gpu0", readings: int = 1000, period_s: float = 0.1, coverage: float = 1.0) -> PartReadings:
    return PartReadings(part=name, readings=readings, period_s=period_s, coverage=coverage)


def test_a_stage_that_was_read_often_for_long_meets_them() -> None:
    found = verdict(100.0, total(), [part(), part("cpu0", coverage=0.97)])
    assert found.outcome is Outcome.MEETS
    assert found.reasons == ()
    assert (found.readings, found.coverage) == (1000, 0.97)
    assert found.half_rel == pytest.approx(0.02)
    assert found.rate_per_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("length_s", "gross", "parts", "reason"),
    [
        (20.0, total(), part(readings=20, period_s=1.0), "gpu0: 20 readings; 60 are needed"),
        (600.0, total(), part(readings=120, period_s=5.0), "gpu0: 0.2 readings a second; 1 is needed"),
        (600.0, total(), part(readings=6000, period_s=5.0), "gpu0: 0.2 readings a second; 1 is needed"),
        (100.0, total(), part(coverage=0.9), "gpu0: 90.0% covered by readings; 95% is needed"),
        (100.0, total(half_j=80.0), part(), "the interval is ±8% of the energy; 5% is the most"),
        (100.0, total(), part(readings=0, period_s=0.0, coverage=0.0), "gpu0: no readings in it"),
        (100.0, total(absent=("dram0",)), part(), "without dram0"),
        (100.0, total(value_j=-3.0), part(), "-3 J is no energy to set an interval against"),
    ],
)
def test_what_falls_short_is_said_with_its_figure(
    length_s: float, gross: Total, parts: PartReadings, reason: str
) -> None:
    found = verdict(length_s, gross, [part("cpu0"), parts] if length_s < 101 and parts.period_s < 1 else [parts])
    assert found.outcome is Outcome.FALLS_SHORT
    assert reason in found.reasons


def test_a_stage_inside_one_step_of_the_instrument_is_shorter_than_it_resolves() -> None:
    found = verdict(0.15, total(), [part(readings=1)])
    assert found.outcome is Outcome.TOO_SHORT
    assert found.reasons == ("gpu0 gives a new value every 0.1 s, and the stage lasts 0.15 s",)
    assert verdict(0.0, total(), [part(readings=0)]).rate_per_s is None


def test_without_energy_or_readings_nothing_is_known() -> None:
    assert verdict(10.0, NoTotal(reason="nothing"), [part()]).reasons == ("nothing",)
    assert verdict(10.0, total(), []).reasons == ("its readings are not here",)
    found = verdict(10.0, total(), [])
    assert found.outcome is Outcome.NOT_KNOWN
    assert {found.readings, found.rate_per_s, found.coverage, found.half_rel} == {None}


def test_its_dictionary_tells_all_of_it() -> None:
    found = verdict(20.0, total(), [part(readings=20, period_s=1.0)])
    assert found.to_dict() == {
        "outcome": "falls short",
        "readings": 20,
        "rate_per_s": 1.0,
        "coverage": 1.0,
        "half_rel": pytest.approx(0.02),
        "reasons": ["gpu0: 20 readings; 60 are needed"],
    }


def test_an_instrument_without_a_period_counts_all_its_readings() -> None:
    assert verdict(100.0, total(), [part(readings=200, period_s=0.0)]).readings == 200


@given(
    length_s=st.floats(0.001, 1e6),
    half_j=st.floats(0.0, 500.0),
    readings=st.integers(0, 10**7),
    period_s=st.floats(0.001, 100.0),
    coverage=st.floats(0.0, 1.0),
)
def test_whoever_meets_them_meets_each_one(
    length_s: float, half_j: float, readings: int, period_s: float, coverage: float
) -> None:
    found = verdict(length_s, total(half_j=half_j), [part(readings=readings, period_s=period_s, coverage=coverage)])
    meets = (
        readings >= 60
        and length_s // period_s >= 60
        and min(readings, int(length_s / period_s)) + 1 >= length_s
        and coverage >= 0.95
        and half_j <= 50.0
    )
    assert (found.outcome is Outcome.MEETS) == meets
    assert bool(found.reasons) == (found.outcome is not Outcome.MEETS)
