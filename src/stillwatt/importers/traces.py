"""Power over time from rows: put in order, freed of what cannot be, its holes named, its sampling period found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stillwatt.clock import iso_utc
from stillwatt.importers.model import Trace
from stillwatt.importers.numbers import MAX_W
from stillwatt.metering.series import Series
from stillwatt.records.channel import Basis, Boundary, Channel, Quantity, Role
from stillwatt.records.sample import SampleGap
from stillwatt.sensors.nvml_windows import Window
from stillwatt.units import NS_PER_MS, seconds

UNKNOWN_GAIN = 0.2
"""For an instrument that nobody named: the widest that this project takes for a counter (method.md, section 1)."""
CARD_GAIN = 0.05
_DEFAULT_PERIOD_NS = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What a file tells, or does not tell, of what its powers were read from."""

    part: str
    device: str
    boundary: Boundary
    driver: str
    source: str
    gain_rel: float
    window: Window | None = None
    """None where renewal and averaging are not known."""


def is_absurd(power_w: float) -> bool:
    """Whether no machine can draw that.

    >>> is_absurd(-1.0), is_absurd(700.0), is_absurd(1e9)
    (True, False, True)
    """
    return not 0.0 <= power_w <= MAX_W


def make_trace(instrument: Instrument, readings: Sequence[tuple[int, float | None]]) -> tuple[Trace | None, list[str]]:
    """A trace from readings at wall-clock times, and what had to be said of them; none where no reading is left.

    A reading of None failed. Rows that go back in time are sorted in; of several at one time the last counts.
    """
    part, said = instrument.part, []
    went_back = sum(b[0] < a[0] for a, b in pairwise(readings))
    if went_back:
        said.append(f"{part}: the time goes back in {went_back} rows; they were put in order")
    ordered = sorted(readings, key=lambda reading: reading[0])
    by_time = dict(ordered)
    if len(by_time) < len(ordered):
        said.append(f"{part}: {len(ordered) - len(by_time)} rows repeat a time; the last of each counts")
    good = [(utc_ns, power_w) for utc_ns, power_w in by_time.items() if power_w is not None]
    if not good:
        return None, [*said, f"{part}: no row has a power"]
    period_ns = _period_ns([utc_ns for utc_ns, _ in good])
    update_ns = instrument.window.update_ns if instrument.window else period_ns
    channel = Channel(
        part=part,
        device=instrument.device,
        boundary=instrument.boundary,
        quantity=Quantity.POWER,
        role=Role.LEDGER,
        unit_si=1.0,
        driver=instrument.driver,
        basis=Basis.MEASURED,
        gain_low_rel=instrument.gain_rel,
        gain_high_rel=instrument.gain_rel,
        update_period_ns=update_ns,
        averaging_ns=instrument.window.averaging_ns if instrument.window else None,
        sampling_period_ns=period_ns,
        source=instrument.source,
    )
    if channel.averaging_ns is None:
        said.append(f"{part}: over how long each reading averages is not known; loads faster than it may be misread")
    gaps = _gaps(channel.stream, list(by_time.items()))
    times, powers = zip(*good, strict=True)
    return Trace(channel=channel, utc_ns=times, power_w=powers, gaps=gaps), said


def hole_remarks(trace: Trace) -> list[str]:
    """What to say of the times that a trace has no readings of: their energy is estimated (method.md, eq. 5)."""
    part = trace.channel.part
    series = Series(trace.channel, np.array(trace.utc_ns, dtype=np.int64), np.array(trace.power_w))
    steps_ns = np.diff(series.t_ns)
    holes_ns = steps_ns[steps_ns > series.allowed_ns]
    failed = sum(gap.failed_reads for gap in trace.gaps)
    said = [f"{part}: {failed} {'row has' if failed == 1 else 'rows have'} no usable power"] if failed else []
    if holes_ns.size:
        where = iso_utc(int(series.t_ns[int(np.argmax(steps_ns))]))
        several = "a hole" if holes_ns.size == 1 else f"{holes_ns.size} holes"
        longest = "" if holes_ns.size == 1 else f", the longest of {seconds(int(holes_ns.max())):.6g} s"
        said.append(
            f"{part}: {several} of {seconds(int(holes_ns.sum())):.6g} s without readings{longest} from {where}; what "
            "was drawn in it is estimated from the readings around, and counted as estimated"
        )
    return said


def _period_ns(times_ns: Sequence[int]) -> int:
    steps = sorted(b - a for a, b in pairwise(times_ns))
    return steps[len(steps) // 2] if steps else _DEFAULT_PERIOD_NS


def _gaps(stream: str, readings: Sequence[tuple[int, float | None]]) -> tuple[SampleGap, ...]:
    """A gap for each stretch of failed rows, from the last good one to the next."""
    gaps: list[SampleGap] = []
    last_ns, failed = readings[0][0], 0
    for utc_ns, power_w in (*readings, (readings[-1][0], math.nan)):
        if power_w is None:
            failed += 1
            continue
        if failed:
            reason = "rows without a usable number"
            gaps.append(SampleGap(stream=stream, start_ns=last_ns, end_ns=utc_ns, failed_reads=failed, reason=reason))
        last_ns, failed = utc_ns, 0
    return tuple(gaps)
