"""What happens to the machine's clocks while it is measured: sleep, and a wall clock that somebody sets.

Lengths are taken on CLOCK_MONOTONIC, which stands while the machine sleeps and which nobody can set, so neither event
makes a stage longer or shorter. Both are told all the same: what the machine drew in its sleep is in no stage, and
times of day after the event are read off the session's first anchor (docs/method.md, section 1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillwatt.clock import Clock
from stillwatt.units import NS_PER_MS, NS_PER_S, seconds

_LEAST_STEP_NS = NS_PER_S // 2
"""Below this a step is what time servers do all day."""
_STEADY_NS = 20 * NS_PER_MS
"""Clocks read further apart than this say nothing of one another."""


def awake_and_asleep_ns() -> int:
    """Nanoseconds since the machine started, its sleep included; those of CLOCK_MONOTONIC where no clock tells."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


@dataclass(frozen=True, slots=True)
class _Offsets:
    """How far the other clocks are ahead of the monotonic one."""

    boot_ns: int
    utc_ns: int
    t_ns: int


class ClockWatch:
    """Compares three clocks whenever it is asked, and says what has stepped since.

    Args:
        clock: The monotonic and the wall clock.
        boot_ns: The clock that goes on while the machine sleeps.
    """

    def __init__(self, clock: Clock, boot_ns: Callable[[], int] = awake_and_asleep_ns) -> None:
        self._clock = clock
        self._boot_ns = boot_ns
        self._before = self._read()

    def look(self) -> list[dict[str, Any]]:
        """Events `clock_step`, in the form of the sampling process's journal; usually none.

        Each has `kind` (`asleep` or `wall_clock_set`), `start_ns` and `t_ns` (it happened between them) and `step_s`
        (seconds slept; seconds by which the wall clock was put forward, negative for back).
        """
        now = self._read()
        before = self._before
        if now is None:
            return []
        if before is None:
            self._before = now
            return []
        asleep_ns = now.boot_ns - before.boot_ns
        set_ns = now.utc_ns - before.utc_ns - asleep_ns
        steps = [("asleep", asleep_ns), ("wall_clock_set", set_ns)]
        found = [(kind, step_ns) for kind, step_ns in steps if abs(step_ns) >= _LEAST_STEP_NS]
        self._before = now
        return [
            {
                "event": "clock_step",
                "kind": kind,
                "start_ns": before.t_ns,
                "t_ns": now.t_ns,
                "step_s": round(seconds(step_ns), 3),
            }
            for kind, step_ns in found
        ]

    def _read(self) -> _Offsets | None:
        """The three clocks against each other; None where this process was held up while it read them."""
        begun_ns = self._clock.monotonic_ns()
        boot_ns, utc_ns = self._boot_ns(), self._clock.utc_ns()
        ended_ns = self._clock.monotonic_ns()
        if ended_ns - begun_ns > _STEADY_NS:
            return None
        return _Offsets(boot_ns=boot_ns - ended_ns, utc_ns=utc_ns - ended_ns, t_ns=ended_ns)
