"""All means of a label are over the same trainings; every training that is in none is named (method.md, eq. 145)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observations import observation, seeds
from stillwatt.analysis.compare import compare
from stillwatt.analysis.trainings import gather_labels
from stillwatt.analysis.whole_rows import COMPARED, lacks_of, split_whole
from stillwatt.records.comparison import CardEnergy, Comparison, Observation, Site
from stillwatt.records.finding import Verdict
from stillwatt.report.comparison import comparison_dict

SFT = seeds("sft-1b", [6.28, 6.33], quality=[0.690, 0.696])
KD = seeds("kd-1b", [5.18, 5.22], quality=[0.701, 0.760], teacher_j=[11.0, None])


def compared(rows: list[Observation], **changes: Any) -> Comparison:
    return compare(rows, source="rows", draws=50, **changes)


def test_a_label_has_one_quality_wherever_it_is_told() -> None:
    """The seed of 0.76 was in the difference of qualities, and in no point."""
    found = compared([*SFT, *KD])
    ((quality, count),) = {(p.quality, p.seeds) for front in found.fronts for p in front.placed if p.label == "kd-1b"}
    assert quality == pytest.approx(0.701)
    assert count == 1
    (matched, *_) = found.matched
    assert matched.quality_difference == pytest.approx(0.701 - 0.693)
    assert found.n_star[0].quality_gap == pytest.approx(0.701 - 0.693)
    assert found.n_star[0].seeds == 1
    assert [entry.student_j for entry in found.stages if entry.label == "kd-1b"] == [5.18]


def test_what_was_left_out_is_named_with_what_it_lacks() -> None:
    rows = [
        *SFT,
        observation("kd-1b", seed="1", place="line 4"),
        observation("kd-1b", seed="2", place="line 5", quality=None),
        observation("kd-1b", seed="3", place="line 6", teacher_j=None, student_j=None),
    ]
    found = compared(rows)
    said = [warning for warning in found.warnings if warning.startswith("in no mean, count or frontier")]
    assert said == [
        "in no mean, count or frontier: kd-1b, seed 2 (line 5), because the quality is unknown there and known of the "
        "label's other trainings",
        "in no mean, count or frontier: kd-1b, seed 3 (line 6), because the teacher's energy and the student's energy "
        "are unknown there and known of the label's other trainings",
    ]
    assert comparison_dict(found)["seeds_left_out"] == [
        {"label": "kd-1b", "seed": "2", "place": "line 5", "lacks": ["the quality"]},
        {"label": "kd-1b", "seed": "3", "place": "line 6", "lacks": ["the teacher's energy", "the student's energy"]},
    ]
    assert not compared([*SFT, observation("kd-1b")]).seeds_left_out


def test_what_no_training_of_a_label_knows_leaves_none_out() -> None:
    found = compared([*SFT, *seeds("kd-1b", [5.1, 5.3], quality=None)])
    assert found.seeds_left_out == ()
    assert found.n_star[0].found.verdict is not Verdict.NEVER
    assert [entry.student_j for entry in found.stages] == pytest.approx([6.305, 5.2])


def test_of_sets_as_large_the_one_of_more_seeds_is_kept() -> None:
    torn = [
        observation("kd-1b", seed=s, **{lacking: None})
        for s, lacking in zip("123", ("quality", *["teacher_j"] * 2), strict=True)
    ]
    (label,) = gather_labels(torn)
    assert [row.seed for row in label.rows] == ["2", "3"]
    assert [lacks_of(row, label.rows) for row in label.left_out] == [("quality",)]
    reasons = dict(compared([*SFT, *torn]).fronts[0].left_out)
    assert reasons["kd-1b"] == "no single row knows both energy and quality"


def test_labels_that_differ_in_their_seed_alone_are_merged_so_too() -> None:
    rows = [
        *SFT,
        observation("kd-1b", label="kd-s1", seed="1", student="1b"),
        observation("kd-1b", label="kd-s2", seed="2", student="1b", teacher_j=None, student_j=5.5),
    ]
    found = compared(rows)
    assert [(entry.label, entry.lacks) for entry in found.seeds_left_out] == [("kd", ("the teacher's energy",))]
    assert found.n_star[0].seeds == 1


def test_serving_that_was_measured_once_repays_the_bill_of_all_seeds() -> None:
    served: dict[str, Any] = {"served_teacher_j": [1.0, None], "served_student_j": [0.6, None]}
    found = compared([*SFT, *seeds("kd-1b", [5.0, 6.0], **served)])
    (entry,) = [entry for entry in found.t_star if entry.label == "kd-1b"]
    assert entry.extra_j == pytest.approx(11.0 + 6.5)
    assert entry.found.value == pytest.approx((11.0 + 6.5) / 0.4)


def test_a_seed_whose_factor_or_boards_are_unknown_is_named_for_that_plane() -> None:
    def row(seed: str, *, known: bool) -> Observation:
        cards = CardEnergy(teacher_j=8.0, student_j=4.0, own_j=4.5) if known else None
        site = Site(kgco2e_per_kwh=0.3 if known else None)
        return observation("kd-1b", seed=seed, cards=cards, site=site, teacher_site=site, place=f"line {seed}")

    found = compared([observation("sft-1b"), row("1", known=True), row("2", known=False)])
    assert (
        "in no mean of gpu: kd-1b, seed 2 (line 2), because the boards' own energy is unknown there" in found.warnings
    )
    assert any(w.startswith("in no mean of kgco2e: kd-1b, seed 2 (line 2), because what a kWh") for w in found.warnings)
    assert found.seeds_left_out == ()


maybe = st.one_of(st.none(), st.floats(0.1, 9.0))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.fixed_dictionaries({name: maybe for name in COMPARED}), min_size=1, max_size=6))
def test_kept_rows_know_the_same_and_no_row_knows_more(known: list[dict[str, float | None]]) -> None:
    rows = [observation("kd-1b", seed=str(place), **values) for place, values in enumerate(known)]
    kept, aside = split_whole(rows)
    sets = [{name for name in COMPARED if getattr(row, name) is not None} for row in kept]
    assert all(one == other for one, other in itertools.pairwise(sets))
    assert sorted(row.seed for row in (*kept, *aside)) == sorted(row.seed for row in rows)
    for row in aside:
        own = {name for name in COMPARED if getattr(row, name) is not None}
        assert len(own) <= len(sets[0])
        assert lacks_of(row, kept) or own >= sets[0]
        assert own != sets[0]
