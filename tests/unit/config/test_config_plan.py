"""What a recipe would do: stages in order, tokens that add up to the budget."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.jobs import jobs_of
from stillwatt.config.load import load_recipe
from stillwatt.config.plan import arm_ids, plan, sequences_at
from stillwatt.pipelines.evaluate import total_work
from stillwatt.pipelines.student_train import step_at
from stillwatt.records.forecast import Device
from stillwatt.records.window import StageKind

RECIPE = Path(__file__).parents[2] / "golden" / "recipes" / "study.toml"


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4), st.floats(0.01, 1.0))
def test_a_share_is_reached_in_the_trainers_own_steps(sequences: int, batch: int, passes: int, share: float) -> None:
    data = replace(load_recipe(RECIPE).to_spec().data, train_tokens=sequences * 256)
    train = replace(load_recipe(RECIPE).to_spec().train, batch_size=batch, accumulation_steps=passes)
    reached = sequences_at(share, data, train)
    rows = range(sequences)
    steps = [rows[first : first + batch * passes] for first in range(0, sequences, batch * passes)]
    assert reached == sum(len(step) for step in steps[: step_at(share, len(steps))])


@given(
    st.integers(400, 40_000).map(lambda sequences: sequences * 256),
    st.lists(st.integers(1, 99), unique=True, max_size=4),
    st.lists(st.integers(0, 1000), unique=True, min_size=1, max_size=3),
)
def test_increments_of_every_arm_add_up_to_the_budget(budget: int, shares: list[int], seeds: list[int]) -> None:
    checkpoints = [*(share / 100 for share in sorted(shares)), 1.0]
    changes = [f"data.train_tokens={budget}", f"train.checkpoints={checkpoints}", f"train.seeds={seeds}"]
    spec = load_recipe(RECIPE, changes).to_spec()
    would = plan(spec)
    for arm_id in arm_ids(spec):
        increments = [s.tokens for s in would.stages if s.name.startswith(f"train.{arm_id}.")]
        assert len(increments) == len(checkpoints)
        assert sum(tokens or 0 for tokens in increments) == budget
    assert would.student_tokens == budget * len(arm_ids(spec))


def test_what_a_teacher_makes_scales_with_the_text_and_training_with_all_passes() -> None:
    """Three passes over a text are prepared, cached and written as one is, and trained as three times the text is."""
    text, device = 32 * 256, Device(name="any", is_gpu=False, count=2)
    once, thrice, more = (
        load_recipe(RECIPE, [f"data.train_tokens={tokens}", f"data.epochs={epochs}"]).to_spec()
        for tokens, epochs in ((text, 1), (3 * text, 3), (3 * text, 1))
    )
    made = ("prepare_data", "teacher_logits", "teacher_generate")
    jobs = [{job.name: job for job in jobs_of(spec, device)} for spec in (once, thrice, more)]
    for name, job in jobs[1].items():
        assert job == jobs[0 if name in made else 2][name], name
        if name in ("teacher_logits", "teacher_generate"):
            assert job.tokens == text
            assert job.disk_bytes != jobs[2][name].disk_bytes
    planned, single = plan(thrice), plan(once)
    assert (planned.teacher_tokens, planned.student_tokens) == (single.teacher_tokens, 3 * single.student_tokens)
    assert planned.cache_bytes_low == single.cache_bytes_low
    details = {stage.name: stage.detail for stage in planned.stages}
    assert details["prepare_data"].startswith("pydoc-topics, sequences of 256 tokens, 8,192 of them, for 3 passes")


def test_a_study_in_order() -> None:
    would = plan(load_recipe(RECIPE).to_spec())
    assert [stage.name for stage in would.stages] == [
        "idle_baseline",
        "fetch_models",
        "prepare_data",
        "evaluate.teacher",
        "evaluate.start",
        "teacher_logits",
        "teacher_generate",
        "train.sft.0.5",
        "evaluate.sft.0.5",
        "train.sft.1.0",
        "evaluate.sft.1.0",
        "train.kd.0.5",
        "evaluate.kd.0.5",
        "train.kd.1.0",
        "evaluate.kd.1.0",
        "train.synthetic.0.5",
        "evaluate.synthetic.0.5",
        "train.synthetic.1.0",
        "evaluate.synthetic.1.0",
        "serve.teacher",
        "serve.student",
        "idle_after",
    ]
    assert would.teacher_tokens == 2 * 8192
    assert would.downloads == ()


def test_several_students_and_seeds_are_in_the_names() -> None:
    spec = load_recipe(bundled_recipes()["paper_tulu3"], ["train.seeds=[1, 2]"]).to_spec()
    assert arm_ids(spec)[:3] == ["1b.sft.s1", "1b.sft.s2", "1b.kd.s1"]
    names = [stage.name for stage in plan(spec).stages]
    assert "evaluate.start.7b" in names
    assert "serve.student.13b" in names
    assert "train.13b.synthetic.s2.1.0" in names
    assert len(names) == len(set(names))
    assert len(plan(spec).downloads) == 5


def test_an_unmeasured_idle_and_an_absent_table_plan_no_stage() -> None:
    changes = ["meter.idle_baseline_s=0", "train.checkpoints=[1.0]"]
    spec = load_recipe(RECIPE, changes).to_spec()
    kinds = {stage.kind for stage in plan(spec).stages}
    assert StageKind.IDLE_BASELINE not in kinds
    assert StageKind.SERVE in kinds


def test_the_idle_machine_is_planned_for_both_ends() -> None:
    names = [stage.name for stage in plan(load_recipe(RECIPE, ["meter.idle_after_s=3"]).to_spec()).stages]
    assert (names[0], names[-1]) == ("idle_baseline", "idle_after")
    names = [stage.name for stage in plan(load_recipe(RECIPE, ["meter.idle_after_s=0"]).to_spec()).stages]
    assert names[0] == "idle_baseline"
    assert "idle_after" not in names


def test_the_cache_grows_with_k_and_with_the_budget() -> None:
    sizes = [plan(load_recipe(RECIPE, [f"teacher_logits.top_k={k}"]).to_spec()) for k in (1, 16, 64)]
    lows = [size.cache_bytes_low or 0 for size in sizes]
    assert all(later > earlier for earlier, later in pairwise(lows))
    double = plan(load_recipe(RECIPE, ["data.train_tokens=16384"]).to_spec())
    assert double.cache_bytes_low == 2 * lows[-1]
    assert lows[-1] == 8192 * (64 * 4 + 4)
    assert (sizes[-1].cache_bytes_high or 0) > lows[-1]


def test_a_teacher_beside_the_student_is_planned_in_its_own_stages() -> None:
    changes = ["arms.kd.loss=truncated_top_k"]
    would = plan(load_recipe(RECIPE, changes).to_spec())
    assert len(would.cautions) == 1
    assert "truncated_top_k cannot see" in would.cautions[0]
    spec = load_recipe(RECIPE).to_spec()
    online = dataclasses.replace(spec.arms[1], name="on", loss="reverse_kl")
    spec = dataclasses.replace(spec, arms=(spec.arms[0], online, spec.arms[2]), logits=None)
    beside = {stage.name: stage.tokens for stage in plan(spec).stages if stage.name.startswith("teacher_online")}
    assert beside == {"teacher_online.on.0.5": 4096, "teacher_online.on.1.0": 4096}
    assert plan(spec).teacher_tokens == 2 * 8192
    assert plan(spec).cautions == ()


def test_tokens_of_a_harness_are_told_apart_as_assumed() -> None:
    """A run whose tasks of lm-evaluation-harness are shorter than assumed has done all of its work, and teaches."""
    spec = load_recipe(RECIPE).to_spec()
    device = Device(name="a machine", is_gpu=False)
    asked = replace(spec, evaluate=replace(spec.evaluate, lm_eval_tasks=("piqa",)))
    plain, more = ({job.name: job for job in jobs_of(each, device)}["evaluate.start"] for each in (spec, asked))
    assert (plain.tokens, plain.assumed_tokens) == (total_work(spec.evaluate), 0.0)
    assert more.tokens is not None
    assert more.assumed_tokens > 0.0
    assert more.tokens - more.assumed_tokens == plain.tokens


def test_a_warmup_that_does_not_end_is_told_of() -> None:
    spec = load_recipe(RECIPE).to_spec()
    steps = -(-spec.data.train_tokens // (spec.data.sequence_tokens * spec.train.batch_size))
    steps = -(-steps // spec.train.accumulation_steps)
    whole, longer = (plan(replace(spec, train=replace(spec.train, warmup_steps=each))) for each in (steps, 2 * steps))
    assert not any("warmup" in said for said in whole.cautions)
    (told,) = [said for said in longer.cautions if "warmup" in said]
    assert f"train.warmup_steps = {2 * steps}, and a training is {steps} steps" in told
    assert "50% of train.learning_rate" in told
