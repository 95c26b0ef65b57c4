"""A run says how often its students saw their text, and one that saw it once says nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

from run_records import quickstart, run_record, stage
from stillwatt.analysis.study import summarise
from stillwatt.cli.account import record_lines
from stillwatt.records import StageKind
from stillwatt.records.run import StageRecord
from stillwatt.report.answer import answer_dict
from stillwatt.report.data import report_dict, report_json
from stillwatt.report.html import report_html
from stillwatt.report.passes import passes_sentence, passes_table

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/report.schema.json").read_text(encoding="utf-8"))


def prepared(**results: Any) -> StageRecord:
    found = {"train_tokens": 8_192, **results}
    return stage("a0", "prepare_data", StageKind.PREPARE_DATA, joules=1.0, results=found)


def trained(share: str, **results: Any) -> StageRecord:
    labels = {"arm": "kd", "checkpoint": share}
    return stage(f"t{share}", f"train.kd.{share}", StageKind.STUDENT_TRAIN, joules=1.0, labels=labels, results=results)


def test_each_training_says_how_many_passes_it_came_to() -> None:
    record = run_record(
        [
            prepared(epochs=3),
            trained("0.5", epochs=3, tokens_total=12_288, passes_done=1.5),
            trained("1.0", epochs=3, tokens_total=16_384, passes_done=2.0),
        ]
    )
    table = passes_table({"run": record.to_dict()})
    assert [row.cells for row in table.rows] == [
        ("train.kd.0.5", "12,288", "1.50", "3"),
        ("train.kd.1.0", "16,384", "2.00", "3"),
    ]
    assert table.note.startswith("The text is 8,192 tokens.")
    assert any("train.kd.0.5" in line and "1.50" in line for line in record_lines(record))
    (said,) = passes_sentence(record)
    assert said == "Each budget is 3 passes over a text of 8,192 tokens: no student here saw as much new text."
    assert said in answer_dict(record, summarise(record, baseline_arm="sft", reuse=()))["sentences"]


def test_a_run_of_one_pass_says_nothing_of_passes() -> None:
    record = run_record([prepared(), trained("1.0", tokens_total=8_192)])
    assert passes_table({"run": record.to_dict()}).rows == ()
    assert list(passes_sentence(record)) == []
    assert not any("passes" in line for line in record_lines(record))


def test_a_report_of_several_passes_keeps_its_contract_and_says_what_of_an_artefact_was_used() -> None:
    run = quickstart()
    stages = tuple(
        replace(one, results={**one.results, "epochs": 2, "passes_done": 1.0})
        if one.kind is StageKind.STUDENT_TRAIN
        else one
        for one in run.stages
    )
    run = replace(run, stages=stages)
    told = json.loads(report_json(report_dict(run, summarise(run, reuse=(10,)))))
    jsonschema.validate(told, SCHEMA)
    shares = {
        (use["budget_share"], use.get("used_share"))
        for point in told["arms"]
        if point["arm"] == "kd"
        for use in point["artifacts"]
    }
    assert shares == {(0.5, 1.0), (1.0, None)}
    assert "Passes over the text" in report_html(told)
