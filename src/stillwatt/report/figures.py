"""The figures of a report as Vega-Lite specs with their data inside, each with the table that says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.figure import Figure, Panel
from stillwatt.report.figure_frontier import arm_scale, frontier_panels, reuse_panel
from stillwatt.report.figure_tornado import run_weighed, tornado_figure
from stillwatt.report.figure_trace import trace_panels, trace_scale, trace_table
from stillwatt.report.format import Unit, energy_text, percent_text, pick_unit, share_text
from stillwatt.report.tables import arms_table, break_even_table, frontier_table, stage_table, table_unit
from stillwatt.report.vega import (
    KIND_TITLES,
    TICKS,
    Spec,
    by_colour,
    colours,
    kind_scale,
    nominal,
    spec,
    swatches,
    tips,
    x,
)

__all__ = ["Figure", "Panel", "build_figures"]

_ROW_PX = 24


def build_figures(data: Mapping[str, Any]) -> tuple[Figure, ...]:
    """All figures that the report's data can carry, in reading order."""
    found = [_stages_figure(data)]
    if data["arms"]:
        found.append(_arms_figure(data))
    if data["frontier"]:
        found.append(_frontier_figure(data))
    if any(point["artifacts"] for point in data["arms"]):
        found.append(_reuse_figure(data))
    tornado = tornado_figure(run_weighed(data), {})
    if tornado is not None:
        found.append(tornado)
    if data["traces"]:
        found.append(_trace_figure(data))
    return tuple(figure for figure in found if figure.panels)


def _stages_figure(data: Mapping[str, Any]) -> Figure:
    """One bar a row of the stage table, with its interval."""
    unit = table_unit(data)
    entries = [
        (_row_name(row), "experimentation" if row["group"] == "experimentation" else row["kind"], row["energy"])
        for row in data["stage_table"]["rows"]
    ]
    entries.append(("in no stage", "unallocated", data["stage_table"]["unallocated"]))
    total_j = data["stage_table"]["total"].get("value_j")
    values = [_bar(name, kind, energy, unit, total_j) for name, kind, energy in entries if "absent" not in energy]
    largest = max(values, key=lambda value: value["energy"], default=None)
    return Figure(
        name="stages",
        title="Where the joules went",
        caption="One bar for each kind of work; whiskers are 95 % intervals.",
        alt="Bar chart of energy by stage."
        + (f" The largest is {largest['stage']} with {largest['text']}." if largest else ""),
        panels=(Panel(title="", spec=_bars(values, unit)),) if values else (),
        table=stage_table(data),
        legend=swatches(kind_scale([value["kind"] for value in values])),
    )


def _row_name(row: Mapping[str, Any]) -> str:
    return f"{row['arm']}: {row['label']}" if row["group"] == "arm" else str(row["label"])


def _bar(name: str, kind: str, energy: Mapping[str, Any], unit: Unit, total_j: float | None) -> dict[str, Any]:
    return {
        "stage": name,
        "kind": KIND_TITLES[kind],
        "energy": unit.of(energy["value_j"]),
        "low": unit.of(energy["low_j"]),
        "high": unit.of(energy["high_j"]),
        "text": energy_text(energy, unit),
        "share": percent_text(energy["value_j"] / total_j) if total_j else "",
        "basis": energy["basis"] or "",
    }


def _bars(values: Sequence[dict[str, Any]], unit: Unit) -> Spec:
    y = nominal("stage", axis={"title": None, "domain": False, "ticks": False, "labelPadding": 6})
    tooltip = tips(("stage", "stage"), ("energy", "text"), ("of the total", "share"), ("basis", "basis"))
    scale = kind_scale([value["kind"] for value in values])
    return spec(
        values,
        [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 2, "height": {"band": 0.66}},
                "encoding": {
                    "x": x("energy", f"energy ({unit.symbol})", axis=TICKS),
                    "color": by_colour("kind", scale),
                    "tooltip": tooltip,
                },
            },
            _whisker(),
        ],
        height=_ROW_PX * len({value["stage"] for value in values}),
        encoding={"y": y},
    )


def _whisker() -> Spec:
    return {
        "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.75},
        "encoding": {"x": x("low", ""), "x2": {"field": "high"}},
    }


_SEGMENTS = (
    ("prepare", "prepare data", "#8A94A6"),
    ("teacher", "teacher's work, all of it", "#E69F00"),
    ("student_training", "train student", "#2F7FC1"),
    ("evaluation", "evaluate", "#56B4E9"),
)


def _segment_scale(values: Sequence[Mapping[str, Any]]) -> Spec:
    present = [(title, colour) for _, title, colour in _SEGMENTS if any(v["part"] == title for v in values)]
    return colours([title for title, _ in present], [colour for _, colour in present])


def _arms_figure(data: Mapping[str, Any]) -> Figure:
    """What one student costs with the whole teacher on its account, stacked by kind of work."""
    finals = [point for point in data["arms"] if point["is_final"]]
    bills = [point["allocated"]["one-off"] for point in finals]
    unit = pick_unit(bill["value_j"] for bill in bills if "absent" not in bill)
    values: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for point, bill in zip(finals, bills, strict=True):
        if "absent" in bill:
            continue
        totals.append(
            {
                "arm": point["arm"],
                "low": unit.of(bill["low_j"]),
                "high": unit.of(bill["high_j"]),
                "at": unit.of(bill["high_j"]),
            }
            | {"text": energy_text(bill, unit)}
        )
        values += [
            {
                "arm": point["arm"],
                "part": title,
                "order": order,
                "energy": unit.of(point[key]["value_j"]),
                "text": energy_text(point[key], unit),
            }
            for order, (key, title, _) in enumerate(_SEGMENTS)
            if "absent" not in point[key]
        ]
    return Figure(
        name="arms",
        title="One student of each arm, its teacher included",
        caption="Full token budget; all of the teacher's work is billed to this one student (one-off). "
        "Whiskers are 95 % intervals of the sum; the systematic part of them moves all bars together.",
        alt="Stacked bars of one-off energy by arm: "
        + "; ".join(f"{entry['arm']} {entry['text']}" for entry in totals)
        + ".",
        panels=(Panel(title="", spec=_stacked(values, totals, unit)),) if totals else (),
        table=arms_table(data),
        legend=swatches(_segment_scale(values)),
    )


def _stacked(values: Sequence[dict[str, Any]], totals: Sequence[dict[str, Any]], unit: Unit) -> Spec:
    return spec(
        values,
        [
            {
                "mark": {"type": "bar", "height": {"band": 0.6}},
                "encoding": {
                    "x": x("energy", f"energy ({unit.symbol})", stack="zero", axis=TICKS),
                    "color": by_colour("part", _segment_scale(values)),
                    "order": {"field": "order", "type": "quantitative"},
                    "tooltip": tips(("arm", "arm"), ("work", "part"), ("energy", "text")),
                },
            },
            {"data": {"values": list(totals)}, **_whisker()},
        ],
        height=48 * len(totals),
        encoding={"y": nominal("arm", axis={"title": None, "domain": False, "ticks": False, "labelPadding": 6})},
    )


def _frontier_figure(data: Mapping[str, Any]) -> Figure:
    on = [f"{p['arm']} at {share_text(p)}" for p in data["frontier"] if p["is_on_frontier"]]
    first = data["allocations"][0]
    return Figure(
        name="frontier",
        title="Energy against quality",
        caption="Up and to the left is better. Filled points are on the frontier (the stepped line): no other needs "
        "less energy and is at least as good. Crosses are random 95 % errors; the systematic part moves all points "
        "together. Lines join an arm's checkpoints. Axes do not begin at zero.",
        alt="Quality against energy for each allocation of the teacher's work; the first panel bills it "
        f"{first}. On a frontier: {', '.join(dict.fromkeys(on))}.",
        panels=tuple(Panel(title=title, spec=drawn) for title, drawn in frontier_panels(data)),
        table=frontier_table(data),
        legend=swatches(arm_scale(data)),
    )


def _reuse_figure(data: Mapping[str, Any]) -> Figure:
    drawn, repeats = reuse_panel(data), percent_text(data["repeat_rel"])
    return Figure(
        name="reuse",
        title="What sharing the teacher's work does",
        caption=f"Energy of one student if N students share its arm's teacher artefact: E_teacher / N + the rest; "
        f"bands are 95 %, from metering noise and from a stage's energy repeating within ±{repeats}, as N* is. "
        f"Dashed: {data['baseline_arm']}, which has no teacher. Where a curve crosses its dashed line lies N*.",
        alt="Energy per student against the number of students that share the teacher's work; each curve falls towards "
        "its marginal energy.",
        panels=(Panel(title="", spec=drawn),) if drawn else (),
        table=break_even_table(data),
        legend=swatches(arm_scale(data)),
    )


def _trace_figure(data: Mapping[str, Any]) -> Figure:
    parts = ", ".join(dict.fromkeys(trace["part"] for trace in data["traces"]))
    return Figure(
        name="trace",
        title="Power over time",
        caption="Line: mean of each slice of time; band: its lowest and highest reading; colours: stages.",
        alt=f"Power of {parts} over the run, with the stages marked.",
        panels=tuple(Panel(title=title, spec=drawn) for title, drawn in trace_panels(data)),
        table=trace_table(data),
        legend=swatches(trace_scale(data)),
    )
