"""What work loses to the sampling process, to a fraction of a per cent: short blocks with and without it, in turns.

Whole programs, started measured and bare, differ by several per cent for reasons of their own (where their memory lies,
what else the machine does meanwhile). Inside one program neither changes: the sampling process is stopped and let go on
every fraction of a second, and neighbouring blocks are compared.
"""

from __future__ import annotations

import math
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillwatt import Run


def sampler_pid(run: Run) -> int:
    """The number of the sampling process of a run that has begun."""
    sampling = run._sampler
    assert sampling is not None
    assert sampling.process is not None
    return sampling.process.pid


def paired_blocks(work: Callable[[float], int], sampler_pid: int, *, pairs: int, block_s: float) -> dict[str, float]:
    """Speed with the sampling process running over speed with it stopped.

    Args:
        work: does its work for so many seconds and says how many units of it were done.
        sampler_pid: the process to stop and let go on; it goes on at the end, whatever happens.
        pairs: how many pairs of blocks; which comes first is drawn by lot, so that no beat favours either.
        block_s: length of a block.

    Returns:
        The ratio of the geometric means with a 95 % interval (of the mean of the pairs' logarithms, by bootstrap).
    """
    lot, logs = random.Random(1), []
    try:
        for _ in range(pairs):
            speeds = {}
            for runs in lot.sample((True, False), 2):
                os.kill(sampler_pid, signal.SIGCONT if runs else signal.SIGSTOP)
                begun_s = time.perf_counter()
                done = work(block_s)
                speeds[runs] = done / (time.perf_counter() - begun_s)
            logs.append(math.log(speeds[True] / speeds[False]))
    finally:
        os.kill(sampler_pid, signal.SIGCONT)
    means = sorted(statistics.fmean(lot.choices(logs, k=pairs)) for _ in range(2_000))
    return {
        "pairs": pairs,
        "ratio": math.exp(statistics.fmean(logs)),
        "ratio_low": math.exp(means[49]),
        "ratio_high": math.exp(means[1949]),
        "ratio_median": math.exp(statistics.median(logs)),
    }
