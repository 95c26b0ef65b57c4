"""What a recipe asks for and a run does not have is named: in the title, first among the notes, and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from run_records import quickstart, run_record, stage
from stillwatt.analysis.compare import compare
from stillwatt.analysis.missing import missing_arms, missing_text
from stillwatt.analysis.seeds import SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.records import RunRecord, StageKind, StageStatus
from stillwatt.report import verdicts
from stillwatt.report.answer import answer_dict
from stillwatt.report.comparison import comparison_dict
from stillwatt.report.data import report_dict

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "docs" / "reference" / "report.schema.json").read_text(encoding="utf-8")
)
ARMS = ("sft", "kd", "synthetic", "gkd")


def recipe(*, students: tuple[str, ...] = ("pruned",), seeds: tuple[int, ...] = (1,), **more: Any) -> dict[str, Any]:
    return {
        "arms": [{"name": name} for name in ARMS],
        "students": [{"name": name} for name in students],
        "train": {"seeds": list(seeds)},
        **more,
    }


def killed(status: StageStatus = StageStatus.RECOVERED, **changes: Any) -> RunRecord:
    """A run that was cut off in the first increment of its third arm."""
    stages = [one for one in quickstart().stages if one.labels.get("arm") not in ("synthetic",)]
    labels = {
        "arm": "synthetic",
        "student": "pruned",
        "seed": "1",
        "checkpoint": "0.5",
        "artifact": "text-5f4e3d2c1b0a",
    }
    stages.append(
        stage("a30", "train.synthetic.0.5", StageKind.STUDENT_TRAIN, joules=9.0, labels=labels, status=status)
    )
    return run_record(stages, **{"settings": recipe(), **changes})


def said(run: RunRecord) -> str:
    return missing_text(summarise(run, reuse=()).missing)


def test_arms_that_are_missing_are_named_with_what_became_of_them() -> None:
    assert said(killed()) == "2 of 4 arms are missing (synthetic: cut off; gkd: not begun)"
    assert said(killed(StageStatus.FAILED)) == "2 of 4 arms are missing (synthetic: failed; gkd: not begun)"
    assert said(killed(StageStatus.RUNNING)) == "2 of 4 arms are missing (synthetic: under way; gkd: not begun)"


def test_a_report_says_so_in_its_title_its_notes_and_its_data() -> None:
    run = killed()
    study = summarise(run, reuse=())
    data = report_dict(run, study)
    text = "2 of 4 arms are missing (synthetic: cut off; gkd: not begun)"
    assert answer_dict(run, study)["title"].endswith(f"; {text}")
    assert data["warnings"][0] == f"{text}: nothing here is said of what is missing"
    assert data["left_out"] == [
        {"arm": "synthetic", "reason": "cut off"},
        {"arm": "gkd", "reason": "not begun"},
    ]
    assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(json.dumps(data)))) == []
    whole = quickstart()
    assert "left_out" not in report_dict(whole, summarise(whole, reuse=()))


def test_a_comparison_says_so_of_each_run() -> None:
    runs = [killed(run_id="r1"), killed(run_id="r2")]
    studies = [summarise(run, reuse=()) for run in runs]
    assert missing_text([arm for study in studies for arm in study.missing]) == (
        "in r1 2 of 4 arms are missing (synthetic: cut off; gkd: not begun); "
        "in r2 2 of 4 arms are missing (synthetic: cut off; gkd: not begun)"
    )
    summed = [SummedRun(run=runs[0], study=studies[0], cards=summarise(cards_only(runs[0]), reuse=()))]
    found = replace(compare(gather_runs(summed).rows, source="r1", draws=50), missing=studies[0].missing)
    assert verdicts.whole_title(found).endswith("; 2 of 4 arms are missing (synthetic: cut off; gkd: not begun)")
    assert verdicts.whole_title(replace(found, missing=())) == verdicts.title(found)
    assert [entry["arm"] for entry in comparison_dict(found)["missing_arms"]] == ["synthetic", "gkd"]


def test_teachers_work_for_an_arm_that_is_missing_is_not_called_useless() -> None:
    (note,) = [one for one in summarise(killed(), reuse=()).warnings if "teacher_generate" in one]
    assert note == (
        "teacher stage teacher_generate made what synthetic trains on, of which no checkpoint was reached: it is in no "
        "arm's bill"
    )
    before = killed()
    unbegun = replace(before, stages=before.stages[:-1])
    (note,) = [one for one in summarise(unbegun, reuse=()).warnings if "teacher_generate" in one]
    assert "no artefact that an arm trained here uses, and synthetic and gkd are missing" in note
    one = replace(unbegun, settings={**recipe(), "arms": [{"name": name} for name in ARMS[:3]]})
    (note,) = [own for own in summarise(one, reuse=()).warnings if "teacher_generate" in own]
    assert "and synthetic is missing: it is in no arm's bill" in note
    unasked = replace(unbegun, settings={})
    (note,) = [own for own in summarise(unasked, reuse=()).warnings if "teacher_generate" in own]
    assert "made no artefact that an arm of this run trains on" in note


@pytest.mark.parametrize(
    "settings", [{}, recipe(students=()), {**recipe(), "train": {}}, {**recipe(), "train": None}, {"arms": None}]
)
def test_where_no_recipe_says_nothing_is_missing(settings: dict[str, Any]) -> None:
    assert summarise(killed(settings=settings), reuse=()).missing == ()


def test_students_and_seeds_are_arms_of_their_own() -> None:
    run = killed(settings=recipe(students=("pruned", "small"), seeds=(1, 2)))
    found = missing_arms(run, summarise(run, reuse=()).arms)
    names = [entry.arm for entry in found]
    assert len(names) == 16 - 2
    assert {"pruned.sft.s2", "small.gkd.s1"} <= set(names)
    assert "pruned.sft.s1" not in names


def test_what_the_runs_budget_left_out_is_told_from_what_was_cut_off() -> None:
    whole = quickstart(settings=recipe(budget="1 kJ"))
    assert said(whole) == "1 of 4 arms is missing (gkd: left out by the run's budget of 1 kJ)"


def test_an_arm_that_ended_and_is_in_no_checkpoint_is_missing_too() -> None:
    labels = {"arm": "gkd", "student": "pruned", "seed": "1", "checkpoint": "nonsense"}
    odd = stage("a30", "train.gkd", StageKind.STUDENT_TRAIN, joules=9.0, labels=labels)
    run = run_record([*quickstart().stages, odd], settings=recipe())
    assert said(run) == "1 of 4 arms is missing (gkd: in no checkpoint)"
