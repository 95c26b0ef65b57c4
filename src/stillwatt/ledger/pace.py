"""How often a session reads: at its period, or once a second while a long stage goes on as it has for long."""

from __future__ import annotations

from collections.abc import Callable

from stillwatt.clock import Clock
from stillwatt.units import NS_PER_S

SLOW_NS = NS_PER_S
"""Between two readings in a lull. A counter loses nothing by it between edges; power is a sample of what it was."""


class Pace:
    """Tells whether a lull is on: no stage began or ended for `slow_after_ns`, and reading may wait.

    Args:
        period_ns: Time between readings otherwise.
        slow_after_ns: How long after an edge a lull begins; None for never.
        emit: Writes an event of the sampling process's journal.
        clock: The clock.
    """

    def __init__(self, period_ns: int, slow_after_ns: int | None, emit: Callable[..., None], clock: Clock) -> None:
        self._period_ns, self._emit, self._clock = period_ns, emit, clock
        self._slow_after_ns = slow_after_ns if period_ns < SLOW_NS else None
        self._since_ns = clock.monotonic_ns()
        self.is_slow = False

    @property
    def may_slow(self) -> bool:
        """Whether there are lulls at all."""
        return self._slow_after_ns is not None

    def edge(self) -> None:
        """A stage begins or ends: a lull that is on is over."""
        self._since_ns = self._clock.monotonic_ns()
        if self.is_slow:
            self.is_slow = False
            self._emit("period_changed", period_ns=self._period_ns)

    def look(self) -> None:
        """Begin a lull if it is time for one."""
        if self._slow_after_ns is None or self.is_slow:
            return
        if self._clock.monotonic_ns() - self._since_ns >= self._slow_after_ns:
            self.is_slow = True
            self._emit("period_changed", period_ns=SLOW_NS)
