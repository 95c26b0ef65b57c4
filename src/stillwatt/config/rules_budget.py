"""What budgets demand of the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Place, Problem
from stillwatt.errors import UsageError
from stillwatt.pipelines.spec import Limit, LimitKind, Method

if TYPE_CHECKING:
    from stillwatt.config.arms import ArmSettings
    from stillwatt.config.models import Recipe


def budgets(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about budgets."""
    yield from _of_the_run(recipe)
    for number, arm in enumerate(recipe.arms):
        text = arm.budget or recipe.budgets.each_arm
        place: Place = ("arms", number, "budget") if arm.budget else ("budgets", "each_arm")
        limit = _limit(recipe, text)
        if isinstance(limit, Problem):
            yield Problem(place=place, message=limit.message)
        elif limit is not None:
            yield from _of_an_arm(recipe, arm, limit, place)


def _of_the_run(recipe: Recipe) -> Iterator[Problem]:
    limit = _limit(recipe, recipe.budget)
    if isinstance(limit, Problem):
        yield limit
    elif (
        limit is not None
        and limit.kind is LimitKind.ENERGY
        and not recipe.meter.idle_baseline_s
        and recipe.meter.rest_after_s
    ):
        text = "idle_after_s without idle_baseline_s: what the idle machine will take of the budget is not known"
        yield Problem(place=("meter", "idle_after_s"), message=text)
    elif limit is not None and _is_below_a_step(recipe, limit):
        yield Problem(place=("budget",), message=_no_step(recipe, limit))


def _of_an_arm(recipe: Recipe, arm: ArmSettings, limit: Limit, place: Place) -> Iterator[Problem]:
    if len(recipe.train.checkpoints) > 1:
        text = (
            "shares of the text mean nothing where a budget ends an arm; with an arm's budget set "
            "train.checkpoints = [1.0]"
        )
        yield Problem(place=("train", "checkpoints"), message=text)
    if recipe.train.schedule != "constant":
        what = {"cosine": "a cosine over", "linear": "a line over", "wsd": "a decay at the end of"}
        text = (
            f"{what[recipe.train.schedule]} all of the text does not come down by a budget's end; take a constant "
            "schedule"
        )
        yield Problem(place=("train", "schedule"), message=text)
    shares = arm.method in (Method.KD, Method.SYNTHETIC_SFT) or arm.text == "teacher"
    if limit.kind is LimitKind.ENERGY and shares and recipe.budgets.teacher_share is None:
        text = f"arm {arm.name!r}: which share of the teacher's work is in its budget? set budgets.teacher_share"
        yield Problem(place=("budgets", "teacher_share"), message=text)
    if _is_below_a_step(recipe, limit):
        yield Problem(place=place, message=f"arm {arm.name!r}: {_no_step(recipe, limit)}")


def _step_tokens(recipe: Recipe) -> int:
    return recipe.train.batch_size * recipe.train.accumulation_steps * recipe.data.sequence_tokens


def _is_below_a_step(recipe: Recipe, limit: Limit) -> bool:
    return limit.kind is LimitKind.TOKENS and limit.amount < _step_tokens(recipe)


def _no_step(recipe: Recipe, limit: Limit) -> str:
    return f"one step takes {_step_tokens(recipe)} tokens, so a budget of {limit.said} holds none"


def _limit(recipe: Recipe, text: str | None) -> Limit | Problem | None:
    if text is None:
        return None
    try:
        return recipe.budgets.limit(text)
    except UsageError as err:
        return Problem(place=("budget",), message=str(err))
