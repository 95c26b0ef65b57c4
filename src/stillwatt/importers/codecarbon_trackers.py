"""CodeCarbon's trackers that ran at one time on one machine: each has counted all of it, and their sum counts it again.

A file does not name its machine, so that models, counts and memory have to tell; nothing is left out for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import islice

from stillwatt.importers.model import ImportedRun
from stillwatt.units import NS_PER_S

_COUNTED = {"machine": "the machine", "process": "its GPUs"}
"""By tracking mode: what every tracker counts all of, whichever process it is of."""
_MACHINE = ("cpu_model", "cpu_count", "gpu_model", "gpu_count", "ram_total_size", "cloud_provider", "cloud_region")
_MOST_NAMED = 8
_SLACK_NS = NS_PER_S
"""Ends are written in whole seconds, so that a run may seem to begin before the one that it came after has ended."""


@dataclass(frozen=True, slots=True)
class _Together:
    """Which runs went on beside one, and how many did at most at one time, itself included."""

    others: tuple[str, ...]
    """The first of them."""
    num_others: int
    num_at_once: int


def with_trackers_said(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """Runs, in their order, with a word where others have counted the same machine at the same time."""
    by_machine: dict[tuple[object, ...], list[ImportedRun]] = {}
    for run in runs:
        if key := _machine(run):
            by_machine.setdefault(key, []).append(run)
    said = {run.identity: _sentence(run, beside) for own in by_machine.values() for run, beside in _overlaps(own)}
    return [replace(run, warnings=(*run.warnings, said[run.identity])) if run.identity in said else run for run in runs]


def _machine(run: ImportedRun) -> tuple[object, ...]:
    """What a run tells of its machine; nothing where it does not tell enough, or counted only its own share."""
    told, mode = run.environment, run.settings.get("tracking_mode")
    is_told = told.get("gpu_model") or (mode == "machine" and told.get("cpu_model"))
    return (mode, run.host, *(told.get(name) for name in _MACHINE)) if mode in _COUNTED and is_told else ()


def _overlaps(runs: Sequence[ImportedRun]) -> Iterator[tuple[ImportedRun, _Together]]:
    """Those of some runs that went on beside others, by one sweep in the order they began."""
    ordered = sorted(runs, key=lambda run: (run.start_utc_ns, -_end_ns(run), run.identity))
    starts_ns = [run.start_utc_ns for run in ordered]
    ends_ns = [_end_ns(run) - _SLACK_NS for run in ordered]
    going_on: list[tuple[int, int]] = []  # a heap of ends and places
    places: dict[int, None] = {}  # the same, in order
    first: list[list[int]] = []
    num_before: list[int] = []
    for place, start_ns in enumerate(starts_ns):
        while going_on and going_on[0][0] <= start_ns:
            del places[heappop(going_on)[1]]
        first.append(list(islice(places, _MOST_NAMED)))
        num_before.append(len(places))
        heappush(going_on, (ends_ns[place], place))
        places[place] = None
    for place, run in enumerate(ordered):
        stop = bisect_left(starts_ns, ends_ns[place], lo=place + 1)
        if num_others := num_before[place] + stop - place - 1:
            named = [*first[place], *range(place + 1, stop)[:_MOST_NAMED]][:_MOST_NAMED]
            num_at_once = 1 + max(num_before[place:stop])
            yield run, _Together(tuple(ordered[p].identity for p in named), num_others, num_at_once)


def _end_ns(run: ImportedRun) -> int:
    return max(session.span_utc_ns[1] for session in run.sessions)


def _sentence(run: ImportedRun, beside: _Together) -> str:
    more = beside.num_others - len(beside.others)
    named = ", ".join(beside.others) + (f" and {more} more" if more else "")
    mode = run.settings["tracking_mode"]
    return (
        f"tracking_mode={mode}: {named} {'was' if beside.num_others == 1 else 'were'} tracked at the same time, on a "
        f"machine with the same CPU, GPUs and memory; if it is this one, each of them holds all that {_COUNTED[mode]} "
        f"drew, and adding them up counts {_COUNTED[mode]} {beside.num_at_once} times: take one of them alone"
    )
