"""The keys `lm_eval_*` of `[evaluate]`: their rules, what they become, and the hash of recipes without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillwatt.config.load import load_recipe
from stillwatt.config.text_files import look_into
from stillwatt.errors import ConfigError
from stillwatt.pipelines.spec_evaluate import HarnessWriting

RECIPE = Path(__file__).parents[3] / "recipes" / "smoke_cpu.toml"
TASKS = 'evaluate.lm_eval_tasks=["gsm8k"]'
CHAT = "evaluate.lm_eval_chat_template=true"
WRITING = "evaluate.lm_eval_generation={max_gen_toks=64, temperature=0.7}"


def test_what_is_asked_of_the_harness_comes_to_the_runner() -> None:
    told = (TASKS, CHAT, "evaluate.lm_eval_few_shot=5", "evaluate.lm_eval_system=Be brief.", WRITING)
    spec = load_recipe(RECIPE, told).to_spec().evaluate
    assert (spec.lm_eval_few_shot, spec.lm_eval_chat_template, spec.lm_eval_system) == (5, True, "Be brief.")
    assert spec.lm_eval_few_shot_as_turns
    assert spec.lm_eval_generation == HarnessWriting(max_gen_toks=64, temperature=0.7)
    assert spec.lm_eval_generation.told == {"max_gen_toks": 64, "temperature": 0.7, "do_sample": True}
    assert HarnessWriting(temperature=0.0).told == {"temperature": 0.0, "do_sample": False}


def test_recipes_without_these_keys_have_the_hash_they_always_had() -> None:
    recipe = load_recipe(RECIPE, (TASKS,))
    assert [key for key in recipe.resolved()["evaluate"] if key.startswith("lm_eval")] == [
        "lm_eval_tasks", "lm_eval_include_path", "lm_eval_limit",
    ]  # fmt: skip
    same = load_recipe(RECIPE, (TASKS, "evaluate.lm_eval_chat_template=false"))
    other = load_recipe(RECIPE, (TASKS, "evaluate.lm_eval_few_shot=0"))
    assert same.settings_sha256 == recipe.settings_sha256 != other.settings_sha256


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["evaluate.lm_eval_few_shot=0"], "evaluate.lm_eval_few_shot: lm_eval_few_shot without lm_eval_tasks has no"),
        ([CHAT], "lm_eval_chat_template without lm_eval_tasks has no effect"),
        ([WRITING], "lm_eval_generation without lm_eval_tasks has no effect"),
        ([TASKS, "evaluate.lm_eval_few_shot=-1"], "greater than or equal to 0"),
        ([TASKS, "evaluate.lm_eval_system=x"], "lm_eval_system is about conversations; set lm_eval_chat_template"),
        ([TASKS, "evaluate.lm_eval_few_shot_as_turns=false"], "lm_eval_few_shot_as_turns is about conversations"),
        (
            [TASKS, "evaluate.lm_eval_generation={top_p=0.9}"],
            "evaluate.lm_eval_generation.top_p: top_p says which tokens are drawn from, and nothing is drawn",
        ),
        ([TASKS, "evaluate.lm_eval_generation={}"], "evaluate.lm_eval_generation: the table is empty"),
        ([TASKS, "evaluate.lm_eval_generation={max_gen_tok=1}"], "did you mean 'max_gen_toks'"),
    ],
)
def test_a_broken_rule_names_its_key(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)


def test_a_check_looks_for_the_definitions(tmp_path: Path) -> None:
    spec = load_recipe(RECIPE, (TASKS, f"evaluate.lm_eval_include_path={tmp_path}")).to_spec()
    assert any("task definitions of lm-evaluation-harness not found" in said for said in look_into(spec).cautions)
    (tmp_path / "mine.yaml").write_text("task: mine\n", encoding="utf-8")
    assert not any("lm-evaluation-harness" in said for said in look_into(spec).cautions)
