"""A life-cycle report for a terminal: the table of stages and impacts, and beside every total how much it covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stillwatt.report.format import percent_text
from stillwatt.report.lifecycle_scope import runs_of
from stillwatt.report.lifecycle_whole import whole_report
from stillwatt.report.lifecycle_words import NO_ZERO, brief_stage
from stillwatt.report.screen import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = 112
"""What the table needs."""
SHOWN: Mapping[str, str] = {
    "energy_facility": "facility",
    "primary_energy": "primary",
    "gwp_location": "GWP loc.",
    "gwp_market": "GWP mkt.",
    "water_onsite": "water on",
    "water_offsite": "water off",
    "adpe": "ADPe",
    "ewaste": "e-waste",
}
"""Impacts of the table with their heads; the rest is in the report."""
_MARKS = {"measured": "", "modelled": "~", "factor": "*"}
_LEGEND = "~ modelled, * by factors, + a part of it is missing, ? not counted (never 0), · does not apply"
_MOST_LACKS = 12
_FEWEST = 40
"""Columns of sentences, at least."""


def lifecycle_text(data: Mapping[str, Any], *, columns: int = COLUMNS, is_terminal: bool = False) -> str:
    """The report as text; with colours and weights only for a terminal.

    Args:
        data: A report of the contract `stillwatt.lifecycle/1`, anybody's.
        columns: How wide the terminal is; tables are as wide as they need to be, and sentences are folded at it.
        is_terminal: Whether to write escape sequences.
    """
    from rich.text import Text

    with screen(max(columns, COLUMNS), is_terminal=is_terminal) as (console, lines):
        for part in _parts(whole_report(data)):
            console.print(part, width=max(columns, _FEWEST) if isinstance(part, Text) else None)
    return lines()


def _parts(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    place = data["goal_and_scope"]["place"]
    names = ", ".join(str(run.get("run_id")) for run in runs_of(data))
    yield Text(f"Life cycle of {names or 'no run'} at {place['name']} ({place['code']})", style="bold")
    yield _cells_table(data)
    yield Text(_LEGEND)
    yield Text()
    yield _totals_table(data)
    yield Text(f"coverage of the whole account: {_covered(data['coverage'])}")
    yield Text()
    yield from map(Text, _notes(data))


def _cells_table(data: Mapping[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    cells = {(cell["stage"], cell["impact"]): cell for cell in data["cells"]}
    units = {cell["impact"]: cell["unit"] for cell in data["cells"]}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("stage", no_wrap=True)
    for impact, head in SHOWN.items():
        table.add_column(f"{head}\n{units.get(impact, '')}", justify="right", no_wrap=True)
    for stage in dict.fromkeys(cell["stage"] for cell in data["cells"]):
        table.add_row(brief_stage(stage), *(_cell_text(cells.get((stage, impact))) for impact in SHOWN))
    totals = {total["impact"]: total for total in data["totals"]}
    table.add_section()
    table.add_row("counted in all", *(_total_text(totals.get(impact)) for impact in SHOWN))
    table.add_row("coverage", *(_coverage_text(totals.get(impact)) for impact in SHOWN))
    return table


def _totals_table(data: Mapping[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for head in ("total of", "value", "90 % interval", "unit", "covers", "stages in it"):
        table.add_column(head, justify="right" if head in ("value", "90 % interval", "covers") else "left")
    for total in data["totals"]:
        if total["value"] is None:
            table.add_row(total["impact"], "?", "", total["unit"], percent_text(total["coverage"]), total["reason"])
            continue
        ends = f"[{_short(total['low'])}, {_short(total['high'])}]"
        table.add_row(
            total["impact"],
            _short(total["value"]),
            ends,
            total["unit"],
            percent_text(total["coverage"]),
            ", ".join(brief_stage(stage) for stage in total["stages"]) + ("" if total["complete"] else "; not whole"),
        )
    return table


def _notes(data: Mapping[str, Any]) -> Iterator[str]:
    found = data["interpretation"]
    twice = data["goal_and_scope"]["about"].get("counted_twice")  # why the sums are too large; others' reports may
    yield from (f"caution: {said}" for said in (twice if isinstance(twice, list) else ()))  # have anything there
    yield "largest cells, as shares of what is counted"
    for spot in (spot for spot in found["hot_spots"] if spot["impact"] in ("gwp_location", "energy_facility")):
        yield f"  {spot['impact']}: {percent_text(spot['share_of_counted'])} {spot['stage']}"
    yield "what to improve first, by the doubt that it brings into the location-based GWP"
    for one in (one for one in found["improve_first"] if one["impact"] == "gwp_location"):
        yield f"  {percent_text(one['share_of_variance'])} {one['input']}: {one['how']}"
    yield "location-based GWP per unit"
    yield from (f"  {_unit_text(unit)}" for unit in data["functional_units"])
    yield "not in it"
    lacks = [(total["impact"], lack) for total in data["totals"] for lack in total["lacking"]]
    of_gwp = list(dict.fromkeys(lack for impact, lack in lacks if impact == "gwp_location"))
    yield from (f"  {lack}" for lack in of_gwp[:_MOST_LACKS])
    rest = len({lack for _, lack in lacks} - set(of_gwp[:_MOST_LACKS]))
    if rest:
        yield f"  and {rest} more, of other impacts too (--json lists them)"
    cautions = dict.fromkeys(caution for cell in data["cells"] for caution in cell["cautions"])
    if cautions:
        yield "to be known of what is in it"
        yield from (f"  {caution}" for caution in sorted(cautions, key=lambda one: NO_ZERO not in one)[:_MOST_LACKS])


def _unit_text(unit: Mapping[str, Any]) -> str:
    if unit["count"] is None:
        return f"per {unit['unit']}: not known, {unit['reason']}"
    numbers = unit["values"].get("gwp_location")
    if numbers is None:
        return f"per {unit['unit']}: not counted"
    ends = f"[{_short(numbers['low'])}, {_short(numbers['high'])}]"
    return f"per {unit['unit']} (of {unit['count']:.6g}): {_short(numbers['value'])} {ends} kgCO2e"


def _covered(coverage: Mapping[str, Any]) -> str:
    statuses = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in coverage["by_status"].items())
    return (
        f"{percent_text(coverage['score'])} by quality, {percent_text(coverage['counted'])} counted at all; "
        f"cells: {statuses}"
    )


def _cell_text(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["status"] == "not_counted":
        return "?"
    if cell["status"] == "not_applicable":
        return "·"
    return f"{cell['value']:.2g}{_MARKS[cell['status']]}{'+' if cell['incomplete'] else ''}"


def _coverage_text(total: Mapping[str, Any] | None) -> str:
    return "?" if total is None else percent_text(total["coverage"])


def _total_text(total: Mapping[str, Any] | None) -> str:
    """A total, marked where it lacks something."""
    if total is None:
        return "?"
    is_partial = total["value"] is not None and not total["complete"]
    return f"{_short(total['value'])}{'+' if is_partial else ''}"


def _short(value: float | None) -> str:
    """Three digits.

    >>> _short(0.0384), _short(None)
    ('0.0384', '?')
    """
    return "?" if value is None else f"{value:.3g}"
