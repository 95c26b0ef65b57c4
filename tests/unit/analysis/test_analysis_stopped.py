"""Trainings that a budget ended: how far they came, what they are held against, and equal-joule arms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from observations import seeds
from rule_studies import judged, parts
from run_records import arm_stages, run_record, scores, stage
from stillwatt.analysis.compare import compare
from stillwatt.analysis.seeds import SummedRun, cards_only, gather_runs
from stillwatt.analysis.stopped import ending_of, find_equal, find_stop, trained_share
from stillwatt.analysis.study import summarise
from stillwatt.analysis.trainings import gather_labels
from stillwatt.records import RunRecord, StageKind, StageRecord
from stillwatt.records.comparison import Comparison, Observation, ReuseFinding
from stillwatt.records.finding import ArmPoint, Bill, BreakEvenKind, Study, Verdict
from stillwatt.records.stop import Stop
from stillwatt.report.answer import answer_dict
from stillwatt.report.answer import compare as compare_arms
from stillwatt.report.data import report_dict
from stillwatt.report.tables import break_even_table
from stillwatt.report.verdicts import sentences, title

STEPS, TOKENS = 16, 16_384
"""Of one increment."""
GOOD, BAD = (scores(30.0, 0.6), scores(25.0, 0.7)), (scores(40.0, 0.5), scores(35.0, 0.6))


def stopped(entry: StageRecord, steps: int, *, by: str, teacher_j: float | None = None) -> StageRecord:
    """The increment, ended so many steps after it began by a budget that is worded as a run words it."""
    of = "run" if by.startswith("the run's") else "arm"
    said = by.partition(" budget of ")[2].partition(":")[0]
    before = 0 if entry.labels["checkpoint"] == "0.5" else STEPS
    limit: dict[str, Any] = {"of": of, "said": said, "unit": said.partition(" ")[2], "amount": float(said.split()[0])}
    results = {
        "stopped_by": by,
        "steps_done": before + steps,
        "steps_planned": 2 * STEPS,
        "budgets": [limit | ({} if teacher_j is None else {"teacher_j": teacher_j})],
    }
    tokens = TOKENS * steps / STEPS
    return replace(entry, results=results, workload={**entry.workload, "tokens": tokens, "steps": float(steps)})


def teacher() -> StageRecord:
    labels = {"artifact": "logits-1", "artifact_kind": "logits"}
    return stage("t1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=1000.0, labels=labels)


def study_run(changed: dict[str, StageRecord | None], *, kd: Any = GOOD, **changes: Any) -> RunRecord:
    """Two arms of two checkpoints; a stage of that name is another, or was never begun."""
    reference = {"arm": "teacher"}
    stages = [
        stage("e1", "evaluate.teacher", StageKind.EVALUATE, joules=7.0, labels=reference, results=scores(15.0, 0.8)),
        teacher(),
        *arm_stages(11, "sft", "sft", (300.0, 300.0), GOOD),
        *arm_stages(21, "kd", "kd", (200.0, 200.0), kd, artifact="logits-1"),
    ]
    found = [changed.get(entry.name, entry) for entry in stages]
    return run_record([entry for entry in found if entry is not None], **changes)


def training(arm: str, checkpoint: str) -> StageRecord:
    return next(entry for entry in study_run({}).stages if entry.name == f"train.{arm}.{checkpoint}")


def cut(arm: str, steps: int, by: str, *, checkpoint: str = "1.0", **budget: Any) -> dict[str, StageRecord | None]:
    return {f"train.{arm}.{checkpoint}": stopped(training(arm, checkpoint), steps, by=by, **budget)}


def summary(run: RunRecord) -> Study:
    return summarise(run, reuse=(10,))


def last(study: Study, arm: str) -> ArmPoint:
    return [point for point in study.arms if point.arm == arm][-1]


def reuse(study: Study, arm: str) -> Any:
    return study.break_even(BreakEvenKind.REUSE, last(study, arm))


def analysed(*runs: RunRecord) -> Comparison:
    summed = [SummedRun(run=run, study=summary(run), cards=summary(cards_only(run))) for run in runs]
    return compare(gather_runs(summed).rows, source="drawn")


def n_star(found: Comparison) -> ReuseFinding:
    (entry,) = found.n_star
    return entry


MID = "the run's budget of 832 tokens: 832 tokens with the evaluation to come"


def equal_joules(
    sft_steps: int = 6, kd_steps: int = 10, *, amounts: tuple[str, str] = ("4 J", "4 J"), **changes: Any
) -> RunRecord:
    changed = {
        **cut("sft", sft_steps, f"its budget of {amounts[0]}: 3.97 J", teacher_j=0.0),
        **cut("kd", kd_steps, f"its budget of {amounts[1]}: 3.83 J (a step takes 23% of it)", teacher_j=1000.0),
    }
    return study_run(changed, **changes)


def test_a_stopped_point_says_the_share_that_was_trained() -> None:
    point = last(summary(study_run(cut("kd", 4, MID))), "kd")
    assert (point.checkpoint, point.budget_share) == ("1.0", 20 / 32)
    assert point.stop == Stop(is_own=False, said="832 tokens", unit="tokens")
    assert point.stop.words == "the run's budget of 832 tokens"
    assert point.steps == 20.0
    assert last(summary(study_run({})), "kd").stop is None


def test_the_artefact_is_billed_by_the_share_that_was_trained() -> None:
    point = last(summary(study_run(cut("kd", 4, MID))), "kd")
    assert isinstance(point.teacher_energy, Bill)
    assert point.teacher_energy.value_j == pytest.approx(625.0)


def test_a_budget_of_joules_that_the_artefact_is_in_has_it_in_the_bill_whole() -> None:
    point = last(summary(equal_joules()), "kd")
    assert isinstance(point.teacher_energy, Bill)
    assert point.teacher_energy.value_j == pytest.approx(1000.0)
    assert point.budget_share == 26 / 32


def test_records_without_the_budget_s_facts_are_read_from_its_words() -> None:
    entry = replace(training("kd", "1.0"), results={"stopped_by": "its budget of 4 J: 3.97 J"})
    assert find_stop(entry) == Stop(is_own=True, said="4 J", unit="")
    assert trained_share(entry, 1.0) == 1.0  # nobody counted its steps
    assert ending_of([entry, training("kd", "1.0")]) is entry  # of ranks, one tells


def test_a_point_that_no_baseline_was_trained_as_long_as_has_no_n_star() -> None:
    found = reuse(summary(study_run(cut("kd", 4, MID))), "kd")
    assert found.verdict is Verdict.NOT_AT_THIS_BUDGET
    assert found.reason == "kd was stopped at 62 % by the run's budget of 832 tokens, where sft was not observed"
    assert found.value is found.low is found.saving_j is None


def test_nor_has_one_whose_baseline_was_stopped() -> None:
    found = reuse(summary(study_run(cut("sft", 4, MID))), "kd")
    assert found.verdict is Verdict.NOT_AT_THIS_BUDGET
    assert found.reason == "sft was stopped at 62 % by the run's budget of 832 tokens, where kd was not observed"


def test_one_that_a_checkpoint_of_the_baseline_stands_beside_has() -> None:
    by = "the run's budget of 800 tokens: 768 tokens with the evaluation to come"
    changed = cut("kd", STEPS, by, checkpoint="0.5") | {"train.kd.1.0": None, "evaluate.kd.1.0": None}
    study = summary(study_run(changed))
    assert last(study, "kd").budget_share == 0.5
    assert reuse(study, "kd").verdict is Verdict.VALUE


def test_own_text_is_shorter_by_design_and_as_long_in_steps() -> None:
    short = replace(training("kd", "1.0"), workload={"tokens": 9_000.0, "steps": float(STEPS)})
    assert reuse(summary(study_run({"train.kd.1.0": short})), "kd").saving_j == pytest.approx(200.0)


def test_points_that_say_one_share_and_counted_unlike_work_are_not_compared() -> None:
    short = replace(training("kd", "1.0"), workload={"tokens": 9_000.0, "steps": 9.0})
    found = reuse(summary(study_run({"train.kd.1.0": short})), "kd")
    assert found.verdict is Verdict.NOT_AT_THIS_BUDGET
    assert found.reason == "trained kd on 25,384 tokens, sft on 32,768 tokens"


def test_arms_of_equal_joules_have_no_n_star_at_an_equal_token_budget() -> None:
    found = reuse(summary(equal_joules()), "kd")
    assert found.verdict is Verdict.NOT_AT_THIS_BUDGET
    assert found.reason == (
        "kd and sft were each trained on 4 J (kd on 26,624 tokens, sft on 22,528 tokens): at equal joules no training "
        "saves any, and their quality alone can be compared"
    )
    # nor where they happened to come as far
    assert reuse(summary(equal_joules(6, 6)), "kd").verdict is Verdict.NOT_AT_THIS_BUDGET
    # budgets that differ are unlike lengths, no equal joules
    assert "where sft was not observed" in reuse(summary(equal_joules(amounts=("4 J", "5 J"))), "kd").reason


def test_equal_tokens_are_an_equal_budget() -> None:
    changed = cut("sft", 6, "its budget of 700 tokens: 700 tokens") | cut("kd", 6, "its budget of 700 tokens: 7 tokens")
    assert reuse(summary(study_run(changed)), "kd").saving_j == pytest.approx(200.0)


def test_a_hand_labelled_arm_without_tokens_says_its_share() -> None:
    point = replace(last(summary(equal_joules()), "kd"), tokens=None)
    _, why = find_equal(point, [last(summary(equal_joules()), "sft")])
    assert "kd at 81 % of the token budget" in why


def test_the_answer_holds_a_stopped_arm_against_the_latest_point_that_both_have() -> None:
    run = study_run(cut("kd", 4, MID), kd=(GOOD[0], BAD[1]))
    (entry,) = compare_arms(summary(run))
    assert (entry.point.checkpoint, entry.baseline.checkpoint) == ("0.5", "0.5")
    said = answer_dict(run, summary(run))["sentences"][0]
    assert said.startswith(
        "kd was stopped at 62 % by the run's budget of 832 tokens: both are compared at 50 %. kd scored higher than "
        "sft, but within the noise"
    )


def test_an_arm_that_was_cut_off_is_not_worse_than_a_whole_baseline() -> None:
    by = "the run's budget of 800 tokens: 768 tokens with the evaluation to come"
    changed = cut("kd", STEPS, by, checkpoint="0.5") | {"train.kd.1.0": None, "evaluate.kd.1.0": None}
    run = study_run(changed)
    (entry,) = compare_arms(summary(run))
    assert not entry.is_worse
    assert entry.quality_gain == 0.0
    assert entry.place == "kd was stopped at 50 % by the run's budget of 800 tokens: both are compared at 50 %"
    said = answer_dict(run, summary(run))
    assert said["title"].endswith(", at 50 % of the token budget")


def test_a_run_that_was_killed_is_compared_as_far_as_both_came() -> None:
    run = study_run({"train.kd.1.0": None, "evaluate.kd.1.0": None})
    (entry,) = compare_arms(summary(run))
    assert entry.place == "kd has no point at 100 % of the token budget: both are compared at 50 %"


def test_two_arms_without_a_common_point_get_no_verdict() -> None:
    by = "the run's budget of 300 tokens: 300 tokens with the evaluation to come"
    changed = cut("kd", 4, by, checkpoint="0.5") | {"train.kd.1.0": None, "evaluate.kd.1.0": None}
    run = study_run(changed)
    said = answer_dict(run, summary(run))
    assert compare_arms(summary(run)) == ()
    assert said["title"] == "2 arms were trained; none could be held against a baseline"
    assert said["sentences"][0] == (
        "kd was stopped at 12 % by the run's budget of 300 tokens, where sft was not observed: no verdict on kd."
    )
    assert {"value": "not known", "note": "no arm stands beside its baseline at one token budget"}.items() <= (
        said["key_numbers"][2].items()
    )
    gone = {name: None for name in ("train.sft.0.5", "evaluate.sft.0.5", "train.kd.1.0", "evaluate.kd.1.0")}
    apart = study_run({**gone})
    assert "kd and sft share no checkpoint: no verdict on kd." in answer_dict(apart, summary(apart))["sentences"]


def test_equal_joule_arms_are_compared_in_quality_and_none_is_called_cheaper() -> None:
    run = equal_joules(kd=BAD, unallocated_j=1.0)
    (entry,) = compare_arms(summary(run))
    assert entry.is_equal_joule
    assert not entry.is_cheaper
    said = answer_dict(run, summary(run))
    assert said["title"] == "On equal joules no distilled arm was clearly better than sft"
    assert "There is no N* at an equal token budget: kd and sft were each trained on 4 J" in said["sentences"][0]


def test_the_tables_show_the_share_that_was_trained() -> None:
    run = study_run(cut("kd", 4, MID))
    data = report_dict(run, summary(run))
    rows = {tuple(row.cells[:3]) for row in break_even_table(data).rows}
    assert ("kd", "62 %", "no baseline at this budget") in rows
    assert {point["budget_share"] for point in data["frontier"] if "budget_share" in point} == {0.625}
    (told,) = [point["stopped_by"] for point in data["arms"] if "stopped_by" in point]
    assert told == "the run's budget of 832 tokens"


def test_analyse_says_why_there_is_no_n_star() -> None:
    found = analysed(study_run(cut("kd", 4, MID)))
    entry = n_star(found)
    assert entry.found.verdict is Verdict.NOT_AT_THIS_BUDGET
    assert entry.found.reason == (
        "kd was stopped by the run's budget of 832 tokens, and the two were trained on unlike amounts: 20,480 and "
        "32,768 tokens"
    )
    assert title(found) == f"No N* at an equal token budget: {entry.found.reason}"
    assert f"kd has no N* at an equal token budget: {entry.found.reason}." in list(sentences(found))
    assert found.levers == ()
    baseline = n_star(analysed(study_run(cut("sft", 4, MID))))
    assert baseline.found.reason.startswith("sft was stopped by the run's budget of 832 tokens")


def test_analyse_compares_the_quality_of_equal_joules() -> None:
    found = analysed(equal_joules())
    assert n_star(found).found.verdict is Verdict.NOT_AT_THIS_BUDGET
    said = next(text for text in sentences(found) if text.startswith("kd has no N*"))
    assert "its quality is +0.000 beside that of sft (no significance)" in said
    unscored = [
        replace(entry, results={}) if entry.kind is StageKind.EVALUATE else entry for entry in equal_joules().stages
    ]
    without = analysed(run_record(unscored))
    assert not any("its quality is" in text for text in sentences(without))


def test_runs_of_one_budget_of_joules_are_repeats_however_many_tokens_they_took() -> None:
    runs = [
        equal_joules(6 + number, 10 - number, run_id=f"run{number}", settings={"name": "quickstart"})
        for number in range(2)
    ]
    summed = [SummedRun(run=run, study=summary(run), cards=summary(cards_only(run))) for run in runs]
    labels = {label.name: label for label in gather_labels(gather_runs(summed).rows)}
    assert set(labels) == {"sft", "kd"}
    assert [len(label.rows) for label in labels.values()] == [2, 2]


def ended(kind: str, joules: list[float], tokens: float, stop: Stop | None, **changes: Any) -> list[Observation]:
    return seeds(kind, joules, settings={"train_tokens": tokens}, stop=stop, **changes)


def test_rules_and_sweeps_hold_nothing_against_a_training_of_another_length() -> None:
    stop = Stop(is_own=False, said="832 tokens", unit="tokens")
    rows = [
        *ended("kd-1b", [5.0, 5.1], 320.0, stop),
        *ended("sft-1b", [6.0, 6.1], 512.0, None),
        *ended("kd-7b", [15.0, 15.2], 512.0, None),
        *ended("sft-7b", [16.0, 16.3], 512.0, None),
        *ended("gkd-1b", [5.0, 5.1], 512.0, None, teacher_j=0.0, online_j=1.0),
    ]
    why = "kd-1b was stopped by the run's budget of 832 tokens"
    (sweep,) = compare(rows, source="drawn").sweeps
    assert sweep.found.verdict is Verdict.UNDETERMINED
    assert sweep.found.reason.startswith(why)
    found = judged(rows)
    _, needed = parts(found, "reuse")
    assert any(gap.startswith(f"N* of kd-1b: {why}") for gap in needed.gaps)
    assert any(gap.startswith("N* of gkd-1b: the teacher ran beside the training") for gap in needed.gaps)
    (order,) = parts(found, "small-students")
    assert any(gap.startswith(f"N* of kd-1b: {why}") for gap in order.gaps)
    assert any("of gkd-1b, the teacher ran beside the training" in gap for gap in order.gaps)


def test_lengths_that_nobody_counted_are_taken_as_they_are_named() -> None:
    stop = Stop(is_own=False, said="1 h", unit="s")
    rows = [*seeds("kd-1b", [5.0, 5.1], stop=stop), *seeds("sft-1b", [6.0, 6.1])]
    assert n_star(compare(rows, source="drawn")).found.value is not None
