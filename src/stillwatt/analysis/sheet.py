"""Labels as columns of numbers: energies under an allocation, means over seeds, who cannot be placed and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.trainings import Label
from stillwatt.analysis.words import listed
from stillwatt.records.allocation import Allocation, AllocationKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 2.0**40
"""Steps within a factor of two; about 12 digits."""
_FIELDS = ("teacher_j", "own_j", "quality", "quality_se", "throughput", "teacher_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All rows as columns; NaN is unknown."""

    labels: tuple[Label, ...]
    of_row: NDArray[np.intp]
    """Which label a row belongs to."""
    methods: tuple[str, ...]
    """In order of appearance."""
    method_of: NDArray[np.intp]
    """Place among the methods of each label's."""
    columns: dict[str, Floats]
    half_widths: dict[str, Floats]
    """Random half-widths of the meter, 0 where none is known."""

    def mean(self, values: Floats, rows: NDArray[np.bool_]) -> Floats:
        """Mean of each label over those rows; NaN where it has none."""
        count = np.bincount(self.of_row[rows], minlength=len(self.labels)).astype(float)
        total = np.bincount(self.of_row[rows], weights=values[rows], minlength=len(self.labels))
        found: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0.0)
        return found

    @property
    def starts(self) -> NDArray[np.intp]:
        """The first row of each label, and the number of rows at the end."""
        sizes = np.bincount(self.of_row, minlength=len(self.labels))
        return np.concatenate((np.zeros(1, dtype=np.intp), np.cumsum(sizes)))

    def seeds_among(self, rows: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Different seeds of each label among those rows."""
        count = np.bincount(self.of_row[rows], minlength=len(self.labels))
        starts = self.starts
        for i in np.flatnonzero(count > 1).tolist():
            first = int(starts[i])
            own = [row for at, row in enumerate(self.labels[i].rows) if rows[first + at]]
            count[i] = replace(self.labels[i], rows=tuple(own)).num_seeds
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One allocation's labels that have both an energy and a quality."""

    sheet: Sheet
    index: NDArray[np.intp]
    """Places of the labels in the sheet, in input order."""
    rows: NDArray[np.bool_]
    """Rows that are in the means."""
    row_energy: Floats
    row_half_width: Floats
    """The meter's random half-width of a row's energy."""
    energy: Floats
    quality: Floats
    throughput: Floats
    left_out: tuple[tuple[str, str], ...]

    @property
    def labels(self) -> list[Label]:
        """The labels, in input order."""
        return [self.sheet.labels[i] for i in self.index]


def make_sheet(labels: Sequence[Label]) -> Sheet:
    """Rows of all labels as columns."""
    rows = [row for label in labels for row in label.rows]
    sizes = [len(label.rows) for label in labels]
    columns = {
        name: np.array([getattr(row, name) for row in rows], dtype=float)  # None becomes NaN
        for name in _FIELDS
    }
    half_widths = {
        name: np.array([row.half_widths.get(name, 0.0) for row in rows], dtype=float) for name in ("teacher_j", "own_j")
    }
    codes: dict[str, int] = {}
    method_of = np.array([codes.setdefault(label.method, len(codes)) for label in labels], dtype=np.intp)
    return Sheet(
        labels=tuple(labels),
        methods=tuple(codes),
        method_of=method_of,
        of_row=np.repeat(np.arange(len(labels)), sizes),
        columns=columns,
        half_widths=half_widths,
    )


def shares_of(sheet: Sheet, allocation: Allocation) -> Floats:
    """The share of the teacher's work that each label bears (method.md, eq. 20); NaN where tokens are unknown.

    By tokens, the labels of one method share one artefact, each by the tokens that it took.
    """
    count = len(sheet.labels)
    if allocation.students is not None:
        return np.full(count, 1.0 / allocation.students)
    if allocation.kind is AllocationKind.TOKENS:
        return _token_shares(sheet)
    return np.full(count, 1.0 if allocation.kind is AllocationKind.ONE_OFF else 0.0)


def has_tokens(sheet: Sheet) -> bool:
    """Whether every label that drew on a teacher counted its tokens, so that there is an allocation by tokens."""
    drawn = [label for label in sheet.labels if label.mean("teacher_j")]
    return bool(drawn) and all(label.mean("teacher_tokens") for label in drawn)


def _token_shares(sheet: Sheet) -> Floats:
    tokens = sheet.columns["teacher_tokens"]
    of_label = sheet.mean(tokens, np.isfinite(tokens))
    methods: dict[str, float] = {}
    for label, count in zip(sheet.labels, of_label, strict=True):
        methods[label.method] = methods.get(label.method, 0.0) + (0.0 if np.isnan(count) else float(count))
    totals = np.array([methods[label.method] for label in sheet.labels])
    shares = np.divide(of_label, totals, out=np.full(len(totals), np.nan), where=totals > 0.0)
    teacher = sheet.columns["teacher_j"]
    # without a teacher there is nothing to share
    return np.where(sheet.mean(teacher, np.isfinite(teacher)) == 0.0, 0.0, shares)


def place(sheet: Sheet, allocation: Allocation) -> Plane:
    """Every label's mean energy and quality under the allocation, over the rows that know both (method.md, eq. 20)."""
    shares = shares_of(sheet, allocation)
    share = shares[sheet.of_row]
    teacher, own, quality = (sheet.columns[name] for name in ("teacher_j", "own_j", "quality"))
    # a share of 0 leaves the teacher out, known or not
    borne = np.where(share == 0.0, 0.0, share * teacher)
    row_energy = own + borne
    half = sheet.half_widths
    rows = np.isfinite(row_energy) & np.isfinite(quality)
    energy, mean_quality = sheet.mean(row_energy, rows), sheet.mean(quality, rows)
    throughput = sheet.columns["throughput"]
    index = np.flatnonzero(np.isfinite(energy))
    return Plane(
        sheet=sheet,
        index=index,
        rows=rows,
        row_energy=row_energy,
        row_half_width=np.hypot(half["own_j"], np.where(share == 0.0, 0.0, share * half["teacher_j"])),
        energy=_snapped(energy[index]),
        quality=_snapped(mean_quality[index]),
        throughput=sheet.mean(throughput, rows & np.isfinite(throughput))[index],
        left_out=tuple(
            (sheet.labels[i].name, _reason(sheet.labels[i], bears_teacher=bool(shares[i] != 0.0)))
            for i in np.flatnonzero(~np.isfinite(energy))
        ),
    )


def _snapped(values: Floats) -> Floats:
    """Values to 40 bits: sums that are equal on paper are equal, so that no tie is broken by a rounding error."""
    fraction, exponent = np.frexp(values)
    snapped: Floats = np.ldexp(np.round(fraction * _STEPS) / _STEPS, exponent)
    return snapped


def _reason(label: Label, *, bears_teacher: bool) -> str:
    """What a label lacks."""
    wanted = {"quality": "the quality", "own_j": "the energy beside the teacher's"}
    if bears_teacher:
        wanted["teacher_j"] = "the teacher's energy"
    gaps = [words for name, words in wanted.items() if label.mean(name) is None]
    if all(label.is_known(name) for name in wanted):
        return "no single row knows both energy and quality"
    return f"{listed(gaps)} {'are' if len(gaps) > 1 else 'is'} unknown"
