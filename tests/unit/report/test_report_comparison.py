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

SFT, KD = [6.2, 6.3, 6.4], [5.1, 5.2, 5.3]


def compared(*rows: Observation, **options: Any) -> Comparison:
    return compare(rows, source="made up", **options)


def text(found: Comparison) -> str:
    return "\n".join([verdicts.title(found), *verdicts.sentences(found), *verdicts.view_sentences(found)])


def two(**changes: Any) -> Comparison:
    return compared(observation("sft-1b"), observation("kd-1b", **changes))


@pytest.mark.parametrize(
    ("found", "title"),
    [
        (compared(observation("sft-1b")), "Nothing was distilled here, or nothing can be held against a baseline"),
        (two(student_j=9.0), "No reuse repays any teacher here: training the distilled students saved nothing"),
        (two(student_j=5.9), "Whether reuse repays the teacher cannot be told from these trainings"),
        (two(student_j=4.0), "On one seed, kd-1b repays its teacher from 6 students on"),
        (
            compared(*seeds("sft-1b", SFT), *seeds("kd-1b", KD), *seeds("syn-1b", [3.1, 3.2, 3.3])),
            "2 of 2 distilled labels repay their teacher; syn-1b from 4 students on",
        ),
        (two(student_j=1.0, teacher_j=0.1), "On one seed, kd-1b repays its teacher from 1 student on"),
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
        ({"student_j": 5.5}, "Reuse repays the teacher of kd-1b from 8.3 students on, or never (at best guess 22"),
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
        ({"own_j": 90.0}, "The verdict on kd-1b with 1 sharing turns first with its"),
        ({"student_j": 0.5, "teacher_j": 60.0, "quality": None}, "turns first with its baseline energy"),
    ],
)
def test_every_verdict_has_its_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in text(two(**changes))


def test_no_stage_alone_may_turn_a_verdict() -> None:
    found = two(student_j=4.0)
    stuck = replace(found, levers=tuple(replace(lever, turning_factor=None) for lever in found.levers))
    assert "No change of one stage alone turns the verdict on kd-1b with 1 sharing." in text(stuck)


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
    assert table[1][3].endswith("* p=>0.99")


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
    assert cells[1].endswith("p=<0.01")
    assert "p=0." in cells[0]
