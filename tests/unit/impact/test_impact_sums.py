"""What may be added, and draws of factors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from impact_studies import figure, site, use
from stillwatt.errors import UnlikeAmountsError
from stillwatt.impact.draws import draw_energy, draw_factor, interval
from stillwatt.impact.operational import Operational
from stillwatt.impact.sums import add_amounts, add_cells
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Total
from stillwatt.records.factor import Distribution, Water
from stillwatt.records.impact import Amount, Cell, Impact, LifeStage, Status

LITRES = Amount(impact=Impact.WATER_ONSITE, unit="L", value=3.0, boundary=Boundary.FACILITY, water=Water.CONSUMPTION)


def test_like_is_added_to_like() -> None:
    assert add_amounts([LITRES, replace(LITRES, value=4.0)]).value == 7.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"water": Water.WITHDRAWAL}, "water of unlike kinds: consumption and withdrawal"),
        ({"unit": "m3-world-eq", "water": Water.AWARE}, "unlike units: L and m3-world-eq"),
        ({"water": Water.AWARE}, "consumption and aware"),
        ({"boundary": Boundary.CHIP}, "unlike boundaries: facility and chip"),
        ({"impact": Impact.GWP_LOCATION}, "unlike kinds: water_onsite and gwp_location"),
        ({"water": None}, "consumption and no water"),
    ],
)
def test_unlike_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnlikeAmountsError, match=message):
        add_amounts([LITRES, replace(LITRES, **change)])


def test_nothing_has_no_sum() -> None:
    with pytest.raises(ValueError, match="no kind"):
        add_amounts([])


def test_a_sum_of_cells_names_what_it_lacks() -> None:
    account = Operational([use(), use(stage=LifeStage.DATA, absent=("gpu1",))], site(), draws=50)
    gwp = [cell for cell in account.cells() if cell.impact is Impact.GWP_LOCATION]
    total, missing = add_cells(gwp)
    assert total is not None
    assert total.value == pytest.approx(10.0)
    assert "data: r1: without gpu1" in missing
    assert any(part.startswith("deployment: nothing was served in these runs") for part in missing)
    assert add_cells([cell for cell in gwp if cell.status is Status.NOT_COUNTED])[0] is None


@pytest.mark.parametrize(
    "change",
    [
        {"status": Status.MEASURED},
        {"status": Status.NOT_COUNTED, "value": 0.0, "low": 0.0, "high": 0.0},
        {"reason": ""},
        {"status": Status.FACTOR, "value": 1.0},
        {"status": Status.FACTOR, "value": 1.0, "low": 2.0, "high": 3.0},
        {"status": Status.FACTOR, "value": float("nan"), "low": 2.0, "high": 3.0},
    ],
)
def test_a_cell_has_a_value_exactly_where_its_status_says_so(change: dict[str, Any]) -> None:
    cell = Cell(
        stage=LifeStage.DATA, impact=Impact.ADPE, unit="kgSbeq", status=Status.NOT_COUNTED, reason="not asked for"
    )
    with pytest.raises(ValueError, match="data/adpe"):
        replace(cell, **change)


@pytest.mark.parametrize("distribution", [d.value for d in Distribution if d is not Distribution.EXACT])
def test_draws_have_the_ends_that_the_factor_says(distribution: str) -> None:
    factor = figure("grid_gwp_location", 0.4, low=0.3, high=0.6, distribution=distribution)
    draws = draw_factor(factor, 200_000, 1)
    low, high = interval(draws, 0.4)
    if distribution in ("triangular", "uniform"):
        assert 0.3 <= draws.min() < 0.31 < 0.59 < draws.max() <= 0.6
    else:
        assert (low, high) == pytest.approx((0.3, 0.6), rel=0.01)
        assert float(np.median(draws)) == pytest.approx(0.4, rel=0.01)


def test_an_exact_factor_does_not_vary() -> None:
    assert set(draw_factor(figure("pue", 1.2, distribution="exact"), 10, 0)) == {1.2}


def test_draws_of_an_energy_whose_interval_was_cut_at_0_reach_as_far_below_as_above() -> None:
    uncut = Total(value_j=2.0, low_j=-1.0, high_j=5.0, basis=Basis.MEASURED, complete=True)
    cut = replace(uncut, low_j=0.0)
    draws = draw_energy(cut, "meter", 4000, 7)
    assert np.array_equal(draws, draw_energy(uncut, "meter", 4000, 7))
    assert draws.min() == 0.0
