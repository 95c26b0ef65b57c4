"""Energies of a run's stages and places: series in, totals out (method.md, eqs. 10 to 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.ledger.idle import Baselines, idle_baselines
from stillwatt.ledger.places import Place, SeriesByPart, accounted_span_ns, part_users, place_series, places
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.sharing import Sharing, place_sharing
from stillwatt.ledger.stages import StageFacts
from stillwatt.ledger.stated import with_stated
from stillwatt.metering.account import Energies, Lengths, SessionAccount, SessionInput, account_session
from stillwatt.metering.baseline import IdlePower, net
from stillwatt.metering.either import either
from stillwatt.metering.totals import boundaries, combine, merge_parts, summed_boundary
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.usage import Rule
from stillwatt.records.window import StageWindow

DEFAULT_RULE = Rule.PROCESS
"""Who has a process on a device shares it; equally where drivers tell nothing of processes."""


_NO_END = (
    "the program and its sampling process were both lost after this stage began, and nobody saw how long it lasted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnergies:
    """One stage's energies, itself and its children."""

    gross: tuple[Energy | Absent, ...]
    gross_total: Total | NoTotal
    net_total: Total | NoTotal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookedPlace:
    """Sessions on one machine and clock, with their energies."""

    place: Place
    series: SeriesByPart
    sharing: Sharing
    account: SessionAccount
    boundary: Boundary | None
    """What its stages are summed at: that of what was metered there in all of its time; None where nothing was."""
    stages: Mapping[str, StageEnergies]
    """By stage id."""
    notes: tuple[str, ...]
    """What the reader should know of the readings: resets, parts without a booked stream."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookedRun:
    """All places with their energies, and the sums over them."""

    places: tuple[BookedPlace, ...]
    unallocated: Total | NoTotal
    total: Total | NoTotal
    idle: Baselines
    """Idle power of each device; none where the run has no idle stage."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Accounted:
    place: Place
    series: SeriesByPart
    sharing: Sharing
    account: SessionAccount
    notes: tuple[str, ...]


def book_run(found: Sequence[SessionFacts], *, rule: Rule = DEFAULT_RULE) -> BookedRun:
    """Book energy to the stages of every place and sum over places.

    `rule` says how sessions share a device that several of them use at once (method.md, eq. 15).

    Idle power of a device is taken over all idle stages of the run, so that a session after a kill is net of the same
    idle power as the one before it.
    """
    accounted = [_account(place, rule) for place in places(found)]
    baselines = idle_baselines(accounted)
    booked = tuple(_book(place, idle) for place, idle in zip(accounted, baselines.powers, strict=True))
    accounts = [place.account for place in accounted]
    if accounted and not any(map(_is_read, accounted)):
        nothing = NoTotal(reason="it ended before anything was read")
        return BookedRun(places=booked, unallocated=nothing, total=nothing, idle=baselines)
    total = _over_places([(each.total, each.total_s) for each in accounts], booked)
    return BookedRun(
        places=booked,
        unallocated=_over_places([(each.unallocated, each.unallocated_s) for each in accounts], booked),
        total=_so_far(total, is_end_known=all(_is_end_known(place.place) for place in accounted)),
        idle=baselines,
    )


def _account(place: Place, rule: Rule) -> _Accounted:
    series, absent, notes = place_series(place)
    start_ns, end_ns = accounted_span_ns(place)
    sharing = place_sharing(place, rule, start_ns, end_ns)
    users, idle_parts = part_users(place, [*series, *(gone.part for gone in absent)])
    account = _account_sessions(
        SessionInput(
            windows=[_window(session.session, stage) for session in place.sessions for stage in session.stages],
            start_ns=start_ns,
            end_ns=end_ns,
            series={part: streams for part, streams in series.items() if part not in idle_parts},
            absent=tuple(gone for gone in absent if gone.part not in idle_parts),
            users=users,
            shares=sharing.weights,
        ),
        {stage.stage_id: stage.latest_end_ns for session in place.sessions for stage in session.stages},
    )
    account = with_stated(
        account,
        [line for session in place.sessions for line in session.stated],
        [stage for session in place.sessions for stage in session.stages],
        start_ns,
        end_ns,
    )
    notes += sharing.notes
    beside = sorted(idle_parts & series.keys())
    notes += [f"{part}: measured, and used by no program of this run; it is in no sum" for part in beside]
    return _Accounted(place=place, series=series, sharing=sharing, account=account, notes=(*notes, *account.notes))


def _account_sessions(given: SessionInput, latest_ends_ns: Mapping[str, int]) -> SessionAccount:
    """The account; where stages may have ended later than is known, its intervals hold that of the latest ends."""
    account = account_session(given)
    latest = [replace(window, end_ns=latest_ends_ns[window.stage_id]) for window in given.windows]
    return (
        account if latest == list(given.windows) else either(account, account_session(replace(given, windows=latest)))
    )


def _window(session: str, stage: StageFacts) -> StageWindow:
    return StageWindow(
        session=session,
        stage_id=stage.stage_id,
        parent_id=stage.parent_id,
        start_ns=stage.start_ns,
        end_ns=stage.end_ns,
    )


def _book(accounted: _Accounted, idle: Mapping[str, IdlePower | Absent]) -> BookedPlace:
    stages = {}
    boundary = summed_boundary(boundaries(accounted.account.total.values()))
    facts = {stage.stage_id: stage for session in accounted.place.sessions for stage in session.stages}
    for stage_id, account in accounted.account.stages.items():
        stage = facts[stage_id]
        gross = accounted.sharing.flagged(account.gross.values(), stage.start_ns, stage.end_ns)
        if not stage.is_end_known and stage.end_ns == stage.start_ns:
            gross = tuple(Absent(part=each.part, boundary=each.boundary, reason=_NO_END) for each in gross)
        stages[stage_id] = StageEnergies(
            gross=gross,
            gross_total=_so_far(combine(gross, boundary), is_end_known=stage.is_end_known),
            net_total=_so_far(net(gross, idle, account.gross_s, boundary), is_end_known=stage.is_end_known),
        )
    return BookedPlace(
        place=accounted.place,
        series=accounted.series,
        sharing=accounted.sharing,
        account=accounted.account,
        boundary=boundary,
        stages=stages,
        notes=accounted.notes,
    )


def _so_far(total: Total | NoTotal, *, is_end_known: bool) -> Total | NoTotal:
    """A total that is not complete where more may have been drawn after its last second."""
    return total if is_end_known or isinstance(total, NoTotal) else replace(total, complete=False)


def _is_read(accounted: _Accounted) -> bool:
    """Whether anything is booked of a place: not where its sessions ended before their first reading."""
    start_ns, end_ns = accounted_span_ns(accounted.place)
    return end_ns > start_ns


def _is_end_known(place: Place) -> bool:
    """Whether somebody saw the last of a place's sessions to its end."""
    return all(session.is_end_known or session.end_ns < place.end_ns for session in place.sessions)


def _over_places(drawn: Sequence[tuple[Energies, Lengths]], booked: Sequence[BookedPlace]) -> Total | NoTotal:
    """Sum over places by part, then over parts (method.md, eqs. 10 and 11).

    A place that is summed at another boundary than the others stands beside the sum, which is not complete without it.
    """
    try:
        parts = merge_parts([energies for energies, _ in drawn], [lengths_s for _, lengths_s in drawn])
    except ValueError as err:  # the same part with another boundary in another place cannot be added up
        return NoTotal(reason=str(err))
    boundary = summed_boundary({place.boundary for place in booked if place.boundary is not None})
    return less_places_beside(combine(list(parts.values()), boundary), booked)


def less_places_beside(total: Total | NoTotal, booked: Sequence[BookedPlace]) -> Total | NoTotal:
    """A sum over places, not complete where some are summed at another boundary and so are not in it."""
    if isinstance(total, NoTotal):
        return total
    beside = [each for each in booked if each.boundary not in (None, total.boundary)]
    names = [part for each in beside for part, found in each.account.total.items() if found.boundary is each.boundary]
    if not beside:
        return total
    return replace(total, complete=False, absent=tuple(dict.fromkeys([*total.absent, *names])))
