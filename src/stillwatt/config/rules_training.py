"""What keys of `[train]` demand of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.pipelines.spec_lora import ALL_LINEAR

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.config.training import LoraSettings, TrainSettings

_TABLES = frozenset({"lm_head", "embed_out", "embed_tokens", "embed_in", "wte", "wpe", "word_embeddings"})
"""What families of transformers call their output layers and the tables of their inputs."""


def training(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about how arms train."""
    train = recipe.train
    for key, text in (*_schedule(train), *_optimizer(train)):
        yield Problem(place=("train", key), message=text)
    if train.lora is not None:
        for text in _targets(train.lora):
            yield Problem(place=("train", "lora", "target_modules"), message=text)


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


def _targets(lora: LoraSettings) -> Iterator[str]:
    """What of the names can be seen to be wrong without the model; the rest is seen before anything is trained."""
    if isinstance(lora.target_modules, str):
        return
    for name in lora.target_modules:
        if name == ALL_LINEAR:
            yield f'"{ALL_LINEAR}" stands alone, without brackets: target_modules = "{ALL_LINEAR}"'
        elif name.rpartition(".")[2] in _TABLES:
            yield (
                f"{name!r} is an output layer or a table of inputs: the losses take the output layer's own matrix, "
                "which may be that table too, and would not see an adapter beside it; leave it out"
            )
    if len(set(lora.target_modules)) < len(lora.target_modules):
        yield f"{list(lora.target_modules)} repeats a name"
