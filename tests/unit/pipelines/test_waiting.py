from __future__ import annotations

import pytest

from stillwatt.pipelines.waiting import Waiting
from stillwatt.units import NS_PER_MS
from tiny_models import TickClock


class FakeClock(TickClock):
    """A clock that moves when it is told to."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


def test_the_share_is_of_the_time_since_it_began() -> None:
    clock = FakeClock()
    waiting = Waiting(clock)
    with waiting:
        clock.now_ns += 50 * NS_PER_MS
    assert waiting.share() is None
    waiting.begin()
    assert waiting.share() is None
    with waiting:
        clock.now_ns += 10 * NS_PER_MS
    clock.now_ns += 30 * NS_PER_MS
    assert waiting.share() == 0.25


def test_what_was_taken_is_not_taken_twice_and_an_error_does_not_lose_it() -> None:
    clock = FakeClock()
    waiting = Waiting(clock)
    with pytest.raises(KeyError), waiting:
        clock.now_ns += 2 * NS_PER_MS
        raise KeyError
    assert waiting.taken_s() == 0.002
    assert waiting.taken_s() == 0.0
