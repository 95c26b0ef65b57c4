"""Impacts over the eight stages of a life cycle: cells with a status, typed amounts, and what goes into them.

The names of the eight stages are those of Lambert and Luccioni (arXiv 2605.05416); where each begins and ends, and
which stage of a pipeline is booked where, is this project's (docs/method.md, section 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import Water


class LifeStage(StrEnum):
    """The eight stages."""

    HARDWARE = "hardware_manufacturing"
    INFRASTRUCTURE = "infrastructure_construction"
    DATA = "data"
    EXPERIMENTATION = "experimentation"
    TRAINING = "training"
    POST_TRAINING = "post_training"
    DEPLOYMENT = "deployment"
    END_OF_LIFE = "end_of_life"


class Impact(StrEnum):
    """What is counted; unlike ones are never added."""

    ENERGY_METERED = "energy_metered"
    """As the meter stands: its boundary is named beside it."""
    ENERGY_NODE = "energy_node"
    """The whole node, which is the IT energy of PUE and WUE."""
    ENERGY_FACILITY = "energy_facility"
    PRIMARY_ENERGY = "primary_energy"
    GWP_LOCATION = "gwp_location"
    GWP_MARKET = "gwp_market"
    WATER_ONSITE = "water_onsite"
    WATER_OFFSITE = "water_offsite"
    ADPE = "adpe"
    EWASTE = "ewaste"


class Status(StrEnum):
    """How a cell came to its value, best first, or why it has none."""

    MEASURED = "measured"
    MODELLED = "modelled"
    FACTOR = "factor"
    """A figure from outside had a part in it."""
    NOT_APPLICABLE = "not_applicable"
    """There is nothing of the kind in this stage."""
    NOT_COUNTED = "not_counted"
    """There is something and it is not known. Never 0."""


class Making(StrEnum):
    """What a figure of making or disposing covers: it lies beside every metered boundary and within none."""

    EQUIPMENT = "equipment"
    """Devices, hosts, network and drives, each by the share that the work took; the cell lists which."""
    BUILDING = "building"


Extent = Boundary | Making
"""How far a value reaches."""


def extent(word: str) -> Extent:
    """The extent of a word.

    Raises:
        ValueError: no such extent.

    >>> extent("building"), extent("node")
    (<Making.BUILDING: 'building'>, <Boundary.NODE: 'node'>)
    """
    return Making(word) if word in {one.value for one in Making} else Boundary(word)


VALUED = frozenset({Status.MEASURED, Status.MODELLED, Status.FACTOR})
"""Statuses that come with a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """So much of one kind of thing, up to one boundary."""

    impact: Impact
    unit: str
    value: float
    boundary: Extent
    water: Water | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One impact of one stage; the interval is 90 %."""

    stage: LifeStage
    impact: Impact
    unit: str
    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    boundary: Extent | None = None
    covers: tuple[str, ...] = ()
    """Of making and disposing: which kinds of thing are in the value (`accelerator`, `host`, `storage`, …)."""
    water: Water | None = None
    factors: tuple[str, ...] = ()
    """Ids of the factors that made it."""
    incomplete: tuple[str, ...] = ()
    """What is not in the value, though it belongs to it."""
    reason: str = ""
    """Why there is no value."""
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        has_value = self.value is not None
        if has_value != (self.status in VALUED):
            raise ValueError(f"{self.stage}/{self.impact}: status {self.status} and value {self.value}")
        if not has_value and not self.reason:
            raise ValueError(f"{self.stage}/{self.impact}: no value and no reason")
        numbers = (self.low, self.value, self.high)
        known = [number for number in numbers if number is not None]
        if has_value and (len(known) != 3 or not all(map(math.isfinite, known)) or sorted(known) != known):
            raise ValueError(f"{self.stage}/{self.impact}: {self.value} in [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Energy that one run used in one life-cycle stage, at one boundary."""

    run: str
    stage: LifeStage
    energy: Total | NoTotal
    meter: str = ""
    """What read it: systematic errors of one meter move together."""

    @property
    def basis(self) -> Basis | None:
        """How the energy is known; None where it is not."""
        return self.energy.basis if isinstance(self.energy, Total) else None
