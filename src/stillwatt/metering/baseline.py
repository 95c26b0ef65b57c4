"""Idle power from the idle stage, and energies net of it (method.md, eq. 13)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.metering.totals import combine, in_sum
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import STATED, Absent, Energy, NoTotal, Total, low_end

NO_IDLE_STAGE = "no idle_baseline stage in this run"
_STUDENT_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom."""
_STUDENT_T_MORE = 2.131
"""For 15 degrees of freedom, and taken for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePower:
    """What one part draws while nothing is asked of it, with the half-widths of its 95 % interval."""

    part: str
    value_w: float
    random_w: float
    """The idle energy's own random part, and the spread over sub-windows, in quadrature."""
    systematic_low_w: float
    systematic_high_w: float
    basis: Basis
    driver: str

    @property
    def low_w(self) -> float:
        """Lower end of the 95 % interval: random and systematic parts in quadrature, cut at 0 W (method.md, eq. 9)."""
        return low_end(self.value_w, math.hypot(self.random_w, self.systematic_low_w))

    @property
    def high_w(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value_w + math.hypot(self.random_w, self.systematic_high_w)


def idle_power(energy: Energy | Absent, duration_s: float, spread_w: Sequence[float] = ()) -> IdlePower | Absent:
    """Mean power of one part over the idle stage (method.md, eq. 13).

    Args:
        energy: the part's energy over the idle stage, or several of them added up.
        duration_s: the stage's seconds.
        spread_w: mean powers over equal sub-windows of the stage; fewer than two say nothing.

    Returns:
        Absent where the part has no energy there, or the stage no length.
    """
    if isinstance(energy, Absent):
        return energy
    read_s = duration_s - energy.missing_s
    if not read_s > 0:
        return Absent(part=energy.part, boundary=energy.boundary, reason="the idle stage holds no measured time")
    return IdlePower(
        part=energy.part,
        value_w=energy.value_j / read_s,
        random_w=math.hypot(energy.random_j / read_s, _half_width_of_mean(spread_w)),
        systematic_low_w=energy.systematic_low_j / read_s,
        systematic_high_w=energy.systematic_high_j / read_s,
        basis=energy.basis,
        driver=energy.driver,
    )


def net(
    gross: Sequence[Energy | Absent],
    idle: Mapping[str, IdlePower | Absent],
    lengths_s: Mapping[str, float],
    boundary: Boundary | None = None,
) -> Total | NoTotal:
    """Energy above idle, over all parts of a stage (method.md, eq. 13); not floored at 0.

    Args:
        gross: the stage's energies, each part once.
        idle: idle power by part; empty where no idle stage was measured.
        lengths_s: the stage's seconds by part, weighted as its energies are.
        boundary: what is summed, as `combine` has it; parts beside that need no idle power.
    """
    if not idle:
        return NoTotal(reason=NO_IDLE_STAGE)
    parts: list[Energy | Absent] = []
    for energy in in_sum(gross, boundary):
        power = idle.get(energy.part)
        if isinstance(energy, Absent):
            parts.append(energy)
        elif isinstance(power, IdlePower):
            parts.append(net_energy(energy, power, lengths_s[energy.part]))
        else:
            why = f" ({power.reason})" if power is not None else ""
            return NoTotal(reason=f"no idle power for {energy.part}{why}")
    return combine(parts, boundary)


def net_energy(gross: Energy, idle: IdlePower, duration_s: float) -> Energy:
    """One part's energy above idle (method.md, eq. 13).

    The same instrument read both, so its gain acts on the difference; for different drivers the systematic parts
    add in quadrature, and so they do where a file only states the energy: its bounds hold more than a gain. Missing
    seconds hold no joules, so no idle energy is taken off for them.

    >>> from stillwatt.records import Basis, Boundary
    >>> gross = Energy(part="gpu0", device="x", boundary=Boundary.BOARD, value_j=300.0, random_j=3.0,
    ...                systematic_low_j=15.0, systematic_high_j=15.0, basis=Basis.MEASURED, method="counter",
    ...                coverage=1.0, failed_reads=0, estimated_j=0.0, missing_s=0.0, driver="nvml", source="")
    >>> idle = IdlePower(part="gpu0", value_w=50.0, random_w=2.0, systematic_low_w=2.5, systematic_high_w=2.5,
    ...                  basis=Basis.MEASURED, driver="nvml")
    >>> above = net_energy(gross, idle, duration_s=2.0)
    >>> above.value_j, above.random_j, above.systematic_low_j
    (200.0, 5.0, 10.0)
    """
    read_s = max(0.0, duration_s - gross.missing_s)
    value_j = gross.value_j - idle.value_w * read_s
    idle_low_j, idle_high_j = idle.systematic_low_w * read_s, idle.systematic_high_w * read_s
    if gross.driver == idle.driver and gross.method != STATED:
        low_j, high_j = abs(gross.systematic_low_j - idle_low_j), abs(gross.systematic_high_j - idle_high_j)
        if value_j < 0:
            low_j, high_j = high_j, low_j
    else:
        # what lies below gross and above idle both lower the difference
        low_j = math.hypot(gross.systematic_low_j, idle_high_j)
        high_j = math.hypot(gross.systematic_high_j, idle_low_j)
    return replace(
        gross,
        value_j=value_j,
        random_j=math.hypot(gross.random_j, idle.random_w * read_s),
        systematic_low_j=low_j,
        systematic_high_j=high_j,
        is_net=True,
    )


def _half_width_of_mean(values: Sequence[float]) -> float:
    """95 % half-width of the mean of some values: t * s / sqrt(n); 0 for fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = _STUDENT_T_975[count - 2] if count - 2 < len(_STUDENT_T_975) else _STUDENT_T_MORE
    return quantile * math.sqrt(variance / count)
