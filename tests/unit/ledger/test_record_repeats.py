"""What stages are called among others of their name, and which of them repeat."""

from __future__ import annotations

from typing import Any

from run_records import stage
from stillwatt.records import StageKind, StageRecord, StageStatus
from stillwatt.records.repeats import repeats, titles
from stillwatt.records.run import DOES_OVER


def made(stage_id: str, name: str, **changes: Any) -> StageRecord:
    return stage(stage_id, name, StageKind.OTHER, joules=1.0, **changes)


def told(*stages: StageRecord) -> list[tuple[int, str]]:
    return [(found.depth, found.title) for found in repeats(stages)]


def test_a_second_attempt_is_one_only_after_one_that_was_lost() -> None:
    lost = made("a", "train", status=StageStatus.RECOVERED)
    again, then = made("b", "train", attempt=2), made("c", "train", attempt=3)
    assert titles([lost, again, then]) == {"a": "train", "b": "train (attempt 2)", "c": "train (no. 2)"}
    over = made("b", "train", attempt=2, labels={DOES_OVER: "damaged"})
    assert titles([made("a", "train"), over])["b"] == "train (attempt 2)"


def test_ranks_are_no_attempts_at_one_work() -> None:
    ranks = [made(f"r{rank}", "train", labels={"rank": str(rank)}) for rank in (0, 1)]
    assert told(*ranks) == [(0, "train (rank 0)"), (0, "train (rank 1)")]


def test_what_lies_in_no_stage_stands_by_itself() -> None:
    loop = [made(f"s{n}", "step", attempt=n) for n in (1, 2)]
    assert told(*loop) == [(0, "step"), (0, "step (no. 2)")]


def test_repeats_stand_together_with_what_lies_in_them_below() -> None:
    outer = made("t", "train")
    steps = [made(f"s{n}", "step", parent_id="t", attempt=n) for n in (1, 2)]
    probe = made("p", "probe", parent_id="t")
    reads = [made(f"r{n}", "read", parent_id=f"s{n}", attempt=n) for n in (1, 2)]
    found = told(outer, steps[0], probe, steps[1], reads[1], reads[0])
    assert found == [(0, "train"), (1, "step (2 times)"), (2, "read (2 times)"), (1, "probe")]


def test_a_failed_repeat_and_the_attempt_after_it_stand_apart() -> None:
    states = [StageStatus.ENDED, StageStatus.FAILED, StageStatus.ENDED, StageStatus.ENDED]
    steps = [made(f"s{n}", "step", parent_id="t", attempt=n, status=state) for n, state in enumerate(states, 1)]
    found = told(made("t", "train"), *steps)
    assert found == [(0, "train"), (1, "step (2 times)"), (1, "step"), (1, "step (attempt 2)")]
