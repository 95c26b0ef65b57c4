"""Wall clocks of several nodes, compared by the marks that their ranks passed together (method.md, eq. 17).

Energies need none of this: a node's stages and samples are on one clock of its own. Times of day of stages on different
nodes do, and how long the run took over all of them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.ledger.sessions import SessionFacts
from stillwatt.units import NS_PER_MS, seconds

Marks = Mapping[str, int]
"""Wall-clock times by mark, as one machine tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """How far one machine's wall clock is ahead of the reference machine's."""

    offset_ns: int
    spread_ns: int
    """Half the range of what single marks say, added up over the machines between; 0 for a single mark."""
    marks: int
    """Marks shared with the machine it was compared with; 0 for the reference itself."""


def aligned(found: Sequence[SessionFacts]) -> tuple[tuple[SessionFacts, ...], list[str]]:
    """Sessions of one launch with their times of day on the clock of its first rank's machine; and what was done.

    Sessions come out in order of time. A machine that shares no mark with the others keeps its times, and that is said.
    Sessions that are no ranks of a launch are left alone: who goes on with a run elsewhere passes no mark with it.
    """
    machines: dict[str, list[SessionFacts]] = defaultdict(list)
    for session in found:
        if session.origin.rank is not None:
            machines[session.origin.machine].append(session)
    if len(machines) < 2:
        return tuple(sorted(found, key=_by_time)), []
    reference = min(machines, key=lambda name: min(session.origin.rank or 0 for session in machines[name]))
    offsets = clock_offsets({name: _marks(sessions) for name, sessions in machines.items()}, reference)
    moved = (_moved(session, offsets.get(session.origin.machine)) for session in found)
    return tuple(sorted(moved, key=_by_time)), list(_notes(machines, offsets, reference))


def clock_offsets(machines: Mapping[str, Marks], reference: str) -> dict[str, ClockOffset]:
    """Offsets against the reference machine, of every machine that shared marks lead to (method.md, eq. 17).

    The offset of two machines is the median over their shared marks of the difference of times. A machine without a
    mark in common with the reference is reached through others, by as few steps as can be.

    >>> clock_offsets({"a": {"m 1": 100, "m 2": 200}, "b": {"m 1": 1100, "m 2": 1202}}, "a")["b"]
    ClockOffset(offset_ns=1001, spread_ns=1, marks=2)
    """
    offsets = {reference: ClockOffset(offset_ns=0, spread_ns=0, marks=0)}
    reached = [reference]
    for known in reached:
        for name, marks in machines.items():
            shared = sorted(marks.keys() & machines[known].keys())
            if name in offsets or not shared:
                continue
            apart_ns = [marks[mark] - machines[known][mark] for mark in shared]
            offsets[name] = ClockOffset(
                offset_ns=offsets[known].offset_ns + round(statistics.median(apart_ns)),
                spread_ns=offsets[known].spread_ns + (max(apart_ns) - min(apart_ns)) // 2,
                marks=len(shared),
            )
            reached.append(name)
    return offsets


def _by_time(session: SessionFacts) -> tuple[int, str]:
    return session.start_utc_ns, session.session


def _marks(sessions: Sequence[SessionFacts]) -> Marks:
    """When a machine passed each mark: the median of its ranks, all of which stand on one clock."""
    times: dict[str, list[int]] = defaultdict(list)
    for session in sessions:
        for mark, utc_ns in session.marks.items():
            times[mark].append(utc_ns)
    return {mark: round(statistics.median(all_ns)) for mark, all_ns in times.items()}


def _moved(session: SessionFacts, offset: ClockOffset | None) -> SessionFacts:
    if offset is None or not offset.offset_ns:
        return session
    return replace(session, start_utc_ns=session.start_utc_ns - offset.offset_ns)


def _notes(
    machines: Mapping[str, Sequence[SessionFacts]], offsets: Mapping[str, ClockOffset], reference: str
) -> Iterator[str]:
    first = machines[reference][0].origin.host
    for name, sessions in machines.items():
        offset = offsets.get(name)
        host = sessions[0].origin.host
        if offset is None:
            yield f"the clock of {host} shares no mark with {first}'s; its times of day are its own"
        elif name != reference:
            ahead_s = seconds(offset.offset_ns)
            how = f"{offset.marks} shared marks that agree to {offset.spread_ns / NS_PER_MS:.3g} ms"
            if offset.marks == 1:
                how = "one shared mark, whose own error is not known"
            direction = "ahead of" if ahead_s >= 0 else "behind"
            yield (
                f"the wall clock of {host} was {abs(ahead_s):.4g} s {direction} {first}'s, by {how}; "
                "the times of its stages are corrected"
            )
