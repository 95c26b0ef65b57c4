"""The frontier and how sure it is."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.analysis.frontier import Candidate, frontier_probabilities, place_points


def candidate(
    energy_j: float, quality: float, *, name: str = "p", energy_random_j: float = 0.0, quality_se: float | None = 0.0
) -> Candidate:
    return Candidate(
        name=name, energy_j=energy_j, energy_random_j=energy_random_j, quality=quality, quality_se=quality_se
    )


# few different values, so that ties and duplicates are common
grid = st.integers(min_value=0, max_value=6).map(float)
planes = st.lists(st.tuples(grid, grid), max_size=25).map(
    lambda pairs: [candidate(e, q, name=f"p{i}") for i, (e, q) in enumerate(pairs)]
)


def beats(one: Candidate, two: Candidate) -> bool:
    no_worse = one.energy_j <= two.energy_j and one.quality >= two.quality
    return no_worse and (one.energy_j, one.quality) != (two.energy_j, two.quality)


@given(planes)
def test_a_point_is_on_the_frontier_if_and_only_if_no_other_beats_it(points: list[Candidate]) -> None:
    for point, place in zip(points, place_points(points), strict=True):
        assert place.is_on_frontier == (not any(beats(other, point) for other in points))


@given(planes)
def test_the_one_named_as_better_is_better_and_on_the_frontier(points: list[Candidate]) -> None:
    by_name = {point.name: (point, place) for point, place in zip(points, place_points(points), strict=True)}
    for point, place in by_name.values():
        if place.dominated_by is None:
            assert place.is_on_frontier
        else:
            other, other_place = by_name[place.dominated_by]
            assert beats(other, point)
            assert other_place.is_on_frontier


@given(planes, st.floats(min_value=0.0, max_value=5.0), st.floats(min_value=0.0, max_value=5.0))
def test_adding_a_beaten_point_changes_nothing(points: list[Candidate], dearer: float, worse: float) -> None:
    if not points:
        return
    before = place_points(points)
    beaten = candidate(points[0].energy_j + dearer + 1.0, points[0].quality - worse, name="new")
    after = place_points([*points, beaten])
    assert [place.is_on_frontier for place in after[:-1]] == [place.is_on_frontier for place in before]
    assert not after[-1].is_on_frontier


@given(planes, st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(points: list[Candidate], shuffler: random.Random) -> None:
    on = {point.name for point, place in zip(points, place_points(points), strict=True) if place.is_on_frontier}
    mixed = list(points)
    shuffler.shuffle(mixed)
    assert on == {point.name for point, place in zip(mixed, place_points(mixed), strict=True) if place.is_on_frontier}


@pytest.mark.parametrize(("energy_j", "quality"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_a_point_that_is_no_number_is_refused_by_name(energy_j: float, quality: float) -> None:
    with pytest.raises(ValueError, match="odd: its"):
        place_points([candidate(1.0, 1.0), candidate(energy_j, quality, name="odd")])


@given(planes)
def test_without_errors_the_probability_is_the_membership(points: list[Candidate]) -> None:
    certain = [1.0 if place.is_on_frontier else 0.0 for place in place_points(points)]
    assert list(frontier_probabilities(points)) == certain


noisy = st.lists(
    st.tuples(
        st.floats(min_value=0.0, max_value=10.0),
        st.floats(min_value=0.0, max_value=1.0),
        st.floats(min_value=0.0, max_value=3.0),
        st.floats(min_value=0.0, max_value=0.3),
    ),
    min_size=1,
    max_size=5,
).map(
    lambda rows: [candidate(e, q, name=f"p{i}", energy_random_j=h, quality_se=s) for i, (e, q, h, s) in enumerate(rows)]
)


@settings(deadline=None, max_examples=40)
@given(noisy)
def test_probabilities_are_probabilities_and_someone_is_on_the_frontier(points: list[Candidate]) -> None:
    found = frontier_probabilities(points)
    assert all(p is not None and -1e-12 <= p <= 1.0 + 1e-12 for p in found)
    # somebody always is on the frontier, so the expected number of members is at least one
    assert sum(p or 0.0 for p in found) >= 1.0 - 0.05
    assert frontier_probabilities(points) == found


def test_the_probability_is_that_of_drawing_points_many_times() -> None:
    points = [
        candidate(4.0, 0.60, name="a", energy_random_j=0.5, quality_se=0.05),
        candidate(4.4, 0.62, name="b", energy_random_j=0.5, quality_se=0.05),
        candidate(6.0, 0.70, name="c", energy_random_j=0.2, quality_se=0.02),
    ]
    drawn = random.Random(20260301)
    rounds = 20_000
    counts = [0] * len(points)
    for _ in range(rounds):
        sample = [
            candidate(drawn.gauss(p.energy_j, p.energy_random_j / 1.96), drawn.gauss(p.quality, p.quality_se or 0.0))
            for p in points
        ]
        for index, place in enumerate(place_points(sample)):
            counts[index] += place.is_on_frontier
    for found, count in zip(frontier_probabilities(points), counts, strict=True):
        assert found == pytest.approx(count / rounds, abs=0.02)


def test_twins_with_errors_beat_each_other_one_time_in_four() -> None:
    """A point is beaten where it is both dearer and worse: 1/2 times 1/2."""
    twins = [candidate(1.0, 0.5, name=n, energy_random_j=0.1, quality_se=0.1) for n in "ab"]
    assert frontier_probabilities(twins) == pytest.approx((0.75, 0.75), abs=1e-9)


def test_one_quality_without_an_error_leaves_all_probabilities_unknown() -> None:
    assert frontier_probabilities([candidate(1.0, 0.5), candidate(2.0, 0.6, quality_se=None)]) == (None, None)
