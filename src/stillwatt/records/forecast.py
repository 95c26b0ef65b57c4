"""What work would cost, said beforehand: a stage as counts, what was measured of such stages, and the prediction.

Made by `stillwatt.config.jobs` from a recipe, learnt from and predicted by `stillwatt.analysis.costs`. An interval is
95 %; what cannot be predicted is None with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillwatt.records.channel import Basis
from stillwatt.records.kinds import StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A language model's shape, as far as its cost depends on it."""

    parameters: float
    """All weights that are stored and loaded."""
    active: float
    """Weights that a token is multiplied with: without an input table of its own."""
    layers: float
    width: float
    vocabulary: float
    source: str
    """Where the shape is known from."""
    layer_parameters: float = 0.0
    """Weights of one layer."""
    is_guess: bool = False
    """Whether it rests on the model's name alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a stage asks of a machine (method.md, eq. 90)."""

    stages: float = 1.0
    """Beginnings: what a stage costs whatever it does."""
    passes: float = 0.0
    """Passes through single layers, which cost time even where there is little to compute."""
    flops: float = 0.0
    streamed_bytes: float = 0.0
    """Weights, states and caches that pass between memory and processor."""
    stored_bytes: float = 0.0
    """What is read from and written to disk."""
    waited_s: float = 0.0
    """Seconds that the recipe itself asks for."""

    def __add__(self, other: Counts) -> Counts:
        """Both together, in one stage."""
        return Counts(
            stages=max(self.stages, other.stages),
            passes=self.passes + other.passes,
            flops=self.flops + other.flops,
            streamed_bytes=self.streamed_bytes + other.streamed_bytes,
            stored_bytes=self.stored_bytes + other.stored_bytes,
            waited_s=self.waited_s + other.waited_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What the work runs on."""

    name: str
    """A GPU's name, or a CPU's with its threads; the same text is the same device."""
    is_gpu: bool
    count: int = 1
    """GPUs, or logical CPUs."""
    parts: tuple[str, ...] = ()
    """Kinds of parts that are metered: `cpu`, `dram`, `gpu`; energies of unlike ones are never compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stage that would run, or has run."""

    name: str
    kind: StageKind
    counts: Counts
    device: Device
    method: str = ""
    """How the student is trained; `first` for the evaluation that loads the software, `online` for a teacher beside a
    student, `own_text` for a student that writes, `answers` for what is written to be judged, `judge` for its judging;
    empty for other stages."""
    engine: str = "torch"
    dtype: str = "float32"
    tokens: float | None = None
    """Tokens through a model."""
    assumed_tokens: float = 0.0
    """Those of its tokens that nothing says: a stage that passes fewer of them may have done all of its work."""
    disk_bytes: tuple[float, float] = (0.0, 0.0)
    """What stays on disk, at least and at most."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """`arm`, `student`, `artifact_kind`, where the stage belongs to one."""
    unknown: str = ""
    """Why its counts are not known; empty where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one stage took when it ran."""

    job: Job
    run_id: str
    energy_j: float
    duration_s: float
    energy_rel: float = 0.0
    """Random half-width of the energy over the energy, 95 %."""
    is_probe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A predicted number: its median and its 95 % interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside [{self.low}, {self.high}]")

    def holds(self, number: float) -> bool:
        """Whether a number lies in the interval."""
        return self.low <= number <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One stage, predicted."""

    name: str
    kind: StageKind
    energy_j: Figure | None
    duration_s: Figure | None
    disk_bytes: tuple[float, float]
    tokens: float | None
    evidence: str
    """What the figures rest on, in words."""
    reason: str = ""
    """Why there are no figures."""
    kgco2e: Figure | None = None
    """90 %, as all impacts; None where no place was named or a factor is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How far a model is off on what it did not see (method.md, eq. 94)."""

    groups: int
    """Runs, or stages where there is one run, that were left out in turn."""
    stages: int
    median_error: float
    """Median of |predicted / measured - 1| over stages."""
    median_total_error: float | None
    """The same over whole runs; None where there is one run."""
    coverage: float
    """Share of stages whose 95 % interval held what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A whole recipe, predicted."""

    recipe: str
    settings_sha256: str
    device: str
    stages: tuple[Forecast, ...]
    energy_j: Figure | None
    """All stages that are known together, and notes name the others; None where none is."""
    duration_s: Figure | None
    disk_bytes: tuple[float, float]
    kgco2e: Figure | None
    """90 %, as all impacts; None where no place was named or a factor is missing."""
    kgco2e_reason: str
    learnt_from: tuple[str, ...]
    """Ids of the runs behind it, probes among them."""
    energy_error: LeftOut | None
    duration_error: LeftOut | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A predicted stage beside what was measured."""

    name: str
    predicted: Figure | None
    measured: float | None
    reason: str = ""

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1."""
        if self.predicted is None or not self.measured:
            return None
        return self.predicted.value / self.measured - 1.0

    @property
    def is_inside(self) -> bool | None:
        """Whether the interval holds what was measured."""
        if self.predicted is None or self.measured is None:
            return None
        return self.predicted.holds(self.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionCheck:
    """A run beside its prediction."""

    run_id: str
    is_from_before: bool
    """Whether the prediction was made before the run; it is made from other runs alone otherwise."""
    energy: tuple[Held, ...]
    """By stage, the total last."""
    duration: tuple[Held, ...]
    notes: tuple[str, ...]
    basis: Basis | None = None
    """How the run's energies are known, the worst of them; None where it has no total."""
    whole_j: float | None = None
    """The run's own total, which holds more than its predicted stages; None where it has none."""
    uncompared: Mapping[str, float] = field(default_factory=dict)
    """Joules of the run beside its predicted stages, by what they went into."""
