"""A number from the world that turns joules into an impact, with everything needed to judge and to name it.

A factor travels with its interval, unit, place, year, boundary, source and licence to the last page of a report, and
its `content_hash` names exactly these bytes of it. docs/method.md, eq. 61.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from enum import Enum

LIVE = "--grid"
"""What the origin of a factor names that a live grid service gave for a run's own hours."""


class Distribution(Enum):
    """What `low` and `high` mean and how a draw is taken (method.md, eq. 61)."""

    EXACT = "exact"
    """Low, value and high are one."""
    LOGNORMAL = "lognormal"
    """Median `value`; `low` and `high` are its 5 % and 95 % points, each side with its own width."""
    NORMAL = "normal"
    """Median `value`; `low` and `high` are its 5 % and 95 % points, each side with its own width."""
    TRIANGULAR = "triangular"
    """Peak at `value`, nothing beyond `low` and `high`."""
    UNIFORM = "uniform"
    """As likely anywhere from `low` to `high`."""


class Water(Enum):
    """Which water a figure counts; kinds are never added to each other."""

    CONSUMPTION = "consumption"
    """Litres taken and not given back."""
    WITHDRAWAL = "withdrawal"
    """Litres taken, whether given back or not."""
    AWARE = "aware"
    """Cubic metres weighted by scarcity (world-equivalents): not litres of anything."""
    UNSTATED = "unstated"
    """The source does not say, or mixes kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One figure with its interval and where it comes from."""

    id: str
    quantity: str
    """A name of `stillwatt.factors.quantities`."""
    value: float
    low: float
    high: float
    distribution: Distribution
    unit: str
    where: str
    """A place (`FRA`, `US-TX`, `aws/us-east-1`, `aws`), a device (`h100-sxm`), a technology (`hydro`) or `world`."""
    year: int | None
    """The year that the figure is for; None where its source does not say."""
    vintage: str
    """The year as its source writes it."""
    boundary: str
    """What the figure covers, in its source's words."""
    source: str
    source_url: str
    licence: str
    verified: bool
    """Whether the figure was read in the source named, rather than quoted by somebody else."""
    note: str = ""
    water: Water | None = None
    """Which water it counts, where it counts water."""
    spread_is_ours: bool = False
    """Whether the interval is this project's default for the quantity, as the source gives none."""
    origin: str = "stillwatt"
    """Who brought it: `stillwatt` (shipped), `ecologits 0.11.3` (an installed package), `user` with file and line."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise ValueError(f"factor {self.id}: {self.low}, {self.value}, {self.high} are not all numbers")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"factor {self.id}: {self.value} lies outside [{self.low}, {self.high}]")

    @property
    def content_hash(self) -> str:
        """sha256 over all that the factor says, so that a report can be recomputed with exactly this one."""
        said = asdict(self)
        said["distribution"] = self.distribution.value
        said["water"] = self.water.value if self.water else None
        text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFactor:
    """A factor that was looked for and is not there, and why. Never 0."""

    quantity: str
    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What speaks against a factor."""

    check: str
    """Which test found it, a word of docs/reference/factors.md."""
    severity: str
    """`fault`: the figure cannot be what it says and is not used. `caution`: it can be used, and this must be known."""
    factor: str
    """The factor's id, or the column of a source."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The factor that applies, and what had to be accepted to find it."""

    factor: Factor
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where work ran, as narrowly as it was named."""

    code: str
    """ISO 3166-1 alpha-3 (`FRA`), ISO 3166-2 (`US-TX`), bidding zone (`SE3`), `provider/region`, provider, `world`."""
    kind: str
    """`country`, `state`, `zone`, `cloud region`, `provider` or `world`."""
    name: str
    within: tuple[str, ...] = ()
    """Codes of the wider places that it lies in, nearest first; for a cloud region, its grid's place and country."""
    provider: str = ""
    """Code of the provider, for a provider or a cloud region."""
    caution: str = ""
