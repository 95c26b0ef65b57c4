"""Gross, net and marginal energy: what of a part's energy is taken off as its baseline's (method.md, eq. 18)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from stillwatt.metering.baseline import IdlePower, net_energy
from stillwatt.metering.totals import combine, in_sum, sum_part
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Absent, Energy, NoTotal, Total


class Policy(StrEnum):
    """What of the energy is asked for."""

    GROSS = "gross"
    """All that was drawn."""
    NET = "net"
    """Above what the machine draws while nothing is asked of it."""
    MARGINAL = "marginal"
    """Above what it draws between stages: with everything loaded and waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One stage's, or the run's, energy under a policy, and what the policy takes off.

    `energy.value_j + baseline.value_j` is the gross value, to rounding.
    """

    energy: Total | NoTotal
    baseline: Total | NoTotal
    """What the baseline power drew in the same seconds; 0 J where the policy takes nothing off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one device drew, and its baseline power.

    Attributes:
        energy: its energy; devices of several machines may have one part's name.
        power: its baseline power, or why it has none; None where none was looked for.
        length_s: seconds behind the energy, weighted as it is.
    """

    energy: Energy | Absent
    power: IdlePower | Absent | None
    length_s: float


def split(drawn: Sequence[Drawn], boundary: Boundary | None = None) -> Split:
    """Divide a stage's energy into what lies above a baseline power and what the baseline drew (method.md, eq. 18).

    Args:
        drawn: each device once.
        boundary: what is summed, as `combine` has it; devices beside that need no baseline power.

    Raises:
        ValueError: devices of one part's name have several boundaries.
    """
    summed = {part.part for part in in_sum([each.energy for each in drawn], boundary)}
    drawn = [each for each in drawn if each.energy.part in summed]
    lacking = tuple(dict.fromkeys(_lacking(drawn)))
    if lacking:
        reason = "; ".join(lacking)
        return Split(energy=NoTotal(reason=reason), baseline=NoTotal(reason=reason))
    above: dict[str, list[tuple[Energy | Absent, float]]] = defaultdict(list)
    below: dict[str, list[tuple[Energy | Absent, float]]] = defaultdict(list)
    for each in drawn:
        energy, part = each.energy, each.energy.part
        if isinstance(energy, Absent) or not isinstance(each.power, IdlePower):
            above[part].append((energy, each.length_s))
            below[part].append((energy, each.length_s))
        else:
            above[part].append((net_energy(energy, each.power, each.length_s), each.length_s))
            below[part].append((baseline_energy(energy, each.power, each.length_s), each.length_s))
    return Split(energy=_over_devices(above, boundary), baseline=_over_devices(below, boundary))


def _over_devices(
    parts: Mapping[str, Sequence[tuple[Energy | Absent, float]]], boundary: Boundary | None
) -> Total | NoTotal:
    """Sum over the devices of each part's name, then over parts (method.md, eqs. 10 and 11)."""
    return combine(
        [
            entries[0][0]
            if len(entries) == 1
            else sum_part([energy for energy, _ in entries], [length_s for _, length_s in entries])
            for entries in parts.values()
        ],
        boundary,
    )


def baseline_energy(gross: Energy, power: IdlePower, duration_s: float) -> Energy:
    """What a baseline power draws in the seconds of an energy that are not missing; the rest of it is net.

    >>> from stillwatt.records import Basis, Boundary
    >>> gross = Energy(part="gpu0", device="x", boundary=Boundary.BOARD, value_j=300.0, random_j=3.0,
    ...                systematic_low_j=15.0, systematic_high_j=15.0, basis=Basis.MEASURED, method="counter",
    ...                coverage=1.0, failed_reads=0, estimated_j=0.0, missing_s=0.0, driver="nvml", source="")
    >>> idle = IdlePower(part="gpu0", value_w=50.0, random_w=2.0, systematic_low_w=2.5, systematic_high_w=2.5,
    ...                  basis=Basis.MEASURED, driver="nvml")
    >>> baseline_energy(gross, idle, duration_s=2.0).value_j
    100.0
    """
    read_s = max(0.0, duration_s - gross.missing_s)
    return replace(
        gross,
        value_j=power.value_w * read_s,
        random_j=power.random_w * read_s,
        systematic_low_j=power.systematic_low_w * read_s,
        systematic_high_j=power.systematic_high_w * read_s,
        estimated_j=0.0,
        placing_j=0.0,
        in_step_cos_j=0.0,
        in_step_sin_j=0.0,
    )


def nothing_off(gross: Sequence[Energy | Absent], boundary: Boundary | None = None) -> Split:
    """All of the energy, and a baseline of 0 J that is known exactly."""
    total = combine(gross, boundary)
    if isinstance(total, NoTotal):
        return Split(energy=total, baseline=total)
    nothing = replace(total, value_j=0.0, low_j=0.0, high_j=0.0, share_by_basis=())
    return Split(energy=total, baseline=nothing)


def _lacking(drawn: Sequence[Drawn]) -> Iterator[str]:
    for each in drawn:
        power = each.power
        if isinstance(each.energy, Energy) and not isinstance(power, IdlePower):
            yield f"no baseline power for {each.energy.part}" + (f" ({power.reason})" if power is not None else "")
