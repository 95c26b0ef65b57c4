"""A student whose weights, gradients and optimiser state are spread over the ranks of a launch (FSDP).

Each rank holds a share of every tensor and gathers a layer only while it runs. All that needs weights outside a
layer's own forward (the fused loss with the output matrix, the student's own writing) therefore runs inside one forward
of the whole, in which embedding and output matrix are gathered too. Checkpoints are whole and the same as one process
writes, so that a training may go on with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.ranks import Ranks

__all__ = ["SHARDINGS", "Whole", "as_kept", "gathered", "is_spread", "spread_over"]

SHARDINGS = ("none", "fsdp")
Found = TypeVar("Found")


class Whole(torch.nn.Module):
    """A model and whatever is to be done with its weights at hand, as one forward."""

    def __init__(self, model: CausalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[CausalModel], Found]) -> Found:
        """Do something with the model; where a loss is to be differentiated, it is what `work` returns."""
        return work(self.model)


def spread_over(model: CausalModel, ranks: Ranks, sharding: str) -> Whole:
    """The model, spread over the ranks where that is asked for and there are several.

    Raises:
        StillwattError: No such way of spreading, or a model whose layers cannot be found.
    """
    if sharding not in SHARDINGS:
        raise StillwattError(f"run.sharding {sharding!r}; known: {', '.join(SHARDINGS)}")
    whole = Whole(model)
    if sharding == "none" or ranks.count == 1:
        return whole
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None:
        raise StillwattError(f'{type(model).__name__}: its layers cannot be found; take run.sharding = "none"')
    mesh = init_device_mesh(model.device.type, (ranks.count,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(whole, mesh=mesh)
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            # a step's divisor is that of all ranks already; gloo sums and does not scale
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return whole


def is_spread(tensor: Tensor) -> bool:
    """Whether each rank holds a share of it."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor that is spread over ranks, which all must ask for it; any other as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def as_kept(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor spread as another one is; 0-dimensional ones, such as a count of steps, stay whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.dim() == 0:
        return tensor
    spread: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return spread
