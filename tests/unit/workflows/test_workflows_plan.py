"""A recipe is predicted from first principles, from runs, and held against what it took."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from planned_runs import POWER_W, lasting, smoke, study_run
from run_dirs import SyntheticRun, constant_counter, cpu_counter, quick_run
from stillwatt.analysis.costs.counts import read
from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.jobs import ASSUMED_QUESTION_TOKENS, jobs_of, remarks_on
from stillwatt.config.load import load_recipe
from stillwatt.config.model_size import size_of_teacher
from stillwatt.config.models import Recipe
from stillwatt.errors import ConfigError, UnknownNameError, UsageError
from stillwatt.pipelines.evaluate import total_work
from stillwatt.records.channel import Basis
from stillwatt.records.forecast import Device
from stillwatt.records.kinds import StageStatus
from stillwatt.report.forecasts import comparison_dict, comparison_line, comparison_table, prediction_sentences
from stillwatt.units import J_PER_UJ
from stillwatt.workflows.books import show_run
from stillwatt.workflows.history import costs_of, read_history, read_runs
from stillwatt.workflows.plan import MODELLED, _compared, _uncompared, compare_with_run, plan_recipe
from stillwatt.workflows.predictions import (
    FILE_NAME,
    adopt_prediction,
    load_prediction,
    prediction_dict,
    save_prediction,
)
from stillwatt.workflows.probe import shrink
from stillwatt.workflows.publish import write_report

SIZES = (
    ("data.train_tokens=1024",),
    ("data.train_tokens=2048",),
    ("data.train_tokens=4096", "data.sequence_tokens=64"),
)


@pytest.fixture
def learnt(runs_dir: Path) -> Path:
    """Three runs of other budgets than the recipe's."""
    for number, changes in enumerate(SIZES, start=1):
        study_run(runs_dir, smoke(*changes, "evaluate.perplexity_tokens=256"), number=number)
    return runs_dir


def test_without_a_run_every_figure_rests_on_first_principles(tmp_path: Path) -> None:
    planned = plan_recipe(smoke(), runs_dir=tmp_path / "none")
    assert planned.saved_to is None
    found = planned.prediction
    assert {stage.evidence for stage in found.stages} == {"first principles alone: nothing like it was measured"}
    assert found.energy_error is None
    assert found.kgco2e is None
    assert any("there is no ledger" in note for note in found.notes)
    assert any("nothing was measured on" in note for note in found.notes)
    trained = next(stage for stage in found.stages if stage.name == "train.sft.1.0")
    assert trained.energy_j is not None
    assert trained.energy_j.high > 10 * trained.energy_j.low


def test_runs_teach_what_a_budget_between_them_takes(learnt: Path) -> None:
    recipe = smoke("data.train_tokens=3072", "evaluate.perplexity_tokens=256")
    found = plan_recipe(recipe, runs_dir=learnt, device_name="").prediction
    runs, _ = read_runs(learnt)
    device = read_history(runs).outcomes[0].job.device
    # this machine is not the one of the runs, so what is asked is asked of theirs
    from stillwatt.workflows.plan import predict

    found = predict(recipe, read_history(runs).like(device), device)
    truth = {job.name: lasting(job) for job in jobs_of(recipe.to_spec(), device)}
    for stage in found.stages:
        assert stage.duration_s is not None
        assert stage.energy_j is not None
        assert stage.duration_s.low < truth[stage.name] < stage.duration_s.high, stage.name
        assert stage.energy_j.low < POWER_W * truth[stage.name] < stage.energy_j.high, stage.name
    assert found.duration_s is not None
    assert found.duration_s.value == pytest.approx(sum(truth.values()), rel=0.1)
    assert found.energy_error is not None
    assert found.energy_error.groups == 3
    assert found.energy_error.median_error < 0.1
    assert found.stages[-1].evidence == "6 stages like it, in 3 runs"


def test_what_cannot_be_learnt_from_says_why(runs_dir: Path) -> None:
    quick_run(runs_dir, number=1)
    study_run(runs_dir, smoke(), number=2, reused=True)
    runs, notes = read_runs(runs_dir)
    history = read_history(runs, notes)
    assert any("no recipe was carried out" in note for note in history.notes)
    assert not any(outcome.job.name.startswith("teacher_") for outcome in history.outcomes)
    other = history.like(Device(name="x", is_gpu=True, parts=("gpu",)))
    assert other.outcomes == ()
    assert "cpu was metered there, without gpu and with cpu, and what is predicted covers gpu" in other.notes[-1]


def test_many_runs_that_teach_nothing_are_one_line(runs_dir: Path) -> None:
    for number in range(1, 6):
        quick_run(runs_dir, number=number)
    history = read_history(read_runs(runs_dir)[0])
    (said,) = history.notes
    assert re.fullmatch(r"not learnt from 5 runs \(\S+, \S+ and 3 more\): no recipe was carried out, so .*", said)


def test_runs_of_a_part_of_the_machine_are_said_to_lack_the_rest(runs_dir: Path) -> None:
    study_run(runs_dir, smoke(), number=1)
    history = read_history(read_runs(runs_dir)[0])
    said = history.like(Device(name="x", is_gpu=True, parts=("cpu", "dram", "gpu"))).notes[-1]
    assert "cpu was metered there, without dram and gpu, and what is predicted covers cpu, dram and gpu" in said
    assert "with cpu" not in said


def test_another_device_is_planned_for_from_its_data_sheet(learnt: Path) -> None:
    known = plan_recipe(smoke(), runs_dir=learnt, device_name="NVIDIA H100").prediction
    unknown = plan_recipe(smoke(), runs_dir=learnt, device_name="Fantasia 9000").prediction
    assert any("an average one's peak rates stand in" in note for note in unknown.notes)
    assert not any("peak rates" in note for note in known.notes)
    assert MODELLED not in known.notes


def test_a_device_that_nobody_knows_is_named_with_the_nearest(tmp_path: Path) -> None:
    found = plan_recipe(smoke(), runs_dir=tmp_path / "none", device_name="H1000").prediction
    assert any("no GPU called 'H1000' is known here (did you mean 'H100'?)" in note for note in found.notes)
    known = plan_recipe(smoke(), runs_dir=tmp_path / "none", device_name="NVIDIA H100 PCIe").prediction
    assert not any("is known here" in note for note in known.notes)


def test_a_region_gives_kgco2e_through_the_factors(learnt: Path) -> None:
    france = plan_recipe(smoke(), runs_dir=learnt, region="France").prediction
    assert france.kgco2e is not None
    assert france.energy_j is not None
    assert france.kgco2e.low < france.kgco2e.value < france.kgco2e.high
    assert all(stage.kgco2e is not None for stage in france.stages)
    with pytest.raises(UnknownNameError):
        plan_recipe(smoke(), runs_dir=learnt, region="Nowhereland")


def test_a_model_that_is_not_here_is_no_zero(tmp_path: Path) -> None:
    recipe = smoke('teacher.source="hf:nobody/nameless"')
    found = plan_recipe(recipe, runs_dir=tmp_path).prediction
    logits = next(stage for stage in found.stages if stage.name == "teacher_logits")
    assert logits.energy_j is None
    assert "size is not known" in logits.reason
    assert any("not in the total: fetch_models, evaluate.teacher" in note for note in found.notes)
    guessed = plan_recipe(smoke('teacher.source="hf:nobody/model-7B"'), runs_dir=tmp_path).prediction
    assert any("is a guess from the name nobody/model-7B" in note for note in guessed.notes)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_planned_stage_has_a_job(name: str) -> None:
    spec = load_recipe(bundled_recipes()[name]).to_spec()
    jobs = jobs_of(spec, Device(name="NVIDIA H100", is_gpu=True))
    assert [job.name for job in jobs if job.unknown] in ([], ["fetch_models"])
    assert all(job.counts.flops > 0.0 for job in jobs if job.kind.value in ("student_train", "teacher_logits"))


def test_a_teacher_beside_the_student_and_a_harness_are_counted() -> None:
    recipe = smoke('evaluate.lm_eval_tasks=["mmlu"]', "evaluate.lm_eval_limit=10")
    spec = recipe.to_spec()
    arms = tuple(replace(arm, loss="forward_kl") if arm.name == "kd" else arm for arm in spec.arms)
    spec = replace(spec, arms=arms, logits=None)
    jobs = {job.name: job for job in jobs_of(spec, Device(name="NVIDIA H100", is_gpu=True))}
    assert jobs["teacher_online.kd.1.0"].counts.flops > 0.0
    assert jobs["train.kd.1.0"].method == "kd/forward_kl"
    plain = {job.name: job for job in jobs_of(smoke().to_spec(), Device(name="NVIDIA H100", is_gpu=True))}
    asked, same = jobs["evaluate.teacher"], plain["evaluate.teacher"]
    size, batch = size_of_teacher(spec), spec.evaluate.batch_size
    assert size is not None
    harness = read(size, tokens=10 * ASSUMED_QUESTION_TOKENS, sequence=ASSUMED_QUESTION_TOKENS, batch=batch)
    assert asked.counts.flops - same.counts.flops == pytest.approx(harness.flops)
    assert (asked.tokens or 0.0) - (same.tokens or 0.0) == asked.assumed_tokens == 10 * ASSUMED_QUESTION_TOKENS
    assert any("an assumption" in remark for remark in remarks_on(recipe.to_spec()))


def test_a_stage_that_vllm_runs_is_said_to_be_predicted_as_another_engine_would(tmp_path: Path) -> None:
    assert not any("vLLM" in remark for remark in remarks_on(smoke().to_spec()))
    one = smoke("teacher_logits.engine=vllm")
    (said,) = [remark for remark in remarks_on(one.to_spec()) if "vLLM" in remark]
    assert said.startswith("teacher_logits runs in vLLM, and is taken to cost what transformers would: an assumption")
    prediction = plan_recipe(one, runs_dir=tmp_path / "none").prediction
    assert f"note: {said}" in list(prediction_sentences(prediction))
    assert said in prediction_dict(prediction)["notes"]
    both = smoke("teacher_logits.engine=vllm", "teacher_generate.engine=vllm")
    assert any("teacher_logits and teacher_generate run in vLLM" in remark for remark in remarks_on(both.to_spec()))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_student_that_writes_its_text_is_counted_for_the_steps_that_are_expected(share: float) -> None:
    spec = smoke().to_spec()
    assert spec.own_text is not None
    arms = tuple(replace(arm, own_text_share=share) if arm.name == "gkd" else arm for arm in spec.arms)
    jobs = {job.name: job for job in jobs_of(replace(spec, arms=arms), Device(name="NVIDIA H100", is_gpu=True))}
    assert ("student_generate.gkd.1.0" in jobs) == (share > 0.0)
    train, plain = jobs["train.gkd.1.0"], jobs["train.sft.1.0"]
    # own text is as long as given text in this recipe, so only who wrote it differs
    assert spec.own_text.prompt_tokens + spec.own_text.max_new_tokens == spec.data.sequence_tokens
    assert train.counts.flops == pytest.approx(plain.counts.flops)
    assert train.tokens == (None if share else plain.tokens)
    assert jobs["teacher_online.gkd.1.0"].counts.flops > 0.0
    if share:
        written = jobs["student_generate.gkd.1.0"].counts.flops
        # by eq. 90 reading a text takes what writing it did, and learning from it three times as much
        assert written == pytest.approx(share * train.counts.flops / 3.0)


def test_what_is_opened_again_and_again_inside_a_stage_is_one_stage(runs_dir: Path) -> None:
    recipe = smoke()
    run = SyntheticRun(runs_dir, name=recipe.name, settings=recipe.resolved())
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter()])
    for begin_s, status in ((101.0, "failed"), (111.0, "ended")):
        outer = session.begin("train.gkd.0.5", begin_s, kind="student_train")
        for step in range(3):
            at_s = begin_s + 1.0 + 2.0 * step
            session.stage("student_generate.gkd.0.5", at_s, at_s + 0.5, parent=outer, workload={"tokens": 30.0})
            session.stage("teacher_online.gkd.0.5", at_s + 0.5, at_s + 1.5, kind="teacher_logits", parent=outer)
        session.finish(outer, begin_s + 8.0, status=status)
    session.samples("cpu0.energy_counter", constant_counter(POWER_W, J_PER_UJ), until_s=121.0)
    session.end(120.5)
    (record,), _ = read_runs(runs_dir)
    costs = costs_of(record)
    assert [cost.name for cost in costs].count("student_generate.gkd.0.5") == 2
    last = {cost.name: cost for cost in costs}
    for name, length_s in (("train.gkd.0.5", 3.5), ("student_generate.gkd.0.5", 1.5), ("teacher_online.gkd.0.5", 3.0)):
        assert last[name].duration_s == pytest.approx(length_s)
        assert last[name].energy_j == pytest.approx(POWER_W * length_s, rel=0.1)
    assert (last["student_generate.gkd.0.5"].tokens, last["teacher_online.gkd.0.5"].tokens) == (90.0, None)
    # what lies in the try that failed is learnt from no more than that try
    learnt = read_history([record]).outcomes
    assert sorted(outcome.job.name for outcome in learnt) == [
        "student_generate.gkd.0.5",
        "teacher_online.gkd.0.5",
        "train.gkd.0.5",
    ]


def test_what_ranks_do_together_is_one_piece_of_work_and_a_try_of_it_is_another(runs_dir: Path) -> None:
    """Each rank has a part of tokens and joules; a part alone would be no training, or half an evaluation."""
    recipe = smoke()
    run = SyntheticRun(runs_dir, name=recipe.name, settings=recipe.resolved())
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter()])
    tokens = recipe.to_spec().data.train_tokens / 2.0
    for begin_s, attempt, status in ((101.0, 1, "failed"), (111.0, 2, "ended")):
        for rank, at_s, length_s in (("0", begin_s, 2.0), ("1", begin_s + 2.0, 3.0)):
            ours: dict[str, Any] = {"labels": {"rank": rank}, "attempt": attempt, "status": status}
            session.stage(
                "train.sft.0.5", at_s, at_s + length_s, kind="student_train", workload={"tokens": tokens}, **ours
            )
        for rank, at_s, length_s in (("0", begin_s + 5.0, 1.0), ("1", begin_s + 6.0, 2.0)):
            outer = session.begin("evaluate.sft.0.5", at_s, kind="evaluate", labels={"rank": rank}, attempt=attempt)
            session.stage("answer.sft.0.5", at_s + 0.25, at_s + 0.75, parent=outer, labels={"rank": rank})
            session.finish(outer, at_s + length_s, status=status)
    session.samples("cpu0.energy_counter", constant_counter(POWER_W, J_PER_UJ), until_s=121.0)
    session.end(120.5)
    (record,), _ = read_runs(runs_dir)
    costs = costs_of(record)
    assert [cost.name for cost in costs] == 2 * ["train.sft.0.5", "evaluate.sft.0.5", "answer.sft.0.5"]
    assert [cost.is_whole for cost in costs] == 3 * [False] + 3 * [True]
    for cost, joint_s, longest_s in zip(costs[3:], (5.0, 2.0, 1.0), (3.0, 1.5, 0.5), strict=True):
        assert cost.energy_j == pytest.approx(POWER_W * joint_s, rel=0.1), cost.name
        assert cost.duration_s == pytest.approx(longest_s)
    assert costs[3].tokens == 2 * tokens
    assert {outcome.job.name for outcome in read_history([record]).outcomes} >= {"train.sft.0.5", "evaluate.sft.0.5"}


@pytest.mark.parametrize(("share", "is_learnt"), [(1.0, True), (0.5, False)])
def test_an_evaluation_is_learnt_from_whose_harness_read_less_than_assumed(
    runs_dir: Path, share: float, is_learnt: bool
) -> None:
    recipe = smoke('evaluate.lm_eval_tasks=["mmlu"]')
    told = recipe.to_spec().evaluate
    run = SyntheticRun(runs_dir, name=recipe.name, settings=recipe.resolved())
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter()])
    tokens = share * total_work(told)  # next to nothing of the harness'
    session.stage("evaluate.sft.0.5", 101.0, 105.0, kind="evaluate", workload={"tokens": tokens})
    session.samples("cpu0.energy_counter", constant_counter(POWER_W, J_PER_UJ), until_s=107.0)
    session.end(106.0)
    records, _ = read_runs(runs_dir)
    found = [outcome.job.name for outcome in read_history(records).outcomes]
    assert found == (["evaluate.sft.0.5"] if is_learnt else [])


def test_a_prediction_goes_with_the_run_and_is_held_against_it(learnt: Path) -> None:
    recipe = smoke()
    planned = plan_recipe(recipe, runs_dir=learnt)
    assert planned.saved_to is not None
    run = study_run(learnt, recipe, number=9)
    adopt_prediction(learnt, run.path, recipe.settings_sha256)
    assert load_prediction(run.path) == planned.prediction
    found = compare_with_run(run.run_id, runs_dir=learnt, recipe=recipe)
    assert found.is_from_before
    assert found.energy[-1].name == "total"
    assert found.energy[-1].measured == pytest.approx(sum(held.measured or 0.0 for held in found.energy[:-1]))
    assert found.duration[-1].error is not None


def test_a_prediction_that_learnt_from_the_run_was_not_made_before_it(learnt: Path) -> None:
    recipe = smoke()
    run = study_run(learnt, recipe, number=9)
    seen = replace(plan_recipe(recipe, runs_dir=learnt).prediction, learnt_from=(run.run_id,))
    assert save_prediction(seen, learnt) is not None
    adopt_prediction(learnt, run.path, recipe.settings_sha256)
    assert load_prediction(run.path) is None
    assert write_report(run.run_id, runs_dir=learnt).comparison is None
    found = compare_with_run(run.run_id, runs_dir=learnt, recipe=recipe)
    assert not found.is_from_before


def test_a_comparison_says_how_the_energies_are_known_and_what_no_row_holds(learnt: Path) -> None:
    recipe = smoke()
    plan_recipe(recipe, runs_dir=learnt)
    run = study_run(learnt, recipe, number=9)
    adopt_prediction(learnt, run.path, recipe.settings_sha256)
    found = compare_with_run(run.run_id, runs_dir=learnt)
    assert found.basis is Basis.MEASURED
    assert "what lies between stages" in found.uncompared
    costs = costs_of(show_run(learnt, run.run_id))
    torn = [replace(cost, energy_j=None) if cost.name.startswith("train.") else cost for cost in costs]
    assert found.whole_j is not None
    told = _uncompared(found.whole_j, found.energy, torn)
    assert "what lies between stages, and in those whose energy is not whole" in told
    rows_j = sum(held.measured or 0.0 for held in found.energy[:-1] if held.predicted is not None)
    assert found.whole_j == pytest.approx(rows_j + sum(found.uncompared.values()))
    table = comparison_table(comparison_dict(replace(found, basis=Basis.MODELLED)))
    assert table.title == "Predicted and modelled"
    assert [column.title for column in table.columns].count("measured") == 1  # seconds are read off a clock
    assert "J in all; beside the predicted stages that went into " in table.note
    assert "modelled" in comparison_line(replace(found, basis=Basis.MODELLED))


def test_a_comparison_names_what_was_spent_again_and_what_was_not_predicted(learnt: Path) -> None:
    recipe = smoke()
    run = study_run(learnt, recipe, number=9)
    prediction = plan_recipe(recipe, runs_dir=learnt).prediction
    (record,) = (one for one in read_runs(learnt)[0] if one.run_id == run.run_id)
    first, *rest = (stage for stage in record.stages if stage.name != "idle_after")
    lost = replace(first, stage_id="lost", status=StageStatus.FAILED)
    unnamed = replace(prediction, stages=tuple(s for s in prediction.stages if s.name != "idle_after"))
    idle = tuple(stage for stage in record.stages if stage.name == "idle_after")
    found = _compared(replace(record, stages=(lost, first, *rest, *idle)), unnamed, is_from_before=True)
    assert {"attempts that were cut off or failed", "stages that were not predicted"} <= set(found.uncompared)


def test_a_report_shows_what_was_predicted_beside_what_was_measured(learnt: Path) -> None:
    recipe = smoke()
    plan_recipe(recipe, runs_dir=learnt)
    run = study_run(learnt, recipe, number=9)
    assert write_report(run.run_id, runs_dir=learnt).comparison is None
    adopt_prediction(learnt, run.path, recipe.settings_sha256)
    paths = write_report(run.run_id, runs_dir=learnt)
    told = json.loads(paths.json.read_text(encoding="utf-8"))
    schema = Path(__file__).resolve().parents[3] / "docs" / "reference" / "report.schema.json"
    jsonschema.validate(told, json.loads(schema.read_text(encoding="utf-8")))
    assert [entry["name"] for entry in told["prediction"]["energy_j"]][-2:] == ["idle_after", "total"]
    page = paths.html.read_text(encoding="utf-8")
    assert "What <code>stillwatt plan</code> said before the run" in page
    assert "Predicted before the run: " in page
    assert paths.comparison is not None
    line = comparison_line(paths.comparison)
    assert re.match(r"total energy: predicted .* J \[.*\], measured .* J \(off by [+−].+ %\); predicted before", line)
    held = replace(paths.comparison.energy[-1], measured=None, reason="not every predicted stage ran whole")
    part = replace(paths.comparison, energy=(*paths.comparison.energy[:-1], held))
    assert "measured – (not every predicted stage ran whole)" in comparison_line(part)


def test_without_a_prediction_the_other_runs_make_one(learnt: Path) -> None:
    run = study_run(learnt, smoke(), number=9, without=("serve.teacher",))
    found = compare_with_run(run.run_id, runs_dir=learnt)
    assert not found.is_from_before
    assert "no prediction was made before the run" in found.notes[0]
    inside = [held.is_inside for held in found.energy[:-1] if held.measured is not None]
    assert sum(bool(one) for one in inside) >= len(inside) - 2
    missing = next(held for held in found.energy if held.name == "serve.teacher")
    assert (missing.measured, missing.error, missing.is_inside, missing.reason) == (None, None, None, "it did not run")
    assert found.energy[-1].reason == "not every predicted stage ran whole"


def test_a_run_of_other_settings_is_not_held_against_a_recipe(learnt: Path) -> None:
    quick = quick_run(learnt, number=8)
    with pytest.raises(UsageError, match="carried out no recipe"):
        compare_with_run(quick.run_id, runs_dir=learnt)
    run = study_run(learnt, smoke(), number=9)
    with pytest.raises(UsageError, match="with other settings"):
        compare_with_run(run.run_id, runs_dir=learnt, recipe=smoke("data.seed=7"))


def test_a_damaged_prediction_is_none(learnt: Path, tmp_path: Path) -> None:
    planned = plan_recipe(smoke(), runs_dir=learnt)
    assert load_prediction(tmp_path) is None
    (tmp_path / FILE_NAME).write_text("{", encoding="utf-8")
    assert load_prediction(tmp_path) is None
    (tmp_path / FILE_NAME).write_text(json.dumps({"schema": "other"}), encoding="utf-8")
    assert load_prediction(tmp_path) is None
    # what is there stays, and a folder that cannot be written is no error
    assert planned.saved_to is not None
    adopt_prediction(learnt, tmp_path, smoke().settings_sha256)
    assert load_prediction(tmp_path) is None
    adopt_prediction(learnt, tmp_path, "nothing of the kind")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert save_prediction(planned.prediction, tmp_path / "file") is None


@pytest.mark.parametrize("name", ["smoke_cpu", "quickstart"])
def test_a_probe_is_the_recipe_in_small(name: str) -> None:
    recipe = load_recipe(bundled_recipes()[name])
    small = shrink(recipe, steps=2)
    assert isinstance(small, Recipe)
    assert small.name == f"probe-{recipe.name}"
    assert small.data.train_tokens <= recipe.data.train_tokens
    assert small.train.checkpoints == (1.0,)
    assert [arm.name for arm in small.arms] == [arm.name for arm in recipe.arms]
    assert small.students[0].source == recipe.students[0].source
    assert shrink(recipe, steps=10_000).data.train_tokens == recipe.data.train_tokens


@pytest.mark.parametrize(("steps", "text", "epochs"), [(2, 128, 1), (3, 160, 1), (8, 160, 3), (9999, 160, 3)])
def test_a_probe_passes_once_over_the_text_unless_there_is_too_little(steps: int, text: int, epochs: int) -> None:
    recipe = smoke("data.train_tokens=480", "data.epochs=3", "train.accumulation_steps=1")
    assert recipe.train.batch_size * recipe.data.sequence_tokens == 64
    small = shrink(recipe, steps=steps).data
    assert (small.to_spec().text_tokens, small.epochs) == (text, epochs)


def test_a_probe_that_no_recipe_allows_says_so() -> None:
    recipe = smoke().model_copy(update={"students": ()})
    with pytest.raises(ConfigError, match="no small form"):
        shrink(recipe, steps=2)


def test_a_probe_tries_this_machine_alone(tmp_path: Path) -> None:
    from stillwatt.pipelines.progress import SilentProgress
    from stillwatt.workflows.plan import Probing

    probing = Probing(seconds=1.0, progress=SilentProgress(), announce=lambda _line: None)
    with pytest.raises(UsageError, match="--device names another"):
        plan_recipe(smoke(), runs_dir=tmp_path, device_name="H100", probing=probing)


@pytest.mark.slow
def test_a_probe_is_measured_and_booked_and_learnt_from(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the distill extra is not installed")
    from stillwatt.pipelines.progress import SilentProgress
    from stillwatt.workflows.plan import Probing

    probing = Probing(seconds=1.0, progress=SilentProgress(), announce=lambda _line: None)
    found = plan_recipe(smoke(), runs_dir=runs_dir, probing=probing).prediction
    assert any("booked as experimentation under probe-smoke" in note for note in found.notes)
    assert any("(probe)" in stage.evidence for stage in found.stages)
    runs, _ = read_runs(runs_dir)
    assert {run.name for run in runs} == {"probe-smoke"}
    assert not (runs_dir / "artifacts").exists()
    assert not list(runs_dir.glob("*/state"))
