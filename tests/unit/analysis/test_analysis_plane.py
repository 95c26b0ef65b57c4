"""Frontiers, hypervolumes and attainment of arrays, against brute force and against moocore."""

from __future__ import annotations

import sys

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillwatt.analysis.plane import attainment, frontier_mask, hypervolume, throughput_mask
from stillwatt.errors import MissingExtraError

Floats = NDArray[np.float64]

# few different values, so that ties and twins are common
grid = st.integers(0, 5).map(float)
planes = st.lists(st.tuples(grid, grid), min_size=1, max_size=20).map(lambda rows: np.array(rows).T)
cubes = st.lists(st.tuples(grid, grid, grid), min_size=1, max_size=20).map(lambda rows: np.array(rows).T)
law = settings(deadline=None, max_examples=150)


def unbeaten(costs: Floats) -> list[bool]:
    """By comparing all pairs; less is better on every axis."""
    return [
        not any((other <= own).all() and (other < own).any() for other in costs.T) for own in costs.T
    ]  # fmt: skip


@law
@given(planes)
def test_a_point_is_marked_if_and_only_if_no_other_beats_it(points: Floats) -> None:
    energy, quality = points
    mask = frontier_mask(energy, quality)
    assert mask.tolist() == unbeaten(np.stack((energy, -quality)))
    theirs = moocore.is_nondominated(np.stack((energy, -quality)).T, keep_weakly=True)
    assert mask.tolist() == theirs.tolist()


@law
@given(st.lists(planes.filter(lambda p: p.shape[1] >= 4).map(lambda p: p[:, :4]), min_size=1, max_size=5))
def test_many_draws_at_once_are_the_same_as_one_by_one(draws: list[Floats]) -> None:
    energy, quality = np.stack([d[0] for d in draws]), np.stack([d[1] for d in draws])
    one_by_one = [frontier_mask(*draw).tolist() for draw in draws]
    assert frontier_mask(energy, quality).tolist() == one_by_one


@law
@given(cubes)
def test_with_throughput_too_a_point_is_marked_if_and_only_if_no_other_beats_it(points: Floats) -> None:
    energy, quality, throughput = points
    assert throughput_mask(*points).tolist() == unbeaten(np.stack((energy, -quality, -throughput)))


@law
@given(planes)
def test_the_hypervolume_is_the_number_of_unit_cells_that_are_beaten(points: Floats) -> None:
    energy, quality = points
    cells = sum(
        1
        for e in range(6)
        for q in range(6)
        # the cell's corner that is hardest to reach: its left edge, its upper end
        if any(own[0] <= e and own[1] >= q + 1 for own in points.T)
    )
    assert hypervolume(energy, quality, reference=(6.0, 0.0)) == pytest.approx(cells)


@law
@given(st.lists(planes.filter(lambda p: p.shape[1] >= 3).map(lambda p: p[:, :3]), min_size=1, max_size=6))
def test_attainment_is_what_that_share_of_the_draws_reaches(draws: list[Floats]) -> None:
    energy, quality = np.stack([d[0] for d in draws]), np.stack([d[1] for d in draws])
    for curve in attainment(energy, quality, shares=[0.05, 0.5, 0.95]):
        for e in range(6):
            for q in range(6):
                reached = sum(1 for draw in draws if any(own[0] <= e and own[1] >= q for own in draw.T)) / len(draws)
                on_curve = any(own[0] <= e and own[1] >= q for own in curve.corners)
                assert on_curve == (reached >= curve.share)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_all(bad: float) -> None:
    good, spoilt = np.array([1.0, 2.0]), np.array([1.0, bad])
    for ask in (
        lambda: frontier_mask(good, spoilt),
        lambda: frontier_mask(spoilt, good),
        lambda: throughput_mask(good, good, spoilt),
        lambda: hypervolume(spoilt, good, reference=(3.0, 0.0)),
        lambda: hypervolume(good, good, reference=(bad, 0.0)),
        lambda: attainment(spoilt[None], good[None], shares=[0.5]),
    ):
        with pytest.raises(ValueError, match="no finite number"):
            ask()


def test_why_it_is_refused_before_moocore_is_asked() -> None:
    """It may call a point without numbers unbeaten, and a good one beaten by it."""
    assert moocore.is_nondominated(np.array([[np.nan, np.nan], [1.0, 1.0]])).tolist() == [True, False]


def test_nothing_has_no_frontier_and_no_volume() -> None:
    nothing = np.empty(0)
    assert frontier_mask(nothing, nothing).tolist() == []
    assert hypervolume(nothing, nothing, reference=(1.0, 0.0)) == 0.0


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume(np.array([1.0, 9.0]), np.array([1.0, 5.0]), reference=(3.0, 0.0)) == 2.0


def test_without_moocore_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(MissingExtraError, match=r"stillwatt\[analysis\]"):
        hypervolume(np.array([1.0]), np.array([1.0]), reference=(3.0, 0.0))
