"""Energy against quality of many trainings: one panel an allocation, with intervals and how sure each place is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.comparison_tables import frontier_table, is_shown, sure_text, unlisted_text
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.figure_frontier import (
    allocation_title,
    arm_shapes,
    error_rule,
    frontier_step,
    give_corners,
    name_layers,
)
from stillwatt.report.format import Unit, pick_unit_of_kwh, significant
from stillwatt.report.vega import ARM_COLOURS, TICKS, Spec, by_colour, colours, padded, spec, swatches, tips, x

MOST_DRAWN = 400
"""Points of one panel; of more, those on the frontier and then the surest."""
MOST_NAMED = 14
_HEIGHT_PX = 300
_FAINTEST = 0.35
"""How faint a point is drawn that is surely not on the frontier."""


def methods_of(data: Mapping[str, Any]) -> list[str]:
    """The methods in order, the baseline's first, so that colours stay with methods."""
    found = dict.fromkeys(point["method"] for points in data["points"].values() for point in points)
    found |= dict.fromkeys(entry["method"] for entry in data["n_star"])
    return sorted(found, key=lambda method: method != data["baseline"])


def method_scale(data: Mapping[str, Any]) -> Spec:
    """One colour a method, the same in all figures."""
    return colours(methods_of(data), ARM_COLOURS)


def frontier_figure(data: Mapping[str, Any]) -> Figure | None:
    """The plane under each allocation; None where nothing could be placed."""
    unit = pick_unit_of_kwh(point["energy_kwh"] for points in data["points"].values() for point in points)
    values = {name: _values(data, name, unit) for name in data["points"] if is_shown(name)}
    every = [value for found in values.values() for value in found]
    if not every:
        return None
    domain_x = padded([value[key] for value in every for key in ("low", "high", "energy")], floor=0.0)
    domain_y = padded([v[key] for v in every for key in ("worst", "best", "quality") if v[key] is not None])
    scale = method_scale(data)
    panels = []
    for name, found in values.items():
        named = sorted(found, key=lambda value: (not value["on"], -(value["p"] or 0.0)))[:MOST_NAMED]
        give_corners(named, found, domain_x, domain_y)
        panels.append(Panel(title=allocation_title(name), spec=_plane(found, scale, unit, domain_x, domain_y)))
    first = next(iter(values))
    on = [value["name"] for value in values[first] if value["on"]]
    return Figure(
        name="frontier",
        title="Energy against quality",
        caption="Up and to the left is better. Filled: on the frontier (the stepped line), where no other needs less "
        "energy and is at least as good; p is how sure that is, given seeds and errors, and the fainter the less. "
        "Crosses are 95 % intervals of random errors, as what moves all energies together moves no point past another; "
        "a quality without one has neither seeds nor a standard error. Axes do not begin at zero."
        + _left_out(data, values),
        alt="Quality against energy, one panel for each way to bill the teacher's work. On the frontier of the first: "
        f"{', '.join(on[:MOST_NAMED])}{' and more' if len(on) > MOST_NAMED else ''}.",
        panels=tuple(panels),
        table=frontier_table(data),
        legend=swatches(scale),
    )


def _left_out(data: Mapping[str, Any], values: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    more = max(len(data["points"][name]) - len(found) for name, found in values.items())
    missing = max(len(found) for found in data["left_out"].values()) if data["left_out"] else 0
    parts = [f" {more:,} more points are not drawn."] if more else []
    parts.append(unlisted_text(data))
    if missing:
        parts.append(f" {missing:,} {'label is' if missing == 1 else 'labels are'} on no plane, see the table.")
    return "".join(parts)


def _values(data: Mapping[str, Any], allocation: str, unit: Unit) -> list[dict[str, Any]]:
    on = set(data["frontiers"][allocation])
    sure = data["on_frontier_probability"][allocation]
    points = data["points"][allocation]
    if len(points) > MOST_DRAWN:
        points = sorted(points, key=lambda p: (p["label"] not in on, -(sure.get(p["label"]) or 0.0)))[:MOST_DRAWN]
    return [_value(point, point["label"] in on, sure.get(point["label"]), unit) for point in points]


def _value(point: Mapping[str, Any], is_on: bool, probability: float | None, unit: Unit) -> dict[str, Any]:
    energy, half = unit.of_kwh(point["energy_kwh"]), unit.of_kwh(point["energy_half_width_kwh"] or 0.0)
    quality, error = point["quality"], point["quality_half_width"]
    words = "" if probability is None else f"p {sure_text(probability)}"
    return {
        "name": point["label"],
        "label": f"{point['label']} {words}".strip(),
        "method": point["method"],
        "corner": "",
        "energy": energy,
        "low": energy - half,
        "high": energy + half,
        "quality": quality,
        "worst": None if error is None else quality - error,
        "best": None if error is None else quality + error,
        "on": is_on,
        "p": probability,
        "ink": _FAINTEST + (1.0 - _FAINTEST) * (float(is_on) if probability is None else probability),
        "energy_text": f"{significant(energy)} ± {significant(half, 2)} {unit.symbol}",
        "quality_text": f"{quality:.3f}" + (", no error known" if error is None else f" ± {error:.3f}"),
        "place": "on the frontier" if is_on else "beaten",
        "sure": words or "not known",
        "seeds": str(point["seeds"]),
    }


def _plane(
    values: Sequence[Mapping[str, Any]],
    scale: Spec,
    unit: Unit,
    domain_x: Sequence[float],
    domain_y: Sequence[float],
) -> Spec:
    at = {
        "x": x(
            "energy",
            f"energy of one student ({unit.symbol})",
            scale={"domain": list(domain_x), "nice": False},
            axis=TICKS,
        ),
        "y": x("quality", "quality Q (1)", scale={"domain": list(domain_y), "nice": False}),
    }
    colour = by_colour("method", scale)
    shape = by_colour("method", {"domain": scale["domain"], "range": arm_shapes(scale["domain"])})
    return spec(
        values,
        [
            frontier_step(at),
            error_rule("x", at, colour, "low", "high"),
            error_rule("y", at, colour, "worst", "best"),
            _points({**at, "color": colour, "shape": shape}, is_on=False),
            _points({**at, "color": colour, "shape": shape}, is_on=True),
            *name_layers(at),
        ],
        height=_HEIGHT_PX,
    )


def _points(encoding: Spec, *, is_on: bool) -> Spec:
    tooltip = tips(
        ("label", "name"),
        ("method", "method"),
        ("energy", "energy_text"),
        ("quality", "quality_text"),
        ("seeds", "seeds"),
        ("place", "place"),
        ("on the frontier", "sure"),
    )
    ink: Spec = {"field": "ink", "type": "quantitative", "scale": None, "legend": None}
    return {
        "transform": [{"filter": "datum.on" if is_on else "!datum.on"}],
        "mark": {"type": "point", "size": 110 if is_on else 90, "strokeWidth": 1.6, "filled": is_on},
        "encoding": {**encoding, "opacity": ink, "tooltip": tooltip},
    }
