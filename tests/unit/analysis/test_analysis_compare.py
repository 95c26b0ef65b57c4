"""Many trainings side by side: worked examples of every finding and every caution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from observations import observation, seeds
from stillwatt.analysis.allocation import MARGINAL
from stillwatt.analysis.certainty import FEWEST_DRAWS, draw
from stillwatt.analysis.compare import compare
from stillwatt.analysis.sheet import make_sheet, place
from stillwatt.analysis.trainings import gather_labels
from stillwatt.records.comparison import Comparison, Observation, ReuseFinding, Site
from stillwatt.records.finding import Verdict

SFT, KD = [6.2, 6.3, 6.4], [5.1, 5.2, 5.3]


def compared(*rows: Observation, **options: Any) -> Comparison:
    return compare(rows, source="made up", **options)


def repeated(**changes: Any) -> list[Observation]:
    return [
        *seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70]),
        *seeds("kd-1b", KD, quality=[0.73, 0.74, 0.752], **changes),
    ]


def said(found: Comparison, words: str) -> list[str]:
    return [warning for warning in found.warnings if words in warning]


def test_allocations_and_frontiers_by_hand() -> None:
    found = compared(
        observation("sft-1b", quality=0.69),
        observation("kd-1b", quality=0.72),
        observation("kd-7b", quality=0.80, student_j=8.0),
        reuse_counts=[10],
    )
    fronts = {front.allocation: front for front in found.fronts}
    assert list(fronts) == ["one-off", "reuse:2", "reuse:10", "marginal"]
    energies = {name: [point.energy_j for point in front.placed] for name, front in fronts.items()}
    assert energies["one-off"] == pytest.approx([7.0, 17.0, 20.0])
    assert energies["reuse:2"] == pytest.approx([7.0, 11.5, 14.5])
    assert energies["reuse:10"] == pytest.approx([7.0, 7.1, 10.1])
    assert energies["marginal"] == pytest.approx([7.0, 6.0, 9.0])
    assert fronts["one-off"].labels == ("sft-1b", "kd-1b", "kd-7b")
    assert fronts["marginal"].labels == ("kd-1b", "kd-7b")
    assert fronts["one-off"].by_method == {"sft": ("sft-1b",), "kd": ("kd-1b", "kd-7b")}
    assert found.reference_j == pytest.approx(22.0)
    assert fronts["one-off"].hypervolume == pytest.approx(10.0 * 0.69 + 3.0 * 0.72 + 2.0 * 0.8)


def test_tokens_share_an_artefact_by_what_each_took() -> None:
    rows = [
        observation("sft-1b"),
        observation("kd-1b", teacher_tokens=30.0),
        observation("kd-7b", teacher_tokens=10.0),
    ]
    front = next(front for front in compared(*rows).fronts if front.allocation == "tokens")
    assert [point.energy_j for point in front.placed] == pytest.approx([7.0, 6.0 + 8.25, 6.0 + 2.75])


def test_tokens_counted_for_some_are_no_allocation() -> None:
    found = compared(observation("sft-1b"), observation("kd-1b", teacher_tokens=30.0), observation("kd-7b"))
    assert said(found, "no allocation by tokens")
    assert "tokens" not in [front.allocation for front in found.fronts]


def test_twins_do_not_beat_each_other_and_are_said() -> None:
    found = compared(observation("sft-1b"), observation("sft-2b"), observation("kd-1b", student_j=9.0))
    assert found.fronts[0].labels == ("sft-1b", "sft-2b")
    assert said(found, "sft-1b and sft-2b are equal points under one-off")


def test_what_cannot_be_placed_is_left_out_with_its_reason() -> None:
    found = compared(
        observation("sft-1b"),
        observation("kd-1b", quality=None, student_j=None),
        observation("kd-7b", teacher_j=None),
        observation("kd-8b", seed="1", quality=None),
        observation("kd-8b", seed="2", student_j=None),
    )
    left = {front.allocation: dict(front.left_out) for front in found.fronts}
    assert left["one-off"] == {
        "kd-1b": "the quality and the energy beside the teacher's are unknown",
        "kd-7b": "the teacher's energy is unknown",
        "kd-8b": "no single row knows both energy and quality",
    }
    assert "kd-7b" not in left["marginal"]
    assert said(found, "in no frontier under one-off, reuse:3: kd-7b, because the teacher's energy is unknown")
    assert said(found, "in no frontier under any allocation: kd-1b")


def test_throughput_is_a_third_axis_for_those_that_have_it() -> None:
    found = compared(
        observation("sft-1b", throughput=50.0),
        observation("sft-2b", student_j=7.0, throughput=90.0),
        observation("sft-3b", student_j=8.0, throughput=80.0),
        observation("sft-4b", student_j=5.0),
    )
    assert found.fronts[0].with_throughput == ("sft-1b", "sft-2b")
    assert said(found, "the throughput of sft-4b is unknown")
    assert compared(observation("sft-1b"), observation("sft-2b")).fronts[0].with_throughput is None


def test_n_star_of_paired_seeds_is_narrower_than_of_others() -> None:
    """Each seed saves 1.1 J, whatever it does to both."""
    paired = compared(*repeated()).n_star[0]
    apart = compared(*seeds("sft-1b", SFT), *seeds("kd-1b", KD, first=7)).n_star[0]
    assert [paired.found.value, apart.found.value] == pytest.approx([10.0, 10.0])
    assert [paired.found.low, paired.found.high] == pytest.approx([10.0, 10.0])
    assert apart.found.low is not None
    assert apart.found.low < 8.0
    assert (paired.seeds, paired.found.verdict) == (3, Verdict.VALUE)


def test_different_seeds_are_said_to_be_compared_as_independent() -> None:
    assert said(compared(*seeds("sft-1b", SFT), *seeds("kd-1b", KD, first=7)), "different seeds")
    assert not said(compared(*repeated()), "different seeds")


def test_a_difference_is_significant_on_several_seeds_alone() -> None:
    several = compared(*repeated())
    assert several.n_star[0].is_significant
    assert several.n_star[0].quality_gap == pytest.approx(0.0507, abs=1e-4)
    one = compared(
        observation("sft-1b", quality=0.2, quality_se=0.001), observation("kd-1b", quality=0.9, quality_se=0.001)
    )
    assert not one.n_star[0].is_significant
    assert not any(entry.is_significant for entry in one.matched)
    assert said(one, "one seed: each label was trained once, so no difference here is a significance")


def test_one_label_of_one_seed_among_others_is_named() -> None:
    found = compared(*seeds("sft-1b", SFT), observation("kd-1b"))
    assert said(found, "one seed of kd-1b")
    assert not found.n_star[0].is_significant


def test_seeds_that_agree_to_the_last_digit_were_not_repeated() -> None:
    found = compared(*seeds("sft-1b", [6.0, 6.0, 6.0]), *seeds("kd-1b", KD))
    assert said(found, "all seeds of sft-1b have the same student energy to the last digit")
    assert found.n_star[0].found.high is None or found.n_star[0].found.high > 11.0


def test_seeds_that_scatter_more_than_the_floor_say_so_for_single_trainings() -> None:
    found = compared(*seeds("sft-1b", [4.0, 6.0, 8.0]), observation("kd-1b"))
    assert said(found, "from the spread between the seeds of the other labels")


def test_a_matched_baseline_is_the_cheapest_that_is_as_good() -> None:
    found = compared(
        observation("sft-1b", quality=0.6, student_j=6.0),
        observation("sft-7b", quality=0.9, student_j=30.0),
        observation("sft-8b", quality=0.8, student_j=40.0),
        observation("kd-1b", quality=0.7, student_j=5.0),
    )
    matched = found.matched[0]
    assert (matched.as_good, matched.as_cheap) == ("sft-7b", "sft-1b")
    assert matched.energy_ratio == pytest.approx(17.0 / 31.0)
    assert matched.ratio_low is not None
    assert matched.ratio_high is not None
    assert matched.ratio_low < 17.0 / 31.0 < matched.ratio_high
    assert matched.quality_difference == pytest.approx(0.1)
    assert matched.difference_half_width is None
    assert found.n_star_matched[0].found.value == pytest.approx(11.0 / 25.0)
    assert found.n_star_matched[0].found.verdict is Verdict.ALWAYS
    assert said(found, "N* of kd-1b is at unlike quality: 0.7 against 0.6")


def test_a_quality_that_no_baseline_reaches_has_no_match() -> None:
    found = compared(observation("sft-1b", quality=0.6), observation("kd-1b", quality=0.7))
    assert found.n_star_matched[0].found.verdict is Verdict.NOT_AT_THIS_QUALITY
    assert found.matched[0].as_good == ""
    assert found.matched[0].energy_ratio is None
    unknown = compared(observation("sft-1b"), observation("kd-1b", quality=None))
    assert "quality of kd-1b is unknown" in unknown.n_star_matched[0].found.reason


@pytest.mark.parametrize(("gap", "is_told"), [(0.00001, True), (0.027, True), (0.029, False)])
def test_the_best_baseline_stands_in_where_what_it_lacks_is_within_its_error(gap: float, is_told: bool) -> None:
    # the half-width of the gap is 1.96 x 0.01 x sqrt(2) = 0.0277
    sft = observation("sft-1b", quality=0.6, quality_se=0.01)
    found = compared(sft, observation("kd-1b", quality=0.6 + gap, quality_se=0.01, student_j=4.0))
    (reuse,), matched = found.n_star_matched, found.matched[0]
    assert (reuse.baseline, matched.as_good) == (("sft-1b", "sft-1b") if is_told else ("", ""))
    if is_told:
        assert reuse.found.value == pytest.approx(11.0 / 2.0)
        assert matched.as_good_lacks == pytest.approx(gap)
        assert matched.energy_ratio == pytest.approx(16.0 / 7.0)
    else:
        assert reuse.found.verdict is Verdict.NOT_AT_THIS_QUALITY
        assert reuse.found.reason.endswith("the best, sft-1b, is worse by 0.029 ± 0.028")
        assert (matched.as_good_lacks, matched.energy_ratio) == (None, None)


def test_a_baseline_that_is_as_good_goes_before_a_better_match_within_the_error() -> None:
    as_good = observation("sft-7b", quality=0.61, quality_se=0.01, student_j=30.0)
    near = observation("sft-1b", quality=0.605, quality_se=0.01)
    found = compared(as_good, near, observation("kd-1b", quality=0.606, quality_se=0.01))
    assert (found.n_star_matched[0].baseline, found.matched[0].as_good_lacks) == ("sft-7b", 0.0)


def test_baselines_of_no_energy_or_dearer_than_the_label_match_nothing() -> None:
    free = compared(observation("sft-1b", own_j=0.0), observation("kd-1b"))
    assert (free.matched[0].as_good, free.matched[0].energy_ratio) == ("sft-1b", None)
    dear = compared(observation("sft-1b", student_j=90.0, quality=0.6), observation("kd-1b"))
    assert (dear.matched[0].as_cheap, dear.matched[0].quality_difference) == ("", None)


def test_one_cache_is_repaid_by_all_its_students_together() -> None:
    rows = [
        *seeds("sft-1b", SFT),
        *seeds("kd-1b", KD),
        *seeds("sft-7b", [20.0, 21.0, 22.0]),
        *seeds("kd-7b", [18.0, 19.0, 20.0]),
    ]
    (sweep,) = compared(*rows).sweeps
    assert sweep.students == ("1b", "7b")
    assert sweep.saving_j == pytest.approx(3.1)
    assert sweep.found.value == pytest.approx(11.0 / 3.1)


def test_unlike_caches_missing_baselines_and_energies_give_no_sweep() -> None:
    assert not compared(observation("sft-1b"), observation("kd-1b"), observation("kd-7b", teacher_j=12.0)).sweeps
    (lonely,) = compared(observation("sft-1b"), observation("kd-1b"), observation("kd-7b")).sweeps
    assert lonely.found.reason == "no baseline has student '7b'"
    (blind,) = compared(
        observation("sft-1b"), observation("sft-7b"), observation("kd-1b"), observation("kd-7b", student_j=None)
    ).sweeps
    assert blind.found.reason == "the student's energy of kd-7b is unknown"


def test_several_labels_of_one_student_send_the_best_into_the_sweep() -> None:
    rows = [
        observation("sft-1b"),
        observation("sft-7b"),
        observation("kd-1b", quality=0.5, student_j=4.0),
        observation("kd-1b", label="kd-1b-again", quality=0.7, student_j=5.0),
        observation("kd-7b"),
    ]
    (sweep,) = compared(*rows).sweeps
    assert sweep.saving_j == pytest.approx(1.0 + 1.0)


def test_serving_repays_all_that_the_student_took() -> None:
    found = compared(
        observation("sft-1b", served_teacher_j=1.0, served_student_j=0.5),
        observation("kd-1b", served_teacher_j=1.0, served_student_j=0.6),
    )
    assert [entry.found.value for entry in found.t_star] == pytest.approx([7.0 / 0.5, 17.0 / 0.4])
    blind = compared(
        observation("sft-1b"), observation("kd-1b", own_j=None, served_teacher_j=1.0, served_student_j=0.6)
    )
    assert blind.t_star[0].found.reason == "the energy beside the teacher's of kd-1b is unknown"


def test_the_curve_falls_to_what_the_student_takes_alone() -> None:
    (curve,) = compared(*repeated(teacher_j=[10.0, 11.0, 12.0])).curves
    by_count = {point.students: point for point in curve.points}
    assert by_count[1].energy_j == pytest.approx(11.0 + 6.2)
    assert by_count[100].energy_j == pytest.approx(0.11 + 6.2)
    assert by_count[1].half_width_j > by_count[100].half_width_j > 0.0
    assert curve.baseline_j == pytest.approx(7.3)


def test_a_curve_needs_an_energy_and_may_lack_a_baseline() -> None:
    assert not compared(observation("sft-1b"), observation("kd-1b", own_j=None)).curves
    (lonely,) = compared(observation("sft-7b"), observation("kd-1b")).curves
    assert (lonely.baseline, lonely.baseline_j) == ("", None)
    (blind,) = compared(observation("sft-1b", own_j=None), observation("kd-1b")).curves
    assert (blind.baseline, blind.baseline_j) == ("sft-1b", None)


def test_levers_turn_the_verdict_where_they_say() -> None:
    rows = [observation("sft-1b"), observation("kd-1b")]
    found = compared(*rows)
    by_stage = {lever.stage: lever for lever in found.levers}
    assert by_stage["teacher"].turning_factor == pytest.approx(1.0 / 11.0)
    assert by_stage["student"].turning_factor is None
    assert by_stage["baseline"].turning_factor == pytest.approx(16.0 / 6.0)
    assert [by_stage[s].elasticity for s in ("teacher", "student", "baseline")] == pytest.approx([1.0, 5.0, -6.0])
    turned = compared(observation("sft-1b", student_j=6.0 * 16.0 / 6.0), observation("kd-1b"))
    assert turned.n_star[0].found.value == pytest.approx(1.0)
    assert {lever.elasticity for lever in compared(rows[0], observation("kd-1b", student_j=7.0)).levers} == {None}


def test_a_probability_needs_an_error_of_the_quality() -> None:
    found = compared(observation("sft-1b", quality_se=0.01), observation("kd-1b", student_j=9.0))
    by_label = {point.label: point.probability for point in found.fronts[0].placed}
    assert by_label["kd-1b"] is None
    assert by_label["sft-1b"] is not None
    assert said(found, "the quality of kd-1b has neither seeds nor a standard error")


def test_probabilities_of_sure_and_even_places() -> None:
    """Two labels of the same energy: the better one is on the frontier, and which is better is a toss."""
    found = compared(
        observation("sft-1b", quality_se=0.01, half_widths={"own_j": 0.1}),
        observation("sft-2b", quality_se=0.01, half_widths={"own_j": 0.1}),
        observation("sft-3b", quality=0.1, quality_se=0.01, student_j=90.0),
    )
    toss, other, beaten = (point.probability for point in found.fronts[0].placed)
    assert beaten == 0.0
    # on it unless beaten on both axes: 3 of 4
    assert toss == pytest.approx(0.75, abs=0.06)
    assert other == pytest.approx(0.75, abs=0.06)


def test_what_a_seed_does_to_both_labels_cancels_in_their_places() -> None:
    """Paired seeds: the cheaper and better one is so in every seed."""
    sft = seeds("sft-1b", [5.0, 7.0, 9.0], quality=[0.70, 0.80, 0.60])
    kd: dict[str, Any] = {"teacher_j": 0.0, "quality": [0.71, 0.81, 0.61]}
    paired = compared(*sft, *seeds("kd-1b", [4.9, 6.9, 8.9], **kd)).fronts[0].placed
    apart = compared(*sft, *seeds("kd-1b", [4.9, 6.9, 8.9], first=7, **kd)).fronts[0].placed
    assert [point.probability for point in paired] == [0.0, 1.0]
    assert 0.3 < (apart[0].probability or 0.0) < 0.9


def test_the_mean_of_few_seeds_is_drawn_with_students_width() -> None:
    """Three seeds: 5 % of the draws lie beyond 4.3 standard errors, where a normal would have one in 60,000."""
    rows = [*seeds("sft-1b", [5.0, 6.0, 7.0], quality=[0.6, 0.7, 0.8]), observation("kd-1b", quality_se=0.05)]
    plane = place(make_sheet(gather_labels(rows)), MARGINAL)
    drawn = draw(plane, 0.2, draws=4000)
    off = (drawn.energy[:, 0] - 7.0) / (1.0 / 3.0**0.5)
    assert float(np.mean(np.abs(off) > 4.303)) == pytest.approx(0.05, abs=0.012)
    assert abs(float(np.median(off))) < 0.06
    # one training: its repeatability is a 95 % half-width, its quality's error one sigma
    assert float(np.std(drawn.energy[:, 1])) == pytest.approx(0.2 * 6.0 / 1.96, rel=0.06)
    assert float(np.std(drawn.quality[:, 1])) == pytest.approx(0.05, rel=0.06)


def test_seeds_of_equal_energy_under_an_allocation_are_drawn_as_one_training() -> None:
    found = compared(*seeds("sft-1b", [6.0, 6.0], quality=[0.7, 0.71]), *seeds("kd-1b", [5.0, 5.2], quality=0.7))
    assert found.fronts[0].placed[0].probability is not None


def test_a_row_of_a_label_that_cannot_be_placed_leaves_the_others() -> None:
    found = compared(
        *seeds("sft-1b", [6.0, 6.1], quality=[0.7, None]),
        *seeds("kd-1b", [5.0, 5.2, 5.4], quality=[0.7, 0.72, None]),
    )
    assert [point.seeds for point in found.fronts[0].placed] == [1, 2]


def test_very_many_labels_have_fewer_draws_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        observation(f"sft-{i}", quality=0.5 + i / 100.0, quality_se=0.3, student_j=6.0 + i / 100.0) for i in range(20)
    ]
    monkeypatch.setattr("stillwatt.analysis.certainty.MOST_CELLS", 20 * 500)
    fewer = compared(*rows)
    assert fewer.draws == 500
    assert said(fewer, "rest on 500 draws")
    monkeypatch.setattr("stillwatt.analysis.certainty.MOST_CELLS", 20 * (FEWEST_DRAWS - 1))
    none = compared(*rows)
    assert none.draws == 0
    assert said(none, "no probability is given")
    assert none.fronts[0].attained == ()


def test_break_evens_are_given_for_the_first_of_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.analysis.compare.MOST_COMPARED", 1)
    found = compared(observation("sft-1b"), observation("kd-1b"), observation("kd-7b"))
    assert len(found.n_star) == 1
    assert said(found, "for the first 1 of 2 distilled labels")


def test_of_very_many_cautions_of_one_kind_the_first_are_given() -> None:
    rows = [observation("kd-1b", label=f"kd-{i}", quality=0.9 + i / 100.0) for i in range(23)]
    found = compared(observation("sft-1b"), *rows)
    assert len(said(found, "is at unlike quality")) == 20
    assert said(found, "3 more N* are at unlike quality")


def test_attainment_is_that_of_the_draws() -> None:
    found = compared(*repeated())
    shares = [curve.share for curve in found.fronts[0].attained]
    assert shares == [0.05, 0.5, 0.95]
    assert all(curve.corners for curve in found.fronts[0].attained)


def test_a_single_training_and_a_missing_baseline_are_said() -> None:
    alone = compared(observation("kd-1b"))
    assert said(alone, "kd-1b is alone")
    assert said(alone, "no row has method 'sft'")
    assert alone.n_star[0].found.reason == "no baseline has student '1b'"
    assert alone.n_star_matched[0].found.reason == "there is no baseline"
    near = compared(observation("sfft-1b"), observation("kd-1b", student=""))
    assert said(near, "did you mean 'sfft'?")
    assert near.n_star[1].found.reason == "no baseline has this student"


def test_nothing_that_can_be_placed_has_no_frontier() -> None:
    found = compared(observation("sft-1b", quality=None), observation("kd-1b", quality=None))
    assert (found.reference_j, found.fronts[0].hypervolume, found.fronts[0].labels) == (None, None, ())


def test_odd_baselines_are_said() -> None:
    borne = compared(observation("sft-1b", teacher_j=3.0), observation("kd-1b"))
    assert said(borne, "baseline sft-1b bears a teacher's energy")
    several = compared(observation("sft-1b"), observation("sft-1b", label="sft-b", quality=0.9), observation("kd-1b"))
    assert said(several, "student 1b has several baselines")
    assert several.n_star[0].baseline == "sft-b"


def test_unknown_energies_are_named() -> None:
    found = compared(observation("sft-1b", student_j=None), observation("kd-1b"))
    assert found.n_star[0].found.reason == "the student's energy of sft-1b is unknown"
    rows = [observation("kd-1b", seed="1", teacher_j=None), observation("kd-1b", seed="2", student_j=None)]
    assert (
        compared(observation("sft-1b"), *rows).n_star[0].found.reason == "an energy of every seed of kd-1b is unknown"
    )


def test_the_meters_error_counts_where_nothing_was_repeated() -> None:
    plain = compared(observation("sft-1b"), observation("kd-1b", student_j=4.0)).n_star[0].found
    noisy = (
        compared(observation("sft-1b"), observation("kd-1b", student_j=4.0, half_widths={"student_j": 0.5}))
        .n_star[0]
        .found
    )
    assert plain.low is not None
    assert noisy.low is not None
    assert noisy.low < plain.low


def test_of_very_many_labels_those_that_may_be_on_a_frontier_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(kgco2e_per_kwh=0.3)
    rows = [
        observation("sft-1b", label=f"sft-{i}", student_j=1.0 + i, quality=0.9 - 0.1 * i, site=site, teacher_site=site)
        for i in range(6)
    ]
    every = compare(rows, source="drawn")
    for module in ("certainty", "compare"):
        monkeypatch.setattr(f"stillwatt.analysis.{module}.MOST_LISTED", 3)
    few = compare(rows, source="drawn")
    assert [front.labels for front in few.fronts] == [front.labels for front in every.fronts]
    # the second may be on it too, within the error of a single training
    assert [point.label for point in few.fronts[0].placed] == ["sft-0", "sft-1"]
    assert len(every.fronts[0].placed) == 6
    assert len(few.stages) == 3
    # on the planes of impacts too
    assert [point.label for point in few.views[0].fronts[0].points] == ["sft-0", "sft-1"]
    assert few.views[0].fronts[0].points == every.views[0].fronts[0].points[:2]
    assert few.fronts[0].placed[0] == every.fronts[0].placed[0]
    words = "6 labels: only those that may be on a frontier are listed with it, and have a probability"
    assert words in few.warnings
    assert words not in every.warnings


def test_listed_or_not_is_said_of_undrawn_labels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [observation("sft-1b", label=f"sft-{i}", student_j=1.0 + i / 1000, quality=0.9) for i in range(6)]
    for module in ("certainty", "compare"):
        monkeypatch.setattr(f"stillwatt.analysis.{module}.MOST_LISTED", 3)
    monkeypatch.setattr("stillwatt.analysis.certainty.MOST_CELLS", 5)
    few = compare(rows, source="drawn")
    assert (few.draws, [point.label for point in few.fronts[0].placed]) == (0, ["sft-0"])


def test_a_label_is_held_against_the_baseline_of_its_own_budget() -> None:
    """Of two budgets the dearer baseline is the better one; at the smaller budget it is no baseline."""

    def at(label: str, tokens: float | None, student_j: float, quality: float) -> Observation:
        settings = {} if tokens is None else {"train_tokens": tokens}
        method = label.partition("-")[0]
        return observation(
            f"{method}-1b", label=label, student_j=student_j, quality=quality, quality_se=0.01, settings=settings
        )

    rows = [at("sft-short", 1e6, 6.0, 0.6), at("sft-long", 4e6, 24.0, 0.9)]
    rows += [at("kd-short", 1e6, 5.0, 0.7), at("kd-near", 1.1e6, 5.5, 0.7), at("kd-long", 4e6, 20.0, 0.95)]
    rows += [at("kd-unsaid", None, 5.0, 0.7)]
    found = compare(rows, source="budgets")
    assert {entry.label: entry.baseline for entry in found.n_star} == {
        "kd-short": "sft-short",
        "kd-near": "sft-short",
        "kd-long": "sft-long",
        "kd-unsaid": "sft-long",
    }
    assert n_star_of(found, "kd-short").found.value == pytest.approx(11.0)
    assert said(found, "N* is held against the best of those whose token budget is nearest")


def n_star_of(found: Comparison, label: str) -> ReuseFinding:
    return next(entry for entry in found.n_star if entry.label == label)
