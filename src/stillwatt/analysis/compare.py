"""All findings of a set of trainings in one call (method.md, section 4, equations 29 to 39)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.allocation import MARGINAL, ONE_OFF, TOKENS, reuse
from stillwatt.analysis.cautions import Trained, find_cautions
from stillwatt.analysis.certainty import MOST_LISTED, Draws, draw, half_widths, listed_places, probabilities
from stillwatt.analysis.matching import curves, levers, match
from stillwatt.analysis.pairing import Roles, assign_roles, sharing_students
from stillwatt.analysis.plane import attainment, frontier_mask, hypervolume, throughput_mask
from stillwatt.analysis.reuse import matched_reuse_findings, reuse_findings, serving_findings, sweep_findings
from stillwatt.analysis.sheet import Plane, Sheet, has_tokens, make_sheet, place, shares_of
from stillwatt.analysis.siblings import merge_siblings
from stillwatt.analysis.trainings import NAMES, Label, gather_labels, repeat_rel
from stillwatt.analysis.views import other_views
from stillwatt.analysis.whole_rows import lacks_of
from stillwatt.records.allocation import Allocation
from stillwatt.records.channel import worst_basis
from stillwatt.records.comparison import (
    Attained,
    Comparison,
    Front,
    Matched,
    Observation,
    PlacedLabel,
    SeedLeftOut,
    StageSums,
    Unbilled,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 1_000
MOST_COMPARED = 2_000
"""Distilled labels that break-evens are given for; beyond it the first ones, and a warning says so."""
_MOST_ATTAINED = 2_000
"""Labels on a plane beyond which no attainment is given: its curves would have as many corners as points."""
_SHARES = (0.05, 0.5, 0.95)
_BEYOND = 1.1
"""How far beyond the dearest frontier point the reference lies, so that this point counts too."""


def compare(
    rows: Sequence[Observation],
    *,
    source: str,
    baseline: str = "sft",
    boundary: str = "",
    reuse_counts: Sequence[int] = (),
    unbilled: Sequence[Unbilled] = (),
    draws: int = DRAWS,
) -> Comparison:
    """Frontiers under every allocation, break-evens, matched comparisons and what to beware of.

    Rows of one label are one point, at the mean of its seeds. `reuse:N` has the N of `sharing_students`, and those
    asked for.

    Args:
        rows: Trainings; no two with the same label and seed.
        source: What they come from, for the reader.
        baseline: Method that the others are held against.
        boundary: What the energies cover: `gpu`, `node`, `facility`; empty where nobody says.
        reuse_counts: Further N for `reuse:N`.
        unbilled: Energy that is on no row's bill; handed through.
        draws: Draws for the probabilities.

    Raises:
        MissingExtraError: SciPy or moocore is not installed.
    """
    sheet = make_sheet(gather_labels(rows))
    roles = assign_roles(sheet.labels, baseline)
    repeats = merge_siblings(sheet.labels)
    students, rel = sharing_students(roles), repeat_rel(repeats)
    allocations = _allocations(sheet, [students, *reuse_counts])
    planes = [place(sheet, allocation) for allocation in allocations]
    masks = [frontier_mask(plane.energy, plane.quality) for plane in planes]
    reference = _reference(planes, masks)
    drawn = [draw(plane, rel, draws=draws) for plane in planes]
    fronts = tuple(
        _front(a, p, on, d, reference) for a, p, on, d in zip(allocations, planes, masks, drawn, strict=True)
    )
    few = replace(roles, distilled=roles.distilled[:MOST_COMPARED])
    repeated = assign_roles(repeats, baseline)
    trained = replace(repeated, distilled=repeated.distilled[:MOST_COMPARED])
    found = Comparison(
        source=source,
        baseline=baseline,
        boundary=boundary,
        reuse_students=students,
        reference_j=reference[0] if reference else None,
        reference_quality=reference[1] if reference else 0.0,
        draws=min(entry.count for entry in drawn),
        fronts=fronts,
        n_star=reuse_findings(trained, rel),
        n_star_matched=matched_reuse_findings(trained, rel),
        t_star=serving_findings(trained, rel),
        sweeps=sweep_findings(trained, rel),
        matched=tuple(_matches(sheet, allocations, planes, few, rel)),
        curves=curves(trained, students, rel),
        levers=levers(trained, students),
        stages=tuple(_stage_sums(label) for label in sheet.labels[:MOST_LISTED]),
        views=other_views(sheet.labels, allocations, rel, boundary=boundary, draws=draws),
        unbilled=tuple(unbilled),
        warnings=(),
        settings={label.name: label.rows[0].settings for label in sheet.labels if label.rows[0].settings},
        num_labels=len(sheet.labels),
    )
    cautions = find_cautions(found, Trained(labels=repeats, roles=repeated, rel=rel), sheet.labels, asked_draws=draws)
    return replace(found, warnings=cautions, seeds_left_out=tuple(_seeds_left_out(repeats)))


def _seeds_left_out(labels: Sequence[Label]) -> Iterator[SeedLeftOut]:
    for label in labels:
        for row in label.left_out:
            lacks = tuple(NAMES[name] for name in lacks_of(row, label.rows))
            yield SeedLeftOut(label=label.name, seed=row.drawn_with or row.seed, place=row.place, lacks=lacks)


def _stage_sums(label: Label) -> StageSums:
    low_j, high_j = _whole_j(label)
    bases = [row.basis for row in label.rows if row.basis is not None]
    tokens = [row.tokens for row in label.rows if row.tokens is not None]
    teacher_j, student_j, own_j = label.mean("teacher_j"), label.mean("student_j"), label.mean("own_j")
    return StageSums(
        label=label.name,
        teacher_j=teacher_j,
        student_j=student_j,
        other_j=None if own_j is None or student_j is None else own_j - student_j,
        total_j=None if own_j is None or teacher_j is None else own_j + teacher_j,
        total_low_j=low_j,
        total_high_j=high_j,
        basis=worst_basis(bases) if bases else None,
        tokens=label.mean("tokens"),
        tokens_least=min(tokens, default=None),
        tokens_most=max(tokens, default=None),
    )


def _whole_j(label: Label) -> tuple[float | None, float | None]:
    """Means of the ends of its rows' whole intervals: what an instrument gets wrong, it gets wrong alike in all."""
    ends = [row.whole_j for row in label.rows if row.whole_j is not None]
    if len(ends) < len(label.rows):
        return None, None
    return statistics.fmean(low for low, _ in ends), statistics.fmean(high for _, high in ends)


def _allocations(sheet: Sheet, counts: Sequence[int]) -> tuple[Allocation, ...]:
    """One-off, reuse at each N, tokens where they were counted, marginal; `reuse:1` stays, so that the shape does."""
    tokens = (TOKENS,) if has_tokens(sheet) else ()
    return (ONE_OFF, *(reuse(count) for count in sorted(set(counts))), *tokens, MARGINAL)


def _reference(planes: Sequence[Plane], masks: Sequence[NDArray[np.bool_]]) -> tuple[float, float] | None:
    """Where hypervolumes are counted from, the same for all allocations (method.md, eq. 37).

    Energy: 1.1 times that of the dearest frontier point of any allocation. Quality: 0, or the worst frontier point's
    where that is below 0.
    """
    energies, qualities = [0.0], [0.0]
    for plane, on in zip(planes, masks, strict=True):
        energies += plane.energy[on].tolist()
        qualities += plane.quality[on].tolist()
    return (_BEYOND * max(energies), min(qualities)) if max(energies) > 0.0 else None


def _front(
    allocation: Allocation,
    plane: Plane,
    on: NDArray[np.bool_],
    drawn: Draws,
    reference: tuple[float, float] | None,
) -> Front:
    sizes = plane.sheet.seeds_among(plane.rows)[plane.index]
    listed = listed_places(on, drawn)
    widths = half_widths(plane, drawn, listed)
    placed = tuple(
        PlacedLabel(
            label=plane.sheet.labels[plane.index[i]].name,
            method=plane.sheet.labels[plane.index[i]].method,
            student=plane.sheet.labels[plane.index[i]].student,
            energy_j=float(plane.energy[i]),
            quality=float(plane.quality[i]),
            throughput=float(plane.throughput[i]) if np.isfinite(plane.throughput[i]) else None,
            seeds=int(sizes[i]),
            is_on_frontier=bool(on[i]),
            probability=probability,
            energy_half_width_j=float(width_j),
            quality_half_width=float(width) if np.isfinite(width) else None,
        )
        for i, probability, width_j, width in zip(
            listed, probabilities(plane, drawn, listed), widths.energy, widths.quality, strict=True
        )
    )
    return Front(
        allocation=allocation.label,
        placed=placed,
        with_throughput=_with_throughput(plane),
        by_method=_by_method(plane),
        hypervolume=hypervolume(plane.energy[on], plane.quality[on], reference=reference) if reference else None,
        attained=_attained(drawn),
        left_out=plane.left_out,
    )


def _with_throughput(plane: Plane) -> tuple[str, ...] | None:
    known = np.flatnonzero(np.isfinite(plane.throughput))
    if not len(known):
        return None
    on = throughput_mask(plane.energy[known], plane.quality[known], plane.throughput[known])
    return tuple(plane.sheet.labels[plane.index[i]].name for i in known[on])


def _by_method(plane: Plane) -> dict[str, tuple[str, ...]]:
    of = plane.sheet.method_of[plane.index]
    found = {}
    # in the order in which they are placed
    codes, first = np.unique(of, return_index=True)
    for code in codes[np.argsort(first)].tolist():
        own = np.flatnonzero(of == code)
        on = frontier_mask(plane.energy[own], plane.quality[own])
        names = tuple(plane.sheet.labels[plane.index[i]].name for i in own[on].tolist())
        found[plane.sheet.methods[code]] = names
    return found


def _attained(drawn: Draws) -> tuple[Attained, ...]:
    if not drawn.count or not 0 < len(drawn.index) <= _MOST_ATTAINED:
        return ()
    return attainment(drawn.energy, drawn.quality, shares=_SHARES)


def _matches(
    sheet: Sheet, allocations: Sequence[Allocation], planes: Sequence[Plane], roles: Roles, rel: float
) -> Iterator[Matched]:
    for allocation, plane in zip(allocations, planes, strict=True):
        yield from match(plane, shares_of(sheet, allocation).tolist(), allocation.label, roles, rel)
