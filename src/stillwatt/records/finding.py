"""What a run shows: arms with their bills and quality, the frontier, break-evens, the stage table.

Frozen results of `stillwatt.analysis`, read by `stillwatt.report`. Every energy is a `Bill` or a `NoTotal` with
its reason; a missing energy is never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from stillwatt.records.adapters import AdapterSize
from stillwatt.records.allocation import Allocation
from stillwatt.records.channel import Basis
from stillwatt.records.energy import NoTotal, Total, low_end
from stillwatt.records.missing import MissingArm
from stillwatt.records.stop import Stop
from stillwatt.records.window import StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Energy of a weighted sum of stages over their parts, random and systematic parts still apart."""

    value_j: float
    random_j: float
    """Half-width of the random part, 95 %."""
    systematic_low_j: float
    systematic_high_j: float
    basis: Basis | None
    """None where nothing was billed (a value of exactly 0 because there is no such work)."""
    complete: bool
    """False where a part of a stage was absent or seconds of it are missing."""
    absent: tuple[str, ...] = ()
    """What is not in the sum, with the reason."""
    drivers: tuple[str, ...] = ()
    """Whose readings the sum rests on; systematic parts of one driver move together."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value_j):
            raise ValueError(f"{self.value_j} J is not a number of joules; use NoTotal")
        for name in ("random_j", "systematic_low_j", "systematic_high_j"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} = {getattr(self, name)} must be >= 0")

    @property
    def low_j(self) -> float:
        """Lower end of the 95 % interval (method.md, eq. 9), cut at 0 J.

        Stages draw no less than nothing, together or one beside the stages inside it.
        """
        return low_end(self.value_j, math.hypot(self.random_j, self.systematic_low_j))

    @property
    def high_j(self) -> float:
        """Upper end of the 95 % interval (method.md, eq. 9)."""
        return self.value_j + math.hypot(self.random_j, self.systematic_high_j)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One task's score of one model."""

    task: str
    value: float
    se: float | None
    """Standard error, one sigma; None where the task gives none."""
    n: int | None
    """Items (questions, or tokens for perplexity) the score rests on."""
    higher_is_better: bool
    in_quality: bool = True
    """Whether it counts in Q; a judge's score does where the recipe says so."""
    beside: str = ""
    """Why it does not, where that is not the recipe's own wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRatio:
    """One task's part of the quality: 1 means as good as the teacher, more is better."""

    task: str
    ratio: float
    se: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Quality relative to the teacher, or to what stands in its place (method.md, eq. 22)."""

    value: float
    se: float | None
    """Standard error with the teacher's own error in it: for the number by itself."""
    own_se: float | None
    """Standard error without the teacher's: for comparing students, which share one teacher."""
    tasks: tuple[TaskRatio, ...]
    left_out: tuple[str, ...] = ()
    """Tasks that are not in the mean, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoQuality:
    """A quality that cannot be given, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactUse:
    """An arm's use of a teacher artefact."""

    artifact: str
    kind: str
    """`logits`, `text`, or empty where the stage does not say."""
    consumers: int
    """Arms of this run that train on the artefact."""
    budget_share: float
    """Share of the token budget used at the checkpoint."""
    used_share: float
    """Share of the artefact used there, all of it after one of several passes; its making is billed pro rata to it."""
    token_share: float | None
    """This arm's share of the tokens that all consumers took from it; None where tokens were not counted."""
    reused_from: str | None
    """The earlier run that made the artefact and books its energy, if it was not this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedEnergy:
    """What one student costs under one allocation."""

    allocation: Allocation
    energy: Bill | NoTotal


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPoint:
    """One arm at one checkpoint: what it used and how good it is."""

    arm: str
    """The arm's id: `kd`, `small.kd`, `kd.s2`."""
    name: str
    """The arm's name without student and seed: `kd`."""
    method: str
    student: str
    seed: str
    checkpoint: str
    budget_share: float
    """Share of the token budget that it was trained on: the checkpoint's, less where a budget stopped it before."""
    is_final: bool
    """The arm's last checkpoint."""
    tokens: float | None
    supervised_tokens: float | None
    prepare_energy: Bill | NoTotal
    teacher_energy: Bill | NoTotal
    """One-off: all of the artefact's energy, pro rata to the budget used, and what `online_energy` holds."""
    artifact_energy: Bill | NoTotal
    """Of the teacher's, what made the artefacts, which other students can use."""
    online_energy: Bill | NoTotal
    """Of the teacher's, what it took beside the training: every further student needs it anew (eq. 143)."""
    student_energy: Bill | NoTotal
    evaluation_energy: Bill | NoTotal
    other_energy: Bill | NoTotal
    """Data preparation and this checkpoint's own evaluation."""
    experimentation_energy: Bill | NoTotal
    """Failed and lost attempts labelled with this arm; in no allocation."""
    artifacts: tuple[ArtifactUse, ...]
    allocated: tuple[AllocatedEnergy, ...]
    scores: tuple[Score, ...]
    quality: Quality | NoQuality
    adapters: AdapterSize | None = None
    """None where the student's weights themselves were trained."""
    steps: float | None = None
    """Optimiser steps up to the checkpoint; None where they were not counted."""
    stop: Stop | None = None
    """What ended its training before the checkpoint's share was used up."""
    teacher_cards: frozenset[str] = frozenset()
    """Cards that its artefacts were made on, in whatever run, as far as cards are told apart."""

    @property
    def key(self) -> str:
        """The point's name: `kd @ 0.5`."""
        return f"{self.arm} @ {self.checkpoint}"

    def energy_under(self, label: str) -> Bill | NoTotal:
        """The energy under the allocation of that label; KeyError where there is none such."""
        return {entry.allocation.label: entry.energy for entry in self.allocated}[label]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One point's place among the points of one allocation (method.md, eqs. 23 and 24)."""

    allocation: str
    arm: str
    checkpoint: str
    budget_share: float
    energy_j: float
    energy_random_j: float
    """Half-width, 95 %, of the random part alone."""
    quality: float
    quality_se: float | None
    is_on_frontier: bool
    dominated_by: str | None
    """A point that needs no more energy and is no worse, where there is one."""
    on_frontier_probability: float | None
    """None where a quality has no standard error."""

    @property
    def is_separable(self) -> bool | None:
        """Whether the membership stands out from the noise of this run: probability at most 5 % or at least 95 %."""
        if self.on_frontier_probability is None:
            return None
        return not 0.05 < self.on_frontier_probability < 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A point that is in no frontier, and why."""

    allocation: str
    arm: str
    checkpoint: str
    reason: str


class Verdict(StrEnum):
    """What can be said of a break-even."""

    VALUE = "value"
    ALWAYS = "always"
    """It pays from the first student or token on: the whole interval lies at or below 1."""
    NEVER = "never"
    """The saving is negative beyond its random error: no number of reuses pays."""
    UNDETERMINED = "undetermined"
    """The saving cannot be told from 0, or an energy is missing."""
    NOT_AT_THIS_QUALITY = "not_at_this_quality"
    """The baseline was not observed at the arm's quality."""
    NOT_AT_THIS_BUDGET = "not_at_this_budget"
    """The baseline was not trained on as much, or both on equal joules: nothing is at an equal token budget."""


class BreakEvenKind(StrEnum):
    """Which break-even."""

    REUSE = "reuse"
    """N* at equal token budget (method.md, eq. 25)."""
    SERVING = "serving"
    """T* against serving the teacher (method.md, eq. 26)."""
    MATCHED_QUALITY = "matched_quality"
    """N* against the baseline at the arm's own quality (method.md, eq. 27)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """One break-even with its 95 % interval; never negative."""

    kind: BreakEvenKind
    arm: str
    checkpoint: str
    verdict: Verdict
    value: float | None
    """Students (reuse, matched quality) or tokens (serving); None where there is no positive solution."""
    low: float | None
    high: float | None
    """None beside a `low`: no upper end, the break-even may never come."""
    extra_j: float | None
    """The numerator: what distilling has to earn back."""
    saving_j: float | None
    """The denominator: joules saved per student, or per token served."""
    reason: str
    """Why the verdict is what it is, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRate:
    """Energy per generated token of one model under the run's serving load (method.md, eq. 21)."""

    model: str
    """`teacher`, or the student's name."""
    is_teacher: bool
    tokens: float
    energy: Bill | NoTotal
    duration_s: float
    """How long these tokens took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceModel:
    """Quality of a model that is not an arm: the teacher, or the student before training."""

    model: str
    student: str
    scores: tuple[Score, ...]
    quality: Quality | NoQuality


class StageGroup(StrEnum):
    """To which part of the account a row of the stage table belongs."""

    SHARED = "shared"
    """Data preparation: in every arm's bill."""
    TEACHER = "teacher"
    ARM = "arm"
    OVERHEAD = "overhead"
    """Idle baseline, evaluation of teacher and start, serving load: shown, in no arm."""
    EXPERIMENTATION = "experimentation"
    """Failed and lost attempts."""
    OTHER = "other"
    """Stages without an arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One row of the stage table: the stages of one kind that belong to one arm, or one stage of its own."""

    group: StageGroup
    arm: str
    """Empty where the row belongs to no arm; for teacher work, the arms that use it."""
    label: str
    kind: StageKind
    stage_ids: tuple[str, ...]
    duration_s: float
    tokens: float | None
    energy: Bill | NoTotal

    @property
    def j_per_token(self) -> float | None:
        """Joules per token that the row's stages processed (method.md, eq. 21); None without either."""
        if isinstance(self.energy, NoTotal) or not self.tokens:
            return None
        return self.energy.value_j / self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """Where the joules went: rows and unallocated energy add up to the total (method.md, eq. 12)."""

    rows: tuple[StageRow, ...]
    unallocated: Total | NoTotal
    total: Total | NoTotal
    residual_j: float | None
    """Total less rows less unallocated; None where one of them is missing."""
    closes: bool | None


TEACHER_YARDSTICK = "the teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All findings of one run."""

    run_id: str
    baseline_arm: str
    allocations: tuple[Allocation, ...]
    table: StageTable
    arms: tuple[ArmPoint, ...]
    references: tuple[ReferenceModel, ...]
    serving: tuple[ServingRate, ...]
    frontier: tuple[FrontierPoint, ...]
    rejected: tuple[Rejected, ...]
    break_evens: tuple[BreakEven, ...]
    experimentation: Bill | NoTotal
    warnings: tuple[str, ...]
    repeat_rel: float = 0.0
    """Half-width, 95 %, of one training's energy around that of its repeats, as a share of it (method.md, eq. 28)."""
    missing: tuple[MissingArm, ...] = ()
    """Arms of the recipe that are not here, so that nothing is said of them."""
    yardstick: str = TEACHER_YARDSTICK
    """Whose quality is 1 (method.md, eq. 22): the teacher, or a student as it starts where no teacher was evaluated."""

    @property
    def final_points(self) -> tuple[ArmPoint, ...]:
        """Every arm at its last checkpoint."""
        return tuple(point for point in self.arms if point.is_final)

    def break_even(self, kind: BreakEvenKind, point: ArmPoint) -> BreakEven | None:
        """The break-even of that kind for that point, if there is one."""
        wanted = (kind, point.arm, point.checkpoint)
        return next((found for found in self.break_evens if (found.kind, found.arm, found.checkpoint) == wanted), None)
