"""A life-cycle report drawn: statuses of stage × impact, stages of each impact with intervals, shares of variance.

Colour says how a number came to be known, the same in every figure; words and the table beside repeat it. Where nothing
is counted stands a word, and no bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.figure import Figure, Panel
from stillwatt.report.lifecycle_answer import widest_energy
from stillwatt.report.lifecycle_impact import (
    GWPS,
    Line,
    Matrix,
    Square,
    common_scale,
    coverage_text,
    impact_scale,
    matrix_of,
    square_of,
)
from stillwatt.report.lifecycle_interpretation import input_titles, variance_table
from stillwatt.report.lifecycle_whole import Row as Said
from stillwatt.report.lifecycle_whole import cell_of, stages_of, total_of
from stillwatt.report.lifecycle_words import (
    NOT_APPLICABLE,
    NOT_COUNTED,
    STATUS_MEANINGS,
    VALUED,
    brief_stage,
    impact_title,
    names_text,
    share_text,
    stage_title,
    status_title,
)
from stillwatt.report.vega import TICKS, Spec, Swatch, by_colour, leaning_axis, nominal, spec, tips, x

STATUS_COLOURS: Mapping[str, str] = {
    "measured": "#3DB38F",
    "modelled": "#7FB2DD",
    "factor": "#EDBE5C",
    NOT_APPLICABLE: "#D5D9DE",
    NOT_COUNTED: "#EBC4D1",
}
"""Light enough for dark words on each, on a light page and on a dark one."""
_ON_COLOUR = "#14181C"
_MARKS = {"measured": "●", "modelled": "~", "factor": "*", NOT_APPLICABLE: "·", NOT_COUNTED: "?"}
_BRIEF: Mapping[str, str] = {
    "energy_metered": "metered energy",
    "energy_node": "node energy",
    "energy_facility": "facility energy",
    "gwp_location": "GWP location",
    "gwp_market": "GWP market",
    "adpe": "ADPe",
}
"""Impacts on axes, which a phone has room for."""
_SQUARE_PX, _BAR_PX = 30, 24
_ROOM = 1.45
"""Length of the axis over the longest interval, for the words beside it."""
_WIDE_PX = 560
"""From this width on, numbers stand in the map's cells; on a narrower page the marks of the legend."""
_WORDS_PX = 44
"""Width of a share in words, behind its bar."""
_MOST_INPUTS = 6
_DRAWN = ("gwp_location", "gwp_market", "primary_energy", "water_onsite", "water_offsite", "adpe", "ewaste")


def lifecycle_figures(data: Said) -> tuple[Figure, ...]:
    """The figures of a report; one that there is nothing for is left out."""
    drawn = (_status_figure(data), _stages_figure(data), _variance_figure(data))
    return tuple(figure for figure in drawn if figure is not None)


def _legend(statuses: Sequence[str]) -> tuple[Swatch, ...]:
    return tuple(
        Swatch(title=f"{_MARKS[name]} {status_title(name)}: {STATUS_MEANINGS[name]}", colour=STATUS_COLOURS[name])
        for name in STATUS_COLOURS
        if name in statuses
    )


def _scale(statuses: Sequence[str]) -> Spec:
    return {"domain": list(statuses), "range": [STATUS_COLOURS[name] for name in statuses]}


def _status_figure(data: Said) -> Figure:
    matrix = matrix_of(data)
    values = [_square(square, _named(line), line.unit) for line in matrix.lines for square in line.squares]
    statuses = [name for name in STATUS_COLOURS if any(value["status"] == name for value in values)]
    counts = names_text(f"{sum(v['status'] == name for v in values)} {status_title(name)}" for name in statuses)
    return Figure(
        name="statuses",
        title="What is known, and how",
        caption="Each cell is one impact of one stage; + is incomplete. A question mark is not a 0: it exists, and "
        "nobody knows how much it is.",
        alt=f"Heat map of {len(matrix.stages)} stages by {len(matrix.lines)} impacts: {counts}.",
        panels=(Panel(title="", spec=_status_spec(values, matrix)),),
        table=matrix.table,
        legend=_legend(statuses),
    )


def _named(line: Line) -> str:
    name = _BRIEF.get(line.impact, line.title)
    return f"{name}, {line.unit}" if line.unit else name


def _square(square: Square, impact: str, unit: str) -> dict[str, str]:
    has_value = bool(square.value)
    plus = "" if square.is_whole else " +"
    return {
        "stage": brief_stage(square.stage),
        "impact": impact,
        "status": square.status,
        "words": square.words,
        "text": f"{square.value}{plus}" if has_value else _MARKS[square.status],
        "mark": f"{_MARKS[square.status]}{plus.strip()}",
        "amount": f"{square.value} {unit} {square.ends}".strip() if has_value else square.words,
        "why": square.why or "–",
    }


def _status_spec(values: Sequence[Mapping[str, Any]], matrix: Matrix) -> Spec:
    tooltip = tips(("stage", "stage"), ("impact", "impact"), ("status", "words"), ("value", "amount"), ("why", "why"))
    statuses = list(STATUS_COLOURS)
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "cornerRadius": 2, "stroke": "currentColor", "strokeOpacity": 0.12},
            "encoding": {"color": by_colour("status", _scale(statuses)), "tooltip": tooltip},
        },
        {
            "mark": {"type": "text", "fontSize": 11, "color": _ON_COLOUR},
            "encoding": {
                "text": {"condition": {"test": f"width >= {_WIDE_PX}", "field": "text"}, "field": "mark"},
                "tooltip": tooltip,
            },
        },
    ]
    up = {"title": None, "domain": False, "ticks": False, "labelPadding": 6}
    axes = {"x": nominal("stage", axis=leaning_axis(-40)), "y": nominal("impact", axis=up)}
    return spec(values, layers, height=_SQUARE_PX * len(matrix.lines), encoding=axes)


def _stages_figure(data: Said) -> Figure | None:
    """A panel an impact; of electricity that of the widest boundary, the others being parts of it."""
    energy = widest_energy(data)
    wanted = [*([energy["impact"]] if energy else []), *_DRAWN]
    drawn = [impact for impact in wanted if (total_of(data, impact) or {}).get("value") is not None]
    if not drawn:
        return None
    left_out = [impact for impact in wanted if impact not in drawn]
    none = f" Not drawn, since no stage of them is counted: {_names(left_out)}." if left_out else ""
    matrix = matrix_of(data)
    statuses = {square.status for line in matrix.lines if line.impact in drawn for square in line.squares}
    return Figure(
        name="stages",
        title="Which stages each impact comes from",
        caption="Bars with their 90 % interval, coloured by how the number is known; a word stands where there is no "
        f"number.{none}",
        alt="Bars of stages for each impact. " + "; ".join(_alt(data, impact) for impact in drawn) + ".",
        panels=_panels(data, {impact: _bars(data, impact, matrix) for impact in drawn}),
        table=matrix.table,
        legend=_legend([name for name in VALUED if name in statuses]),
    )


def _panels(data: Said, specs: Mapping[str, Spec]) -> tuple[Panel, ...]:
    """A panel an impact, with its coverage in the title."""
    return tuple(
        Panel(title=f"{impact_title(impact)} (coverage {coverage_text(data, impact)})", spec=drawn)
        for impact, drawn in specs.items()
    )


def _names(impacts: Sequence[str]) -> str:
    return names_text(map(impact_title, impacts))


def _alt(data: Said, impact: str) -> str:
    cells = [cell_of(data, stage, impact) for stage in stages_of(data)]
    valued = [cell for cell in cells if cell["status"] in VALUED and cell["value"] is not None]
    most = max(valued, key=lambda cell: float(cell["value"]), default=None)
    return f"{impact_title(impact)}: {len(valued)} stages counted" + (
        f", most in {stage_title(most['stage'])}" if most else ""
    )


def _bars(data: Said, impact: str, matrix: Matrix) -> Spec:
    """Bars of one impact; both GWPs are on one scale, so that they can be compared by eye."""
    scale = common_scale(data) if impact in GWPS else impact_scale(data, impact)
    values = []
    for stage in matrix.stages:
        square = square_of(data, stage, impact, scale)
        cell, value = cell_of(data, square.stage, impact), None
        if square.status in VALUED and cell["value"] is not None:
            value = {key: scale.of(cell[key]) for key in ("value", "low", "high") if cell[key] is not None}
        plus = "" if square.is_whole else " +"
        values.append(
            {
                "stage": brief_stage(square.stage),
                "status": square.status,
                **(value or {}),
                "end": 0.0 if value is None else value.get("high", value["value"]),
                "words": f"{square.value}{plus}" if square.value else square.words,
                "amount": f"{square.value} {scale.symbol} {square.ends}".strip() if square.value else square.words,
                "why": square.why or "–",
            }
        )
    alike = GWPS if impact in GWPS else (impact,)
    cells = [cell for cell in data["cells"] if cell["impact"] in alike and cell["status"] in VALUED]
    # a spoilt report may have a total and none of its cells
    ends = [0.0, *(scale.of(c[key]) for c in cells for key in ("value", "low", "high") if c[key] is not None)]
    return _bars_spec(values, scale.symbol, [min(ends), (max(ends) or 1.0) * _ROOM])


def _bars_spec(values: Sequence[Mapping[str, Any]], unit: str, domain: Sequence[float]) -> Spec:
    tooltip = tips(("stage", "stage"), ("status", "status"), ("value [90 %]", "amount"), ("why", "why"))
    axis = x("value", unit, scale={"domain": list(domain), "nice": False}, axis={**TICKS, "tickCount": 4, "grid": True})
    valued = {"transform": [{"filter": "isValid(datum.value)"}]}
    layers: list[Spec] = [
        {
            **valued,
            "mark": {"type": "bar", "height": {"band": 0.62}},
            "encoding": {"x": axis, "color": by_colour("status", _scale(list(STATUS_COLOURS))), "tooltip": tooltip},
        },
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 1.4},
            "encoding": {"x": {**axis, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 11},
            "encoding": {"x": {**axis, "field": "end"}, "text": {"field": "words"}},
        },
    ]
    up = {"title": None, "domain": False, "ticks": False, "labelPadding": 6}
    return spec(
        values,
        layers,
        height=_BAR_PX * len(values),
        encoding={"y": nominal("stage", axis=up, sort=[value["stage"] for value in values])},
    )


def _variance_figure(data: Said) -> Figure | None:
    table = variance_table(data)
    energy = widest_energy(data)
    wanted = [*_DRAWN[:2], *([energy["impact"]] if energy else []), *_DRAWN[2:]]
    drawn = [impact for impact in wanted if (total_of(data, impact) or {}).get("shares_of_variance")]
    if table is None or not drawn:
        return None
    return Figure(
        name="variance",
        title="Where the doubt comes from",
        caption="Share of each total's variance by input, the largest first: the figure to improve first. "
        f"At most {_MOST_INPUTS} inputs are drawn; what is missing from 100 % is their interplay.",
        alt="Bars of shares of variance. " + "; ".join(_largest(data, impact) for impact in drawn) + ".",
        panels=_panels(data, {impact: _shares_spec(_shares(data, impact)) for impact in drawn}),
        table=table,
    )


def _shares(data: Said, impact: str) -> list[dict[str, Any]]:
    """The largest shares; an input that is called like another has its id beside it."""
    titles, total = input_titles(data), total_of(data, impact) or {}
    shares = sorted(total["shares_of_variance"].items(), key=lambda item: -item[1])[:_MOST_INPUTS]
    names = [titles.get(name, name) for name, _ in shares]
    return [
        {
            "input": title if names.count(title) == 1 else f"{title} ({name})",
            "id": name,
            "share": share,
            "words": share_text(share),
        }
        for title, (name, share) in zip(names, shares, strict=True)
    ]


def _largest(data: Said, impact: str) -> str:
    first = _shares(data, impact)[0]
    return f"{impact_title(impact)}: {first['input']} {first['words']}"


def _shares_spec(values: Sequence[Mapping[str, Any]]) -> Spec:
    # room for the words behind the longest bar, and labels that stay apart, on a narrow page too
    end = {"expr": f"1 + {_WORDS_PX} / max(width - {_WORDS_PX}, {_WORDS_PX})"}
    axis = x("share", "share of variance", scale={"domainMin": 0, "domainMax": end, "nice": False})
    label = "width < 260 && datum.value % 0.5 ? '' : datum.label"
    axis |= {"axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True, "labelExpr": label}}
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.62}, "color": "#2F7FC1"},
            "encoding": {"x": axis, "tooltip": tips(("input", "input"), ("id", "id"), ("share", "words"))},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
            "encoding": {"x": axis, "text": {"field": "words"}},
        },
    ]
    up = {"title": None, "domain": False, "ticks": False, "labelPadding": 6, "labelLimit": 185, "labelFontSize": 11}
    return spec(values, layers, height=_BAR_PX * max(len(values), 2), encoding={"y": nominal("input", axis=up)})
