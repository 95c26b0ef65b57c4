"""What a logit cache that is there already rules out, and what one that is to be written needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.pipelines.spec import CACHE_SCHEME

if TYPE_CHECKING:
    from stillwatt.config.caches import LogitsSettings
    from stillwatt.config.models import Recipe

_NEEDED = ("top_k", "temperature", "batch_size")
_WRITING = {
    "top_k": "what it keeps is in it",
    "temperature": "it says its own, which the arms that read it must have",
    "batch_size": "the teacher is not asked",
    "engine": "the teacher is not asked",
}


def given_cache(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about where the cache, or the text of one, comes from."""
    yield from _text(recipe)
    logits = recipe.teacher_logits
    if logits is None:
        return
    yield from _given(recipe, logits) if logits.is_given else _written(logits)


def _written(logits: LogitsSettings) -> Iterator[Problem]:
    for key in _NEEDED:
        if getattr(logits, key) is None:
            text = f'the teacher writes this cache, which needs {key}; set it, or source = "path:DIR"'
            yield Problem(place=("teacher_logits", key), message=text)


def _given(recipe: Recipe, logits: LogitsSettings) -> Iterator[Problem]:
    there = f"the cache at {logits.source} is there already"
    for key, why in _WRITING.items():
        # an engine is never unset, so only one that is not the default was meant
        if getattr(logits, key) != type(logits).model_fields[key].default:
            yield Problem(place=("teacher_logits", key), message=f"{there}, and {why}; remove {key}, or source")
    if recipe.logit_cache is not None:
        text = f"{there}, and coded; remove this table, or teacher_logits.source"
        yield Problem(place=("logit_cache",), message=text)


def _text(recipe: Recipe) -> Iterator[Problem]:
    if recipe.data.source.startswith(CACHE_SCHEME) and recipe.data.packing == "documents":
        text = (
            "a cache's sequences are taken as they are, each as one text, and where documents begin in them is not "
            'known; set packing = "stream"'
        )
        yield Problem(place=("data", "packing"), message=text)
