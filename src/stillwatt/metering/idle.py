"""One idle power per part from rests before, between and after the work (method.md, eq. 16)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from stillwatt.metering.baseline import IdlePower, idle_power
from stillwatt.metering.rest import Rest
from stillwatt.metering.totals import sum_part
from stillwatt.records.channel import worst_basis
from stillwatt.records.energy import Absent, Energy

_ROUNDING = 2.0**-30
"""Of a power: those that differ by less differ by rounding, as a constant of a model does from itself."""


class When(StrEnum):
    """Where in a run a rest lies."""

    BEFORE = "before"
    """Before any stage that works."""
    BETWEEN = "between"
    AFTER = "after"
    """After all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestPower:
    """What one part drew over the rests of one time of the run."""

    when: When
    power: IdlePower | Absent
    length_s: float
    """Seconds that the power rests on."""
    spread_w: float | None
    """Standard deviation of mean powers over blocks of about a second; None where there are fewer than two."""
    pieces: int
    """How many pieces were looked at for work; 0 where the rests were too short for that."""
    clean: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Idle power of one part, and what it was made from.

    Attributes:
        power: what net energies are net of.
        rests: what was measured, in the order of `When`.
        drift_w: after less before; None where one of them is not known.
        drift_random_w: its half-width; the gain is the same instrument's and is left out.
        agrees: whether all rests' random intervals meet; where they do not, `power` covers them all.
        notes: what the reader should know: contamination, disagreement.
        where: on which machine, where parts of several machines have its name.
    """

    part: str
    power: IdlePower | Absent
    rests: tuple[RestPower, ...]
    drift_w: float | None
    drift_random_w: float | None
    agrees: bool
    notes: tuple[str, ...]
    where: str = ""

    @property
    def label(self) -> str:
        """The part, and where it is if that has to be said."""
        return f"{self.part} on {self.where}" if self.where else self.part


def baseline(part: str, found: Mapping[When, Sequence[Rest]], *, name: str = "idle", where: str = "") -> Baseline:
    """Idle power, or that of another `name`, of a part over all its rests (method.md, eq. 16).

    Where rests before, between and after the work agree, all of their seconds give one power. Where they do not, it
    is the middle between the least and the largest, and its interval reaches over all of theirs.

    Args:
        part: the part.
        found: its rests; at least one in all.
        name: what notes call the power.
        where: on which machine, where that has to be said.
    """
    rests = tuple(_rest_power(part, when, found[when]) for when in When if found.get(when))
    known = {rest.when: rest.power for rest in rests if isinstance(rest.power, IdlePower)}
    agrees = _agree(list(known.values()))
    if agrees:
        everything = [rest for when in When for rest in found.get(when, ())]
        power = _pooled(part, everything)
    else:
        power = _covering(list(known.values()))
    drift_w = drift_random_w = None
    if When.BEFORE in known and When.AFTER in known:
        drift_w = known[When.AFTER].value_w - known[When.BEFORE].value_w
        drift_random_w = math.hypot(known[When.AFTER].random_w, known[When.BEFORE].random_w)
    return Baseline(
        part=part,
        power=power,
        rests=rests,
        drift_w=drift_w,
        drift_random_w=drift_random_w,
        agrees=agrees,
        notes=tuple(_notes(f"{part}{f' on {where}' if where else ''}: {name}", rests, power, agrees=agrees)),
        where=where,
    )


def _rest_power(part: str, when: When, rests: Sequence[Rest]) -> RestPower:
    blocks_w = [block_w for rest in rests for block_w in rest.blocks_w]
    return RestPower(
        when=when,
        power=_pooled(part, rests),
        length_s=math.fsum(rest.used_s for rest in rests if isinstance(rest.energy, Energy)),
        spread_w=statistics.stdev(blocks_w) if len(blocks_w) > 1 else None,
        pieces=sum(rest.pieces for rest in rests),
        clean=sum(rest.clean for rest in rests),
        problems=tuple(problem for rest in rests for problem in rest.problems),
    )


def _pooled(part: str, rests: Sequence[Rest]) -> IdlePower | Absent:
    """One power over the seconds of several rests; what widens each counts by its seconds."""
    lengths_s = [rest.used_s for rest in rests]
    energy = sum_part([rest.energy for rest in rests], lengths_s)
    power = idle_power(energy, math.fsum(lengths_s), [block_w for rest in rests for block_w in rest.blocks_w])
    if isinstance(power, Absent):
        return replace(power, part=part)
    # seconds in which the part was absent tell nothing: counted here, they would thin out what the others are unsure of
    told = [rest for rest in rests if isinstance(rest.energy, Energy)]
    widened_w = math.fsum(rest.widened_w * rest.used_s for rest in told) / math.fsum(rest.used_s for rest in told)
    return replace(power, random_w=power.random_w + widened_w)


def _agree(powers: Sequence[IdlePower]) -> bool:
    """Whether every two random intervals meet; the gain is the same instrument's and cancels."""
    return all(
        abs(one.value_w - other.value_w) <= one.random_w + other.random_w + _ROUNDING * abs(one.value_w)
        for number, one in enumerate(powers)
        for other in powers[number + 1 :]
    )


def _covering(powers: Sequence[IdlePower]) -> IdlePower:
    """The middle of the least and the largest, with an interval that reaches over all (method.md, eq. 16)."""
    low = min(powers, key=lambda power: power.value_w)
    high = max(powers, key=lambda power: power.value_w)
    return replace(
        low,
        basis=worst_basis([power.basis for power in powers]),
        value_w=(low.value_w + high.value_w) / 2,
        random_w=(high.value_w - low.value_w) / 2 + max(power.random_w for power in powers),
        systematic_low_w=(low.systematic_low_w + high.systematic_low_w) / 2,
        systematic_high_w=(low.systematic_high_w + high.systematic_high_w) / 2,
    )


def _notes(subject: str, rests: Sequence[RestPower], power: IdlePower | Absent, *, agrees: bool) -> Iterator[str]:
    for rest in rests:
        for problem in rest.problems:
            yield f"{subject} power {rest.when.value} the work {problem}"
    if not agrees and isinstance(power, IdlePower):
        powers = "; ".join(
            f"{rest.power.value_w:.4g} ± {rest.power.random_w:.2g} W {rest.when.value} the work"
            for rest in rests
            if isinstance(rest.power, IdlePower)
        )
        yield (
            f"{subject} power differs: {powers} (a warm card, a context still loaded, somebody else's work?); net "
            f"energies are taken from {power.value_w:.4g} ± {power.random_w:.2g} W, which covers all of them"
        )
