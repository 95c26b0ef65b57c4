"""What is said of devices that were not a run's alone, and of rules that had nothing to go by (method.md, eq. 15)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.metering.usage import Program, Seen, ShareStep, Span, UseStep
from stillwatt.records.usage import Rule
from stillwatt.units import seconds

_IDLE_SHARE = 0.005
"""What a share of the multiprocessors must reach to be more than rounding: drivers give whole percents."""
_NAMED = 3
"""How many processes a sentence names by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """Strangers on one part.

    Attributes:
        pids: their process numbers.
        shared_s: seconds in which one was there.
        length_s: seconds that were looked at in all.
        most_share: the largest share of the multiprocessors that they had together; None where it is never known.
        is_idle: whether it is known that none of them ever computed: a window system, a forgotten notebook.
        is_capacity: whether that is of slices of a card in instances.
    """

    pids: tuple[int, ...]
    shared_s: float
    length_s: float
    most_share: float | None
    is_idle: bool
    is_capacity: bool


def tenancy(steps: Sequence[UseStep], spans: Sequence[Span]) -> Tenancy | None:
    """Strangers on a part during some spans of time; None where none was seen.

    >>> step = UseStep(start_ns=0, end_ns=9_000_000_000, seen=Seen(strangers={4711: 0.8}))
    >>> tenancy([step], [(0, 6_000_000_000)]).shared_s
    6.0
    """
    shared = [(length_ns, seen) for length_ns, seen in _seen_in(steps, spans) if seen.strangers]
    if not shared:
        return None
    together = [_together(seen) for _, seen in shared]
    known = [share for share in together if share is not None]
    return Tenancy(
        pids=tuple(sorted({pid for _, seen in shared for pid in seen.strangers})),
        shared_s=seconds(sum(length_ns for length_ns, _ in shared)),
        length_s=seconds(sum(max(last_ns - first_ns, 0) for first_ns, last_ns in spans)),
        most_share=max(known, default=None),
        is_idle=len(known) == len(together) and max(known) < _IDLE_SHARE,
        is_capacity=any(seen.is_capacity for _, seen in shared),
    )


def shared_flag(steps: Sequence[UseStep], spans: Sequence[Span]) -> str | None:
    """The flag of an energy whose part was not the run's alone; None where it was, as far as it was seen.

    A stranger that is known not to have computed is no reason for a flag; `findings` tells of it.

    >>> step = UseStep(start_ns=0, end_ns=9_000_000_000, seen=Seen(strangers={4711: 0.8}))
    >>> shared_flag([step], [(3_000_000_000, 12_000_000_000)])
    'shared: processes of others were on it for 6.0 s of 9.0 s, with up to 80 % of its multiprocessors'
    """
    found = tenancy(steps, spans)
    if found is None or found.is_idle:
        return None
    return f"shared: processes of others were on it for {_length(found)}{_most(found, ', with up to ')}"


def findings(
    steps: Mapping[str, Sequence[UseStep]], programs: Mapping[str, Program], start_ns: int, end_ns: int
) -> tuple[str, ...]:
    """What the reader should know of each part's users, in words.

    >>> step = UseStep(start_ns=0, end_ns=34_000_000_000, seen=Seen(strangers={4711: 0.8}))
    >>> findings({"gpu1": [step]}, {}, 0, 120_000_000_000)
    ('gpu1: another process (pid 4711, not of this run) used it for 34 s of 120 s, up to 80 % of its multiprocessors',)
    """
    spans = [(start_ns, end_ns)]
    return tuple(
        f"{part}: {words}"
        for part in sorted(steps)
        for words in (
            *_of_instances(steps[part], spans),
            *_of_strangers(steps[part], spans),
            *_of_unseen(steps[part]),
            *_of_uninvited(part, steps, programs),
        )
    )


def fallbacks(steps: Mapping[str, Sequence[ShareStep]], rule: Rule) -> tuple[str, ...]:
    """For how long which other rule shared a part between several sessions, and why.

    >>> from stillwatt.metering.usage import weigh
    >>> seen = Seen(sessions={"a": 0.0, "b": 0.0})
    >>> step = ShareStep(
    ...     start_ns=0, end_ns=12_000_000_000, seen=seen, weights=weigh(seen, ["a", "b"], Rule.UTILISATION)
    ... )
    >>> fallbacks({"gpu0": [step]}, Rule.UTILISATION)
    ('gpu0: for 12 s shared by `process` and not by `utilisation`: no process computed',)
    """
    lines = []
    for part in sorted(steps):
        lengths_ns: dict[tuple[Rule, str], int] = {}
        for step in steps[part]:
            if len(step.weights.sessions) > 1 and step.weights.rule is not rule:
                key = (step.weights.rule, step.weights.reason)
                lengths_ns[key] = lengths_ns.get(key, 0) + step.end_ns - step.start_ns
        lines += [
            f"{part}: for {_seconds(seconds(length_ns))} shared by `{used}` and not by `{rule}`: {reason}"
            for (used, reason), length_ns in lengths_ns.items()
        ]
    return tuple(lines)


def _of_instances(steps: Sequence[UseStep], spans: Sequence[Span]) -> Iterator[str]:
    """How much of a card in instances is the run's own, as the whole card is billed to it (method.md, eq. 15)."""
    held = [(length_ns, _own_slices(seen)) for length_ns, seen in _seen_in(steps, spans) if seen.is_capacity]
    lengths_ns = [length_ns for length_ns, share in held if share != 0.0]
    known = sorted(share for _, share in held if share)
    is_told = all(share is not None for _, share in held)
    if not lengths_ns:
        return
    percent = dict.fromkeys(f"{100 * share:.0f}" for share in (known[:1] + known[-1:]))
    how_much = f"{' to '.join(percent)} % of its slices"
    if not is_told:
        how_much = "some of its slices (the driver does not tell how many)"
    whole_ns = sum(max(last_ns - first_ns, 0) for first_ns, last_ns in spans)
    length = f"{_seconds(seconds(sum(lengths_ns)))} of {_seconds(seconds(whole_ns))}"
    yield f"a card in instances (MIG): this run had {how_much} for {length}; the whole card is billed"


def _own_slices(seen: Seen) -> float | None:
    """The sessions' share of a card's slices together; None where one's is not known."""
    known = [share for share in seen.sessions.values() if share is not None]
    return min(math.fsum(known), 1.0) if len(known) == len(seen.sessions) else None


def _of_strangers(steps: Sequence[UseStep], spans: Sequence[Span]) -> Iterator[str]:
    found = tenancy(steps, spans)
    if found is None:
        return
    named = ", ".join(map(str, found.pids[:_NAMED])) + (", …" if len(found.pids) > _NAMED else "")
    who = (
        f"another process (pid {named}, not of this run)"
        if len(found.pids) == 1
        else f"{len(found.pids)} other processes (pids {named}, not of this run)"
    )
    yield f"{who} used it for {_length(found)}{_most(found, ', up to ')}"


def _of_unseen(steps: Sequence[UseStep]) -> Iterator[str]:
    """Times in which it is not known who else was there, by reason."""
    lengths_ns: dict[str, int] = {}
    for step in steps:
        words = _unseen(step.seen)
        if words:
            lengths_ns[words] = lengths_ns.get(words, 0) + step.end_ns - step.start_ns
    for words, length_ns in lengths_ns.items():
        yield f"for {_seconds(seconds(length_ns))} it is not known who used it: {words}"


def _unseen(seen: Seen) -> str:
    if not seen.is_listed:
        return seen.reason
    return (seen.reason or "processes that nobody can place") if seen.unknown else ""


def _of_uninvited(part: str, steps: Mapping[str, Sequence[UseStep]], programs: Mapping[str, Program]) -> Iterator[str]:
    """Sessions that were on a part which their environment, as it was at the start, does not let them use."""
    lengths_ns: dict[str, int] = {}
    for step in steps[part]:
        for session in step.seen.sessions:
            if session in programs and part not in programs[session].parts:
                lengths_ns[session] = lengths_ns.get(session, 0) + step.end_ns - step.start_ns
    for session in sorted(lengths_ns):
        length = _seconds(seconds(lengths_ns[session]))
        told = "check what chooses its cards (CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES)"
        yield f"session {session} used it for {length} although it could not when it began; {told}"


def _seen_in(steps: Sequence[UseStep], spans: Sequence[Span]) -> Iterator[tuple[int, Seen]]:
    """What was seen in some spans of time, each with its nanoseconds in one of them."""
    for first_ns, last_ns in spans:
        begin = bisect_right(steps, first_ns, key=lambda step: step.end_ns)
        end = bisect_left(steps, last_ns, key=lambda step: step.start_ns)
        for step in steps[begin:end]:
            yield min(step.end_ns, last_ns) - max(step.start_ns, first_ns), step.seen


def _together(seen: Seen) -> float | None:
    """The strangers' share of the multiprocessors; None where one's is not known."""
    known = [share for share in seen.strangers.values() if share is not None]
    return min(math.fsum(known), 1.0) if len(known) == len(seen.strangers) else None


def _most(found: Tenancy, before: str) -> str:
    if found.most_share is None:
        return ""
    of_what = "slices" if found.is_capacity else "multiprocessors"
    return f"{before}{100 * found.most_share:.0f} % of its {of_what}"


def _length(found: Tenancy) -> str:
    return f"{_seconds(found.shared_s)} of {_seconds(found.length_s)}"


def _seconds(length_s: float) -> str:
    return f"{length_s:.1f} s" if length_s < 10 else f"{length_s:.0f} s"
