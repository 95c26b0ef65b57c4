"""Where each stage of a pipeline is booked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from run_records import quickstart, run_record, stage
from stillwatt.impact.stages import BOOKED, Mapper, mapping_markdown, without_makers
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.impact import LifeStage
from stillwatt.records.run import StageRecord
from stillwatt.records.window import StageKind, StageStatus


def test_every_kind_has_its_place_and_a_reason() -> None:
    assert set(BOOKED) == set(StageKind)
    assert all(why for _, why in BOOKED.values())
    page = "\n".join(mapping_markdown())
    assert all(kind.value in page for kind in StageKind)


def booked(stages: Sequence[StageRecord], named: Mapping[str, LifeStage] | None = None) -> dict[str, LifeStage]:
    return {one.stage.name: one.life for one in Mapper(run_record(stages), named=named).booked()}


def test_the_quick_start() -> None:
    life = {one.stage.name: one.life for one in Mapper(quickstart()).booked()}
    assert life["prepare_data"] is life["teacher_logits"] is life["teacher_generate"] is LifeStage.DATA
    assert life["train.kd.1.0"] is LifeStage.POST_TRAINING
    assert life["evaluate.teacher"] is life["idle_baseline"] is LifeStage.EXPERIMENTATION
    assert life["serve.student.pruned"] is LifeStage.DEPLOYMENT


def test_what_only_other_arms_needed_was_tried() -> None:
    life = {one.stage.name: one.life for one in Mapper(quickstart(), kept=frozenset({"kd"})).booked()}
    assert life["train.kd.0.5"] is LifeStage.POST_TRAINING
    assert life["teacher_logits"] is LifeStage.DATA
    assert life["train.sft.1.0"] is life["train.synthetic.0.5"] is LifeStage.EXPERIMENTATION
    assert life["teacher_generate"] is LifeStage.EXPERIMENTATION
    assert life["prepare_data"] is LifeStage.DATA


def test_a_rank_s_part_is_booked_where_the_first_rank_s_is() -> None:
    parts = [
        stage(f"{name}{rank}", name, StageKind.STUDENT_TRAIN, joules=9.0, status=status, labels={"rank": rank})
        for name, statuses in (("lost", ("recovered", "ended")), ("kept", ("ended", "recovered")))
        for rank, status in zip("01", map(StageStatus, statuses), strict=True)
    ]
    life = {one.stage.stage_id: (one.life, one.why) for one in Mapper(run_record(parts)).booked()}
    assert life["lost0"] == (LifeStage.EXPERIMENTATION, "an attempt that recovered")
    assert life["lost1"] == (LifeStage.EXPERIMENTATION, "an attempt that recovered, on the launch's first rank")
    assert life["kept0"][0] is life["kept1"][0] is LifeStage.POST_TRAINING


@pytest.mark.parametrize("status", [StageStatus.FAILED, StageStatus.RECOVERED])
def test_a_lost_attempt_is_experimentation_with_all_that_lies_inside(status: StageStatus) -> None:
    life = booked(
        [
            stage("a", "train", StageKind.STUDENT_TRAIN, joules=9.0, status=status),
            stage("b", "teacher_online", StageKind.TEACHER_LOGITS, joules=4.0, parent_id="a"),
        ]
    )
    assert set(life.values()) == {LifeStage.EXPERIMENTATION}


def on_policy(arm: str, *, text: str = "") -> list[StageRecord]:
    """A training with the teacher beside it and the student's own text inside it."""
    labels = {"arm": arm, "text_artifact": text} if text else {"arm": arm}
    return [
        stage(arm, f"train.{arm}", StageKind.STUDENT_TRAIN, joules=9.0, labels=labels),
        stage(f"{arm}-w", f"student_generate.{arm}", StageKind.OTHER, joules=2.0, parent_id=arm, labels={"arm": arm}),
        stage(
            f"{arm}-r",
            f"teacher_online.{arm}",
            StageKind.TEACHER_LOGITS,
            joules=3.0,
            parent_id=arm,
            labels={"arm": arm},
        ),
    ]


def test_what_a_student_writes_to_train_on_is_a_part_of_its_training() -> None:
    life = booked(on_policy("gkd"))
    assert life["student_generate.gkd"] is life["train.gkd"] is LifeStage.POST_TRAINING
    assert life["teacher_online.gkd"] is LifeStage.DATA
    named = booked(on_policy("gkd"), named={"student_generate.gkd": LifeStage.DATA})
    assert named["student_generate.gkd"] is LifeStage.DATA


def test_all_that_lies_in_a_training_that_was_only_tried_was_tried() -> None:
    text = stage("t", "teacher_generate", StageKind.TEACHER_GENERATE, joules=5.0, labels={"artifact": "text-1"})
    run = run_record([text, *on_policy("gkd"), *on_policy("online", text="text-1")])
    life = {one.stage.name: one.life for one in Mapper(run, kept=frozenset({"online"})).booked()}
    assert life["train.gkd"] is life["student_generate.gkd"] is LifeStage.EXPERIMENTATION
    assert life["teacher_online.gkd"] is LifeStage.EXPERIMENTATION
    assert life["student_generate.online"] is LifeStage.POST_TRAINING
    assert life["teacher_online.online"] is life["teacher_generate"] is LifeStage.DATA


def test_a_lost_attempt_whose_artefact_was_found_did_its_work() -> None:
    marks = {"artifact": "logits-1"}
    run_id = run_record([]).run_id
    life = booked(
        [
            stage("a", "first", StageKind.TEACHER_LOGITS, joules=9.0, status=StageStatus.RECOVERED, labels=marks),
            stage("b", "second", StageKind.TEACHER_LOGITS, joules=0.1, labels={**marks, "reused_from": run_id}),
        ]
    )
    assert set(life.values()) == {LifeStage.DATA}


def test_a_student_with_random_weights_is_trained_and_not_post_trained() -> None:
    run = run_record([stage("a", "train", StageKind.STUDENT_TRAIN, joules=9.0, labels={"student": "tiny"})])
    scratch = replace(run, settings={"students": [{"name": "tiny", "source": "tiny-random"}]})
    assert Mapper(scratch).booked()[0].life is LifeStage.TRAINING
    assert Mapper(run).booked()[0].life is LifeStage.POST_TRAINING


def test_the_users_word_goes_before_the_table() -> None:
    stages = [stage("a", "fit", StageKind.OTHER, joules=9.0), stage("b", "fetch_models", StageKind.OTHER, joules=1.0)]
    assert booked(stages) == {"fit": LifeStage.EXPERIMENTATION, "fetch_models": LifeStage.DATA}
    assert booked(stages, named={"fit": LifeStage.TRAINING})["fit"] is LifeStage.TRAINING


def test_a_teacher_beside_a_training_is_taken_out_of_it() -> None:
    run = run_record(
        [
            stage("a", "train", StageKind.STUDENT_TRAIN, joules=900.0),
            stage("b", "teacher_online", StageKind.TEACHER_LOGITS, joules=300.0, parent_id="a"),
        ],
        unallocated_j=0.0,
    )
    found = {one.stage: one.energy for one in Mapper(run).uses()}
    training = found[LifeStage.POST_TRAINING]
    assert isinstance(training, Total)
    assert training.value_j == pytest.approx(600.0)
    whole = run.stages[0].gross
    assert isinstance(whole, Total)
    assert training.low_j / training.value_j == pytest.approx(whole.low_j / whole.value_j)


def test_more_inside_than_the_whole_is_booked_in_one_place() -> None:
    run = run_record(
        [
            stage("a", "train", StageKind.STUDENT_TRAIN, joules=300.0),
            stage("b", "teacher_online", StageKind.TEACHER_LOGITS, joules=301.0, parent_id="a"),
        ],
        unallocated_j=0.0,
    )
    (one,) = Mapper(run).uses()
    assert one.stage is LifeStage.POST_TRAINING
    assert isinstance(one.energy, Total)
    assert one.energy.value_j == pytest.approx(300.0)


def test_what_another_run_made_is_lacking_until_that_run_is_there() -> None:
    user = run_record(
        [stage("a", "teacher_logits", StageKind.TEACHER_LOGITS, joules=0.1, labels={"reused_from": "maker"})]
    )
    uses = Mapper(user).uses()
    assert any(isinstance(one.energy, NoTotal) and "made by run maker" in one.energy.reason for one in uses)
    maker = replace(run_record([]), run_id="maker")
    assert not any(isinstance(one.energy, NoTotal) for one in without_makers(uses, [user, maker]))
    assert any(isinstance(one.energy, NoTotal) for one in without_makers(uses, [user]))


def test_a_run_whose_record_is_not_whole_makes_every_use_incomplete() -> None:
    run = replace(run_record([stage("a", "train", StageKind.STUDENT_TRAIN, joules=9.0)]), complete=False)
    for one in Mapper(run).uses():
        assert isinstance(one.energy, Total)
        assert not one.energy.complete
    gone = replace(run_record([stage("a", "train", StageKind.STUDENT_TRAIN)]), complete=False)
    assert any(isinstance(one.energy, NoTotal) for one in Mapper(gone).uses())


def test_energy_outside_stages_that_is_not_known_is_not_forgotten() -> None:
    run = run_record([stage("a", "train", StageKind.STUDENT_TRAIN, joules=9.0)], unallocated_j=0.0)
    (train,) = Mapper(run).uses()
    assert train.stage is LifeStage.POST_TRAINING
    lost = replace(run, unallocated=NoTotal(reason="the meter came late"))
    outside = [use for use in Mapper(lost).uses() if use.stage is LifeStage.EXPERIMENTATION]
    assert [use.energy for use in outside] == [NoTotal(reason="the meter came late")]


def test_what_is_not_known_inside_another_stage_is_not_forgotten() -> None:
    """An unknown energy that is booked elsewhere, and one that another run made, both inside a training."""
    run = run_record(
        [
            stage("a", "train", StageKind.STUDENT_TRAIN, joules=900.0),
            stage("b", "teacher_online", StageKind.TEACHER_LOGITS, parent_id="a"),
            stage("c", "text", StageKind.OTHER, joules=1.0, parent_id="a", labels={"reused_from": "maker"}),
        ],
        unallocated_j=0.0,
    )
    unknown = [(use.stage, use.energy.reason) for use in Mapper(run).uses() if isinstance(use.energy, NoTotal)]
    assert (LifeStage.DATA, "every part is absent") in unknown
    assert any(life is LifeStage.POST_TRAINING and "made by run maker" in why for life, why in unknown)
    known = [use for use in Mapper(run).uses() if isinstance(use.energy, Total)]
    assert [use.stage for use in known] == [LifeStage.POST_TRAINING]


def test_an_unknown_part_of_its_own_stage_is_in_that_stage() -> None:
    run = run_record(
        [
            stage("a", "train", StageKind.STUDENT_TRAIN, joules=900.0),
            stage("b", "writing", StageKind.OTHER, parent_id="a"),
        ],
        unallocated_j=0.0,
    )
    assert not any(isinstance(use.energy, NoTotal) for use in Mapper(run).uses())


def test_the_teacher_is_served_to_compare_and_the_student_to_answer() -> None:
    life = {one.stage.name: one.life for one in Mapper(quickstart(), kept=frozenset({"kd"})).booked()}
    assert life["serve.teacher"] is LifeStage.EXPERIMENTATION
    assert life["serve.student.pruned"] is LifeStage.DEPLOYMENT
    own = run_record([stage("a", f"serve.{arm}", StageKind.SERVE, joules=1.0, labels={"arm": arm}) for arm in ("kd",)])
    assert [one.life for one in Mapper(own, kept=frozenset({"kd"})).booked()] == [LifeStage.DEPLOYMENT]
    assert [one.life for one in Mapper(own, kept=frozenset({"sft"})).booked()] == [LifeStage.EXPERIMENTATION]


def test_beside_a_scenario_the_ledgers_own_serving_was_a_trial() -> None:
    life = {one.stage.name: one for one in Mapper(quickstart(), has_scenario=True).booked()}
    for name in ("serve.teacher", "serve.student.pruned"):
        assert life[name].life is LifeStage.EXPERIMENTATION
        assert "the scenario is the deployment" in life[name].why
    named = Mapper(quickstart(), has_scenario=True, named={"serve.teacher": LifeStage.DEPLOYMENT})
    assert {one.stage.name: one.life for one in named.booked()}["serve.teacher"] is LifeStage.DEPLOYMENT
