"""Frontiers by boundary and by impact (method.md, eq. 60)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observations import observation
from stillwatt.analysis.compare import compare
from stillwatt.analysis.sheet import make_sheet
from stillwatt.analysis.trainings import gather_labels
from stillwatt.analysis.views import FACILITY, _scaled, _scaled_sheet, factor_reader
from stillwatt.records.comparison import CardEnergy, Comparison, Observation, Site, View
from stillwatt.units import J_PER_KWH

KWH = float(J_PER_KWH)


def row(label: str, quality: float, teacher_kwh: float, student_kwh: float, **changes: Any) -> Observation:
    return observation(
        label,
        quality=quality,
        teacher_j=teacher_kwh * KWH,
        student_j=student_kwh * KWH,
        own_j=student_kwh * KWH,
        **changes,
    )


def compared(*rows: Observation, boundary: str = "node") -> Comparison:
    return compare(rows, source="made up", boundary=boundary)


def view(found: Comparison, name: str) -> View:
    return next(entry for entry in found.views if entry.name == name)


def on(found: View, allocation: str = "one-off") -> list[str]:
    front = next(front for front in found.fronts if front.allocation == allocation)
    return [point.label for point in front.points if point.is_on_frontier]


def amounts(found: View, allocation: str = "one-off") -> list[float]:
    front = next(front for front in found.fronts if front.allocation == allocation)
    return [point.amount for point in front.points]


def said(found: Comparison, words: str) -> list[str]:
    return [warning for warning in found.warnings if words in warning]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=8),
    st.floats(0.01, 2.0),
    st.floats(1.0, 2.0),
)
def test_one_factor_for_all_leaves_every_frontier_as_it_is(
    points: list[tuple[int, int, int]], factor: float, pue: float
) -> None:
    site = Site(pue=pue, kgco2e_per_kwh=factor, water_l_per_kwh=2.0, price_per_kwh=0.1)
    found = compared(
        *(
            row(f"sft-{i}", quality, teacher, student, site=site, teacher_site=site)
            for i, (teacher, student, quality) in enumerate(points)
        )
    )
    assert [entry.name for entry in found.views] == ["facility", "kgco2e", "water_l", "price"]
    for entry in found.views:
        for front, other in zip(found.fronts, entry.fronts, strict=True):
            assert list(front.labels) == on(entry, front.allocation)
            for point, seen in zip(front.placed, other.points, strict=True):
                times = {"facility": pue, "kgco2e": pue * factor, "water_l": pue * 2.0, "price": pue * 0.1}[entry.name]
                assert seen.amount == pytest.approx(point.energy_j / KWH * times)
    assert said(found, "kgco2e, water_l and price are the energy times one factor for all rows")


def test_a_teacher_on_a_cleaner_grid_turns_the_frontier() -> None:
    """By energy the baseline beats the distilled student; by carbon it is beaten."""
    dirty, clean = Site(kgco2e_per_kwh=0.5), Site(kgco2e_per_kwh=0.01)
    found = compared(
        row("sft-1b", 0.7, 0.0, 7.0, site=dirty, teacher_site=dirty),
        row("kd-1b", 0.7, 11.0, 6.0, site=dirty, teacher_site=clean),
    )
    assert found.fronts[0].labels == ("sft-1b",)
    carbon = view(found, "kgco2e")
    assert on(carbon) == ["kd-1b"]
    assert amounts(carbon) == pytest.approx([3.5, 3.0 + 0.11])
    assert (carbon.unit, carbon.is_boundary) == ("kgCO2e", False)
    assert not said(found, "one factor")
    assert said(found, "no power usage effectiveness is known")


def test_cooling_of_two_sites_is_each_on_its_own_work() -> None:
    found = compared(
        row("kd-1b", 0.7, 10.0, 5.0, site=Site(pue=1.1), teacher_site=Site(pue=1.5)), row("sft-1b", 0.7, 0.0, 7.0)
    )
    facility = view(found, "facility")
    assert amounts(facility) == pytest.approx([15.0 + 5.5])
    assert facility.fronts[0].left_out == (("sft-1b", "the energy beside the teacher's is unknown"),)
    assert said(found, "in no frontier of facility: sft-1b, because the power usage effectiveness is unknown")


def test_gpus_alone_are_a_boundary_of_their_own() -> None:
    cards = CardEnergy(teacher_j=8.0 * KWH, student_j=3.0 * KWH, own_j=4.0 * KWH)
    found = compared(row("kd-1b", 0.7, 10.0, 5.0, cards=cards), row("sft-1b", 0.7, 0.0, 7.0))
    gpu = view(found, "gpu")
    assert amounts(gpu) == pytest.approx([12.0])
    assert amounts(gpu, "marginal") == pytest.approx([4.0])
    assert said(found, "in no frontier of gpu: sft-1b, because the boards' own energy is unknown")


def test_no_view_is_made_of_what_the_energies_already_are() -> None:
    cards = CardEnergy(teacher_j=KWH, student_j=KWH, own_j=KWH)
    site = Site(pue=1.5, price_per_kwh=0.2)
    known = {"cards": cards, "site": site, "teacher_site": site}
    by_gpu = compared(row("kd-1b", 0.7, 10.0, 5.0, **known), boundary="gpu")
    assert [entry.name for entry in by_gpu.views] == ["price"]
    whole = compared(row("kd-1b", 0.7, 10.0, 5.0, **known), boundary="facility")
    assert [entry.name for entry in whole.views] == ["gpu", "price"]
    assert amounts(view(whole, "price")) == pytest.approx([3.0])
    assert not said(whole, "no power usage")


def test_an_impact_unknown_for_a_row_leaves_that_row_out_of_it_alone() -> None:
    known = Site(water_l_per_kwh=2.0)
    found = compared(
        row("sft-1b", 0.7, 0.0, 7.0, site=known, teacher_site=known),
        row("kd-1b", 0.8, 10.0, 5.0, site=known),
        row("kd-7b", 0.8, 10.0, 5.0),
    )
    water = view(found, "water_l")
    assert on(water) == ["sft-1b"]
    # without its share of the teacher the label has a place
    assert on(water, "marginal") == ["kd-1b"]
    assert said(found, "in no frontier of water_l: kd-1b and kd-7b, because what a kWh costs in l is unknown")


def test_the_meters_error_is_scaled_with_its_energy() -> None:
    site = Site(kgco2e_per_kwh=0.5)
    found = compared(
        row("sft-1b", 0.70, 0.0, 7.0, quality_se=0.001, half_widths={"own_j": 5.0 * KWH}, site=site, teacher_site=site),
        row("sft-2b", 0.69, 0.0, 6.5, quality_se=0.001, half_widths={"own_j": 5.0 * KWH}, site=site, teacher_site=site),
    )
    by_energy = [point.probability for point in found.fronts[0].placed]
    by_carbon = [point.probability for point in view(found, "kgco2e").fronts[0].points]
    assert by_carbon == pytest.approx(by_energy)
    assert 0.3 < (by_carbon[1] or 0.0) < 0.9


def test_a_views_columns_are_its_rows_scaled_one_by_one() -> None:
    """The same amounts, half-widths and reasons as rows that were changed one at a time would give."""
    site, elsewhere = Site(pue=1.2, kgco2e_per_kwh=0.3), Site(pue=1.1)
    rows = [
        row("sft", 0.7, 0.0, 6.3, site=site, teacher_site=elsewhere, half_widths={"own_j": 0.1 * KWH}),
        row("kd", 0.8, 11.0, 5.2, site=site, teacher_site=site, half_widths={"teacher_j": 0.2 * KWH, "own_j": KWH}),
        row("dark", 0.9, 11.0, 5.2, site=site, teacher_site=elsewhere),
        row("bare", 0.9, 11.0, 5.2, site=Site()),
        replace(row("untold", 0.9, 11.0, 5.2, site=site, teacher_site=site), teacher_j=None),
    ]
    sheet = make_sheet(gather_labels(rows))
    for name in ("kgco2e", FACILITY):
        read = (lambda own: own.pue) if name == FACILITY else factor_reader(name)
        pue = 1.0 if name == FACILITY else None
        factors = [
            tuple(None if (f := read(one)) is None else f * (pue or one.pue or 1.0) for one in (r.teacher_site, r.site))
            for r in rows
        ]
        changed = make_sheet(gather_labels([_scaled(r, *own) for r, own in zip(rows, factors, strict=True)]))
        found = _scaled_sheet(sheet, *np.array(factors, dtype=float).T)
        for key in ("teacher_j", "own_j"):
            assert np.array_equal(found.columns[key], changed.columns[key], equal_nan=True)
            assert np.array_equal(found.half_widths[key], changed.half_widths[key])
    left = dict(view(compared(*rows), "kgco2e").fronts[0].left_out)
    assert left == {
        "dark": "the teacher's energy is unknown",
        "bare": "the energy beside the teacher's and the teacher's energy are unknown",
        "untold": "the teacher's energy is unknown",
    }
