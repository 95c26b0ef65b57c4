"""The same trainings with other boundaries' energies and with impacts in place of the energy (method.md, eq. 60)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.certainty import draw, half_widths, listed_places, probabilities
from stillwatt.analysis.plane import frontier_mask
from stillwatt.analysis.sheet import Plane, Sheet, make_sheet, place
from stillwatt.analysis.trainings import Label, group_labels
from stillwatt.analysis.whole_rows import name_of
from stillwatt.records.allocation import Allocation
from stillwatt.records.comparison import CardEnergy, Observation, Site, View, ViewFront, ViewPoint
from stillwatt.units import J_PER_KWH, Joules, to_kwh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FACILITY = "facility"
_KWH = "kWh"
_UNKNOWN = CardEnergy(teacher_j=None, student_j=None, own_j=None)

_IMPACTS: tuple[tuple[str, str, Callable[[Site], float | None]], ...] = (
    ("kgco2e", "kgCO2e", lambda site: site.kgco2e_per_kwh),
    ("water_l", "l", lambda site: site.water_l_per_kwh),
    ("price", "currency of the price", lambda site: site.price_per_kwh),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Rows whose joules are multiplied by two factors, the teacher's and the student's; None: unknown there."""

    name: str
    is_boundary: bool
    unit: str
    rows: Sequence[Observation]
    factors: Sequence[tuple[float | None, float | None]]


def other_views(
    labels: Sequence[Label], allocations: Sequence[Allocation], rel: float, *, boundary: str, draws: int
) -> tuple[View, ...]:
    """Frontiers of GPU, of facility and of every impact that is known for some row (method.md, eq. 60).

        A = share T PUE_t f_t + O PUE_s f_s ;  f: 1, kgCO2e/kWh, l/kWh or money/kWh            [kWh, kg, l, money]

    The facility of a row is that of its energies times its power usage effectiveness; a row without one has no place
    in that view. Impacts use the facility's energy where it is known, and the energies as they are where it is not.

    Args:
        labels: The labels.
        allocations: Rules for the teacher's work.
        rel: Repeatability of a single training.
        boundary: What the rows' energies cover; empty where nobody says.
        draws: Draws for the probabilities.
    """
    rows = [row for label in labels for row in label.rows]
    asked = [*_boundaries(rows, boundary), *_impacts(rows, boundary)]
    return tuple(_view(entry, allocations, rel, draws) for entry in asked)


def factor_reader(name: str) -> Callable[[Site], float | None]:
    """What says how much of an impact a kWh costs at a site."""
    return {entry: read for entry, _, read in _IMPACTS}[name]


def as_impact(row: Observation, name: str, boundary: str) -> Observation:
    """The row with an impact in place of its energies; None where it is not known (method.md, eq. 60)."""
    read = factor_reader(name)
    return _scaled(row, _factor(row.teacher_site, read, boundary), _factor(row.site, read, boundary))


def has_one_factor(labels: Sequence[Label], name: str) -> bool:
    """Whether all rows share one factor for an impact, so that its frontier is the energy's again."""
    factor = factor_reader(name)
    sites = [site for label in labels for row in label.rows for site in (row.site, row.teacher_site)]
    return len({(site.pue, factor(site)) for site in sites}) == 1


def _boundaries(rows: Sequence[Observation], boundary: str) -> Iterator[_Asked]:
    if boundary != "gpu" and any(row.cards is not None for row in rows):
        cards = [_cards_only(row) for row in rows]
        yield _Asked(name="gpu", is_boundary=True, unit=_KWH, rows=cards, factors=[(1.0, 1.0)] * len(rows))
    if boundary in ("node", "") and any(row.site.pue is not None for row in rows):
        factors = [(row.teacher_site.pue, row.site.pue) for row in rows]
        yield _Asked(name=FACILITY, is_boundary=True, unit=_KWH, rows=rows, factors=factors)


def _impacts(rows: Sequence[Observation], boundary: str) -> Iterator[_Asked]:
    for name, unit, read in _IMPACTS:
        if any(read(row.site) is not None for row in rows):
            # rows share their sites, and there may be a million rows
            known = {id(site): _factor(site, read, boundary) for row in rows for site in (row.teacher_site, row.site)}
            factors = [(known[id(row.teacher_site)], known[id(row.site)]) for row in rows]
            yield _Asked(name=name, is_boundary=False, unit=unit, rows=rows, factors=factors)


def _factor(site: Site, read: Callable[[Site], float | None], boundary: str) -> float | None:
    factor = read(site)
    is_node = boundary in ("node", "")
    return None if factor is None else factor * (site.pue if is_node and site.pue is not None else 1.0)


def _cards_only(row: Observation) -> Observation:
    cards = row.cards or _UNKNOWN
    return replace(row, teacher_j=cards.teacher_j, student_j=cards.student_j, own_j=cards.own_j, half_widths={})


def _scaled(row: Observation, teacher: float | None, own: float | None) -> Observation:
    """A row whose joules stand for an amount per kWh; the repeatability is relative, so it carries over."""

    def times(energy_j: float | None, factor: float | None) -> float | None:
        return None if energy_j is None or factor is None else to_kwh(Joules(energy_j)) * factor

    # no teacher's work has no impact, wherever it might have run
    teacher_amount = 0.0 if row.teacher_j == 0.0 else times(row.teacher_j, teacher)
    half_widths = {
        name: times(width, teacher if name == "teacher_j" else own) or 0.0 for name, width in row.half_widths.items()
    }
    return replace(
        row,
        teacher_j=teacher_amount,
        student_j=times(row.student_j, own),
        own_j=times(row.own_j, own),
        half_widths=half_widths,
    )


def _view(asked: _Asked, allocations: Sequence[Allocation], rel: float, draws: int) -> View:
    base = make_sheet(group_labels(asked.rows))
    teacher, own = np.array(asked.factors, dtype=float).T  # None becomes NaN
    sheet = _scaled_sheet(base, teacher, own)
    fronts, aside = [], np.zeros(len(sheet.of_row), dtype=bool)
    for allocation in allocations:
        plane = place(sheet, allocation)
        aside |= ~plane.rows & np.isin(sheet.of_row, plane.index)
        on = frontier_mask(plane.energy, plane.quality)
        drawn = draw(plane, rel, draws=draws)
        listed = listed_places(on, drawn)
        widths = half_widths(plane, drawn, listed).energy
        fronts.append(
            ViewFront(
                allocation=allocation.label,
                points=tuple(
                    ViewPoint(
                        label=sheet.labels[plane.index[i]].name,
                        amount=float(plane.energy[i]),
                        half_width=float(width),
                        is_on_frontier=bool(on[i]),
                        probability=probability,
                    )
                    for i, probability, width in zip(listed, probabilities(plane, drawn, listed), widths, strict=True)
                ),
                left_out=_left_out(plane, asked, allocation),
            )
        )
    return View(
        name=asked.name,
        is_boundary=asked.is_boundary,
        unit=asked.unit,
        fronts=tuple(fronts),
        seeds_left_out=tuple(name_of(asked.rows[at]) for at in np.flatnonzero(aside).tolist()),
    )


def _scaled_sheet(sheet: Sheet, teacher: Floats, own: Floats) -> Sheet:
    """The sheet with its joules as amounts per kWh, row by row as `_scaled` does it."""
    per_kwh = {"teacher_j": teacher, "own_j": own}

    def times(columns: Mapping[str, Floats]) -> dict[str, Floats]:
        return {name: columns[name] / J_PER_KWH * factors for name, factors in per_kwh.items()}

    amounts = times(sheet.columns)
    amounts["teacher_j"] = np.where(sheet.columns["teacher_j"] == 0.0, 0.0, amounts["teacher_j"])
    widths = {name: np.nan_to_num(width) for name, width in times(sheet.half_widths).items()}
    return replace(sheet, columns=sheet.columns | amounts, half_widths=widths)


def _left_out(plane: Plane, asked: _Asked, allocation: Allocation) -> tuple[tuple[str, str], ...]:
    """Labels without a place here, and what they lack: an energy, or its factor."""
    lost = {name for name, _ in plane.left_out}
    if not lost:
        return ()
    rows = [_scaled(row, *factors) for row, factors in zip(asked.rows, asked.factors, strict=True) if row.label in lost]
    return place(make_sheet(group_labels(rows)), allocation).left_out
