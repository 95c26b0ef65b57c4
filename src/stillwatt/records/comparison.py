"""Many trainings side by side: the rows that are compared, and what the comparison shows.

Read by `stillwatt.analysis` from a table or from the ledger's runs, given to `stillwatt.report`. An unknown is
None, never 0; an interval is 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillwatt.records.channel import Basis
from stillwatt.records.finding import Verdict
from stillwatt.records.missing import MissingArm
from stillwatt.records.stop import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where work ran, as far as it matters to what its energy costs the world; None is unknown."""

    pue: float | None = None
    """Facility energy over node energy, 1 or more."""
    kgco2e_per_kwh: float | None = None
    """Per kWh at the facility's meter, as the water and the price."""
    water_l_per_kwh: float | None = None
    price_per_kwh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEnergy:
    """What the accelerator boards alone took of a training's energies; None is unknown."""

    teacher_j: float | None
    student_j: float | None
    own_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One training of one label with one seed."""

    label: str
    method: str
    student: str
    seed: str
    place: str
    """Where it stands: `line 7` of a table, or the run's id."""
    drawn_with: str = ""
    """The seed itself, where `seed` names a run beside it; empty where `seed` is the seed."""
    quality: float | None
    quality_se: float | None
    """Standard error over the items, one sigma."""
    teacher_j: float | None
    """All of the teacher's work that the training drew on and that other students can use: what made its artefact."""
    student_j: float | None
    """The student's work, and that of a teacher that ran beside it: what every further student takes anew (eq. 143)."""
    own_j: float | None
    """The student's work and the rest (data preparation, evaluation): all but `teacher_j`."""
    online_j: float = 0.0
    """Of `student_j`, what a teacher took that ran beside the training."""
    throughput: float | None = None
    """Tokens a second when served, or whatever the table counts; more is better."""
    teacher_tokens: float | None = None
    """Tokens taken from the teacher's artefact."""
    artefact: str = ""
    """Which artefact that was; empty where nobody says."""
    served_teacher_j: float | None = None
    """Joules per token when the teacher is served."""
    served_student_j: float | None = None
    half_widths: Mapping[str, float] = field(default_factory=dict)
    """Random 95 % half-widths of the meter by field name, where they are known."""
    cards: CardEnergy | None = None
    site: Site = field(default_factory=Site)
    """Where the student was trained and evaluated."""
    teacher_site: Site = field(default_factory=Site)
    basis: Basis | None = None
    """The worst of its energies'; None where nobody says."""
    whole_j: tuple[float, float] | None = None
    """Ends of the interval of all that it took, with the whole teacher: random and systematic parts together."""
    increments_j: tuple[float, ...] = ()
    """Joules per token of each increment of its training, as far as known; their spread says how well it repeats."""
    student_s: float | None = None
    """How long the student was trained."""
    tokens: float | None = None
    """Tokens that its training came to, where they were counted: an outcome, beside the budget among its settings."""
    steps: float | None = None
    """Optimiser steps that it was trained for."""
    stop: Stop | None = None
    """What ended its training before its text did."""
    devices: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Cards that an energy was read on, by field name, as far as they can be told from others."""
    gains_j: Mapping[str, float] = field(default_factory=dict)
    """How far these cards' gain may move that energy, 95 %: no repeat shrinks it."""
    otherwise: str = ""
    """All else that it was made with, in one text: trainings whose texts differ do not differ in a number alone."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """What the training was made with, as far as it is a number: `alpha`, `temperature`, `max_new_tokens`."""

    @property
    def student_w(self) -> float | None:
        """Mean power while the student was trained; None where its energy or its time is unknown."""
        return self.student_j / self.student_s if self.student_j is not None and self.student_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What one number says, with its interval and verdict."""

    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    """None beside a `low`: no upper end."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseFinding:
    """N* or T* of one label (method.md, eqs. 25, 26, 30 and 33)."""

    label: str
    method: str
    student: str
    baseline: str
    """The label it is held against; empty where there is none."""
    found: Ratio
    extra_j: float | None
    """What has to be earned back: the teacher's work, for T* all of the label's energy."""
    saving_j: float | None
    """Per student, for T* per token."""
    quality_gap: float | None
    """Its quality less the baseline's."""
    seeds: int
    """Seeds that both share, or the smaller number of the two."""
    is_significant: bool
    """Whether the quality gap stands out from the spread of several seeds; never on one seed."""
    has_nothing_to_share: bool = False
    """Whether its teacher ran beside the training alone and left nothing that another student could use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFinding:
    """One cache shared by several students: how many such sweeps repay it (method.md, eq. 31)."""

    method: str
    students: tuple[str, ...]
    found: Ratio
    teacher_j: float | None
    saving_j: float | None
    """Over all students of the sweep together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A distilled label beside the cheapest and the best baseline that match it (method.md, eqs. 34 and 35)."""

    allocation: str
    label: str
    as_good: str
    """The cheapest baseline label that is at least as good, or else the best whose gap is within its error; empty where
    there is none."""
    as_good_lacks: float | None = None
    """By how much its quality is lower, within the error; 0 where it is at least as good."""
    energy_ratio: float | None
    """The label's energy over that baseline's."""
    ratio_low: float | None
    ratio_high: float | None
    as_cheap: str
    """The best baseline label that needs no more energy; empty where none does."""
    quality_difference: float | None
    difference_half_width: float | None
    """None where a quality has neither seeds nor a standard error."""
    is_significant: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Energy of one student when N share the teacher's work (method.md, eq. 32)."""

    students: int
    energy_j: float
    half_width_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """E(N) of one distilled label, and the baseline it is held against."""

    label: str
    baseline: str
    points: tuple[CurvePoint, ...]
    baseline_j: float | None
    baseline_half_width_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """How far one stage's energy must move until the verdict at N students turns (method.md, eq. 36)."""

    label: str
    stage: str
    elasticity: float | None
    """Per cent that N* moves when this energy moves by one; None where nothing is saved."""
    turning_factor: float | None
    """The energy times this is where distilling breaks even with N students; None where no factor does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLabel:
    """A label under one allocation: the mean of its seeds, and how sure its place is."""

    label: str
    method: str
    energy_j: float
    quality: float
    throughput: float | None
    seeds: int
    is_on_frontier: bool
    probability: float | None
    """That it is on the frontier (method.md, eq. 38); None where its quality has no error."""
    energy_half_width_j: float | None = None
    """95 %, from seeds and known errors (method.md, eq. 29); None where it was not asked for."""
    quality_half_width: float | None = None
    """None where its quality has no error."""
    student: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attained:
    """A curve of the attainment function: what `share` of the draws reach at least (method.md, eq. 39)."""

    share: float
    corners: tuple[tuple[float, float], ...]
    """Energy and quality, by rising energy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The frontier of one allocation."""

    allocation: str
    placed: tuple[PlacedLabel, ...]
    """Every label that could be placed, in input order; of very many those alone that may be on the frontier."""
    with_throughput: tuple[str, ...] | None
    """Labels beaten by none on energy, quality and throughput; None where no throughput is known."""
    by_method: Mapping[str, tuple[str, ...]]
    hypervolume: float | None
    """Joules times quality, from the reference point."""
    attained: tuple[Attained, ...]
    left_out: tuple[tuple[str, str], ...]
    """Labels that could not be placed, with the reason."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels on the energy-quality frontier, in input order."""
        return tuple(point.label for point in self.placed if point.is_on_frontier)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPoint:
    """A label on the plane of another boundary or impact."""

    label: str
    amount: float
    half_width: float
    """95 %, from seeds and known errors of its energies (method.md, eq. 29); a factor is taken as it is given."""
    is_on_frontier: bool
    probability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFront:
    """The frontier of one allocation, seen so."""

    allocation: str
    points: tuple[ViewPoint, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The same trainings with another boundary's energy, or an impact, in place of the energy (method.md, eq. 60)."""

    name: str
    """`gpu`, `node`, `facility`, `kgco2e`, `water_l`, `price`."""
    is_boundary: bool
    unit: str
    fronts: tuple[ViewFront, ...]
    seeds_left_out: tuple[str, ...] = ()
    """Trainings that are not in their label's point here, though others of it are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSums:
    """One label's energies by stage, means over its seeds; None is unknown."""

    label: str
    teacher_j: float | None
    student_j: float | None
    other_j: float | None
    total_j: float | None
    """With the whole teacher on one student."""
    total_low_j: float | None = None
    """Lower end of the total's whole interval, the systematic part with it; None where nobody says."""
    total_high_j: float | None = None
    basis: Basis | None = None
    """How its energies came to be known, the worst of them; None where nobody says."""
    tokens: float | None = None
    """Tokens that its trainings came to; None where nobody counted."""
    tokens_least: float | None = None
    tokens_most: float | None = None

    @property
    def teacher_share(self) -> float | None:
        """The teacher's part of the total."""
        return None if self.teacher_j is None or not self.total_j else self.teacher_j / self.total_j


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedLeftOut:
    """A training that is in no mean of its label, for what it lacks of what the others know (method.md, eq. 145)."""

    label: str
    seed: str
    place: str
    lacks: tuple[str, ...]
    """In words: `the quality`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbilled:
    """Energy of a run that is on no label's bill, and why."""

    run_id: str
    stage: str
    energy_j: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that a set of trainings shows."""

    source: str
    baseline: str
    boundary: str
    """What the energies cover: `gpu`, `node`, `facility`, or empty where the source does not say."""
    reuse_students: int
    reference_j: float | None
    reference_quality: float
    draws: int
    fronts: tuple[Front, ...]
    n_star: tuple[ReuseFinding, ...]
    n_star_matched: tuple[ReuseFinding, ...]
    t_star: tuple[ReuseFinding, ...]
    sweeps: tuple[SweepFinding, ...]
    matched: tuple[Matched, ...]
    curves: tuple[Curve, ...]
    levers: tuple[Lever, ...]
    stages: tuple[StageSums, ...]
    views: tuple[View, ...]
    unbilled: tuple[Unbilled, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of the labels that have any, what they were trained with."""
    seeds_left_out: tuple[SeedLeftOut, ...] = ()
    """Trainings that are in no mean of their label."""
    missing: tuple[MissingArm, ...] = ()
    """Arms that the runs' recipes ask for and that are not here."""
    num_labels: int = 0
    """How many were compared; of very many, not all are listed."""

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.comparison_html(self)
