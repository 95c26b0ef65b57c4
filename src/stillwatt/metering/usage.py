"""Who used a device when, and how its energy is shared between sessions by a stated rule (method.md, eq. 15).

All of it follows from `device_users` events of one host and boot: part names and process numbers mean something there.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from stillwatt.records.usage import DeviceUse, DeviceUser, ProcessId, Rule

Span = tuple[int, int]
"""First nanosecond, and the one after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The measured program of one session.

    Attributes:
        process: by which it and all that descends from it are known; None where the journal does not tell.
        parts: what it may use, as its sampling process said at its start.
        spans: when it has an innermost stage running, or whenever else it is to be given a share.
    """

    process: ProcessId | None
    parts: frozenset[str]
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look tells of a part, with every process given to whom it belongs.

    Attributes:
        sessions: share of the multiprocessors by session that had a process there; None where unknown.
        strangers: the same for each process of no session.
        unknown: processes of which nobody can tell whose they are.
        is_listed: whether processes are seen at all.
        is_capacity: whether shares are of slices of a card in instances, and not of time.
        reason: what the driver said of what is missing.
    """

    sessions: Mapping[str, float | None] = field(default_factory=dict)
    strangers: Mapping[int, float | None] = field(default_factory=dict)
    unknown: int = 0
    is_listed: bool = True
    is_capacity: bool = False
    reason: str = ""


NOT_LOOKED = Seen(is_listed=False, reason="nobody looked at who is on it")


@dataclass(frozen=True, slots=True, kw_only=True)
class UseStep:
    """A span of time in which the same was seen on a part."""

    start_ns: int
    end_ns: int
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Who gets which share of a part's energy at one time.

    Attributes:
        sessions: by session; with `strangers` they sum to 1, unless there is no session to give anything to.
        strangers: what tenants get; 0 unless they are to pay.
        rule: the rule that gave the weights: another than was asked for where that had nothing to go by.
        reason: why another; empty where it is the one.
    """

    sessions: Mapping[str, float]
    strangers: float
    rule: Rule
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareStep:
    """Weights of one part over a span of time."""

    start_ns: int
    end_ns: int
    weights: Weights
    seen: Seen


def use_steps(
    uses: Iterable[DeviceUse], programs: Mapping[str, Program], start_ns: int, end_ns: int
) -> Mapping[str, tuple[UseStep, ...]]:
    """What was seen on each part from `start_ns` to `end_ns`, without a hole (method.md, eq. 15).

    A look holds from the look before it until the next event's; before the first, nobody looked. A process belongs to
    the session whose program is nearest to it in its chain of ancestors.

    Args:
        uses: looks of one host and boot, in any order.
        programs: by session.
        start_ns: where the steps begin.
        end_ns: where they end.

    Returns:
        By part that was looked at; adjoining steps differ.

    >>> user = DeviceUser(pid=7, chain=(ProcessId(7, 70), ProcessId(5, 50)))
    >>> look = DeviceUse(part="gpu0", since_ns=10, t_ns=20, users=(user,))
    >>> program = Program(process=ProcessId(5, 50), parts=frozenset({"gpu0"}))
    >>> [(step.start_ns, dict(step.seen.sessions)) for step in use_steps([look], {"s": program}, 0, 99)["gpu0"]]
    [(0, {}), (10, {'s': None})]
    """
    owners = {program.process: session for session, program in sorted(programs.items()) if program.process is not None}
    by_part: dict[str, list[DeviceUse]] = defaultdict(list)
    for use in uses:
        by_part[use.part].append(use)
    steps = {}
    for part in sorted(by_part):
        looks = sorted(by_part[part], key=lambda use: (use.since_ns, use.t_ns))
        marks = [(start_ns, NOT_LOOKED), *((use.since_ns, _seen(use, owners)) for use in looks)]
        steps[part] = tuple(_steps(marks, start_ns, end_ns))
    return steps


def _steps(marks: Sequence[tuple[int, Seen]], start_ns: int, end_ns: int) -> Iterator[UseStep]:
    begun_ns, seen = start_ns, NOT_LOOKED
    for mark_ns, then in marks:
        now_ns = min(max(mark_ns, start_ns), end_ns)
        if then != seen:
            if now_ns > begun_ns:
                yield UseStep(start_ns=begun_ns, end_ns=now_ns, seen=seen)
            begun_ns, seen = now_ns, then
    if end_ns > begun_ns:
        yield UseStep(start_ns=begun_ns, end_ns=end_ns, seen=seen)


def _seen(use: DeviceUse, owners: Mapping[ProcessId, str]) -> Seen:
    if use.users is None:
        return Seen(is_listed=False, reason=use.reason)
    shares = _capacity_shares(use) if use.instances else [user.sm_share for user in use.users]
    sessions: dict[str, list[float | None]] = defaultdict(list)
    strangers: dict[int, list[float | None]] = defaultdict(list)
    for user, share in zip(use.users, shares, strict=True):
        if user.is_unknown:
            continue
        owner = next((owners[above] for above in user.chain if above in owners), None)
        if owner is None:
            strangers[user.pid].append(share)
        else:
            sessions[owner].append(share)
    return Seen(
        sessions=MappingProxyType({session: _sum(sessions[session]) for session in sorted(sessions)}),
        strangers=MappingProxyType({pid: _sum(strangers[pid]) for pid in sorted(strangers)}),
        unknown=sum(user.is_unknown for user in use.users),
        is_capacity=bool(use.instances),
        reason=use.reason,
    )


def _capacity_shares(use: DeviceUse) -> list[float | None]:
    """Shares by slices: those of a process's instance over the card's, divided by the processes in it."""
    slices = {instance.name: instance.slices for instance in use.instances}
    users: Sequence[DeviceUser] = use.users or ()
    company = [sum(other.instance == user.instance for other in users) for user in users]
    return [
        slices[user.instance] / use.slices / others if use.slices and user.instance in slices else None
        for user, others in zip(users, company, strict=True)
    ]


def _sum(shares: Collection[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return min(math.fsum(known), 1.0) if len(known) == len(shares) else None


def weigh(seen: Seen, sessions: Collection[str], rule: Rule, *, tenants_pay: bool = False) -> Weights:
    """How a part's energy is shared between sessions at one time (method.md, eq. 15).

    Args:
        seen: who was on the part.
        sessions: those that something may be given to.
        rule: how.
        tenants_pay: whether strangers get a share, which is then in nobody's account; else theirs stays with the run.

    Returns:
        Weights that sum to 1 with the strangers'; none where there is no session.

    >>> seen = Seen(sessions={"a": 0.75, "b": 0.25})
    >>> dict(weigh(seen, ["a", "b"], Rule.UTILISATION).sessions)
    {'a': 0.75, 'b': 0.25}
    >>> dict(weigh(seen, ["a", "b"], Rule.EVEN).sessions)
    {'a': 0.5, 'b': 0.5}
    """
    if not sessions:
        return Weights(sessions={}, strangers=0.0, rule=rule)
    reason = ""
    tenants = tuple(seen.strangers.values()) if tenants_pay else ()
    tenant = 1.0 if tenants else 0.0
    amounts: Mapping[str, float] | None = None
    if rule is Rule.UTILISATION:
        amounts, reason = _by_utilisation(seen, sessions, tenants)
        if amounts is not None:
            tenant = _sum(tenants) or 0.0
        else:
            rule = Rule.PROCESS
    if rule is Rule.PROCESS:
        amounts, why = _by_process(seen, sessions)
        if amounts is None:
            rule = Rule.EVEN
            reason = why if not reason else f"{reason}; {why}"
    if amounts is None:
        amounts = dict.fromkeys(sessions, 1.0)
    whole = math.fsum([*amounts.values(), tenant])
    shared = MappingProxyType({session: amounts[session] / whole for session in sorted(amounts)})
    return Weights(sessions=shared, strangers=tenant / whole, rule=rule, reason=reason)


def _by_utilisation(
    seen: Seen, sessions: Collection[str], tenants: Sequence[float | None]
) -> tuple[Mapping[str, float] | None, str]:
    """Amounts by share of the multiprocessors, or why there are none."""
    if not seen.is_listed or seen.unknown:
        return None, ""  # why is what the next rule says
    amounts = {session: seen.sessions.get(session, 0.0) for session in sessions}
    whole = _sum([*amounts.values(), *tenants])
    if whole is None:
        return None, f"shares of the multiprocessors are not known{_because(seen)}"
    if not whole:
        return None, "no process computed"
    return {session: amount or 0.0 for session, amount in amounts.items()}, ""


def _by_process(seen: Seen, sessions: Collection[str]) -> tuple[Mapping[str, float] | None, str]:
    """1 for each session with a process there, or why nobody can tell."""
    if not seen.is_listed:
        return None, f"its processes are not seen{_because(seen)}"
    if seen.unknown:
        return None, f"some of its processes cannot be told{_because(seen)}"
    present = {session: 1.0 if session in seen.sessions else 0.0 for session in sessions}
    if not any(present.values()):
        return None, "no session had a process on it"
    return present, ""


def _because(seen: Seen) -> str:
    return f" ({seen.reason})" if seen.reason else ""


def shares(
    uses: Sequence[DeviceUse],
    programs: Mapping[str, Program],
    *,
    rule: Rule,
    start_ns: int,
    end_ns: int,
    tenants_pay: bool = False,
) -> Mapping[str, tuple[ShareStep, ...]]:
    """Weights of every part over time, each session counting while its `spans` last (method.md, eq. 15).

    A session is given nothing of a part that it may not use, unless its processes were seen there all the same.

    Returns:
        By part that a program may use or that was looked at; steps lie one after the other from `start_ns` to
        `end_ns`.
    """
    seen = use_steps(uses, programs, start_ns, end_ns)
    parts = sorted({*seen, *(part for program in programs.values() for part in program.parts)})
    blank = (UseStep(start_ns=start_ns, end_ns=end_ns, seen=NOT_LOOKED),) if end_ns > start_ns else ()
    marks, active = _activity(programs, start_ns, end_ns)
    found: dict[str, tuple[ShareStep, ...]] = {}
    for part in parts:
        allowed = {session for session, program in programs.items() if part in program.parts}
        found[part] = tuple(
            ShareStep(
                start_ns=from_ns,
                end_ns=to_ns,
                seen=step.seen,
                weights=weigh(step.seen, now & (allowed | step.seen.sessions.keys()), rule, tenants_pay=tenants_pay),
            )
            for step in seen.get(part, blank)
            for from_ns, to_ns, now in _pieces(step, marks, active)
        )
    return found


def _activity(
    programs: Mapping[str, Program], start_ns: int, end_ns: int
) -> tuple[Sequence[int], Sequence[frozenset[str]]]:
    """From when on which sessions count; the first from `start_ns`."""
    changes: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for session, program in programs.items():
        for first_ns, last_ns in program.spans:
            changes[min(max(first_ns, start_ns), end_ns)][session] += 1
            changes[min(max(last_ns, start_ns), end_ns)][session] -= 1
    marks, active = [start_ns], [frozenset[str]()]
    running: dict[str, int] = defaultdict(int)
    for mark_ns in sorted(changes):
        for session, change in changes[mark_ns].items():
            running[session] += change
        marks.append(mark_ns)
        active.append(frozenset(session for session, spans in running.items() if spans > 0))
    return marks, active


def _pieces(
    step: UseStep, marks: Sequence[int], active: Sequence[frozenset[str]]
) -> Iterator[tuple[int, int, frozenset[str]]]:
    """A step cut where sessions begin and end."""
    first, last = bisect_right(marks, step.start_ns), bisect_left(marks, step.end_ns)
    bounds = [step.start_ns, *marks[first:last], step.end_ns]
    for number, (from_ns, to_ns) in enumerate(pairwise(bounds)):
        yield from_ns, to_ns, active[first - 1 + number]
