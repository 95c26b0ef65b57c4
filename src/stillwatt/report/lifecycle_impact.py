"""The impact part of a life-cycle report as tables: stage × impact with statuses, totals, both GWPs, every cell, units.

A total is nowhere without its coverage, and what is not counted is a word, never a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.report.format import MISSING, percent_text
from stillwatt.report.lifecycle_reasons import plain_words
from stillwatt.report.lifecycle_whole import Row as Said
from stillwatt.report.lifecycle_whole import cell_of, impacts_of, stages_of, total_of, unit_of
from stillwatt.report.lifecycle_words import (
    NOT_APPLICABLE,
    VALUED,
    Scale,
    amount_text,
    impact_title,
    names_text,
    number_text,
    scale_for,
    stage_title,
    status_title,
    value_and_ends,
)
from stillwatt.report.tables import Row, Table, table_columns

GWPS = ("gwp_location", "gwp_market")
NOT_WHOLE = "incomplete"
_IN_EVERYTHING = "counted in all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One cell of the table of stages and impacts; the value is empty where there is none."""

    stage: str
    impact: str
    status: str
    value: str
    ends: str
    is_whole: bool
    why: str

    @property
    def words(self) -> str:
        """Status, and whether something is missing in it."""
        return status_title(self.status) + ("" if self.is_whole else f", {NOT_WHOLE}")

    @property
    def text(self) -> str:
        """Everything on one line."""
        return ", ".join(filter(None, (f"{self.value} {self.ends}".strip(), self.words)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One impact over all stages, with what is counted in all and how much that covers."""

    impact: str
    title: str
    unit: str
    squares: tuple[Square, ...]
    total: str
    ends: str
    is_whole: bool
    coverage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Stage × impact."""

    stages: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def table(self) -> Table:
        """The same as text cells."""
        titles = ("impact", *(stage_title(stage) for stage in self.stages), f">{_IN_EVERYTHING}", ">coverage")
        rows = [
            Row(
                cells=(
                    f"{line.title} ({line.unit})" if line.unit else line.title,
                    *(square.text for square in line.squares),
                    f"{line.total} {line.ends}".strip() + ("" if line.is_whole else f", {NOT_WHOLE}"),
                    line.coverage,
                )
            )
            for line in self.lines
        ]
        return Table(title="Impacts by stage", columns=table_columns(*titles), rows=tuple(rows), note=MATRIX_NOTE)


MATRIX_NOTE = (
    "Values with their 90 % interval, in the unit beside the impact's name where the number names no other. "
    "Not counted: it exists and is not known, which is no 0. Incomplete: something that belongs to it is not in it."
)


def impact_scale(data: Said, impact: str) -> Scale:
    """The one unit in which an impact's cells and total are shown."""
    values = [row["value"] for row in (*data["cells"], *data["totals"]) if row["impact"] == impact]
    return scale_for(values, unit_of(data, impact))


def coverage_text(data: Said, impact: str) -> str:
    """How much of an impact its total covers."""
    total = total_of(data, impact)
    return MISSING if total is None else percent_text(total["coverage"])


def matrix_of(data: Said) -> Matrix:
    """Every cell with its status, and every total with its coverage."""
    stages = stages_of(data)
    return Matrix(
        stages=tuple(stages),
        lines=tuple(_line(data, impact, stages) for impact in impacts_of(data)),
    )


def _line(data: Said, impact: str, stages: Iterable[str]) -> Line:
    scale, unit = impact_scale(data, impact), unit_of(data, impact)
    squares = [square_of(data, stage, impact, scale) for stage in stages]
    total = total_of(data, impact)
    value, ends = "no total", ""
    if total is not None:
        value, ends = _without(scale, *value_and_ends(total, unit, scale))
        value = "not counted" if total["value"] is None else value
    return Line(
        impact=impact,
        title=impact_title(impact),
        unit=scale.symbol,
        squares=tuple(squares),
        total=value,
        ends=ends,
        is_whole=total is None or total["value"] is None or total["complete"],
        coverage=coverage_text(data, impact),
    )


def square_of(data: Said, stage: str, impact: str, scale: Scale) -> Square:
    """One cell; without a number wherever its status gives none."""
    cell = cell_of(data, stage, impact)
    has_value = cell["status"] in VALUED and cell["value"] is not None
    value, ends = value_and_ends(cell, str(cell.get("unit", "")), scale) if has_value else ("", "")
    value, ends = _without(scale, value, ends)
    if cell["status"] in VALUED and not has_value:
        value = "no value"
    return Square(
        stage=stage,
        impact=impact,
        status=cell["status"],
        value=value,
        ends=ends,
        is_whole=not cell["incomplete"],
        why="; ".join(map(plain_words, filter(None, (cell["reason"], *cell["incomplete"], *cell["cautions"])))),
    )


def _without(scale: Scale, value: str, ends: str) -> tuple[str, str]:
    """The value without the unit that stands at the head of its line; another one stays."""
    return value.removesuffix(f" {scale.symbol}"), ends


def totals_table(data: Said) -> Table:
    """Each impact over the stages that are counted, with how much that covers and which stages are in it."""
    rows = []
    for total in data["totals"]:
        impact = total["impact"]
        value, ends = value_and_ends(total, total["unit"], impact_scale(data, impact))
        lacking = len(total["lacking"])
        whole = "whole" if total["complete"] else f"lacks {lacking:,} thing{'' if lacking == 1 else 's'}"
        is_known = total["value"] is not None
        rows.append(
            Row(
                cells=(
                    impact_title(impact),
                    value if is_known else "not counted",
                    ends,
                    percent_text(total["coverage"]),
                    names_text(stage_title(stage) for stage in total["stages"]),
                    whole if is_known else plain_words(total["reason"] or "") or "no stage is counted",
                )
            )
        )
    return Table(
        title="Totals of what is counted",
        columns=table_columns("impact", ">counted in all", ">90 % interval", ">coverage", "stages in it", "whole?"),
        rows=tuple(rows),
        note=_coverage_note(data),
    )


def _coverage_note(data: Said) -> str:
    rule = data["coverage"]["rule"]
    by = f" ({rule['equation']})" if rule else ""
    return (
        f"Coverage{by}: the weight of the cells that are counted, less for estimates and for incomplete ones, over the "
        "weight of all that exist; 100 % is all measured. The interval is that of what is counted and says nothing "
        "of the rest."
    )


def both_gwps_table(data: Said) -> Table:
    """GWP by the place's grid and by contracts beside each other, stage by stage, never added."""
    scales = {impact: common_scale(data) for impact in GWPS}
    rows = []
    for stage in stages_of(data):
        squares = [square_of(data, stage, impact, scales[impact]) for impact in GWPS]
        rows.append(Row(cells=(stage_title(stage), *_spread(squares, scales))))
    totals = [total_of(data, impact) for impact in GWPS]
    cells = [part for impact, total in zip(GWPS, totals, strict=True) for part in _total_cells(total, scales[impact])]
    rows.append(Row(cells=(_IN_EVERYTHING, *cells), is_sum=True))
    return Table(
        title="GWP by place and by contract",
        columns=table_columns("stage", ">location-based", "status", ">market-based", "status"),
        rows=tuple(rows),
        note="Location-based: the average grid where the work ran. Market-based: what contracts say, where one was "
        "given. The two are never added, and neither stands in for the other.",
    )


def common_scale(data: Said) -> Scale:
    """One unit for both GWPs."""
    values = [row["value"] for row in (*data["cells"], *data["totals"]) if row["impact"] in GWPS]
    return scale_for(values, unit_of(data, GWPS[0]))


def _spread(squares: Iterable[Square], scales: Mapping[str, Scale]) -> Iterator[str]:
    for square in squares:
        has_own = not square.value or square.value == "no value" or not square.value[-1].isdigit()
        unit = "" if has_own else f" {scales[square.impact].symbol}"
        yield f"{square.value}{unit} {square.ends}".strip()
        yield square.words


def _total_cells(total: Said | None, scale: Scale) -> tuple[str, str]:
    if total is None:
        return "", "no total"
    covers = f"covers {percent_text(total['coverage'])}"
    if total["value"] is None:
        return "", f"not counted; {covers}"
    return amount_text(total, total["unit"], scale), covers + ("" if total["complete"] else f", {NOT_WHOLE}")


def cells_table(data: Said) -> Table:
    """Every cell with its data quality, its boundary, its factors, and what is missing in it or why it has no value."""
    rows = []
    for stage in stages_of(data):
        for impact in impacts_of(data):
            cell, square = cell_of(data, stage, impact), square_of(data, stage, impact, impact_scale(data, impact))
            is_valued = square.status in VALUED and cell["value"] is not None
            scale = impact_scale(data, impact)
            rows.append(
                Row(
                    cells=(
                        stage_title(stage),
                        impact_title(impact),
                        square.words,
                        amount_text(cell, cell["unit"], scale) if is_valued else square.value,
                        cell["quality"] or "",
                        " of ".join(filter(None, (cell["water"], _extent(cell)))),
                        ", ".join(cell["factors"]),
                        square.why,
                    )
                )
            )
    return Table(
        title="Every cell",
        columns=table_columns(
            "stage", "impact", "status", ">value", "quality", "boundary", "factors", "why, what it lacks, cautions"
        ),
        rows=tuple(row for row in rows if row.cells[2] != status_title(NOT_APPLICABLE)),
        note=_not_applicable_note(data) + " Quality: A measured, B modelled, C by factors that were read in their "
        "sources, D by one that was not.",
    )


def _extent(cell: Said) -> str:
    """The boundary, with the kinds of thing that a cell of making or disposing covers."""
    kinds = names_text(cell["covers"])
    return f"{cell['boundary'] or ''} ({kinds})".strip() if kinds else cell["boundary"] or ""


def _not_applicable_note(data: Said) -> str:
    number = sum(cell["status"] == NOT_APPLICABLE for cell in data["cells"])
    return f"{number:,} cells that are not applicable are in the table of impacts by stage alone."


def units_table(data: Said) -> Table | None:
    """Impacts per functional unit; None where none can be counted."""
    known = [unit for unit in data["functional_units"] if unit["count"] is not None]
    impacts = [impact for impact in impacts_of(data) if any(impact in unit["values"] for unit in known)]
    if not impacts:
        return None
    rows = [
        Row(
            cells=(
                impact_title(impact),
                coverage_text(data, impact),
                *(_per_unit(unit["values"].get(impact), unit_of(data, impact)) for unit in known),
            )
        )
        for impact in impacts
    ]
    return Table(
        title="Impacts per functional unit",
        columns=table_columns("impact", ">coverage", *(f">per {unit['unit']}" for unit in known)),
        rows=tuple(rows),
        note="What is counted, divided; coverage is that of each impact's total. In brackets the 90 % interval.",
    )


def _per_unit(numbers: Mapping[str, Any] | None, unit: str) -> str:
    if numbers is None or numbers["value"] is None:
        return "not counted"
    return amount_text(numbers, unit)


def counts_table(data: Said) -> Table:
    """What impacts are divided by, or why one cannot be."""
    rows = [
        Row(
            cells=(
                str(unit["unit"]),
                "not known" if unit["count"] is None else number_text(unit["count"], 9),
                unit["means"] if unit["count"] is not None else plain_words(unit["reason"] or ""),
                names_text(map(stage_title, unit["stages"])) if unit["stages"] else "all that are counted",
            )
        )
        for unit in data["functional_units"]
    ]
    return Table(
        title="What impacts are divided by",
        columns=table_columns("functional unit", ">number", "what is counted, or why not", "stages"),
        rows=tuple(rows),
    )
