from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from stillwatt.sensors.clock_watch import ClockWatch, awake_and_asleep_ns
from stillwatt.units import NS_PER_S


@dataclass
class Machine:
    """A machine with three clocks that can sleep and be set."""

    clock: FakeClock = field(default_factory=FakeClock)
    slept_ns: int = 0

    def boot_ns(self) -> int:
        return self.clock.now_ns + self.slept_ns

    def sleep(self, seconds: float) -> None:
        self.slept_ns += round(seconds * NS_PER_S)
        self.clock.utc_offset_ns += round(seconds * NS_PER_S)

    def set_wall_clock(self, seconds: float) -> None:
        self.clock.utc_offset_ns += round(seconds * NS_PER_S)


def _machine() -> tuple[Machine, ClockWatch]:
    machine = Machine()
    return machine, ClockWatch(machine.clock, machine.boot_ns)


def test_time_that_only_passes_is_no_event() -> None:
    machine, watch = _machine()
    for _ in range(5):
        machine.clock.advance(1.0)
        machine.set_wall_clock(0.001)  # a time server at work
        assert watch.look() == []


def test_sleep_is_told_once_and_is_not_a_set_clock() -> None:
    machine, watch = _machine()
    before_ns = machine.clock.now_ns
    machine.sleep(3600.0)
    machine.clock.advance(0.1)
    assert watch.look() == [
        {
            "event": "clock_step",
            "kind": "asleep",
            "start_ns": before_ns,
            "t_ns": machine.clock.now_ns,
            "step_s": 3600.0,
        }
    ]
    assert watch.look() == []


@given(slept_s=st.sampled_from([0.0, 1.0, 7200.0]), set_s=st.sampled_from([-86_400.0, -0.6, 0.0, 0.6, 5.0]))
def test_both_steps_are_told_apart(slept_s: float, set_s: float) -> None:
    machine, watch = _machine()
    machine.sleep(slept_s)
    machine.set_wall_clock(set_s)
    machine.clock.advance(1.0)
    told = {step["kind"]: step["step_s"] for step in watch.look()}
    assert told == {kind: length for kind, length in (("asleep", slept_s), ("wall_clock_set", set_s)) if length}


def test_clocks_read_far_apart_say_nothing_and_the_next_look_says_all() -> None:
    machine = Machine()
    delay_s = 0.0

    def held_up() -> int:
        machine.clock.advance(delay_s)
        return machine.boot_ns()

    watch = ClockWatch(machine.clock, held_up)
    delay_s = 0.3
    machine.sleep(60.0)
    assert watch.look() == []
    delay_s = 0.0
    assert [step["step_s"] for step in watch.look()] == [60.0]


def test_a_watch_that_was_held_up_at_its_start_begins_with_the_first_look() -> None:
    machine = Machine()

    def slow() -> int:
        machine.clock.advance(1.0)
        return machine.boot_ns()

    watch = ClockWatch(machine.clock, slow)
    watch._boot_ns = machine.boot_ns
    machine.sleep(60.0)
    assert watch.look() == []
    machine.sleep(2.0)
    assert [step["step_s"] for step in watch.look()] == [2.0]


def test_the_machines_own_clock_never_lags_behind_the_one_that_stands_in_sleep() -> None:
    before_ns = time.monotonic_ns()
    assert awake_and_asleep_ns() >= before_ns
