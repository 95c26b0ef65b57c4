"""The contract `stillwatt.lifecycle/1` as models: its JSON Schema, and each fault of a report with its JSON path.

Somebody else's report can be written by hand to it: what Stillwatt alone needs to compute an account anew may be left
out, what a reader needs to judge it may not.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.factor import Distribution, Water
from stillwatt.records.impact import Impact, LifeStage, Making, Status
from stillwatt.records.lifecycle import ReportFault, Role, TimeShare

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Cell(_Strict):
    """One impact of one stage."""

    stage: LifeStage
    impact: Impact
    unit: Text = Field(description="The unit of the impact: kWh, MJ, kgCO2e, L, kgSbeq, kg.")
    status: Status = Field(description="not_counted: there is something and it is not known; never 0.")
    value: float | None = Field(description="null where the status gives none.")
    low: float | None = Field(description="5 % point.")
    high: float | None = Field(description="95 % point.")
    quality: Literal["A", "B", "C", "D"] | None = Field(default=None, description="Class of docs/method.md, eq. 76.")
    boundary: Boundary | Making | None = Field(
        default=None,
        description="How much of the machine the value covers; of making and disposing: equipment or building.",
    )
    covers: list[Text] = Field(
        default=[], description="Of making and disposing: accelerator, host, network, storage, building."
    )
    water: Water | None = Field(default=None, description="Which water is counted.")
    factors: list[str] = Field(default=[], description="Ids of the factors that made it.")
    incomplete: list[str] = Field(default=[], description="What is not in the value, though it belongs to it.")
    reason: str | None = Field(default=None, description="Why there is no value.")
    cautions: list[str] = []


class Total(_Strict):
    """One impact over the stages that are counted."""

    impact: Impact
    unit: Text
    value: float | None
    low: float | None
    high: float | None
    stages: list[LifeStage] = Field(description="Stages whose cells are in the sum.")
    complete: bool
    lacking: list[str] = Field(description="What is not in it, though it belongs to it.")
    reason: str | None = None
    coverage: Share = Field(description="Score of this impact's cells alone.")
    shares_of_variance: dict[str, Share] = {}


class FactorRow(_Strict):
    """A factor whole, with the sha256 over all that it says."""

    id: Text
    quantity: Text
    value: float
    low: float
    high: float
    distribution: Distribution
    unit: Text
    where: Text
    year: int | None
    vintage: str
    boundary: str
    source: str
    source_url: str
    licence: str
    verified: bool
    note: str = ""
    water: Water | None = None
    spread_is_ours: bool = False
    origin: str = "stillwatt"
    hash: Sha256


class EnergyKnown(_Strict):
    """Joules with their 95 % interval."""

    value_j: float
    low_j: float
    high_j: float
    basis: Basis
    complete: bool
    boundary: Boundary
    absent_channels: list[str] = []
    share_by_basis: dict[str, Share] = {}


class EnergyAbsent(_Strict):
    """An energy that is not known."""

    absent: Text


class Use(_Strict):
    """Energy of one run in one stage."""

    run: Text
    stage: LifeStage
    meter: str = ""
    energy_j: EnergyKnown | EnergyAbsent


class FoundRow(_Strict):
    """A factor by its id with what must be known of it, or why there is none."""

    factor: str | None
    cautions: list[str] = []
    quantity: str | None = None
    where: str | None = None
    reason: str | None = None


class Device(_Strict):
    """Devices that were held for a time."""

    run: str
    role: Role
    name: str
    device: str
    count: Annotated[float, Field(gt=0.0)]
    time_s: NotNegative
    found: dict[str, FoundRow] = {}
    cautions: list[str] = []


class Stored(_Strict):
    """Bytes that were kept."""

    run: str
    what: str
    size_bytes: NotNegative
    days: NotNegative
    technology: str
    found: FoundRow


class MovedRow(_Strict):
    """Bytes that were fetched over a network."""

    run: str
    what: str
    size_bytes: Annotated[float, Field(gt=0.0)]
    told_by: str
    found: FoundRow


class TriedRow(_Strict):
    """Where attempts were looked for: an experimentation of 0 needs it."""

    runs_looked_at: Annotated[int, Field(ge=0)]
    attempts: Annotated[int, Field(ge=0)] = Field(description="How many stages were booked as experimentation.")
    means: Text = Field(description="Where was looked, and how.")


class LackRow(_Strict):
    """Something of a stage that is not known."""

    stage: LifeStage
    reason: Text
    impacts: list[Impact] = []


class CountRow(_Strict):
    """What impacts are divided by."""

    unit: Text
    count: Annotated[float, Field(gt=0.0)] | None
    means: str = ""
    reason: str | None = None
    stages: list[LifeStage] = []


class Inventory(_Strict):
    """What was used."""

    uses: list[Use]
    devices: list[Device] = []
    stored: list[Stored] = []
    moved: list[MovedRow] = []
    tried: TriedRow | None = None
    lacks: list[LackRow] = []
    counts: list[CountRow] = []


class PlaceRow(_Strict):
    """Where the work ran."""

    code: Text
    kind: str
    name: Text
    within: list[str] = []
    provider: str = ""
    caution: str = ""


class Boundaries(_Strict):
    """What of a stage is counted, and why the rest is left out."""

    stage: LifeStage
    counted: list[Impact]
    left_out: list[str]


class Conventions(_Strict):
    """Choices of method."""

    time_share: TimeShare
    charge_idle: bool
    charge_hydro: bool


class Uncertainty(_Strict):
    """How intervals were made."""

    interval: Annotated[float, Field(ge=0.9, le=0.9)]
    draws: Annotated[int, Field(gt=0)]
    seed: int


class GoalAndScope(_Strict):
    """ISO 14044's first phase."""

    about: dict[str, Any] = Field(description="goal, runs, assumptions, who made it: said and not computed with.")
    system_boundary: list[Boundaries]
    place: PlaceRow
    site_factors: dict[str, FoundRow] = {}
    shared_factors: dict[str, FoundRow] = {}
    conventions: Conventions
    uncertainty: Uncertainty


class Numbers(_Strict):
    """Value and 90 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Unit(CountRow):
    """Impacts per functional unit."""

    values: dict[Impact, Numbers] = {}


class CoverageRule(_Strict):
    """The rule that the score was made by."""

    equation: str
    stage_weights: dict[LifeStage, NotNegative]
    impact_weights: dict[Impact, NotNegative]
    classes: dict[Literal["A", "B", "C", "D"], Share]
    incomplete: Share


class CoverageRow(_Strict):
    """How much of stages × impacts is counted, and how well."""

    score: Share
    counted: Share
    by_stage: dict[LifeStage, Share] = {}
    by_impact: dict[Impact, Share] = {}
    by_status: dict[Status, int] = {}
    rule: CoverageRule | None = None


class HotSpot(_Strict):
    """One of the largest cells of an impact."""

    impact: Impact
    stage: LifeStage
    share_of_counted: Share


class Improve(_Strict):
    """An input that much of a total's doubt comes from."""

    impact: Impact
    input: str
    share_of_variance: Share
    how: str


class SwingRow(_Strict):
    """A total at both ends of a factor's interval."""

    impact: Impact
    factor: str
    at_low: float
    at_high: float


class Interpretation(_Strict):
    """ISO 14044's last phase."""

    hot_spots: list[HotSpot] = []
    improve_first: list[Improve] = []
    sensitivity: list[SwingRow] = []
    limits: list[str] = Field(description="What the account cannot say.")


class LifeCycleReport(_Strict):
    """A life-cycle report as data, in ISO 14044's order: goal and scope, inventory, impact, interpretation."""

    contract: Literal["stillwatt.lifecycle/1"] = Field(alias="schema")
    goal_and_scope: GoalAndScope
    inventory: Inventory
    factors: list[FactorRow]
    cells: list[Cell]
    totals: list[Total]
    functional_units: list[Unit] = []
    coverage: CoverageRow
    interpretation: Interpretation


def schema_text() -> str:
    """JSON Schema of a life-cycle report."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://github.com/stillwatt/stillwatt/blob/main/docs/reference/lifecycle.schema.json",
        **LifeCycleReport.model_json_schema(by_alias=True),
        "title": "stillwatt.lifecycle/1",
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def schema_faults(text: str) -> tuple[ReportFault, ...]:
    """Where a report's JSON is not as the schema says."""
    try:
        LifeCycleReport.model_validate_json(text)
    except ValidationError as err:
        return tuple(ReportFault(rule="schema", path=json_path(one["loc"]), message=one["msg"]) for one in err.errors())
    return ()


def json_path(location: tuple[int | str, ...]) -> str:
    """The JSON path of a place in a report.

    >>> json_path(("cells", 3, "value"))
    '$.cells[3].value'
    """
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
