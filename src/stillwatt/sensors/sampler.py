"""Sampling: every sensor read at each tick, each in a thread of its own, and one gap for every span of failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stillwatt.clock import Clock
from stillwatt.records import Basis, Channel, Readings
from stillwatt.records.sample import shown_count
from stillwatt.sensors.base import Paced, Rests, Result, Sensor, Urgency
from stillwatt.sensors.closeup import CloseUp
from stillwatt.sensors.registry import OpenSensor
from stillwatt.sensors.runs import are_numbers, follow, joined, singles
from stillwatt.sensors.worker import AtOnce, Job, Worker, WorkerLike
from stillwatt.units import NS_PER_S, seconds

_STALL_NS = NS_PER_S
"""A reading that took longer than this, and than a period, has no time that can be stood by."""

_LAST_WAIT_S = 0.5
"""How long closing waits for a sensor that is being read, so that one that is only slow is closed too."""


class Sink(Protocol):
    """Where samples and events go; neither door may wait."""

    @property
    def room(self) -> int:
        """How many more samples can be taken."""
        ...

    def keep(self, samples: Readings) -> None:
        """Take samples of one stream."""
        ...

    def event(self, event: Mapping[str, Any]) -> None:
        """Take an event of the sampling process's journal."""
        ...


def missed_ticks(deadline_ns: int, now_ns: int, period_ns: int) -> int:
    """Deadlines after this one that have passed as well; they are skipped and counted, never made up.

    >>> missed_ticks(1000, 1050, 100), missed_ticks(1000, 1250, 100)
    (0, 2)
    """
    return max(now_ns - deadline_ns, 0) // period_ns


class Gaps:
    """Turns good and failed readings into one gap event per stream and span of failures.

    A gap reaches from the last good reading before it to the first one after it.
    """

    def __init__(self, emit: Callable[[Mapping[str, Any]], None]) -> None:
        self._emit = emit
        self._last_ns: dict[str, int] = {}
        self._open: dict[str, dict[str, Any]] = {}

    def last_ns(self, stream: str) -> int | None:
        """When the stream's last good reading was."""
        return self._last_ns.get(stream)

    def good(self, stream: str, t_ns: int, last_ns: int | None = None) -> None:
        """Note a good reading, or all from that one to another; a gap that was open ends at the first."""
        self._last_ns[stream] = t_ns if last_ns is None else last_ns
        if stream in self._open:
            self._close(stream, t_ns)

    def failed(self, stream: str, t_ns: int, reason: str) -> None:
        """Note a failed reading; the first one's reason is the gap's."""
        gap = self._open.get(stream)
        if gap is None:
            start_ns = self._last_ns.get(stream, t_ns)
            gap = {"event": "gap", "stream": stream, "start_ns": start_ns, "failed_reads": 0, "reason": reason}
            self._open[stream] = gap
        gap["failed_reads"] += 1

    def finish(self, t_ns: int) -> None:
        """End every gap that is still open."""
        for stream in list(self._open):
            self._close(stream, t_ns)

    def _close(self, stream: str, t_ns: int) -> None:
        gap = self._open.pop(stream)
        self._emit({**gap, "t_ns": t_ns, "end_ns": max(t_ns, gap["start_ns"])})


@dataclass(slots=True)
class _Lane:
    """One sensor with the thread that reads it."""

    sensor: Sensor
    channels: tuple[Channel, ...]
    clock: Clock
    period_ns: int
    streams: frozenset[str] = field(init=False)
    """Those that are kept; of a sensor that another process of this run reads too, not all of them."""
    paced: Paced | None = field(init=False)
    """The sensor, where it must be told how much a reading matters."""
    is_measured: bool = field(init=False)
    """Whether an instrument is behind it: a model averages over its own intervals, and looks at no edges."""
    worker: WorkerLike = field(init=False)
    results: Sequence[Result] = ()
    unbooked: list[Sequence[Result]] = field(default_factory=list)
    """Results of readings that came back in time, in their order, until they are booked."""
    returned_ns: int = 0
    asked_ns: int | None = None
    """When the reading that has not been collected yet was asked for."""

    def __post_init__(self) -> None:
        self.streams = frozenset(channel.stream for channel in self.channels)
        self.paced = self.sensor if isinstance(self.sensor, Paced) else None
        self.is_measured = any(channel.basis is not Basis.MODELLED for channel in self.channels)

    def read(self) -> None:
        """The worker's job."""
        self.results = ()
        self.results = self.sensor.read()
        self.returned_ns = self.clock.monotonic_ns()


def own_period_ns(opened: OpenSensor, period_ns: int) -> int:
    """How often a sensor is read: at the run's period, or as much more often as one of its streams wants to be."""
    return min([period_ns, *(channel.sampling_period_ns or period_ns for channel in opened.channels)])


class Sampler:
    """Samples opened sensors; the loop around it says when."""

    def __init__(
        self,
        opened: Sequence[OpenSensor],
        sink: Sink,
        clock: Clock,
        period_ns: int,
        *,
        make_worker: Callable[[str, Job], WorkerLike] = Worker,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._period_ns = period_ns
        self._gaps = Gaps(sink.event)
        self._all_lanes = [_Lane(item.sensor, item.channels, clock, own_period_ns(item, period_ns)) for item in opened]
        self._lanes: list[_Lane] = []
        self.keep_only({channel.stream for item in opened for channel in item.channels})
        for lane in self._all_lanes:
            lane.worker = make_worker(f"read-{lane.sensor.driver}", lane.read)
        self.samples = self.failed_reads = 0
        self._is_extra = False

    def keep_only(self, streams: set[str]) -> None:
        """Read and keep these streams from now on; a sensor with none of them is left alone."""
        for lane in self._all_lanes:
            lane.streams = frozenset(channel.stream for channel in lane.channels if channel.stream in streams)
        self._lanes = [lane for lane in self._all_lanes if lane.streams]
        kept = [channel for lane in self._lanes for channel in lane.channels if channel.stream in streams]
        self.closeup = CloseUp(kept, self._clock.monotonic_ns())

    @property
    def rests_ns(self) -> int:
        """For how long after a reading in turn asking again brings nothing of any sensor; 0 where one never rests."""
        sensors = [lane.sensor for lane in self._lanes]
        return min((one.rests_ns if isinstance(one, Rests) else 0 for one in sensors), default=0)

    @property
    def own_period_ns(self) -> int | None:
        """The shortest period at which some sensor wants to be read more often than all are; None for none."""
        return min((lane.period_ns for lane in self._lanes if lane.period_ns < self._period_ns), default=None)

    def tick(self, *, waits: bool = True, urgency: Urgency = Urgency.IN_TURN) -> None:
        """Ask every sensor for a reading; with waiting, book what has come within a period, or a second of it.

        Without waiting, what comes is held until `settle`: readings carry their own times, and code that runs once a
        tick runs cold, which makes it several times as expensive as the same code over many readings in a row.
        """
        self._read(self._lanes, waits=waits, urgency=urgency)
        if waits:
            self.settle()

    def quick_turn(self) -> Callable[[], bool] | None:
        """A reading of every sensor in turn with next to nothing around it; None where one cannot be read that way.

        What is given says whether it may be called again; where not, `tick` or `settle` finds what there is to find.
        Its readings are booked at the next `settle`.
        """
        quick = self._quick_lanes()
        if quick is None:
            return None
        for lane, _ in quick:
            if lane.paced is not None:
                lane.paced.urgency = Urgency.IN_TURN
        stalled_ns, now_ns = max(self._period_ns, _STALL_NS), self._clock.monotonic_ns

        def turn() -> bool:
            is_well = True
            for lane, worker in quick:
                lane.asked_ns = asked_ns = now_ns()
                if worker.do_at_once() and lane.returned_ns - asked_ns <= stalled_ns:
                    lane.asked_ns = None
                    lane.unbooked.append(lane.results)
                else:
                    is_well = False
            return is_well

        return turn

    def _quick_lanes(self) -> list[tuple[_Lane, AtOnce]] | None:
        """All lanes with their workers; None unless each is read in this thread, at the run's period, and idle now."""
        quick: list[tuple[_Lane, AtOnce]] = [
            (lane, lane.worker) for lane in self._lanes if isinstance(lane.worker, AtOnce)
        ]
        if len(quick) < len(self._lanes) or not all(worker.is_trusted for _, worker in quick):
            return None
        for lane, _ in quick:
            self._collect(lane)
        is_idle = all(lane.asked_ns is None for lane, _ in quick)
        return quick if is_idle and self.own_period_ns is None else None

    def settle(self) -> None:
        """Book what has come and is not booked yet."""
        for lane in self._all_lanes:
            self._settle(lane)

    def tick_often(self) -> None:
        """Read those sensors that want to be read more often; their readings are booked at the next `settle`."""
        self._read([lane for lane in self._lanes if lane.period_ns < self._period_ns], waits=False)

    def tick_closely(self) -> None:
        """Take one fast reading of the counters that a close look is for; skips a sensor that is still busy."""
        watched = self.closeup.streams
        self._read_extra([lane for lane in self._lanes if not watched.isdisjoint(lane.streams)])

    def look_at_edge(self, *, is_first: bool = False) -> None:
        """Look closely from now on; at a stage's edge (not a session's first) read all that is measured at once."""
        self.settle()  # what was read before and is not booked yet must not end the look
        if self.closeup.begin(self._clock.monotonic_ns(), is_first=is_first) and not is_first:
            self._read_extra([lane for lane in self._lanes if lane.is_measured])

    def _read_extra(self, lanes: Sequence[_Lane]) -> None:
        """Read between deadlines: sensors that are busy are left alone, and what is no news is no failure."""
        begun_ns = self._clock.monotonic_ns()
        for lane in lanes:
            self._settle(lane)
        self._is_extra = True
        self._read([lane for lane in lanes if lane.asked_ns is None], waits=True, urgency=Urgency.AT_EDGE)
        for lane in lanes:
            self._settle(lane)
        self._is_extra = False
        self.closeup.spent(begun_ns, self._clock.monotonic_ns())

    def _read(self, lanes: Sequence[_Lane], *, waits: bool, urgency: Urgency = Urgency.IN_TURN) -> None:
        for lane in lanes:
            if lane.asked_ns is not None:
                self._collect(lane)
            if lane.asked_ns is None:
                lane.asked_ns = self._clock.monotonic_ns()
                if lane.paced is not None:
                    lane.paced.urgency = urgency
                lane.worker.ask()
            else:
                age_s = seconds(self._clock.monotonic_ns() - lane.asked_ns)
                self._fail(lane, f"{lane.sensor.driver}: a reading has not returned for {age_s:.2g} s")
        if waits:
            patience_ns = self._clock.monotonic_ns() + min(self._period_ns, _STALL_NS)
            for lane in lanes:
                lane.worker.wait(max(seconds(patience_ns - self._clock.monotonic_ns()), 0.0))

    def finish(self) -> None:
        """Book the rest and end the gaps that are still open."""
        self.settle()
        self._gaps.finish(self._clock.monotonic_ns())

    def close(self) -> None:
        """Close the sensors, but for those that hang in a reading: they would hang in their close too."""
        for lane in self._all_lanes:
            has_returned = lane.asked_ns is None or lane.worker.wait(_LAST_WAIT_S)
            lane.worker.close()
            if has_returned:
                lane.sensor.close()

    def _collect(self, lane: _Lane) -> None:
        """Take what a lane's finished reading brought."""
        if lane.asked_ns is None or not lane.worker.wait(0.0):
            return
        took_ns = lane.returned_ns - lane.asked_ns
        lane.asked_ns = None
        if lane.worker.error is not None:
            error = lane.worker.error
            self._fail(lane, f"{lane.sensor.driver} raised {type(error).__name__}: {error}")
        elif took_ns > max(self._period_ns, _STALL_NS):
            self._fail(lane, f"{lane.sensor.driver}: a reading took {seconds(took_ns):.1f} s; its time is not known")
        else:
            lane.unbooked.append(lane.results)

    def _settle(self, lane: _Lane) -> None:
        """Book what a lane brought."""
        self._collect(lane)
        if not lane.unbooked:
            return
        for found in joined(lane.unbooked, lane.streams, self._clock.monotonic_ns()):
            if isinstance(found, Readings):
                self._book(found)
            else:
                self._failed(found.stream, found.reason, found.t_ns)
        lane.unbooked.clear()

    def _book(self, found: Readings) -> None:
        stream, times_ns, counts = found
        last_ns = self._gaps.last_ns(stream)
        if follow(found, last_ns) and are_numbers(found) and len(times_ns) <= self._sink.room:
            self._gaps.good(stream, times_ns[0], times_ns[-1])
            self._sink.keep(found)
            self.samples += len(times_ns)
            if self.closeup.is_on:
                for count in counts:
                    self.closeup.saw(stream, count)
        elif len(times_ns) > 1:
            for one in singles(found):
                self._book(one)
        else:
            self._refuse(found, last_ns)

    def _refuse(self, found: Readings, last_ns: int | None) -> None:
        """Note why a reading is not kept."""
        if not are_numbers(found):
            self._failed(found.stream, f"the driver gave {shown_count(found.counts[0])}, which is no count")
        elif not follow(found, last_ns):
            if not self._is_extra:
                self._failed(found.stream, "the reading's time is not after the one before")
        else:
            self._failed(found.stream, "readings dropped: the disk does not answer")

    def _fail(self, lane: _Lane, reason: str) -> None:
        self._settle(lane)  # a gap begins at the last good reading
        for stream in sorted(lane.streams):
            self._failed(stream, reason)

    def _failed(self, stream: str, reason: str, t_ns: int | None = None) -> None:
        self.failed_reads += 1
        self._gaps.failed(stream, self._clock.monotonic_ns() if t_ns is None else t_ns, reason)
