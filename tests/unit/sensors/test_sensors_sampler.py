from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeSensor, Outcome, fake_channel
from stillwatt.records import Quantity, ReadFailure, Reading, Readings
from stillwatt.sensors.base import Urgency
from stillwatt.sensors.registry import OpenSensor
from stillwatt.sensors.sampler import Gaps, Sampler, missed_ticks
from stillwatt.sensors.worker import InlineWorker, Worker, WorkerLike
from stillwatt.units import NS_PER_S

PERIOD_NS = 100_000_000
LONG_S = 30.0


class ListSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.samples: list[tuple[str, int, float]] = []
        self.events: list[Mapping[str, Any]] = []
        self.room = sys.maxsize

    def keep(self, samples: Readings) -> None:
        self.samples += [(samples.stream, *one) for one in zip(samples.times_ns, samples.counts, strict=True)]

    def event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)


def _sampler(clock: FakeClock, sink: ListSink, *sensors: FakeSensor) -> Sampler:
    opened = [OpenSensor(sensor=sensor, channels=sensor.open()) for sensor in sensors]
    return Sampler(opened, sink, clock, PERIOD_NS, make_worker=InlineWorker)


@given(st.integers(0, 10**12), st.integers(0, 10**11), st.integers(1, 10**9))
def test_the_next_deadline_lies_ahead_and_on_the_grid(deadline: int, late: int, period: int) -> None:
    missed = missed_ticks(deadline, deadline + late, period)
    following = deadline + (missed + 1) * period
    assert deadline + late < following <= deadline + late + period


def test_a_tick_before_its_time_missed_none() -> None:
    assert missed_ticks(1000, 900, 10) == 0


@given(st.lists(st.booleans(), max_size=60))
def test_every_failure_lies_in_exactly_one_gap_and_no_reading_in_any(outcomes: list[bool]) -> None:
    events: list[Mapping[str, Any]] = []
    gaps = Gaps(events.append)
    good = []
    for t_ns, is_good in enumerate(outcomes):
        if is_good:
            gaps.good("s", t_ns)
            good.append(t_ns)
        else:
            gaps.failed("s", t_ns, f"reason {t_ns}")
    gaps.finish(len(outcomes))
    assert sum(event["failed_reads"] for event in events) == outcomes.count(False)
    for event in events:
        assert event["start_ns"] <= event["end_ns"]
        assert not [t_ns for t_ns in good if event["start_ns"] < t_ns < event["end_ns"]]
    spans = [(event["start_ns"], event["end_ns"]) for event in events]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_a_gap_reaches_from_good_to_good_and_keeps_the_first_reason() -> None:
    events: list[Mapping[str, Any]] = []
    gaps = Gaps(events.append)
    gaps.good("s", 10)
    gaps.failed("s", 20, "first")
    gaps.failed("s", 30, "second")
    gaps.good("s", 40)
    assert events == [
        {
            "event": "gap",
            "t_ns": 40,
            "stream": "s",
            "start_ns": 10,
            "end_ns": 40,
            "failed_reads": 2,
            "reason": "first",
        }
    ]


def test_each_stream_has_its_own_gaps() -> None:
    events: list[Mapping[str, Any]] = []
    gaps = Gaps(events.append)
    gaps.failed("a", 1, "x")
    gaps.failed("b", 2, "y")
    gaps.good("a", 3)
    gaps.finish(9)
    assert [(event["stream"], event["start_ns"], event["end_ns"]) for event in events] == [("a", 1, 3), ("b", 2, 9)]


outcome = st.one_of(st.floats(0.0, 1e9), st.just("broken"), st.just(math.nan))


@given(st.lists(outcome, min_size=1, max_size=40))
def test_samples_and_failures_add_up_to_ticks(outcomes: list[Outcome]) -> None:
    clock, sink = FakeClock(), ListSink()
    sensor = FakeSensor(clock, outcomes={"gpu0.power": outcomes})
    sampler = _sampler(clock, sink, sensor)
    for _ in outcomes:
        clock.advance(0.1)
        sampler.tick()
    sampler.finish()
    assert sampler.samples == len(sink.samples)
    assert sampler.samples + sampler.failed_reads == len(outcomes)
    assert sum(event["failed_reads"] for event in sink.events) == sampler.failed_reads
    stamps = [t_ns for _, t_ns, _ in sink.samples]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (1e308, "1e+308"),
        (-1e300, "-1e+300"),
        (2.0**65, "3.6893488147419103e+19"),
        (10**400, "a number of 1329 bits"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
    ids=["huge", "negative", "65 bits", "400 digits", "inf", "nan"],
)
def test_a_count_that_no_instrument_can_mean_is_a_failed_read_with_its_number(count: float, shown: str) -> None:
    """One such number would make every sum of squares of the run infinite, and the run unpostable."""
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock, outcomes={"gpu0.power": [5.0, count, 2.0**64]}))
    for _ in range(3):
        clock.advance(0.1)
        sampler.tick()
    sampler.finish()
    assert [found for _, _, found in sink.samples] == [5.0, 2.0**64]
    (gap,) = sink.events
    assert gap["failed_reads"] == 1
    assert gap["reason"] == f"the driver gave {shown}, which is no count"


def test_a_driver_that_raises_costs_its_own_streams_only() -> None:
    clock, sink = FakeClock(), ListSink()
    broken = FakeSensor(clock, [fake_channel("gpu0")], {"gpu0.power": [RuntimeError("bug"), 5.0]}, driver="broken")
    sound = FakeSensor(clock, [fake_channel("cpu0")], driver="sound")
    sampler = _sampler(clock, sink, broken, sound)
    sampler.tick()
    clock.advance(0.1)
    sampler.tick()
    assert [stream for stream, _, _ in sink.samples] == ["cpu0.power", "gpu0.power", "cpu0.power"]
    assert sink.events[0]["reason"] == "broken raised RuntimeError: bug"


class _Silent(FakeSensor):
    """Gives one of its two streams only."""

    def read(self) -> list[Reading | ReadFailure]:
        return [Reading(stream="gpu0.power", t_ns=self.clock.monotonic_ns(), count=1.0)]


def test_a_stream_that_is_not_given_is_a_failed_reading() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, _Silent(clock, [fake_channel("gpu0"), fake_channel("gpu1")]))
    sampler.tick()
    sampler.finish()
    assert (sampler.samples, sampler.failed_reads) == (1, 1)
    assert (sink.events[0]["stream"], sink.events[0]["reason"]) == ("gpu1.power", "the driver gave no reading")


def test_a_reading_no_later_than_the_one_before_is_refused() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock))
    sampler.tick()
    sampler.tick()
    sampler.finish()
    assert len(sink.samples) == 1
    assert "not after" in sink.events[0]["reason"]


def test_a_full_sink_makes_a_gap() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock))
    sampler.tick()
    sink.room = 0
    for _ in range(3):
        clock.advance(0.1)
        sampler.tick()
    sink.room = sys.maxsize
    clock.advance(0.1)
    sampler.tick()
    assert len(sink.samples) == 2
    assert (sink.events[0]["failed_reads"], sink.events[0]["end_ns"] - sink.events[0]["start_ns"]) == (3, 400_000_000)


def test_a_reading_that_took_too_long_has_no_time() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock, before_read=lambda: clock.advance(1.5)))
    sampler.tick()
    sampler.finish()
    assert sink.samples == []
    assert "took 1.5 s" in sink.events[0]["reason"]


def test_a_slow_reading_within_a_second_is_taken() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock, before_read=lambda: clock.advance(0.9)))
    sampler.tick()
    assert len(sink.samples) == 1


def test_closing_closes_the_sensors() -> None:
    clock = FakeClock()
    sensor = FakeSensor(clock)
    sampler = _sampler(clock, ListSink(), sensor)
    sampler.tick()
    sampler.close()
    assert not sensor.is_open


def test_a_sensor_that_hangs_leaves_a_gap_and_the_others_go_on() -> None:
    clock, sink = FakeClock(), ListSink()
    release = threading.Event()
    hanging = FakeSensor(clock, [fake_channel("gpu0")], driver="hanging", before_read=lambda: release.wait(LONG_S))
    sound = FakeSensor(clock, [fake_channel("cpu0")], driver="sound")
    opened = [OpenSensor(sensor=sensor, channels=sensor.open()) for sensor in (hanging, sound)]
    sampler = Sampler(opened, sink, clock, 200_000_000)  # what a busy machine may take for the sound one
    for _ in range(5):
        clock.advance(0.1)
        sampler.tick()
    assert {stream for stream, _, _ in sink.samples} == {"cpu0.power"}
    assert sampler.failed_reads == 4
    sampler.finish()
    assert "hanging: a reading has not returned for 0.1 s" in sink.events[0]["reason"]
    sampler.close()
    assert hanging.is_open  # closing it would hang as well
    assert not sound.is_open
    release.set()


def test_a_sensor_that_comes_back_is_read_again() -> None:
    clock, sink = FakeClock(), ListSink()
    release, returned = threading.Event(), threading.Event()
    sensor = FakeSensor(clock, before_read=lambda: release.wait(LONG_S))
    sampler = Sampler([OpenSensor(sensor=sensor, channels=sensor.open())], sink, clock, 1_000_000)
    sampler.tick()
    clock.advance(2.0)
    sampler.tick()
    release.set()
    while sensor.reads == 0:
        returned.wait(0.001)
    for _ in range(200):  # the reading that hung is refused; the next ones are taken
        clock.advance(0.1)
        sampler.tick()
        if sink.samples:
            break
        returned.wait(0.001)
    assert sink.samples
    assert "has not returned" in sink.events[0]["reason"]
    assert sink.samples[0][1] > 3 * NS_PER_S
    sampler.close()


@pytest.mark.parametrize("kind", [Worker, InlineWorker])
def test_a_worker_runs_its_job_as_often_as_it_is_asked(kind: type[Worker] | type[InlineWorker]) -> None:
    runs: list[int] = []
    worker = kind("test", lambda: runs.append(1))
    for _ in range(3):
        assert worker.ask()
        assert worker.wait(LONG_S)
    worker.close()
    assert len(runs) == 3


@pytest.mark.parametrize("kind", [Worker, InlineWorker])
def test_a_worker_keeps_the_error_of_its_last_run(kind: type[Worker] | type[InlineWorker]) -> None:
    told: list[BaseException] = [ValueError("once")]

    def job() -> None:
        if told:
            raise told.pop()

    worker: WorkerLike = kind("test", job)
    kept = []
    for _ in range(2):
        worker.ask()
        worker.wait(LONG_S)
        kept.append(repr(worker.error))
    assert kept == ["ValueError('once')", "None"]
    worker.close()


def test_a_busy_worker_says_no_and_a_closed_one_too() -> None:
    release = threading.Event()

    def job() -> None:
        release.wait(LONG_S)

    worker = Worker("test", job)
    assert worker.ask()
    assert not worker.ask()
    assert not worker.wait(0.001)
    release.set()
    assert worker.wait(LONG_S)
    worker.close()
    worker.close()
    assert not worker.ask()


def test_a_closed_worker_ends_its_thread() -> None:
    before = threading.active_count()
    worker = Worker("test-ends", lambda: None)
    worker.ask()
    worker.close()
    for thread in threading.enumerate():
        if thread.name == "test-ends":
            thread.join(LONG_S)
    assert threading.active_count() <= before


class PacedSensor(FakeSensor):
    """A fake that notes how much each of its readings matters."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock, [fake_channel(quantity=Quantity.ENERGY_COUNTER)])
        self.urgency = Urgency.IN_TURN
        self.asked: list[Urgency] = []
        self.before_read = lambda: self.asked.append(self.urgency)


def test_a_paced_sensor_is_told_how_much_a_reading_matters() -> None:
    clock = FakeClock()
    sensor = PacedSensor(clock)
    sampler = _sampler(clock, ListSink(), sensor)
    sampler.tick()
    clock.advance(1.0)
    sampler.look_at_edge()
    clock.advance(0.05)
    sampler.tick()
    clock.advance(0.05)
    sampler.tick(urgency=Urgency.LAST)
    assert sensor.asked == [Urgency.IN_TURN, Urgency.AT_EDGE, Urgency.IN_TURN, Urgency.LAST]


def test_readings_from_before_an_edge_do_not_end_its_close_look() -> None:
    """They are held until they are booked; a count that changed among them is no step after the edge."""
    clock = FakeClock()
    counter = fake_channel(quantity=Quantity.ENERGY_COUNTER)
    sensor = FakeSensor(clock, [counter], outcomes={counter.stream: [1.0, 2.0, 3.0, 3.0, 3.0, 4.0]})
    sampler = _sampler(clock, ListSink(), sensor)
    for _ in range(3):
        sampler.tick(waits=False)
        clock.advance(0.1)
    sampler.look_at_edge()
    for _ in range(2):
        assert sampler.closeup.is_on
        clock.advance(0.004)
        sampler.tick_closely()
    assert not sampler.closeup.is_on


def test_a_quick_turn_reads_every_sensor_and_what_failed_is_found_afterwards() -> None:
    clock, sink = FakeClock(), ListSink()
    bad = FakeSensor(clock, outcomes={"gpu0.power": (1.0, 2.0, RuntimeError("fell over"), 4.0)})
    good = FakeSensor(clock, (fake_channel(part="gpu1"),), {"gpu1.power": (5.0, 6.0, 7.0, 8.0)})
    sampler = _sampler(clock, sink, bad, good)
    turn = sampler.quick_turn()
    assert turn is not None
    found = []
    for _ in range(3):
        clock.advance(0.1)
        found.append(turn())
    assert found == [True, True, False]
    clock.advance(0.1)
    sampler.tick(waits=False)
    sampler.settle()
    assert [count for stream, _, count in sink.samples if stream == "gpu0.power"] == [1.0, 2.0, 4.0]
    assert [count for stream, _, count in sink.samples if stream == "gpu1.power"] == [5.0, 6.0, 7.0, 8.0]
    (gap,) = [event for event in sink.events if event["event"] == "gap"]
    assert (gap["stream"], gap["failed_reads"]) == ("gpu0.power", 1)
    assert "fell over" in gap["reason"]


def test_a_quick_turn_that_stalled_has_no_time_to_stand_by() -> None:
    clock, sink = FakeClock(), ListSink()
    sampler = _sampler(clock, sink, FakeSensor(clock, before_read=lambda: clock.advance(1.2)))
    turn = sampler.quick_turn()
    assert turn is not None
    assert not turn()
    sampler.settle()
    assert (sampler.samples, sampler.failed_reads) == (0, 1)


def test_there_is_no_quick_turn_while_a_sensor_is_read_elsewhere_or_more_often() -> None:
    clock, sink = FakeClock(), ListSink()
    often = FakeSensor(clock, (dataclasses.replace(fake_channel(part="gpu1"), sampling_period_ns=PERIOD_NS // 4),))
    assert _sampler(clock, sink, FakeSensor(clock), often).quick_turn() is None
    sensor = FakeSensor(clock)
    opened = [OpenSensor(sensor=sensor, channels=sensor.open())]
    apart = Sampler(opened, sink, clock, PERIOD_NS, make_worker=Worker)
    assert apart.quick_turn() is None
    apart.close()


def test_a_quick_turn_is_in_turn_though_an_edge_was_before_it() -> None:
    clock, sink = FakeClock(), ListSink()
    sensor = PacedSensor(clock)
    sampler = _sampler(clock, sink, sensor)
    sampler.tick(urgency=Urgency.AT_EDGE)
    turn = sampler.quick_turn()
    assert turn is not None
    clock.advance(0.1)
    assert turn()
    assert sensor.asked == [Urgency.AT_EDGE, Urgency.IN_TURN]
