"""The account of one session: what each stage drew by itself and with its children, and what nobody did (eq. 12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from stillwatt.metering.attribute import WeightedWindow, ancestors, exclusive_windows
from stillwatt.metering.estimate import estimate_profile
from stillwatt.metering.series import Series
from stillwatt.metering.windows import profile
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.window import StageWindow
from stillwatt.threads import map_large

_LARGE = 50_000
"""Readings above which parts are worth a thread each."""

Energies = Mapping[str, Energy | Absent]
"""By part."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionInput:
    """Everything one session is accounted from.

    Attributes:
        windows: its stages.
        start_ns: when the session began, on its monotonic clock.
        end_ns: its end, or its last sign of life.
        series: by part, the ledger stream and, where there is one, the witness.
        absent: parts that could not be read; no part of `series` is among them.
    """

    windows: Sequence[StageWindow]
    start_ns: int
    end_ns: int
    series: Mapping[str, tuple[Series, Series | None]]
    absent: tuple[Absent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAccount:
    """One stage's energies by part.

    Attributes:
        self_energies: over the stage's exclusive windows.
        gross: over these and all its descendants' exclusive windows.
        self_s: weighted seconds of its exclusive windows.
        gross_s: weighted seconds of the windows of `gross`.
    """

    self_energies: Energies
    gross: Energies
    self_s: float
    gross_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAccount:
    """A session's energies by stage, and what belongs to none.

    Attributes:
        stages: by stage id.
        unallocated: energies by part while no stage ran.
        total: energies by part over the whole session.
        unallocated_s: seconds while no stage ran.
        total_s: seconds of the session.
        notes: resets, readings left out.
    """

    stages: Mapping[str, StageAccount]
    unallocated: Energies
    total: Energies
    unallocated_s: float
    total_s: float
    notes: tuple[str, ...]


def account_session(session: SessionInput) -> SessionAccount:
    """Book a session's energy to its stages (method.md, eq. 12).

    For every part: self + gross of the children = gross, and gross of the outermost stages + unallocated = total,
    to rounding.

    Raises:
        ValueError: two stages have one id, the session ends before it starts, or a part is both read and absent.
    """
    twice = {absent.part for absent in session.absent} & session.series.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))}: both read and absent")
    owned = exclusive_windows(session.windows, session.start_ns, session.end_ns)
    ids = [stage.stage_id for stage in session.windows]
    whole = WeightedWindow(session.start_ns, session.end_ns)
    lineage = _descendants(session.windows)
    owners = [owned[stage_id] for stage_id in ids]
    owners += [tuple(window for own in (stage_id, *lineage[stage_id]) for window in owned[own]) for stage_id in ids]
    owners += [owned[None], (whole,)]
    windows = profile(owners)
    by_part: list[dict[str, Energy | Absent]] = [{} for _ in owners]
    notes: list[str] = []
    marks_ns = [mark_ns for stage in session.windows for mark_ns in (stage.start_ns, stage.end_ns)]
    profiles = map_large(
        lambda streams: estimate_profile(*streams, windows, marks_ns=marks_ns),
        session.series.values(),
        are_large=any(ledger.t_ns.size > _LARGE for ledger, _ in session.series.values()),
    )
    for part, found in zip(session.series, profiles, strict=True):
        notes += found.notes
        for energies, energy in zip(by_part, found.energies, strict=True):
            energies[part] = energy
    for energies in by_part:
        energies.update({absent.part: absent for absent in session.absent})
    lengths_s = windows.seconds.tolist()
    count = len(ids)
    notes += _flagged(by_part[count : 2 * count])
    return SessionAccount(
        stages=MappingProxyType(dict(_stage_accounts(ids, by_part, lengths_s))),
        unallocated=by_part[2 * count],
        total=by_part[2 * count + 1],
        unallocated_s=lengths_s[2 * count],
        total_s=lengths_s[2 * count + 1],
        notes=tuple(notes),
    )


def _stage_accounts(
    ids: Sequence[str], by_part: Sequence[Energies], lengths_s: Sequence[float]
) -> Iterator[tuple[str, StageAccount]]:
    for own, stage_id in enumerate(ids):
        gross = own + len(ids)
        yield (
            stage_id,
            StageAccount(
                self_energies=by_part[own], gross=by_part[gross], self_s=lengths_s[own], gross_s=lengths_s[gross]
            ),
        )


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
