"""Energy and quality over what was swept: a pair of heat maps for each method and student, settings apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.report.comparison_tables import PLUS_MINUS, limited_table, plus_minus_energy, plus_minus_text
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.format import MISSING, Unit, pick_unit_of_kwh
from stillwatt.report.tables import Table, table_columns
from stillwatt.report.vega import Spec, spec, tips

_TITLES = {"alpha": "α (1)", "temperature": "temperature T (1)", "max_new_tokens": "max_new_tokens (tokens)"}
"""Settings that come first on the axes, with their titles; others follow by name, and are numbers."""
MOST_PANELS = 6
_CELL_PX = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One label of a sweep: where it stands, and what it took under one allocation."""

    label: str
    method: str
    student: str
    settings: Mapping[str, float]
    """Those that the label has, by name."""
    energy_kwh: float
    energy_half_width_kwh: float | None
    quality: float
    quality_half_width: float | None


def sweep_points(data: Mapping[str, Any], allocation: str) -> list[SweepPoint]:
    """The placed labels of a comparison that have settings, under that allocation."""
    settings = data["settings"]
    return [
        SweepPoint(
            label=point["label"],
            method=point["method"],
            student=point["student"],
            settings=settings[point["label"]],
            energy_kwh=point["energy_kwh"],
            energy_half_width_kwh=point["energy_half_width_kwh"],
            quality=point["quality"],
            quality_half_width=point["quality_half_width"],
        )
        for point in data["points"][allocation]
        if settings.get(point["label"])
    ]


def unplaced_settings(data: Mapping[str, Any], allocation: str) -> int:
    """How many labels with settings have no point under that allocation, and so no cell."""
    placed = {point["label"] for point in data["points"][allocation]}
    return len([label for label in data["settings"] if label not in placed])


def axis_title(name: str) -> str:
    """A setting with its unit."""
    return _TITLES.get(name, f"{name} ({'tokens' if name.endswith('_tokens') else 1})")


def _names(points: Sequence[SweepPoint]) -> list[str]:
    """The settings that are known of any of them, in the order of axes."""
    known = {name for point in points for name in point.settings}
    return [*(name for name in _TITLES if name in known), *sorted(known - set(_TITLES))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surface:
    """The points of one method and student, and one setting of what is on no axis."""

    title: str
    across: str
    up: str
    """Empty where one thing alone was swept."""
    points: tuple[SweepPoint, ...]


def sweep_figure(points: Sequence[SweepPoint], allocation: str, *, unplaced: int = 0) -> Figure | None:
    """Heat maps of energy and quality; None where nothing was swept.

    Args:
        points: The labels with their settings.
        allocation: How the teacher's work is billed.
        unplaced: Further labels of the sweep that have no point.
    """
    kinds = dict.fromkeys((point.method, point.student) for point in points)
    surfaces = [surface for kind in kinds for surface in _surfaces(kind, points)]
    if not surfaces:
        return None
    shown = surfaces[:MOST_PANELS]
    unit = pick_unit_of_kwh([point.energy_kwh for surface in shown for point in surface.points])
    panels: list[Panel] = []
    for surface in shown:
        panels.append(Panel(title=f"{surface.title}: energy", spec=_map(surface, unit, is_energy=True)))
        panels.append(Panel(title=f"{surface.title}: quality", spec=_map(surface, unit, is_energy=False)))
    missing = len(surfaces) - len(shown)
    swept = {name for surface in shown for name in (surface.across, surface.up) if name}
    return Figure(
        name="sweep",
        title="Energy and quality over the sweep",
        caption=f"Each cell is one setting, under the allocation {allocation}: the number with its 95 % half-width, "
        "where one is known, and the mean where several labels share a cell. A cell that was not run is blank."
        + (f" {unplaced:,} of the labels swept have no point, and no cell." if unplaced else "")
        + (f" {missing:,} more surfaces are in the table alone." if missing else ""),
        alt=f"Heat maps of energy and quality over {' and '.join(sorted(swept))}.",
        panels=tuple(panels),
        table=_table(points, allocation),
    )


def _surfaces(kind: tuple[str, str], points: Sequence[SweepPoint]) -> list[_Surface]:
    """One for each setting of what is on no axis; none where this method and student varied nothing."""
    own = [point for point in points if (point.method, point.student) == kind]
    varied = [name for name in _names(own) if len({p.settings[name] for p in own if name in p.settings}) > 1]
    if not varied:
        return []
    across, up, *rest = [*varied, ""] if len(varied) == 1 else varied
    groups: dict[tuple[float | None, ...], list[SweepPoint]] = {}
    for point in own:
        if across in point.settings and (not up or up in point.settings):
            groups.setdefault(tuple(point.settings.get(name) for name in rest if name), []).append(point)
    found = []
    for key, members in sorted(groups.items(), key=lambda item: [-math.inf if v is None else v for v in item[0]]):
        fixed = [f"{name} {MISSING if v is None else f'{v:g}'}" for name, v in zip(rest, key, strict=False)]
        found.append(
            _Surface(title=", ".join([*filter(None, kind), *fixed]), across=across, up=up, points=tuple(members))
        )
    return found


def _map(surface: _Surface, unit: Unit, *, is_energy: bool) -> Spec:
    cells: dict[tuple[float, float | None], list[SweepPoint]] = {}
    for point in surface.points:
        key = (point.settings[surface.across], point.settings[surface.up] if surface.up else None)
        cells.setdefault(key, []).append(point)
    values = [_cell(key, members, unit, is_energy=is_energy) for key, members in sorted(cells.items(), key=_order)]
    measured = [value["value"] for value in values]
    middle = (min(measured) + max(measured)) / 2.0
    for value in values:
        value["bright"] = value["value"] >= middle
    title = f"energy ({unit.symbol})" if is_energy else "quality Q (1)"
    return _heat(surface, values, title)


def _order(item: tuple[tuple[float, float | None], Any]) -> tuple[float, float]:
    (across, up), _ = item
    return across, up or 0.0


def _cell(
    key: tuple[float, float | None], members: Sequence[SweepPoint], unit: Unit, *, is_energy: bool
) -> dict[str, Any]:
    if is_energy:
        found = [(unit.of_kwh(p.energy_kwh), p.energy_half_width_kwh) for p in members]
        found = [(value, None if half is None else unit.of_kwh(half)) for value, half in found]
    else:
        found = [(p.quality, p.quality_half_width) for p in members]
    value = statistics.fmean(v for v, _ in found)
    # the interval of a mean over unlike labels is not known
    half = found[0][1] if len(found) == 1 else None
    return {
        "across": f"{key[0]:g}",
        "up": "" if key[1] is None else f"{key[1]:g}",
        "value": value,
        "text": plus_minus_text(value, half),
        "labels": ", ".join(p.label for p in members),
    }


def _heat(surface: _Surface, values: Sequence[Mapping[str, Any]], title: str) -> Spec:
    rows = list(dict.fromkeys(value["up"] for value in sorted(values, key=lambda v: -float(v["up"] or 0.0))))
    columns = list(dict.fromkeys(value["across"] for value in values))
    across: Spec = {"field": "across", "type": "ordinal", "sort": columns, "title": axis_title(surface.across)}
    across["axis"] = {"labelAngle": 0, "domain": False, "ticks": False}
    up: Spec = {"field": "up", "type": "ordinal", "sort": rows, "title": axis_title(surface.up) if surface.up else None}
    up["axis"] = {"domain": False, "ticks": False}
    colour: Spec = {"field": "value", "type": "quantitative", "title": title, "scale": {"scheme": "viridis"}}
    colour["scale"]["zero"] = False
    colour["legend"] = {"orient": "top", "gradientThickness": 8, "labelColor": "currentColor"}
    colour["legend"] |= {"titleColor": "currentColor", "tickCount": 4, "titleFontWeight": 500}
    swept = [(axis_title(surface.across), "across")]
    if surface.up:
        swept.append((axis_title(surface.up), "up"))
    tooltip = tips(*swept, (title, "text"), ("labels", "labels"))
    return spec(
        values,
        [
            {"mark": {"type": "rect", "stroke": "#ffffff"}, "encoding": {"color": colour, "tooltip": tooltip}},
            *(
                {
                    "transform": [{"filter": "datum.bright" if is_bright else "!datum.bright"}],
                    "mark": {"type": "text", "fontSize": 11, "color": "#111111" if is_bright else "#ffffff"},
                    "encoding": {"text": {"field": "text"}},
                }
                for is_bright in (True, False)
            ),
        ],
        height=max(_CELL_PX * len(rows), 2 * _CELL_PX),
        encoding={"x": across, "y": up},
    )


def _table(points: Sequence[SweepPoint], allocation: str) -> Table:
    unit = pick_unit_of_kwh(point.energy_kwh for point in points)
    names = _names(points)
    rows = [
        [
            point.label,
            point.method,
            point.student,
            *(f"{point.settings[name]:g}" if name in point.settings else MISSING for name in names),
            plus_minus_energy(unit, point.energy_kwh, point.energy_half_width_kwh),
            plus_minus_text(point.quality, point.quality_half_width),
        ]
        for point in points
    ]
    axes = (f">{axis_title(name)}" for name in names)
    titles = ("label", "method", "student", *axes, f">{allocation} ({unit.symbol})", ">quality Q (1)")
    title = "Energy and quality over the sweep"
    return limited_table(title, table_columns(*titles), rows, PLUS_MINUS)
