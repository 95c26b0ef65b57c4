"""Seconds of the processor and of the wall, for programs that time two things in turns."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

NS_PER_S = 1_000_000_000
Times = npt.NDArray[np.float64]


class Stopwatch:
    """Seconds of the processor, and of the wall."""

    def __enter__(self) -> Stopwatch:
        self.times: Times = np.array([-time.process_time_ns(), -time.perf_counter_ns()]) / NS_PER_S
        return self

    def __exit__(self, *_: object) -> None:
        self.times = self.times + np.array([time.process_time_ns(), time.perf_counter_ns()]) / NS_PER_S


def cpu_s() -> float:
    return time.process_time_ns() / NS_PER_S
