"""The optimiser of a training, made as a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from stillwatt.errors import StillwattError
from stillwatt.pipelines.spec import TrainSpec

__all__ = ["make_optimizer", "parameters_of"]


def make_optimizer(train: TrainSpec, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser over those parameters; what the recipe does not say is as in torch.

    Weight decay is apart from the gradient: a step takes `learning rate * weight_decay` of a weight away. Parameters
    of one dimension are left alone: biases, and scales of norms, which have no reason to be small.

    Raises:
        StillwattError: There is no optimiser of that name.
    """
    groups = _groups(parameters, train.weight_decay)
    if train.optimizer == "adamw":
        first, second = train.betas
        # one pass over the weights instead of several: on a CPU a step costs a fifth of the plain one
        return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(first, second), weight_decay=0.0, fused=True)
    if train.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=train.learning_rate, weight_decay=0.0)
    raise StillwattError(f"train.optimizer {train.optimizer!r}; known: adamw, adafactor")


def parameters_of(optimizer: Any) -> list[torch.nn.Parameter]:
    """An optimiser's parameters in its own order, by which it numbers its state."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _groups(parameters: Sequence[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Those that decay and those that do not; all in one group, and so in their own order, where nothing does."""
    if not weight_decay:
        return [{"params": list(parameters)}]
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    found = ((matrices, weight_decay), (others, 0.0))
    return [{"params": own, "weight_decay": decay} for own, decay in found if own]
