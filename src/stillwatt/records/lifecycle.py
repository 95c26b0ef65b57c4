"""What goes into a life-cycle account besides energy, and what comes out: devices, bytes, counts; totals, coverage.

docs/method.md, section 7, eqs. 70 to 79.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stillwatt.records.factor import Choice, NoFactor
from stillwatt.records.impact import Cell, Impact, LifeStage

Found = Choice | NoFactor
"""A factor with what must be known of it, or why there is none."""


class Role(StrEnum):
    """What a device does for the work."""

    ACCELERATOR = "accelerator"
    HOST = "host"
    NETWORK = "network"


class TimeShare(StrEnum):
    """Which time a device is charged for, over its lifetime (method.md, eq. 71)."""

    CALENDAR = "calendar"
    """From the beginning to the end of the run's sessions, whatever they did."""
    BUSY = "busy"
    """Its stages without idle baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """So many devices of one kind that were held for a time."""

    run: str
    role: Role
    name: str
    """As a driver or the user calls it."""
    device: str
    """Its code among the factors."""
    count: float
    """May be a part of one: an eighth of a server."""
    time_s: float
    found: Mapping[str, Found]
    """By quantity: `embodied_…`, `eol_…`, `ewaste_mass`."""
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.count) and self.count > 0.0 and math.isfinite(self.time_s) and self.time_s >= 0.0):
            raise ValueError(f"{self.name}: {self.count} devices for {self.time_s} s cannot be meant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that were kept for a time on drives of one technology."""

    run: str
    what: str
    """`logit cache`, `teacher's text`, `checkpoints`."""
    size_bytes: float
    days: float
    technology: str
    found: Found
    """GWP of making a gigabyte of it."""

    def __post_init__(self) -> None:
        if not (self.size_bytes >= 0.0 and self.days >= 0.0):
            raise ValueError(f"{self.what}: {self.size_bytes} bytes for {self.days} days cannot be meant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Bytes that were fetched over a network."""

    run: str
    what: str
    """A model's source, a data set's name."""
    size_bytes: float
    told_by: str
    """`record` or `user`."""
    found: Found
    """Electricity of moving a gigabyte."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.size_bytes) and self.size_bytes > 0.0):
            raise ValueError(f"{self.what}: {self.size_bytes} bytes cannot be meant; what is not known is a lack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Where attempts were looked for: without it, an experimentation of 0 is a claim and no measurement."""

    runs_looked_at: int
    attempts: int
    """How many stages were booked as experimentation."""
    means: str
    """Where was looked, and how."""

    def __post_init__(self) -> None:
        if self.runs_looked_at < 0 or self.attempts < 0:
            raise ValueError(f"{self.runs_looked_at} runs and {self.attempts} attempts cannot be meant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something that belongs to a stage and is not known."""

    stage: LifeStage
    reason: str
    impacts: tuple[Impact, ...] = ()
    """Which impacts lack it; empty: all that apply to the stage."""

    def concerns(self, stage: LifeStage, impact: Impact) -> bool:
        """Whether a cell lacks it."""
        return stage is self.stage and (not self.impacts or impact in self.impacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What an impact is divided by, or why it cannot be."""

    unit: str
    """`run`, `student`, `token`, `accepted sample`, `point of quality`, `1,000 requests`."""
    count: float | None
    reason: str = ""
    """Why there is no count."""
    means: str = ""
    """What is counted."""
    stages: tuple[LifeStage, ...] = ()
    """Whose impacts are divided; empty: all of them."""

    def __post_init__(self) -> None:
        if self.count is None and not self.reason:
            raise ValueError(f"per {self.unit}: no count and no reason")
        if self.count is not None and not (math.isfinite(self.count) and self.count > 0.0):
            raise ValueError(f"per {self.unit}: {self.count} is nothing to divide by; give a reason instead")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactTotal:
    """One impact over all stages that are counted, and what is not in it; the interval is 90 %."""

    impact: Impact
    unit: str
    value: float | None
    low: float | None
    high: float | None
    stages: tuple[LifeStage, ...]
    """Stages whose cells are in the sum."""
    lacking: tuple[str, ...]
    """What is not in it, though it belongs to it."""
    reason: str = ""
    """Why there is no value."""
    coverage: float = 0.0
    """Score of this impact's cells alone (method.md, eq. 76)."""
    shares: tuple[tuple[str, float], ...] = ()
    """Share of variance by input, most first (method.md, eq. 69)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """The impacts per functional unit: value and 90 % interval by impact, for impacts that have a total."""

    count: Count
    values: tuple[tuple[Impact, float, float, float], ...]
    """Impact, value, low and high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of stages × impacts is counted, and how well (method.md, eq. 76)."""

    score: float
    counted: float
    """The same with every class taken as the best: how much is there at all."""
    by_stage: tuple[tuple[LifeStage, float], ...]
    by_impact: tuple[tuple[Impact, float], ...]
    by_status: tuple[tuple[str, int], ...]
    """How many cells have which status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """What a total would be at the ends of one factor's interval, all else at its value (method.md, eq. 79)."""

    impact: Impact
    factor: str
    at_low: float
    at_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """A life-cycle account: every cell, totals, functional units, coverage."""

    cells: tuple[Cell, ...]
    totals: tuple[ImpactTotal, ...]
    units: tuple[PerUnit, ...]
    coverage: Coverage
    classes: Mapping[tuple[LifeStage, Impact], str]
    """Data-quality class of each cell that has a value (method.md, eq. 76)."""
    swings: tuple[Swing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFault:
    """What is wrong with a report, and where."""

    rule: str
    """Which rule it breaks: `schema`, or a name of `stillwatt.report.lifecycle_rules`."""
    path: str
    """JSON path."""
    message: str
