from __future__ import annotations

from run_records import run_record, stage
from stillwatt.cli.account import record_lines
from stillwatt.records import StageKind
from stillwatt.records.window import StageStatus
from stillwatt.report.data_tables import texts_table, waits_table

LABELS = {"artifact": "text-0a1b2c3d4e5f", "artifact_kind": "text"}
FOUND = {"samples": 40, "tokens": 4_096, "rejects": {"empty": 0, "near_duplicate": 1_200, "too_short": 3}}


def test_rejects_stand_with_their_reasons_and_cut_off_attempts_are_billed() -> None:
    made = [
        stage(
            "a1", "teacher_generate", StageKind.TEACHER_GENERATE, joules=9.0, labels=LABELS,
            workload={"tokens": 1000.0}, status=StageStatus.FAILED,
        ),
        stage(
            "a2", "teacher_generate", StageKind.TEACHER_GENERATE, joules=200.0, labels=LABELS,
            workload={"tokens": 9000.0}, results={**FOUND, "prompts": {"read": 50, "answers_left_out": 2}},
        ),
    ]  # fmt: skip
    table = texts_table({"run": run_record(made).to_dict()})
    (row,) = table.rows
    why, prompts = "near_duplicate 1,200, too_short 3", "50 read, 2 answers left out"
    assert row.cells == ("text-0a1b2c3d4e5f", "40", "1,203", why, "4,096", "10,000", prompts)
    assert "billed as kept ones are" in table.note
    assert any(why in line for line in record_lines(run_record(made)))


def test_text_of_another_run_is_billed_there() -> None:
    again = stage(
        "a1", "teacher_generate", StageKind.TEACHER_GENERATE, joules=1.0, labels={**LABELS, "reused_from": "r0"},
        results={**FOUND, "rejects": {"empty": 0}},
    )  # fmt: skip
    (row,) = texts_table({"run": run_record([again]).to_dict()}).rows
    assert row.cells == ("text-0a1b2c3d4e5f", "40", "0", "–", "4,096", "by run r0", "training text")


def test_waits_are_shares_of_trainings_and_other_stages_have_none() -> None:
    trained = stage("a1", "train.kd.1.0", StageKind.STUDENT_TRAIN, joules=1.0, results={"loader_wait_share": 0.0123})
    record = run_record([trained, stage("a2", "prepare_data", StageKind.PREPARE_DATA, joules=1.0)])
    table = waits_table({"run": record.to_dict()})
    assert [row.cells for row in table.rows] == [("train.kd.1.0", "1.2 %")]
    assert any("train.kd.1.0" in line and "1.2 %" in line for line in record_lines(record))
    empty = {"run": run_record([]).to_dict()}
    assert waits_table(empty).rows == texts_table(empty).rows == ()
