"""CodeCarbon's trackers that ran at one time on one machine: each has counted all of it, and their sum counts it again.

A file does not name its machine, so that models, counts and memory have to tell; nothing is left out for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import islice
from typing import Any, NamedTuple

from stillwatt.importers.model import ImportedRun
from stillwatt.units import NS_PER_S

_COUNTED = {"machine": "the machine", "process": "its GPUs"}
"""By tracking mode: what every tracker counts all of, whichever process it is of."""
_MACHINE = ("cpu_model", "cpu_count", "gpu_model", "gpu_count", "ram_total_size", "cloud_provider", "cloud_region")
_MOST_NAMED = 8
_SLACK_NS = NS_PER_S
"""Ends are written in whole seconds, so that a run may seem to begin before the one that it came after has ended."""


TRACKED_KEY = "tracked"
"""Where a run's settings, and so its manifest, keep what it tracked and when."""


class Tracked(NamedTuple):
    """One tracker: of which run it was, what it counted all of, and when."""

    run: str
    machine: tuple[object, ...]
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class _Together:
    """Which trackers went on beside one, and how many did at most at one time, itself included."""

    others: tuple[str, ...]
    """The first of them."""
    num_others: int
    num_at_once: int


def facts_of(environment: Mapping[str, Any], mode: str, span_ns: tuple[int, int]) -> dict[str, Any] | None:
    """What a run keeps of its tracker; None where it does not tell its machine, or counted only its own share."""
    is_told = environment.get("gpu_model") or (mode == "machine" and environment.get("cpu_model"))
    if mode not in _COUNTED or not is_told:
        return None
    machine = [mode, *(environment.get(name) for name in _MACHINE)]
    return {"machine": machine, "start_utc_ns": span_ns[0], "end_utc_ns": span_ns[1]}


def tracked(run: str, told: Mapping[str, Any]) -> Tracked | None:
    """A run's tracker, from its settings or from what a manifest keeps of them.

    Args:
        run: What to call it.
        told: `ImportedRun.settings`, or those of a run that was imported before.
    """
    match told.get(TRACKED_KEY):
        case {"machine": [*machine], "start_utc_ns": int(start_ns), "end_utc_ns": int(end_ns)}:
            return Tracked(run, tuple(map(str, machine)), start_ns, end_ns)
    return None


def with_trackers_said(runs: Sequence[ImportedRun], before: Iterable[Tracked] = ()) -> list[ImportedRun]:
    """Runs, in their order, with a word where others have counted the same machine at the same time.

    Args:
        runs: Of any importer.
        before: Trackers of other runs, which were imported earlier.
    """
    by_machine: dict[tuple[object, ...], list[Tracked]] = {}
    found = [own for run in runs if (own := tracked(run.identity, run.settings)) is not None]
    for tracker in (*found, *before):
        by_machine.setdefault(tracker.machine, []).append(tracker)
    said = {own.run: _sentence(own, beside) for group in by_machine.values() for own, beside in _overlaps(group)}
    return [replace(run, warnings=(*run.warnings, said[run.identity])) if run.identity in said else run for run in runs]


def _overlaps(trackers: Sequence[Tracked]) -> Iterator[tuple[Tracked, _Together]]:
    """Those of one machine that went on beside others, by one sweep in the order they began."""
    ordered = sorted(trackers, key=lambda one: (one.start_ns, -one.end_ns, one.run))
    starts_ns = [one.start_ns for one in ordered]
    ends_ns = [one.end_ns - _SLACK_NS for one in ordered]
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
    for place, one in enumerate(ordered):
        stop = bisect_left(starts_ns, ends_ns[place], lo=place + 1)
        if num_others := num_before[place] + stop - place - 1:
            named = [*first[place], *range(place + 1, stop)[:_MOST_NAMED]][:_MOST_NAMED]
            num_at_once = 1 + max(num_before[place:stop])
            yield one, _Together(tuple(ordered[p].run for p in named), num_others, num_at_once)


def _sentence(own: Tracked, beside: _Together) -> str:
    more = beside.num_others - len(beside.others)
    named = ", ".join(beside.others) + (f" and {more} more" if more else "")
    mode = str(own.machine[0])
    return (
        f"tracking_mode={mode}: {named} {'was' if beside.num_others == 1 else 'were'} tracked at the same time, on a "
        f"machine with the same CPU, GPUs and memory; if it is this one, each of them holds all that {_COUNTED[mode]} "
        f"drew, and adding them up counts {_COUNTED[mode]} {beside.num_at_once} times: take one of them alone"
    )
