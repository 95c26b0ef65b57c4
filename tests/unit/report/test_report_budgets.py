from __future__ import annotations

import dataclasses
from typing import Any

from run_records import run_record, stage
from stillwatt.records import NoTotal, StageKind, Total
from stillwatt.records.run import StageRecord
from stillwatt.report.budget_table import budgets_table
from stillwatt.report.format import MISSING

LIMIT = {"of": "arm", "amount": 300.0, "unit": "J", "said": "300 J", "teacher_j": 0.0}


def trained(arm: str, joules: float | None, *, ended: bool = True, limits: tuple[dict[str, Any], ...]) -> StageRecord:
    results = {"budgets": list(limits), **({"stopped_by": "its budget of 300 J: 300 J"} if ended else {})}
    return stage(
        f"a-{arm}",
        f"train.{arm}.1.0",
        StageKind.STUDENT_TRAIN,
        joules=joules,
        labels={"arm": arm},
        results=results,
        workload={"steps": 50.0},
    )


IN_JOULES = "Joules spent are the books' values, as the budget counts them; basis and interval stand with the stages."


def test_arms_of_equal_joules_are_said_to_be_so_and_how_nearly() -> None:
    stages = [trained(arm, joules, limits=(LIMIT,)) for arm, joules in (("sft", 303.0), ("kd", 297.0), ("gkd", 300.0))]
    short = trained("short", 120.0, ended=False, limits=(LIMIT,))
    table = budgets_table({"run": run_record([*stages, short]).to_dict()})
    assert table.title == "Budgets"
    assert table.rows[0].cells == ("sft", "300 J", "300 J", "303 J", "+1.00 %", "1.01 %", "its budget")
    assert table.rows[3].cells[4:] == ("-60.00 %", "0.40 %", "its text")
    assert table.note == (
        f"{IN_JOULES} Equal-joule arms: 3 of 300 J, at most 2.00 % of it apart. "
        "Not of equal joules, since their text ended first: short."
    )


def test_one_arm_alone_is_equal_to_nothing() -> None:
    table = budgets_table({"run": run_record([trained("sft", 303.0, limits=(LIMIT,))]).to_dict()})
    assert (len(table.rows), table.note) == (1, IN_JOULES)


def test_what_is_known_in_part_is_no_amount_that_was_kept() -> None:
    stages = [trained(arm, 300.0, limits=(LIMIT,)) for arm in ("sft", "kd", "gkd")]
    assert isinstance(stages[2].gross, Total)
    dead = dataclasses.replace(stages[2], gross=dataclasses.replace(stages[2].gross, complete=False))
    dead = dataclasses.replace(dead, results={**dead.results, "stopped_by": "unread energy: gpu0 is not read"})
    table = budgets_table({"run": run_record([*stages[:2], dead]).to_dict()})
    assert table.rows[2].cells == ("gkd", "300 J", "300 J", "≥ 300 J", MISSING, "1.00 %", "unread energy")
    assert table.note == (
        f"{IN_JOULES} Equal-joule arms: 2 of 300 J, at most 0.00 % of it apart. gkd: gpu0 is not read. "
        "More was spent than is known by gkd: see the note on the total."
    )


def test_what_is_not_known_is_said() -> None:
    of_run = {"of": "run", "amount": 10_000.0, "unit": "J", "said": "10 kJ"}
    record = run_record([trained("sft", None, limits=(LIMIT, of_run))], total=NoTotal(reason="no instrument"))
    table = budgets_table({"run": record.to_dict()})
    assert [row.cells[0] for row in table.rows] == ["sft", "the run"]
    assert table.rows[1].cells[2:] == ("10,000 J", *3 * (MISSING,), "its last arm")
    assert table.note == "sft: every part is absent. the run: no instrument."
    assert budgets_table({"run": run_record([]).to_dict()}).rows == ()
