"""Energies of a run's stages and sessions: series in, totals out (method.md, eqs. 10 to 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.account import Energies, SessionAccount, SessionInput, account_session
from stillwatt.metering.baseline import IdlePower, idle_power, net, sub_window_w
from stillwatt.metering.series import Series
from stillwatt.metering.totals import combine, merge_parts, sum_part
from stillwatt.records.channel import Role
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.window import StageKind, StageStatus, StageWindow
from stillwatt.units import seconds

SeriesByPart = Mapping[str, tuple[Series, Series | None]]
"""By part: the stream that is booked, and its witness where it has one."""

_MAX_SUB_WINDOWS = 10
"""Into how many equal parts of about a second, at most, an idle stage is cut to see how its power varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnergies:
    """One stage's energies, itself and its children."""

    gross: tuple[Energy | Absent, ...]
    gross_total: Total | NoTotal
    net_total: Total | NoTotal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookedSession:
    """One session with its energies."""

    facts: SessionFacts
    series: SeriesByPart
    account: SessionAccount
    stages: Mapping[str, StageEnergies]
    """By stage id."""
    notes: tuple[str, ...]
    """What the reader should know of the readings: resets, parts without a booked stream."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookedRun:
    """All sessions with their energies, and the sums over them."""

    sessions: tuple[BookedSession, ...]
    unallocated: Total | NoTotal
    total: Total | NoTotal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Accounted:
    facts: SessionFacts
    series: SeriesByPart
    account: SessionAccount
    notes: tuple[str, ...]


def book_run(found: Sequence[SessionFacts]) -> BookedRun:
    """Book every session's energy to its stages and sum over sessions.

    Idle power is taken over all idle stages of the run, so that a session after a kill is net of the same idle
    power as the one before it.
    """
    accounted = [_account(facts) for facts in found]
    idle = _idle_power(accounted)
    booked = tuple(_book(session, idle) for session in accounted)
    accounts = [session.account for session in accounted]
    return BookedRun(
        sessions=booked,
        unallocated=_over_sessions([(each.unallocated, each.unallocated_s) for each in accounts]),
        total=_over_sessions([(each.total, each.total_s) for each in accounts]),
    )


def accounted_span_ns(facts: SessionFacts) -> tuple[int, int]:
    """First and last nanosecond of what is booked of a session.

    It begins with the first sample, or with the first stage if that is earlier: while the sampling process
    starts, nothing is read, and the program is not measured yet. It ends with the session, or with its last
    stage if that is later.
    """
    first_ns = min((int(s.t_ns[0]) for s in facts.segments.values() if s.t_ns.size), default=facts.start_ns)
    start_ns = min([max(facts.start_ns, first_ns), *(stage.start_ns for stage in facts.stages)])
    return start_ns, max([start_ns, facts.end_ns, *(stage.end_ns for stage in facts.stages)])


def _account(facts: SessionFacts) -> _Accounted:
    series, absent, notes = _series(facts)
    start_ns, end_ns = accounted_span_ns(facts)
    account = account_session(
        SessionInput(
            windows=[_window(facts.session, stage) for stage in facts.stages],
            start_ns=start_ns,
            end_ns=end_ns,
            series=series,
            absent=absent,
        )
    )
    return _Accounted(facts=facts, series=series, account=account, notes=(*notes, *account.notes))


def _window(session: str, stage: StageFacts) -> StageWindow:
    return StageWindow(
        session=session,
        stage_id=stage.stage_id,
        parent_id=stage.parent_id,
        start_ns=stage.start_ns,
        end_ns=stage.end_ns,
    )


def _series(facts: SessionFacts) -> tuple[SeriesByPart, tuple[Absent, ...], list[str]]:
    """The streams by part, the parts that have none, and what is odd about them."""
    booked: dict[str, Series] = {}
    witnesses: dict[str, Series] = {}
    notes = []
    for stream, channel in facts.channels.items():
        segment = facts.segments[stream]
        gaps = tuple(gap for gap in facts.gaps if gap.stream == stream)
        by_role = booked if channel.role is Role.LEDGER else witnesses
        if channel.part in by_role:
            notes.append(f"{stream}: {channel.part} already has a {channel.role.value} stream; this one is not used")
            continue
        by_role[channel.part] = Series(channel, segment.t_ns, segment.count, gaps)
    absent = {gone.part: gone for gone in facts.absent}
    for part in absent.keys() & booked.keys():
        notes.append(f"{part}: said to be unreadable ({absent[part].reason}) and read all the same; it is booked")
    for part in witnesses.keys() - booked.keys() - absent.keys():
        reason = "it has a witness stream and none that is booked"
        absent[part] = Absent(part=part, boundary=witnesses[part].channel.boundary, reason=reason)
    series = {part: (ledger, witnesses.get(part)) for part, ledger in booked.items()}
    return series, tuple(gone for part, gone in sorted(absent.items()) if part not in booked), sorted(notes)


def _book(session: _Accounted, idle: Mapping[str, IdlePower | Absent]) -> BookedSession:
    stages = {}
    for stage_id, account in session.account.stages.items():
        gross = tuple(account.gross.values())
        stages[stage_id] = StageEnergies(
            gross=gross, gross_total=combine(gross), net_total=net(gross, idle, account.gross_s)
        )
    return BookedSession(
        facts=session.facts, series=session.series, account=session.account, stages=stages, notes=session.notes
    )


def _idle_power(accounted: Sequence[_Accounted]) -> dict[str, IdlePower | Absent]:
    """Idle power by part over the run's idle stages; empty where it has none."""
    idle = list(_idle_stages(accounted))
    parts: dict[str, list[tuple[Energy | Absent, float]]] = {}
    spread_w: dict[str, list[float]] = {}
    for session, stage in idle:
        account = session.account.stages[stage.stage_id]
        for part, energy in account.gross.items():
            parts.setdefault(part, []).append((energy, account.gross_s))
        for part, (ledger, witness) in session.series.items():
            spread_w.setdefault(part, []).extend(_spread_w(ledger, witness, stage))
    powers: dict[str, IdlePower | Absent] = {}
    for part, entries in parts.items():
        lengths_s = [length_s for _, length_s in entries]
        energy = sum_part([energy for energy, _ in entries], lengths_s)
        powers[part] = idle_power(energy, sum(lengths_s), spread_w.get(part, ()))
    return powers


def _idle_stages(accounted: Sequence[_Accounted]) -> Iterator[tuple[_Accounted, StageFacts]]:
    """The idle stages that came to their end; where none did, those that were cut off, which were idle as well."""
    found = [
        (session, stage)
        for session in accounted
        for stage in session.facts.stages
        if stage.kind is StageKind.IDLE_BASELINE and stage.end_ns > stage.start_ns
    ]
    ended = [entry for entry in found if entry[1].status is StageStatus.ENDED]
    yield from ended or found


def _spread_w(ledger: Series, witness: Series | None, stage: StageFacts) -> Sequence[float]:
    whole_s = int(seconds(stage.end_ns - stage.start_ns))
    count = max(2, min(_MAX_SUB_WINDOWS, whole_s))
    if stage.end_ns - stage.start_ns < count:
        return ()
    return sub_window_w(ledger, witness, stage.start_ns, stage.end_ns, count=count)


def _over_sessions(sessions: Sequence[tuple[Energies, float]]) -> Total | NoTotal:
    """Sum over sessions by part, then over parts (method.md, eqs. 10 and 11)."""
    try:
        parts = merge_parts([energies for energies, _ in sessions], [length_s for _, length_s in sessions])
    except ValueError as err:  # the same part with another boundary in another session cannot be added up
        return NoTotal(reason=str(err))
    return combine(list(parts.values()))
