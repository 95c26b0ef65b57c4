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


@dataclass(frozen=True, slots=True)
class Start:
    """What ranks on one machine passed, and when they ran, from one start to their end."""

    start_utc_ns: int
    end_utc_ns: int
    marks: Marks


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
    offsets = clock_offsets({name: starts(sessions) for name, sessions in machines.items()}, reference)
    moved = (_moved(session, offsets.get(session.origin.machine)) for session in found)
    return tuple(sorted(moved, key=_by_time)), list(_notes(machines, offsets, reference))


def clock_offsets(machines: Mapping[str, Sequence[Start]], reference: str) -> dict[str, ClockOffset]:
    """Offsets against the reference machine, of every machine that shared marks lead to (method.md, eq. 17).

    The offset of two machines is the median over their shared marks of the difference of times. A machine without a
    mark in common with the reference is reached through others, by as few steps as can be.

    >>> one = Start(0, 300, {"m 1": 100, "m 2": 200})
    >>> other = Start(1000, 1300, {"m 1": 1100, "m 2": 1202})
    >>> clock_offsets({"a": [one], "b": [other]}, "a")["b"]
    ClockOffset(offset_ns=1001, spread_ns=1, marks=2)
    """
    offsets = {reference: ClockOffset(offset_ns=0, spread_ns=0, marks=0)}
    reached = [reference]
    for known in reached:
        for name in machines:
            apart_ns = [] if name in offsets else _apart_ns(machines[known], machines[name])
            if not apart_ns:
                continue
            offsets[name] = ClockOffset(
                offset_ns=offsets[known].offset_ns + round(statistics.median(apart_ns)),
                spread_ns=offsets[known].spread_ns + (max(apart_ns) - min(apart_ns)) // 2,
                marks=len(apart_ns),
            )
            reached.append(name)
    return offsets


def _apart_ns(known: Sequence[Start], other: Sequence[Start]) -> list[int]:
    """By how much another machine's times of shared marks are later, over the starts that ran at the same time.

    Ranks that are started anew pass marks of the same names and numbers once more. Which starts of the two machines go
    together is told by the offset that moves the clock least: others are off by the time between starts.
    """
    pairs = []
    for one in known:
        for two in other:
            apart_ns = [two.marks[mark] - one.marks[mark] for mark in sorted(one.marks.keys() & two.marks.keys())]
            if apart_ns:
                pairs.append((one, two, apart_ns))
    if not pairs:
        return []
    least_ns = min((round(statistics.median(apart_ns)) for _, _, apart_ns in pairs), key=abs)
    return [each_ns for one, two, apart_ns in pairs if _ran_together(one, two, least_ns) for each_ns in apart_ns]


def _ran_together(one: Start, two: Start, ahead_ns: int) -> bool:
    return one.start_utc_ns <= two.end_utc_ns - ahead_ns and two.start_utc_ns - ahead_ns <= one.end_utc_ns


def _by_time(session: SessionFacts) -> tuple[int, str]:
    return session.start_utc_ns, session.session


def starts(sessions: Sequence[SessionFacts]) -> list[Start]:
    """One machine's ranks by start: a rank that comes again, or after all others have ended, was started anew."""
    groups: list[list[SessionFacts]] = []
    for session in sorted(sessions, key=lambda each: (each.start_ns, each.session)):
        ranks = {each.origin.rank for each in groups[-1]} if groups else set()
        ended_ns = max((each.end_ns for each in groups[-1]), default=0) if groups else 0
        if not groups or session.origin.rank in ranks or session.start_ns > ended_ns:
            groups.append([])
        groups[-1].append(session)
    return [_start(group) for group in groups]


def _start(sessions: Sequence[SessionFacts]) -> Start:
    """When each mark was passed: the median of the machine's ranks, all of which stand on one clock."""
    times: dict[str, list[int]] = defaultdict(list)
    for session in sessions:
        for mark, utc_ns in session.marks.items():
            times[mark].append(utc_ns)
    return Start(
        start_utc_ns=min(each.start_utc_ns for each in sessions),
        end_utc_ns=max(each.start_utc_ns + each.end_ns - each.start_ns for each in sessions),
        marks={mark: round(statistics.median(all_ns)) for mark, all_ns in times.items()},
    )


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
