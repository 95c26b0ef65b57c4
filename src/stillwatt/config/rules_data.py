"""What the text of a recipe demands of its other keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.pipelines.spec_data import ASSISTANT

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe


def data(recipe: Recipe) -> Iterator[Problem]:
    """Keys of `[data]` that its source has no use for."""
    settings = recipe.data
    scheme = settings.source.partition(":")[0]
    if settings.predict == ASSISTANT and scheme not in ("path", "hf"):
        why = "says itself what is predicted of it" if scheme == "cache" else "holds nothing of an assistant's"
        text = (
            f'{settings.source} {why}; predict = "assistant" needs conversations, or prompts with completions, of '
            "path:FILE.jsonl or hf:ORG/NAME"
        )
        yield Problem(place=("data", "predict"), message=text)
    for key in ("config", "split", "revision"):
        if scheme != "hf" and getattr(settings, key) != type(settings).model_fields[key].default:
            yield Problem(place=("data", key), message=f"only a source hf:ORG/NAME has a {key}")
