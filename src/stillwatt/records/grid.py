"""Intensities of a grid hour by hour, what they count, and the hours that have none.

An average intensity is the mix's; a marginal one is that of the plant that answers to one kWh more. They answer
different questions and are never added, compared or put in each other's place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from stillwatt.records.energy import NoTotal, Total
from stillwatt.units import NS_PER_S, S_PER_H

HOUR_NS = S_PER_H * NS_PER_S
"""One hour of the wall clock; hours begin at whole hours UTC."""


class Signal(StrEnum):
    """Which question an intensity answers."""

    AVERAGE = "average"
    """Emissions of all plants over their electricity: what an account is made with."""
    MARGINAL = "marginal"
    """Emissions of what is run for one kWh more: what a decision is made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """The intensity of one hour."""

    start_utc_ns: int
    value_g_per_kwh: float
    low_g_per_kwh: float | None = None
    """Lower end where the intensity was made from factors with intervals; None where the source gives none."""
    high_g_per_kwh: float | None = None
    is_estimated: bool = False
    """Whether the source itself calls it an estimate or a forecast."""

    def __post_init__(self) -> None:
        if self.start_utc_ns % HOUR_NS:
            raise ValueError(f"{self.start_utc_ns} is not the beginning of an hour")
        if not (math.isfinite(self.value_g_per_kwh) and self.value_g_per_kwh >= 0.0):
            raise ValueError(f"{self.value_g_per_kwh} g/kWh is not an intensity")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoHour:
    """An hour without an intensity, and why. Never filled from its neighbours."""

    start_utc_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a source, as it was kept."""

    request: str
    """The address that was asked, without any key."""
    sha256: str
    """Of the answer's bytes."""
    fetched_utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlySeries:
    """Intensities of one zone by one source, with all that is needed to judge them."""

    source: str
    zone: str
    signal: Signal
    boundary: str
    """What the figures count, e.g. life-cycle GWP with imports, or CO2 of combustion alone."""
    licence: str
    source_url: str
    hours: tuple[Hour, ...]
    missing: tuple[NoHour, ...]
    answers: tuple[Answer, ...]
    cautions: tuple[str, ...] = ()
    is_read: bool = True
    """Whether every figure in it was read in its source; False where one that it was made with is quoted."""

    def __post_init__(self) -> None:
        starts = [hour.start_utc_ns for hour in self.hours] + [hour.start_utc_ns for hour in self.missing]
        if len(set(starts)) != len(starts):
            raise ValueError(f"{self.source} {self.zone}: an hour stands in the series twice")

    @property
    def fetched_utc(self) -> str:
        """When the youngest answer was given; empty where nothing was asked."""
        return max((answer.fetched_utc for answer in self.answers), default="")

    @property
    def estimated(self) -> int:
        """How many of the hours the source calls estimated."""
        return sum(hour.is_estimated for hour in self.hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSeries:
    """A series that cannot be given, and why. Never one of zeros."""

    source: str
    zone: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """Energy of one stage, with the windows of the wall clock in which it was used."""

    name: str
    windows: tuple[tuple[int, int], ...]
    """Beginnings and ends in nanoseconds UTC, in order, none inside another."""
    energy: Total | NoTotal

    def __post_init__(self) -> None:
        if not self.windows or any(end < start for start, end in self.windows):
            raise ValueError(f"{self.name} has no window, or one that ends before it begins")


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyResult:
    """What a series says of one stage (docs/method.md, eqs. 111 and 112)."""

    name: str
    energy_j: float | None
    """None where the stage's energy is not known."""
    known_j: float
    """Energy in hours that have an intensity."""
    mean_g_per_kwh: float | None
    """Weighted by the energy of the hours that have one; None where none has."""
    low_g_per_kwh: float | None
    """The least, and the most, that any course of power inside the stage could make of it."""
    high_g_per_kwh: float | None
    missing: tuple[NoHour, ...]
    """Hours with energy and without an intensity."""
    estimated_j: float
    """Of `known_j`, the energy in hours that the source calls estimated."""
    reason: str = ""
    """Why there is no mean."""

    @property
    def is_complete(self) -> bool:
        """Whether every hour with energy has an intensity, and the energy is known."""
        return self.mean_g_per_kwh is not None and not self.missing
