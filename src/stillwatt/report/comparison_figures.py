"""All figures of a comparison, in reading order, from its JSON form: a saved comparison can be drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.report.figure import Figure
from stillwatt.report.figure_bills import bills_figure
from stillwatt.report.figure_plane import frontier_figure
from stillwatt.report.figure_students import students_figure
from stillwatt.report.figure_sweep import sweep_figure, sweep_points, unplaced_settings
from stillwatt.report.figure_tornado import comparison_weighed, tornado_figure, turning_factors


def comparison_figures(data: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Frontier, E(N), bills, tornado and sweep: those that the comparison (`comparison_dict`) can carry."""
    first = next(iter(data["points"]))
    found = (
        frontier_figure(data),
        students_figure(data),
        bills_figure(data),
        tornado_figure(comparison_weighed(data), turning_factors(data)),
        sweep_figure(sweep_points(data, first), first, unplaced=unplaced_settings(data, first)),
    )
    return tuple(figure for figure in found if figure is not None)
