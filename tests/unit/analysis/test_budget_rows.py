from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from run_records import run_record, stage
from stillwatt.analysis.stopped import find_stop
from stillwatt.records import NoTotal, StageKind, StageStatus, Total
from stillwatt.records.budget_rows import BudgetRow, budget_rows
from stillwatt.records.run import DOES_OVER, StageRecord, fates

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "reference" / "run.schema.json").read_text(encoding="utf-8"))
OF_ARM = {"of": "arm", "amount": 300.0, "unit": "J", "said": "300 J", "teacher_j": 0.0}
OF_RUN = {"of": "run", "amount": 1000.0, "unit": "J", "said": "1 kJ"}


def trained(
    arm: str, joules: float | None, *limits: dict[str, Any], stopped_by: str = "", **changes: Any
) -> StageRecord:
    results = {"budgets": list(limits), **({"stopped_by": stopped_by} if stopped_by else {})}
    settled: dict[str, Any] = {"labels": {"arm": arm}, "results": results, "workload": {"steps": 50.0}, **changes}
    return stage(f"a-{arm}", f"train.{arm}.1.0", StageKind.STUDENT_TRAIN, joules=joules, **settled)


def rows(*stages: StageRecord, **changes: Any) -> tuple[BudgetRow, ...]:
    record = run_record(stages, **changes)
    told = record.to_dict()
    assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(json.dumps(told)))) == []
    return budget_rows(record, fates(record.stages))


def test_an_arm_is_held_against_its_training_and_its_share_of_the_teacher() -> None:
    sft = trained("sft", 303.0, OF_ARM, stopped_by="its budget of 300 J: 299 J")
    kd = trained("kd", 200.0, {**OF_ARM, "teacher_j": 90.0})
    first, second = rows(sft, kd)
    assert (first.of, first.name, first.said, first.is_reached) == ("arm", "sft", "300 J", True)
    assert first.spent == pytest.approx(303.0)
    assert first.half_step == pytest.approx(3.03)
    assert second.spent == pytest.approx(290.0)
    assert not second.is_reached


def test_a_training_that_ended_since_a_part_was_not_read_is_no_arm_that_reached_its_budget() -> None:
    why = "gpu0 is not read, so that its budget of 300 J cannot be held to"
    sft = trained("sft", 120.0, OF_ARM, stopped_by=f"unread energy: {why}")
    assert isinstance(sft.gross, Total)
    (row,) = rows(dataclasses.replace(sft, gross=dataclasses.replace(sft.gross, complete=False)))
    assert (row.is_reached, row.unread, row.is_at_least) == (False, why, True)
    stop = find_stop(sft)
    assert stop is not None
    assert (stop.is_own, stop.said, stop.words) == (False, "300 J", f"unread energy: {why}")
    assert not stop.is_as_dear_as(stop)


def test_ranks_of_a_launch_are_one_arm() -> None:
    halves = [trained("sft", 150.0, OF_ARM), trained("sft", 149.0, workload={"steps": 0.0}, results={})]
    (row,) = rows(*halves)
    assert row.spent == pytest.approx(299.0)
    assert row.half_step == pytest.approx(2.99)


@pytest.mark.parametrize(("unit", "spent"), [("s", 10.0), ("tokens", 1000.0)])
def test_ranks_spend_their_seconds_at_once_and_their_tokens_each(unit: str, spent: float) -> None:
    """Two ranks of 10 s and 9 s were 19 s, against a budget of 10 s."""
    limit = {**OF_ARM, "unit": unit}
    first = trained("sft", 150.0, limit, tokens=600.0, labels={"arm": "sft", "rank": "0"})
    second = trained("sft", 149.0, tokens=400.0, results={}, duration_s=9.0, labels={"arm": "sft", "rank": "1"})
    (row,) = rows(first, dataclasses.replace(second, stage_id="b"))
    assert row.spent == spent


def test_what_was_done_over_is_in_no_arms_budget() -> None:
    first = trained("sft", 150.0, OF_ARM)
    labels = {"arm": "sft", DOES_OVER: "damaged"}
    (row,) = rows(first, dataclasses.replace(first, stage_id="b", attempt=2, labels=labels))
    assert row.spent == pytest.approx(150.0)


def test_a_run_is_held_against_all_of_it() -> None:
    sft = trained("sft", 500.0, OF_RUN)
    kd = trained("kd", 450.0, OF_RUN, stopped_by="the run's budget of 1 kJ: 999 J with the evaluation to come")
    (row,) = rows(sft, kd, unallocated_j=60.0)
    assert (row.of, row.name, row.is_reached) == ("run", "", True)
    assert row.spent == pytest.approx(1010.0)
    assert row.half_step == pytest.approx(4.5)  # of the last training: it is the one that was ended


@pytest.mark.parametrize(("unit", "arm", "run"), [("s", 10.0, 12.0), ("tokens", 640.0, 640.0)])
def test_time_and_tokens_have_rows_too(unit: str, arm: float, run: float) -> None:
    limits = ({**OF_ARM, "unit": unit}, {**OF_RUN, "unit": unit})
    of_arm, of_run = rows(trained("sft", 300.0, *limits, tokens=640.0))
    assert (of_arm.spent, of_run.spent) == (arm, run)


def test_what_is_not_known_has_its_reason() -> None:
    lost = trained("lost", 1.0, OF_ARM, status=StageStatus.RECOVERED)
    unsaid = trained("sft", None, OF_ARM, {**OF_RUN, "unit": "J"})
    of_arm, of_run = rows(lost, unsaid, total=NoTotal(reason="no instrument"))
    assert of_arm.spent == NoTotal(reason="every part is absent")
    assert of_arm.half_step == of_arm.spent
    assert of_run.spent == NoTotal(reason="no instrument")
    assert of_arm.to_dict()["spent"] == {"absent": "every part is absent"}
    (uncounted,) = rows(trained("sft", 300.0, OF_ARM, workload={}))
    assert uncounted.half_step == NoTotal(reason="its steps were not counted")


def test_without_a_budget_there_is_no_row() -> None:
    record = run_record([stage("a1", "train.sft.1.0", StageKind.STUDENT_TRAIN, joules=1.0, labels={"arm": "sft"})])
    assert budget_rows(record, fates(record.stages)) == ()
    assert "budgets" not in record.to_dict()
