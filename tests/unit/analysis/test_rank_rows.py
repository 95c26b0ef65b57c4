"""Stages that ranks of a launch worked in side by side: their seconds once, their tokens and joules summed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from run_records import run_record, stage
from stillwatt.analysis.arm_stages import trained_s
from stillwatt.analysis.bookings import sort_stages
from stillwatt.analysis.stages import stage_table
from stillwatt.records import StageKind, StageRecord
from stillwatt.records.finding import Bill, StageRow

ARM = {"arm": "gkd"}


def trainings() -> list[StageRecord]:
    """Two ranks of 100 s and 98 s, each with a writing of 20 s inside that the first one counts."""
    found = []
    for rank, (length_s, tokens, written) in enumerate([(100.0, 600.0, 64.0), (98.0, 400.0, None)]):
        labels, own = {**ARM, "rank": str(rank)}, f"t{rank}"
        made = stage(own, "train.gkd", StageKind.STUDENT_TRAIN, joules=500.0, tokens=tokens, labels=labels)
        inner = stage(f"o{rank}", "own", StageKind.OTHER, joules=50.0, tokens=written, labels=ARM, parent_id=own)
        found += [replace(made, duration_s=length_s), replace(inner, duration_s=20.0)]
    return found


def rows_of(stages: list[StageRecord]) -> dict[StageKind, StageRow]:
    run = run_record(stages)
    return {row.kind: row for row in stage_table(run, sort_stages(run)).rows}


def test_a_row_of_two_ranks_has_the_seconds_of_the_longer_and_the_tokens_of_both() -> None:
    rows = rows_of(trainings())
    train, own = rows[StageKind.STUDENT_TRAIN], rows[StageKind.OTHER]
    assert (train.duration_s, train.tokens) == (80.0, 1000.0)
    assert isinstance(train.energy, Bill)
    assert train.energy.value_j == pytest.approx(900.0)
    assert (own.duration_s, own.tokens) == (20.0, 64.0)  # inside a rank's stage it is that rank's


def test_tokens_of_a_stage_of_no_rank_that_are_not_known_leave_the_row_without() -> None:
    first, inner, second, other = trainings()
    alone = [replace(made, labels=ARM) for made in (first, inner, second, other)]
    own = rows_of(alone)[StageKind.OTHER]
    assert (own.duration_s, own.tokens) == (40.0, None)


def test_an_arm_was_trained_as_long_as_its_longest_rank() -> None:
    assert trained_s(run_record(trainings()), "gkd") == 100.0
    assert trained_s(run_record([]), "gkd") is None
