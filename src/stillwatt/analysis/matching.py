"""Labels beside baselines of their own quality or energy, curves over N, and what a verdict hangs on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.contrast import ratio_of
from stillwatt.analysis.pairing import Roles
from stillwatt.analysis.plane import frontier_mask
from stillwatt.analysis.reuse import lacks_nothing, quality_gap
from stillwatt.analysis.sheet import Plane
from stillwatt.analysis.stairs import Stairs, Step
from stillwatt.analysis.stopped import unlike_lengths
from stillwatt.analysis.trainings import Label, Term, Weights, contrast_of
from stillwatt.records.comparison import Curve, CurvePoint, Lever, Matched
from stillwatt.records.energy import NoTotal

_COUNTS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)
"""Numbers of students that a curve is given at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A label on a plane with the share of the teacher's work that it bears."""

    label: Label
    energy_j: float
    quality: float
    share: float

    @property
    def bill(self) -> Weights:
        """Its energy under the allocation, in terms of its rows."""
        return _bill(self.share)


def match(plane: Plane, shares: Sequence[float], allocation: str, roles: Roles, rel: float) -> Iterator[Matched]:
    """Every distilled label beside the cheapest baseline as good and the best as cheap (method.md, eqs. 34 and 35).

    Args:
        plane: The labels placed under the allocation.
        shares: Share of the teacher's work that each label of the sheet bears.
        allocation: The allocation's name.
        roles: Which labels are baselines.
        rel: Repeatability of a single training.
    """
    sheet, wanted = plane.sheet, {label.name for label in roles.distilled}
    names = {label.method for label in roles.baselines}
    codes = [code for code, method in enumerate(sheet.methods) if method in names]
    is_baseline = np.isin(sheet.method_of[plane.index], codes)
    held = np.flatnonzero(is_baseline)
    on = frontier_mask(plane.energy[held], plane.quality[held])

    def placed(place: int) -> _Placed:
        return _Placed(
            label=sheet.labels[plane.index[place]],
            energy_j=float(plane.energy[place]),
            quality=float(plane.quality[place]),
            share=float(shares[plane.index[place]]),
        )

    # a baseline that another one beats matches nothing
    unbeaten = [placed(place) for place in held[on].tolist()]
    stairs = Stairs(Step(energy_j=entry.energy_j, quality=entry.quality, item=entry) for entry in unbeaten)
    for place in np.flatnonzero(~is_baseline).tolist():
        if sheet.labels[plane.index[place]].name not in wanted:
            continue
        entry = placed(place)
        as_good, best = stairs.cheapest_as_good(entry.quality), stairs.best()
        if as_good is None and best is not None and lacks_nothing(entry.label, best.label, rel):
            as_good = best
        as_cheap = stairs.best_as_cheap(entry.energy_j)
        yield _beside(allocation, entry, as_good, as_cheap, rel)


def _beside(allocation: str, own: _Placed, as_good: _Placed | None, as_cheap: _Placed | None, rel: float) -> Matched:
    ratio, low, high = (None, None, None) if as_good is None else _energy_ratio(own, as_good, rel)
    gap, half_width, is_significant = (None, None, False)
    if as_cheap is not None:
        gap, half_width, is_significant = quality_gap(own.label, as_cheap.label, rel)
    return Matched(
        allocation=allocation,
        label=own.label.name,
        as_good=as_good.label.name if as_good else "",
        as_good_lacks=max(own.quality - as_good.quality, 0.0) if as_good else None,
        energy_ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        as_cheap=as_cheap.label.name if as_cheap else "",
        quality_difference=gap,
        difference_half_width=half_width,
        is_significant=is_significant,
    )


def _energy_ratio(own: _Placed, other: _Placed, rel: float) -> tuple[float | None, float | None, float | None]:
    contrast = contrast_of(
        [Term(label=own.label, numerator=own.bill), Term(label=other.label, denominator=other.bill)], rel
    )
    if isinstance(contrast, NoTotal) or contrast.denominator <= 0.0:
        return None, None, None
    interval = ratio_of(contrast)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return contrast.numerator / contrast.denominator, low, high


def curves(roles: Roles, students: int, rel: float) -> tuple[Curve, ...]:
    """E(N) = T/N + O of every distilled label with its 95 % band, and its baseline's level (method.md, eq. 32)."""
    counts = sorted({*_COUNTS, students})
    found = []
    for label in roles.distilled:
        points = []
        for count in counts:
            energy = contrast_of([Term(label=label, numerator=_bill(1.0 / count))], rel)
            if not isinstance(energy, NoTotal):
                points.append(CurvePoint(students=count, energy_j=energy.numerator, half_width_j=energy.extra.random))
        if points:
            baseline = roles.baseline_of(label)
            level = contrast_of([Term(label=baseline, numerator=_bill(1.0))], rel) if baseline else None
            known = None if level is None or isinstance(level, NoTotal) else level
            found.append(
                Curve(
                    label=label.name,
                    baseline=baseline.name if baseline else "",
                    points=tuple(points),
                    baseline_j=known.numerator if known else None,
                    baseline_half_width_j=known.extra.random if known else None,
                )
            )
    return tuple(found)


def levers(roles: Roles, students: int) -> tuple[Lever, ...]:
    """How far each stage's energy must move until N students just repay the teacher (method.md, eq. 36).

    teacher: N (S_b - S) / T     baseline: (T/N + S) / S_b     student: (S_b - T/N) / S                        [1]
    """
    found: list[Lever] = []
    for label in roles.distilled:
        baseline = roles.baseline_of(label)
        teacher_j, own_j = label.mean("teacher_j"), label.mean("student_j")
        baseline_j = baseline.mean("student_j") if baseline else None
        if baseline is not None and unlike_lengths(label, baseline):
            continue
        if teacher_j is None or own_j is None or baseline_j is None or min(teacher_j, own_j, baseline_j) <= 0.0:
            continue
        saving_j, borne_j = baseline_j - own_j, teacher_j / students
        saves = saving_j > 0.0
        for stage, turning, elasticity in (
            ("teacher", students * saving_j / teacher_j, 1.0),
            ("student", (baseline_j - borne_j) / own_j, own_j / saving_j if saves else None),
            ("baseline", (borne_j + own_j) / baseline_j, -baseline_j / saving_j if saves else None),
        ):
            found.append(
                Lever(
                    label=label.name,
                    stage=stage,
                    elasticity=elasticity if saves else None,
                    turning_factor=turning if turning > 0.0 else None,
                )
            )
    return tuple(found)


def _bill(share: float) -> Weights:
    """A share of 0 leaves the teacher out, known or not."""
    return {"own_j": 1.0} if share == 0.0 else {"teacher_j": share, "own_j": 1.0}
