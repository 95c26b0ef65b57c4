"""How long a training waits for its data, by the clock: two looks at it for each microbatch, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from stillwatt.clock import Clock, SystemClock
from stillwatt.units import seconds

__all__ = ["Waiting"]


@dataclass(slots=True)
class Waiting:
    """Adds up the time spent inside `with`.

    >>> waiting = Waiting()
    >>> waiting.share() is None
    True
    """

    clock: Clock = field(default_factory=SystemClock)
    _waited_ns: int = 0
    _taken_ns: int = 0
    _entered_ns: int = 0
    _begun_ns: int | None = None

    def begin(self) -> None:
        """What is waited from now on is a share of the time from now on."""
        self._begun_ns, self._waited_ns, self._taken_ns = self.clock.monotonic_ns(), 0, 0

    def __enter__(self) -> None:
        self._entered_ns = self.clock.monotonic_ns()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._waited_ns += self.clock.monotonic_ns() - self._entered_ns

    def share(self) -> float | None:
        """Of the time since it began, how much was waited; None where it never began, or no time went by."""
        if self._begun_ns is None:
            return None
        whole_ns = self.clock.monotonic_ns() - self._begun_ns
        return min(self._waited_ns / whole_ns, 1.0) if whole_ns else None

    def taken_s(self) -> float:
        """Seconds waited since the last asking."""
        new_ns, self._taken_ns = self._waited_ns - self._taken_ns, self._waited_ns
        return float(seconds(new_ns))
