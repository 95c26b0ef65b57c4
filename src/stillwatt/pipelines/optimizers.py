"""The optimiser of a training, made as a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from stillwatt.errors import StillwattError
from stillwatt.pipelines.sharding import as_kept, gathered, is_spread
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
        return _Adafactor(groups, lr=train.learning_rate, weight_decay=0.0)
    raise StillwattError(f"train.optimizer {train.optimizer!r}; known: adamw, adafactor")


class _Adafactor(torch.optim.Adafactor):
    """torch's own, also where parameters are spread over ranks.

    It takes means over a whole matrix's rows and columns, which torch does not find in a share of one. Such a matrix is
    gathered for the time of its own step, one after another, and every rank does the same step on it: its state is a
    row and a column, which each rank may well have whole.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, of each parameter that has a gradient."""
        spread = [p for group in self.param_groups for p in group["params"] if is_spread(p)]
        if not spread:
            return super().step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert closure is None  # nobody here gives one
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_whole(group, parameter)
        return None

    def _step_whole(self, group: dict[str, Any], parameter: torch.nn.Parameter) -> None:
        assert parameter.grad is not None  # the caller has seen to it
        whole = torch.nn.Parameter(gathered(parameter.detach()).clone())
        whole.grad = gathered(parameter.grad)
        alone = torch.optim.Adafactor([{**group, "params": [whole]}])
        alone.state[whole] = {name: gathered(value) for name, value in self.state[parameter].items()}
        alone.step()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.state[parameter] = alone.state[whole]
        parameter.copy_(as_kept(whole.detach(), parameter))


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
