"""Several processes train one student: each takes some of a step's microbatches, and gradients are summed.

Under `torchrun` each rank holds the whole model; a step's divisor is that of the whole step, so the sum of all ranks'
gradients is the gradient one process would have, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Ranks"]

Part = TypeVar("Part")


class Ranks:
    """The processes of this launch; one where there is no launch."""

    def __init__(self) -> None:
        self._is_on = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if self._is_on else 0
        self.count = torch.distributed.get_world_size() if self._is_on else 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def share(self, parts: Sequence[Part]) -> list[Part]:
        """This process's part of a step's microbatches."""
        return list(parts[self.rank :: self.count])

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the gradients of all; a rank that had no microbatch adds nothing."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def agree(self, reason: str | None) -> str | None:
        """What the first rank says, on all: each would see another moment of the same budget."""
        if self.count == 1:
            return reason
        said: list[str | None] = [reason]
        torch.distributed.broadcast_object_list(said, src=0)
        return said[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()
