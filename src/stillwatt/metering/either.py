"""One account of two that may each be right: the first, with intervals that hold what the other says."""

from __future__ import annotations

from dataclasses import replace

from stillwatt.metering.account import Energies, SessionAccount
from stillwatt.records.energy import Absent, Energy


def either(account: SessionAccount, other: SessionAccount) -> SessionAccount:
    """An account whose intervals reach as far as another one's of the same stages, parts and readings.

    For stages of which it is not known exactly when they ended: `account` with their earliest ends, `other` with their
    latest. What one stage has less, others have more, so an interval widens on the side on which the other value lies,
    by the distance of the two. It is no random error: it does not shrink with repeats.
    """
    return replace(
        account,
        stages={
            stage_id: replace(
                stage,
                self_energies=_either(stage.self_energies, other.stages[stage_id].self_energies),
                gross=_either(stage.gross, other.stages[stage_id].gross),
            )
            for stage_id, stage in account.stages.items()
        },
        unallocated=_either(account.unallocated, other.unallocated),
        total=_either(account.total, other.total),
    )


def _either(energies: Energies, others: Energies) -> Energies:
    return {part: _widened(energy, others.get(part)) for part, energy in energies.items()}


def _widened(energy: Energy | Absent, other: Energy | Absent | None) -> Energy | Absent:
    if not isinstance(energy, Energy) or not isinstance(other, Energy):
        return energy
    apart_j = other.value_j - energy.value_j
    return replace(
        energy,
        systematic_low_j=energy.systematic_low_j + max(0.0, -apart_j),
        systematic_high_j=energy.systematic_high_j + max(0.0, apart_j),
    )
