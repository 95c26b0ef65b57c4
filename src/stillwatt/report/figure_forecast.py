"""What was predicted against what was measured, with both intervals and the line on which they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.report.figure import Figure, Panel
from stillwatt.report.format import MISSING, interval_text, percent_text
from stillwatt.report.tables import Row, Table, table_columns
from stillwatt.report.vega import ARM_COLOURS, Spec, colours, padded, spec, tips, x

_HEIGHT_PX = 340
_FAR = 20.0
"""Ratio of the largest to the smallest from which axes are logarithmic."""
MOST_NAMED = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A value with its 95 % interval."""

    low: float
    value: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.value <= self.high):
            raise ValueError(f"{self.value} lies outside [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """One thing that was predicted, and what was measured of it afterwards."""

    label: str
    predicted: Span
    measured: Span | None
    """None where it was not measured."""
    reason: str = ""
    """Why it was not."""

    @property
    def error_rel(self) -> float | None:
        """The prediction's error as a share of what was measured; None where there is nothing to hold it against."""
        if self.measured is None or self.measured.value == 0.0:
            return None
        return (self.predicted.value - self.measured.value) / self.measured.value

    @property
    def is_within(self) -> bool:
        """Whether the measured value lies in the predicted interval."""
        return self.measured is not None and self.predicted.low <= self.measured.value <= self.predicted.high


def read_foretold(entries: Sequence[Mapping[str, Any]]) -> list[Foretold]:
    """Predictions from JSON: `label`, `predicted` and `measured` with `low`, `value`, `high` each, or a `reason`.

    >>> read_foretold([{"label": "a", "predicted": {"low": 1, "value": 2, "high": 3}, "reason": "lost"}])[0].measured
    """
    return [
        Foretold(
            label=str(entry["label"]),
            predicted=_span(entry["predicted"]),
            measured=_span(entry["measured"]) if entry.get("measured") else None,
            reason=str(entry.get("reason", "")),
        )
        for entry in entries
    ]


def _span(ends: Mapping[str, Any]) -> Span:
    return Span(low=float(ends["low"]), value=float(ends["value"]), high=float(ends["high"]))


def forecast_figure(entries: Sequence[Foretold], *, quantity: str = "energy", unit: str = "kWh") -> Figure | None:
    """The plane of predicted over measured; None where nothing was measured.

    Args:
        entries: Predictions.
        quantity: What they are of, for the axis titles.
        unit: The unit of all their numbers.
    """
    known = [(entry, entry.measured) for entry in entries if entry.measured is not None]
    if not known:
        return None
    within = sum(entry.is_within for entry, _ in known)
    return Figure(
        name="forecast",
        title="Predicted and measured",
        caption="On the dashed line both agree; below it more was measured than predicted. Crosses are 95 % intervals. "
        f"{within} of {len(known)} measured values lie in the predicted interval (filled)." + _not_measured(entries),
        alt=f"Predicted over measured {quantity}; {within} of {len(known)} lie in the predicted interval.",
        panels=(Panel(title="", spec=_plane(known, quantity, unit)),),
        table=forecast_table(entries, quantity=quantity, unit=unit),
    )


def _not_measured(entries: Sequence[Foretold]) -> str:
    names = [f"{entry.label} ({entry.reason or 'not measured'})" for entry in entries if entry.measured is None]
    return f" Not drawn: {', '.join(names)}." if names else ""


def forecast_table(entries: Sequence[Foretold], *, quantity: str = "energy", unit: str = "kWh") -> Table:
    """Predicted, measured, and the error of each."""
    rows = []
    for entry in entries:
        error = entry.error_rel
        measured = f"not measured: {entry.reason}" if entry.measured is None else _text(entry.measured)
        verdict = MISSING if entry.measured is None else "yes" if entry.is_within else "no"
        off = MISSING if error is None else f"{'−' if error < 0 else '+'}{percent_text(abs(error))}"
        rows.append(Row(cells=(entry.label, _text(entry.predicted), measured, off, verdict)))
    return Table(
        title="Predicted and measured",
        columns=table_columns(
            "what", f">predicted {quantity} ({unit})", f">measured {quantity} ({unit})", ">error", "in the interval"
        ),
        rows=tuple(rows),
        note="Brackets are 95 % intervals; the error is of the prediction, as a share of what was measured.",
    )


def _text(span: Span) -> str:
    return interval_text(span.value, span.low, span.high)


def _plane(known: Sequence[tuple[Foretold, Span]], quantity: str, unit: str) -> Spec:
    values = [_value(entry, measured) for entry, measured in known]
    for value in values[MOST_NAMED:]:
        value["name"] = ""
    ends = [value[key] for value in values for key in ("low", "high", "least", "most")]
    is_log = min(ends) > 0.0 and max(ends) / min(ends) > _FAR
    domain = [min(ends) / 1.3, max(ends) * 1.3] if is_log else padded(ends, floor=0.0 if min(ends) >= 0.0 else None)
    scale: Spec = {"domain": domain, "nice": False, "type": "log" if is_log else "linear"}
    at: dict[str, Spec] = {
        "x": x("measured", f"measured {quantity} ({unit})", scale=scale, axis={"tickCount": 6}),
        "y": x("predicted", f"predicted {quantity} ({unit})", scale=scale, axis={"tickCount": 6}),
    }
    hue = colours(["in the interval", "outside it"], [ARM_COLOURS[0], ARM_COLOURS[4]])
    colour: Spec = {"field": "place", "type": "nominal", "scale": hue, "legend": None}
    tooltip = tips(("what", "label"), ("predicted", "predicted_text"), ("measured", "measured_text"))
    line = [{"measured": end, "predicted": end} for end in domain]
    agreed: Spec = {"data": {"values": line}, "encoding": at}
    return spec(
        values,
        [
            {
                **agreed,
                "mark": {"type": "line", "strokeDash": [6, 4], "color": "currentColor", "opacity": 0.6},
            },
            _rule("x", at, colour, "least", "most"),
            _rule("y", at, colour, "low", "high"),
            *(_points({**at, "color": colour, "tooltip": tooltip}, is_within=within) for within in (False, True)),
            {
                "transform": [{"filter": "datum.name !== ''"}],
                "mark": {"type": "text", "align": "left", "dx": 9, "dy": -8, "fontSize": 11},
                "encoding": {**at, "text": {"field": "name"}},
            },
        ],
        height=_HEIGHT_PX,
    )


def _points(encoding: Spec, *, is_within: bool) -> Spec:
    """Points in their predicted interval, filled; or the others, hollow."""
    return {
        "transform": [{"filter": "datum.within" if is_within else "!datum.within"}],
        "mark": {"type": "point", "filled": is_within, "size": 90, "opacity": 1, "strokeWidth": 1.6},
        "encoding": encoding,
    }


def _rule(axis: str, at: Mapping[str, Spec], colour: Spec, low: str, high: str) -> Spec:
    moved = {**at, axis: {**at[axis], "field": low}, f"{axis}2": {"field": high}, "color": colour}
    return {"mark": {"type": "rule", "strokeWidth": 1.2, "opacity": 0.55}, "encoding": moved}


def _value(entry: Foretold, measured: Span) -> dict[str, Any]:
    return {
        "label": entry.label,
        "name": entry.label,
        "predicted": entry.predicted.value,
        "low": entry.predicted.low,
        "high": entry.predicted.high,
        "measured": measured.value,
        "least": measured.low,
        "most": measured.high,
        "within": entry.is_within,
        "place": "in the interval" if entry.is_within else "outside it",
        "predicted_text": _text(entry.predicted),
        "measured_text": _text(measured),
    }
