"""Rows to labels: what one label's seeds say of its energies and its quality (method.md, eq. 29)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stillwatt.analysis.contrast import Z_95, Contrast, Evidence, combine, paired_or_not
from stillwatt.analysis.repeat import ASSUMED_REL, pooled_relative_deviation
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal

Weights = Mapping[str, float]
"""How much of each field of an observation: `{"teacher_j": 0.1, "own_j": 1.0}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Trainings of one label that differ in their seed alone."""

    name: str
    method: str
    student: str
    rows: tuple[Observation, ...]

    @property
    def num_seeds(self) -> int:
        """Different seeds among its rows; a run repeated with one seed repeats its energy, not its draw."""
        return len({row.drawn_with or row.seed for row in self.rows})

    def mean(self, name: str) -> float | None:
        """Mean over the seeds that know the field of that name; None where none does."""
        known = [value for row in self.rows if (value := getattr(row, name)) is not None]
        return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One label's part in a numerator and in a denominator."""

    label: Label
    numerator: Weights = field(default_factory=dict)
    denominator: Weights = field(default_factory=dict)

    @property
    def fields(self) -> frozenset[str]:
        """What must be known of a row."""
        return frozenset(self.numerator) | frozenset(self.denominator)


def gather_labels(rows: Iterable[Observation]) -> tuple[Label, ...]:
    """Labels in input order, each with its rows."""
    found: dict[str, list[Observation]] = {}
    for row in rows:
        found.setdefault(row.label, []).append(row)
    return tuple(
        Label(name=name, method=rows[0].method, student=rows[0].student, rows=tuple(rows))
        for name, rows in found.items()
    )


def repeat_rel(labels: Iterable[Label]) -> float:
    """Half-width, as a share, within which a single training is taken to repeat (method.md, eqs. 28 and 29).

    The larger of the assumed floor and what the labels with several seeds show; it is used where a label has one.
    """
    groups = [_known(label, "student_j") for label in labels if len(label.rows) > 1]
    spread = pooled_relative_deviation([group for group in groups if len(group) > 1 and math.fsum(group) > 0.0])
    return max(ASSUMED_REL, Z_95 * spread)


def contrast_of(terms: Sequence[Term], rel: float) -> Contrast | NoTotal:
    """Sum the terms' evidence, seed by seed where all of them have the same seeds (method.md, eq. 29).

    Args:
        terms: Labels with their weights; a label stands in one term only.
        rel: Repeatability of a single training (`repeat_rel`).

    Returns:
        The contrast; NoTotal where a label has no row that knows every field its term needs.
    """
    kept: list[tuple[Term, Sequence[Observation]]] = []
    for term in terms:
        rows = [row for row in term.label.rows if all(getattr(row, name) is not None for name in term.fields)]
        if not rows:
            return NoTotal(reason=f"{_named(term)} of {term.label.name} is unknown")
        kept.append((term, _repeats(term, rows)))
    if paired_or_not([frozenset(row.seed for row in rows) for _, rows in kept]):
        return combine([_paired(kept, rel)])
    return combine([_single(term, rows, rel) for term, rows in kept])


def _known(label: Label, name: str) -> list[float]:
    return [value for row in label.rows if (value := getattr(row, name)) is not None]


_NAMES = {
    "teacher_j": "the teacher's energy",
    "student_j": "the student's energy",
    "own_j": "the energy beside the teacher's",
    "quality": "the quality",
    "served_teacher_j": "the teacher's energy per served token",
    "served_student_j": "the student's energy per served token",
}


def _named(term: Term) -> str:
    missing = [name for name in _NAMES if name in term.fields and term.label.mean(name) is None]
    return _NAMES[missing[0]] if missing else "an energy of every seed"


def _repeats(term: Term, rows: Sequence[Observation]) -> Sequence[Observation]:
    """The rows; the most doubtful alone where all of them say the same to the last digit: nothing was repeated.

    The teacher's work is made once for all seeds, so equal figures of it alone tell nothing; unlike ones tell that
    the rows are no copies of one training.
    """
    has_own = any(name != "teacher_j" for name in term.fields)
    if has_own and all(len({getattr(row, name) for row in rows}) == 1 for name in term.fields):
        names = sorted(term.fields)
        return [max(rows, key=lambda row: (row.quality_se or 0.0, [row.half_widths.get(name, 0.0) for name in names]))]
    return rows


def _values(term: Term, row: Observation) -> tuple[float, float]:
    return (
        math.fsum(weight * getattr(row, name) for name, weight in term.numerator.items()),
        math.fsum(weight * getattr(row, name) for name, weight in term.denominator.items()),
    )


def _paired(kept: Sequence[tuple[Term, Sequence[Observation]]], rel: float) -> Evidence:
    by_seed: dict[str, list[tuple[float, float]]] = {}
    known = [0.0, 0.0, 0.0]
    for term, rows in kept:
        for row in rows:
            by_seed.setdefault(row.seed, []).append(_values(term, row))
        for index, square in enumerate(_known_squares(term, rows, rel)):
            known[index] += square
    pairs = tuple((math.fsum(n for n, _ in parts), math.fsum(d for _, d in parts)) for parts in by_seed.values())
    return Evidence(pairs=pairs, known_nn=known[0], known_nd=known[1], known_dd=known[2])


def _single(term: Term, rows: Sequence[Observation], rel: float) -> Evidence:
    nn, nd, dd = _known_squares(term, rows, rel)
    return Evidence(pairs=tuple(_values(term, row) for row in rows), known_nn=nn, known_nd=nd, known_dd=dd)


def _known_squares(term: Term, rows: Sequence[Observation], rel: float) -> tuple[float, float, float]:
    """Squared half-widths that the spread between seeds does not hold, by numerator and denominator."""
    squares = {name: _known_square(name, rows, rel) for name in term.fields}
    weights = {name: (term.numerator.get(name, 0.0), term.denominator.get(name, 0.0)) for name in term.fields}
    return (
        math.fsum(n * n * squares[name] for name, (n, _) in weights.items()),
        math.fsum(n * d * squares[name] for name, (n, d) in weights.items()),
        math.fsum(d * d * squares[name] for name, (_, d) in weights.items()),
    )


def _known_square(name: str, rows: Sequence[Observation], rel: float) -> float:
    """One field's part: item errors always, the meter's and the assumed repeatability where nothing was repeated."""
    if name == "quality":
        return Z_95**2 * statistics.fmean((row.quality_se or 0.0) ** 2 for row in rows)
    values = [getattr(row, name) for row in rows]
    # a figure that all rows share was taken once, whatever else differs between them
    is_one = len(rows) == 1 or (name != "teacher_j" and len(set(values)) == 1)
    if not is_one and (name != "teacher_j" or len(set(values)) > 1):
        return 0.0
    meter = statistics.fmean(row.half_widths.get(name, 0.0) for row in rows)
    # one artefact that several seeds drew on was made once and took what it took
    return meter**2 + ((rel * values[0]) ** 2 if is_one else 0.0)


def has_quality_error(label: Label) -> bool:
    """Whether anything is known of the error of its quality: several seeds that differ, or a standard error."""
    known = [row for row in label.rows if row.quality is not None]
    return len({row.quality for row in known}) > 1 or (bool(known) and all(row.quality_se is not None for row in known))
