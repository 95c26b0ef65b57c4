"""The answer at the end of a run, for a terminal: the same tables as the page, in a hundred columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stillwatt.records.finding import Study
from stillwatt.records.run import RunRecord
from stillwatt.report import tables
from stillwatt.report.answer import answer_dict
from stillwatt.report.data import report_dict
from stillwatt.report.figure_frontier import allocation_title
from stillwatt.report.format import share_text
from stillwatt.report.screen import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = 100
"""What the answer fits into."""


def answer_text(run: RunRecord, study: Study, *, columns: int = COLUMNS, is_terminal: bool = False) -> str:
    """The answer as text; with colours and weights only for a terminal.

    Args:
        run: The run.
        study: Its findings.
        columns: How wide the terminal is; narrower than 60 is taken as 60.
        is_terminal: Whether to write escape sequences.
    """
    with screen(max(columns, 60), is_terminal=is_terminal) as (console, lines):
        for part in answer_renderables(run, study):
            console.print(part)
    return lines()


def answer_renderables(run: RunRecord, study: Study) -> Iterator[RenderableType]:
    """The parts of the answer, for a console of the caller's own."""
    from rich.text import Text

    data = report_dict(run, study)
    answer = answer_dict(run, study)
    yield Text(answer["title"], style="bold")
    yield Text()
    for sentence in answer["sentences"]:
        yield Text(sentence)
    yield Text()
    yield from _table(tables.stage_table(data), without="share")
    if data["break_evens"]:
        yield from _table(tables.break_even_table(data))
    if data["frontier"]:
        yield Text(
            "On the frontier of energy and quality, by who pays for the teacher (in brackets: probability)",
            style="bold",
        )
        for label in data["allocations"]:
            yield Text(f"  {allocation_title(label)}: {_members(data, label)}")
        yield Text()
    for warning in data["warnings"]:
        yield Text(f"note: {warning}", style="yellow")


def _members(data: Mapping[str, Any], label: str) -> str:
    """The points on one frontier, each with its probability where that is known."""
    names = []
    for point in data["frontier"]:
        if point["allocation"] == label and point["is_on_frontier"]:
            probability = point["on_frontier_probability"]
            sure = "" if probability is None else f" ({probability:.2f})"
            names.append(f"{point['arm']} at {share_text(point)}{sure}")
    return ", ".join(names) or "no point"


def _table(table: tables.Table, *, without: str = "") -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=Text(table.title),
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    kept = [index for index, column in enumerate(table.columns) if column.title != without]
    for column in (table.columns[index] for index in kept):
        drawn.add_column(
            Text(column.title), justify="right" if column.is_number else "left", header_style="dim", overflow="fold"
        )
    for row in table.rows:
        drawn.add_row(*(Text(row.cells[index]) for index in kept), style="bold" if row.is_sum else None)
    yield drawn
    if table.note:
        yield Text(table.note, style="dim")
    yield Text()
