"""Setting a figure beside published ones: what is like, what is converted, what is refused, and the rank."""

from __future__ import annotations

from typing import Any

import pytest

from literature_corpora import make_figure, make_work
from stillwatt.factors.catalog import build_catalog
from stillwatt.factors.making import make_factor
from stillwatt.factors.places import find_place
from stillwatt.literature.compare import Asked, Comparison, NoRank, Rank, compare
from stillwatt.literature.convert import Conversion, Refusal, conversion
from stillwatt.literature.corpus import make_corpus
from stillwatt.records.factor import Factor
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Counts, PublishedFigure, Reach
from stillwatt.units import convert


def _factor(name: str, quantity: str, value: float, low: float, high: float) -> Factor:
    said: dict[str, str | float | int | bool | None] = {
        **{"id": name, "quantity": quantity, "where": "world", "unit": "1"},
        **{"value": value, "low": low, "high": high},
    }
    return make_factor(said)


CATALOG = build_catalog(shipped=[_factor("p", "pue", 1.5, 1.2, 2.0), _factor("n", "node_overhead", 2.0, 1.5, 3.0)])
WORLD = find_place("world")


def asked(**more: Any) -> Asked:
    said: dict[str, Any] = {
        "value": 300.0,
        "low": 290.0,
        "high": 310.0,
        "unit": "kWh",
        "per": "",
        "stage": LifeStage.TRAINING,
        "metric": "energy",
        "reach": Reach.FACILITY,
    }
    return Asked(**(said | more))


def against(*figures: PublishedFigure, **more: Any) -> Comparison:
    works = [make_work(name) for name in {figure.work for figure in figures}]
    return compare(asked(**more), make_corpus(works, figures), CATALOG, WORLD)


def test_units_are_converted_and_like_boundaries_stand_as_they_are() -> None:
    (one,) = against(make_figure(value=0.36, unit="GJ")).beside
    assert (one.value, one.low, one.high, one.ratio) == pytest.approx((100.0, 100.0, 100.0, 3.0))
    assert not one.is_converted


def test_a_board_figure_is_carried_to_the_facility_with_both_intervals() -> None:
    (one,) = against(make_figure(value=100.0, reach=Reach.BOARD)).beside
    assert [factor.id for factor in one.theirs_by.factors] == ["n", "p"]
    assert (one.value, one.low, one.high) == pytest.approx((300.0, 180.0, 600.0))
    assert one.at is Reach.FACILITY


def test_ones_own_figure_goes_outward_where_the_published_one_stands_further_out() -> None:
    (one,) = against(make_figure(value=300.0), reach=Reach.NODE, value=100.0, low=90.0, high=110.0).beside
    assert (one.yours, one.yours_low, one.yours_high) == pytest.approx((150.0, 108.0, 220.0))
    assert one.ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("figure", "more", "reason"),
    [
        ({"reach": Reach.UNSTATED}, {}, "boundary unstated"),
        ({"reach": Reach.PART}, {}, "part of another figure"),
        ({"reach": Reach.SECTOR}, {"reach": Reach.SECTOR}, "of a company, a fleet"),
        ({"reach": Reach.LIFE_CYCLE}, {}, "different things"),
        ({"reach": Reach.DIE}, {}, "different things"),
        ({"reach": Reach.COMPONENTS}, {}, "needs components_to_node"),
        ({"stages": (LifeStage.TRAINING, LifeStage.DATA)}, {}, "several stages together"),
        ({"per": "request"}, {}, "is per request"),
        ({}, {"per": "request"}, "is a total"),
        ({"value": None, "low": 1.0, "high": 100.0}, {}, "no single number"),
        ({"value": None, "high": 10.0}, {}, "no single number"),
    ],
)
def test_unlike_figures_are_refused_with_the_reason(figure: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    found = against(make_figure(**figure), **more)
    assert not found.beside
    assert reason in found.refused[0].reason


def test_carbon_is_not_carried_over_boundaries_nor_kinds_mixed() -> None:
    carbon: dict[str, Any] = {"metric": "co2e", "unit": "kg", "counts": Counts.LOCATION}
    by_node = against(make_figure(**carbon, reach=Reach.NODE), **carbon)
    assert "hangs on the grid" in by_node.refused[0].reason
    market = against(make_figure(**(carbon | {"counts": Counts.MARKET})), **carbon)
    assert "counts market, and yours location" in market.refused[0].reason


def test_nothing_is_carried_inward() -> None:
    found = conversion(Reach.FACILITY, Reach.BOARD, "energy", CATALOG, WORLD)
    assert isinstance(found, Refusal)
    assert "outward only" in found.reason
    assert isinstance(conversion(Reach.BOARD, Reach.BOARD, "co2e", CATALOG, WORLD), Conversion)


def test_functional_units_are_scaled() -> None:
    figure = make_figure(per="1000 queries", value=2.0, unit="kWh")
    (one,) = against(figure, per="request", unit="Wh", value=4.0, low=4.0, high=4.0).beside
    assert one.value == pytest.approx(2.0)
    assert one.ratio == pytest.approx(2.0)


def test_a_work_has_one_voice_and_unseen_figures_have_none() -> None:
    loud = [make_figure(f"loud-{number}", work="w0", value=1.0) for number in range(50)]
    quiet = [make_figure(f"q{number}", work=f"w{number}", value=1000.0) for number in range(1, 5)]
    unseen = make_figure("unseen", work="w9", value=1.0, verified=False)
    found = against(*loud, *quiet, unseen)
    assert isinstance(found.rank, Rank)
    assert found.rank.works == 5
    assert found.rank.share_below == pytest.approx(0.2)
    assert any("1 of these figures were not seen" in caution for caution in found.cautions)
    few = against(*loud, *quiet[:3], unseen)
    assert isinstance(few.rank, NoRank)
    assert "4 works have" in few.rank.reason


def test_the_rank_holds_the_intervals() -> None:
    figures = [make_figure(f"f{number}", work=f"w{number}", value=300.0, low=200.0, high=400.0) for number in range(5)]
    rank = against(*figures).rank
    assert isinstance(rank, Rank)
    assert (rank.low, rank.share_below, rank.high) == (0.0, 0.0, 1.0)


def test_a_metric_without_boundary_is_compared_as_it_stands() -> None:
    figure = make_figure(metric="accelerator_hours", unit="accelerator-h", reach=None, value=0.0)
    (one,) = against(figure, metric="accelerator_hours", unit="accelerator-h", reach=None).beside
    assert one.ratio is None
    assert one.at is None


def test_units_that_cannot_be_converted() -> None:
    with pytest.raises(ValueError, match="unknown unit 'stone'"):
        convert(1.0, "stone", "kg")
    with pytest.raises(ValueError, match="kWh is of energy and kg of mass"):
        convert(1.0, "kWh", "kg")
    assert convert(0.1, "kWh", "kWh") == 0.1
