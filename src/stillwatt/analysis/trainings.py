"""Rows to labels: what one label's seeds say of its energies and its quality (method.md, eq. 29)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stillwatt.analysis.card_gains import gain_evidence
from stillwatt.analysis.contrast import Z_95, Contrast, Evidence, combine, paired_or_not
from stillwatt.analysis.repeat import ASSUMED_REL, pooled_relative_deviation
from stillwatt.analysis.whole_rows import split_whole
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
    """Those that all its means are over (method.md, eq. 145)."""
    left_out: tuple[Observation, ...] = ()
    """Trainings of it that lack what these know, and are in no mean."""

    @property
    def num_seeds(self) -> int:
        """Different seeds among its rows; a run repeated with one seed repeats its energy, not its draw."""
        return len({row.drawn_with or row.seed for row in self.rows}) if len(self.rows) > 1 else 1

    @property
    def settings(self) -> Mapping[str, float]:
        """What its trainings were made with, the same for all of them."""
        return self.rows[0].settings

    def is_known(self, name: str) -> bool:
        """Whether any of its trainings knows the field of that name, one that was left out of the means among them."""
        return any(getattr(row, name) is not None for row in (*self.rows, *self.left_out))

    def mean(self, name: str) -> float | None:
        """Mean over the seeds that know the field of that name; None where none does."""
        if len(self.rows) == 1:
            value: float | None = getattr(self.rows[0], name)
            return value
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
    """Labels in input order, each with the rows that are in its means (method.md, eq. 145)."""
    return tuple(without_partial(label) for label in group_labels(rows))


def group_labels(rows: Iterable[Observation]) -> tuple[Label, ...]:
    """Labels in input order, each with all its rows in input order, whatever they lack."""
    found: dict[str, list[Observation]] = {}
    for row in rows:
        found.setdefault(row.label, []).append(row)
    return tuple(
        Label(name=name, method=rows[0].method, student=rows[0].student, rows=tuple(rows))
        for name, rows in found.items()
    )


def without_partial(label: Label) -> Label:
    """The label, its rows that lack what others know set aside (method.md, eq. 145)."""
    if len(label.rows) == 1:
        return label
    kept, aside = split_whole(label.rows)
    return replace(label, rows=kept, left_out=(*label.left_out, *aside)) if aside else label


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Within what a single training is taken to repeat, and how that is known."""

    rel: float
    """Half-width, 95 %, as a share of its energy."""
    how: str


def repeats_within(labels: Iterable[Label]) -> Repeats:
    """Within what a single training is taken to repeat (method.md, eqs. 28 and 29).

    The larger of the assumed floor and what the labels with several seeds show or, where no training was repeated, the
    increments of each, as in the report of their run; it is used where a label has one seed.
    """
    labels = list(labels)
    how = "from the spread between the seeds of the other labels"
    groups = [_known(label, "student_j") for label in labels if len(label.rows) > 1]
    # what agrees to the last digit was not repeated
    groups = [group for group in groups if len(set(group)) > 1 and math.fsum(group) > 0.0]
    if not groups:
        how = "from the spread between equal increments of one training"
        groups = [[rate for row in label.rows for rate in row.increments_j] for label in labels]
        groups = [group for group in groups if len(group) > 1]
    spread = Z_95 * pooled_relative_deviation(groups)
    return Repeats(rel=ASSUMED_REL, how="assumed") if spread <= ASSUMED_REL else Repeats(rel=spread, how=how)


def repeat_rel(labels: Iterable[Label]) -> float:
    """The half-width alone."""
    return repeats_within(labels).rel


def contrast_of(terms: Sequence[Term], rel: float) -> Contrast | NoTotal:
    """Sum the terms' evidence, seed by seed where all of them have the same seeds (method.md, eq. 29).

    Args:
        terms: Labels with their weights; a label stands in one term, or in several with fields of their own.
        rel: Repeatability of a single training (`repeat_rel`).

    Returns:
        The contrast; NoTotal where a label has no row that knows every field its term needs.
    """
    kept = known_rows(terms)
    return kept if isinstance(kept, NoTotal) else combine(weigh(kept, rel))


def known_rows(terms: Sequence[Term]) -> list[tuple[Term, Sequence[Observation]]] | NoTotal:
    """Each term with the rows that know all it needs; as one where they say the same to the last digit.

    Returns:
        The terms with their rows; NoTotal where a label has no such row.
    """
    kept: list[tuple[Term, Sequence[Observation]]] = []
    for term in terms:
        rows = [row for row in term.label.rows if all(getattr(row, name) is not None for name in term.fields)]
        if not rows:
            return NoTotal(reason=f"{_named(term)} of {term.label.name} is unknown")
        kept.append((term, _repeats(term, _by_draw(term, rows))))
    return kept


def weigh(kept: Sequence[tuple[Term, Sequence[Observation]]], rel: float) -> list[Evidence]:
    """What the terms' rows say, as one piece of evidence where they are paired and one a label where not.

    Where they ran on unlike cards, what the cards' gains add is further evidence.
    """
    gains = gain_evidence((term.numerator, term.denominator, rows) for term, rows in kept)
    if paired_or_not([frozenset(row.seed for row in rows) for _, rows in kept]):
        return [_paired(kept, rel), *gains]
    return [*(_single(term, rows, rel) for term, rows in kept), *gains]


def _known(label: Label, name: str) -> list[float]:
    return [value for row in label.rows if (value := getattr(row, name)) is not None]


NAMES = {
    "teacher_j": "the teacher's energy",
    "student_j": "the student's energy",
    "own_j": "the energy beside the teacher's",
    "quality": "the quality",
    "served_teacher_j": "the teacher's energy per served token",
    "served_student_j": "the student's energy per served token",
    "student_s": "the training time",
    "student_w": "the mean power of the training",
}


def _named(term: Term) -> str:
    missing = [name for name in NAMES if name in term.fields and not term.label.is_known(name)]
    return NAMES[missing[0]] if missing else "an energy of every seed"


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


def _by_draw(term: Term, rows: Sequence[Observation]) -> Sequence[Observation]:
    """One row a draw where runs repeat seeds: their mean, since a seed that is run again is no second draw.

    Where there is one draw alone its rows are left: they repeat its energy, and nothing is claimed of them.
    """
    draws: dict[str, list[Observation]] = {}
    for row in rows:
        draws.setdefault(row.drawn_with or row.seed, []).append(row)
    if len(draws) in (1, len(rows)):
        return rows
    names = {"student_j", "student_s"} if "student_w" in term.fields else term.fields
    return [_mean_row(draw, own, names) for draw, own in sorted(draws.items())]


def _mean_row(draw: str, rows: Sequence[Observation], names: Iterable[str]) -> Observation:
    means: dict[str, Any] = {name: statistics.fmean(getattr(row, name) for row in rows) for name in names}
    widths = {name: statistics.fmean(row.half_widths.get(name, 0.0) for row in rows) for name in names}
    known = [row.quality_se for row in rows if row.quality_se is not None]
    means["quality_se"] = math.sqrt(statistics.fmean(se * se for se in known)) if known else None
    return replace(rows[0], seed=draw, half_widths=widths, **means)


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
    if len(label.rows) == 1:
        return label.rows[0].quality is not None and label.rows[0].quality_se is not None
    known = [row for row in label.rows if row.quality is not None]
    return len({row.quality for row in known}) > 1 or (bool(known) and all(row.quality_se is not None for row in known))
