"""Whether a stage was measured well enough: by the rules that MLPerf Training sets for power (method.md, eq. 16c)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stillwatt.records.energy import NoTotal, Total

LEAST_RATE_PER_S = 1.0
LEAST_READINGS = 60
LEAST_COVERAGE = 0.95
MOST_HALF_REL = 0.05
_LEAST_UPDATES = 2.0
"""A stage shorter than this many updates lies inside one step of the instrument."""


class Outcome(StrEnum):
    """What is said of a stage."""

    MEETS = "meets"
    FALLS_SHORT = "falls short"
    TOO_SHORT = "shorter than the instrument resolves"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReadings:
    """How one part was read during a stage."""

    part: str
    readings: int
    period_s: float
    """Time between readings that can differ: the longer of the instrument's update and the sampling period."""
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of a stage, with the figures of its worst part.

    Attributes:
        outcome: in a word or two.
        readings: least number of readings that can differ, over the parts; None where nothing is known.
        rate_per_s: the same a second; None also where the stage has no length.
        coverage: least over the parts; None where nothing is known.
        half_rel: larger half of the gross energy's interval over its value; None where there is no such energy.
        reasons: every rule that is not met, with its figure.
    """

    outcome: Outcome
    readings: int | None
    rate_per_s: float | None
    coverage: float | None
    half_rel: float | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A stage's `verdict` in the contract `stillwatt.run/1`."""
        return {
            "outcome": self.outcome.value,
            "readings": self.readings,
            "rate_per_s": self.rate_per_s,
            "coverage": self.coverage,
            "half_rel": self.half_rel,
            "reasons": list(self.reasons),
        }


def verdict(duration_s: float, gross: Total | NoTotal, parts: Sequence[PartReadings]) -> Verdict:
    """Hold a stage against the rules (method.md, eq. 16c).

    Args:
        duration_s: the stage's length.
        gross: its energy over all parts, as metered.
        parts: how each part that has an energy was read.

    >>> from stillwatt.records import Basis, Boundary
    >>> gross = Total(value_j=6000.0, low_j=5700.0, high_j=6300.0, basis=Basis.MEASURED, complete=True, absent=(),
    ...               share_by_basis=((Basis.MEASURED, 1.0),), boundary=Boundary.COMPONENTS)
    >>> verdict(20.0, gross, [PartReadings(part="gpu0", readings=200, period_s=0.1, coverage=1.0)]).outcome.value
    'meets'
    >>> verdict(2.0, gross, [PartReadings(part="gpu0", readings=20, period_s=0.1, coverage=1.0)]).reasons
    ('gpu0: 20 readings; 60 are needed',)
    """
    if isinstance(gross, NoTotal) or not parts:
        reason = gross.reason if isinstance(gross, NoTotal) else "its readings are not here"
        return Verdict(
            outcome=Outcome.NOT_KNOWN, readings=None, rate_per_s=None, coverage=None, half_rel=None, reasons=(reason,)
        )
    counted = {each.part: _counted(each, duration_s) for each in parts}
    readings = min(counted.values())
    half_rel = None
    if gross.value_j > 0:
        half_rel = max(gross.high_j - gross.value_j, gross.value_j - gross.low_j) / gross.value_j
    slow = [each for each in parts if duration_s < _LEAST_UPDATES * each.period_s]
    if slow:
        outcome = Outcome.TOO_SHORT
        reasons = tuple(
            f"{each.part} gives a new value every {each.period_s:.3g} s, and the stage lasts {duration_s:.3g} s"
            for each in slow
        )
    else:
        reasons = tuple(_shortfalls(duration_s, gross, parts, counted, half_rel))
        outcome = Outcome.FALLS_SHORT if reasons else Outcome.MEETS
    return Verdict(
        outcome=outcome,
        readings=readings,
        rate_per_s=readings / duration_s if duration_s > 0 else None,
        coverage=min(each.coverage for each in parts),
        half_rel=half_rel,
        reasons=reasons,
    )


def _counted(part: PartReadings, duration_s: float) -> int:
    """Readings that can differ: one that repeats what the instrument showed before is no new sample."""
    return min(part.readings, int(duration_s / part.period_s)) if part.period_s > 0 else part.readings


def _shortfalls(
    duration_s: float, gross: Total, parts: Sequence[PartReadings], counted: dict[str, int], half_rel: float | None
) -> Iterator[str]:
    for each in parts:
        yield from _part_shortfalls(duration_s, each, counted[each.part])
    if gross.absent:
        yield f"without {', '.join(gross.absent)}"
    if half_rel is None:
        yield f"{gross.value_j:.3g} J is no energy to set an interval against"
    elif half_rel > MOST_HALF_REL:
        yield f"the interval is ±{100 * half_rel:.3g}% of the energy; {MOST_HALF_REL:.0%} is the most"


def _part_shortfalls(duration_s: float, part: PartReadings, readings: int) -> Iterator[str]:
    if not part.readings:
        yield f"{part.part}: no readings in it"
        return
    # a reading more or less lies at the edges
    if readings + 1 < LEAST_RATE_PER_S * duration_s:
        yield f"{part.part}: {readings / duration_s:.2g} readings a second; {LEAST_RATE_PER_S:g} is needed"
    if readings < LEAST_READINGS:
        yield f"{part.part}: {readings} readings; {LEAST_READINGS} are needed"
    if part.coverage < LEAST_COVERAGE:
        yield f"{part.part}: {part.coverage:.1%} covered by readings; {LEAST_COVERAGE:.0%} is needed"
