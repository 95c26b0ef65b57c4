"""The coverage map of published works as a page that stands alone, and as text for a terminal.

Colour repeats what a number or a letter in the cell says; one hue from light to dark keeps its order for readers who
do not tell hues apart, and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.literature.coverage import CoverageMap, ShareRange, map_dict
from stillwatt.literature.stated import Statement
from stillwatt.literature.vocabulary import CODED_METRICS, METRICS, STAGES
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Evidence, Treatment
from stillwatt.report.figure import Figure, Panel
from stillwatt.report.format import percent_text
from stillwatt.report.html import render_page
from stillwatt.report.screen import screen
from stillwatt.report.tables import Column, Row, Table
from stillwatt.report.vega import Spec, Swatch, leaning_axis, nominal, spec, tips

TITLE = "Coverage of published works · Stillwatt"
"""The title of the map's page."""
EVIDENCE_TITLES = {
    Evidence.FULL_TEXT: "full text",
    Evidence.CARD: "card or page",
    Evidence.SECONDARY: "secondary account",
    Evidence.ABSTRACT: "abstract only",
    Evidence.RECALLED: "recalled",
}
TREATMENT_MARKS = {
    Treatment.QUANTIFIED: ("Q", "#0B4F8A", "gives a number"),
    Treatment.QUALITATIVE: ("d", "#5B9BD0", "discusses"),
    Treatment.MENTIONED: ("m", "#B5D3EB", "mentions"),
    Treatment.NONE: ("–", "#E4E7EB", "nothing, and it was looked for"),
    Treatment.UNKNOWN: ("?", "transparent", "not visible in what was read"),
}
_LIGHT, _DARK = "#DCE9F4", "#0B4F8A"
_ROW_PX, _WORK_PX = 30, 17
_BRIEF = ("hardware", "building", "data", "experim.", "training", "post-tr.", "serving", "end")
_SHORT = {stage: stage.value.replace("_", " ") for stage in LifeStage}


def stage_table(drawn: CoverageMap) -> Table:
    """One line a stage: how many works treat it how, and the share that quantifies it."""
    titles = ("stage", *(f">{treatment.value}" for treatment in Treatment), ">share", ">of those read whole")
    rows = [
        Row(
            cells=(
                STAGES[cover.stage].name,
                *(str(cover.of(treatment)) for treatment in Treatment),
                range_text(cover.share),
                range_text(cover.share_read_whole),
            )
        )
        for cover in drawn.stages
    ]
    note = (
        "Share: works that are seen to quantify the stage, to those together with the ones in which that was not "
        f"visible. Read whole: {_read_whole(drawn)} works of which the text or the card was read. Names of stages are "
        "the review's (arXiv 2605.05416); where each begins and ends is this project's."
    )
    return Table(title="How works treat each stage", columns=_columns(*titles), rows=tuple(rows), note=note)


def metric_table(drawn: CoverageMap, *, is_narrow: bool = False) -> Table:
    """One line a metric: works that quantify it at each stage; behind a slash, those of which the abstract was read."""
    titles = _BRIEF if is_narrow else tuple(_SHORT[stage] for stage in LifeStage)
    rows = [
        Row(
            cells=(
                METRICS[metric].title,
                *(_cell_text(drawn, metric, stage) for stage in LifeStage),
                str(drawn.metric_works(metric)),
            )
        )
        for metric in CODED_METRICS
    ]
    return Table(
        title="Works that quantify a metric at a stage",
        columns=_columns("metric", *(f">{title}" for title in titles), ">any stage"),
        rows=tuple(rows),
        note="After the slash: how many of them were coded from the abstract alone.",
    )


def works_table(drawn: CoverageMap) -> Table:
    """One line a work: what it does with each stage, and what its coding rests on."""
    rows = [
        Row(
            cells=(
                str(row.year),
                row.title,
                EVIDENCE_TITLES[row.evidence],
                *(TREATMENT_MARKS[treatment][0] for _, treatment in row.treatments),
            )
        )
        for row in drawn.works
    ]
    legend = "; ".join(f"{mark} {means}" for mark, _, means in TREATMENT_MARKS.values())
    return Table(
        title="Works and stages",
        columns=_columns(">year", "work", "coded from", *(_SHORT[stage] for stage in LifeStage)),
        rows=tuple(rows),
        note=f"{legend}.",
    )


def evidence_text(drawn: CoverageMap) -> str:
    """What the codings rest on, in one line.

    >>> from stillwatt.literature.corpus import make_corpus
    >>> from stillwatt.literature.coverage import coverage_map
    >>> evidence_text(coverage_map(make_corpus([], [])))
    '0 works'
    """
    parts = [f"{count} {EVIDENCE_TITLES[kind]}" for kind, count in drawn.by_evidence if count]
    return f"{len(drawn.works)} works" + (f", coded from: {', '.join(parts)}" if parts else "")


def range_text(share: ShareRange | None) -> str:
    """A share that lies between two ends.

    >>> range_text(ShareRange(low=0.2, high=0.5)), range_text(None)
    ('20 % to 50 %', '–')
    """
    if share is None:
        return "–"
    low, high = percent_text(share.low), percent_text(share.high)
    return low if low == high else f"{low} to {high}"


def map_figures(drawn: CoverageMap) -> tuple[Figure, ...]:
    """Metric by stage, and work by stage."""
    return _metrics_figure(drawn), _works_figure(drawn)


def _metrics_figure(drawn: CoverageMap) -> Figure:
    values = [
        {
            "metric": METRICS[cell.metric].title,
            "stage": _SHORT[cell.stage],
            "works": cell.works,
            "text": _cell_text(drawn, cell.metric, cell.stage),
            "count": str(cell.works or ""),
            "abstract": str(cell.abstract_only),
            "figures": str(cell.figures),
        }
        for cell in drawn.metrics
    ]
    most = max((cell.works for cell in drawn.metrics), default=0)
    return Figure(
        name="metrics",
        title="Which metrics at which stage",
        caption="Works that quantify a metric at a stage; behind the slash, those coded from the abstract alone. "
        "The darker, the more; empty cells are none. On a narrow page the first number alone.",
        alt=f"Heat map of metrics by life-cycle stage; the fullest cell holds {most} works.",
        panels=(Panel(title="", spec=_count_spec(values, most)),),
        table=metric_table(drawn),
    )


def _works_figure(drawn: CoverageMap) -> Figure:
    values = [
        {
            "work": f"{row.id} (a)" if row.evidence is Evidence.ABSTRACT else row.id,
            "title": row.title,
            "year": str(row.year),
            "stage": _SHORT[stage],
            "treatment": treatment.value,
            "mark": TREATMENT_MARKS[treatment][0],
            "evidence": EVIDENCE_TITLES[row.evidence],
        }
        for row in drawn.works
        for stage, treatment in row.treatments
    ]
    return Figure(
        name="works",
        title="Which works treat which stage",
        caption="One line a work, by year; (a) was coded from the abstract alone. A question mark is no statement: "
        "what was read does not show it.",
        alt=f"Heat map of {len(drawn.works)} works by life-cycle stage.",
        panels=(Panel(title="", spec=_work_spec(values, len(drawn.works))),),
        table=works_table(drawn),
        legend=tuple(
            Swatch(title=f"{mark} {means}", colour=colour) for mark, colour, means in TREATMENT_MARKS.values()
        ),
    )


_STAGE_AXIS = leaning_axis(-30)
_ROOMY_PX = 400
"""From this width on, a cell has room for both its counts."""
_NAME_AXIS = {"title": None, "domain": False, "ticks": False, "labelPadding": 6}


def _count_spec(values: Sequence[Mapping[str, Any]], most: int) -> Spec:
    colour = {"domain": [0, max(most, 1)], "range": [_LIGHT, _DARK], "type": "sqrt"}
    on_dark = {"test": f"datum.works > {max(most, 1) * 0.3}", "value": "#FFFFFF"}
    tooltip = tips(
        ("metric", "metric"),
        ("stage", "stage"),
        ("works", "text"),
        ("from the abstract alone", "abstract"),
        ("figures in the corpus", "figures"),
    )
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "cornerRadius": 2},
            "encoding": {
                "color": {"field": "works", "type": "quantitative", "scale": colour, "legend": None},
                "tooltip": tooltip,
            },
        },
        {
            "mark": {"type": "text"},
            "encoding": {
                "text": {"condition": {"test": f"width >= {_ROOMY_PX}", "field": "text"}, "field": "count"},
                "color": {"condition": on_dark, "value": "#16202B"},
            },
        },
    ]
    axes = {"x": nominal("stage", axis=_STAGE_AXIS), "y": nominal("metric", axis=_NAME_AXIS)}
    return spec(values, layers, height=_ROW_PX * len(CODED_METRICS), encoding=axes)


def _work_spec(values: Sequence[Mapping[str, Any]], works: int) -> Spec:
    scale = {
        "domain": [treatment.value for treatment in TREATMENT_MARKS],
        "range": [colour for _, colour, _ in TREATMENT_MARKS.values()],
    }
    tooltip = tips(("work", "title"), ("year", "year"), ("stage", "stage"), ("it", "treatment"), ("from", "evidence"))
    inks = [
        {"test": "datum.treatment === 'quantified'", "value": "#FFFFFF"},
        {"test": "datum.treatment === 'unknown'", "value": "currentColor"},
    ]
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": "currentColor", "strokeOpacity": 0.35, "strokeWidth": 0.5},
            "encoding": {
                "color": {"field": "treatment", "type": "nominal", "scale": scale, "legend": None},
                "tooltip": tooltip,
            },
        },
        {
            "mark": {"type": "text", "fontSize": 10},
            "encoding": {
                "text": {"field": "mark", "type": "nominal"},
                "color": {"condition": inks, "value": "#16202B"},
            },
        },
    ]
    axes = {"x": nominal("stage", axis=_STAGE_AXIS), "y": nominal("work", axis={**_NAME_AXIS, "labelFontSize": 10})}
    return spec(values, layers, height=_WORK_PX * max(works, 1), encoding=axes)


def map_html(drawn: CoverageMap, statements: Sequence[Statement], chosen: str = "") -> str:
    """The map as one page that needs nothing else; the same map gives the same bytes.

    Args:
        drawn: the map.
        statements: what the papers state, beside what the corpus gives.
        chosen: by what the works were chosen, in words; empty for all.

    Raises:
        MissingExtraError: the template engine is not installed.
    """
    return render_page(
        "literature.html.j2",
        map_figures(drawn),
        map_dict(drawn),
        title=TITLE,
        stages=stage_table(drawn),
        statements=statements,
        meanings=[STAGES[stage] for stage in LifeStage],
        summary=evidence_text(drawn),
        chosen=chosen,
        corpus_hash=drawn.content_hash,
    )


def map_text(drawn: CoverageMap, *, columns: int = 100, is_terminal: bool = False) -> str:
    """The map of stages and metrics for a terminal, as a heat map where it shows colours."""
    from rich.table import Table as Drawn
    from rich.text import Text

    with screen(max(columns, 80), is_terminal=is_terminal, colours="truecolor") as (console, lines):
        console.print(Text(evidence_text(drawn), style="bold"))
        for table in (stage_table(drawn), metric_table(drawn, is_narrow=True)):
            laid = Drawn(title=Text(table.title), title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
            for column in table.columns:
                laid.add_column(Text(column.title), justify="right" if column.is_number else "left", overflow="fold")
            most = max((cell.works for cell in drawn.metrics), default=0) or 1
            for row in table.rows:
                heat = [Text(cell, style=_heat(cell, most)) for cell in row.cells[1:-2]]
                laid.add_row(Text(row.cells[0]), *heat, *(Text(cell) for cell in row.cells[-2:]))
            console.print()
            console.print(laid)
            console.print(Text(table.note, style="dim"))
    return lines()


def _heat(cell: str, most: int) -> str:
    """Background of a count, from light to dark of one hue; the count itself stands in the cell."""
    count = int(cell.partition("/")[0] or 0)
    if not count:
        return ""
    share = min(count / most, 1.0) ** 0.5
    light, dark = ([int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (_LIGHT, _DARK))
    mixed = "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))
    return f"{'white' if share > 0.5 else 'black'} on #{mixed}"


def _cell_text(drawn: CoverageMap, metric: str, stage: LifeStage) -> str:
    cell = drawn.cell(metric, stage)
    if not cell.works:
        return ""
    return f"{cell.works}/{cell.abstract_only}" if cell.abstract_only else str(cell.works)


def _read_whole(drawn: CoverageMap) -> int:
    counts = dict(drawn.by_evidence)
    return counts[Evidence.FULL_TEXT] + counts[Evidence.CARD]


def _columns(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title=title.removeprefix(">"), is_number=title.startswith(">")) for title in titles)
