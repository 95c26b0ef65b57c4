"""A teacher that runs beside a student's training: each further student needs it anew, and nobody shares it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from observations import observation, seeds
from run_records import arm_stages, run_record, scores, stage
from stillwatt.analysis.compare import compare
from stillwatt.analysis.seeds import Gathered, SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.records import RunRecord, StageKind
from stillwatt.records.comparison import Comparison, Observation
from stillwatt.records.finding import Bill, BreakEven, BreakEvenKind, Study, Verdict
from stillwatt.records.window import ONLINE_TEACHER
from stillwatt.report.answer import answer_dict
from stillwatt.report.data import report_dict
from stillwatt.report.figure_frontier import reuse_panel
from stillwatt.report.figure_tornado import run_weighed
from stillwatt.report.verdicts import sentences, title
from stillwatt.workflows.analyse import bear_pretraining

FOUND = (scores(30.0, 0.6), scores(25.0, 0.7))


def online_run(*, training_j: float = 200.0, teacher_j: float = 20.0, on_text: bool = False) -> RunRecord:
    """sft of 300 J an increment, and an arm whose increments hold a teacher; on text that a teacher wrote, if asked."""
    trained = arm_stages(21, "on", "gkd", (training_j, training_j), FOUND, artifact="online-on")
    if on_text:
        trained = [
            replace(entry, labels={**entry.labels, "text_artifact": "text-1"}) if "artifact" in entry.labels else entry
            for entry in trained
        ]
    beside = [
        stage(
            f"o{number}",
            "teacher_online",
            StageKind.TEACHER_LOGITS,
            joules=teacher_j,
            labels={**entry.labels, "artifact_kind": ONLINE_TEACHER},
            parent_id=entry.stage_id,
        )
        for number, entry in enumerate(entry for entry in trained if entry.kind is StageKind.STUDENT_TRAIN)
    ]
    text = {"artifact": "text-1", "artifact_kind": "text"}
    wrote = [stage("g1", "teacher_generate", StageKind.TEACHER_GENERATE, joules=1000.0, labels=text)] if on_text else []
    served = [
        stage("s1", "serve.teacher", StageKind.SERVE, joules=60.0, tokens=10, labels={"arm": "teacher"}),
        stage("s2", "serve.student", StageKind.SERVE, joules=10.0, tokens=10, labels={"student": "pruned"}),
    ]
    reference = {"arm": "teacher"}
    return run_record(
        [
            stage("e1", "evaluate.teacher", StageKind.EVALUATE, joules=7.0, labels=reference, results=FOUND[1]),
            *wrote,
            *arm_stages(11, "sft", "sft", (300.0, 300.0), FOUND),
            *trained,
            *beside,
            *served,
        ]
    )


def summary(run: RunRecord) -> Study:
    return summarise(run, reuse=(10,))


def gathered(run: RunRecord) -> Gathered:
    return gather_runs([SummedRun(run=run, study=summary(run), cards=summary(cards_only(run)))])


def analysed(run: RunRecord) -> Comparison:
    return compare(gathered(run).rows, source="drawn", reuse_counts=(10,))


def in_report(run: RunRecord, kind: BreakEvenKind = BreakEvenKind.REUSE) -> BreakEven:
    study = summary(run)
    found = study.break_even(kind, study.final_points[-1])
    assert found is not None
    return found


def by_label(run: RunRecord) -> dict[str, Observation]:
    return {row.label: row for row in gathered(run).rows}


@pytest.mark.parametrize(
    ("teacher_j", "outcome"),
    [(20.0, "saves energy against sft all the same"), (199.0, "takes more energy against sft")],
)
def test_analyse_says_of_a_teacher_beside_the_training_what_the_report_says(teacher_j: float, outcome: str) -> None:
    training_j = 200.0 if teacher_j < 100.0 else 500.0
    run = online_run(training_j=training_j, teacher_j=teacher_j)
    found = analysed(run)
    (entry,) = found.n_star
    told = in_report(run)
    assert entry.found.verdict is told.verdict is Verdict.NEVER
    assert entry.has_nothing_to_share
    assert entry.found.value is told.value is None
    assert "left nothing that another student could use" in entry.found.reason
    assert entry.found.reason.endswith(outcome)
    assert told.reason.endswith(outcome.replace("against sft", "at equal token budget"))
    bills = {front.allocation: front.placed[1].energy_j for front in found.fronts}
    assert bills["one-off"] == bills["marginal"] == pytest.approx(bills["reuse:10"])
    one_off = summary(run).final_points[-1].energy_under("one-off")
    assert isinstance(one_off, Bill)
    assert bills["one-off"] == pytest.approx(one_off.value_j)


def test_what_cannot_be_told_from_nothing_is_not_called_a_saving() -> None:
    run = online_run(training_j=300.0)
    assert in_report(run).reason.endswith("takes neither clearly more nor clearly less energy at equal token budget")
    (entry,) = analysed(run).n_star
    assert entry.found.reason.endswith("takes neither clearly more nor clearly less than sft")


def test_a_row_has_the_teacher_beside_it_in_what_each_student_takes() -> None:
    row = by_label(online_run())["on"]
    assert (row.teacher_j, row.online_j, row.student_j) == pytest.approx((0.0, 40.0, 400.0))
    assert row.own_j == pytest.approx(820.0)
    assert row.teacher_tokens is None
    assert by_label(online_run())["sft"].online_j == 0.0


def test_text_that_a_teacher_wrote_is_shared_and_its_work_beside_the_training_is_not() -> None:
    run = online_run(on_text=True)
    found = in_report(run)
    assert (found.extra_j, found.saving_j) == pytest.approx((1000.0, 200.0))
    assert found.value == pytest.approx(5.0)
    row = by_label(run)["on"]
    assert (row.teacher_j, row.student_j) == pytest.approx((1000.0, 400.0))
    (entry,) = analysed(run).n_star
    assert entry.found.value == pytest.approx(5.0)
    assert not entry.has_nothing_to_share


def test_the_answer_does_not_say_that_nothing_was_saved_where_something_was() -> None:
    run = online_run()
    said = answer_dict(run, summary(run))
    text = " ".join(said["sentences"])
    assert "saved nothing" not in text
    assert "No amount of reuse repays its teacher: the teacher ran beside the training" in text
    assert "saves energy at equal token budget all the same" in text
    note = next(number for number in said["key_numbers"] if number["label"] == "Reuse break-even N*")
    assert (note["value"], note["note"]) == ("never", "no teacher left work to share")


def test_words_of_a_comparison_whose_teachers_left_nothing() -> None:
    found = analysed(online_run())
    assert title(found) == (
        "No reuse repays any teacher here: each ran beside its student's training and left nothing to share"
    )
    said = list(sentences(found))
    assert any("At matched quality, against sft" in text and "ran beside the training" in text for text in said)
    assert any("a teacher ran beside the training of on: what it took is in its student's" in w for w in found.warnings)


def test_a_title_over_unlike_reasons_gives_none() -> None:
    rows = [
        *seeds("sft-1b", [6.0, 6.0001, 5.9999]),
        *seeds("kd-1b", [9.0, 9.0001, 8.9999]),
        *seeds("gkd-1b", [5.0, 5.0001, 4.9999], teacher_j=0.0, online_j=1.0),
        *seeds("okd-1b", [5.0, 5.0001, 4.9999], teacher_j=0.0, online_j=1.0),
    ]
    found = compare([replace(row, quality=0.9 if row.method == "sft" else 0.1) for row in rows[:9]], source="drawn")
    never = replace(found, n_star_matched=tuple(replace(e, found=found.n_star[0].found) for e in found.n_star_matched))
    assert title(never) == "No reuse repays any teacher here"
    two = [replace(row, quality=0.9 if row.method == "sft" else 0.1) for row in (*rows[:3], *rows[6:])]
    assert any(
        "of gkd-1b and okd-1b: what it took is in their student's" in w for w in compare(two, source="d").warnings
    )


def test_figures_share_out_only_what_can_be_shared() -> None:
    run = online_run()
    data = report_dict(run, summary(run))
    assert run_weighed(data) == []
    panel = reuse_panel(data)
    assert panel is not None
    curve = {value["students"]: value["energy"] for value in panel["data"]["values"] if value["arm"] == "on"}
    assert len(set(curve.values())) == 1
    on_text = online_run(on_text=True)
    (entry,) = run_weighed(report_dict(on_text, summary(on_text)))
    assert (entry.student, entry.baseline_student) == pytest.approx((400.0, 600.0))
    assert entry.n_star() == pytest.approx(5.0)


def test_a_student_that_a_teacher_worked_beside_bears_its_share_of_pre_training_itself() -> None:
    row = observation("gkd-1b", teacher_j=0.0, online_j=1.0, whole_j=(1.0, 9.0))
    (borne,) = bear_pretraining([row], 2.0)
    assert (borne.teacher_j, borne.online_j, borne.student_j, borne.own_j) == (0.0, 3.0, 7.0, 8.0)
    assert borne.whole_j == (3.0, 11.0)
    unknown: Any = replace(row, own_j=None, whole_j=None)
    assert bear_pretraining([unknown], 2.0)[0].own_j is None
    assert bear_pretraining([replace(row, online_j=0.0)], 2.0) == (replace(row, online_j=0.0),)
