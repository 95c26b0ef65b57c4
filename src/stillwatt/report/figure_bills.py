"""What one student of each label takes, stacked by whose work it is, one panel an allocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.report.comparison_tables import plus_minus_text, stages_table
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.figure_frontier import allocation_title
from stillwatt.report.format import Unit, percent_text, pick_unit_of_kwh, significant
from stillwatt.report.vega import TICKS, Spec, by_colour, colours, nominal, spec, swatches, tips, x

MOST_BARS = 20
_ROW_PX = 30
_ROOM = 1.8
"""Length of the axis over the longest bar, for whiskers and sums."""
_LETTER_PX = 13
"""Width of a bar that has room for its letter."""
_WHISKER_PX = 6
"""How far below the middle of a bar its whisker lies, so that it crosses no letter."""
PARTS = (
    ("teacher", "teacher's work", "#E69F00", "T"),
    ("student", "train student", "#2F7FC1", "S"),
    ("other", "data and evaluation", "#C9CED6", "O"),
)
"""Key, title, colour (apart in grey print too) and letter of each part of a bill."""


def bills_figure(data: Mapping[str, Any]) -> Figure | None:
    """The bill under each allocation; None where no label has all three parts."""
    whole = [entry for entry in data["stages"] if _is_whole(entry)]
    shown = whole[:MOST_BARS]
    if not shown:
        return None
    unit = pick_unit_of_kwh([entry["total_kwh"] for entry in shown])
    largest = max(unit.of_kwh(entry["total_kwh"]) for entry in shown)
    panels = [
        Panel(title=allocation_title(name), spec=drawn)
        for name in data["points"]
        if (drawn := _panel(data, shown, name, unit, largest)) is not None
    ]
    unknown = [entry["label"] for entry in data["stages"] if not _is_whole(entry)]
    return Figure(
        name="bills",
        title="Whose work one student is",
        caption="One bar a label, from left: T the teacher's work, S training the student, O data and evaluation; "
        "means over seeds. Whiskers are random 95 % errors of the sum, where the label has a place on the plane."
        + _unplaced(data, shown)
        + _not_drawn(unknown, data["num_labels"] - len(unknown) - len(shown)),
        alt="Stacked bars of energy by whose work it is. With the whole teacher: "
        + "; ".join(f"{entry['label']} {significant(unit.of_kwh(entry['total_kwh']))} {unit.symbol}" for entry in shown)
        + ".",
        panels=tuple(panels),
        table=stages_table(data),
        legend=swatches(_scale()),
    )


def _is_whole(entry: Mapping[str, Any]) -> bool:
    return None not in [entry[f"{key}_kwh"] for key, *_ in PARTS]


def _not_drawn(unknown: Sequence[str], more: int) -> str:
    parts = []
    if unknown:
        names = ", ".join(unknown[:MOST_BARS]) + (" and more" if len(unknown) > MOST_BARS else "")
        parts.append(f" Not drawn, because an energy is unknown: {names}.")
    if more > 0:
        parts.append(f" {more:,} more labels have no bar.")
    return "".join(parts)


def _unplaced(data: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> str:
    """Which bars the bill by tokens lacks: what a label bears there is known of its point alone."""
    if "tokens" not in data["points"]:
        return ""
    placed = {point["label"] for point in data["points"]["tokens"]}
    missing = [entry["label"] for entry in shown if entry["label"] not in placed]
    return f" Shared by tokens, these have no point and no bar: {', '.join(missing)}." if missing else ""


def _scale() -> Spec:
    return colours([title for _, title, _, _ in PARTS], [colour for _, _, colour, _ in PARTS])


def _panel(
    data: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], allocation: str, unit: Unit, largest: float
) -> Spec | None:
    placed = {point["label"]: point for point in data["points"][allocation]}
    values: list[dict[str, Any]] = []
    sums: list[dict[str, Any]] = []
    for entry in entries:
        borne_kwh = _borne_kwh(entry, allocation, placed.get(entry["label"]))
        if borne_kwh is None:
            continue
        segments = {"teacher": borne_kwh, "student": entry["student_kwh"], "other": entry["other_kwh"]}
        values += _segments(entry["label"], {key: unit.of_kwh(kwh) for key, kwh in segments.items()}, unit)
        sums.append(_sum(entry["label"], sum(segments.values()), placed.get(entry["label"]), unit))
    return _stacked(values, sums, unit, largest) if sums else None


def _borne_kwh(entry: Mapping[str, Any], allocation: str, point: Mapping[str, Any] | None) -> float | None:
    """The teacher's work on the label's bill (method.md, eq. 20); None by tokens where the label has no place."""
    kind, _, students = allocation.partition(":")
    teacher_kwh: float = entry["teacher_kwh"]
    if kind == "tokens":
        if point is None:
            return None
        return max(float(point["energy_kwh"]) - float(entry["student_kwh"]) - float(entry["other_kwh"]), 0.0)
    return teacher_kwh / int(students) if students else teacher_kwh if kind == "one-off" else 0.0


def _segments(label: str, parts: Mapping[str, float], unit: Unit) -> Iterator[dict[str, Any]]:
    start, total = 0.0, sum(parts.values())
    for key, title, _, letter in PARTS:
        energy = parts[key]
        share = percent_text(energy / total) if total else ""
        yield {
            "label": label,
            "part": title,
            "start": start,
            "end": start + energy,
            "middle": start + energy / 2.0,
            "letter": letter,
            "text": f"{significant(energy)} {unit.symbol}",
            "share": share,
        }
        start += energy


def _sum(label: str, total_kwh: float, point: Mapping[str, Any] | None, unit: Unit) -> dict[str, Any]:
    half_kwh = point["energy_half_width_kwh"] if point else None
    total = unit.of_kwh(total_kwh)
    half = None if half_kwh is None else unit.of_kwh(half_kwh)
    return {
        "label": label,
        "total": total,
        "low": None if half is None else total - half,
        "high": None if half is None else total + half,
        "end": total + (half or 0.0),
        "text": plus_minus_text(total, half),
    }


def _stacked(
    values: Sequence[Mapping[str, Any]], sums: Sequence[Mapping[str, Any]], unit: Unit, largest: float
) -> Spec:
    axis = x("start", f"energy of one student ({unit.symbol})", scale={"domain": [0, largest * _ROOM], "nice": False})
    source: Spec = {"data": {"values": [dict(entry) for entry in sums]}}
    known = [{"filter": "isValid(datum.low)"}]
    return spec(
        values,
        [
            {
                "mark": {"type": "bar", "height": {"band": 0.62}, "stroke": "#ffffff", "strokeWidth": 0.8},
                "encoding": {
                    "x": {**axis, "axis": TICKS},
                    "x2": {"field": "end"},
                    "color": by_colour("part", _scale()),
                    "tooltip": tips(("label", "label"), ("work", "part"), ("energy", "text"), ("of it", "share")),
                },
            },
            {
                "transform": [{"filter": f"(datum.end - datum.start) / {largest * _ROOM!r} * width > {_LETTER_PX}"}],
                "mark": {"type": "text", "fontSize": 10, "fontWeight": 600, "color": "#111111", "yOffset": -3},
                "encoding": {"x": {**axis, "field": "middle"}, "text": {"field": "letter"}},
            },
            {
                **source,
                "transform": known,
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.75, "yOffset": _WHISKER_PX},
                "encoding": {"x": {**axis, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                **source,
                "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 11},
                "encoding": {"x": {**axis, "field": "end"}, "text": {"field": "text"}},
            },
        ],
        height=_ROW_PX * len(sums),
        encoding={"y": nominal("label", axis={"title": None, "domain": False, "ticks": False, "labelPadding": 6})},
    )
