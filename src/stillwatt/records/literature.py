"""What others have published: works, which stages of a life cycle each of them treats, and their figures.

A coding is somebody's reading of a work. It says what that reading rests on (`Evidence`), and what a reader of an
abstract could not see is `unknown`, never `none`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from stillwatt.records.impact import LifeStage

WIDEST_RANGE = 10.0
"""A range whose ends are further apart than this has no middle that would stand for it."""


class Evidence(StrEnum):
    """What a coding or a figure rests on, best first."""

    FULL_TEXT = "full_text"
    """The work itself was read."""
    CARD = "card"
    """A model card, repository or page of the authors was read; nothing longer was looked at."""
    SECONDARY = "secondary"
    """Somebody else's account of the work was read."""
    ABSTRACT = "abstract"
    """The abstract alone was read."""
    RECALLED = "recalled"
    """Nothing was looked up."""


READ_WHOLE = frozenset({Evidence.FULL_TEXT, Evidence.CARD})
"""Evidence that shows what a work leaves out."""


class Treatment(StrEnum):
    """What a work does with a life-cycle stage, most first."""

    QUANTIFIED = "quantified"
    """It gives a number."""
    QUALITATIVE = "qualitative"
    """It discusses the stage without a number of its own."""
    MENTIONED = "mentioned"
    NONE = "none"
    """It was looked for and is not there."""
    UNKNOWN = "unknown"
    """What was read does not show it."""


class WorkKind(StrEnum):
    """What sort of publication it is."""

    PAPER = "paper"
    REPORT = "report"
    MODEL_CARD = "model_card"
    LCA = "lca"
    """A life-cycle assessment or product carbon footprint."""


class Method(StrEnum):
    """How a published figure came about, by our coding."""

    MEASURED = "measured"
    """Read from an instrument over the whole of what it covers."""
    MEASURED_SCALED = "measured_scaled"
    """Read over a part and multiplied out."""
    MEASURED_LCA = "measured_lca"
    """A life-cycle assessment with an inventory of its own."""
    REPORTED = "reported"
    """Stated without its method."""
    ESTIMATED = "estimated"
    """Hours times rated power, or a calculator."""
    MODELLED = "modelled"
    MODELLED_LCA = "modelled_lca"
    """A life-cycle assessment on factors of others."""
    DERIVED = "derived"
    """Arithmetic on published figures."""
    SURVEY = "survey"
    MIXED = "mixed"


class Reach(StrEnum):
    """How far a published figure reaches; the first seven are boundaries of energy, the others of products."""

    BOARD = "board"
    """Accelerators alone."""
    COMPONENTS = "components"
    """Accelerators, processors and memory."""
    NODE = "node"
    """Whole computers."""
    BOARD_X_PUE = "board_x_pue"
    """Accelerators' energy times PUE: the host is left out, the cooling is not."""
    COMPONENTS_X_PUE = "components_x_pue"
    """The components' energy times PUE."""
    FACILITY = "facility"
    """Whole computers times PUE, or the data centre's meter."""
    SECTOR = "sector"
    """A company, a fleet or all data centres: no one job."""
    DIE = "die"
    """Silicon alone."""
    CRADLE_TO_GATE = "cradle_to_gate"
    """Making, up to the gate."""
    CRADLE_TO_GRAVE = "cradle_to_grave"
    """Making, transport and end of life, without use."""
    BUILDING = "building"
    LIFE_CYCLE = "life_cycle"
    """Operation and a share of making in one figure."""
    PART = "part"
    """A part of another figure: never set beside a whole."""
    UNSTATED = "unstated"
    """Its source does not say, or we have not seen it."""


class Counts(StrEnum):
    """Which carbon or which water a figure counts."""

    LOCATION = "location"
    """CO2e by the grid's average."""
    MARKET = "market"
    """CO2e by contract."""
    NET = "net"
    """CO2e less carbon-free energy that the operator counts for itself."""
    ONSITE = "onsite"
    OFFSITE = "offsite"
    ONSITE_OFFSITE = "onsite_offsite"
    """Water at the site and at power plants together."""
    UNSTATED = "unstated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One publication with its coding."""

    id: str
    title: str
    authors: str
    year: int
    kind: WorkKind
    source: str
    """Address, or where it was printed."""
    treatments: tuple[tuple[LifeStage, Treatment], ...]
    """Each of the eight stages once, in their order."""
    metrics: tuple[tuple[LifeStage, tuple[str, ...]], ...]
    """Which metrics it quantifies at which stage."""
    energy_method: str = ""
    boundary: str = ""
    pue: str = ""
    grid_factor: str = ""
    water_scope: str = ""
    embodied_method: str = ""
    uncertainty: str = ""
    functional_unit: str = ""
    open: str = ""
    """Data or code that others can use."""
    evidence: Evidence
    verified: bool
    """Whether title, authors and address have been checked."""
    note: str = ""

    def __post_init__(self) -> None:
        if [stage for stage, _ in self.treatments] != list(LifeStage):
            raise ValueError(f"work {self.id}: its treatments are not one for each of the eight stages, in order")

    def treatment(self, stage: LifeStage) -> Treatment:
        """What it does with a stage."""
        return dict(self.treatments)[stage]

    @property
    def content_hash(self) -> str:
        """sha256 over all that the row says."""
        return _hash(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One number out of a work."""

    id: str
    work: str
    """Id of the work it stands in."""
    subject: str
    """What it is a figure of."""
    stages: tuple[LifeStage, ...]
    """More than one where the source does not part them."""
    metric: str
    value: float | None
    low: float | None
    high: float | None
    """Ends of a range, as printed: what kind of range, its source says."""
    written: str
    """How it is printed, where that is more than a number."""
    unit: str
    per: str
    """Per how many of what (`query`, `1000 inferences`); empty for an absolute figure."""
    reach: Reach | None
    counts: Counts | None
    method: Method
    year: int
    evidence: Evidence
    verified: bool
    """Whether the figure was seen in what `evidence` names."""
    note: str = ""

    @property
    def middle(self) -> float | None:
        """The value, or the middle of a range of no more than tenfold; None where there is no such number."""
        if self.value is not None:
            return self.value
        if self.low is None or self.high is None or self.high > WIDEST_RANGE * self.low:
            return None
        return (self.low + self.high) / 2

    @property
    def content_hash(self) -> str:
        """sha256 over all that the row says."""
        return _hash(asdict(self))


def _hash(said: dict[str, Any]) -> str:
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
