"""The stage in which the measured program waits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fakes import FakeClock
from stillwatt.metering.meter import Meter, MeterWarning
from stillwatt.metering.resting import rest


class Pages:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def write(self, event: Any) -> None:
        self.events.append(dict(event))


def test_it_waits_in_a_stage_of_its_kind() -> None:
    pages = Pages()
    waits: list[float] = []
    rest(Meter(pages, FakeClock()), "idle_after", 2.5, sleep=waits.append)
    assert waits == [2.5]
    started, ended = pages.events
    assert (started["event"], started["kind"], started["name"]) == ("stage_started", "idle_baseline", "idle_after")
    assert ended["status"] == "ended"


@pytest.mark.parametrize("length_s", [0, 0.0, -1.0])
def test_no_time_leaves_no_stage(length_s: float) -> None:
    pages = Pages()
    rest(Meter(pages, FakeClock()), "idle", length_s)
    assert pages.events == []


@pytest.mark.parametrize("length_s", [math.nan, math.inf, "ten", None])
def test_a_length_that_is_none_is_warned_of_and_the_program_goes_on(length_s: Any) -> None:
    pages = Pages()
    with pytest.warns(MeterWarning, match="cannot be meant"):
        rest(Meter(pages, FakeClock()), "idle", length_s)
    assert pages.events == []
