"""Whether an impact's frontier is that of the energy, grid by grid (method.md, eqs. 107 and 117)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.allocation import named
from stillwatt.analysis.plane import frontier_mask
from stillwatt.analysis.rule_cases import Evidence, Found, Gap
from stillwatt.analysis.sheet import Sheet, make_sheet, place
from stillwatt.analysis.trainings import Label, group_labels
from stillwatt.analysis.views import as_impact, factor_reader
from stillwatt.analysis.words import listed
from stillwatt.records.rules import Case, RuleTest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Labels whose work was all done at one factor."""

    name: str
    """Empty where there is one grid alone."""
    labels: tuple[Label, ...]


def same_plane(test: RuleTest, evidence: Evidence) -> Found:
    """Whether the frontier by an impact is that by energy, under every allocation: the share of labels on both.

    Within one grid: between grids the factors move points, which the rule does not speak of. Labels whose grid nobody
    says, whose teacher worked on another, or that are alone on theirs are named (method.md, eq. 117).
    """
    name = test.options["impact"]
    labels = evidence.trained.labels
    grids, gaps = _grids(labels, name)
    yield from gaps
    if not grids:
        return
    energy = make_sheet(labels)
    boundary = evidence.comparison.boundary
    impact = make_sheet(group_labels([as_impact(row, name, boundary) for label in labels for row in label.rows]))
    for grid in grids:
        for front in evidence.comparison.fronts:
            yield _on_both(test, energy, impact, grid, front.allocation)


def _grids(labels: Sequence[Label], name: str) -> tuple[list[_Grid], list[Gap]]:
    """Labels by the factor that all of their work was done at, and those that have none, several, or no neighbour."""
    found: dict[float, list[Label]] = {}
    nowhere: list[Label] = []
    several: list[Label] = []
    for label in labels:
        factors = _factors(label, name)
        if None in factors:
            nowhere.append(label)
        elif len(factors) > 1:
            several.append(label)
        else:
            found.setdefault(next(factor for factor in factors if factor is not None), []).append(label)
    gaps = [
        Gap(about=listed(label.name for label in who), reason=why, labels=tuple(who))
        for who, why in (
            (nowhere, f"what a kWh costs in {name} is not known where it ran"),
            (several, f"its work was done on several grids, of unlike {name} per kWh; the rule is about one"),
        )
        if who
    ]
    lone = [own[0] for own in found.values() if len(own) == 1]
    if lone:
        alone = "no other label ran on its grid alone, so there is no frontier to compare"
        gaps.append(Gap(about=listed(label.name for label in lone), reason=alone, labels=tuple(lone)))
    many = len(found) > 1
    grids = [
        _Grid(name=f" on the grid of {factor:.6g} {name} per kWh" if many else "", labels=tuple(own))
        for factor, own in found.items()
        if len(own) > 1
    ]
    return grids, gaps


def _factors(label: Label, name: str) -> set[float | None]:
    """What a kWh cost wherever work of the label was done; no teacher's work was done nowhere."""
    read = factor_reader(name)
    return {read(row.site) for row in label.rows} | {read(row.teacher_site) for row in label.rows if row.teacher_j != 0}


def _on_both(test: RuleTest, energy: Sheet, impact: Sheet, grid: _Grid, allocation: str) -> Case | Gap:
    inside = {label.name for label in grid.labels}
    by_energy, placed = _frontier(energy, inside, allocation)
    by_impact, _ = _frontier(impact, inside, allocation)
    about = f"frontiers by {test.options['impact']} and by energy under {allocation}{grid.name}"
    if len(placed) < 2:
        lacking = tuple(label for label in grid.labels if label.name not in placed)
        reason = f"fewer than two labels have both an energy and a quality; {listed(one.name for one in lacking)} not"
        return Gap(about=about, reason=reason, labels=grid.labels)
    share = len(by_energy & by_impact) / len(by_energy | by_impact)
    return Case(
        about=about,
        labels=tuple(sorted(by_energy | by_impact)),
        effect=share,
        low=share,
        high=share,
        unit="of the labels on both",
        seeds=min(placed.values()),
        leans=share == test.bound,
        p_for=0.0 if share == test.bound else 1.0,
        p_against=1.0 if share == test.bound else 0.0,
    )


def _frontier(sheet: Sheet, inside: set[str], allocation: str) -> tuple[set[str], Mapping[str, int]]:
    """Names on the frontier of those labels alone, and the seeds of all that are placed."""
    plane = place(sheet, named(allocation))
    labels = plane.labels
    own = np.array([at for at, label in enumerate(labels) if label.name in inside], dtype=np.intp)
    on = frontier_mask(plane.energy[own], plane.quality[own])
    names = [labels[at] for at in own.tolist()]
    return {label.name for label, is_on in zip(names, on, strict=True) if is_on}, {
        label.name: label.num_seeds for label in names
    }
