"""Ranks of a launch that have no session here: whether something is missing without them, and what is said of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stillwatt.ledger.sessions import SessionFacts

_MOST_NAMED = 8


class _Absentees(NamedTuple):
    """Ranks of one launch that lack sessions, which others have."""

    ranks: tuple[int, ...]
    world_size: int
    starts: int
    """How often the launch was started: a launcher starts all of its ranks anew where one was lost."""
    is_measured: bool
    """Whether others measured all that they could draw: every machine of the launch has a session here."""


def missing_ranks(found: Sequence[SessionFacts]) -> tuple[int, ...]:
    """Ranks without a session of a start of their launch, without which what the launch drew is not whole.

    A rank that opened no run on a machine where another one measured is none of them: its cards are on the account.
    """
    return tuple(sorted({rank for each in _absentees(found) if not each.is_measured for rank in each.ranks}))


def absent_rank_notes(found: Sequence[SessionFacts]) -> Iterator[str]:
    """What whoever reads the record must know of them: one line for each launch."""
    for each in _absentees(found):
        ranks = ", ".join(map(str, each.ranks[:_MOST_NAMED])) + (" …" if len(each.ranks) > _MOST_NAMED else "")
        where = f"{f' of each of the {each.starts} starts' if each.starts > 1 else ''} here ({ranks})"
        which = f"{len(each.ranks)} of {each.world_size} ranks"
        if each.is_measured:
            yield f"{which} opened no run{where}; they have no stages, and what they drew is on the others' account"
        else:
            yield (
                f"{which} have no journal{where}; their stages, and what their nodes drew, are in no sum. `stillwatt "
                "ledger post DIR` brings a node's journals in; where these ranks measure nothing on purpose, start the "
                "others with STILLWATT_RUN_GROUP=WORD"
            )


def _absentees(found: Sequence[SessionFacts]) -> Iterator[_Absentees]:
    launches: dict[tuple[str, int], list[SessionFacts]] = defaultdict(list)
    for session in found:
        if session.origin.rank is not None:
            launches[session.origin.launch, session.origin.world_size or 0].append(session)
    for (_, world_size), here in launches.items():
        times = Counter(session.origin.rank for session in here)
        starts = max(times.values())
        lacking = tuple(rank for rank in range(world_size) if times[rank] < starts)
        if lacking:
            yield _Absentees(lacking, world_size, starts, _is_everywhere(here, world_size, starts))


def _is_everywhere(here: Sequence[SessionFacts], world_size: int, starts: int) -> bool:
    """Whether the machines with sessions are all that the launch has, as far as their sizes tell.

    Not told where it was started anew on several machines: one may have taken the place of another.
    """
    sizes = {session.origin.machine: session.origin.local_size for session in here}
    is_told = all(sizes.values()) and (starts == 1 or len(sizes) == 1)
    return is_told and sum(size or 0 for size in sizes.values()) == world_size
