"""Deadlines on a fixed grid: what is read how often, and what of it is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stillwatt.sensors.sampler import missed_ticks


@dataclass(slots=True)
class Beat:
    """Something that is read at a fixed pace."""

    period_ns: int
    read: Callable[[int], None]
    """Takes the number of deadlines that passed without a reading."""
    is_on: Callable[[], bool] | None = None
    """Whether it beats now; None for always."""
    deadline_ns: int = 0
    early_ns: int = 0
    """How much before its deadline it may be read, when the loop is awake anyway: each waking costs processor time."""

    def due_ns(self, now_ns: int) -> int | None:
        """The next deadline; None while it is off."""
        if self.is_on is not None and not self.is_on():
            self.deadline_ns = 0
            return None
        if not self.deadline_ns:
            self.deadline_ns = now_ns + self.period_ns
        return self.deadline_ns

    def keep(self, now_ns: int) -> int | None:
        """Read if the deadline has come, and give the next one (None while off).

        Deadlines that passed are counted and never made up.
        """
        due_ns = self.due_ns(now_ns)
        if due_ns is None or now_ns < due_ns - self.early_ns:
            return due_ns
        missed = missed_ticks(due_ns, now_ns, self.period_ns)
        self.read(missed)
        # one that came early is followed a period later, not on the grid: two must not lie further apart than that
        self.deadline_ns = min(now_ns, due_ns + missed * self.period_ns) + self.period_ns
        return self.deadline_ns if self.is_on is None or self.is_on() else None
