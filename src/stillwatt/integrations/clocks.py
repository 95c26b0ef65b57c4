"""Ties the clocks of several machines: all ranks pass a barrier together and note the moment."""

from __future__ import annotations

import sys

from stillwatt.metering.measured import SupportsStages


def tie_clocks(run: SupportsStages | None, name: str) -> bool:
    """Wait for all ranks of torch.distributed, then mark the moment; whether there was a process group to wait in.

    Every rank of the group must call it equally often, or the ranks wait for one another for ever. `torch.distributed`
    is looked for among what is already imported: a program that has not imported it has no process group.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    distributed.barrier()
    if run is not None:
        run.mark(name)
    return True
