"""The life-cycle report as a page and as Markdown, in ISO 14044's order; each is a function of the report alone.

Both are made of the same parts, so that one says what the other says. The page needs no network; a browser prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.records.lifecycle import ReportFault
from stillwatt.report import lifecycle_impact, lifecycle_interpretation, lifecycle_scope
from stillwatt.report.conformance import Conformance, conformance
from stillwatt.report.data import writable
from stillwatt.report.figure import Figure
from stillwatt.report.figure_lifecycle import STATUS_COLOURS, lifecycle_figures
from stillwatt.report.html import render_page, template
from stillwatt.report.lifecycle_answer import headline, key_numbers, sentences, subject, warnings_of
from stillwatt.report.lifecycle_impact import Matrix, matrix_of
from stillwatt.report.lifecycle_rules import rule_faults
from stillwatt.report.lifecycle_whole import whole_report
from stillwatt.report.lifecycle_words import stage_title
from stillwatt.report.table_text import markdown_text, table_text
from stillwatt.report.tables import Table

_MOST_OPEN = 14
"""Rows up to which a table stands open on the screen; on paper all do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing of a section: a table, a figure, a list, or the table of stages and impacts."""

    title: str = ""
    table: Table | None = None
    figure: str = ""
    has_table: bool = False
    """Whether the figure's own table stands under it."""
    items: tuple[str, ...] = ()
    matrix: Matrix | None = None
    is_folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section with its parts."""

    name: str
    title: str
    lead: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Everything that the page and the Markdown say."""

    title: str
    eyebrow: tuple[str, ...]
    answer: tuple[str, ...]
    numbers: tuple[Mapping[str, str], ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    figures: tuple[Figure, ...]


def lifecycle_html(data: Mapping[str, Any]) -> str:
    """The page of a life-cycle report, anybody's; the same report gives the same bytes.

    Raises:
        ReportError: it is no report of the contract `stillwatt.lifecycle/1`.
        MissingExtraError: the template engine is not installed.
        MissingInputError: a drawing runtime is damaged.
    """
    told = told_of(data)
    return render_page(
        "lifecycle.html.j2",
        told.figures,
        writable(data),
        told=told,
        colours=STATUS_COLOURS,
        stage_title=stage_title,
        own_style=template("lifecycle.css"),
    )


def lifecycle_markdown(data: Mapping[str, Any]) -> str:
    """The same as Markdown, without its figures; names from outside are text and no markup.

    Raises:
        ReportError: it is no report of the contract `stillwatt.lifecycle/1`.
    """
    told = told_of(data)
    lines = [f"# {markdown_text(told.title)}", "", markdown_text(" · ".join(told.eyebrow)), ""]
    for sentence in told.answer:
        lines += [markdown_text(sentence), ""]
    lines += [f"- {markdown_text(one['label'])}: **{markdown_text(one['value'])}** ({markdown_text(one['note'])})"
              for one in told.numbers]  # fmt: skip
    if told.warnings:
        lines += ["", "**Before you rely on this**", "", *_list(told.warnings)]
    for section in told.sections:
        lines += ["", f"## {markdown_text(section.title)}"]
        lines += ["", markdown_text(section.lead)] if section.lead else []
        for part in section.parts:
            lines += _markdown_part(part, told.figures)
    return "\n".join(lines) + "\n"


def _markdown_part(part: Part, figures: Sequence[Figure]) -> list[str]:
    table = part.matrix.table if part.matrix else part.table
    if part.figure and part.has_table:
        table = next(figure.table for figure in figures if figure.name == part.figure)
    if table is not None:
        return ["", f"### {markdown_text(part.title or table.title)}", "", table_text(table, "md").rstrip("\n")]
    if part.items:
        return [*(["", f"### {markdown_text(part.title)}"] if part.title else []), "", *_list(part.items)]
    return []


def _list(items: Sequence[str]) -> list[str]:
    return [f"- {markdown_text(item)}" for item in items]


def told_of(data: Mapping[str, Any]) -> Told:
    """What there is to say of a report.

    Raises:
        ReportError: it is no report of the contract `stillwatt.lifecycle/1`.
    """
    try:
        said = whole_report(data)
        faults = rule_faults(data)
        level = conformance(data, faults)
    except (LookupError, TypeError, AttributeError) as err:
        raise ReportError(
            "$", f"it is no whole life-cycle report ({err!r}): `stillwatt validate` lists what is wrong"
        ) from err
    return _told(said, faults, level)


def _told(said: dict[str, Any], faults: Sequence[ReportFault], level: Conformance) -> Told:
    place = said["goal_and_scope"]["place"]
    figures = lifecycle_figures(said)
    names = {figure.name for figure in figures}
    return Told(
        title=headline(said),
        eyebrow=(subject(said), f"{place['name']} ({place['code']})", lifecycle_interpretation.level_text(level)),
        answer=tuple(sentences(said)),
        numbers=tuple(key_numbers(said)),
        warnings=tuple(warnings_of(said, faults)),
        sections=(
            _scope(said),
            _inventory(said),
            _impact(said, names),
            _interpretation(said, names),
            _units(said),
            _factors(said),
            _level(level),
        ),
        figures=figures,
    )


def _tables(*tables: Table | None, is_folded: bool = False, is_open: bool = False) -> tuple[Part, ...]:
    """Parts of the tables that hold something; a long one is folded on the screen."""
    return tuple(
        Part(table=table, is_folded=not is_open and (is_folded or len(table.rows) > _MOST_OPEN))
        for table in tables
        if table is not None and table.rows
    )


def _scope(said: Mapping[str, Any]) -> Section:
    room = lifecycle_scope
    assumed = room.assumptions_of(said)
    return Section(
        name="scope",
        title="1. Goal and scope",
        lead="What was asked, where the work ran, what lies inside the boundary and what does not.",
        parts=(
            *_tables(room.about_table(said), room.runs_table(said), room.boundary_table(said)),
            *((Part(title="Assumptions", items=assumed),) if assumed else ()),
            *_tables(room.chosen_table(said), room.booked_table(said)),
        ),
    )


def _inventory(said: Mapping[str, Any]) -> Section:
    room = lifecycle_scope
    tables = (
        room.uses_table(said),
        room.devices_table(said),
        room.stored_table(said),
        room.moved_table(said),
        room.tried_table(said),
        room.lacks_table(said),
    )
    return Section(
        name="inventory",
        title="2. Inventory",
        lead="What the work used: electricity, devices, drives, downloads; and what is known to be missing here.",
        parts=_tables(*tables),
    )


def _impact(said: Mapping[str, Any], figures: set[str]) -> Section:
    room = lifecycle_impact
    return Section(
        name="impact",
        title="3. Impact",
        lead="Every impact of every stage has a status. Not counted is no 0: it exists, and is not known.",
        parts=(
            Part(figure="statuses"),
            Part(title="Impacts by stage", matrix=matrix_of(said)),
            *_tables(room.totals_table(said)),
            *((Part(figure="stages"),) if "stages" in figures else ()),
            *_tables(room.both_gwps_table(said)),
            *_tables(room.cells_table(said), is_folded=True),
        ),
    )


def _interpretation(said: Mapping[str, Any], figures: set[str]) -> Section:
    room = lifecycle_interpretation
    cautions = room.cautions_of(said)
    return Section(
        name="interpretation",
        title="4. Interpretation",
        lead="What weighs most, what the doubt comes from, and what this account cannot say.",
        parts=(
            *_tables(room.hot_spots_table(said)),
            *((Part(figure="variance", has_table=True),) if "variance" in figures else ()),
            *_tables(room.improve_table(said), room.swings_table(said)),
            Part(title="Limits", items=tuple(said["interpretation"]["limits"])),
            Part(table=room.missing_table(said)),
            *((Part(title="To be known of what is counted", items=cautions),) if cautions else ()),
        ),
    )


def _units(said: Mapping[str, Any]) -> Section:
    tables = _tables(lifecycle_impact.units_table(said), lifecycle_impact.counts_table(said))
    lead = "What is counted, by what it was done for." if tables else "The report divides its impacts by nothing."
    return Section(name="units", title="5. Functional units", lead=lead, parts=tables)


def _factors(said: Mapping[str, Any]) -> Section:
    table = lifecycle_scope.factors_table(said)
    lead = "All that came from outside, so that it can be looked up, doubted and replaced."
    return Section(
        name="factors",
        title="6. Factors",
        lead=lead if table.rows else "No figure from outside was used.",
        parts=(*_tables(table, is_open=True), *_tables(lifecycle_scope.remarks_table(said), is_folded=True)),
    )


def _level(level: Conformance) -> Section:
    room = lifecycle_interpretation
    words = room.level_text(level)
    before = room.gaps_table(
        f"Before level {level.following.number} ({level.following.name})" if level.following else "", level.before_next
    )
    return Section(
        name="level",
        title="7. The protocol",
        lead=f"{words[0].upper()}{words[1:]}. A level says that what is counted is sound; how much is counted, the "
        "coverage says.",
        parts=_tables(room.levels_table(level), before, room.gaps_table("And it should", level.advice)),
    )
