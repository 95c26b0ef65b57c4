"""Figures as files for papers: the page's specs in ink on white, with their legend inside, drawn without a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.errors import MissingDrawerError
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.vega import Spec, Swatch

FORMS = ("svg", "png", "pdf", "json")
WIDTH_PX = 480
"""Width of one panel's plane; a column of a paper is about 240 points wide, so text stays legible at half size."""
_INK = "#1b1f24"
_PNG_SCALE = 3.0
_VL_VERSION = "6.4"
_FONT = "Arial, Helvetica, Liberation Sans, sans-serif"


def printable(figure: Figure, panel: Panel) -> Spec:
    """The panel's spec for paper: fixed width, black on white, the figure's legend below it.

    What is `currentColor` on a page has no meaning in a file of its own; data are left as they are.
    """
    inked: Spec = _inked(panel.spec)
    config = {**inked["config"], "background": "#ffffff", "font": _FONT}
    title = {"title": {"text": panel.title, "fontSize": 13, "anchor": "start", "color": _INK}} if panel.title else {}
    layers = _with_legend(inked["layer"], figure.legend)
    return {
        **inked,
        **title,
        "width": WIDTH_PX,
        "autosize": {"type": "pad"},
        "padding": 8,
        "config": config,
        "layer": layers,
    }


def _inked(value: Any, *, is_data: bool = False) -> Any:
    """The spec with its ink in place of the page's, outside its data."""
    if is_data:
        return value
    if isinstance(value, Mapping):
        return {key: _inked(inner, is_data=key in ("data", "domain")) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_inked(inner) for inner in value]
    return _INK if value == "currentColor" else value


def _with_legend(layers: Sequence[Spec], legend: Sequence[Swatch]) -> list[Spec]:
    """The layers with a legend on each channel that names things; equal ones become one.

    The page draws its own legend, so the channels of a figure have none.
    """
    if not legend:
        return list(layers)
    shown: Spec = {"title": None, "orient": "bottom", "columns": 3, "labelColor": _INK, "labelLimit": 220}
    shown |= {"symbolOpacity": 1, "symbolSize": 90, "labelFontSize": 11}
    if any("strokeDash" in layer.get("encoding", {}) for layer in layers):
        shown |= {"symbolType": "stroke", "symbolStrokeWidth": 2.5}
    return [{**layer, "encoding": _shown(layer.get("encoding", {}), shown)} for layer in layers]


def _shown(encoding: Mapping[str, Any], legend: Spec) -> Spec:
    named = ("color", "shape", "strokeDash")
    return {
        name: {**channel, "legend": legend} if name in named and "scale" in channel else channel
        for name, channel in encoding.items()
    }


def draw(spec: Spec, form: str) -> bytes:
    """The drawing as a file's content; the same spec gives the same bytes.

    Raises:
        MissingDrawerError: vl-convert-python is not installed; `json` needs nothing.
    """
    if form == "json":
        return (json.dumps(spec, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        import vl_convert
    except ModuleNotFoundError as err:
        raise MissingDrawerError("vl-convert-python", "figures") from err
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(spec, vl_version=_VL_VERSION)).encode()
    if form == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(spec, vl_version=_VL_VERSION))
    return bytes(vl_convert.vegalite_to_png(spec, vl_version=_VL_VERSION, scale=_PNG_SCALE))
