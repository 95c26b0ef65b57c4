"""Half-widths on the plane: by hand, as the draws have them, and never claimed where nothing is known."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from observations import observation, seeds
from stillwatt.analysis.allocation import MARGINAL, ONE_OFF
from stillwatt.analysis.certainty import HalfWidths, draw, half_widths
from stillwatt.analysis.compare import compare
from stillwatt.analysis.contrast import Z_95, student_t
from stillwatt.analysis.sheet import Plane, make_sheet, place
from stillwatt.analysis.trainings import gather_labels
from stillwatt.records.comparison import Observation

SFT = [6.2, 6.3, 6.4]


def plane(*rows: Observation) -> Plane:
    return place(make_sheet(gather_labels(rows)), MARGINAL)


def widths_of(placed: Plane) -> HalfWidths:
    return half_widths(placed, draw(placed, 0.1, draws=1))


def test_several_seeds_have_students_width_and_their_items_error() -> None:
    rows = seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70], quality_se=0.01)
    found = widths_of(plane(*rows))
    assert found.energy[0] == pytest.approx(student_t(2) * statistics.stdev(SFT) / 3**0.5)
    spread = student_t(2) * statistics.stdev([0.68, 0.69, 0.70]) / 3**0.5
    assert found.quality[0] == pytest.approx(np.hypot(spread, Z_95 * 0.01))


def test_one_training_repeats_within_the_share_and_its_meter() -> None:
    row = observation("sft-1b", half_widths={"own_j": 0.5}, quality_se=0.02)
    found = widths_of(plane(row))
    assert found.energy[0] == pytest.approx(np.hypot(0.1 * 7.0, 0.5))
    assert found.quality[0] == pytest.approx(Z_95 * 0.02)


def test_some_labels_alone_have_the_widths_that_they_have_among_all() -> None:
    rows = [*seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70]), observation("kd-1b", quality=0.7), observation("kd-2b")]
    placed = plane(*rows)
    drawn = draw(placed, 0.1, draws=1)
    every, some = half_widths(placed, drawn), half_widths(placed, drawn, [2, 0])
    np.testing.assert_array_equal(some.energy, every.energy[[2, 0]])
    np.testing.assert_array_equal(some.quality, every.quality[[2, 0]])
    assert np.isfinite(every.quality).tolist() == [True, False, False]


def test_a_quality_without_an_error_has_no_width() -> None:
    found = compare([observation("sft-1b"), *seeds("kd-1b", SFT, quality=[0.7, 0.71, 0.72])], source="made up")
    widths = {point.label: point.quality_half_width for point in found.fronts[0].placed}
    assert widths["sft-1b"] is None
    assert widths["kd-1b"] is not None
    assert all(point.energy_half_width_j for point in found.fronts[0].placed)


def test_widths_are_those_of_the_draws() -> None:
    rows = [
        *seeds("sft-1b", [6.2, 6.3, 6.4, 6.1], quality=[0.68, 0.69, 0.70, 0.71], quality_se=0.01),
        observation("kd-1b", quality=0.73, quality_se=0.01),
    ]
    placed = place(make_sheet(gather_labels(rows)), ONE_OFF)
    drawn = draw(placed, 0.1, draws=40_000)
    found = half_widths(placed, drawn)
    for values, widths in ((drawn.energy, found.energy), (drawn.quality, found.quality)):
        low, high = np.quantile(values, (0.025, 0.975), axis=0)
        assert (high - low) / 2.0 == pytest.approx(widths[drawn.index], rel=0.06)


def test_what_a_label_was_trained_with_goes_with_it() -> None:
    rows = [observation("kd-1b", settings={"alpha": 0.5}), observation("sft-1b")]
    found = compare(rows, source="made up")
    assert found.settings == {"kd-1b": {"alpha": 0.5}}
    assert {point.student for point in found.fronts[0].placed} == {"1b"}
