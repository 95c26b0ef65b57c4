"""Energies that are stated and that no reading here stands behind (method.md, eqs. 19 and 131).

A tool that writes one number for a stage is taken at its word, with the bounds that the importer gave the word. What it
does not say is absent. Where there are readings of the same part, they are booked and the statement is held against
them. What another machine drew for a stage, a measured program states itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.ledger.events import StatedEnergy
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.account import SessionAccount
from stillwatt.metering.attribute import ancestors, exclusive_windows
from stillwatt.metering.totals import sum_part, summed_boundary
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import STATED, Absent, Energy
from stillwatt.records.window import StageWindow
from stillwatt.units import seconds

_BETWEEN = "nothing is stated for the time outside all stages"
_EXACT = 1 / 1_000_000
"""Of a stage's energy: numbers of one file that differ by less differ by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedCheck:
    """A stage's energy from readings, and what the file that the readings came from says it was."""

    stage_id: str
    part: str
    stated_j: float
    slack_j: float
    """By how much the two may differ for what the file does not tell, e.g. when its readings were taken."""
    ours: Energy

    @property
    def difference_rel(self) -> float | None:
        """How far the file's figure lies above ours, as a share of ours; None where ours is 0."""
        return (self.stated_j - self.ours.value_j) / self.ours.value_j if self.ours.value_j else None

    @property
    def is_inside(self) -> bool:
        """Whether the two agree but for sampling and slack: both rest on the same instrument and its gain."""
        rounding_j = _EXACT * abs(self.stated_j)
        return abs(self.stated_j - self.ours.value_j) <= self.ours.random_j + self.slack_j + rounding_j

    def sentence(self, name: str) -> str:
        """The comparison in words."""
        off = "" if self.difference_rel is None else f", {self.difference_rel:+.3%} from it"
        where = "inside" if self.is_inside else "outside"
        return (
            f"{self.part} in stage {name!r}: {self.ours.value_j:.6g} J from the file's readings, booked; the file "
            f"itself says {self.stated_j:.6g} J{off}, {where} the {self.ours.random_j + self.slack_j:.3g} J that "
            "sampling allows"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lengths:
    """Exclusive seconds of every stage, with and without its children's, and of the time outside all."""

    own_s: Mapping[str, float]
    gross_s: Mapping[str, float]
    unallocated_s: float
    total_s: float


def with_stated(
    account: SessionAccount,
    stated: Sequence[StatedEnergy],
    stages: Sequence[StageFacts],
    start_ns: int,
    end_ns: int,
) -> SessionAccount:
    """An account from `start_ns` to `end_ns` with the parts that are only stated (method.md, eq. 19).

    For every part: self + gross of the children = gross, and gross of the outermost stages + unallocated = total, as
    for parts that were read. A part with readings keeps them; the difference to what is stated goes to the notes.
    """
    if not stated:
        return account
    lengths = _lengths(stages, start_ns, end_ns)
    by_part, notes = _by_part(stated, stages)
    notes += [check.sentence(_name(check.stage_id, stages)) for check in stated_checks(account, stated)]
    for part, lines in by_part.items():
        if part in account.total and not isinstance(account.total[part], Absent):
            continue
        is_elsewhere = all(line.is_elsewhere for line in lines.values())
        account, said = (_with_elsewhere if is_elsewhere else _with_part)(account, lines, stages, lengths)
        notes += said
    return replace(account, notes=(*account.notes, *notes))


def stated_checks(account: SessionAccount, stated: Sequence[StatedEnergy]) -> tuple[StatedCheck, ...]:
    """Statements beside the readings of the same part and stage."""
    checks = []
    for line in stated:
        stage = account.stages.get(line.stage_id)
        ours = stage.gross.get(line.part) if stage else None
        if isinstance(ours, Energy) and ours.method != STATED and line.value_j is not None:
            checks.append(
                StatedCheck(
                    stage_id=line.stage_id, part=line.part, stated_j=line.value_j, slack_j=line.random_j, ours=ours
                )
            )
    return tuple(checks)


def _by_part(
    stated: Sequence[StatedEnergy], stages: Sequence[StageFacts]
) -> tuple[dict[str, dict[str, StatedEnergy]], list[str]]:
    """The statements by part and stage; the first of two counts."""
    known = {stage.stage_id for stage in stages}
    by_part: dict[str, dict[str, StatedEnergy]] = {}
    notes = []
    for line in stated:
        lines = by_part.setdefault(line.part, {})
        if line.stage_id not in known:
            notes.append(f"{line.part}: an energy is stated for stage {line.stage_id}, which is not in the journal")
        elif lines.setdefault(line.stage_id, line) is not line:
            notes.append(f"{line.part}: two energies are stated for stage {line.stage_id}; the first is used")
    return {part: lines for part, lines in by_part.items() if lines}, notes


def _with_part(
    account: SessionAccount, lines: Mapping[str, StatedEnergy], stages: Sequence[StageFacts], lengths: _Lengths
) -> tuple[SessionAccount, list[str]]:
    """The account with one more part."""
    first = next(iter(lines.values()))
    part, boundary = first.part, first.boundary
    children = _children(stages)
    notes: list[str] = []
    gross: dict[str, Energy | Absent] = {}
    own: dict[str, Energy | Absent] = {}
    for stage in reversed(stages):  # children begin after their parents, so they are settled first
        below = [gross[child] for child in children.get(stage.stage_id, ())]
        lengths_s = [lengths.gross_s[child] for child in children.get(stage.stage_id, ())]
        line = lines.get(stage.stage_id)
        whole, rest = _settle(line, below, lengths_s, lengths.own_s[stage.stage_id], part, boundary)
        if isinstance(whole, Energy) and isinstance(rest, Energy) and rest.value_j < -_EXACT * abs(whole.value_j):
            notes.append(
                f"{part}: stage {stage.name!r} is said to have drawn {whole.value_j:.6g} J and its parts "
                f"{whole.value_j - rest.value_j:.6g} J; both stand, with the difference in the interval"
            )
        gross[stage.stage_id], own[stage.stage_id] = whole, rest
    inside = _inside(children)
    outermost = [stage.stage_id for stage in stages if stage.stage_id not in inside]
    roots = [gross[stage_id] for stage_id in outermost]
    return _grown(account, part, (own, gross), roots, lengths, outermost), notes


def _with_elsewhere(
    account: SessionAccount, lines: Mapping[str, StatedEnergy], stages: Sequence[StageFacts], lengths: _Lengths
) -> tuple[SessionAccount, list[str]]:
    """The account with a part of another machine, in the stages that it worked for alone (method.md, eq. 131).

    It stands where it is summed with this machine, as a board among its components or at the boundary around them:
    whoever states it has widened its interval to hold there.
    """
    part = next(iter(lines.values())).part
    boundary = summed_boundary({each.boundary for each in account.total.values() if isinstance(each, Energy)})
    if boundary is None or boundary is Boundary.COMPONENTS:
        boundary = Boundary.BOARD
    children = _children(stages)
    inside = _inside(children)
    gross: dict[str, Energy | Absent] = {}
    own: dict[str, Energy | Absent] = {}
    for stage in reversed(stages):  # children begin after their parents, so they are settled first
        below = [child for child in children.get(stage.stage_id, ()) if child in gross]
        found = [gross[child] for child in below]
        lengths_s = [lengths.gross_s[child] for child in below]
        if stage.stage_id in lines:
            own[stage.stage_id] = replace(_alone(lines[stage.stage_id]), boundary=boundary)
            found, lengths_s = [*found, own[stage.stage_id]], [*lengths_s, lengths.own_s[stage.stage_id]]
        if found:
            gross[stage.stage_id] = sum_part(found, lengths_s)
    booked = {
        stage_id: replace(
            stage,
            self_energies={**stage.self_energies, **({part: own[stage_id]} if stage_id in own else {})},
            gross={**stage.gross, part: gross[stage_id]},
            self_s={**stage.self_s, **({part: lengths.own_s[stage_id]} if stage_id in own else {})},
            gross_s={**stage.gross_s, part: lengths.gross_s[stage_id]},
        )
        for stage_id, stage in account.stages.items()
        if stage_id in gross
    }
    roots = [each.stage_id for each in stages if each.stage_id in gross and each.stage_id not in inside]
    lengths_s = [lengths.gross_s[each] for each in roots]
    total = sum_part([gross[each] for each in roots], lengths_s)
    return replace(
        account,
        stages={**account.stages, **booked},
        total={**account.total, part: total},
        total_s={**account.total_s, part: math.fsum(lengths_s)},
    ), _notes_of_elsewhere(lines)


def _notes_of_elsewhere(lines: Mapping[str, StatedEnergy]) -> list[str]:
    """What a reader of the sum should know where joules of another machine are in it."""
    known = {line.part: line for line in lines.values() if line.value_j is not None}
    return [
        f"{part}: {line.device} is another machine; its joules are {line.basis.value} ({line.source}), and this run's "
        "place, grid and PUE are not its own"
        for part, line in known.items()
    ]


def _grown(
    account: SessionAccount,
    part: str,
    found: tuple[Mapping[str, Energy | Absent], Mapping[str, Energy | Absent]],
    roots: Sequence[Energy | Absent],
    lengths: _Lengths,
    outermost: Sequence[str],
) -> SessionAccount:
    """The account with a part's energies, own and gross by stage, in every book."""
    own, gross = found
    unallocated = _outside(lengths.unallocated_s, roots)
    entries = [(gross[stage_id], lengths.gross_s[stage_id]) for stage_id in outermost]
    entries += [(unallocated, lengths.unallocated_s)] if lengths.unallocated_s > 0 else []
    total = sum_part([energy for energy, _ in entries], [length_s for _, length_s in entries])
    booked = {
        stage_id: replace(
            stage,
            self_energies={**stage.self_energies, part: own[stage_id]},
            gross={**stage.gross, part: gross[stage_id]},
            self_s={**stage.self_s, part: lengths.own_s[stage_id]},
            gross_s={**stage.gross_s, part: lengths.gross_s[stage_id]},
        )
        for stage_id, stage in account.stages.items()
    }
    return replace(
        account,
        stages=booked,
        unallocated={**account.unallocated, part: unallocated},
        total={**account.total, part: total},
        unallocated_s={**account.unallocated_s, part: lengths.unallocated_s},
        total_s={**account.total_s, part: lengths.total_s},
    )


def _settle(
    line: StatedEnergy | None,
    below: Sequence[Energy | Absent],
    lengths_s: Sequence[float],
    own_s: float,
    part: str,
    boundary: Boundary,
) -> tuple[Energy | Absent, Energy | Absent]:
    """One stage's gross energy, and its own without its children's (eq. 19)."""
    if line is None or line.value_j is None:
        reason = line.reason if line is not None and line.reason else "the file states no energy for this stage"
        own: Energy | Absent = Absent(part=part, boundary=boundary, reason=reason)
        if not any(isinstance(energy, Energy) for energy in below):
            return own, own
        parts = [*below] if own_s <= 0 else [*below, own]
        return sum_part(parts, [*lengths_s, own_s][: len(parts)]), own
    whole = _energy(line)
    known = [energy for energy in below if isinstance(energy, Energy)]
    below_j = math.fsum(energy.value_j for energy in known)
    excess_j = below_j - whole.value_j
    if excess_j > 0:
        whole = replace(whole, random_j=whole.random_j + excess_j)
    own_j = -excess_j
    return whole, replace(
        whole,
        value_j=own_j,
        random_j=math.hypot(whole.random_j, *(energy.random_j for energy in known)),
        estimated_j=own_j,
    )


def _alone(line: StatedEnergy) -> Energy | Absent:
    """A statement of a stage without its children."""
    if line.value_j is None:
        return Absent(part=line.part, boundary=line.boundary, reason=line.reason)
    return _energy(line)


def _energy(line: StatedEnergy) -> Energy:
    """A statement as an energy: no second of it is covered by a reading."""
    value_j = line.value_j or 0.0
    return Energy(
        part=line.part,
        device=line.device,
        boundary=line.boundary,
        value_j=value_j,
        random_j=line.random_j,
        systematic_low_j=line.systematic_low_j,
        systematic_high_j=line.systematic_high_j,
        basis=line.basis,
        method=STATED,
        coverage=0.0,
        failed_reads=0,
        estimated_j=value_j,
        missing_s=0.0,
        driver=line.driver,
        source=line.source,
    )


def _outside(unallocated_s: float, roots: Sequence[Energy | Absent]) -> Energy | Absent:
    """What was drawn outside all stages: nothing in no time, else not stated."""
    like = next((energy for energy in roots if isinstance(energy, Energy)), None)
    if unallocated_s > 0 or like is None:
        return Absent(part=roots[0].part, boundary=roots[0].boundary, reason=_BETWEEN)
    return replace(
        like, value_j=0.0, random_j=0.0, systematic_low_j=0.0, systematic_high_j=0.0, coverage=1.0, estimated_j=0.0
    )


def _lengths(stages: Sequence[StageFacts], start_ns: int, end_ns: int) -> _Lengths:
    windows = [
        StageWindow(
            session="", stage_id=each.stage_id, parent_id=each.parent_id, start_ns=each.start_ns, end_ns=each.end_ns
        )
        for each in stages
    ]
    owned = exclusive_windows(windows, start_ns, end_ns)
    seconds_of = {
        owner: math.fsum(each.weight * seconds(each.end_ns - each.start_ns) for each in spans)
        for owner, spans in owned.items()
    }
    own_s = {stage.stage_id: seconds_of[stage.stage_id] for stage in stages}
    gross_s = dict(own_s)
    for stage_id, line in ancestors(windows).items():
        for above in line:
            gross_s[above] += own_s[stage_id]
    return _Lengths(own_s=own_s, gross_s=gross_s, unallocated_s=seconds_of[None], total_s=seconds(end_ns - start_ns))


def _children(stages: Sequence[StageFacts]) -> dict[str, list[str]]:
    """Stages by the one they lie in, where that is in the journal."""
    known = {stage.stage_id for stage in stages}
    children: dict[str, list[str]] = {}
    for stage in stages:
        if stage.parent_id in known and stage.parent_id is not None:
            children.setdefault(stage.parent_id, []).append(stage.stage_id)
    return children


def _inside(children: Mapping[str, Sequence[str]]) -> set[str]:
    return {child for below in children.values() for child in below}


def _name(stage_id: str, stages: Sequence[StageFacts]) -> str:
    return next((stage.name for stage in stages if stage.stage_id == stage_id), stage_id)
