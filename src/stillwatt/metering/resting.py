"""Measure the idle machine: a stage in which the measured program waits. Standard library only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from stillwatt.metering.meter import Meter
from stillwatt.records.kinds import StageKind

IDLE_BEFORE, IDLE_AFTER = "idle_baseline", "idle_after"
"""What the stages before and after the work are called."""


def rest(meter: Meter, name: str, length_s: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for so long in a stage of kind `idle_baseline`; 0 s and less leave no stage.

    A length that is no number of seconds is warned of and measured as nothing: the measured program goes on.
    """
    if not isinstance(length_s, (int, float)) or not math.isfinite(length_s):
        meter.warn(f"idle for {length_s!r} s cannot be meant; the idle machine is not measured")
        return
    if length_s > 0:
        with meter.stage(name, kind=StageKind.IDLE_BASELINE):
            sleep(length_s)
