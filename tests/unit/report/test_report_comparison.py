"""Comparisons as words and as data: every verdict has its sentence, and long answers end somewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from observations import observation, seeds
from stillwatt.analysis.compare import compare
from stillwatt.records.comparison import Comparison, Observation, Ratio, Site, Unbilled
from stillwatt.records.finding import Verdict
from stillwatt.report import verdicts
from stillwatt.report.comparison import MOST_POINTS, comparison_dict
from stillwatt.report.comparison_tables import impact_tables

SFT, KD = [6.2, 6.3, 6.4], [5.1, 5.2, 5.3]


def compared(*rows: Observation, **options: Any) -> Comparison:
    return compare(rows, source="made up", **options)


def text(found: Comparison) -> str:
    return "\n".join([verdicts.title(found), *verdicts.sentences(found), *verdicts.view_sentences(found)])


def two(**changes: Any) -> Comparison:
    return compared(observation("sft-1b"), observation("kd-1b", **changes))


def test_the_title_does_not_praise_a_worse_student_that_a_cheaper_baseline_matches() -> None:
    """What an equal budget says of it comes second, with the interval and how much worse the student is."""
    large = {"student_j": 33.0, "quality": 0.99}
    rows = [observation("sft-7b", student_j=5.0, quality=0.9), observation("sft-13b", **large)]
    found = compared(*rows, observation("kd-13b", student_j=20.0, quality=0.85))
    title = verdicts.title(found)
    assert title.startswith("On one seed, no distilled label is shown to repay its teacher at matched quality; ")
    assert title.endswith(
        "at an equal token budget kd-13b repays its teacher: kd-13b's N* is 0.85 [0.64, 1.22] "
        "against sft-13b, a student worse by 0.14"
    )


def test_the_title_says_both_where_baselines_differ() -> None:
    rows = [observation("sft-7b", student_j=19.0, quality=0.9), observation("sft-1b", quality=0.69)]
    title = verdicts.title(compared(*rows, observation("kd-1b", student_j=4.0, quality=0.7)))
    assert "at matched quality: kd-1b's N* is " in title
    assert "] against sft-7b; at an equal token budget it is 5.5 [4.0, 8.7] against sft-1b" in title


def test_the_title_says_that_no_baseline_is_as_good() -> None:
    title = verdicts.title(two(student_j=4.0, quality=0.9))
    assert title.startswith("On one seed, no baseline is as good as kd-1b; at an equal token budget kd-1b repays its")


def test_what_one_student_shares_is_what_one_student_pays() -> None:
    assert verdicts.frontier_rows(two())[0][3:] == ["one-off [J]", "marginal [J]"]
    assert "reuse:1" in comparison_dict(two())["points"]  # programs keep one shape


def test_views_have_their_amounts_with_units() -> None:
    site = Site(pue=1.5, kgco2e_per_kwh=0.5)
    rows = [observation(name, site=site, teacher_site=site) for name in ("sft-1b", "kd-1b")]
    tables = {rows[0][0]: rows for rows in verdicts.view_tables(compared(*rows))}
    assert list(tables) == ["facility energy of one student", "carbon of one student"]
    head, first, *_ = tables["carbon of one student"]
    assert head[1:] == ["one-off [kgCO2e]", "marginal [kgCO2e]"]
    assert first[0] == "sft-1b"
    assert "±" in first[1]
    carbon, facility = (
        {point.label: point for view in compared(*rows).views if view.name == name for point in view.fronts[0].points}
        for name in ("kgco2e", "facility")
    )
    for label, point in carbon.items():
        assert point.half_width > 0.0
        assert point.half_width == pytest.approx(0.5 * facility[label].half_width)
    pages = impact_tables(comparison_dict(compared(*rows)))
    assert [table.title for table in pages] == ["Facility energy of one student", "Carbon of one student"]
    assert [row.cells[1].replace(" *", "*") for row in pages[1].rows] == [
        row[1] for row in tables["carbon of one student"][1:]
    ]


@pytest.mark.parametrize(
    ("found", "title"),
    [
        (compared(observation("sft-1b")), "Nothing was distilled here, or nothing can be held against a baseline"),
        (two(student_j=9.0), "No reuse repays any teacher here: training the distilled students saved nothing"),
        (two(student_j=5.9), "Whether reuse repays the teacher cannot be told from these trainings"),
        (
            two(student_j=4.0),
            "On one seed, kd-1b repays its teacher at matched quality: kd-1b's N* is 5.5 [3.8, 9.7] against sft-1b",
        ),
        (
            compared(*seeds("sft-1b", SFT), *seeds("kd-1b", KD), *seeds("syn-1b", [3.1, 3.2, 3.3])),
            "2 of 2 distilled labels repay their teacher at matched quality: the smallest, syn-1b's, N* is "
            "3.548 [3.548, 3.548] against sft-1b",
        ),
        (
            two(student_j=4.0, quality=0.5),  # a cheaper baseline is as good as this student
            "On one seed, kd-1b repays its teacher at matched quality: kd-1b's N* is 5.5 [3.8, 9.7] against sft-1b",
        ),
    ],
)
def test_the_title_is_the_shortest_true_answer(found: Comparison, title: str) -> None:
    assert verdicts.title(found) == title


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"student_j": 4.0}, "Reuse repays the teacher of kd-1b at 5.5 [4.0, 8.7] students, against sft-1b."),
        ({"student_j": 1.0, "teacher_j": 0.1}, "kd-1b is worth it from the first student: N* 0.02"),
        ({"student_j": 9.0}, "No reuse repays the teacher of kd-1b: nothing is saved against sft-1b"),
        ({"student_j": 5.5}, "Reuse repays the teacher of kd-1b from 9 students on at the earliest, or never (N* 22"),
        ({"student_j": None}, "N* of kd-1b is not known: the student's energy of kd-1b is unknown."),
        ({"student_j": 6.1}, "N* of kd-1b is not known: the saving against sft-1b cannot be told from 0."),
        ({"quality": 0.9}, "At the quality of kd-1b there is nothing to hold it against: no baseline of known energy"),
        ({"student_j": 9.0}, "At matched quality no reuse repays the teacher of kd-1b: sft-1b, the cheapest baseline"),
        (
            {"student_j": 5.5},
            "at least as good, or never: the saving cannot be told from 0.",
        ),
        ({"student_j": 4.0}, "At matched quality, N* of kd-1b is 5.5 [3.8, 9.7] against sft-1b, the cheapest baseline"),
        ({"quality": 0.9}, "kd-1b has a quality of +0.200 against sft-1b, the best baseline no dearer."),
        ({"student_j": 4.0}, "kd-1b takes 2.29 [2.02, 2.60] times the energy of sft-1b, the cheapest baseline"),
        ({"own_j": 90.0}, "With the whole teacher on one student, kd-1b takes just what its baseline does where"),
        ({"student_j": 0.5, "teacher_j": 60.0, "quality": None}, "where the baseline's training takes"),
    ],
)
def test_every_verdict_has_its_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in text(two(**changes))


def test_a_baseline_that_stands_in_is_said_to_be_worse() -> None:
    sft = observation("sft-1b", quality_se=0.02)
    found = text(compared(sft, observation("kd-1b", quality=0.71, quality_se=0.02, student_j=4.0)))
    worse = "sft-1b, the best baseline, worse by 0.01, which is within the error"
    assert f"At matched quality, N* of kd-1b is 5.5 [3.8, 9.7] against {worse}." in found
    assert f"kd-1b takes 2.29 [2.02, 2.60] times the energy of {worse}" in found


def test_no_stage_alone_may_turn_a_verdict() -> None:
    found = two(student_j=4.0)
    stuck = replace(found, levers=tuple(replace(lever, turning_factor=None) for lever in found.levers))
    assert (
        "With the whole teacher on one student, no change of one stage alone makes kd-1b take what its baseline does."
        in text(stuck)
    )


def test_serving_has_a_sentence_for_each_answer() -> None:
    def served(teacher_j: float, student_j: float, **changes: Any) -> str:
        return text(compared(observation("kd-1b", served_teacher_j=teacher_j, served_student_j=student_j, **changes)))

    assert "Served instead of the teacher, kd-1b has repaid its making after 42 [" in served(1.0, 0.6)
    assert "Serving kd-1b instead of the teacher never repays its making" in served(0.5, 0.9)
    assert "T* of kd-1b is not known: the saving against serving the teacher" in served(1.0, 0.99)
    unknown = served(1.0, 0.6, own_j=None)
    assert "T* of kd-1b is not known: the energy beside the teacher's of kd-1b is unknown" in unknown


def test_sweeps_have_a_sentence_for_each_answer() -> None:
    base = [observation("sft-1b"), observation("sft-7b")]

    def sweep(small_j: float | None, large_j: float | None, *rows: Observation) -> str:
        made = [observation("kd-1b", student_j=small_j), observation("kd-7b", student_j=large_j)]
        return text(compared(*(rows or base), *made))

    assert "One kd cache shared by 1b and 7b: one sweep over them earns back 36 % of it." in sweep(4.0, 4.0)
    assert "earns back 5.5 % of it; the saving against the baselines cannot be told from 0." in sweep(5.7, 5.7)
    assert "One kd cache shared by 1b and 7b is never repaid" in sweep(9.0, 9.0)
    assert "One kd cache shared by 1b and 7b: not known, no baseline has student '7b'." in sweep(4.0, 4.0, base[0])


def test_certain_places_are_counted_and_uncertain_ones_are_not_called_sure() -> None:
    one = text(two(quality_se=0.01))
    assert "None of them rests on several seeds with known errors, so none is sure." in one
    several = compared(
        *seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70]), *seeds("kd-1b", KD, quality=[0.93, 0.94, 0.952])
    )
    assert "2 of 2 are sure (p of 95 % or more, several seeds)." in text(several)
    dominated = compared(
        *seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70]),
        *seeds("kd-1b", KD, quality=[0.93, 0.94, 0.952]),
        observation("kd-9b", quality=0.99, student_j=50.0),
    )
    assert "2 of 3 are sure" in text(dominated)
    table = verdicts.frontier_rows(several)
    assert table[1][1:4] == ["0.690 ± 0.025", "3", "7.30 ± 0.25* p>0.99"]


def test_a_significant_difference_is_called_so() -> None:
    found = compared(
        *seeds("sft-1b", SFT, quality=[0.68, 0.69, 0.70]), *seeds("kd-1b", KD, quality=[0.93, 0.94, 0.952])
    )
    assert "(significant)" in text(found)
    assert "±" in text(found)


def test_long_answers_end_and_say_how_much_is_left() -> None:
    rows = [observation("sft-1b"), *(observation("kd-1b", label=f"kd-{i}", student_j=4.0 + i / 100) for i in range(40))]
    found = compared(*rows)
    assert "10 more like these are in the JSON alone." in text(found)
    assert verdicts.frontier_rows(found)[-1][0] == "… 11 more labels"
    assert len(verdicts.reuse_rows(found)) == 31
    assert len(verdicts.stage_rows(found)) == 31
    lost = tuple(Unbilled(run_id="r", stage=f"s{i}", energy_j=1.0, reason="x") for i in range(35))
    assert verdicts.unbilled_rows(replace(found, unbilled=lost))[-1][0] == "… 5 more"
    assert verdicts.unbilled_rows(found) == []
    assert verdicts.reuse_rows(compared(observation("sft-1b"))) == []


def test_small_energies_are_told_in_joules_and_large_ones_in_kwh() -> None:
    small = compared(
        observation("sft-1b", student_j=400.0, own_j=486.0),
        observation("kd-1b", teacher_j=100.0, student_j=9.8, own_j=12.8),
    )
    assert verdicts.stage_rows(small)[:2] == [
        ["label", "teacher [J]", "student [J]", "other [J]", "total [J]", "teacher's share"],
        ["sft-1b", "0", "400", "86.0", "486", "0 %"],
    ]
    assert verdicts.frontier_rows(small)[0][3] == "one-off [J]"
    large = compared(observation("sft-1b", student_j=7.2e6, own_j=7.2e6))
    assert verdicts.stage_rows(large)[0][1] == "teacher [kWh]"
    assert verdicts.stage_rows(large)[1][2] == "2.00"
    lost = replace(small, unbilled=(Unbilled(run_id="r", stage="s", energy_j=4.2, reason="x"),))
    assert verdicts.unbilled_rows(lost) == [["on no bill", "stage", "[J]", "because"], ["r", "s", "4.20", "x"]]


def test_long_frontiers_of_a_view_are_cut() -> None:
    site = Site(pue=1.5)
    rows = [
        observation(f"sft-{i}b", student_j=5.0 + i, quality=i / 100, site=site, teacher_site=site) for i in range(40)
    ]
    assert "and more." in text(compared(*rows))
    assert "on the frontier: nothing." in text(compared(observation("sft-1b", quality=None, site=site)))


def test_of_very_many_points_those_on_the_frontier_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.report.comparison.MOST_POINTS", 1)
    answer = comparison_dict(two())
    assert [point["label"] for point in answer["points"]["one-off"]] == ["sft-1b"]
    assert len(answer["stages"]) == 1
    assert MOST_POINTS == 10_000


def test_an_unlimited_ratio_says_so() -> None:
    found = two()
    ratio = Ratio(verdict=Verdict.VALUE, value=3.0, low=2.0, high=None, reason="")
    entry = replace(found.n_star[0], found=ratio)
    assert "3.0 [2.0, no upper end]" in text(replace(found, n_star=(entry,)))
    matched = tuple(replace(m, ratio_low=None, ratio_high=None) for m in found.matched)
    assert "takes 2.43 times the energy" in text(replace(found, matched=matched))
    matched = tuple(replace(m, ratio_low=2.0, ratio_high=None) for m in found.matched)
    assert "takes 2.43 [2.00, no upper end] times the energy" in text(replace(found, matched=matched))


def test_probabilities_near_the_ends_are_not_called_certain() -> None:
    rows = verdicts.frontier_rows(
        compared(
            observation("sft-1b", quality_se=0.01),
            observation("sft-2b", quality=0.1, quality_se=0.01, student_j=90.0),
            observation("sft-3b", quality=0.7, quality_se=0.01),
        )
    )
    cells = [row[3] for row in rows[1:]]
    assert cells[1].endswith("p<0.01")
    assert "p=0." in cells[0]
