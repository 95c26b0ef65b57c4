"""How arms train: keys that came later, combinations that mean nothing, and what is predicted of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stillwatt.config.jobs import jobs_of, remarks_on
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.config.plan import plan
from stillwatt.config.rules import problems
from stillwatt.errors import ConfigError
from stillwatt.records.forecast import Device

RECIPE = Path(__file__).parents[2] / "golden" / "recipes" / "study.toml"
WSD = ["train.schedule=wsd", "train.decay_share=0.2"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.schedule=wsd"], 'train.decay_share: schedule = "wsd" needs decay_share'),
        (["train.decay_share=0.2"], 'schedule = "cosine" takes no decay_share; only "wsd" does'),
        (["train.schedule=linear", "train.decay_share=0.2"], 'schedule = "linear" takes no decay_share'),
        (["train.schedule=constant", "train.final_rate_share=0.1"], "a constant rate comes down to nothing else"),
        ([*WSD, "train.decay_share=1.0"], "train.decay_share: should be less than 1; it is 1.0"),
        (["train.final_rate_share=1.0"], "train.final_rate_share: should be less than 1; it is 1.0"),
        (["train.optimizer=adafactor", "train.betas=[0.9, 0.95]"], 'optimizer = "adafactor" takes no betas'),
        (["train.betas=[0.9]"], "train.betas: should have at least 2 items"),
        (["train.betas=[0.9, 1.0]"], "train.betas.1: should be less than 1; it is 1.0"),
        (["train.weight_decay=-0.1"], "train.weight_decay: should be greater than or equal to 0"),
        (["train.schedule=linaer"], "did you mean 'linear'?"),
        (
            [*WSD, "train.checkpoints=[1.0]", 'budgets.each_arm="2 kJ"', 'budgets.teacher_share="one-off"'],
            "train.schedule: a decay at the end of all of the text does not come down by a budget's end",
        ),
        (
            ["train.schedule=linear", "train.checkpoints=[1.0]", 'arms.sft.budget="1000 s"'],
            "train.schedule: a line over all of the text does not come down by a budget's end",
        ),
    ],
)
def test_a_combination_that_means_nothing_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [*WSD, "train.final_rate_share=0.1", "train.weight_decay=0.1", "train.betas=[0.9, 0.95]"],
        ["train.schedule=linear", "train.final_rate_share=0.5", "train.gradient_checkpointing=true"],
        ["train.optimizer=adafactor", "train.weight_decay=0.01", "train.betas=[0.9, 0.999]"],
    ],
)
def test_what_can_be_meant_loads_and_reaches_the_training(overrides: list[str]) -> None:
    recipe = load_recipe(RECIPE, overrides)
    assert not list(problems(recipe))
    assert Recipe.model_validate_json(json.dumps(recipe.resolved())) == recipe
    said = recipe.to_spec().train
    assert said.betas == recipe.train.betas
    assert (said.decay_share, said.final_rate_share) == (recipe.train.decay_share, recipe.train.final_rate_share)
    assert said.gradient_checkpointing is recipe.train.gradient_checkpointing


def test_keys_at_their_defaults_are_no_part_of_the_settings() -> None:
    """Runs are gone on with by this hash: it is the one that the recipe had before these keys were there."""
    plain = load_recipe(RECIPE)
    assert plain.settings_sha256 == "959ed4e2fda34b8f6579dc974837e930f80b72b1152f5295062391c01165c03c"
    defaults = [
        "train.final_rate_share=0.0", "train.weight_decay=0.0", "train.betas=[0.9, 0.999]",
        "train.gradient_checkpointing=false",
    ]  # fmt: skip
    assert load_recipe(RECIPE, defaults).settings_sha256 == plain.settings_sha256
    for used in ("train.weight_decay=0.1", "train.gradient_checkpointing=true", "train.betas=[0.9, 0.95]"):
        assert load_recipe(RECIPE, [used]).settings_sha256 != plain.settings_sha256


def test_layers_that_are_computed_again_are_predicted_as_a_forward_pass_more() -> None:
    spec, device = load_recipe(RECIPE).to_spec(), Device(name="a machine", is_gpu=False)
    plain, again = (
        {job.name: job.counts for job in jobs_of(each, device)}
        for each in (spec, replace(spec, train=replace(spec.train, gradient_checkpointing=True)))
    )
    differing = {name for name in plain if plain[name] != again[name]}
    assert differing == {name for name in plain if name.startswith("train.")}
    for name in differing:
        # a third more in the layers, nothing in the output layer
        assert 1.0 < again[name].flops / plain[name].flops < 4 / 3
        assert again[name].passes > plain[name].passes
        assert again[name].stored_bytes == plain[name].stored_bytes


def test_a_decay_that_leaves_nothing_stable_is_told_of() -> None:
    cautions = plan(load_recipe(RECIPE, [*WSD, "train.warmup_steps=0"]).to_spec()).cautions
    assert not any("decay_share" in said for said in cautions)
    cautions = plan(load_recipe(RECIPE, ["train.schedule=wsd", "train.decay_share=0.9"]).to_spec()).cautions
    (told,) = [said for said in cautions if "decay_share" in said]
    assert "leave none between" in told


LORA = 'train.lora={rank=8, alpha=16.0, target_modules="all-linear"}'


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("{rank=8, alpha=16.0}", "[train.lora] needs the key 'target_modules'"),
        ("{rank=0, alpha=16.0, target_modules='all-linear'}", "train.lora.rank: should be greater than or equal to 1"),
        ("{rank=8, alpha=0.0, target_modules='all-linear'}", "train.lora.alpha: should be greater than 0"),
        ("{rank=8, alpha=1.0, dropout=1.0, target_modules='all-linear'}", "train.lora.dropout: should be less than 1"),
        ("{rank=8, alpha=1.0, target_modules=[]}", "train.lora.target_modules"),
        ("{rank=8, alpha=1.0, target_modules='q_proj'}", "'all-linear'"),
        ("{rank=8, alpha=1.0, target_modules=['all-linear']}", '"all-linear" stands alone, without brackets'),
        (
            "{rank=8, alpha=1.0, target_modules=['q_proj', 'lm_head']}",
            "'lm_head' is an output layer or a table of inputs",
        ),
        ("{rank=8, alpha=1.0, target_modules=['model.embed_tokens']}", "would not see an adapter beside it"),
        ("{rank=8, alpha=1.0, target_modules=['q_proj', 'q_proj']}", "['q_proj', 'q_proj'] repeats a name"),
        ("{rank=8, alpha=1.0, targets=['q_proj']}", "unknown key 'targets' in [train.lora]; did you mean"),
    ],
)
def test_adapters_that_cannot_be_meant_are_refused(table: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, [f"train.lora={table}"])
    assert words in str(caught.value)


@pytest.mark.parametrize("target", ['"all-linear"', '["q_proj", "mlp.up_proj"]'])
def test_adapters_reach_the_training(target: str) -> None:
    recipe = load_recipe(RECIPE, [LORA, f"train.lora.target_modules={target}"])
    assert not list(problems(recipe))
    assert Recipe.model_validate_json(json.dumps(recipe.resolved())) == recipe
    lora = recipe.to_spec().train.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.dropout, lora.use_rslora) == (8, 16.0, 0.0, False)
    assert lora.target_modules == ("all-linear" if target == '"all-linear"' else ("q_proj", "mlp.up_proj"))
    assert recipe.settings_sha256 != load_recipe(RECIPE).settings_sha256


def test_a_training_by_adapters_is_predicted_as_one_without_gradients_of_weights() -> None:
    device = Device(name="a machine", is_gpu=False)
    plain, lora = (
        {job.name: job for job in jobs_of(load_recipe(RECIPE, changes).to_spec(), device)} for changes in ([], [LORA])
    )
    differing = {name for name in plain if plain[name] != lora[name]}
    assert differing == {name for name in plain if name.startswith("train.")}
    for name in differing:
        ours, theirs = lora[name].counts, plain[name].counts
        assert 2 / 3 < ours.flops / theirs.flops < 0.75
        assert ours.passes == theirs.passes
        assert ours.streamed_bytes < theirs.streamed_bytes
    assert (plain["train.sft.0.5"].method, lora["train.sft.0.5"].method) == ("sft", "sft+lora")
    assert lora["train.sft.0.5"].counts.stored_bytes < 0.5 * plain["train.sft.0.5"].counts.stored_bytes
    assert plain["train.sft.1.0"].disk_bytes < lora["train.sft.1.0"].disk_bytes
    (told,) = [each for each in remarks_on(load_recipe(RECIPE, [LORA]).to_spec()) if "LoRA" in each]
    assert "a guess" in told
    several = load_recipe(RECIPE, [LORA, 'train.lora.target_modules=["q_proj"]']).to_spec()
    named = {job.name: job for job in jobs_of(several, device)}
    assert named["train.sft.1.0"].counts.flops < lora["train.sft.1.0"].counts.flops
