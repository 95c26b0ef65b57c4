"""What all figures share: palette, theme, sizes, and small pieces of Vega-Lite.

Text and axes are drawn in `currentColor`, so a figure follows the page from light to dark and onto paper. Hues are
those of Okabe and Ito, which stay apart for colour-blind readers; shapes and labels repeat what colour says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
KIND_COLOURS = {
    "prepare_data": "#8A94A6",
    "teacher_logits": "#E69F00",
    "teacher_generate": "#D55E00",
    "student_train": "#2F7FC1",
    "evaluate": "#56B4E9",
    "serve": "#009E73",
    "idle_baseline": "#A9B1BD",
    "other": "#7A6FAE",
}
KIND_TITLES = {
    "prepare_data": "prepare data",
    "teacher_logits": "teacher: logits",
    "teacher_generate": "teacher: text",
    "student_train": "train student",
    "evaluate": "evaluate",
    "serve": "serve",
    "idle_baseline": "idle baseline",
    "other": "other stage",
    "experimentation": "failed or lost",
    "unallocated": "in no stage",
}
LOST_COLOUR = "#B2486E"
LOOSE_COLOUR = "#C9CED6"
ARM_COLOURS = ("#2F7FC1", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A94A6")
ARM_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
ARM_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 4], [3, 5])
"""Strokes in the order of the shapes: lines that a grey print keeps apart."""
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: Spec = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None, "continuousWidth": 640, "continuousHeight": 260},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "tickColor": "currentColor",
        "domainColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.12,
        "domainOpacity": 0.35,
        "tickOpacity": 0.35,
        "labelOpacity": 0.85,
        "titleOpacity": 0.85,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 8,
        "labelLimit": 190,
    },
    "text": {"color": "currentColor", "fontSize": 12},
    "rule": {"color": "currentColor"},
}


def spec(values: Sequence[Mapping[str, Any]], layers: Sequence[Spec], *, height: int | Spec, **more: Any) -> Spec:
    """A figure as wide as its place on the page, with its data inside."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": [dict(value) for value in values]},
        "layer": list(layers),
        "config": CONFIG,
        **more,
    }


TICKS: Spec = {"tickCount": {"expr": "clamp(width / 80, 3, 10)"}}
"""Fewer ticks on a narrow page."""


_NARROW_PX = 560
_CLEAR_PX = 8


def leaning_axis(angle: int) -> Spec:
    """Names above a heat map: leaning, and upright on a narrow page, where they would lean out of it."""
    lean = {"expr": f"width < {_NARROW_PX} ? -90 : {angle}"}
    # a leaning name reaches below its own middle, and the cells are drawn over it
    axis: Spec = {"title": None, "orient": "top", "domain": False, "ticks": False, "labelPadding": _CLEAR_PX}
    return {**axis, "labelAngle": lean, "labelAlign": "left", "labelBaseline": "middle"}


def x(name: str, title: str, **more: Any) -> Spec:
    """A quantitative channel."""
    return {"field": name, "type": "quantitative", "title": title, **more}


def nominal(name: str, **more: Any) -> Spec:
    """A channel of names, in the order of the data."""
    return {"field": name, "type": "nominal", "sort": None, **more}


def tips(*pairs: tuple[str, str]) -> list[Spec]:
    """Tooltip lines: title and field, already written as text."""
    return [{"field": name, "type": "nominal", "title": title} for title, name in pairs]


def colours(domain: Sequence[str], palette: Sequence[str]) -> Spec:
    """A colour scale that names each colour."""
    return {"domain": list(domain), "range": [palette[index % len(palette)] for index in range(len(domain))]}


def padded(values: Sequence[float], *, share: float = 0.08, floor: float | None = None) -> list[float]:
    """A domain a little wider than the values.

    >>> padded([1.0, 2.0], share=0.5)
    [0.5, 2.5]
    """
    low, high = min(values), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    bottom = low - margin
    return [bottom if floor is None else max(bottom, floor), high + margin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swatch:
    """One entry of a figure's legend, which the page draws itself so that it wraps on a narrow one."""

    title: str
    colour: str


def swatches(scale: Mapping[str, Any]) -> tuple[Swatch, ...]:
    """The legend of a colour scale."""
    pairs = zip(scale["domain"], scale["range"], strict=True)
    return tuple(Swatch(title=str(title), colour=str(colour)) for title, colour in pairs)


def by_colour(name: str, scale: Spec) -> Spec:
    """A colour channel; its legend stands on the page."""
    return {"field": name, "type": "nominal", "scale": scale, "legend": None}


def kind_scale(kinds: Sequence[str]) -> Spec:
    """Colours of the stage kinds that occur, by title."""
    known = {KIND_TITLES[kind]: colour for kind, colour in KIND_COLOURS.items()}
    known |= {KIND_TITLES["experimentation"]: LOST_COLOUR, KIND_TITLES["unallocated"]: LOOSE_COLOUR}
    present = [title for title in known if title in set(kinds)]
    return colours(present, [known[title] for title in present])
