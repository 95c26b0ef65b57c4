"""E(N): what one student takes when N share the teacher's work, with its band, and where N* lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.comparison_tables import reuse_table
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.figure_plane import methods_of
from stillwatt.report.format import Unit, pick_unit_of_kwh, significant, students_text
from stillwatt.report.vega import ARM_COLOURS, ARM_DASHES, Spec, by_colour, colours, spec, swatches, tips, x

MOST_PANELS = 6
MOST_CURVES = 4
"""Curves of one panel."""
_HEIGHT_PX = 260
_LETTER_PX = 6.4
"""Width of a letter of the names at the curves' ends, about."""
_MOST_ROOM = 0.42
"""Share of the width that names at the curves' ends may take."""
_BAR_GAP_PX = 7
_LINE_PX = 15


def students_figure(data: Mapping[str, Any]) -> Figure | None:
    """One panel for each baseline, with the curves that are held against it (method.md, eq. 32)."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for curve in data["curves"]:
        groups.setdefault(curve["baseline"] or "", []).append(curve)
    if not groups:
        return None
    shown = {name: curves[:MOST_CURVES] for name, curves in list(groups.items())[:MOST_PANELS]}
    unit = pick_unit_of_kwh([point["energy_kwh"] for curves in shown.values() for c in curves for point in c["points"]])
    drawn = _Curves(data, shown, unit)
    panels = tuple(
        Panel(title=f"against {name}" if name else "without a baseline", spec=drawn.panel(curves))
        for name, curves in shown.items()
    )
    missing = len(data["curves"]) - sum(len(curves) for curves in shown.values())
    return Figure(
        name="students",
        title="What sharing the teacher's work does",
        caption="Energy of one student when N students share its teacher's work, with its 95 % band of random errors. "
        "Dashed level: the baseline, which has no teacher, with its own band. Ring and bar: N* and its 95 % interval, "
        "where the data give one; it weighs training alone, so the curves may meet a little beside it."
        + (f" {missing:,} more curves are not drawn." if missing else ""),
        alt="Energy per student against the number of students that share the teacher's work. "
        + "; ".join(f"{entry['label']}: {n_star_words(entry)}" for entry in data["n_star"][:MOST_CURVES])
        + ".",
        panels=panels,
        table=reuse_table(data),
        legend=swatches(drawn.scale),
    )


def n_star_words(entry: Mapping[str, Any]) -> str:
    """N* in a few words, an unknown one with its verdict."""
    if entry["value"] is None:
        return f"N* {entry['verdict'].replace('_', ' ')}"
    return f"N* {students_text(entry['value'], entry['low'], entry['high'])}"


class _Curves:
    """The curves of all panels, in one unit and one set of colours."""

    def __init__(self, data: Mapping[str, Any], shown: Mapping[str, Sequence[Mapping[str, Any]]], unit: Unit) -> None:
        self._unit = unit
        self._found = {entry["label"]: entry for entry in data["n_star"]}
        method_of = {label: entry["method"] for label, entry in self._found.items()}
        self._key = {
            curve["label"]: method_of.get(curve["label"], curve["label"]) for c in shown.values() for curve in c
        }
        if any(len({self._key[curve["label"]] for curve in c}) < len(c) for c in shown.values()):
            # two curves of one method on one panel need a colour each
            self._key = {label: label for label in self._key}
            self.scale = colours(list(self._key), ARM_COLOURS)
        else:
            present = [method for method in methods_of(data) if method in self._key.values()]
            # the baseline keeps its own colour in all figures
            palette = dict(zip(methods_of(data), _cycled(len(methods_of(data))), strict=True))
            self.scale = colours(present, [palette[method] for method in present])
        self._last = max(point["students"] for c in shown.values() for curve in c for point in curve["points"])

    def panel(self, curves: Sequence[Mapping[str, Any]]) -> Spec:
        """One panel's curves with their baseline."""
        values = [self._value(curve, point) for curve in curves for point in curve["points"]]
        at = self._axes(curves)
        colour = by_colour("key", self.scale)
        dashes = [ARM_DASHES[i % len(ARM_DASHES)] for i in range(len(self.scale["domain"]))]
        dash = by_colour("key", {"domain": self.scale["domain"], "range": dashes})
        tooltip = tips(("label", "label"), ("students", "students"), ("energy of one", "text"))
        series: Spec = {"detail": {"field": "label", "type": "nominal"}, "color": colour}
        band = {**at, "y": {**at["y"], "field": "low"}, "y2": {"field": "high"}, **series}
        points = {**at, **series, "tooltip": tooltip}
        return spec(
            values,
            [
                *self._baseline(curves, at),
                {"mark": {"type": "area", "opacity": 0.18}, "encoding": band},
                {"mark": {"type": "line", "strokeWidth": 2.2}, "encoding": {**at, **series, "strokeDash": dash}},
                {"mark": {"type": "point", "filled": True, "size": 30, "opacity": 1}, "encoding": points},
                *self._ends(values, at),
                *self._crossings(curves, at),
                *self._words(curves),
            ],
            height=_HEIGHT_PX,
        )

    def _axes(self, curves: Sequence[Mapping[str, Any]]) -> dict[str, Spec]:
        """Room to the right for the curves' names, and above for each N* in words."""
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000) if n <= self._last]
        highest = max(p["energy_kwh"] + p["half_width_kwh"] for curve in curves for p in curve["points"])
        top = self._unit.of_kwh(highest) / (1.0 - (_LINE_PX * len(curves) + 4.0) / _HEIGHT_PX)
        longest = max(len(curve["label"]) for curve in curves)
        room = f"min({_MOST_ROOM}, {_LETTER_PX * longest} / width)"
        end = {"expr": f"pow({self._last}, 1 / (1 - {room}))"}
        scale = {"type": "log", "domainMin": 1, "domainMax": end, "nice": False}
        return {
            "x": x(
                "students",
                "students sharing its teacher, N",
                scale=scale,
                axis={"values": ticks, "format": ",d", "grid": False},
            ),
            "y": x("energy", f"energy of one student ({self._unit.symbol})", scale={"domain": [0, top], "nice": False}),
        }

    def _value(self, curve: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        energy, half = self._unit.of_kwh(point["energy_kwh"]), self._unit.of_kwh(point["half_width_kwh"])
        return {
            "label": curve["label"],
            "key": self._key[curve["label"]],
            "students": point["students"],
            "energy": energy,
            "low": energy - half,
            "high": energy + half,
            "text": f"{significant(energy)} ± {significant(half, 2)} {self._unit.symbol}",
        }

    def _baseline(self, curves: Sequence[Mapping[str, Any]], at: Mapping[str, Spec]) -> list[Spec]:
        """The level, named below the last bar of an N*: above it the curves come down."""
        curve, bars = curves[0], sum(self._crossing(curve) is not None for curve in curves)
        if curve["baseline_kwh"] is None:
            return []
        level, half = (self._unit.of_kwh(curve[f"baseline_{k}"]) for k in ("kwh", "half_width_kwh"))
        value = {"label": curve["baseline"], "energy": level, "low": level - half, "high": level + half}
        source: Spec = {"data": {"values": [value]}}
        y, down = at["y"], 11 + _BAR_GAP_PX * max(bars - 1, 0)
        band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
        end = {"x": {"value": 4}, "y": y, "text": {"field": "label"}}
        return [
            {**source, "mark": {"type": "rect", "opacity": 0.1, "color": "currentColor"}, "encoding": band},
            {**source, "mark": {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 1.6}, "encoding": {"y": y}},
            {**source, "mark": {"type": "text", "align": "left", "dy": down, "fontSize": 11}, "encoding": end},
        ]

    def _ends(self, values: Sequence[Mapping[str, Any]], at: Mapping[str, Spec]) -> list[Spec]:
        """Each curve's name where it ends, apart from the one below it."""
        ends = sorted((v for v in values if v["students"] == self._last), key=lambda value: -value["energy"])
        top = at["y"]["scale"]["domain"][1] or 1.0
        layers: list[Spec] = []
        free = float("inf")
        for value in ends:
            height = min(value["energy"] / top, free)
            free = height - (_LINE_PX - 2) / _HEIGHT_PX
            down = (value["energy"] / top - height) * _HEIGHT_PX
            layers.append(
                {
                    "data": {"values": [dict(value)]},
                    "mark": {
                        "type": "text",
                        "align": "left",
                        "dx": 7,
                        "dy": round(down, 1),
                        "fontSize": 11,
                        "limit": 150,
                    },
                    "encoding": {**at, "text": {"field": "label"}},
                }
            )
        return layers

    def _crossings(self, curves: Sequence[Mapping[str, Any]], at: Mapping[str, Spec]) -> list[Spec]:
        """A ring and a bar for each N* on the axis; bars apart, so that they do not hide each other."""
        layers: list[Spec] = []
        colour = by_colour("key", self.scale)
        tooltip = tips(("label", "label"), ("N*", "text"))
        ring = {"type": "point", "size": 130, "strokeWidth": 2.4, "opacity": 1}
        for row, mark in enumerate(filter(None, map(self._crossing, curves))):
            source: Spec = {"data": {"values": [mark]}}
            rule = {"type": "rule", "strokeWidth": 2, "yOffset": _BAR_GAP_PX * row}
            bar = {**at, "x": {**at["x"], "field": "from"}, "x2": {"field": "to"}, "color": colour}
            layers.append({**source, "mark": rule, "encoding": bar})
            encoding = {**at, "color": colour, "tooltip": tooltip}
            layers.append({**source, "mark": {**ring, "yOffset": _BAR_GAP_PX * row}, "encoding": encoding})
        return layers

    def _words(self, curves: Sequence[Mapping[str, Any]]) -> list[Spec]:
        """Each label's N* in the corner that no curve reaches."""
        entries = [self._found[curve["label"]] for curve in curves if curve["label"] in self._found]
        mark = {"type": "text", "align": "right", "baseline": "top", "fontSize": 11, "limit": 330}
        return [
            {
                "data": {"values": [{"words": f"{entry['label']}: {n_star_words(entry)}"}]},
                "mark": mark,
                "encoding": {
                    "x": {"value": "width"},
                    "y": {"value": 2 + _LINE_PX * row},
                    "text": {"field": "words"},
                },
            }
            for row, entry in enumerate(entries)
        ]

    def _crossing(self, curve: Mapping[str, Any]) -> dict[str, Any] | None:
        entry = self._found.get(curve["label"])
        if entry is None or entry["value"] is None or entry["low"] is None or not 1.0 <= entry["value"] <= self._last:
            return None
        first = next((point for point in curve["points"] if point["students"] == 1), None)
        if first is None:
            return None
        energy_kwh = first["energy_kwh"] - entry["extra_kwh"] * (1.0 - 1.0 / entry["value"])
        high = self._last if entry["high"] is None else entry["high"]
        return {
            "label": curve["label"],
            "key": self._key[curve["label"]],
            "students": entry["value"],
            "from": max(entry["low"], 1.0),
            "to": min(high, self._last),
            "energy": self._unit.of_kwh(energy_kwh),
            "text": n_star_words(entry).removeprefix("N* "),
        }


def _cycled(count: int) -> list[str]:
    return [ARM_COLOURS[index % len(ARM_COLOURS)] for index in range(count)]
