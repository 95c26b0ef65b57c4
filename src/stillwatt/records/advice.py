"""What to run next: what is known of qualities, the options, what limits them, and the advice with its doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stillwatt.records.forecast import Figure


class Answer(StrEnum):
    """What kind of advice an option is."""

    TRAIN_PLAINLY = "train plainly"
    DISTIL = "distil"
    REUSE = "reuse the cache you have"
    DO_NOT_DISTIL = "don't distil"
    IMPOSSIBLE = "no configuration can meet this"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A quality that was measured after so many tokens."""

    method: str
    student: str
    settings: str
    """The method's own settings, as one line: trainings that differ in it are not repeats of each other."""
    tokens: float
    quality: float
    se: float | None
    """Standard error over the items, one sigma; the same items for all."""
    place: str
    """The run, or the label, that it is from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveError:
    """How far off a learning curve is on scores it did not see (method.md, eq. 96)."""

    points: int
    median_error: float
    """Median of |predicted - measured|, in units of quality."""
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that could be done."""

    name: str
    answer: Answer
    method: str
    student: str
    settings: Mapping[str, str]
    """alpha, temperature, top_k, max_new_tokens, prompts: those that the method has."""
    tokens: float | None
    """Through each student in training; None where that is not known."""
    evidence: tuple[str, ...]
    """Runs or labels that it is judged by."""
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What must be met; None is no limit."""

    energy_j: float | None = None
    kgco2e: float | None = None
    duration_s: float | None = None
    tokens: float | None = None
    """Through students in training, all of them together."""
    quality: float | None = None
    """At least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An option with what it is expected to take and to give."""

    option: Option
    energy_j: Figure
    duration_s: Figure | None
    kgco2e: Figure | None
    quality: Figure
    chance: float
    """That every limit is met."""
    worth: float
    """Expected, as `Advice.objective` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A training that would settle most of the doubt for its energy (method.md, eq. 98)."""

    option: Option
    energy_j: float
    worth: float
    """By how much it is expected to raise the worth of the choice; at most `doubt`."""
    doubt: float
    """By how much knowing everything would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A ranked list, and what to do."""

    answer: Answer
    reason: str
    objective: str
    """What worth is, in words."""
    ranked: tuple[Ranked, ...]
    """The best first; where nothing is possible, the nearest first."""
    experiment: Experiment | None
    left_out: tuple[tuple[str, str], ...]
    """Options that could not be judged, and why."""
    notes: tuple[str, ...] = field(default=())
