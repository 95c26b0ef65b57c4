"""What a stage is called among others of its name: a repeat of a work, a new attempt at one, a rank's part.

A stage's `attempt` counts how often its name was begun in the run. That is a new attempt only where the one before was
lost; the steps of a loop are repeats.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.records.kinds import StageStatus
from stillwatt.records.run import RANK, StageRecord, fates

__all__ = ["Repeats", "repeats", "titles"]

_Key = tuple[Hashable, ...]

_LOST = (StageStatus.FAILED, StageStatus.RECOVERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """A stage, or all that repeat inside one parent under one name."""

    title: str
    """With how many there are, where there are several."""
    depth: int
    """How many stages it lies in."""
    stages: tuple[StageRecord, ...]
    """In the record's order."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Of a stage among those of its name and rank in the same parent."""

    work: int
    """Which of the works it is at."""
    tries: int
    """Which try at it; more than one only after one that was lost."""


def titles(stages: Sequence[StageRecord]) -> dict[str, str]:
    """What to call each stage, by its id: its name, and what tells it from the others of that name.

    `(attempt 2)` is the second try at a work whose first was lost; `(no. 2)` is the second work of that name that lies
    in no stage; `(rank 1)` is a rank's part.
    """
    places, known = _places(stages), {stage.stage_id for stage in stages}
    return {stage.stage_id: _title(stage, places[stage.stage_id], is_root=_root(stage, known)) for stage in stages}


def repeats(stages: Sequence[StageRecord]) -> list[Repeats]:
    """Every stage once, below the one it lies in: those that repeat there together, where the first of them stands.

    What ended otherwise or was tried more often stands apart; a stage that lies in no other stands by itself.
    """
    places, known = _places(stages), {stage.stage_id for stage in stages}
    keys: dict[str, _Key] = {}
    found: dict[_Key, list[StageRecord]] = {}
    below: dict[_Key | None, dict[_Key, None]] = {None: {}}
    for stage in stages:  # a stage stands after the one it lies in
        parent = keys.get(stage.parent_id or "")
        own: _Key = (stage.stage_id,)
        if parent is not None:
            rank, tries = stage.labels.get(RANK), places[stage.stage_id].tries
            own = (parent, rank, stage.name, stage.kind, stage.status, tries)
        keys[stage.stage_id] = own
        found.setdefault(own, []).append(stage)
        below.setdefault(parent, {})[own] = None

    def told(parent: _Key | None, depth: int) -> Iterator[Repeats]:
        for key in below.get(parent, ()):
            first, *others = found[key]
            place, is_root = places[first.stage_id], _root(first, known)
            title = _title(first, place, is_root=is_root, times=1 + len(others))
            yield Repeats(title=title, depth=depth, stages=(first, *others))
            yield from told(key, depth + 1)

    return list(told(None, 0))


def _root(stage: StageRecord, known: Container[str]) -> bool:
    return stage.parent_id is None or stage.parent_id not in known


def _title(stage: StageRecord, place: _Place, *, is_root: bool, times: int = 1) -> str:
    rank = stage.labels.get(RANK)
    marks = [f"rank {rank}"] if rank is not None else []
    if place.tries > 1:
        marks.append(f"attempt {place.tries}")
    elif place.work > 1 and is_root:
        marks.append(f"no. {place.work}")
    if times > 1:
        marks.append(f"{times:,} times")
    return f"{stage.name} ({', '.join(marks)})" if marks else stage.name


def _places(stages: Sequence[StageRecord]) -> Mapping[str, _Place]:
    fate = fates(stages)
    beside: dict[tuple[str | None, str | None, str], dict[int, list[StageRecord]]] = {}
    for stage in stages:
        same = beside.setdefault((stage.parent_id, stage.labels.get(RANK), stage.name), {})
        same.setdefault(stage.attempt, []).append(stage)
    found: dict[str, _Place] = {}
    for same in beside.values():
        work, tries, is_lost = 0, 0, False
        for number in sorted(same):
            work, tries = (work, tries + 1) if is_lost else (work + 1, 1)
            is_lost = any(fate[stage.stage_id] in _LOST for stage in same[number])
            found |= {stage.stage_id: _Place(work, tries) for stage in same[number]}
    return found
