"""Who owns which seconds: the innermost running stages, sharing equally or as was told (method.md, eqs. 12 and 15)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.records.window import StageWindow


@dataclass(frozen=True, slots=True)
class WeightedWindow:
    """A span of time of which a share `weight` belongs to somebody.

    Attributes:
        start_ns: first nanosecond.
        end_ns: the nanosecond after the last.
        weight: share of the span's energy and seconds, 0 < weight <= 1.
    """

    start_ns: int
    end_ns: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class WeightedSpan:
    """A span of time in which sessions share a part otherwise than equally.

    Attributes:
        start_ns: first nanosecond.
        end_ns: the nanosecond after the last.
        weights: (session, weight), weights at least 0; only their ratios count. Where none of the sessions that have a
            stage running has a weight above 0, their stages share equally.
    """

    start_ns: int
    end_ns: int
    weights: tuple[tuple[str, float], ...]


class _Owners:
    """Sweeps over the marks in time order and keeps each owner's open window."""

    def __init__(self, stages: Sequence[StageWindow]) -> None:
        self.ancestors = ancestors(stages)
        self.weights: Mapping[str, float] = {}
        self._sessions = {stage.stage_id: stage.session for stage in stages}
        self.windows: dict[str | None, list[WeightedWindow]] = {None: []}
        self.windows.update({stage.stage_id: [] for stage in stages})
        self._active: set[str] = set()
        self._active_descendants: dict[str, int] = defaultdict(int)
        self._innermost: set[str] = set()
        self._open: dict[str | None, WeightedWindow] = {}

    def mark(self, stage_id: str, *, starts: bool) -> None:
        """Take a stage into the active ones, or out."""
        if starts:
            self._active.add(stage_id)
        else:
            self._active.discard(stage_id)
        for above in self.ancestors[stage_id]:
            self._active_descendants[above] += 1 if starts else -1
        for touched in (stage_id, *self.ancestors[stage_id]):
            if touched in self._active and not self._active_descendants[touched]:
                self._innermost.add(touched)
            else:
                self._innermost.discard(touched)

    def settle(self, now_ns: int) -> None:
        """Close the windows whose owner or weight changes now, and open the new ones."""
        owners = self._shares()
        for owner in [key for key, window in self._open.items() if owners.get(key) != window.weight]:
            self._close(owner, now_ns)
        for owner in owners.keys() - self._open.keys():
            self._open[owner] = WeightedWindow(now_ns, now_ns, owners[owner])

    def _shares(self) -> dict[str | None, float]:
        """Who owns this moment, with shares that add up to 1; those with none are left out."""
        if not self._innermost:
            return {None: 1.0}
        stages_of: dict[str, list[str]] = defaultdict(list)
        for stage_id in self._innermost:
            stages_of[self._sessions[stage_id]].append(stage_id)
        told = {session: self.weights.get(session, 0.0) for session in stages_of}
        whole = math.fsum(told.values())
        if not whole > 0.0:
            return dict.fromkeys(self._innermost, 1.0 / len(self._innermost))
        return {
            stage_id: told[session] / whole / len(stage_ids)
            for session, stage_ids in stages_of.items()
            for stage_id in stage_ids
            if told[session] > 0.0
        }

    def finish(self, now_ns: int) -> dict[str | None, tuple[WeightedWindow, ...]]:
        """Close everything."""
        for owner in list(self._open):
            self._close(owner, now_ns)
        return {owner: tuple(windows) for owner, windows in self.windows.items()}

    def _close(self, owner: str | None, now_ns: int) -> None:
        window = self._open.pop(owner)
        self.windows[owner].append(WeightedWindow(window.start_ns, now_ns, window.weight))


def exclusive_windows(
    stages: Sequence[StageWindow], start_ns: int, end_ns: int, shares: Sequence[WeightedSpan] = ()
) -> dict[str | None, tuple[WeightedWindow, ...]]:
    """Divide [start_ns, end_ns] among the stages, innermost first (method.md, eqs. 12 and 15).

    In each interval between two marks the active stages that have no active descendant share equally; where `shares`
    tell of it, their sessions share as told, and stages of one session equally. Stages are clipped to the session; a
    stage outlives its parent or has an unknown one without harm.

    Args:
        stages: windows on one clock, in any order.
        start_ns: start of the session.
        end_ns: end of the session.
        shares: how sessions share, in time order, none overlapping another.

    Returns:
        Windows by stage id, in time order; under None those in which no stage ran. Every stage has an entry, if
        an empty one.

    Raises:
        ValueError: two stages have one id, or the session ends before it starts.

    >>> outer = StageWindow(session="s", stage_id="a", parent_id=None, start_ns=0, end_ns=10)
    >>> inner = StageWindow(session="s", stage_id="b", parent_id="a", start_ns=2, end_ns=5)
    >>> exclusive_windows([outer, inner], 0, 12)["b"]
    (WeightedWindow(start_ns=2, end_ns=5, weight=1.0),)
    """
    if end_ns < start_ns:
        raise ValueError(f"a session cannot end ({end_ns}) before it starts ({start_ns})")
    owners = _Owners(stages)
    if len(owners.windows) != len(stages) + 1:
        raise ValueError("two stages of one session have the same id")
    if start_ns == end_ns:
        return {owner: () for owner in owners.windows}
    marks, steps = _marks(stages, start_ns, end_ns), _steps(shares, start_ns, end_ns)
    for now_ns in sorted({*marks, *steps}):
        owners.weights = steps.get(now_ns, owners.weights)
        for stage_id, starts in marks.get(now_ns, ()):
            owners.mark(stage_id, starts=starts)
        if now_ns < end_ns:
            owners.settle(now_ns)
    return owners.finish(end_ns)


def _marks(stages: Sequence[StageWindow], start_ns: int, end_ns: int) -> dict[int, list[tuple[str, bool]]]:
    """Starts (True) and ends of stages by time, clipped to the session; a stage of no length leaves none."""
    marks: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    marks[start_ns] = []
    for stage in stages:
        first, last = max(stage.start_ns, start_ns), min(stage.end_ns, end_ns)
        if first < last:
            marks[first].append((stage.stage_id, True))
            marks[last].append((stage.stage_id, False))
    return marks


def _steps(shares: Sequence[WeightedSpan], start_ns: int, end_ns: int) -> dict[int, Mapping[str, float]]:
    """What weights hold from when on, clipped to the session; none after a step that no other follows at once."""
    steps: dict[int, Mapping[str, float]] = {}
    for share in shares:
        first, last = max(share.start_ns, start_ns), min(share.end_ns, end_ns)
        if first < last:
            steps[first] = dict(share.weights)
            steps[last] = {}
    return steps


def ancestors(stages: Sequence[StageWindow]) -> dict[str, tuple[str, ...]]:
    """Each stage's parents, nearest first; a parent that is not among the stages, or a circle, ends the line."""
    parents: Mapping[str, str | None] = {stage.stage_id: stage.parent_id for stage in stages}
    return {stage_id: tuple(_line(stage_id, parents)) for stage_id in parents}


def _line(stage_id: str, parents: Mapping[str, str | None]) -> Iterator[str]:
    seen = {stage_id}
    above = parents[stage_id]
    while above is not None and above in parents and above not in seen:
        seen.add(above)
        yield above
        above = parents[above]
