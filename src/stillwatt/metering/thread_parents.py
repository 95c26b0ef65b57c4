"""In which stage the work of a thread lies that has none open itself; standard library only.

No thread knows who started it. What is known is which threads there were when a stage began, and which are workers of a
pool, whose work is always somebody else's. The stages that count are those of the thread that opened the run: among
threads beside each other no one is known to work for another.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Placed(Protocol):
    """What is asked of a stage."""

    @property
    def parent(self: _P) -> _P | None:
        """The stage that it lies in."""
        ...

    @property
    def thread(self) -> threading.Thread:
        """The thread that began it."""
        ...

    @property
    def threads_before(self) -> frozenset[threading.Thread]:
        """The threads that there were when it began."""
        ...


_P = TypeVar("_P", bound=Placed)


def parent_in(thread: threading.Thread, home: threading.Thread, stages: Iterable[_P]) -> _P | None:
    """The stage of `home` in which a thread works that has none open itself; None where nobody can tell.

    Of the stages that lie beside no other that `home` has open, it is the innermost in which the thread began; for a
    worker of a pool, which may be older than what it is given to do, the innermost.

    Args:
        thread: Who begins a stage.
        home: The thread that opened the run; it works in no stage of others.
        stages: All that are open.
    """
    if thread is home:
        return None
    lines = [list(_lineage(stage)) for stage in stages if stage.thread is home]
    trunk = [line for line in lines if all(line[0] in other or other[0] in line for other in lines)]
    is_lent = is_pool_worker(thread)
    begun_in = [line for line in trunk if is_lent or thread not in line[0].threads_before]
    return max(begun_in, key=len)[0] if begun_in else None


def is_pool_worker(thread: threading.Thread) -> bool:
    """Whether a thread is one of a `ThreadPoolExecutor`, or of a `multiprocessing.pool.ThreadPool`."""
    # where a later Python keeps its workers elsewhere, they are threads like others
    workers = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    return thread in workers or type(thread).__module__ == "multiprocessing.dummy"


def _lineage(stage: _P) -> Iterator[_P]:
    """A stage and all that it lies in, innermost first."""
    each: _P | None = stage
    while each is not None:
        yield each
        each = each.parent
