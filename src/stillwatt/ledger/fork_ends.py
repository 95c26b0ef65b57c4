"""Which stages were begun in forked processes, and when those processes were gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatt.ledger.events import Event, ForkEnded, StageStarted


@dataclass(frozen=True, slots=True)
class ForkEnd:
    """Between which times a forked process came to its end."""

    last_ns: int
    """The latest sign known of it: its own last word, or when it was seen alive last."""
    gone_ns: int
    """When it was seen to be gone; the same where it was watched all the time."""


def fork_ends(forks: Mapping[str, Sequence[Event]], meter: Sequence[Event]) -> dict[str, ForkEnd]:
    """By stage, the end of the forked process that it was begun in; none where that was not seen to end.

    Args:
        forks: the events of each forked process, by its name (`rundir.fork_name`).
        meter: the sampling process's events.
    """
    gone = {event.fork: event for event in meter if isinstance(event, ForkEnded)}
    ends: dict[str, ForkEnd] = {}
    for name, events in forks.items():
        if name in gone:
            last_ns = max([gone[name].since_ns, *(event.t_ns for event in events)])
            end = ForkEnd(last_ns, max(last_ns, gone[name].t_ns))
            ends.update((event.stage_id, end) for event in events if isinstance(event, StageStarted))
    return ends
