"""Judged scores on the account: on the arm's bill by themselves, in Q by the recipe's word, never across judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from run_records import run_record, scores, stage
from stillwatt.analysis.seeds import SummedRun, _check_tasks
from stillwatt.analysis.study import summarise
from stillwatt.records import RunRecord, StageKind, StageRecord
from stillwatt.records.finding import ArmPoint, Bill, NoQuality, Quality, StageGroup, Study
from stillwatt.records.window import JUDGED_AS

WIN = "judge:win_vs_teacher@0a1b2c3d"
OTHER = "judge:win_vs_teacher@99999999"
ARM = {"arm": "sft", "student": "tiny", "seed": "1", "method": "sft", "checkpoint": "1.0"}


def judged(
    stage_id: str, model: str, value: float, labels: Mapping[str, str], *, task: str = WIN, **told: Any
) -> StageRecord:
    in_quality = told.pop("in_quality", True)
    found = {"judge": "big", "verdict_mass": 0.9, "position_flip_share": 0.2, "own_empty": 0, "caution": None, **told}
    score = {"task": task, "value": value, "se": 0.05, "n": 40, "higher_is_better": True, "in_quality": in_quality}
    return stage(
        stage_id,
        f"judge.{model}",
        StageKind.EVALUATE,
        joules=50.0,
        tokens=9000,
        labels={**labels, JUDGED_AS: task},
        results={"scores": [{**score, "judged": found}]},
    )


def study_record(*extra: StageRecord, **changes: Any) -> RunRecord:
    made: Sequence[StageRecord] = [
        stage("p1", "prepare_data", StageKind.PREPARE_DATA, joules=10.0),
        stage(
            "e1", "evaluate.teacher", StageKind.EVALUATE, joules=20.0, labels={"arm": "teacher"},
            results=scores(20.0, 0.8),
        ),
        stage("t1", "train.sft.1.0", StageKind.STUDENT_TRAIN, joules=500.0, tokens=100, labels=ARM),
        stage("e2", "evaluate.sft.1.0", StageKind.EVALUATE, joules=30.0, labels=ARM, results=scores(25.0, 0.6)),
        stage("w2", "answer.sft.1.0", StageKind.OTHER, joules=5.0, labels=ARM, parent_id="e2", tokens=60),
        *extra,
    ]  # fmt: skip
    return run_record(made, **changes)


def point(study: Study) -> ArmPoint:
    (found,) = study.arms
    return found


def quality(study: Study) -> Quality:
    found = point(study).quality
    assert isinstance(found, Quality)
    return found


def both(**told: Any) -> tuple[StageRecord, StageRecord]:
    return judged("j1", "teacher", 0.5, {"arm": "teacher"}, **told), judged("j2", "sft.1.0", 0.4, ARM, **told)


def test_the_judges_joules_are_on_the_arms_evaluation_and_in_a_row_of_their_own() -> None:
    plain, with_judge = summarise(study_record(), reuse=[]), summarise(study_record(*both()), reuse=[])
    bills = [point(found).evaluation_energy for found in (plain, with_judge)]
    assert [bill.value_j for bill in bills if isinstance(bill, Bill)] == pytest.approx([30.0, 80.0])
    rows = {(row.group, row.arm, row.label): row for row in with_judge.table.rows}
    own = rows[StageGroup.ARM, "sft", "judge"]
    assert isinstance(own.energy, Bill)
    assert own.energy.value_j == pytest.approx(50.0)
    assert own.tokens == 9000
    assert (StageGroup.OVERHEAD, "", "judge.teacher") in rows
    assert (StageGroup.ARM, "sft", "answer.sft.1.0") in rows
    assert with_judge.table.closes is True
    assert with_judge.table.residual_j == pytest.approx(0.0, abs=1e-9)


def test_a_judged_score_stands_beside_the_others_and_counts_only_where_the_recipe_says_so() -> None:
    beside, counted = (summarise(study_record(*both(in_quality=flag)), reuse=[]) for flag in (False, True))
    assert [score.task for score in point(beside).scores] == ["perplexity", "choice4", WIN]
    assert quality(beside).value == pytest.approx((20.0 / 25.0 + 0.6 / 0.8) / 2)
    assert quality(beside).left_out == (f"{WIN}: the recipe shows it beside Q",)
    assert quality(counted).value == pytest.approx((20.0 / 25.0 + 0.6 / 0.8 + 0.4 / 0.5) / 3)
    assert [task.task for task in quality(counted).tasks] == ["perplexity", "choice4", WIN]


def test_unlike_judges_give_no_quality_and_no_place_on_the_frontier() -> None:
    teacher = judged("j1", "teacher", 0.5, {"arm": "teacher"}, task=OTHER)
    study = summarise(study_record(teacher, judged("j2", "sft.1.0", 0.4, ARM)), reuse=[])
    found = point(study).quality
    assert isinstance(found, NoQuality)
    assert found.reason == (
        f"judged as {WIN}, and the teacher as {OTHER}: scores of unlike judges or rubrics are not compared"
    )
    assert {each.reason for each in study.rejected} == {found.reason}
    assert study.frontier == ()


def test_runs_of_unlike_judges_are_not_compared() -> None:
    from stillwatt.errors import UsageError

    entries = []
    for run_id, task in (("r1", WIN), ("r2", OTHER)):
        record = study_record(*both(task=task), run_id=run_id)
        entries.append(SummedRun(run=record, study=summarise(record, reuse=[]), cards=summarise(record, reuse=[])))
    _check_tasks(entries[:1])
    with pytest.raises(UsageError, match="scores of unlike judges or rubrics are scores of unlike tasks; compare"):
        _check_tasks(entries)


def test_a_score_that_no_judge_gave_does_not_hide_those_behind_it() -> None:
    """A judged stage may hold others: its lengths, say."""
    beside = {"task": "answer_tokens", "value": 12.0, "se": 1.0, "n": 40, "higher_is_better": True, "in_quality": False}
    doubtful = [
        replace(one, results={"scores": [beside, *one.results["scores"]]}) for one in both(position_flip_share=0.75)
    ]
    said = summarise(study_record(*doubtful), reuse=[]).warnings
    assert any("75.0 % of the questions on teacher, sft.1.0" in line for line in said)


@pytest.mark.parametrize(("accuracy", "is_doubted"), [(0.58, True), (0.62, False)])
def test_a_judge_that_fails_on_planted_pairs_is_doubted_and_is_on_no_arms_bill(
    accuracy: float, is_doubted: bool
) -> None:
    tried = judged("j0", "planted", accuracy, {}, task="judge:planted_win@0", planted=True, in_quality=False)
    study = summarise(study_record(tried, *both()), reuse=[])
    said = [line for line in study.warnings if "no better than a coin" in line]
    assert bool(said) is is_doubted
    assert all("in 58 ± 10 % of 40 questions" in line for line in said)
    bill = point(study).evaluation_energy
    assert isinstance(bill, Bill)
    assert bill.value_j == pytest.approx(80.0)
    assert study.table.closes is True


def test_a_score_beside_q_is_no_doubt_of_q() -> None:
    beside, counted = (summarise(study_record(*both(in_quality=flag)), reuse=[]) for flag in (False, True))
    assert not any("40 items of judge" in line for line in beside.warnings)
    assert any("40 items of judge" in line for line in counted.warnings)


def test_what_makes_a_judge_doubtful_is_said_once_with_its_figures() -> None:
    doubtful = both(position_flip_share=0.75, verdict_mass=0.031, own_empty=3, caution="it is its own teacher")
    warnings = summarise(study_record(*doubtful), reuse=[]).warnings
    said = [line for line in warnings if "judge big" in line or "empty" in line or "own teacher" in line]
    assert "it is its own teacher" in said
    assert any(
        "judge big changes its winner with the order of the answers in 75.0 % of the questions on teacher, sft.1.0" in s
        for s in said
    )
    assert any("judge big gives all verdicts together 3.1 % of its probability on teacher, sft.1.0" in s for s in said)
    assert any("answers are empty, and judged as they are: 3 of 40 of teacher, 3 of 40 of sft.1.0" in s for s in said)
    assert len(said) == 4
    assert not any("judge big" in line for line in summarise(study_record(*both()), reuse=[]).warnings)


def test_what_a_server_left_without_a_verdict_is_said_and_no_score_is_no_number() -> None:
    asked = {"asked_prompts": 80, "no_verdict": 6, "refused": 2, "cut_off": 4, "verdict_mass": None}
    teacher, student = both(**asked)
    study = summarise(study_record(teacher, student), reuse=[])
    assert (
        "judge big gave no verdict on 16 of 160 prompts (12 answered otherwise, 4 refused) on teacher, sft.1.0: their "
        "questions are in no score"
    ) in study.warnings
    assert any("was not told to the last verdict in 5.0 % of the prompts on teacher" in text for text in study.warnings)
    entry = {**student.results["scores"][0], "value": None, "se": None, "n": 0}
    planted = {**entry, "judged": {**entry["judged"], "planted": True}}
    silent = replace(student, results={"scores": [planted]})
    study = summarise(study_record(teacher, silent), reuse=[])
    assert any("judge.sft.1.0 has a score of judge:win" in text for text in study.warnings)
    assert not any("no better than a coin" in text for text in study.warnings)
