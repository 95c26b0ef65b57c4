"""Where sessions ran: those that ran side by side on one machine share its clock, its devices and one account.

Ranks of a launch on one host are sessions of their own, each with journals of its own. A device is read by one of their
sampling processes at a time; its readings are joined here, so that it counts once, whoever read it and however many
did. Sessions that came one after the other (a run that was gone on with) keep accounts of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stillwatt.ledger.sessions import SessionFacts
from stillwatt.metering.series import Series
from stillwatt.records.channel import Role
from stillwatt.records.energy import Absent

SeriesByPart = Mapping[str, tuple[Series, Series | None]]
"""By part: the stream that is booked, and its witness where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Sessions on one machine, on one monotonic clock, each of which overlaps another in time; earliest first."""

    sessions: tuple[SessionFacts, ...]

    @property
    def name(self) -> str:
        """The first session's name, by which spans and traces of the place are joined."""
        return self.sessions[0].session

    @property
    def start_ns(self) -> int:
        """When its first session began."""
        return min(session.start_ns for session in self.sessions)

    @property
    def end_ns(self) -> int:
        """When its last session ended."""
        return max(session.end_ns for session in self.sessions)

    @property
    def start_utc_ns(self) -> int:
        """Wall-clock time of `start_ns`, by the first session's anchor."""
        first = self.sessions[0]
        return first.start_utc_ns + self.start_ns - first.start_ns


def places(found: Sequence[SessionFacts]) -> tuple[Place, ...]:
    """Group sessions by machine and time, in the order of their first session."""
    machines: dict[str, list[SessionFacts]] = defaultdict(list)
    for session in found:
        machines[session.origin.machine or session.session].append(session)
    grouped = [group for sessions in machines.values() for group in _side_by_side(sessions)]
    order = {session.session: number for number, session in enumerate(found)}
    return tuple(sorted((Place(sessions=tuple(group)) for group in grouped), key=lambda place: order[place.name]))


def _side_by_side(sessions: Iterable[SessionFacts]) -> list[list[SessionFacts]]:
    """Groups of sessions that overlap in time, directly or by others between them."""
    groups: list[list[SessionFacts]] = []
    end_ns = 0
    for session in sorted(sessions, key=lambda each: (each.start_ns, each.session)):
        if groups and session.start_ns < end_ns:
            groups[-1].append(session)
            end_ns = max(end_ns, session.end_ns)
        else:
            groups.append([session])
            end_ns = session.end_ns
    return groups


def accounted_span_ns(place: Place) -> tuple[int, int]:
    """First and last nanosecond of what is booked of a place.

    It begins with the first sample, or with the first stage if that is earlier: while the sampling process
    starts, nothing is read, and the program is not measured yet. It ends with the last session, or with the last
    stage if that is later.
    """
    samples_ns = [int(seg.t_ns[0]) for each in place.sessions for seg in each.segments.values() if seg.t_ns.size]
    stages = [stage for session in place.sessions for stage in session.stages]
    first_ns = min(samples_ns, default=place.start_ns)
    start_ns = min([max(place.start_ns, first_ns), *(stage.start_ns for stage in stages)])
    return start_ns, max([start_ns, place.end_ns, *(stage.end_ns for stage in stages)])


def place_series(place: Place) -> tuple[SeriesByPart, tuple[Absent, ...], list[str]]:
    """The streams by part, the parts that have none, and what is odd about them."""
    booked: dict[str, Series] = {}
    witnesses: dict[str, Series] = {}
    notes: list[str] = []
    names = part_names(place)
    for (part, device), name in names.items():
        if name != part:
            notes.append(f"{name}: another device ({device}) that its session calls {part} too")
    for series in _streams(place, names):
        channel = series.channel
        by_role = booked if channel.role is Role.LEDGER else witnesses
        if channel.part in by_role:
            what = f"{channel.part} already has a {channel.role.value} stream"
            notes.append(f"{channel.stream}: {what}; this one is not used")
            continue
        by_role[channel.part] = series
    absent = {gone.part: gone for session in reversed(place.sessions) for gone in session.absent}
    for part in absent.keys() & booked.keys():
        notes.append(f"{part}: said to be unreadable ({absent[part].reason}) and read all the same; it is booked")
    for part in witnesses.keys() - booked.keys() - absent.keys():
        reason = "it has a witness stream and none that is booked"
        absent[part] = Absent(part=part, boundary=witnesses[part].channel.boundary, reason=reason)
    series_by_part = {part: (ledger, witnesses.get(part)) for part, ledger in booked.items()}
    gone = tuple(absent[part] for part in sorted(absent) if part not in booked)
    return series_by_part, gone, sorted(notes)


def part_names(place: Place) -> dict[tuple[str, str], str]:
    """What each (part, device) is called here: as its session does, and `gpu0-2` for a second device of that name.

    Containers number the cards that they see from 0, each for itself.
    """
    names: dict[tuple[str, str], str] = {}
    for session in place.sessions:
        read = [(channel.part, channel.device) for channel in session.channels.values()]
        for part, device in (*read, *(session.program.parts or {}).items()):
            count = sum(1 for known, _ in names if known == part)
            names.setdefault((part, device), part if not count else f"{part}-{count + 1}")
    return names


def _streams(place: Place, names: Mapping[tuple[str, str], str]) -> list[Series]:
    """Every stream of every device, with the readings of all who read it."""
    readers: dict[tuple[str, str], list[tuple[SessionFacts, str]]] = defaultdict(list)
    for session in place.sessions:
        for stream, channel in session.channels.items():
            name = names[channel.part, channel.device]
            readers[name, channel.quantity.value].append((session, stream))
    return [_joined(name, found) for (name, _), found in readers.items()]


def _joined(name: str, readers: Sequence[tuple[SessionFacts, str]]) -> Series:
    """One stream's readings, whoever took them.

    The channel is as the slowest of its readers sampled it: what is no gap to that one is none.
    """
    channels = [session.channels[stream] for session, stream in readers]
    segments = [session.segments[stream] for session, stream in readers]
    gaps = tuple(gap for session, stream in readers for gap in session.gaps if gap.stream == stream)
    channel = channels[0] if channels[0].part == name else replace(channels[0], part=name)
    channel = channel.calibrated()
    if len(readers) == 1:
        return Series(channel, segments[0].t_ns, segments[0].count, gaps, readers[0][0].lulls)
    periods_ns = [each.sampling_period_ns for each in channels if each.sampling_period_ns is not None]
    return Series(
        replace(channel, sampling_period_ns=max(periods_ns, default=None)),
        np.concatenate([segment.t_ns for segment in segments]),
        np.concatenate([segment.count for segment in segments]),
        gaps,
        tuple(sorted((lull for session, _ in readers for lull in session.lulls), key=lambda lull: lull.start_ns)),
    )


def part_users(place: Place, parts: Iterable[str]) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    """By part, the sessions whose program uses it; and the parts that no program of this place uses.

    A session whose journal does not tell uses every part. Parts that everybody uses are not named.
    """
    names = part_names(place)
    told = {session.session: _used(session, names) for session in place.sessions}
    users: dict[str, frozenset[str]] = {}
    unused: set[str] = set()
    for part in parts:
        using = frozenset(name for name, used in told.items() if used is None or part in used)
        if not using:
            unused.add(part)
        elif len(using) < len(told):
            users[part] = using
    return users, frozenset(unused)


def _used(session: SessionFacts, names: Mapping[tuple[str, str], str]) -> frozenset[str] | None:
    """The parts that a session's program uses, those that it would use if they could be read among them."""
    if session.program.parts is None:
        return None
    gone = {absent.part for absent in session.absent} - session.program.beside
    return frozenset([*(names[used] for used in session.program.parts.items()), *gone])
