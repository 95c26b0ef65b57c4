"""What the text of a recipe demands of its other keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.pipelines.spec_data import ASSISTANT

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe


def whole_passes(recipe: Recipe) -> Iterator[Problem]:
    """A budget that is not a whole number of sequences a pass, with the nearest ones that are."""
    settings = recipe.data
    length, epochs = settings.sequence_tokens, settings.epochs
    count, rest = divmod(settings.train_tokens, length * epochs)
    if not rest and count:
        return
    least = max(count, 1)
    times = "" if epochs == 1 else f" times epochs = {epochs}"
    text = (
        f"{settings.train_tokens} is not a multiple of sequence_tokens = {length}{times}; the nearest are "
        f"{least * length * epochs} and {(least + 1) * length * epochs}"
    )
    places, rest = divmod(settings.train_tokens, length)
    if epochs > 1 and places and not rest:
        whole = [number for number in (*_below(epochs, places), *_above(epochs, places))]
        text += f"; or leave it and set epochs = {' or '.join(map(str, whole))}"
    yield Problem(place=("data", "train_tokens"), message=text)


def _below(epochs: int, places: int) -> Iterator[int]:
    """The next smaller number of passes that divides the sequences of a budget."""
    yield next(number for number in range(min(epochs, places), 0, -1) if places % number == 0)


def _above(epochs: int, places: int) -> Iterator[int]:
    """The next larger one, where there is one."""
    yield from islice((number for number in range(epochs, places + 1) if places % number == 0), 1)


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
