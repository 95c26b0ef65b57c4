"""A judge that is a server: its table, its rules, what is planned of it, and the hash of recipes without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillwatt.config.jobs import jobs_of
from stillwatt.config.load import load_recipe
from stillwatt.config.plan import plan
from stillwatt.errors import ConfigError
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER
from stillwatt.records.forecast import Device

RECIPE = Path(__file__).parents[3] / "recipes" / "smoke_cpu.toml"
JUDGE = {
    "source": "endpoint", "mode": "pairwise", "against": "text", "rubric": "continuation-pairwise-1", "form": "chat",
    "prompts": 6, "prompt_tokens": 8, "answer_tokens": 6, "temperature": 0.0, "batch_size": 4, "seed": 1,
}  # fmt: skip
SERVER = {"url": "https://api.example.org/v1", "model": "big", "api": "chat", "api_key_env": "JUDGE_KEY"}


def table(name: str, given: dict[str, object]) -> str:
    told = [f"{key} = {json.dumps(value)}" for key, value in given.items() if value is not None]
    return f"evaluate.{name}={{{', '.join(told)}}}"


def judge(**changes: object) -> str:
    return table("judge", {**JUDGE, **changes})


def server(**changes: object) -> str:
    return table("judge_endpoint", {**SERVER, **changes})


def test_a_server_judges_with_its_own_table() -> None:
    spec = load_recipe(RECIPE, (judge(), server(concurrency=8, leave_out=["seed"]))).to_spec()
    asked = spec.evaluate.judge
    assert asked is not None
    assert asked.endpoint is not None
    assert (asked.name, asked.dtype, asked.verdicts) == ("big at api.example.org", None, ("A", "B"))
    assert (asked.endpoint.concurrency, asked.endpoint.top_logprobs, asked.max_verdict_tokens) == (8, 20, 1)
    assert asked.endpoint.table == "evaluate.judge_endpoint"
    planned = {stage.name: stage.detail for stage in plan(spec).stages}
    assert planned["judge.start"] == "6 questions by big at api.example.org: against text, both orders"
    jobs = {job.name: job for job in jobs_of(spec, Device(name="cpu", is_gpu=False))}
    assert jobs["judge.start"].unknown.startswith("the judge is an endpoint")
    assert not jobs["answer.start"].unknown
    assert OWN_TEACHER not in plan(spec).cautions
    text = load_recipe(RECIPE, (judge(verdicts_by="text", verdict_tokens=64), server())).to_spec().evaluate.judge
    assert text is not None
    assert text.endpoint is not None
    assert (text.endpoint.top_logprobs, text.max_verdict_tokens) == (0, 64)


def test_recipes_with_a_judge_of_this_machine_have_the_hash_they_always_had() -> None:
    local = judge(source="teacher", dtype="float32", form="plain")
    recipe = load_recipe(RECIPE, (local,))
    kept = recipe.resolved()["evaluate"]
    assert "judge_endpoint" not in kept
    assert not {"verdicts_by", "verdict_tokens"} & set(kept["judge"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([judge()], 'source = "endpoint" needs the table [evaluate.judge_endpoint] with url, model and api'),
        ([server()], "[evaluate.judge_endpoint] needs [evaluate.judge] source"),
        ([judge(source="teacher", dtype="float32"), server()], "[evaluate.judge_endpoint] needs [evaluate.judge]"),
        ([judge(source="endpiont"), server()], "did you mean 'endpoint'?"),
        ([judge(dtype="float32"), server()], "the weights of an endpoint are not on this machine; remove dtype"),
        ([judge(source="teacher", form="plain")], "evaluate.judge.dtype: the judge 'teacher' needs a dtype"),
        (
            [judge(source="teacher", dtype="float32", form="plain", verdicts_by="text")],
            "evaluate.judge.verdicts_by: a judge of this machine is read by its probabilities",
        ),
        ([judge(verdict_tokens=3), server()], 'verdict_tokens without verdicts_by = "text" has no effect'),
        ([judge(form="plain"), server()], 'an endpoint whose api is "chat" is asked in form = "chat"'),
        ([judge(), server(api="completions")], 'an endpoint whose api is "completions" is asked in form = "plain"'),
        ([judge(), server(top_logprobs=1)], "1 tokens cannot hold the 2 verdicts; raise it to 2 or more"),
        ([judge(verdicts_by="text"), server(top_logprobs=5)], 'top_logprobs has no effect where verdicts_by = "text"'),
        (
            [judge(rubric="path:r.txt", verdicts=["A", " A"]), server()],
            "an endpoint's verdicts are told apart without the spaces around them",
        ),
        ([judge(), server(url="http://api.example.org/v1")], "evaluate.judge_endpoint.url: the key would go to"),
        ([judge(), server(provider="openai")], 'evaluate.judge_endpoint.provider: provider without energy = "ecologi'),
        ([judge(), server(energy="ecologits")], "evaluate.judge_endpoint.energy: ecologits needs either provider"),
        ([judge(revision="main"), server()], "only a source hf:ORG/NAME has revisions"),
        ([judge(), server(), "budget=2 h"], "cannot know beforehand what that takes"),
    ],
)
def test_a_broken_rule_names_its_key(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)


def test_fields_that_the_recipe_says_elsewhere_are_no_extra_ones() -> None:
    for field, said in (("logprobs", "evaluate.judge.verdicts_by"), ("seed", "evaluate.judge.seed")):
        extra = f"evaluate.judge_endpoint.extra_body={{{field} = 1}}"
        with pytest.raises(ConfigError, match=f"extra_body.{field}: {field} is said by {said}"):
            load_recipe(RECIPE, (judge(), server(), extra))
