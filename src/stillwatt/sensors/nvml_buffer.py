"""The driver's buffer of one card's power readings, each given once, however often the wall clock is set.

The driver knows its readings by the wall clock, which somebody may set; everything else here goes by the monotonic one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from stillwatt.clock import Clock
from stillwatt.sensors import nvml_library
from stillwatt.sensors.runs import Buffered
from stillwatt.units import NS_PER_MS, NS_PER_S, NS_PER_US

_SET_NS = 5 * NS_PER_MS
"""The two clocks drift apart by less between two readings, unless one of them was set."""
_AHEAD_US = NS_PER_S // NS_PER_US
"""A reading from so far in the future was noted before the wall clock was set back."""


class _Distance(NamedTuple):
    """How far the wall clock is ahead of the monotonic one, and how long it took to look at both."""

    ahead_ns: int
    took_ns: int


class PowerBuffer:
    """What of the buffer has not been given yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest_us = 0
        self._distance = _Distance(0, 0)

    def begin(self, newest_us: int) -> None:
        """Give what is newer than this, from now on."""
        self._newest_us = newest_us
        self._distance = self._look()

    def read(self, nvml: Any, handle: Any) -> Buffered:
        """What is new, each at the time the driver gives it.

        Raises:
            pynvml.NVMLError: the call failed.
        """
        before, self._distance = self._distance, self._look()
        set_by_ns = self._distance.ahead_ns - before.ahead_ns
        if abs(set_by_ns) > _SET_NS + self._distance.took_ns + before.took_ns:
            # the driver works times out anew whenever it is asked: what was given already has moved with the clock
            self._newest_us += set_by_ns // NS_PER_US
        times_us, counts = nvml_library.power_samples(nvml, handle, self._newest_us)
        if times_us:
            latest_us = self._clock.utc_ns() // NS_PER_US + _AHEAD_US
            if times_us[-1] > latest_us:
                count = sum(t_us <= latest_us for t_us in times_us)
                times_us, counts = times_us[:count], counts[:count]
        if times_us:
            self._newest_us = times_us[-1]
        return Buffered(times_us, counts, self._distance.ahead_ns)

    def _look(self) -> _Distance:
        begun_ns = self._clock.monotonic_ns()
        wall_ns = self._clock.utc_ns()
        ended_ns = self._clock.monotonic_ns()
        return _Distance(wall_ns - (begun_ns + ended_ns) // 2, ended_ns - begun_ns)
