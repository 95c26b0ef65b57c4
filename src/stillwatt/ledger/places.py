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
from stillwatt.records.channel import Channel, Role
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
        machines[session.machine or session.session].append(session)
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
    for stream, series in _streams(place, notes).items():
        channel = series.channel
        by_role = booked if channel.role is Role.LEDGER else witnesses
        if channel.part in by_role:
            notes.append(f"{stream}: {channel.part} already has a {channel.role.value} stream; this one is not used")
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


def _streams(place: Place, notes: list[str]) -> dict[str, Series]:
    """Every stream with the readings of all who read it, in time order."""
    readers: dict[str, list[SessionFacts]] = defaultdict(list)
    for session in place.sessions:
        for stream in session.channels:
            readers[stream].append(session)
    return {stream: _joined(stream, sessions, notes) for stream, sessions in readers.items()}


def _joined(stream: str, sessions: Sequence[SessionFacts], notes: list[str]) -> Series:
    """One stream's readings, whoever took them; those of another device under the same name are left out and said."""
    first = sessions[0].channels[stream]
    same = [session for session in sessions if session.channels[stream].device == first.device]
    for session in sessions:
        if session not in same:
            other = session.channels[stream].device
            notes.append(f"{stream}: session {session.session} calls {other} what is {first.device} here; left out")
    gaps = tuple(gap for session in same for gap in session.gaps if gap.stream == stream)
    segments = [session.segments[stream] for session in same]
    if len(same) == 1:
        return Series(first, segments[0].t_ns, segments[0].count, gaps)
    return Series(
        _as_sampled(first, [session.channels[stream] for session in same]),
        np.concatenate([segment.t_ns for segment in segments]),
        np.concatenate([segment.count for segment in segments]),
        gaps,
    )


def _as_sampled(channel: Channel, all_of_it: Sequence[Channel]) -> Channel:
    """The channel as the slowest of its readers sampled it: what is no gap to that one is none."""
    periods_ns = [each.sampling_period_ns for each in all_of_it if each.sampling_period_ns is not None]
    return replace(channel, sampling_period_ns=max(periods_ns, default=None))


def part_users(place: Place, parts: Iterable[str]) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    """By part, the sessions whose program uses it; and the parts that no program of this place uses.

    A session whose journal does not tell uses every part. Parts that everybody uses are not named.
    """
    told = {each.session: _used(each) for each in place.sessions}
    users: dict[str, frozenset[str]] = {}
    unused: set[str] = set()
    for part in parts:
        using = frozenset(name for name, used in told.items() if used is None or part in used)
        if not using:
            unused.add(part)
        elif len(using) < len(told):
            users[part] = using
    return users, frozenset(unused)


def _used(session: SessionFacts) -> frozenset[str] | None:
    """The parts that a session's program uses, those that it would use if they could be read among them."""
    return None if session.parts is None else session.parts.union(gone.part for gone in session.absent)
