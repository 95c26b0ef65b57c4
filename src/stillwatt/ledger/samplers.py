"""What a sampling process's journal says of its own work: gaps, lulls, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.ledger.events import Event, Gap, MeterCount, PeriodChanged, SamplerEnded, SamplerStarted
from stillwatt.records.sample import Lull, SampleGap
from stillwatt.sensors.host_parameters import WATTS_PER_THREAD

_FOR_EVER_NS = (1 << 63) - 1


def gaps(meter: Sequence[Event]) -> tuple[SampleGap, ...]:
    """Spans in which streams were not read, as it wrote them down."""
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
        if not isinstance(event, PeriodChanged):
            continue
        if found and found[-1].end_ns == _FOR_EVER_NS:
            begun = found.pop()
            found.append(
                Lull(start_ns=begun.start_ns, end_ns=max(event.t_ns, begun.start_ns), period_ns=begun.period_ns)
            )
        if event.period_ns > usual_ns:
            found.append(Lull(start_ns=event.t_ns, end_ns=_FOR_EVER_NS, period_ns=event.period_ns))
    return tuple(found)


def meter_account(meter: Sequence[Event]) -> dict[str, float]:
    """Its last account; empty where it gave none."""
    counts = [event for event in meter if isinstance(event, MeterCount | SamplerEnded)]
    if not counts:
        return {}
    last = counts[-1]
    return {
        "samples": last.samples,
        "failed_reads": last.failed_reads,
        "skipped_ticks": last.skipped_ticks,
        "cpu_s": float(last.cpu_s),
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
