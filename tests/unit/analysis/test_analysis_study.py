"""From a run's stages to its findings: arms, bills, the table that closes, and what is said of gaps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_records import arm_stages, energy, measured_command, quickstart, run_record, scores, stage, total
from stillwatt.analysis.bookings import sort_stages
from stillwatt.analysis.repeat import repeatability
from stillwatt.analysis.study import summarise
from stillwatt.records import (
    Absent,
    Basis,
    Boundary,
    Energy,
    NoTotal,
    RunRecord,
    StageKind,
    StageRecord,
    StageStatus,
    Total,
)
from stillwatt.records.finding import ArmPoint, Bill, BreakEvenKind, NoQuality, Quality, StageGroup, Study, Verdict
from stillwatt.records.run import DOES_OVER
from stillwatt.records.window import ONLINE_TEACHER

LOGITS = {"artifact": "logits-1", "artifact_kind": "logits"}


def value(found: Bill | NoTotal) -> float:
    assert isinstance(found, Bill)
    return found.value_j


def reason(found: Bill | NoTotal) -> str:
    assert isinstance(found, NoTotal)
    return found.reason


def at(study: Study, arm: str, checkpoint: str = "1.0") -> ArmPoint:
    return next(p for p in study.arms if (p.arm, p.checkpoint) == (arm, checkpoint))


def teacher_stage(joules: float | None = 1000.0, **changes: Any) -> StageRecord:
    made = stage(
        "t1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=joules, tokens=100, labels=LOGITS, duration_s=30.0
    )
    return replace(made, **changes)


def two_arms(*extra: StageRecord, **options: str) -> list[StageRecord]:
    found = (scores(30.0, 0.6), scores(25.0, 0.7))
    return [
        stage("p1", "prepare_data", StageKind.PREPARE_DATA, joules=10.0),
        stage(
            "e1",
            "evaluate.teacher",
            StageKind.EVALUATE,
            joules=7.0,
            labels={"arm": "teacher"},
            results=scores(15.0, 0.8),
        ),
        *extra,
        *arm_stages(11, "sft", "sft", (300.0, 300.0), found),
        *arm_stages(21, "kd", "kd", (200.0, 200.0), found, artifact="logits-1"),
    ]


def summary(stages: list[StageRecord], *, reuse: tuple[int, ...] = (10,), others: tuple[RunRecord, ...] = ()) -> Study:
    return summarise(run_record(stages), reuse=reuse, others=others)


def test_an_arm_at_full_budget_by_hand() -> None:
    study = summary(two_arms(teacher_stage()))
    kd = at(study, "kd")
    assert value(kd.prepare_energy) == pytest.approx(10.0)
    assert value(kd.teacher_energy) == pytest.approx(1000.0)
    assert value(kd.student_energy) == pytest.approx(400.0)
    assert value(kd.evaluation_energy) == pytest.approx(420.0)
    assert value(kd.other_energy) == pytest.approx(430.0)
    assert value(kd.energy_under("one-off")) == pytest.approx(1830.0)
    assert value(kd.energy_under("reuse:10")) == pytest.approx(930.0)
    assert value(kd.energy_under("marginal")) == pytest.approx(830.0)
    assert (kd.tokens, kd.supervised_tokens, kd.is_final) == (32768, 32704, True)
    with pytest.raises(KeyError):
        kd.energy_under("tokens")


def _start(student: str = "pruned", found: dict[str, Any] | None = None) -> StageRecord:
    return stage(
        f"e-{student}",
        f"evaluate.start.{student}",
        StageKind.EVALUATE,
        joules=7.0,
        labels={"arm": "start", "student": student},
        results=found or scores(60.0, 0.4),
    )


def test_without_a_teacher_quality_is_relative_to_the_first_student_as_it_starts() -> None:
    stages = [one for one in two_arms(_start(), _start("large", scores(40.0, 0.5))) if one.name != "evaluate.teacher"]
    study = summary(stages)
    assert study.yardstick == "pruned as it starts"
    told = {model.student: model.quality for model in study.references}
    assert {student: found.value for student, found in told.items() if isinstance(found, Quality)} == {
        "pruned": pytest.approx(1.0),
        "large": pytest.approx((60.0 / 40.0 + 0.5 / 0.4) / 2.0),
    }
    sft = at(study, "sft")
    assert isinstance(sft.quality, Quality)
    assert sft.quality.value == pytest.approx((60.0 / 25.0 + 0.7 / 0.4) / 2.0)
    assert "no teacher was evaluated: quality Q is relative to pruned as it starts, which is 1" in study.warnings
    assert {point.arm for point in study.frontier} == {"sft", "kd"}


def test_an_evaluation_without_scores_is_no_yardstick() -> None:
    bare = [replace(one, results={}) if one.name == "evaluate.teacher" else one for one in two_arms(_start())]
    assert summary(bare).yardstick == "pruned as it starts"
    unnamed = [one for one in two_arms(replace(_start(), labels={"arm": "start"})) if one.name != "evaluate.teacher"]
    assert summary(unnamed).yardstick == "a student as it starts"
    nothing = [replace(one, results={}) if one.name.startswith("evaluate.start") else one for one in unnamed]
    study = summary(nothing)
    assert isinstance(at(study, "sft").quality, NoQuality)
    assert any("neither a teacher nor a start was evaluated" in text for text in study.warnings)


def test_a_teacher_that_was_evaluated_is_what_quality_is_relative_to() -> None:
    study = summary(two_arms(_start()))
    assert study.yardstick == "the teacher"
    assert [model.quality.value for model in study.references if isinstance(model.quality, Quality)] == [
        pytest.approx(1.0),
        pytest.approx((15.0 / 60.0 + 0.4 / 0.8) / 2.0),
    ]


def test_half_the_budget_bears_half_the_artefact_and_its_own_evaluation_only() -> None:
    half = at(summary(two_arms(teacher_stage())), "kd", "0.5")
    assert value(half.teacher_energy) == pytest.approx(500.0)
    assert value(half.student_energy) == pytest.approx(200.0)
    assert value(half.energy_under("one-off")) == pytest.approx(500.0 + 200.0 + 430.0)
    assert (half.artifacts[0].budget_share, half.tokens, half.is_final) == (0.5, 16384, False)


@pytest.mark.parametrize(("epochs", "used"), [(1, 0.5), (2, 1.0), (3, 1.0)])
def test_an_artefact_that_is_read_again_is_all_used_after_one_pass(epochs: int, used: float) -> None:
    """A run stopped there would have needed all of it; what trains the student is billed as far as it came."""
    passes = {} if epochs == 1 else {"epochs": epochs}
    stages = [
        replace(one, results={**one.results, **passes}) if one.kind is StageKind.STUDENT_TRAIN else one
        for one in two_arms(teacher_stage())
    ]
    half, whole = (at(summary(stages), "kd", share) for share in ("0.5", "1.0"))
    assert value(half.teacher_energy) == pytest.approx(1000.0 * used)
    assert value(whole.teacher_energy) == pytest.approx(1000.0)
    assert (half.artifacts[0].used_share, half.artifacts[0].budget_share) == (used, 0.5)
    assert value(half.student_energy) == pytest.approx(200.0)


def test_an_arm_without_a_teacher_is_billed_exactly_nothing_for_one() -> None:
    sft = at(summary(two_arms(teacher_stage())), "sft")
    assert sft.teacher_energy == Bill(
        value_j=0.0, random_j=0.0, systematic_low_j=0.0, systematic_high_j=0.0, basis=None, complete=True
    )
    assert len({value(entry.energy) for entry in sft.allocated}) == 1


@settings(deadline=None, max_examples=40)
@given(st.floats(min_value=0.0, max_value=1e6), st.integers(min_value=2, max_value=30))
def test_n_students_that_share_pay_for_the_teacher_once(teacher_j: float, students: int) -> None:
    kd = at(summary(two_arms(teacher_stage(teacher_j)), reuse=(students,)), "kd")
    shared = value(kd.energy_under(f"reuse:{students}")) - value(kd.energy_under("marginal"))
    assert shared * students == pytest.approx(value(kd.teacher_energy), rel=1e-6, abs=1e-4)


def test_two_consumers_share_by_the_tokens_they_took() -> None:
    stages = two_arms(teacher_stage())
    extra = arm_stages(31, "kd_long", "kd", (100.0, 100.0), (scores(30.0, 0.6), scores(25.0, 0.7)), artifact="logits-1")
    extra = [
        replace(entry, workload={"tokens": 3 * 16384.0}) if entry.kind is StageKind.STUDENT_TRAIN else entry
        for entry in extra
    ]
    study = summary([*stages, *extra])
    assert [allocation.label for allocation in study.allocations] == [
        "one-off",
        "reuse:2",
        "reuse:10",
        "tokens",
        "marginal",
    ]
    parts = [
        value(at(study, arm).energy_under("tokens")) - value(at(study, arm).energy_under("marginal"))
        for arm in ("kd", "kd_long")
    ]
    assert parts == pytest.approx([250.0, 750.0])
    assert math.fsum(parts) == pytest.approx(value(at(study, "kd").teacher_energy))
    assert at(study, "kd").artifacts[0].consumers == 2


def test_uncounted_tokens_leave_the_token_allocation_unknown() -> None:
    extra = arm_stages(31, "kd_b", "kd", (100.0, 100.0), (scores(30.0, 0.6), scores(25.0, 0.7)), artifact="logits-1")
    extra = [replace(entry, workload={}) if entry.kind is StageKind.STUDENT_TRAIN else entry for entry in extra]
    study = summary([*two_arms(teacher_stage()), *extra])
    assert "were not counted" in reason(at(study, "kd").energy_under("tokens"))
    assert at(study, "kd_b").tokens is None
    assert any(r.allocation == "tokens" and "not counted" in r.reason for r in study.rejected)


def test_failed_attempts_are_experimentation_and_in_no_bill() -> None:
    lost = stage(
        "x1",
        "train.kd.0.5",
        StageKind.STUDENT_TRAIN,
        joules=70.0,
        status=StageStatus.RECOVERED,
        labels={"arm": "kd", "checkpoint": "0.5", "artifact": "logits-1"},
    )
    failed_teacher = teacher_stage(stage_id="x2", status=StageStatus.FAILED)
    study = summary(two_arms(teacher_stage(), lost, failed_teacher))
    assert value(at(study, "kd").experimentation_energy) == pytest.approx(70.0)
    assert value(at(study, "sft").experimentation_energy) == 0.0
    assert value(study.experimentation) == pytest.approx(1070.0)
    assert value(at(study, "kd").energy_under("one-off")) == pytest.approx(1830.0)
    rows = [row for row in study.table.rows if row.group is StageGroup.EXPERIMENTATION]
    assert {row.label for row in rows} == {"train.kd.0.5, recovered", "teacher_logits, failed"}
    assert study.table.closes


def rank_parts(rank_0: StageStatus, rank_1: StageStatus, *, attempt: int = 1) -> list[StageRecord]:
    return [
        replace(
            teacher_stage(joules, stage_id=f"t{attempt}.{rank}", status=status, attempt=attempt),
            labels={**LOGITS, "rank": str(rank)},
        )
        for rank, (status, joules) in enumerate(((rank_0, 400.0), (rank_1, 600.0)))
    ]


def test_a_rank_s_part_goes_the_way_of_the_first_rank_s() -> None:
    """A part that one rank had ended when another was killed is done again: its joules were for nothing."""
    killed = rank_parts(StageStatus.RECOVERED, StageStatus.ENDED)
    again = rank_parts(StageStatus.ENDED, StageStatus.ENDED, attempt=2)
    study = summary(two_arms(*killed, *again))
    assert value(study.experimentation) == pytest.approx(1000.0)
    assert value(at(study, "kd").energy_under("one-off")) == pytest.approx(1830.0)
    assert study.table.closes
    # killed a moment after the first rank had kept what all made: nothing is done again
    study = summary(two_arms(*rank_parts(StageStatus.ENDED, StageStatus.RECOVERED)))
    assert value(study.experimentation) == 0.0
    assert value(at(study, "kd").energy_under("one-off")) == pytest.approx(1830.0)
    assert study.table.closes


@pytest.mark.parametrize("status", [StageStatus.ENDED, StageStatus.FAILED])
def test_an_attempt_whose_work_was_done_over_is_in_no_bill(
    status: StageStatus,
) -> None:
    """Its checkpoint was damaged: the arm's model came out of the attempts after it."""
    stages = two_arms(teacher_stage())
    (first,) = [entry for entry in stages if entry.name == "train.kd.0.5"]
    over = [
        replace(
            first, stage_id=f"x{attempt}", attempt=attempt, status=ended, labels={**first.labels, DOES_OVER: "damaged"}
        )
        for attempt, ended in ((2, status), (3, StageStatus.ENDED))
    ]
    study = summary([*stages, *over])
    assert value(study.experimentation) == pytest.approx(2 * total_of(first))
    assert value(at(study, "kd").energy_under("one-off")) == pytest.approx(1830.0)
    assert study.table.closes


def total_of(entry: StageRecord) -> float:
    assert isinstance(entry.gross, Total)
    return entry.gross.value_j


def test_what_ended_inside_a_lost_attempt_is_lost_with_it() -> None:
    outer = stage("x1", "whole", StageKind.OTHER, joules=50.0, status=StageStatus.FAILED)
    middle = stage("x2", "middle", StageKind.OTHER, joules=40.0, parent_id="x1")
    inner = stage("x3", "train", StageKind.STUDENT_TRAIN, joules=30.0, parent_id="x2", labels={"arm": "late"})
    study = summary(two_arms(teacher_stage(), outer, middle, inner))
    assert "late" not in {point.arm for point in study.arms}
    assert value(study.experimentation) == pytest.approx(50.0)
    assert study.table.closes


def test_a_checkpoint_whose_training_never_ended_leaves_later_ones_without_energy() -> None:
    stages = [
        replace(entry, status=StageStatus.FAILED) if entry.name == "train.kd.0.5" else entry
        for entry in two_arms(teacher_stage())
    ]
    study = summary(stages)
    assert [point.checkpoint for point in study.arms if point.arm == "kd"] == ["1.0"]
    assert reason(at(study, "kd").student_energy) == "the training of kd up to 0.5 was never finished"
    assert "never finished" in reason(at(study, "kd").energy_under("marginal"))
    found = study.break_even(BreakEvenKind.REUSE, at(study, "kd"))
    assert found is not None
    assert found.verdict is Verdict.UNDETERMINED


def pointer(results: dict[str, str]) -> StageRecord:
    return stage(
        "t1",
        "teacher_logits",
        StageKind.TEACHER_LOGITS,
        duration_s=0.0,
        labels=LOGITS | {"reused_from": "run-a"},
        results=results,
    )


BILLED = {"energy_run_id": "run-a", "energy_stage_id": "t9"}


def test_a_reused_artefact_is_billed_from_the_run_that_made_it() -> None:
    maker = run_record([teacher_stage(stage_id="t9")], run_id="run-a")
    study = summary(two_arms(pointer(BILLED)), others=(run_record([], run_id="run-b"), maker))
    kd = at(study, "kd")
    assert value(kd.teacher_energy) == pytest.approx(1000.0)
    assert kd.artifacts[0].reused_from == "run-a"
    row = next(row for row in study.table.rows if row.group is StageGroup.TEACHER)
    assert reason(row.energy) == "booked in run run-a, which made the artefact"
    assert study.table.closes


@pytest.mark.parametrize("others", [(), (run_record([teacher_stage(stage_id="t8")], run_id="run-a"),)])
@pytest.mark.parametrize("results", [BILLED, {}])
def test_a_reused_artefact_whose_maker_is_not_at_hand_is_absent(
    results: dict[str, str], others: tuple[RunRecord, ...]
) -> None:
    study = summary(two_arms(pointer(results)), others=others)
    kd = at(study, "kd")
    assert reason(kd.teacher_energy) == "artefact logits-1 was made by run run-a, which is not at hand"
    assert isinstance(kd.energy_under("one-off"), NoTotal)
    assert value(kd.energy_under("marginal")) == pytest.approx(830.0)
    assert {r.allocation for r in study.rejected} == {"one-off", "reuse:10"}


def test_checking_a_reused_artefact_keeps_its_own_joules_in_the_table() -> None:
    checking = replace(pointer(BILLED), energies=(energy(3.0),), gross=total([energy(3.0)]))
    maker = run_record([teacher_stage(stage_id="t9")], run_id="run-a")
    study = summary(two_arms(checking), others=(maker,))
    row = next(row for row in study.table.rows if row.group is StageGroup.TEACHER)
    assert row.label == "teacher_logits, made before"
    assert value(row.energy) == pytest.approx(3.0)
    assert value(at(study, "kd").teacher_energy) == pytest.approx(1000.0)
    assert study.table.closes


def test_an_attempt_cut_off_after_its_artefact_was_complete_is_the_maker_and_no_experiment() -> None:
    cut_off = teacher_stage(stage_id="t9", status=StageStatus.RECOVERED)
    run = run_record(two_arms(cut_off, pointer({"energy_run_id": "run-a", "energy_stage_id": "t9"})), run_id="run-a")
    for others in ((), (run,)):
        study = summarise(run, reuse=(10,), others=others)
        assert value(at(study, "kd").teacher_energy) == pytest.approx(1000.0)
        assert at(study, "kd").artifacts[0].reused_from is None
        assert value(study.experimentation) == 0.0
        assert study.table.closes


def with_online_arm(*, teacher_j: tuple[float, float] = (60.0, 40.0)) -> list[StageRecord]:
    """An arm whose trainings of 200 J each hold a stage of the teacher's."""
    trained = arm_stages(31, "on", "kd", (200.0, 200.0), (scores(30.0, 0.6), scores(25.0, 0.7)), artifact="online-on")
    increments = [entry for entry in trained if entry.kind is StageKind.STUDENT_TRAIN]
    beside = [
        stage(
            f"o{number}",
            f"teacher_online.{entry.labels['arm']}",
            StageKind.TEACHER_LOGITS,
            joules=joules,
            labels={**entry.labels, "artifact_kind": ONLINE_TEACHER},
            parent_id=entry.stage_id,
        )
        for number, (entry, joules) in enumerate(zip(increments, teacher_j, strict=True))
    ]
    return [*two_arms(teacher_stage()), *trained, *beside]


def test_a_teacher_beside_the_training_is_billed_to_the_teacher_and_to_no_other_student() -> None:
    study = summary(with_online_arm())
    half, whole = at(study, "on", "0.5"), at(study, "on")
    assert value(half.teacher_energy) == pytest.approx(60.0)
    assert value(half.student_energy) == pytest.approx(140.0)
    assert value(whole.teacher_energy) == pytest.approx(100.0)
    assert value(whole.student_energy) == pytest.approx(300.0)
    everything = {entry.allocation.label: value(entry.energy) for entry in whole.allocated}
    assert everything["marginal"] == everything["one-off"] == pytest.approx(everything["reuse:10"])
    shared = {entry.allocation.label: value(entry.energy) for entry in at(study, "kd").allocated}
    assert shared["marginal"] < shared["reuse:10"] < shared["one-off"]
    assert not any("in no arm's bill" in text for text in study.warnings)


def test_reuse_never_pays_for_a_teacher_that_left_nothing() -> None:
    online = [entry for entry in summary(with_online_arm(teacher_j=(2.0, 1.0))).break_evens if entry.arm == "on"]
    reuse = [entry for entry in online if entry.kind is BreakEvenKind.REUSE]
    assert reuse
    assert all(entry.verdict is not Verdict.VALUE for entry in reuse)
    dear = [entry for entry in summary(with_online_arm(teacher_j=(199.0, 199.0))).break_evens if entry.arm == "on"]
    (never,) = [entry for entry in dear if entry.kind is BreakEvenKind.REUSE and entry.checkpoint == "1.0"]
    assert never.verdict is Verdict.NEVER
    assert "left nothing" in never.reason


def test_an_artefact_that_nobody_made_is_absent() -> None:
    study = summary(two_arms())
    assert "no stage of this run made artefact logits-1" in reason(at(study, "kd").teacher_energy)
    assert at(study, "kd").artifacts[0].kind == ""


def test_teacher_work_that_no_arm_uses_is_said() -> None:
    idle = stage("t5", "teacher_generate", StageKind.TEACHER_GENERATE, joules=9.0, labels={"artifact": "text-9"})
    bare = stage("t6", "teacher_bare", StageKind.TEACHER_GENERATE, joules=9.0)
    study = summary(two_arms(teacher_stage(), idle, bare))
    assert sum("made no artefact that an arm of this run trains on" in text for text in study.warnings) == 2


def test_students_and_seeds_are_held_against_their_own_baseline() -> None:
    found = (scores(30.0, 0.6), scores(25.0, 0.7))
    stages = [
        stage(
            "e1",
            "evaluate.teacher",
            StageKind.EVALUATE,
            joules=7.0,
            labels={"arm": "teacher"},
            results=scores(15.0, 0.8),
        ),
        teacher_stage(),
    ]
    for number, (student, seed, baseline_j) in enumerate(
        [("small", "1", 300.0), ("small", "2", 320.0), ("large", "1", 900.0)]
    ):
        options = {"student": student, "seed": seed}
        suffix = f".s{seed}"
        stages += arm_stages(
            100 + 20 * number, f"{student}.sft{suffix}", "sft", (baseline_j, baseline_j), found, **options
        )
        stages += arm_stages(
            110 + 20 * number, f"{student}.kd{suffix}", "kd", (200.0, 200.0), found, artifact="logits-1", **options
        )
    study = summary(stages)
    savings = {b.arm: b.saving_j for b in study.break_evens if b.kind is BreakEvenKind.REUSE and b.checkpoint == "1.0"}
    assert savings == {
        "small.kd.s1": pytest.approx(200.0),
        "small.kd.s2": pytest.approx(240.0),
        "large.kd.s1": pytest.approx(1400.0),
    }
    assert at(study, "small.kd.s2").name == "kd"
    assert not any(text.startswith("one seed") for text in study.warnings)


def test_a_stage_labelled_by_hand_stands_for_the_whole_budget() -> None:
    stages = [
        stage("a1", "my training", StageKind.STUDENT_TRAIN, joules=5.0, labels={"arm": "mine"}),
        stage("a2", "my test", StageKind.EVALUATE, joules=1.0, labels={"arm": "mine"}),
    ]
    study = summary(stages)
    mine = at(study, "mine")
    assert (mine.name, mine.budget_share, mine.seed, mine.student) == ("mine", 1.0, "", "")
    assert mine.quality == NoQuality(reason="no scores")
    assert any("no arm is called 'sft'" in text for text in study.warnings)
    assert any("neither a teacher nor a start was evaluated" in text for text in study.warnings)


@pytest.mark.parametrize("checkpoint", ["late", "-1", "0", "200", "nan"])
def test_a_checkpoint_that_is_no_share_is_said(checkpoint: str) -> None:
    odd = stage("x1", "train.odd", StageKind.STUDENT_TRAIN, joules=5.0, labels={"arm": "odd", "checkpoint": checkpoint})
    study = summary(two_arms(teacher_stage(), odd))
    assert "odd" not in {point.arm for point in study.arms}
    assert any("is no share of a budget" in text for text in study.warnings)
    assert study.table.closes


def test_an_arm_without_evaluation_has_no_quality() -> None:
    stages = [entry for entry in two_arms(teacher_stage()) if entry.name != "evaluate.kd.1.0"]
    study = summary(stages)
    assert at(study, "kd").quality == NoQuality(reason="no scores")
    assert any((r.arm, r.checkpoint, r.reason) == ("kd", "1.0", "no scores") for r in study.rejected)


def test_a_running_stage_is_said_and_in_no_arm() -> None:
    running = stage(
        "x1", "train.kd.1.0", StageKind.STUDENT_TRAIN, joules=5.0, labels={"arm": "kd"}, status=StageStatus.RUNNING
    )
    study = summary(two_arms(teacher_stage(), running))
    assert value(at(study, "kd").student_energy) == pytest.approx(400.0)
    assert any("still running" in text for text in study.warnings)
    assert study.table.closes


# every kind of tree: ids grow, a parent is an earlier stage or none, children hold at most their parent's energy
@st.composite
def trees(draw: st.DrawFn) -> list[StageRecord]:
    made: list[StageRecord] = []
    left: dict[str, float] = {}
    for number in range(draw(st.integers(min_value=1, max_value=12))):
        parent = draw(st.sampled_from([None, *left]))
        most = 1000.0 if parent is None else left[parent]
        joules = draw(st.floats(min_value=0.0, max_value=most))
        stage_id = f"a{number}"
        if parent is not None:
            left[parent] -= joules
        left[stage_id] = joules
        kind = draw(st.sampled_from(list(StageKind)))
        status = draw(st.sampled_from(list(StageStatus)))
        labels = draw(st.sampled_from([{}, {"arm": "sft"}, {"arm": "kd", "artifact": "x"}, {"arm": "teacher"}]))
        made.append(
            stage(
                stage_id,
                f"{kind.value}{number % 3}",
                kind,
                joules=joules,
                status=status,
                labels=labels,
                parent_id=parent,
            )
        )
    return made


@settings(deadline=None, max_examples=40)
@given(trees(), st.floats(min_value=0.0, max_value=100.0))
def test_rows_and_unallocated_add_up_to_the_total(stages: list[StageRecord], unallocated_j: float) -> None:
    run = run_record(stages, unallocated_j=unallocated_j)
    table = summarise(run, reuse=(10,)).table
    assert isinstance(run.total, Total)
    booked = math.fsum(value(row.energy) for row in table.rows)
    assert booked + unallocated_j == pytest.approx(run.total.value_j, rel=1e-9, abs=1e-6)
    assert table.closes
    assert {i for row in table.rows for i in row.stage_ids} <= {s.stage_id for s in stages}


def test_a_table_that_does_not_close_says_so() -> None:
    run = quickstart()
    assert isinstance(run.total, Total)
    wrong = replace(run.total, value_j=run.total.value_j + 5.0, high_j=run.total.high_j + 5.0)
    study = summarise(replace(run, total=wrong), reuse=(10,))
    assert study.table.closes is False
    assert any("does not close: 5 J" in text for text in study.warnings)


def test_without_a_total_nothing_is_held_against_it() -> None:
    study = summarise(quickstart(total=NoTotal(reason="every part is absent")), reuse=(10,))
    assert (study.table.closes, study.table.residual_j) == (None, None)
    assert "the run has no total: every part is absent" in study.warnings


def test_rows_of_the_quickstart() -> None:
    table = summarise(quickstart(), reuse=(10,)).table
    rows = {(row.group.value, row.arm, row.label): row for row in table.rows}
    assert value(rows["arm", "kd", "train"].energy) == pytest.approx(3490.0 + 3505.0)
    assert rows["arm", "kd", "train"].stage_ids == ("a11", "a13")
    assert rows["arm", "kd", "train"].j_per_token == pytest.approx(6995.0 / 32768)
    assert rows["teacher", "synthetic", "teacher_generate"].tokens == 44032
    assert rows["overhead", "", "idle_baseline"].j_per_token is None
    assert {row.group for row in table.rows} == {
        StageGroup.ARM,
        StageGroup.OVERHEAD,
        StageGroup.SHARED,
        StageGroup.TEACHER,
    }


def test_what_a_stage_of_the_teacher_holds_stands_on_the_bill_that_the_stage_is_on() -> None:
    artifact = {"artifact": "logits-1", "artifact_kind": "logits"}
    made = stage("a1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=50.0, labels=artifact)
    checked = stage("a2", "cache_fidelity", StageKind.OTHER, joules=4.0, parent_id="a1")
    trained = stage("a3", "train", StageKind.STUDENT_TRAIN, joules=9.0, labels={**artifact, "arm": "kd"})
    alone = stage("a4", "upload", StageKind.OTHER, joules=1.0)
    found = {row.label: (row.group, row.arm) for row in summary([made, checked, trained, alone]).table.rows}
    assert found["cache_fidelity"] == found["teacher_logits (beside its stages)"] == (StageGroup.TEACHER, "kd")
    assert found["upload"] == (StageGroup.OTHER, "")


def test_children_that_hold_all_tokens_leave_their_parent_without() -> None:
    outer = stage("a1", "whole", StageKind.OTHER, joules=50.0, duration_s=20.0)
    inner = stage("a2", "part", StageKind.OTHER, joules=40.0, duration_s=15.0, tokens=8, parent_id="a1")
    rows = summary([outer, inner]).table.rows
    assert [(row.label, row.duration_s, row.tokens) for row in rows] == [
        ("whole (beside its stages)", 5.0, None),
        ("part", 15.0, 8),
    ]
    assert value(rows[0].energy) == pytest.approx(10.0)


def test_a_run_without_arms_has_its_table_and_nothing_else() -> None:
    study = summarise(measured_command(), reuse=(10,))
    assert [row.label for row in study.table.rows] == ["python train.py"]
    assert study.table.closes
    assert (study.arms, study.allocations, study.frontier, study.break_evens) == ((), (), (), ())
    assert len(study.warnings) == 1
    assert study.warnings[0].startswith("energy of cpu0, dram0 is modelled, not measured")


def test_the_quickstart_s_caveats() -> None:
    warnings = summarise(quickstart(), reuse=(10,)).warnings
    assert any(text.startswith("one seed") for text in warnings)
    assert any("32 items of choice4" in text for text in warnings)


def test_the_baseline_has_no_reuse_break_even_and_every_arm_has_a_serving_one() -> None:
    study = summarise(quickstart(), reuse=(10,))
    assert [point.arm for point in study.final_points] == ["sft", "kd", "synthetic"]
    kinds = {(b.kind, b.arm) for b in study.break_evens}
    assert (BreakEvenKind.REUSE, "sft") not in kinds
    assert {arm for kind, arm in kinds if kind is BreakEvenKind.SERVING} == {"sft", "kd", "synthetic"}
    assert study.break_even(BreakEvenKind.REUSE, at(study, "sft")) is None


def test_a_baseline_without_the_arm_s_checkpoint_gives_matched_quality_alone() -> None:
    stages = [entry for entry in two_arms(teacher_stage()) if not entry.name.endswith("sft.0.5")]
    kinds = {(b.kind, b.checkpoint) for b in summary(stages).break_evens if b.arm == "kd"}
    assert (BreakEvenKind.REUSE, "0.5") not in kinds
    assert (BreakEvenKind.MATCHED_QUALITY, "0.5") in kinds


def serve(stage_id: str, joules: float, tokens: float | None = 100.0, **labels: str) -> StageRecord:
    return stage(stage_id, f"serve.{stage_id}", StageKind.SERVE, joules=joules, tokens=tokens, labels=labels)


def test_serving_is_told_apart_by_student() -> None:
    loads = (
        serve("s1", 500.0, arm="teacher"),
        serve("s2", 100.0, student="pruned"),
        serve("s3", 200.0, student="other"),
        serve("s4", 200.0, None, student="silent"),
    )
    study = summary(two_arms(teacher_stage(), *loads))
    assert [(rate.model, rate.is_teacher) for rate in study.serving] == [
        ("teacher", True),
        ("pruned", False),
        ("other", False),
    ]
    found = study.break_even(BreakEvenKind.SERVING, at(study, "kd"))
    assert found is not None
    assert found.saving_j == pytest.approx(4.0)


def test_a_single_served_student_stands_for_all_and_several_strangers_for_none() -> None:
    one = summary(two_arms(teacher_stage(), serve("s1", 500.0, arm="teacher"), serve("s2", 100.0)))
    assert one.break_even(BreakEvenKind.SERVING, at(one, "kd")) is not None
    strangers = (serve("s1", 500.0, arm="teacher"), serve("s2", 1.0, student="x"), serve("s3", 1.0, student="y"))
    none = summary(two_arms(teacher_stage(), *strangers))
    assert none.break_even(BreakEvenKind.SERVING, at(none, "kd")) is None


@pytest.mark.parametrize("loads", [(), (serve("s1", 5.0, arm="teacher"),), (serve("s1", 5.0, student="pruned"),)])
def test_half_a_serving_measurement_is_said(loads: tuple[StageRecord, ...]) -> None:
    warnings = summary(two_arms(teacher_stage(), *loads)).warnings
    assert any("there is no T*" in text for text in warnings)


def test_references_hold_teacher_and_start() -> None:
    references = {model.model: model for model in summarise(quickstart(), reuse=(10,)).references}
    assert set(references) == {"teacher", "start"}
    assert references["start"].student == "pruned"
    assert not isinstance(references["teacher"].quality, NoQuality)
    assert references["teacher"].quality.value == pytest.approx(1.0)


def test_caveats_about_energy() -> None:
    parts: list[Energy | Absent] = [
        energy(5.0, basis=Basis.ASSUMED, source=""),
        energy(5.0, "gpu0", driver="nvml", boundary=Boundary.BOARD, basis=Basis.MEASURED),
        energy(50.0, "wall0", boundary=Boundary.WALL, basis=Basis.MEASURED),
        Absent(part="dram0", boundary=Boundary.CHIP, reason="not readable"),
    ]
    stages = [replace(entry, energies=tuple(parts)) for entry in two_arms(teacher_stage())]
    run = run_record(stages)
    assert isinstance(run.total, Total)
    warnings = summarise(run, reuse=(10,)).warnings
    assert "the total is incomplete (dram0 absent): the true energy is higher" in warnings
    assert "energy of cpu0 is assumed, not measured" in warnings
    assert "wall0 (wall) covers other parts again and is in no bill" in warnings
    assert any("energies rest on host_model, nvml" in text for text in warnings)
    assert any(text.startswith("bills are incomplete for kd @ 0.5, kd @ 1.0") for text in warnings)
    seconds = summarise(replace(run, total=replace(run.total, absent=())), reuse=(10,)).warnings
    assert "the total is incomplete: the true energy is higher" in seconds


def _two_trainings(sft_j: float, kd_j: float) -> list[StageRecord]:
    """Two arms whose training increments have these energies, metered without error."""
    trained = {"train.sft": energy(sft_j, random_j=0.0), "train.kd": energy(kd_j, random_j=0.0)}
    return [
        replace(s, energies=(trained[s.name.rpartition(".")[0].removesuffix(".0").removesuffix(".1")],))
        if s.name.startswith("train.")
        else s
        for s in two_arms(teacher_stage())
    ]


@pytest.mark.parametrize(
    ("kd_j", "verdict"),
    [(285.0, Verdict.UNDETERMINED), (200.0, Verdict.VALUE), (310.0, Verdict.UNDETERMINED), (500.0, Verdict.NEVER)],
)
def test_two_single_trainings_must_differ_by_more_than_repeats_do(kd_j: float, verdict: Verdict) -> None:
    """A saving of 5 % between two trainings that were each run once is no saving, however well it was metered."""
    study = summary(_two_trainings(300.0, kd_j))
    assert study.break_even(BreakEvenKind.REUSE, study.final_points[-1]).verdict is verdict  # type: ignore[union-attr]
    assert any("repeat within ±10% (assumed)" in text for text in study.warnings)


def test_unlike_increments_widen_what_is_taken_for_a_repeat() -> None:
    stages = _two_trainings(300.0, 200.0)
    stages = [replace(s, energies=(energy(500.0, random_j=0.0),)) if s.name == "train.sft.0.5" else s for s in stages]
    study = summary(stages)
    assert any("from the spread between equal increments" in text for text in study.warnings)
    kd = study.break_even(BreakEvenKind.REUSE, study.final_points[-1])
    assert kd is not None
    assert kd.verdict is Verdict.UNDETERMINED


def test_seeds_of_an_arm_are_its_repeats() -> None:
    """Two seeds of one arm take 300 and 360 J: their spread counts, though each one's own increments agree."""
    taken_j = {"sft": 300.0, "kd": 360.0}

    def as_seed(stage: StageRecord) -> StageRecord:
        arm = stage.labels.get("arm", "")
        if stage.kind is not StageKind.STUDENT_TRAIN:
            return stage
        seed = str(1 + list(taken_j).index(arm))
        labels = {**stage.labels, "arm": f"sft.s{seed}", "seed": seed}
        return replace(stage, labels=labels, energies=(energy(taken_j[arm], random_j=0.0),))

    stages = [as_seed(stage) for stage in _two_trainings(300.0, 360.0)]
    found = repeatability(sort_stages(run_record(stages), ()))
    assert (found.seeds, found.is_assumed) == (2, False)
    assert found.rel > 0.15
    assert "between equal trainings with 2 seeds" in found.sentence
    assert "`stillwatt analyse RUN` compares the means of the seeds" in found.sentence


def test_tasks_left_out_of_quality_are_said() -> None:
    stages = two_arms(teacher_stage())
    stages[1] = replace(stages[1], results={"scores": scores(15.0, 0.8)["scores"][:1]})
    warnings = summary(stages).warnings
    assert "Q leaves out choice4: the teacher has no score" in warnings


def test_a_score_that_is_no_number_is_said() -> None:
    stages = two_arms(teacher_stage())
    broken = {"scores": [{"task": "perplexity", "value": math.inf, "higher_is_better": False}]}
    stages[-1] = replace(stages[-1], results=broken)
    study = summary(stages)
    assert at(study, "kd").quality == NoQuality(reason="no scores")
    assert any("evaluate.kd.1.0 has a score of perplexity that is no finite number" in w for w in study.warnings)


def test_scores_without_an_error_are_said_once_with_the_reason() -> None:
    why = "lm-evaluation-harness knows no standard error of this metric"
    odd = {"task": "lm_eval:odd:oddity", "value": 3.0, "se": None, "se_absent": why, "in_quality": False}
    odd["beside"] = "nobody says which way is better"
    rolled = {"task": "lm_eval:rolling:bits_per_byte", "value": 2.0, "se": None, "se_absent": why}
    rolled["higher_is_better"] = False
    stages = [
        replace(entry, results={"scores": [rolled, odd]}) if entry.kind is StageKind.EVALUATE else entry
        for entry in two_arms(teacher_stage())
    ]
    study = summary(stages)
    quality = at(study, "kd").quality
    assert isinstance(quality, Quality)
    assert (quality.value, quality.se) == (1.0, None)
    assert quality.left_out == ("lm_eval:odd:oddity: nobody says which way is better",)
    said = [text for text in study.warnings if why in text]
    assert said == [f"lm_eval:rolling:bits_per_byte: no standard error, and so none of a quality that counts it: {why}"]


def test_a_loss_that_was_trained_on_ranks_no_arms() -> None:
    """Each objective's loss is another quantity; as the only score it leaves the arms without a quality."""
    stages = [
        replace(entry, results={"scores": [{"task": "train_loss", "value": 1.0 + n, "higher_is_better": False}]})
        if entry.kind is StageKind.EVALUATE
        else entry
        for n, entry in enumerate(two_arms(teacher_stage()))
    ]
    study = summary(stages)
    assert {at(study, arm).quality for arm in ("sft", "kd")} == {NoQuality(reason="no scores")}
    assert not any(point.is_on_frontier for point in study.frontier)
    said = "has a score of train_loss, a loss that was trained on and no evaluation: it is in no quality"
    assert any(said in warning for warning in study.warnings)


def test_many_items_are_no_caveat() -> None:
    stages = [
        replace(entry, results=scores(20.0, 0.7, items=5000)) if entry.kind is StageKind.EVALUATE else entry
        for entry in two_arms(teacher_stage())
    ]
    assert not any("items of" in text for text in summary(stages).warnings)


def test_frontier_points_say_whether_they_stand_out() -> None:
    study = summarise(quickstart(), reuse=(10,))
    by_key = {(p.allocation, p.arm, p.checkpoint): p for p in study.frontier}
    assert by_key["one-off", "sft", "0.5"].is_separable
    assert by_key["one-off", "sft", "1.0"].is_separable is False
    assert by_key["one-off", "synthetic", "1.0"].dominated_by == "kd @ 1.0"
    assert replace(by_key["one-off", "sft", "0.5"], on_frontier_probability=None).is_separable is None
