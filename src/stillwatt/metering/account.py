"""The account of sessions on one machine: what each stage drew, itself and with its children, and what nobody did.

One session, or several that ran side by side: ranks of a launch on one host share a clock and its devices (eq. 12).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from stillwatt.metering.attribute import WeightedSpan, WeightedWindow, ancestors, exclusive_windows
from stillwatt.metering.estimate import estimate_profile
from stillwatt.metering.series import Series
from stillwatt.metering.windows import Profile, profile
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.window import StageWindow
from stillwatt.threads import map_large

_LARGE = 50_000
"""Readings above which parts are worth a thread each."""

Energies = Mapping[str, Energy | Absent]
"""By part."""
Lengths = Mapping[str, float]
"""Weighted seconds by part: ranks that share a host's CPU and have a GPU each do not own the same seconds of both."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionInput:
    """Everything that sessions on one clock are accounted from.

    Attributes:
        windows: their stages; ids are distinct over all sessions.
        start_ns: when the first began, on the machine's monotonic clock.
        end_ns: the last one's end, or its last sign of life.
        series: by part, the ledger stream and, where there is one, the witness.
        absent: parts that could not be read; no part of `series` is among them.
        users: by part, the sessions whose program uses it: its energy is theirs alone. A part without an entry is
            everybody's.
        shares: by part, how sessions that run at once share it (eq. 15); without an entry, stages share equally.
    """

    windows: Sequence[StageWindow]
    start_ns: int
    end_ns: int
    series: Mapping[str, tuple[Series, Series | None]]
    absent: tuple[Absent, ...] = ()
    users: Mapping[str, frozenset[str]] = field(default_factory=dict)
    shares: Mapping[str, tuple[WeightedSpan, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAccount:
    """One stage's energies by part; a part that its session does not use is not named.

    Attributes:
        self_energies: over the stage's exclusive windows.
        gross: over these and all its descendants' exclusive windows.
        self_s: weighted seconds of its exclusive windows.
        gross_s: weighted seconds of the windows of `gross`.
    """

    self_energies: Energies
    gross: Energies
    self_s: Lengths
    gross_s: Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAccount:
    """Energies by stage, and what belongs to none.

    Attributes:
        stages: by stage id.
        unallocated: energies by part while no stage of a session that uses it ran.
        total: energies by part over the whole time.
        unallocated_s: seconds of `unallocated`.
        total_s: seconds of `total`.
        notes: resets, readings left out.
    """

    stages: Mapping[str, StageAccount]
    unallocated: Energies
    total: Energies
    unallocated_s: Lengths
    total_s: Lengths
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """Somebody's energies and seconds, filled part by part."""

    energies: dict[str, Energy | Absent] = field(default_factory=dict)
    lengths_s: dict[str, float] = field(default_factory=dict)

    def take(self, part: str, energy: Energy | Absent, length_s: float) -> None:
        self.energies[part] = energy
        self.lengths_s[part] = length_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sharing:
    """Parts that the same stages share in the same way, and whose windows are whose."""

    parts: tuple[str, ...]
    owners: tuple[tuple[_Kind, str | None], ...]
    windows: Profile


class _Kind(Enum):
    SELF = "self"
    GROSS = "gross"
    UNALLOCATED = "unallocated"
    TOTAL = "total"


def account_session(session: SessionInput) -> SessionAccount:
    """Book energy to stages (method.md, eq. 12).

    For every part: self + gross of the children = gross, and gross of the outermost stages + unallocated = total,
    to rounding.

    Raises:
        ValueError: two stages have one id, the session ends before it starts, or a part is both read and absent.
    """
    twice = {absent.part for absent in session.absent} & session.series.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))}: both read and absent")
    ids = [stage.stage_id for stage in session.windows]
    if len(set(ids)) != len(ids):
        raise ValueError("two stages of one account have the same id")
    books: dict[tuple[_Kind, str | None], _Owner] = defaultdict(_Owner)
    notes: list[str] = []
    for sharing in _sharings(session):
        notes += _book(session, sharing, books)
    notes += _flagged([books[_Kind.GROSS, stage_id].energies for stage_id in ids])
    unallocated, total = books[_Kind.UNALLOCATED, None], books[_Kind.TOTAL, None]
    return SessionAccount(
        stages={stage_id: _stage_account(books, stage_id) for stage_id in ids},
        unallocated=unallocated.energies,
        total=total.energies,
        unallocated_s=unallocated.lengths_s,
        total_s=total.lengths_s,
        notes=tuple(notes),
    )


def _sharings(session: SessionInput) -> Iterator[_Sharing]:
    """The parts, in groups of those that the same sessions share by the same rule."""
    alike: dict[tuple[frozenset[str] | None, tuple[WeightedSpan, ...]], list[str]] = defaultdict(list)
    for part in [*session.series, *(absent.part for absent in session.absent)]:
        alike[session.users.get(part), session.shares.get(part, ())].append(part)
    for (users, shares), parts in alike.items():
        stages = [stage for stage in session.windows if users is None or stage.session in users]
        owned = exclusive_windows(stages, session.start_ns, session.end_ns, shares)
        owners: dict[tuple[_Kind, str | None], tuple[WeightedWindow, ...]] = {}
        for stage_id, line in _descendants(stages).items():
            owners[_Kind.SELF, stage_id] = owned[stage_id]
            owners[_Kind.GROSS, stage_id] = tuple(window for own in (stage_id, *line) for window in owned[own])
        owners[_Kind.UNALLOCATED, None] = owned[None]
        owners[_Kind.TOTAL, None] = (WeightedWindow(session.start_ns, session.end_ns),)
        yield _Sharing(parts=tuple(parts), owners=tuple(owners), windows=profile(list(owners.values())))


def _book(session: SessionInput, sharing: _Sharing, books: Mapping[tuple[_Kind, str | None], _Owner]) -> Iterator[str]:
    """Book the energies of some parts to their owners; gives what is odd about the readings."""
    marks_ns = [mark_ns for stage in session.windows for mark_ns in (stage.start_ns, stage.end_ns)]
    absent = {absent.part: absent for absent in session.absent}
    read = {part: session.series[part] for part in sharing.parts if part not in absent}
    found = map_large(
        lambda streams: estimate_profile(*streams, sharing.windows, marks_ns=marks_ns),
        read.values(),
        are_large=any(ledger.t_ns.size > _LARGE for ledger, _ in read.values()),
    )
    by_part = dict(zip(read, found, strict=True))
    lengths_s = sharing.windows.seconds.tolist()
    for part in sharing.parts:
        for number, (owner, length_s) in enumerate(zip(sharing.owners, lengths_s, strict=True)):
            energy = absent[part] if part in absent else by_part[part].energies[number]
            books[owner].take(part, energy, length_s)
        if part in by_part:
            yield from by_part[part].notes


def _stage_account(books: Mapping[tuple[_Kind, str | None], _Owner], stage_id: str) -> StageAccount:
    own, gross = books[_Kind.SELF, stage_id], books[_Kind.GROSS, stage_id]
    return StageAccount(self_energies=own.energies, gross=gross.energies, self_s=own.lengths_s, gross_s=gross.lengths_s)


def _flagged(stages: Sequence[Energies]) -> Iterator[str]:
    """One line for each part with stages whose energy is flagged, with the first flag of each kind."""
    for part in dict.fromkeys(part for energies in stages for part in energies):
        flags: dict[str, list[str]] = {}
        for energies in stages:
            energy = energies.get(part)
            for flag in energy.flags if isinstance(energy, Energy) else ():
                flags.setdefault(flag.partition(":")[0], []).append(flag)
        for found in flags.values():
            yield f"{part}: {len(found)} stage{'' if len(found) == 1 else 's'} {found[0]}"


def _descendants(stages: Sequence[StageWindow]) -> dict[str, list[str]]:
    below: dict[str, list[str]] = {stage.stage_id: [] for stage in stages}
    for stage_id, line in ancestors(stages).items():
        for above in line:
            below[above].append(stage_id)
    return below
