"""Several processes train one student, or read with one teacher: each takes some of a step's microbatches or batches.

Under `torchrun` each rank holds the whole model; a step's divisor is that of the whole step, so the sum of all ranks'
gradients is the gradient one process would have, up to the order of additions. What is read goes to the first rank.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from stillwatt.errors import ArtifactError, LaunchError, LostTouchError

__all__ = ["Ranks", "join_launch"]

_PATIENCE = timedelta(days=30)
"""A rank may wait for as long as another works alone; one that dies takes the others along through its launcher."""
_TO_MEET = timedelta(minutes=30)
"""For all ranks to come: machines may begin long after each other, and one that never does is found by nobody else."""

Part = TypeVar("Part")
Found = TypeVar("Found")


class Ranks:
    """The processes of this launch; one where there is no launch.

    Args:
        is_alone: This process by itself, whatever launch it is in: for work that the first rank does alone.
    """

    def __init__(self, *, is_alone: bool = False) -> None:
        is_launch = torch.distributed.is_available() and torch.distributed.is_initialized() and not is_alone
        self.rank = torch.distributed.get_rank() if is_launch else 0
        self.count = torch.distributed.get_world_size() if is_launch else 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def of_first(self, find: Callable[[], Found]) -> Found:
        """What the first rank finds, on all; the others do not look."""
        if self.count == 1:
            return find()
        said: list[Any] = [find() if self.is_first else None]
        with self._in_touch():
            torch.distributed.broadcast_object_list(said, src=0)
        found: Found = said[0]
        return found

    def of_first_or_damage(self, find: Callable[[], Found]) -> Found | None:
        """What the first rank finds, and None on the others; an artefact that it finds damaged is so for all.

        Raises:
            ArtifactError: On every rank, where it was raised on the first.
        """
        found, wrong = None, None
        if self.is_first:
            try:
                found = find()
            except ArtifactError as err:
                if self.count == 1:
                    raise
                wrong = (err.path, err.detail)
        wrong = self.agree(wrong)
        if wrong is not None:
            raise ArtifactError(*wrong)
        return found

    def share(self, parts: Sequence[Part]) -> list[Part]:
        """This process's part of a step's microbatches."""
        return list(parts[self.rank :: self.count])

    def turns(self, parts: int) -> tuple[int, int]:
        """As many turns as so many parts take all ranks together, and in how many of them a rank has no part.

        >>> Ranks().turns(3)
        (3, 0)
        """
        turns = -(-parts // self.count) * self.count
        return turns, turns - parts

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.count > 1:
            with self._in_touch():
                torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the gradients of all; a rank that had no microbatch adds nothing."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.sum(parameter.grad)

    def agree(self, value: Part) -> Part:
        """What the first rank says, on all: each would see another moment of the same budget, or of a file."""
        return self.of_first(lambda: value)

    def spread(self, parts: Sequence[Part], work: Callable[[Part], Found]) -> Iterator[tuple[Part, Found]]:
        """Work on parts, one on each rank at a time; the first rank gets what all found, in order, the others nothing.

        >>> list(Ranks().spread([2, 3], lambda part: part * part))
        [(2, 4), (3, 9)]
        """
        for start in range(0, len(parts), self.count):
            turn = parts[start : start + self.count]
            found = work(turn[self.rank]) if self.rank < len(turn) else None
            # the last turn may be short of parts: what idle ranks hand in is left out
            yield from zip(turn, self._gather(found), strict=False)

    def divide(self, parts: Sequence[Part], work: Callable[[Sequence[Part]], Sequence[Found]]) -> list[Found]:
        """Each rank works on a run of neighbours; all get what all found, in the order of the parts.

        Args:
            parts: The same on all ranks.
            work: Gives one finding for each of the parts it is handed; not called where a rank has none.

        >>> Ranks().divide([2, 3], lambda own: [part * part for part in own])
        [4, 9]
        """
        edges = [len(parts) * rank // self.count for rank in range(self.count + 1)]
        own = parts[edges[self.rank] : edges[self.rank + 1]]
        found = list(work(own)) if own else []
        if self.count == 1:
            return found
        all_found: list[list[Found]] = [[] for _ in range(self.count)]
        with self._in_touch():
            torch.distributed.all_gather_object(all_found, found)
        return [one for of_rank in all_found for one in of_rank]

    def _gather(self, found: Any) -> list[Any]:
        if self.count == 1:
            return [found]
        all_found: list[Any] | None = [None] * self.count if self.is_first else None
        with self._in_touch():
            torch.distributed.gather_object(found, all_found)
        return all_found or []

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            with self._in_touch():
                torch.distributed.barrier()

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        """Tell in a sentence that another rank is gone; who it was, its launcher knows."""
        try:
            yield
        except RuntimeError as err:
            raise LostTouchError(self.rank, str(err).partition(". ")[0]) from err


def join_launch() -> Ranks:
    """Bring the processes of this launch together, where `torchrun` or another launcher started several.

    No GPU is touched: what is agreed on goes over gloo, and a CUDA context would raise the idle power that is yet to
    be measured.

    Raises:
        LaunchError: The others do not come.
    """
    is_launch = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if is_launch and torch.distributed.is_available() and not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        torch.distributed.init_process_group(
            backend, store=_meet(rank, count), rank=rank, world_size=count, timeout=_PATIENCE
        )
        atexit.register(torch.distributed.destroy_process_group)
    return Ranks()


def _meet(rank: int, count: int) -> Any:
    """The launch's store, once every rank has come to it.

    Raises:
        LaunchError: One has not, the first one's port is taken, or nobody says where to meet.
    """
    distributed: Any = torch.distributed  # public, though its stubs do not export all of it
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=_TO_MEET))
        store.set(f"here.{rank}", b"")
        store.wait([f"here.{each}" for each in range(count)], _TO_MEET)
    except (RuntimeError, ValueError) as err:  # the latter where the launcher has not said where to meet
        where = [os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")]
        place = f" at {':'.join(where)}" if all(where) else ""
        cause = str(err).strip().splitlines()[0].rstrip(".")
        detail = f"has not met the other {count - 1} of its launch{place} ({cause})"
        cure = "a launcher such as `torchrun` starts all ranks and ends them together; nothing was spent"
        raise LaunchError(f"rank {rank}", detail, cure) from err
    store.set_timeout(_PATIENCE)
    return distributed.PrefixStore("default_pg", store)
