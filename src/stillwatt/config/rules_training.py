"""What keys of `[train]` demand of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.config.training import TrainSettings


def training(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about how arms train."""
    train = recipe.train
    for key, text in (*_schedule(train), *_optimizer(train)):
        yield Problem(place=("train", key), message=text)


def _schedule(train: TrainSettings) -> Iterator[tuple[str, str]]:
    if train.schedule == "wsd" and train.decay_share is None:
        yield "decay_share", 'schedule = "wsd" needs decay_share: in how large a share of the steps does the rate fall?'
    if train.schedule != "wsd" and train.decay_share is not None:
        yield "decay_share", f'schedule = "{train.schedule}" takes no decay_share; only "wsd" does'
    if train.schedule == "constant" and train.final_rate_share:
        text = 'a constant rate comes down to nothing else; take "linear", "cosine" or "wsd", or leave it out'
        yield "final_rate_share", text


def _optimizer(train: TrainSettings) -> Iterator[tuple[str, str]]:
    if train.optimizer != "adamw" and train.betas != type(train).model_fields["betas"].default:
        yield "betas", f'optimizer = "{train.optimizer}" takes no betas; only "adamw" does'
