"""Budgets as they are written, what they come to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import load_recipe
from stillwatt.errors import ConfigError
from stillwatt.pipelines.spec import LimitKind

RECIPE = Path(find_recipe("smoke_cpu"))
ONE = "train.checkpoints=[1.0]"
SHARE = "budgets.teacher_share=one-off"


@pytest.mark.parametrize(
    ("changes", "kind", "amount"),
    [
        (['budget="0.2 kWh"'], LimitKind.ENERGY, 720_000.0),
        (['budget="1.5MJ"'], LimitKind.ENERGY, 1_500_000.0),
        (['budget="30 min"'], LimitKind.TIME, 1800.0),
        (['budget="3 hours"'], LimitKind.TIME, 10_800.0),
        (['budget="2 minutes"'], LimitKind.TIME, 120.0),
        (['budget="90 seconds"'], LimitKind.TIME, 90.0),
        (['budget="1 day"'], LimitKind.TIME, 86_400.0),
        (['budget="0.2 KWH"'], LimitKind.ENERGY, 720_000.0),
        (['budget="0.2 kwh"'], LimitKind.ENERGY, 720_000.0),
        (['budget="64 tokens"'], LimitKind.TOKENS, 64.0),
        (['budget="2 ktokens"'], LimitKind.TOKENS, 2_000.0),
        (['budget="100_000 tokens"'], LimitKind.TOKENS, 100_000.0),
        (['budget="0.1 kgCO2e"', "budgets.kgco2e_per_kwh=0.5"], LimitKind.ENERGY, 720_000.0),
        (['budget="100 gCO2e"', "budgets.kgco2e_per_kwh=0.5", "budgets.pue=2.0"], LimitKind.ENERGY, 360_000.0),
        (['budget="3 EUR"', "budgets.price_per_kwh=0.3", "budgets.currency=EUR"], LimitKind.ENERGY, 36_000_000.0),
    ],
)
def test_a_budget_is_held_in_joules_seconds_or_tokens(changes: list[str], kind: LimitKind, amount: float) -> None:
    limit = load_recipe(RECIPE, changes).to_spec().budget
    assert limit is not None
    assert limit.kind is kind
    assert limit.amount == pytest.approx(amount)


def test_a_region_stands_for_its_carbon() -> None:
    limit = load_recipe(RECIPE, ['budget="1 kgCO2e"', "budgets.region=FRA"]).to_spec().budget
    dirty = load_recipe(RECIPE, ['budget="1 kgCO2e"', "budgets.region=POL"]).to_spec().budget
    assert limit is not None
    assert dirty is not None
    assert limit.amount > 3 * dirty.amount
    assert "kgCO2e/kWh of FRA" in limit.said


def test_each_arm_has_the_same_budget_unless_it_has_its_own() -> None:
    spec = load_recipe(RECIPE, [ONE, SHARE, 'budgets.each_arm="2 kJ"', 'arms.gkd.budget="3 kJ"']).to_spec()
    assert [arm.budget.amount for arm in spec.arms if arm.budget is not None] == [2000.0, 2000.0, 2000.0, 3000.0]
    assert spec.teacher_factor == 1.0
    assert load_recipe(RECIPE, ["budgets.teacher_share=reuse:4"]).to_spec().teacher_factor == 0.25
    assert load_recipe(RECIPE, ["budgets.teacher_share=marginal"]).to_spec().teacher_factor == 0.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["budget=much"], "must be an amount with its unit"),
        (['budget="0.2 kwhs"'], "unknown unit 'kwhs'; did you mean 'kWh'?"),
        (['budget="2 MWH"'], "unknown unit 'MWH'; did you mean 'MWh'?"),
        (['budget="2 mwh"'], "unknown unit 'mwh'; did you mean 'MWh'?"),
        (['budget="1__0 J"'], "must be an amount with its unit"),
        (['budget="10_ J"'], "must be an amount with its unit"),
        (['budget="63 tokens"'], "budget: one step takes 64 tokens, so a budget of 63 tokens holds none"),
        (['budget="0 kWh"'], "must be more than nothing"),
        (['budget="-1 kWh"'], "must be an amount with its unit"),
        (['budget="1 kgCO2e"'], "budget: a budget of CO2e needs budgets.kgco2e_per_kwh or budgets.region"),
        (['budget="1 kgCO2e"', "budgets.region=Frnace"], "did you mean 'France'?"),
        (['budget="1 EUR"'], "a budget in EUR needs budgets.price_per_kwh and budgets.currency"),
        (['budget="1 EUR"', "budgets.price_per_kwh=0.3", "budgets.currency=USD"], "the price of a kWh in USD"),
        (["budgets.teacher_share=half"], "must be 'one-off', 'marginal' or 'reuse:N'"),
        (['budgets.each_arm="2 kJ"', SHARE], "train.checkpoints: shares of the text mean nothing"),
        (['budgets.each_arm="2 kJ"', SHARE, ONE, "train.schedule=cosine"], "train.schedule: a cosine"),
        (['budgets.each_arm="2 kJ"', ONE], "budgets.teacher_share: arm 'kd': which share of the teacher's work"),
        (['arms.sft.budget="32 tokens"', ONE], "arms.0.budget: arm 'sft': one step takes 64 tokens"),
        (['arms.sft.budget="1 EUR"', ONE], "arms.0.budget: a budget in EUR needs"),
        (['budget="1 kJ"', "meter.idle_baseline_s=0.0", "meter.idle_after_s=1.0"], "meter.idle_after_s"),
        (["budgets.eachh_arm=1"], "did you mean 'each_arm'?"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(changes: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, changes)
    assert words in str(caught.value)
