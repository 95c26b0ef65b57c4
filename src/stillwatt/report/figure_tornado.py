"""What a break-even hangs on: N* when one stage's energy is a tenth less or more, widest bar first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.report.comparison_tables import limited_table
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.format import MISSING, significant, times_text
from stillwatt.report.tables import Table, table_columns
from stillwatt.report.vega import Spec, Swatch, by_colour, colours, nominal, spec, swatches, tips, x

_INK = (("tick", 0.35), ("grid", 0.12))
SWING = 0.1
"""How far one energy is moved, as a share of it."""
MOST_PANELS = 6
_ROW_PX = 34
_SIDES = (("▼ a tenth less", 1.0 - SWING, "#2F7FC1", "▼"), ("▲ a tenth more", 1.0 + SWING, "#E69F00", "▲"))
_ROOM = 0.5
"""Room for words on either side, as a share of what all bars span."""
_STAGES = {"teacher": "teacher's work", "student": "train student", "baseline": "train baseline"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One break-even with the three energies that make it (method.md, eq. 25), in any one unit."""

    label: str
    baseline: str
    teacher: float
    student: float
    baseline_student: float

    def n_star(self, **factors: float) -> float | None:
        """N* with some energies multiplied; None where no reuse repays any more.

        >>> entry = Weighed(label="kd", baseline="sft", teacher=11.0, student=5.0, baseline_student=6.0)
        >>> entry.n_star(), entry.n_star(teacher=2.0), entry.n_star(student=1.5)
        (11.0, 22.0, None)
        """
        saving = self.baseline_student * factors.get("baseline", 1.0) - self.student * factors.get("student", 1.0)
        return self.teacher * factors.get("teacher", 1.0) / saving if saving > 0.0 else None

    @property
    def turning(self) -> Iterator[tuple[str, float | None, float | None]]:
        """Each stage with N* at a tenth less and a tenth more of its energy."""
        for stage in _STAGES:
            less, more = (self.n_star(**{stage: factor}) for _, factor, _, _ in _SIDES)
            yield stage, less, more


def comparison_weighed(data: Mapping[str, Any]) -> list[Weighed]:
    """The labels of a comparison that have an N* to move.

    Seeds that are labels of their own are one label here and several among the stages, so the student's energy is read
    off its elasticity (method.md, eq. 36), which is that energy over the saving.
    """
    elasticity = {entry["label"]: entry["elasticity"] for entry in data["sensitivity"] if entry["stage"] == "student"}
    found = []
    for entry in data["n_star"]:
        steep = elasticity.get(entry["label"])
        if steep is not None and _is_known(entry, "kwh"):
            student, saving = steep * entry["saving_kwh"], entry["saving_kwh"]
            found.append(
                Weighed(
                    label=entry["label"],
                    baseline=entry["baseline"],
                    teacher=entry["extra_kwh"],
                    student=student,
                    baseline_student=student + saving,
                )
            )
    return found


def run_weighed(data: Mapping[str, Any]) -> list[Weighed]:
    """The arms of a run's report, at their last checkpoint, that have an N* to move."""
    finals = {(point["arm"], point["checkpoint"]): point for point in data["arms"] if point["is_final"]}
    found = []
    for entry in data["break_evens"]:
        point = finals.get((entry["arm"], entry["checkpoint"]))
        student_j = _student_j(point) if point else None
        if entry["kind"] == "reuse" and student_j is not None and _is_known(entry, "j"):
            found.append(
                Weighed(
                    label=entry["arm"],
                    baseline=data["baseline_arm"],
                    teacher=entry["extra_j"],
                    student=student_j,
                    baseline_student=student_j + entry["saving_j"],
                )
            )
    return found


def _student_j(point: Mapping[str, Any]) -> float | None:
    """What each student takes by itself: its training, and that of a teacher beside it."""
    parts = [point["student_training"], *([point["teacher_online"]] if "teacher_online" in point else [])]
    return None if any("absent" in part for part in parts) else math.fsum(part["value_j"] for part in parts)


def _is_known(entry: Mapping[str, Any], unit: str) -> bool:
    """Whether there is something to repay that can be shared, and something saved."""
    if entry["verdict"] == "never":
        return False
    return (entry[f"extra_{unit}"] or 0.0) > 0.0 and (entry[f"saving_{unit}"] or 0.0) > 0.0


def tornado_figure(entries: Sequence[Weighed], factors: Mapping[tuple[str, str], float | None]) -> Figure | None:
    """One panel a label; None where there is no N* to move.

    Args:
        entries: The break-evens.
        factors: By label and stage, the factor at which the verdict turns; may be empty.
    """
    shown = entries[:MOST_PANELS]
    if not shown:
        return None
    missing = len(entries) - len(shown)
    return Figure(
        name="tornado",
        title="What the break-even hangs on",
        caption="N* when one energy is a tenth less (▼) or more (▲) and the others stay; the upright line is N* "
        "as it is. A bar that ends in “never”: no reuse repays the teacher any more."
        + (f" {missing:,} more labels are in the table alone." if missing else ""),
        alt="Tornado of break-evens. " + "; ".join(_alt(entry) for entry in shown) + ".",
        panels=tuple(Panel(title=f"{e.label} against {e.baseline}", spec=_panel(e)) for e in shown),
        table=tornado_table(entries, factors),
        legend=_legend(),
    )


def turning_factors(data: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    """At which multiple of each energy a comparison's verdict turns (method.md, eq. 36)."""
    return {(entry["label"], entry["stage"]): entry["turning_factor"] for entry in data["sensitivity"]}


def tornado_table(entries: Sequence[Weighed], factors: Mapping[tuple[str, str], float | None]) -> Table:
    """N* at a tenth less and a tenth more of each energy, and the factor at which the verdict turns."""
    rows = []
    for entry in entries:
        for stage, less, more in entry.turning:
            factor = factors.get((entry.label, stage))
            turns = (MISSING if factor is None else times_text(factor),) if factors else ()
            cells = (entry.label, entry.baseline, _STAGES[stage], _count(less), _count(entry.n_star()), _count(more))
            rows.append([*cells, *turns])
    titles = ("label", "against", "energy", ">N* at −10 % (students)", ">N* (students)", ">N* at +10 % (students)")
    return limited_table(
        "What the break-even hangs on",
        table_columns(*titles, *((">turns at (times)",) if factors else ())),
        rows,
        "The last column: the multiple of this energy at which the verdict at the stated reuse turns."
        if factors
        else "",
    )


def _count(value: float | None) -> str:
    return "never" if value is None else significant(value)


def _alt(entry: Weighed) -> str:
    ends = [(stage, less, more) for stage, less, more in entry.turning]
    stage, less, more = max(ends, key=lambda end: _width(end[1], end[2]))
    return f"{entry.label} moves most with {_STAGES[stage]}: N* from {_count(less)} to {_count(more)}"


def _width(less: float | None, more: float | None) -> float:
    if less is None or more is None:
        return float("inf")
    return abs(more - less)


def _legend() -> tuple[Swatch, ...]:
    return swatches(_scale())


def _scale() -> Spec:
    return colours([title for title, _, _, _ in _SIDES], [colour for _, _, colour, _ in _SIDES])


def _panel(entry: Weighed) -> Spec:
    here = entry.n_star() or 0.0
    rows = sorted(entry.turning, key=lambda row: -_width(row[1], row[2]))
    finite = [here, *(value for _, *ends in rows for value in ends if value is not None)]
    low, edge = min(finite), max(finite) * 1.25
    room = (edge - low) * _ROOM
    values = [
        _bar(stage, side, end, here, edge) for stage, *ends in rows for side, end in zip(_SIDES, ends, strict=True)
    ]
    axis = _students_axis(low - room, edge + room)
    y = nominal("stage", axis={"title": None, "domain": False, "ticks": False, "labelPadding": 6})
    tooltip = tips(("energy", "stage"), ("moved", "side"), ("N*", "count"))
    return spec(
        values,
        [
            {
                "mark": {"type": "bar", "height": {"band": 0.6}, "stroke": "#ffffff", "strokeWidth": 0.8},
                "encoding": {
                    "x": axis,
                    "x2": {"field": "end"},
                    "color": by_colour("side", _scale()),
                    "tooltip": tooltip,
                },
            },
            *(_words(axis, is_right=is_right) for is_right in (False, True)),
            {
                "data": {"values": [{"here": here}]},
                "mark": {"type": "rule", "strokeWidth": 1.6},
                "encoding": {"x": {**axis, "field": "here"}, "y": {"value": 0}, "y2": {"value": _ROW_PX * len(rows)}},
            },
        ],
        height=_ROW_PX * len(rows),
        encoding={"y": y},
    )


def _students_axis(low: float, high: float) -> Spec:
    """Numbers of students; there is room for words below 0, and no such number."""
    unseen = {
        f"{part}Opacity": {"condition": {"test": "datum.value < 0", "value": 0}, "value": seen} for part, seen in _INK
    }
    ticks = {"tickCount": 5, "labelExpr": "datum.value < 0 ? '' : datum.label", "domain": False, **unseen}
    return x("start", "N* (students)", scale={"domain": [low, high], "nice": False}, axis=ticks)


def _words(axis: Spec, *, is_right: bool) -> Spec:
    """What stands at the outer end of each bar."""
    align, dx = ("left", 5) if is_right else ("right", -5)
    return {
        "transform": [{"filter": "datum.end >= datum.start" if is_right else "datum.end < datum.start"}],
        "mark": {"type": "text", "align": align, "dx": dx, "fontSize": 11},
        "encoding": {"x": {**axis, "field": "end"}, "text": {"field": "words"}},
    }


def _bar(stage: str, side: tuple[str, float, str, str], end: float | None, here: float, edge: float) -> dict[str, Any]:
    title, _, _, sign = side
    return {
        "stage": _STAGES[stage],
        "side": title,
        "start": here,
        "end": edge if end is None else end,
        "count": _count(end),
        "words": f"{sign} {_count(end)}",
    }
