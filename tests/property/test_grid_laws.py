"""What must hold of hours whatever the windows and intensities are (method.md, eqs. 110 to 112)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.factors.mix import by_source
from stillwatt.grids.mixing import Fuel, mixed_hours
from stillwatt.grids.source import Reading, Span, binned
from stillwatt.impact.hourly import apply_hours, grams, shares_by_hour, without
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.grid import HOUR_NS, Hour, HourlySeries, NoHour, Signal, Worked

DAY_NS = 24 * HOUR_NS
SPAN = Span(start_utc_ns=0, end_utc_ns=DAY_NS)
INTENSITY = st.floats(0.0, 1_500.0)


def series(values: Mapping[int, float]) -> HourlySeries:
    return HourlySeries(
        source="made up",
        zone="XX",
        signal=Signal.AVERAGE,
        boundary="life-cycle",
        licence="none",
        source_url="https://example.org",
        hours=tuple(Hour(start_utc_ns=at * HOUR_NS, value_g_per_kwh=value) for at, value in values.items()),
        missing=tuple(NoHour(start_utc_ns=at * HOUR_NS, reason="gone") for at in range(24) if at not in values),
        answers=(),
    )


@st.composite
def worked(draw: st.DrawFn) -> Worked:
    start = draw(st.integers(0, DAY_NS - 1))
    end = draw(st.integers(start, DAY_NS))
    energy_j = draw(st.just(0.0) | st.floats(1e-6, 1e9))
    total = Total(
        value_j=energy_j, low_j=energy_j, high_j=energy_j, basis=Basis.MEASURED, complete=True, boundary=Boundary.NODE
    )
    return Worked(name=f"stage {start}", windows=((start, end),), energy=total)


SERIES = st.dictionaries(st.integers(0, 23), INTENSITY, max_size=24).map(series)
WHOLE_SERIES = st.lists(INTENSITY, min_size=24, max_size=24).map(lambda values: series(dict(enumerate(values))))
STAGES = st.lists(worked(), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.integers(0, DAY_NS), st.integers(0, DAY_NS)).map(sorted).map(tuple), min_size=1))
def test_shares_are_all_of_the_energy(windows: list[tuple[int, int]]) -> None:
    assert math.fsum(shares_by_hour(windows).values()) == pytest.approx(1.0)


@given(worked(), st.lists(st.tuples(st.integers(0, DAY_NS), st.integers(0, DAY_NS)).map(sorted).map(tuple)))
def test_taking_windows_out_leaves_the_rest(stage: Worked, holes: list[tuple[int, int]]) -> None:
    ((start, end),) = stage.windows
    left = without(stage.windows, holes)
    marks = sorted({start, end, *(mark for hole in holes for mark in hole)})
    kept = sum(
        b - a
        for a, b in itertools.pairwise(marks)
        if start <= a and b <= end and not any(low <= a and b <= high for low, high in holes)
    )
    assert sum(b - a for a, b in left) == kept


@given(STAGES, WHOLE_SERIES)
def test_energy_is_conserved_and_means_lie_among_the_hours(stages: list[Worked], of: HourlySeries) -> None:
    *rows, whole = apply_hours(stages, of)
    total_j = math.fsum(stage.energy.value_j for stage in stages if isinstance(stage.energy, Total))
    assert whole.energy_j == pytest.approx(total_j)
    assert whole.known_j == pytest.approx(total_j)
    for row in rows:
        assert row.mean_g_per_kwh is not None
        assert row.low_g_per_kwh is not None
        assert row.high_g_per_kwh is not None
        assert row.low_g_per_kwh * (1 - 1e-9) <= row.mean_g_per_kwh <= row.high_g_per_kwh * (1 + 1e-9)
    if total_j:
        assert grams(whole) == pytest.approx(math.fsum(grams(row) or 0.0 for row in rows), abs=1e-9)


@given(STAGES, SERIES)
def test_missing_hours_are_named_and_their_energy_is_in_no_mean(stages: list[Worked], of: HourlySeries) -> None:
    known = {hour.start_utc_ns for hour in of.hours}
    for stage, row in zip(stages, apply_hours(stages, of), strict=False):
        shares = shares_by_hour(stage.windows)
        assert {gone.start_utc_ns for gone in row.missing} == set(shares) - known
        assert isinstance(stage.energy, Total)
        of_known = math.fsum(share for at, share in shares.items() if at in known)
        assert row.known_j == pytest.approx(stage.energy.value_j * of_known)


@given(STAGES, WHOLE_SERIES, st.floats(0.1, 10.0))
def test_emissions_are_linear_in_the_intensities(stages: list[Worked], of: HourlySeries, scale: float) -> None:
    scaled = series({hour.start_utc_ns // HOUR_NS: hour.value_g_per_kwh * scale for hour in of.hours})
    before, after = apply_hours(stages, of)[-1], apply_hours(stages, scaled)[-1]
    if before.mean_g_per_kwh is not None:
        assert after.mean_g_per_kwh == pytest.approx(before.mean_g_per_kwh * scale)


@given(STAGES, WHOLE_SERIES, st.randoms())
def test_the_order_of_stages_changes_nothing(stages: list[Worked], of: HourlySeries, chance: object) -> None:
    shuffled = sorted(stages, key=lambda stage: stage.windows, reverse=True)
    assert apply_hours(shuffled, of)[-1].mean_g_per_kwh == pytest.approx(apply_hours(stages, of)[-1].mean_g_per_kwh)


@given(STAGES, WHOLE_SERIES)
def test_an_unknown_energy_leaves_the_whole_unknown(stages: list[Worked], of: HourlySeries) -> None:
    lost = Worked(name="lost", windows=((0, HOUR_NS),), energy=NoTotal(reason="no meter"))
    *_, row, whole = apply_hours([*stages, lost], of)
    assert row.mean_g_per_kwh is None
    assert whole.mean_g_per_kwh is None
    assert "lost" in whole.reason


@given(st.lists(INTENSITY, min_size=12, max_size=12), st.sets(st.integers(0, 11)))
def test_an_hour_is_the_mean_of_its_steps_or_nothing(values: list[float], gone: set[int]) -> None:
    step_ns = HOUR_NS // 12
    readings = [
        Reading(start_utc_ns=number * step_ns, length_ns=step_ns, value=value)
        for number, value in enumerate(values)
        if number not in gone
    ]
    hours, missing = binned(readings, Span(start_utc_ns=0, end_utc_ns=HOUR_NS))
    if gone:
        assert not hours
        assert len(missing) == 1
    else:
        assert hours[0].value_g_per_kwh == pytest.approx(math.fsum(values) / 12)


@given(st.dictionaries(st.sampled_from(sorted(by_source("grid_gwp_by_source"))), st.floats(1.0, 1e5), min_size=1))
def test_a_mix_lies_among_its_sources(powers: dict[str, float]) -> None:
    factors = by_source("grid_gwp_by_source")
    fuels = [
        Fuel(kind=name, source=name, start_utc_ns=0, length_ns=HOUR_NS, power_mw=power)
        for name, power in powers.items()
    ]
    (hour,), _ = mixed_hours(fuels, factors, Span(start_utc_ns=0, end_utc_ns=HOUR_NS))
    grams_by_source = [factors[name].value * 1_000 for name in powers]
    assert min(grams_by_source) * (1 - 1e-9) <= hour.value_g_per_kwh <= max(grams_by_source) * (1 + 1e-9)
