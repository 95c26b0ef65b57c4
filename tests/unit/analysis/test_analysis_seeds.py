"""Several runs side by side: arms as labels, runs as seeds, runs without arms, and every joule somewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_records import arm_stages, energy, measured_command, quickstart, run_record, scores, stage
from stillwatt.analysis.armless import NO_TOKENS
from stillwatt.analysis.compare import compare
from stillwatt.analysis.ladders import ladders
from stillwatt.analysis.seeds import Gathered, SummedRun, cards_only, gather_runs
from stillwatt.analysis.sizes import parameters_of
from stillwatt.analysis.study import summarise
from stillwatt.analysis.trainings import gather_labels
from stillwatt.errors import UsageError
from stillwatt.records import Absent, Boundary, NoTotal, RunRecord, StageKind, StageRecord, StageStatus, Total
from stillwatt.records.comparison import CardEnergy, Observation, Unbilled

GENERATE, TRAIN = StageKind.TEACHER_GENERATE, StageKind.STUDENT_TRAIN
MADE = {"artifact": "text-1"}


def summed(run: RunRecord) -> SummedRun:
    return SummedRun(run=run, study=summarise(run, reuse=(10,)), cards=summarise(cards_only(run), reuse=(10,)))


def gathered(*runs: RunRecord) -> Gathered:
    return gather_runs([summed(run) for run in runs])


def by_label(found: Gathered) -> dict[str, Observation]:
    return {row.label: row for row in found.rows}


def gpu_and_cpu(gpu_j: float, cpu_j: float) -> list[Any]:
    return [energy(gpu_j, "gpu0", boundary=Boundary.BOARD, driver="nvml"), energy(cpu_j)]


def rest(found: Gathered) -> dict[str, Unbilled]:
    return {entry.stage: entry for entry in found.unbilled}


def test_arms_of_one_run_become_rows_at_their_last_checkpoint() -> None:
    found = gathered(quickstart())
    rows = by_label(found)
    assert list(rows) == ["sft", "kd", "synthetic"]
    kd = rows["kd"]
    assert (kd.method, kd.student, kd.seed) == ("kd", "pruned", "1")
    assert kd.teacher_j == pytest.approx(1890.0)
    assert kd.student_j == pytest.approx(3490.0 + 3505.0)
    assert kd.own_j == pytest.approx(3490.0 + 3505.0 + 560.0 + 420.0)
    assert kd.quality is not None
    assert kd.quality_se is not None
    assert kd.throughput == pytest.approx(2048 / 20.0)
    assert kd.served_teacher_j == pytest.approx(880.0 / 2048)
    assert kd.served_student_j == pytest.approx(610.0 / 2048)
    assert rows["sft"].teacher_j == 0.0
    assert rows["sft"].teacher_tokens is None
    assert kd.teacher_tokens == 32768
    assert kd.half_widths["student_j"] > 0.0
    assert (kd.cards, found.complete) == (None, True)


def billed_j(found: Gathered, artifacts_j: float, shared_j: float) -> float:
    """Every row's own work, what they share once."""
    own = [row.own_j - shared_j for row in found.rows if row.own_j is not None]
    return math.fsum([*own, shared_j, artifacts_j])


def test_bills_and_the_rest_are_the_runs_total() -> None:
    run = quickstart()
    found = gathered(run)
    assert isinstance(run.total, Total)
    listed_j = math.fsum(entry.energy_j or 0.0 for entry in found.unbilled)
    assert billed_j(found, 1890.0 + 4350.0, 560.0) + listed_j == pytest.approx(run.total.value_j)
    assert rest(found)["idle_baseline"].reason == "idle power, measured to be compared with"
    assert rest(found)["evaluate.kd.0.5"].reason == "not the evaluation of a training's last checkpoint"
    assert rest(found)["unallocated"].energy_j == pytest.approx(20.0)


kinds = st.sampled_from([StageKind.PREPARE_DATA, GENERATE, TRAIN, StageKind.EVALUATE, StageKind.OTHER])


@st.composite
def armless_runs(draw: st.DrawFn) -> RunRecord:
    """Stages of any kind, inside each other or not, lost or not, making and using artefacts or not."""
    made: list[StageRecord] = []
    for number in range(draw(st.integers(1, 7))):
        parent = draw(st.sampled_from([None, *(entry.stage_id for entry in made)]))
        inside = [entry for entry in made if entry.stage_id == parent]
        joules = draw(st.integers(1, 9)) if not inside else math.fsum(_j(inside[0])) / 8.0
        made.append(
            stage(
                f"a{number}",
                f"stage{number}",
                draw(kinds),
                joules=float(joules),
                parent_id=parent,
                labels=draw(st.sampled_from([{}, MADE, {"teacher": "big"}])),
                status=draw(st.sampled_from([StageStatus.ENDED, StageStatus.ENDED, StageStatus.FAILED])),
            )
        )
    return run_record(made)


def _j(entry: StageRecord) -> list[float]:
    return [part.value_j for part in entry.energies if not isinstance(part, Absent)]


@settings(deadline=None, max_examples=300)
@given(armless_runs())
def test_of_a_run_without_arms_every_joule_is_on_one_bill_or_listed(run: RunRecord) -> None:
    found = gathered(run)
    # one artefact at most is made, whoever trains on it
    teacher_j = max((row.teacher_j or 0.0 for row in found.rows), default=0.0)
    billed_j = math.fsum(row.own_j or 0.0 for row in found.rows)
    listed_j = math.fsum(entry.energy_j or 0.0 for entry in found.unbilled)
    assert isinstance(run.total, Total)
    assert billed_j + teacher_j + listed_j == pytest.approx(run.total.value_j)


def test_runs_of_one_arm_are_its_seeds_and_pair_within_a_run() -> None:
    found = gathered(quickstart(run_id="r1"), quickstart(run_id="r2"))
    assert [(row.label, row.seed) for row in found.rows] == [
        (label, f"{run}:1") for run in ("r1", "r2") for label in ("sft", "kd", "synthetic")
    ]


def test_one_seed_run_twice_repeats_energies_and_is_no_significance() -> None:
    """The same recipe with the same seed gives the same student; its quality is one draw."""
    rows = gathered(quickstart(run_id="r1"), quickstart(run_id="r2")).rows
    apart = [replace(row, quality=0.1 * i + (row.quality or 0.0)) for i, row in enumerate(rows)]
    found = compare(apart, source="runs")
    assert {entry.seeds for entry in found.n_star} == {1}
    assert not any(entry.is_significant for entry in found.n_star)
    assert not any(entry.is_significant for entry in found.matched)
    assert {point.seeds for point in found.fronts[0].placed} == {1}
    assert any("sft, kd and synthetic had one and the same seed" in warning for warning in found.warnings)
    other = [replace(row, drawn_with=row.seed) for row in apart]
    assert {point.seeds for point in compare(other, source="runs").fronts[0].placed} == {2}


def test_a_stage_that_looks_up_an_artefact_is_listed_as_that() -> None:
    label = {"artifact": "text-1", "reused_from": "r0"}
    run = armless(stage("a1", "generate", GENERATE, joules=1.0, labels=label), stage("a2", "train", TRAIN, joules=9.0))
    assert rest(gathered(run))["generate"].reason == "looking up what run r0 made, which is on the bills"


def changed_arm(tokens: int) -> RunRecord:
    made = quickstart(run_id="r2")
    return replace(
        made,
        stages=tuple(
            replace(entry, workload={**entry.workload, "tokens": tokens})
            if entry.name.startswith("train.kd")
            else entry
            for entry in made.stages
        ),
    )


def test_an_arm_trained_differently_is_no_repeat() -> None:
    found = gathered(quickstart(run_id="r1"), changed_arm(99))
    assert "kd@r2" in by_label(found)
    assert any(
        warning.startswith("kd of run r2 was trained differently: it is kd@r2 here") for warning in found.warnings
    )
    other = quickstart(run_id="r2", settings={"arms": [{"name": "kd", "temperature": 4.0}]})
    assert "kd@r2" in by_label(
        gathered(quickstart(run_id="r1", settings={"arms": [{"name": "kd", "temperature": 2.0}]}), other)
    )


def test_arms_of_several_students_and_seeds_are_named_by_student() -> None:
    found = (scores(30.0, 0.6), scores(25.0, 0.7))
    stages = [
        *arm_stages(1, "small.sft", "sft", (300.0, 300.0), found, student="small"),
        *arm_stages(11, "small.sft.s2", "sft", (310.0, 290.0), found, student="small", seed="2"),
    ]
    rows = gathered(run_record(stages)).rows
    assert [(row.label, row.seed) for row in rows] == [("small.sft", "1"), ("small.sft", "2")]


def test_unknown_and_incomplete_energies_are_said_and_make_the_answer_incomplete() -> None:
    gap = Absent(part="gpu0", boundary=Boundary.BOARD, reason="no driver")
    stages = [
        entry if entry.kind is not TRAIN or "kd" not in entry.name else replace(entry, energies=(*entry.energies, gap))
        for entry in quickstart().stages
        if entry.kind is not GENERATE
    ]
    found = gathered(run_record(stages))
    assert not found.complete
    assert any("the student's energy of kd is incomplete" in warning for warning in found.warnings)
    assert any("the teacher's energy of synthetic is unknown" in warning for warning in found.warnings)
    assert by_label(found)["synthetic"].teacher_j is None
    blind = [replace(entry, energies=()) if entry.kind is TRAIN else entry for entry in quickstart().stages]
    row = by_label(gathered(run_record(blind)))["kd"]
    assert (row.student_j, row.own_j, row.half_widths["student_j"]) == (None, None, 0.0)


def test_gpus_alone_are_given_where_they_were_metered() -> None:
    found = (scores(30.0, 0.6), scores(25.0, 0.7))
    stages = [
        replace(entry, energies=tuple(gpu_and_cpu(100.0, 10.0)))
        for entry in arm_stages(1, "sft", "sft", (300.0, 300.0), found)
    ]
    (row,) = gathered(run_record(stages)).rows
    assert row.student_j == pytest.approx(220.0)
    assert row.cards == CardEnergy(teacher_j=0.0, student_j=200.0, own_j=300.0)
    partly = [entry if entry.kind is TRAIN else replace(entry, energies=(energy(10.0),)) for entry in stages]
    (row,) = gathered(run_record(partly)).rows
    assert row.cards == CardEnergy(teacher_j=0.0, student_j=200.0, own_j=None)


def test_serving_without_time_or_energy_gives_no_rate() -> None:
    stages = [
        replace(entry, duration_s=0.0, energies=()) if entry.kind is StageKind.SERVE else entry
        for entry in quickstart().stages
    ]
    row = by_label(gathered(run_record(stages)))["kd"]
    assert (row.throughput, row.served_teacher_j, row.served_student_j) == (None, None, None)


def test_unlike_tasks_cannot_stand_on_one_axis() -> None:
    other = quickstart(run_id="r2")
    renamed = [
        replace(
            entry, results={"scores": [{**score, "task": "x" + score["task"]} for score in entry.results["scores"]]}
        )
        if "scores" in entry.results
        else entry
        for entry in other.stages
    ]
    with pytest.raises(UsageError, match="such qualities cannot stand on one axis"):
        gathered(quickstart(run_id="r1"), replace(other, stages=tuple(renamed)))


def test_arms_without_a_quality_are_compared_all_the_same() -> None:
    stages = [replace(entry, results={}) for entry in quickstart().stages]
    rows = gathered(run_record(stages)).rows
    assert [row.quality for row in rows] == [None] * 3


def armless(*stages: StageRecord, **changes: Any) -> RunRecord:
    return run_record(list(stages), **changes)


def test_a_training_that_names_its_artefact_bears_it_and_what_is_the_runs() -> None:
    run = armless(
        stage("a1", "prepare", StageKind.PREPARE_DATA, joules=5.0),
        stage("a2", "generate", GENERATE, joules=50.0, labels=MADE),
        stage("a3", "train", TRAIN, joules=30.0, labels={**MADE, "method": "synthetic", "student": "1b"}, tokens=9),
        stage("a4", "score", StageKind.EVALUATE, joules=2.0, results=scores(9.0, 0.5)),
    )
    found = gathered(run)
    (row,) = found.rows
    assert (row.label, row.method, row.student, row.seed) == ("train", "synthetic", "1b", f"{run.run_id}:")
    assert (row.teacher_j, row.student_j, row.own_j) == pytest.approx((50.0, 30.0, 37.0))
    assert list(rest(found)) == ["unallocated"]
    assert any("the scores of the run belong to no arm" in warning for warning in found.warnings)


def test_a_teacher_that_is_named_and_not_here_is_unknown_and_no_baseline() -> None:
    run = armless(
        stage("a1", "sft_tulu", TRAIN, joules=30.0, labels={"pipeline": "sft", "teacher": "big", "student": "1b"}),
        stage("a2", "generation", GENERATE, joules=50.0),
    )
    found = gathered(run)
    (row,) = found.rows
    assert (row.method, row.teacher_j) == ("sft+teacher", None)
    assert rest(found)["generation"].reason == "the teacher's work, and no training names what it made"
    assert any(warning.startswith("sft_tulu: a teacher is named") for warning in found.warnings)
    assert any(warning == f"sft_tulu: {NO_TOKENS}" for warning in found.warnings)


def test_several_trainings_of_one_run_share_nothing_that_is_not_named() -> None:
    run = armless(
        stage("a1", "prepare", StageKind.PREPARE_DATA, joules=5.0),
        stage("a2", "one", TRAIN, joules=30.0, tokens=9, labels={"seed": "4"}),
        stage("a3", "two", TRAIN, energies=gpu_and_cpu(20.0, 2.0), tokens=9),
    )
    found = gathered(run)
    one, two = found.rows
    assert (one.drawn_with, one.method, one.own_j, one.cards) == ("4", "unnamed", 30.0, None)
    assert two.cards == CardEnergy(teacher_j=None, student_j=20.0, own_j=20.0)
    assert rest(found)["prepare"].reason == "prepared for no training that is compared here"
    assert any("one and two: no artefact is named" in warning for warning in found.warnings)


def test_runs_of_unlike_names_that_share_a_label_are_told_of() -> None:
    one = armless(stage("a1", "train", TRAIN, joules=30.0), name="fp32", run_id="r1")
    other = armless(stage("a1", "train", TRAIN, joules=90.0), name="bf16", run_id="r2")
    (said,) = [text for text in gathered(one, other).warnings if "are called alike" in text]
    assert said.startswith("train stands for the runs fp32 and bf16, whose stages are called alike")
    assert not any("are called alike" in text for text in gathered(one, replace(other, name="fp32")).warnings)


def test_a_training_without_energy_has_none() -> None:
    (row,) = gathered(armless(stage("a1", "train", TRAIN))).rows
    assert (row.student_j, row.own_j, row.half_widths["own_j"]) == (None, None, 0.0)


def test_what_is_lost_running_or_unread_is_listed_with_its_reason() -> None:
    run = armless(
        stage("a1", "train", TRAIN, joules=9.0, status=StageStatus.FAILED),
        stage("a2", "noise", StageKind.OTHER),
        unallocated=NoTotal(reason="a session has no end"),
    )
    found = gathered(run)
    assert found.rows == ()
    assert rest(found)["train"].reason == "experimentation: an attempt that failed"
    assert rest(found)["noise"].energy_j is None
    assert rest(found)["noise"].reason.startswith("a stage of kind other, which belongs to no training; noise has no")
    assert rest(found)["unallocated"] == Unbilled(
        run_id=run.run_id, stage="unallocated", energy_j=None, reason="a session has no end"
    )
    assert any("no student was trained" in warning for warning in found.warnings)


def test_a_stage_around_a_training_is_listed_beside_it() -> None:
    run = armless(
        stage("a1", "job", StageKind.OTHER, joules=40.0),
        stage("a2", "train", TRAIN, joules=30.0, parent_id="a1"),
        stage("a3", "upload", StageKind.OTHER, joules=4.0, parent_id="a1"),
        unallocated_j=0.0,
    )
    found = gathered(run)
    assert {name: entry.energy_j for name, entry in rest(found).items()} == pytest.approx(
        {"job (beside its stages)": 6.0, "upload": 4.0}
    )


def test_machines_that_differ_are_said() -> None:
    def on(run_id: str, gpu: str | None) -> RunRecord:
        return replace(measured_command(), run_id=run_id, environment={"gpu_model": gpu} if gpu else {})

    def said(runs: Sequence[RunRecord]) -> list[str]:
        return [warning for warning in gathered(*runs).warnings if "different" in warning]

    assert not said([on("r1", "H100"), on("r2", "1 x H100")])
    assert said([on("r1", "H100"), on("r2", "A100"), on("r3", None)]) == [
        "the runs had different GPUs, so a difference between them may be the machine's: "
        "H100 in r1; A100 in r2; unknown in r3"
    ]


def test_what_an_arm_was_made_with_goes_along() -> None:
    settings = {
        "arms": [{"name": "kd", "alpha": 0.5, "temperature": 2.0, "loss": "jsd"}],
        "teacher_generate": {"max_new_tokens": 80},
        "train": {"learning_rate": 0.1, "seeds": [1]},
    }
    found = by_label(gathered(quickstart(settings=settings)))
    tokens = found["kd"].settings["train_tokens"]
    assert found["kd"].settings == {"alpha": 0.5, "temperature": 2.0, "train_tokens": tokens, "learning_rate": 0.1}
    assert found["synthetic"].settings == {"max_new_tokens": 80.0, "train_tokens": tokens, "learning_rate": 0.1}
    assert '"loss": "jsd"' in found["kd"].otherwise
    assert found["kd"].student_s == pytest.approx((3490.0 + 3505.0) / 31.0)
    assert found["kd"].student_w == pytest.approx(31.0)


@pytest.mark.parametrize(
    ("key", "one", "two"),
    [
        ("teacher_generate", {"max_new_tokens": 80}, {"max_new_tokens": 160}),
        ("train", {"learning_rate": 0.1}, {"learning_rate": 0.2}),
        ("teacher_endpoint", {"url": "u", "model": "a"}, {"url": "u", "model": "b"}),
        ("teacher_endpoint", {"url": "u", "model": "a"}, {"url": "u", "model": "a", "leave_out": ["top_p"]}),
        ("teacher_endpoint", {"url": "u", "model": "a"}, {"url": "u", "model": "a", "extra_body": {"effort": "low"}}),
    ],
)
def test_arms_made_with_other_settings_are_no_repeats(key: str, one: object, two: object) -> None:
    """And those of the second kind are repeats of each other."""
    runs = [quickstart(run_id=f"r{number}", settings={key: made}) for number, made in enumerate((one, two, two))]
    labels = [row.label for row in gathered(*runs).rows if row.method == "synthetic_sft"]
    assert labels == ["synthetic", "synthetic@r1", "synthetic@r1"]


def test_a_student_of_three_passes_is_no_repeat_of_one_and_the_two_tell_what_passes_do() -> None:
    """A recipe that says nothing of passes means one."""
    data = {"sequence_tokens": 256, "source": "mine"}
    told: list[dict[str, int]] = [{}, {"epochs": 3}, {}]
    runs = [quickstart(run_id=f"r{n}", settings={"data": {**data, **more}}) for n, more in enumerate(told)]
    found = gathered(*runs)
    assert [row.label for row in found.rows if row.method == "sft"] == ["sft", "sft@r1", "sft"]
    (ladder,) = ladders([label for label in gather_labels(found.rows) if label.method == "sft"], "epochs")
    assert (ladder.levels, [label.name for label in ladder.labels]) == ((1.0, 3.0), ["sft", "sft@r1"])


def test_other_seeds_in_the_recipe_are_repeats() -> None:
    runs = [quickstart(run_id=f"r{number}", settings={"train": {"seeds": [number]}}) for number in (1, 2)]
    assert {row.label for row in gathered(*runs).rows} == {"sft", "kd", "synthetic"}


def test_a_server_that_was_asked_with_more_patience_is_the_same_teacher() -> None:
    tables = [{"url": "u", "model": "a", "max_retries": tries} for tries in (1, 9)]
    runs = [quickstart(run_id=f"r{n}", settings={"teacher_endpoint": table}) for n, table in enumerate(tables)]
    assert {row.label for row in gathered(*runs).rows} == {"sft", "kd", "synthetic"}


def of_models(run_id: str, teacher: str, student: str) -> RunRecord:
    """A quick start whose recipe names its models, its artefacts made by that teacher."""
    told = {
        "teacher": {"source": teacher},
        "students": [{"name": "pruned", "source": student}],
        "evaluate": {"items": 64},
        "data": {"source": "bundled", "train_tokens": 32768},
    }
    run = quickstart(run_id=run_id, settings=told)
    own = {"logits-0a1b2c3d4e5f": f"logits-{teacher}", "text-5f4e3d2c1b0a": f"text-{teacher}"}
    stages = tuple(
        replace(one, labels={key: own.get(value, value) for key, value in one.labels.items()}) for one in run.stages
    )
    return replace(run, stages=stages)


def test_a_student_of_the_same_name_that_is_another_model_has_its_own_baseline() -> None:
    """The better sft of a larger model must not be the baseline of a smaller one."""
    found = gathered(of_models("r1", "big", "hf:small"), of_models("r2", "big", "hf:large"))
    assert {row.student for row in found.rows} == {"pruned", "pruned@r2"}
    assert "student pruned of run r2 is another model: it is pruned@r2 here" in found.warnings
    # a run's id is no size, though it may look like one
    named = of_models("20261126-072715-work-87b3", "big", "hf:large")
    apart = gathered(of_models("r1", "big", "hf:small"), named)
    assert {parameters_of(label) for label in gather_labels(apart.rows)} == {None}
    compared = compare(found.rows, source="two")
    assert {entry.label: entry.baseline for entry in compared.n_star} == {
        "kd": "sft",
        "synthetic": "sft",
        "kd@r2": "sft@r2",
        "synthetic@r2": "sft@r2",
    }
    # both students drew on the artefacts of one teacher
    assert compared.reuse_students == 2
    alike = gathered(of_models("r1", "big", "hf:small"), of_models("r2", "big", "hf:small"))
    assert {row.student for row in alike.rows} == {"pruned"}


def test_qualities_relative_to_unlike_teachers_are_said_first() -> None:
    found = gathered(of_models("r1", "big", "hf:small"), of_models("r2", "bigger", "hf:small"))
    assert found.warnings[0].startswith(
        "qualities are relative to unlike models, or of unlike text or evaluation: those of r1; r2 do"
    )
    # two models, an artefact each: nothing is shared
    apart = gathered(of_models("r1", "big", "hf:small"), of_models("r2", "bigger", "hf:large"))
    assert compare(apart.rows, source="two").reuse_students == 1
    alike = gathered(of_models("r1", "big", "hf:small"), of_models("r2", "big", "hf:large"))
    assert not any("unlike models" in warning for warning in alike.warnings)


def test_qualities_relative_to_unlike_starts_are_said_first() -> None:
    def without_teacher(run_id: str, student: str) -> RunRecord:
        run = of_models(run_id, "none", student)
        return replace(run, stages=tuple(one for one in run.stages if one.name != "evaluate.teacher"))

    unlike = gathered(without_teacher("r1", "hf:small"), without_teacher("r2", "hf:large"))
    assert unlike.warnings[0].startswith("qualities are relative to unlike models")
    alike = gathered(without_teacher("r1", "hf:small"), without_teacher("r2", "hf:small"))
    assert not any("unlike models" in warning for warning in alike.warnings)
    # one run whose teacher was evaluated, and one whose was not, though it is the same
    settings = of_models("r2", "big", "hf:small").settings
    mixed = gathered(of_models("r1", "big", "hf:small"), replace(without_teacher("r2", "hf:small"), settings=settings))
    assert mixed.warnings[0].startswith("qualities are relative to unlike models")


def test_a_run_knows_how_large_its_student_is() -> None:
    """Its training counted the weights, whatever the student is called; rules on sizes can use it."""
    run = quickstart()
    counted = tuple(
        replace(one, results={**one.results, "parameters": 2_500_000}) if one.kind is TRAIN else one
        for one in run.stages
    )
    assert {row.settings.get("student_parameters") for row in gathered(replace(run, stages=counted)).rows} == {2.5e6}
    assert {row.settings.get("student_parameters") for row in gathered(run).rows} == {None}
