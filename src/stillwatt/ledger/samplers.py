"""What sampling processes' journal says of their own work: gaps, lulls, losses, and what they cost.

A session has one sampling process, and another where the first was lost while the program lived; they share a journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stillwatt.ledger.disk import DROPPED
from stillwatt.ledger.events import Event, Gap, MeterCount, ParentLost, PeriodChanged, SamplerEnded, SamplerStarted
from stillwatt.ledger.segments import Segment
from stillwatt.records.sample import Lull, SampleGap
from stillwatt.sensors.host_parameters import WATTS_PER_THREAD

_FOR_EVER_NS = (1 << 63) - 1


def last_sampler(meter: Sequence[Event]) -> tuple[SamplerStarted | None, Sequence[Event]]:
    """The sampling process that began last, and what it wrote; None where none began."""
    for place in range(len(meter) - 1, -1, -1):
        event = meter[place]
        if isinstance(event, SamplerStarted):
            return event, meter[place:]
    return None, meter


def is_closed(meter: Sequence[Event]) -> bool:
    """Whether the last sampling process said that it ends, or that it has lost its program and so ends."""
    return any(isinstance(event, SamplerEnded | ParentLost) for event in last_sampler(meter)[1])


def restarts(meter: Sequence[Event]) -> list[SamplerStarted]:
    """Sampling processes that took the place of one that was lost."""
    return [event for event in meter if isinstance(event, SamplerStarted)][1:]


def lost_samples(meter: Sequence[Event], segments: Mapping[str, Segment]) -> int:
    """How many samples of a sampling process that ended well are missing; those a full disk cost have their gaps.

    Of one that was lost before it, nobody knows how many it took.
    """
    started, own = last_sampler(meter)
    ended = next((event for event in own if isinstance(event, SamplerEnded)), None)
    if ended is None or any(isinstance(event, Gap) and event.reason.startswith(DROPPED) for event in own):
        return 0
    begun_ns = started.t_ns if started is not None and restarts(meter) else 0
    known = sum(
        int(np.count_nonzero(segment.t_ns >= begun_ns)) + segment.dropped + segment.damaged
        for segment in segments.values()
    )
    return max(0, ended.samples - known)


def gaps(meter: Sequence[Event], segments: Mapping[str, Segment]) -> tuple[SampleGap, ...]:
    """Spans in which streams were not read: as they were written down, and from a lost process to the next one."""
    return (*_written_gaps(meter), *_gaps_between(meter, segments))


def _gaps_between(meter: Sequence[Event], segments: Mapping[str, Segment]) -> Iterator[SampleGap]:
    for begun in restarts(meter):
        for stream in [channel.stream for channel in begun.channels if channel.stream in segments]:
            # what another rank took in between it has read, or says so itself
            segment = segments[stream]
            place = int(np.searchsorted(segment.t_ns, begun.t_ns))
            if 0 < place < segment.t_ns.size:
                yield SampleGap(
                    stream=stream,
                    start_ns=int(segment.t_ns[place - 1]),
                    end_ns=int(segment.t_ns[place]),
                    failed_reads=0,
                    reason="the sampling process was lost, and another took its place",
                )


def _written_gaps(meter: Sequence[Event]) -> tuple[SampleGap, ...]:
    return tuple(
        SampleGap(
            stream=gap.stream,
            start_ns=min(gap.start_ns, gap.end_ns),
            end_ns=gap.end_ns,
            failed_reads=gap.failed_reads,
            reason=gap.reason,
        )
        for gap in meter
        if isinstance(gap, Gap)
    )


def lulls(meter: Sequence[Event]) -> tuple[Lull, ...]:
    """Spans in which it read more rarely than it began with; one that was not ended lasts to the end."""
    usual_ns = next((event.period_ns for event in meter if isinstance(event, SamplerStarted)), 0)
    found: list[Lull] = []
    for event in meter:
        if not isinstance(event, PeriodChanged | SamplerStarted):
            continue  # one that takes another's place begins at the usual pace
        if found and found[-1].end_ns == _FOR_EVER_NS:
            begun = found.pop()
            found.append(
                Lull(start_ns=begun.start_ns, end_ns=max(event.t_ns, begun.start_ns), period_ns=begun.period_ns)
            )
        if event.period_ns > usual_ns:
            found.append(Lull(start_ns=event.t_ns, end_ns=_FOR_EVER_NS, period_ns=event.period_ns))
    return tuple(found)


def meter_account(meter: Sequence[Event]) -> dict[str, float]:
    """The sum of each process's last account; empty where none gave one."""
    last: dict[int, MeterCount | SamplerEnded] = {}
    number = 0
    for event in meter:
        if isinstance(event, SamplerStarted):
            number += 1
        elif isinstance(event, MeterCount | SamplerEnded):
            last[number] = event
    if not last:
        return {}
    return {
        "samples": sum(count.samples for count in last.values()),
        "failed_reads": sum(count.failed_reads for count in last.values()),
        "skipped_ticks": sum(count.skipped_ticks for count in last.values()),
        "cpu_s": float(sum(count.cpu_s for count in last.values())),
    }


def meter_energy(cpu_s: float) -> dict[str, float]:
    """Joules that so many CPU seconds of the meter's own cost, modelled, with their interval (method.md, eq. 20).

    >>> sorted(meter_energy(2.0).items())
    [('energy_high_j', 19.0), ('energy_j', 7.5), ('energy_low_j', 1.875)]
    """
    watts = WATTS_PER_THREAD
    return {
        "energy_j": cpu_s * watts.value,
        "energy_low_j": cpu_s * watts.low,
        "energy_high_j": cpu_s * watts.high,
    }
