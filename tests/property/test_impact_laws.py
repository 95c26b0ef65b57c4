"""Laws of impacts: linear in energy and factors, kept under splitting and reordering, intervals that nest."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_studies import FIGURES, catalog_of, figure, site, use
from stillwatt.factors.places import find_place
from stillwatt.impact.operational import OPERATIONAL, Operational
from stillwatt.impact.site import Site, site_at
from stillwatt.impact.tally import UNITS
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import VALUED, Impact, LifeStage, Use

kwhs = st.floats(0.01, 1e6)
boundaries = st.sampled_from([Boundary.BOARD, Boundary.COMPONENTS, Boundary.NODE])
stages = st.sampled_from(OPERATIONAL)
HERE = site()


def values(uses: list[Use], where: Site = HERE, draws: int = 50) -> dict[tuple[LifeStage, Impact], float]:
    cells = Operational(uses, where, draws=draws).cells()
    return {(cell.stage, cell.impact): cell.value for cell in cells if cell.value is not None}


@given(kwh=kwhs, times=st.floats(0.1, 10.0), boundary=boundaries)
def test_twice_the_energy_is_twice_the_impact(kwh: float, times: float, boundary: Boundary) -> None:
    one = values([use(kwh=kwh, boundary=boundary)])
    more = values([use(kwh=kwh * times, boundary=boundary)])
    assert more == {key: pytest.approx(value * times) for key, value in one.items()}


AFFECTED = {
    "pue": {*UNITS} - {Impact.ENERGY_METERED, Impact.ENERGY_NODE, Impact.WATER_ONSITE, Impact.EWASTE},
    "components_to_node": {*UNITS} - {Impact.ENERGY_METERED, Impact.EWASTE},
    "grid_gwp_location": {Impact.GWP_LOCATION},
    "grid_gwp_market": {Impact.GWP_MARKET},
    "grid_adpe": {Impact.ADPE},
    "offsite_water": {Impact.WATER_OFFSITE},
    "wue": {Impact.WATER_ONSITE},
}


@given(quantity=st.sampled_from(sorted(AFFECTED)), times=st.floats(1.0, 1.6))
def test_each_impact_is_linear_in_its_factors_and_blind_to_others(quantity: str, times: float) -> None:
    row = use(boundary=Boundary.COMPONENTS)
    one, more = values([row]), values([row], site({quantity: FIGURES[quantity][0] * times}))
    for (stage, impact), value in one.items():
        scale = times if impact in AFFECTED[quantity] else 1.0
        assert more[stage, impact] == pytest.approx(value * scale)


@given(kwh=kwhs, shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), boundary=boundaries)
def test_splitting_a_use_keeps_its_impacts(kwh: float, shares: list[float], boundary: Boundary) -> None:
    whole = Operational([use(kwh=kwh, boundary=boundary)], HERE, draws=200).cells()
    parts = [use(run=f"r{n}", kwh=kwh * share / sum(shares), boundary=boundary) for n, share in enumerate(shares)]
    split = Operational(parts, HERE, draws=200).cells()
    for one, other in zip(whole, split, strict=True):
        assert one.status is other.status
        if one.value is not None:
            assert other.value == pytest.approx(one.value)
            assert (other.low, other.high) == pytest.approx((one.low, one.high))


@given(st.lists(st.tuples(stages, kwhs, boundaries), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[tuple[LifeStage, float, Boundary]], dice: random.Random) -> None:
    uses = [use(run=f"r{n % 3}", stage=stage, kwh=kwh, boundary=b) for n, (stage, kwh, b) in enumerate(rows)]
    mixed = dice.sample(uses, len(uses))
    one, other = values(uses), values(mixed)
    assert one.keys() == other.keys()
    assert other == {key: pytest.approx(value) for key, value in one.items()}


@settings(max_examples=25)
@given(narrow=st.floats(1.05, 1.5), wider=st.floats(1.05, 2.0))
def test_a_wider_factor_gives_an_interval_that_holds_the_narrower(narrow: float, wider: float) -> None:
    def interval(ratio: float) -> tuple[float, float]:
        row = figure("grid_gwp_location", 0.4, low=0.4 / ratio, high=0.4 * ratio)
        pue = figure("pue", 1.25, distribution="exact")
        account = Operational([use(half_width=0.0)], site_at(catalog_of([pue, row]), find_place("FRA")), draws=400)
        (cell,) = [c for c in account.cells() if c.impact is Impact.GWP_LOCATION and c.status in VALUED]
        assert cell.low is not None
        assert cell.high is not None
        return cell.low, cell.high

    inner, outer = interval(narrow), interval(narrow * wider)
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]


@given(st.sets(st.sampled_from(sorted(FIGURES)), max_size=len(FIGURES)))
def test_no_cell_is_ever_a_silent_zero(gone: set[str]) -> None:
    """Whatever is unknown, a cell has a value above 0, or none and a reason."""
    for cell in Operational([use(boundary=Boundary.BOARD)], site(without=tuple(gone)), draws=20).cells():
        if cell.status in VALUED:
            assert cell.value is not None
            assert cell.value > 0.0
        else:
            assert cell.value is None
            assert cell.reason
