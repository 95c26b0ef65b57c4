"""Energy against quality, one panel an allocation; and energy against reuse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.report.format import Unit, percent_text, pick_unit, share_text, significant
from stillwatt.report.labels import CORNERS, Spot, place_names
from stillwatt.report.vega import ARM_COLOURS, ARM_SHAPES, TICKS, Spec, by_colour, colours, padded, spec, tips, x

_Z_95 = 1.96
_HEIGHT_PX = 300
_MOST_NAMED = 6
"""With more points than this only each arm's last checkpoint is named on the plane."""
_FEWEST_STUDENTS = 100
"""The reuse axis goes at least this far."""


def arm_names(data: Mapping[str, Any]) -> list[str]:
    """The arms in order, the baseline's first, so that colours stay with arms."""
    arms = list(dict.fromkeys((point["arm"], point["name"]) for point in data["arms"]))
    return [arm for arm, _ in sorted(arms, key=lambda entry: entry[1] != data["baseline_arm"])]


def arm_scale(data: Mapping[str, Any]) -> Spec:
    """One colour an arm, the same in all figures."""
    return colours(arm_names(data), ARM_COLOURS)


def allocation_title(label: str) -> str:
    """Who pays for the teacher, in a few words.

    >>> allocation_title("reuse:10"), allocation_title("reuse:1")
    ('10 students share it', '1 student shares it')
    """
    kind, _, students = label.partition(":")
    return {
        "one-off": "One student pays it all",
        "reuse": f"{students} student{'' if students == '1' else 's'} share{'s' if students == '1' else ''} it",
        "tokens": "Shared by tokens used",
        "marginal": "Nobody: it was there anyway",
    }[kind]


def frontier_panels(data: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    """One panel for each allocation, all on the same axes."""
    points = data["frontier"]
    unit = pick_unit(point["energy_j"] for point in points)
    values = [_point(point, unit) for point in points]
    domain_x = padded([v[key] for v in values for key in ("low", "high")], floor=0.0)
    domain_y = padded([v[key] for v in values for key in ("worst", "best")])
    finals = {(point["arm"], percent_text(point["budget_share"])) for point in data["arms"] if point["is_final"]}
    is_crowded = len(data["arms"]) > _MOST_NAMED
    axes = f"energy of one student ({unit.symbol})", f"quality Q ({data.get('yardstick', 'teacher')} = 1)"
    for label in data["allocations"]:
        chosen = [value for value in values if value["allocation"] == label]
        if chosen:
            # last checkpoints choose their place first
            chosen.sort(key=lambda value: (value["arm"], value["budget"]) not in finals)
            named = [v for v in chosen if not is_crowded or (v["arm"], v["budget"]) in finals]
            give_corners(named, chosen, domain_x, domain_y)
            yield allocation_title(label), _plane(chosen, arm_scale(data), axes, domain_x, domain_y)


def give_corners(
    named: Sequence[dict[str, Any]],
    drawn: Sequence[Mapping[str, Any]],
    domain_x: Sequence[float],
    domain_y: Sequence[float],
) -> None:
    """Give each named point the corner where its name stands, if there is room."""
    spots, points = (_spots(values, domain_x, domain_y) for values in (named, drawn))
    for value, corner in zip(named, place_names(spots, points), strict=True):
        value["corner"] = corner or ""


def _spots(values: Sequence[Mapping[str, Any]], domain_x: Sequence[float], domain_y: Sequence[float]) -> list[Spot]:
    return [
        Spot(
            x=(value["energy"] - domain_x[0]) / (domain_x[1] - domain_x[0]),
            y=(value["quality"] - domain_y[0]) / (domain_y[1] - domain_y[0]),
            name=value["label"],
        )
        for value in values
    ]


def _point(point: Mapping[str, Any], unit: Unit) -> dict[str, Any]:
    error = _Z_95 * (point["quality_se"] or 0.0)
    energy = unit.of(point["energy_j"])
    random = unit.of(point["energy_random_j"])
    budget = share_text(point)
    probability = point["on_frontier_probability"]
    return {
        "allocation": point["allocation"],
        "arm": point["arm"],
        "label": f"{point['arm']} {budget}",
        "corner": "",
        "budget": budget,
        "share": point.get("budget_share", float(point["checkpoint"])),
        "energy": energy,
        "low": energy - random,
        "high": energy + random,
        "quality": point["quality"],
        "worst": point["quality"] - error,
        "best": point["quality"] + error,
        "on": point["is_on_frontier"],
        "energy_text": f"{significant(energy)} ± {significant(random, 2)} {unit.symbol}",
        "quality_text": f"{point['quality']:.3f} ± {error:.3f}",
        "place": "on the frontier" if point["is_on_frontier"] else f"beaten by {point['dominated_by']}",
        "probability": "not known" if probability is None else f"{probability:.2f}",
    }


def _plane(
    values: Sequence[Mapping[str, Any]],
    scale: Spec,
    axes: tuple[str, str],
    domain_x: Sequence[float],
    domain_y: Sequence[float],
) -> Spec:
    at = {
        "x": x("energy", axes[0], scale={"domain": list(domain_x), "nice": False}, axis=TICKS),
        "y": x("quality", axes[1], scale={"domain": list(domain_y), "nice": False}),
    }
    arm = by_colour("arm", scale)
    shape = by_colour("arm", {"domain": scale["domain"], "range": arm_shapes(scale["domain"])})
    return spec(
        values,
        [
            frontier_step(at),
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "opacity": 0.7, "strokeWidth": 1.5},
                "encoding": {**at, "order": {"field": "share"}, "color": arm},
            },
            error_rule("x", at, arm, "low", "high"),
            error_rule("y", at, arm, "worst", "best"),
            _points({**at, "color": arm, "shape": shape}, is_on=False),
            _points({**at, "color": arm, "shape": shape}, is_on=True),
            *name_layers(at),
        ],
        height=_HEIGHT_PX,
    )


def _points(encoding: Spec, *, is_on: bool) -> Spec:
    """Points on the frontier, filled; or the others, hollow."""
    size, width = (110, 1) if is_on else (90, 2)
    tooltip = tips(
        ("arm", "arm"),
        ("budget", "budget"),
        ("energy", "energy_text"),
        ("quality", "quality_text"),
        ("place", "place"),
        ("probability", "probability"),
    )
    return {
        "transform": [{"filter": "datum.on" if is_on else "!datum.on"}],
        "mark": {"type": "point", "size": size, "strokeWidth": width, "filled": is_on, "opacity": 1},
        "encoding": {**encoding, "tooltip": tooltip},
    }


def frontier_step(at: Mapping[str, Spec]) -> Spec:
    """The stepped line through the points on the frontier."""
    return {
        "transform": [{"filter": "datum.on"}],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 7, "opacity": 0.1},
        "encoding": {**at, "order": {"field": "energy"}, "color": {"value": "currentColor"}},
    }


def name_layers(at: Mapping[str, Spec]) -> list[Spec]:
    """Names of the points, one layer for each corner of a point at which a name may stand."""
    return [_names(corner, at) for corner in CORNERS]


def _names(corner: str, at: Mapping[str, Spec]) -> Spec:
    align, dx = ("left", 9) if corner.startswith("right") else ("right", -9)
    # the box that `labels.name_box` reckons with
    baseline, dy = ("bottom", -6) if corner.endswith("above") else ("top", 6)
    mark = {"type": "text", "align": align, "baseline": baseline, "dx": dx, "dy": dy, "fontSize": 11, "opacity": 0.9}
    return {
        "transform": [{"filter": f"datum.corner === '{corner}'"}],
        "mark": mark,
        "encoding": {**at, "text": {"field": "label"}},
    }


def arm_shapes(arms: Sequence[str]) -> list[str]:
    """One shape for each name, so that print without colour tells them apart."""
    return [ARM_SHAPES[index % len(ARM_SHAPES)] for index in range(len(arms))]


def error_rule(axis: str, at: Mapping[str, Spec], colour: Spec, low: str, high: str) -> Spec:
    """One arm of the cross that a point's errors are; none where they are unknown."""
    moved = {**at, axis: {**at[axis], "field": low}, f"{axis}2": {"field": high}, "color": colour}
    return {
        "transform": [{"filter": f"isValid(datum.{low}) && isValid(datum.{high})"}],
        "mark": {"type": "rule", "strokeWidth": 1.2, "opacity": 0.45},
        "encoding": moved,
    }


def reuse_panel(data: Mapping[str, Any]) -> Spec | None:
    """E(N) = E_teacher / N + E_student + E_other for each distilled arm, beside its baseline (method.md, eq. 20)."""
    finals = [point for point in data["arms"] if point["is_final"]]
    curves = [point for point in finals if point["artifacts"] and "absent" not in point["allocated"]["one-off"]]
    if not curves:
        return None
    counts = _student_counts(data)
    flat = [p for p in finals if p["name"] == data["baseline_arm"] and "absent" not in p["allocated"]["one-off"]]
    unit = pick_unit(point["allocated"]["one-off"]["value_j"] for point in (*curves, *flat))
    values = [_reuse_value(point, n, unit, data["repeat_rel"]) for point in (*curves, *flat) for n in counts]
    color = by_colour("arm", arm_scale(data))
    at = {
        "x": x(
            "students",
            "students that share the teacher's work, N",
            scale={"type": "log", "domain": [1, counts[-1]], "nice": False},
            axis={"values": _ticks(counts[-1]), "format": ",d", "grid": False},
        ),
        "y": x("energy", f"energy of one student ({unit.symbol})", scale={"zero": True}),
    }
    tooltip = tips(("arm", "arm"), ("students", "students"), ("energy of one", "text"))
    is_distilled, is_baseline = [{"filter": "datum.has_teacher"}], [{"filter": "!datum.has_teacher"}]
    lines = {**at, "color": color}
    return spec(
        values,
        [
            {"mark": {"type": "area", "opacity": 0.13}, "encoding": _band(lines)},
            {"transform": is_distilled, "mark": {"type": "line", "strokeWidth": 2.5}, "encoding": lines},
            {
                "transform": is_baseline,
                "mark": {"type": "line", "strokeWidth": 2, "strokeDash": [6, 4]},
                "encoding": lines,
            },
            {
                "transform": is_distilled,
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                "encoding": {**lines, "tooltip": tooltip},
            },
            *_crossings(data, at, unit, counts[-1]),
        ],
        height=_HEIGHT_PX - 40,
    )


def _band(lines: Mapping[str, Spec]) -> Spec:
    """The same curve from the lower to the upper end of what its N* rests on; a baseline has such an end too."""
    return {**lines, "y": {**lines["y"], "field": "low"}, "y2": {"field": "high"}}


def _crossings(data: Mapping[str, Any], at: Mapping[str, Spec], unit: Unit, last: int) -> list[Spec]:
    """A mark where a break-even lies on the axis."""
    finals = {point["arm"]: point for point in data["arms"] if point["is_final"]}
    marks = []
    for found in data["break_evens"]:
        point = finals.get(found["arm"])
        if found["kind"] != "reuse" or found["verdict"] != "value" or point is None:
            continue
        if found["checkpoint"] == point["checkpoint"] and 1.0 <= found["value"] <= last:
            rest_j = point["allocated"]["marginal"]["value_j"]
            energy = unit.of(_shared(point)["value_j"] / found["value"] + rest_j)
            label = f"N* = {significant(found['value'], 2)}"
            marks.append({"students": found["value"], "energy": energy, "label": label})
    if not marks:
        return []
    source: Spec = {"data": {"values": marks}}
    return [
        {**source, "mark": {"type": "point", "size": 160, "strokeWidth": 2, "color": "currentColor"}, "encoding": at},
        {
            **source,
            "mark": {"type": "text", "dy": -16, "fontWeight": 600},
            "encoding": {**at, "text": {"field": "label"}},
        },
    ]


def _student_counts(data: Mapping[str, Any]) -> list[int]:
    """1, 2, 5, 10, … as far as a finite break-even or a stated reuse lies."""
    stated = [int(label.partition(":")[2]) for label in data["allocations"] if label.startswith("reuse:")]
    found = [b["value"] for b in data["break_evens"] if b["kind"] == "reuse" and b["verdict"] == "value"]
    furthest = max([_FEWEST_STUDENTS, *stated, *(min(math.ceil(value * 2), 1_000_000) for value in found)])
    counts: list[int] = []
    decade = 1
    while decade <= furthest:
        counts += [decade, 2 * decade, 5 * decade]
        decade *= 10
    return [*[n for n in counts if n < furthest], furthest]


def _ticks(last: int) -> list[int]:
    return [10**power for power in range(len(str(last)))]


def _shared(point: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of the teacher's work other students can use; what ran beside the training is in the marginal bill."""
    shared: Mapping[str, Any] = point.get("teacher_artifacts", point["teacher"])
    return shared


def _reuse_value(point: Mapping[str, Any], students: int, unit: Unit, repeat_rel: float) -> dict[str, Any]:
    has_teacher = bool(point["artifacts"])
    rest, teacher = point["allocated"]["marginal"], _shared(point)
    energy = unit.of(rest["value_j"] + teacher["value_j"] / students)
    # what N* rests on: random parts and repeatability; a gain error moves all curves together
    halves = [
        share * math.hypot(bill["random_j"], repeat_rel * bill["value_j"])
        for bill, share in ((rest, 1.0), (teacher, 1.0 / students))
    ]
    half = unit.of(math.hypot(*halves))
    return {
        "arm": point["arm"],
        "students": students,
        "energy": energy,
        "low": max(energy - half, 0.0),
        "high": energy + half,
        "text": f"{significant(energy)} ± {significant(half, 2)} {unit.symbol}",
        "has_teacher": has_teacher,
    }
