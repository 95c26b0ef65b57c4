"""How much the energy of one piece of work differs from one time to the next (method.md, eq. 28).

A meter's random error says how well one training was measured, not how far the next one would lie from it: clocks,
neighbours and temperature move both its time and its power. A comparison of two single trainings needs that too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillwatt.analysis.bills import price
from stillwatt.analysis.bookings import Bookings
from stillwatt.records.finding import Bill
from stillwatt.records.run import StageRecord
from stillwatt.records.window import StageKind

ASSUMED_REL = 0.1
"""Half-width, 95 %, as a share of the energy, below which no single run is believed to repeat. Assumed."""
_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """Half-width, 95 %, of one training's energy around that of its repeats, as a share of it."""

    rel: float
    is_assumed: bool
    """Whether it is the assumed floor; otherwise the run's own increments differed by more."""
    seeds: int = 1
    """With so many seeds the most repeated arm was trained."""

    @property
    def sentence(self) -> str:
        """What a reader should know of it."""
        are_repeated = self.seeds > 1
        equal = f"equal trainings with {self.seeds} seeds" if are_repeated else "equal increments of one training"
        how = "assumed" if self.is_assumed else f"from the spread between {equal}"
        begun = "each seed stands by itself here" if are_repeated else "no training was repeated"
        means = "; `stillwatt analyse RUN` compares the means of the seeds" if are_repeated else ""
        return (
            f"{begun}: N*, T* and the frontier's probabilities take a single stage's energy to repeat within "
            f"±{self.rel:.0%} ({how}){means}"
        )


def repeatability(bookings: Bookings) -> Repeatability:
    """The larger of the assumed floor and what the run shows (method.md, eq. 28).

        r = max(0.1, 1.96 sqrt( sum_ai (j_ai / mean_i j_ai - 1)^2 / sum_a (n_a - 1) ))                          [1]

    with j_ai the energy per token of the i-th training increment of arm a, all its seeds together. Increments of one
    arm do the same work per token one after the other, so their spread is a lower bound of that between days.
    """
    arms: dict[str, list[float]] = {}
    seeds: dict[str, set[str]] = {}
    for stage, rate in _increments(bookings):
        seed = stage.labels.get("seed", "")
        arm = stage.labels.get("arm", "").removesuffix(f".s{seed}")
        arms.setdefault(arm, []).append(rate)
        seeds.setdefault(arm, set()).add(seed)
    spread = _Z_95 * pooled_relative_deviation([rates for rates in arms.values() if len(rates) > 1])
    most = max(map(len, seeds.values()), default=1)
    return Repeatability(rel=max(ASSUMED_REL, spread), is_assumed=spread <= ASSUMED_REL, seeds=most)


def increments_of(bookings: Bookings, arm: str) -> tuple[float, ...]:
    """Energy per token of each training increment of an arm, as far as it is known [J]."""
    return tuple(rate for stage, rate in _increments(bookings) if stage.labels.get("arm") == arm)


def _increments(bookings: Bookings) -> Iterator[tuple[StageRecord, float]]:
    for stage in bookings.ended:
        rate = _energy_per_token(bookings, stage)
        if rate is not None:
            yield stage, rate


def _energy_per_token(bookings: Bookings, stage: StageRecord) -> float | None:
    """Joules per token of a training increment; None where one of the two is not known."""
    tokens = stage.workload.get("tokens", 0.0)
    if stage.kind is not StageKind.STUDENT_TRAIN or tokens <= 0.0:
        return None
    bill = price(bookings.book, {stage.stage_id: 1.0})
    return bill.value_j / tokens if isinstance(bill, Bill) and bill.value_j > 0.0 else None


def pooled_relative_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation around each group's own mean, relative to it, pooled over groups; 0 without groups.

    >>> round(pooled_relative_deviation([[9.0, 11.0], [90.0, 110.0]]), 4)
    0.1414
    """
    squares = [(rate / statistics.fmean(group) - 1.0) ** 2 for group in groups for rate in group]
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt(math.fsum(squares) / freedom) if freedom else 0.0
