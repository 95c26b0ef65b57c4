"""Ties the clocks of several machines: all ranks meet and note the moment.

They meet in the store that torch.distributed keeps beside its collectives, and wait only so long: a barrier from which
a rank is missing, as where rank 0 alone has the callback, would hang the training or be taken for its next collective.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

from stillwatt.metering.measured import SupportsStages

_FIRST_WAIT_S = 60.0
"""Ranks come to the beginning of a training out of a collective; what each does before its hooks takes seconds."""
_NEXT_WAIT_S = 600.0
"""Ranks that have met once will come again; one may be writing the last checkpoint."""
_rounds: Counter[str] = Counter()
_has_met = _is_alone = False


def tie_clocks(run: SupportsStages | None, name: str, *, longest_wait_s: float | None = None) -> bool:
    """Meet all ranks of torch.distributed, then mark the moment; whether there was anybody to meet.

    Nobody is waited for where a launcher says that all ranks are on this machine, which has one clock, nor in a process
    that has waited in vain before. `torch.distributed` is looked for among what is already imported: a program that has
    not imported it has no process group.

    Raises:
        TimeoutError: some ranks did not come; says how many did, and what to do.
    """
    global _has_met, _is_alone
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized() or _is_alone:
        return False
    size = distributed.get_world_size()
    store = _store(distributed)
    if store is None or (size > 1 and os.environ.get("LOCAL_WORLD_SIZE") == str(size)):
        return False
    wait_s = longest_wait_s or (_NEXT_WAIT_S if _has_met else _FIRST_WAIT_S)
    _rounds[name] += 1
    place = f"stillwatt/{name}/{_rounds[name]}"
    if store.add(f"{place}/count", 1) == size:
        store.set(f"{place}/all", "1")
    try:
        store.wait([f"{place}/all"], timedelta(seconds=wait_s))
    except RuntimeError as err:
        _is_alone = True
        raise TimeoutError(
            f"not all of {size} ranks came to {name!r} in {wait_s:g} s, so the clocks of their machines are not tied "
            "together; give the callback to every rank, or say tie_clocks=False"
        ) from err
    _has_met = True
    if run is not None:
        run.mark(name)
    return True


def _store(distributed: Any) -> Any:
    """What the ranks share beside their collectives; None where their backend keeps none."""
    try:
        return distributed.group.WORLD.get_group_store()
    except (AttributeError, RuntimeError):
        return None
