"""Close looks at stage edges: when to read fast, which streams for, and when enough was seen or spent.

A counter that steps every 100 ms hides where in its step a stage began. Reading it every few milliseconds from the
edge until it steps tells when the step was, to those milliseconds (method.md, eq. 3). That costs a dozen readings,
which a budget bounds: what stages cannot all get, because they are shorter than the budget allows, is a wider interval.
"""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.records import Channel, Quantity
from stillwatt.units import NS_PER_MS, NS_PER_S

_SLOWEST_NS = 250 * NS_PER_MS
_FASTEST_NS = 5 * NS_PER_MS
"""Counters with an update period between these are looked at; faster ones need just the reading at the edge."""
_READINGS_AN_UPDATE = 25
_LEAST_PERIOD_NS = NS_PER_MS
_PATIENCE_UPDATES = 1.25
_FIRST_UPDATES = 5
"""A session begins with a look at this many updates, from which their rhythm is known."""
_BUDGET_NS = NS_PER_S
_REFILL = 0.005
"""Share of the session's time that close looks may take in the long run; `_BUDGET_NS` is there at once."""


class CloseUp:
    """Decides about fast readings of the counters that need them.

    Attributes:
        period_ns: time between fast readings; 0 where no stream needs any.
    """

    def __init__(self, channels: Sequence[Channel], now_ns: int) -> None:
        updates_ns = {
            channel.stream: channel.update_period_ns
            for channel in channels
            if channel.quantity is Quantity.ENERGY_COUNTER
            and _FASTEST_NS <= channel.update_period_ns <= _SLOWEST_NS
            and (channel.sampling_period_ns or 0) <= channel.update_period_ns  # else it costs too much
        }
        self.streams = frozenset(updates_ns)
        self.period_ns = max(min(updates_ns.values()) // _READINGS_AN_UPDATE, _LEAST_PERIOD_NS) if updates_ns else 0
        self._longest_ns = max(updates_ns.values(), default=0)
        self._until_ns = 0
        self._waiting: dict[str, float | None] = {}
        self._is_first = False
        self._left_ns = float(_BUDGET_NS)
        self._counted_ns = now_ns
        self._begun_ns = now_ns - _LEAST_PERIOD_NS

    @property
    def most_readings(self) -> int:
        """More fast readings than any look takes."""
        return _FIRST_UPDATES * self._longest_ns // self.period_ns + 1 if self.period_ns else 0

    @property
    def is_on(self) -> bool:
        """Whether a close look is going on."""
        return self._until_ns > 0

    def begin(self, now_ns: int, *, is_first: bool = False) -> bool:
        """Look closely from now on; a look that is going on starts again. False where the budget allows no reading."""
        self._refill(now_ns)
        if self._left_ns <= 0 or now_ns - self._begun_ns < _LEAST_PERIOD_NS:
            return False
        self._begun_ns = now_ns
        if self.streams:
            updates = _FIRST_UPDATES if is_first else _PATIENCE_UPDATES
            self._is_first = is_first or (self._is_first and self.is_on)
            self._until_ns = max(self._until_ns, now_ns + round(self._longest_ns * updates))
            self._waiting = dict.fromkeys(self.streams)
        return True

    def saw(self, stream: str, count: float) -> None:
        """Note a reading: a stream whose count changed since the look began has shown its step."""
        if stream in self._waiting:
            before = self._waiting[stream]
            if before is None:
                self._waiting[stream] = count
            elif count != before:
                del self._waiting[stream]

    def spent(self, begun_ns: int, now_ns: int) -> None:
        """Book what a fast reading took; ends the look when all was seen, time is up or the budget is gone."""
        self._left_ns -= now_ns - begun_ns
        is_done = not self._waiting and not self._is_first
        if is_done or now_ns >= self._until_ns or self._left_ns <= 0:
            self._until_ns, self._waiting, self._is_first = 0, {}, False

    def _refill(self, now_ns: int) -> None:
        self._left_ns = min(self._left_ns + _REFILL * (now_ns - self._counted_ns), float(_BUDGET_NS))
        self._counted_ns = now_ns
