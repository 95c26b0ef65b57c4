"""What the keys `lm_eval_*` of `[evaluate]` demand of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem

if TYPE_CHECKING:
    from stillwatt.config.evaluate import EvaluateSettings
    from stillwatt.config.models import Recipe

_PREFIX = "lm_eval_"


def harness(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about lm-evaluation-harness."""
    evaluate = recipe.evaluate
    if not evaluate.lm_eval_tasks:
        for key, field in type(evaluate).model_fields.items():
            if key.startswith(_PREFIX) and getattr(evaluate, key) != field.get_default(call_default_factory=True):
                yield _problem(key, f"{key} without lm_eval_tasks has no effect")
        return
    if not evaluate.lm_eval_chat_template:
        for key, is_set in (
            ("lm_eval_system", evaluate.lm_eval_system is not None),
            ("lm_eval_few_shot_as_turns", not evaluate.lm_eval_few_shot_as_turns),
        ):
            if is_set:
                yield _problem(key, f"{key} is about conversations; set lm_eval_chat_template = true, or leave it out")
    yield from _writing(evaluate)


def _writing(evaluate: EvaluateSettings) -> Iterator[Problem]:
    writing = evaluate.lm_eval_generation
    if writing is None:
        return
    if writing.top_p is not None and not writing.temperature:
        text = "top_p says which tokens are drawn from, and nothing is drawn without a temperature above 0"
        yield _problem("lm_eval_generation.top_p", text)
    if not any(value is not None for value in writing.model_dump().values()):
        yield _problem("lm_eval_generation", "the table is empty; say what is to be otherwise, or leave it out")


def _problem(key: str, message: str) -> Problem:
    return Problem(place=("evaluate", *key.split(".")), message=message)
