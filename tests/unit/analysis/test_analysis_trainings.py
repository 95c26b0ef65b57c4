"""What several rows of one label say, and when they say no more than one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from observations import seeds
from stillwatt.analysis.repeat import ASSUMED_REL
from stillwatt.analysis.trainings import Term, contrast_of, gather_labels
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal


def _seen(rows: list[Observation]) -> tuple[float, float, float, float]:
    (label,) = gather_labels(rows)
    found = contrast_of([Term(label=label, numerator={"teacher_j": 1.0}, denominator={"own_j": 1.0})], ASSUMED_REL)
    assert not isinstance(found, NoTotal)
    return found.numerator, found.denominator, found.h_nn, found.h_dd


@pytest.mark.parametrize(
    "differing",
    [
        {"teacher_j": [4.0, 1.0, 1.0]},
        {"half_widths": [{"own_j": 0.1}, {}, {"own_j": 0.4}]},
        {"half_widths": [{"teacher_j": 0.1}, {"teacher_j": 2.0}, {}]},
    ],
)
def test_equal_trainings_say_the_same_in_any_order(differing: dict[str, Any]) -> None:
    rows = seeds("kd-1b", [5.0, 5.0, 5.0], **differing)
    wanted = _seen(rows)
    for turned in itertools.permutations(rows):
        assert _seen(list(turned)) == pytest.approx(wanted)


def test_a_figure_that_all_seeds_share_keeps_the_error_of_one_training() -> None:
    teacher_j, own_j, _, own_square = _seen(seeds("kd-1b", [5.0, 5.0], teacher_j=[4.0, 1.0]))
    assert (teacher_j, own_j) == (2.5, 6.0)
    assert own_square == pytest.approx((ASSUMED_REL * 6.0) ** 2)


def test_copies_of_one_training_count_as_one_with_its_widest_error() -> None:
    rows = seeds("kd-1b", [5.0, 5.0], half_widths=[{"own_j": 0.1}, {"own_j": 0.4}])
    assert _seen(rows)[3] == pytest.approx(0.4**2 + (ASSUMED_REL * 6.0) ** 2)
