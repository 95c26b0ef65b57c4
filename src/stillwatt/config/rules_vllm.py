"""What vLLM as the teacher's engine rules out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Place, Problem

if TYPE_CHECKING:
    from stillwatt.config.models import GenerateSettings, Recipe

_LEAST, _MOST = 0.01, 2.0
"""vLLM raises lower temperatures to the one, unasked, and refuses those above the other."""


def vllm(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about the engine, of text and of logits."""
    generate, logits = recipe.teacher_generate, recipe.teacher_logits
    if generate is not None and generate.engine == "vllm":
        yield from _text(recipe, generate)
    if logits is not None and logits.engine == "vllm" and logits.temperature is not None:
        yield from _logits(recipe, logits.temperature)


def _text(recipe: Recipe, generate: GenerateSettings) -> Iterator[Problem]:
    if recipe.teacher_endpoint is not None:
        text = "the teacher is an endpoint, whose server runs it; remove engine"
        yield Problem(place=("teacher_generate", "engine"), message=text)
    if generate.temperature and not _LEAST <= generate.temperature <= _MOST:
        text = f"vLLM draws at {_LEAST:g} to {_MOST:g}; 0 takes the most probable token"
        yield Problem(place=("teacher_generate", "temperature"), message=text)
    for key in ("min_mean_logprob", "max_mean_logprob"):
        if getattr(generate, key) is not None:
            text = "vLLM is not asked how probable its tokens were; remove the bound, or the engine"
            yield Problem(place=("teacher_generate", key), message=text)


def _logits(recipe: Recipe, temperature: float) -> Iterator[Problem]:
    """It tells the most probable tokens of each position, at temperature 1, each sequence as one text."""
    elsewhere = "or leave teacher_logits.engine out"
    if temperature != 1.0:
        place: Place = ("teacher_logits", "temperature")
        text = (
            f"vLLM tells probabilities at temperature 1, and those of the most probable tokens alone cannot be brought "
            f"to {temperature:g}; set 1.0 here and in the arms that read the cache, {elsewhere}"
        )
        yield Problem(place=place, message=text)
    coding = recipe.logit_cache
    if coding is not None and coding.scheme in ("head_draws", "rs_kd"):
        text = (
            f"scheme {coding.scheme} draws from the whole distribution, and vLLM tells the most probable tokens alone; "
            f"take topk or topp, {elsewhere}"
        )
        yield Problem(place=("logit_cache", "scheme"), message=text)
    if recipe.data.packing == "documents":
        text = (
            f'vLLM reads a sequence as one text and keeps no documents apart; set data.packing = "stream", {elsewhere}'
        )
        yield Problem(place=("teacher_logits", "engine"), message=text)
