"""What befell a session's files and clocks, in words for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillwatt.ledger.events import ClockStep, Event
from stillwatt.ledger.segments import Segment
from stillwatt.units import seconds


def segment_warnings(segments: Mapping[str, Segment], lost_samples: int) -> list[str]:
    """What is missing from a session's samples, or wrong with them."""
    warnings = []
    if lost_samples:
        warnings.append(
            f"{lost_samples} samples that the sampling process took are not here; a file was cut or changed"
        )
    for stream, segment in segments.items():
        if segment.problem is not None:
            warnings.append(f"samples of {stream}: {segment.problem}")
        if segment.torn_bytes:
            warnings.append(f"samples of {stream}: {segment.torn_bytes} torn bytes at the end are left out")
        if segment.damaged:
            warnings.append(
                f"samples of {stream}: {segment.damaged} records do not fit their checksum and are left out; "
                "they were changed"
            )
        if segment.dropped:
            warnings.append(
                f"samples of {stream}: {segment.dropped} records with a repeated time or no finite count are left out"
            )
    return warnings


def clock_warnings(meter: Sequence[Event], start_ns: int) -> list[str]:
    """What happened to the machine's clocks; lengths and energies are on the monotonic one and stay right."""
    warnings = []
    for step in (event for event in meter if isinstance(event, ClockStep)):
        at = f"{seconds(step.t_ns - start_ns):.0f} s after the session's start"
        if step.kind == "asleep":
            warnings.append(
                f"the machine slept for {step.step_s:.0f} s, {at}; that time is in no stage, and what was drawn in it "
                "is booked only as far as a counter went on counting"
            )
        else:
            direction = "forward" if step.step_s > 0 else "back"
            warnings.append(
                f"the wall clock was set {direction} by {abs(step.step_s):.1f} s, {at}; "
                "times of day are those of the clock before that"
            )
    return warnings
