"""How devices of a place are shared between its sessions, and who else was on them (method.md, eq. 15)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stillwatt.ledger.places import Place, part_names
from stillwatt.metering.attribute import WeightedSpan
from stillwatt.metering.tenants import fallbacks, findings, shared_flag
from stillwatt.metering.usage import Program, ShareStep, Span, UseStep, shares, use_steps
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.usage import DeviceUse, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What was seen of the users of a place's devices, and the weights that follow from it."""

    weights: Mapping[str, tuple[WeightedSpan, ...]] = field(default_factory=dict)
    """By part; only of parts that several sessions may share."""
    notes: tuple[str, ...] = ()
    """Tenants, processes that nobody can place, rules that had nothing to go by."""
    _seen: Mapping[str, tuple[UseStep, ...]] = field(default_factory=dict)

    def flagged(self, energies: Iterable[Energy | Absent], start_ns: int, end_ns: int) -> tuple[Energy | Absent, ...]:
        """Energies of one stage; those whose part others used while it ran say so."""
        return tuple(self._flagged(energy, (start_ns, end_ns)) for energy in energies)

    def _flagged(self, energy: Energy | Absent, span: Span) -> Energy | Absent:
        if isinstance(energy, Absent) or energy.part not in self._seen:
            return energy
        flag = shared_flag(self._seen[energy.part], [span])
        return energy if flag is None else replace(energy, flags=(*energy.flags, flag))


def place_sharing(place: Place, rule: Rule, start_ns: int, end_ns: int) -> Sharing:
    """Weights of sessions on devices they share, by a rule that may be another each time (method.md, eq. 15).

    Tenants do not pay: what they draw is in the run's energy, flagged and said.
    """
    uses = _named(place)
    if not uses:
        return Sharing()
    programs = _programs(place)
    seen = use_steps(uses, programs, start_ns, end_ns)
    notes = list(findings(seen, programs, start_ns, end_ns))
    weights: dict[str, tuple[WeightedSpan, ...]] = {}
    if len(programs) > 1:
        steps = shares(uses, programs, rule=rule, start_ns=start_ns, end_ns=end_ns)
        notes += fallbacks({part: found for part, found in steps.items() if part in seen}, rule)
        weights = {part: _spans(found) for part, found in steps.items() if part in seen}
    return Sharing(weights=weights, notes=tuple(notes), _seen=seen)


def _named(place: Place) -> list[DeviceUse]:
    """All looks, at parts by the names they have in this place."""
    names = part_names(place)
    uses = []
    for session in place.sessions:
        devices = {channel.part: channel.device for channel in session.channels.values()}
        for use in session.uses:
            name = names.get((use.part, devices.get(use.part, "")), use.part)
            uses.append(use if name == use.part else replace(use, part=name))
    return uses


def _programs(place: Place) -> dict[str, Program]:
    names = part_names(place)
    everything = frozenset(names.values())
    return {
        session.session: Program(
            process=session.program.process,
            parts=everything
            if session.program.parts is None
            else frozenset(names[used] for used in session.program.parts.items()),
            spans=tuple((stage.start_ns, stage.end_ns) for stage in session.stages),
        )
        for session in place.sessions
    }


def _spans(steps: Sequence[ShareStep]) -> tuple[WeightedSpan, ...]:
    return tuple(
        WeightedSpan(step.start_ns, step.end_ns, tuple(step.weights.sessions.items()))
        for step in steps
        if step.weights.sessions
    )
