"""Idle and standing power of a run's parts, from its own sessions (method.md, eqs. 13, 16, 16a and 18)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from stillwatt.ledger.machines import Accounted as Placed
from stillwatt.ledger.machines import Device, devices, labels
from stillwatt.ledger.places import part_users
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.sharing import Sharing
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.attribute import WeightedWindow, ancestors, exclusive_windows
from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.idle import Baseline, When, baseline
from stillwatt.metering.rest import CONTAMINATED, Rest, examine, joined, summed_ns
from stillwatt.metering.series import Series
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.window import StageKind, StageStatus, StageWindow
from stillwatt.sensors.host_model import utilisation
from stillwatt.units import NS_PER_MS, NS_PER_S, seconds

LEAST_STANDING_S = 5.0
"""Standing power rests on at least this much time between stages."""
_LEAST_PAUSE_NS = NS_PER_S
"""A pause between stages shorter than this is one stage's end and the next one's beginning."""
_EDGE_NS = 250 * NS_PER_MS
"""Left out at both ends of a pause: what a stage began may run on past its mark."""
_BUSY = 0.1
"""A machine whose CPUs are busier than this in all of an idle stage is not at rest."""


class Accounted(Placed, Protocol):
    """A place with its streams and its account, and who else was seen on its devices."""

    @property
    def sharing(self) -> Sharing:
        """Who else was seen on its devices."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baselines:
    """Baseline powers of a run's devices.

    Attributes:
        found: by label: the part's name, and its machine where several have a part of that name.
        devices: for each place of the run, in their order, the device behind each part.
        powers: for each place the power by part; absent where only another machine's part of that name has one.
    """

    found: Mapping[str, Baseline]
    devices: tuple[Mapping[str, Device], ...]
    powers: tuple[Mapping[str, IdlePower | Absent], ...]


NO_BASELINES = Baselines(found={}, devices=(), powers=())


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """When the run worked, on the wall clock of its labels; None where it never did."""

    first_utc_ns: int | None
    last_utc_ns: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _Alone:
    """When an idle stage had a part to itself.

    Attributes:
        windows: of that time, what no earlier idle stage gave already: ranks may rest side by side.
        shared_ns: how long others worked, or stages inside it ran.
    """

    windows: tuple[WeightedWindow, ...]
    shared_ns: int


def idle_baselines(found: Sequence[Accounted]) -> Baselines:
    """Idle power of each device over all of the run's idle stages; none where it has none."""
    work = _work(found)
    known = devices(found)
    rests: dict[Device, dict[When, list[Rest]]] = defaultdict(lambda: defaultdict(list))
    idle = _idle_stages(found)
    for place, own in zip(found, known, strict=True):
        stages = [(session, stage) for owner, session, stage in idle if owner is place]
        for part, sessions in _users(place).items() if stages else ():
            for (session, stage), rest in _rests(place, part, sessions, stages):
                rests[own[part]][_when(session, stage, work)].append(rest)
    return _baselines(found, known, rests, "idle")


def standing_baselines(found: Sequence[Accounted]) -> Baselines:
    """What devices drew between stages, with the run open and nothing asked of it (method.md, eq. 18).

    Those whose time between stages, in pauses of a second and more, is shorter than `LEAST_STANDING_S` have none.
    """
    known = devices(found)
    rests: dict[Device, list[Rest]] = defaultdict(list)
    pause_ns: dict[Device, int] = defaultdict(int)
    for place, own in zip(found, known, strict=True):
        for part, sessions in _users(place).items():
            pauses = _pauses(sessions)
            if pauses and part in place.series:
                pause_ns[own[part]] += summed_ns(pauses)
                rests[own[part]].append(examine(*place.series[part], pauses))
    long = {
        device: {When.BETWEEN: entries}
        for device, entries in rests.items()
        if pause_ns[device] >= LEAST_STANDING_S * NS_PER_S
    }
    return _baselines(found, known, long, "standing")


def _baselines(
    found: Sequence[Accounted],
    known: tuple[Mapping[str, Device], ...],
    rests: Mapping[Device, Mapping[When, Sequence[Rest]]],
    name: str,
) -> Baselines:
    everywhere = list(dict.fromkeys(device for own in known for device in own.values() if device in rests))
    # a part that other machines have too, without a rest, needs its place said as well
    where = labels(found, list(dict.fromkeys(device for own in known for device in own.values())))
    made = {device: baseline(device.part, rests[device], name=name, where=where[device]) for device in everywhere}
    parts = {device.part for device in made}
    powers = []
    for place, own in zip(found, known, strict=True):
        here: dict[str, IdlePower | Absent] = {}
        for part in (part for part in own if part in parts):
            boundary, device = place.account.total[part].boundary, own[part]
            reason = f"measured on another machine or device only, and not on {device.device or 'this one'}"
            here[part] = made[device].power if device in made else Absent(part=part, boundary=boundary, reason=reason)
        powers.append(here)
    by_label = {each.label: each for each in made.values()}
    return Baselines(found=by_label, devices=known, powers=tuple(powers))


def _rests(
    place: Accounted, part: str, sessions: Sequence[SessionFacts], idle: Sequence[tuple[SessionFacts, StageFacts]]
) -> Iterator[tuple[tuple[SessionFacts, StageFacts], Rest]]:
    """One part over the idle stages of sessions that use it, as far as nothing else ran beside them."""
    mine = [(session, stage) for session, stage in idle if part in place.account.stages[stage.stage_id].gross]
    if not mine:
        return  # its sessions may not even have begun a stage
    alone = _alone(sessions, [stage for _, stage in mine])
    for session, stage in mine:
        account = place.account.stages[stage.stage_id]
        whole, whole_s = account.gross[part], account.gross_s[part]
        own = alone[stage.stage_id]
        if isinstance(whole, Absent) or part not in place.series:
            yield (session, stage), Rest(energy=whole, used_s=whole_s)
        elif own.windows:
            yield (session, stage), _rest(place, part, stage, own)
        elif own.shared_ns == stage.end_ns - stage.start_ns:
            reason = "other stages ran during all of the idle stage"
            energy = Absent(part=part, boundary=whole.boundary, reason=reason)
            yield (session, stage), Rest(energy=energy, used_s=whole_s)


def _alone(sessions: Sequence[SessionFacts], idle: Sequence[StageFacts]) -> dict[str, _Alone]:
    """By idle stage, when it had the sessions' parts to itself, or shared them with other idle stages only."""
    stages = [(session, stage) for session in sessions for stage in session.stages if stage.end_ns > stage.start_ns]
    owned = exclusive_windows(
        [_window(session, stage) for session, stage in stages], *_span([stage for _, stage in stages])
    )
    resting = {stage.stage_id for stage in idle}
    taken = [window for owner, own in owned.items() if owner is not None and owner not in resting for window in own]
    found: dict[str, _Alone] = {}
    others: list[WeightedWindow] = []
    for stage in idle:
        quiet = _less(owned[stage.stage_id], taken)
        shared_ns = stage.end_ns - stage.start_ns - summed_ns(quiet)
        found[stage.stage_id] = _Alone(tuple(_less(quiet, others)), shared_ns)
        others += quiet
    return found


def _less(windows: Sequence[WeightedWindow], taken: Sequence[WeightedWindow]) -> list[WeightedWindow]:
    """What of the windows lies in none of the others, with all its weight; windows that touch are one."""
    left: list[WeightedWindow] = []
    for window in windows:
        start_ns = window.start_ns
        for other in sorted(taken, key=lambda each: each.start_ns):
            if other.end_ns > start_ns and other.start_ns < window.end_ns:
                if other.start_ns > start_ns:
                    left.append(WeightedWindow(start_ns, other.start_ns))
                start_ns = other.end_ns
        if start_ns < window.end_ns:
            left.append(WeightedWindow(start_ns, window.end_ns))
    return joined(left)


def _rest(place: Accounted, part: str, stage: StageFacts, alone: _Alone) -> Rest:
    ledger, witness = place.series[part]
    marks_ns = [
        mark_ns
        for session in place.place.sessions
        for each in session.stages
        for mark_ns in (each.start_ns, each.end_ns)
    ]
    account = place.account.stages[stage.stage_id]
    is_whole = account.gross_s[part] == seconds(summed_ns(alone.windows)) == seconds(stage.end_ns - stage.start_ns)
    whole = account.gross[part] if is_whole else None
    rest = examine(ledger, witness, alone.windows, whole=whole, marks_ns=marks_ns)
    problems = list(rest.problems)
    if alone.shared_ns:
        shared_s = float(seconds(alone.shared_ns))
        problems.append(f"{CONTAMINATED}: other stages ran during {shared_s:.3g} s of it, which are left out")
    problems += _tenants(place, rest, stage)
    busy = _busy(ledger, rest)
    if busy is not None and busy > _BUSY:
        problems.append(f"{CONTAMINATED}: the machine's CPUs were {100 * busy:.0f} % busy in what is used of it")
    return replace(rest, problems=tuple(problems))


def _tenants(place: Accounted, rest: Rest, stage: StageFacts) -> list[str]:
    """What is said of others who were seen on the part meanwhile."""
    (flagged,) = place.sharing.flagged([rest.energy], stage.start_ns, stage.end_ns)
    known = rest.energy.flags if isinstance(rest.energy, Energy) else ()
    new = flagged.flags[len(known) :] if isinstance(flagged, Energy) else ()
    return [f"{CONTAMINATED}: {flag}" for flag in new]


def _busy(ledger: Series, rest: Rest) -> float | None:
    """Mean utilisation behind a modelled CPU power; None where the part is metered or not known."""
    if isinstance(rest.energy, Absent) or not rest.used_s > 0:
        return None
    return utilisation(ledger.channel, rest.energy.value_j / rest.used_s)


def _users(place: Accounted) -> dict[str, list[SessionFacts]]:
    """By part of the account, the sessions whose program uses it."""
    users, _ = part_users(place.place, place.account.total)
    sessions = place.place.sessions
    return {
        part: [session for session in sessions if part not in users or session.session in users[part]]
        for part in place.account.total
    }


def _idle_stages(found: Sequence[Accounted]) -> list[tuple[Accounted, SessionFacts, StageFacts]]:
    """The idle stages that came to their end; where none did, those that were cut off, which were idle as well."""
    idle = [
        (place, session, stage)
        for place in found
        for session in place.place.sessions
        for stage in session.stages
        if stage.kind is StageKind.IDLE_BASELINE and stage.end_ns > stage.start_ns
    ]
    return [entry for entry in idle if entry[2].status is StageStatus.ENDED] or idle


def _work(found: Sequence[Accounted]) -> _Work:
    spans = [
        (_utc_ns(session, stage.start_ns), _utc_ns(session, stage.end_ns))
        for place in found
        for session in place.place.sessions
        for stage in _working(session)
    ]
    return _Work(min((start for start, _ in spans), default=None), max((end for _, end in spans), default=None))


def _working(facts: SessionFacts) -> list[StageFacts]:
    """Stages that are no rest and hold none: one around a whole study does not tell when the study works."""
    above = ancestors([_window(facts, stage) for stage in facts.stages])
    idle = {stage.stage_id for stage in facts.stages if stage.kind is StageKind.IDLE_BASELINE}
    around = {parent for stage_id in idle for parent in above[stage_id]}
    return [stage for stage in facts.stages if stage.stage_id not in idle | around]


def _when(facts: SessionFacts, stage: StageFacts, work: _Work) -> When:
    start_ns, end_ns = _utc_ns(facts, stage.start_ns), _utc_ns(facts, stage.end_ns)
    if work.first_utc_ns is None or work.last_utc_ns is None or end_ns <= work.first_utc_ns:
        return When.BEFORE
    return When.AFTER if start_ns >= work.last_utc_ns else When.BETWEEN


def _pauses(sessions: Sequence[SessionFacts]) -> list[WeightedWindow]:
    """Unallocated time between their first and their last working stage, without its edges."""
    working = [stage for session in sessions for stage in _working(session) if stage.end_ns > stage.start_ns]
    if not working:
        return []
    first_ns, last_ns = _span(working)
    windows = [
        _window(session, stage) for session in sessions for stage in session.stages if stage.end_ns > stage.start_ns
    ]
    return [
        WeightedWindow(window.start_ns + _EDGE_NS, window.end_ns - _EDGE_NS)
        for window in exclusive_windows(windows, first_ns, last_ns)[None]
        if window.end_ns - window.start_ns >= _LEAST_PAUSE_NS
    ]


def _span(stages: Sequence[StageFacts]) -> tuple[int, int]:
    return min(stage.start_ns for stage in stages), max(stage.end_ns for stage in stages)


def _window(facts: SessionFacts, stage: StageFacts) -> StageWindow:
    return StageWindow(
        session=facts.session,
        stage_id=stage.stage_id,
        parent_id=stage.parent_id,
        start_ns=stage.start_ns,
        end_ns=stage.end_ns,
    )


def _utc_ns(facts: SessionFacts, t_ns: int) -> int:
    return facts.start_utc_ns + t_ns - facts.start_ns
