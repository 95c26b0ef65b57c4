"""Tables of the corpus, read and checked: works, figures, and the one-row form in which somebody adds a figure.

Which of the three a file is, its header says. Every problem of a file is found in one go.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.errors import suggest
from stillwatt.literature.cells import Cells, Problem
from stillwatt.literature.vocabulary import CODED_METRICS, METRICS, OPERATION, STAGE_NAMES, parse_per
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import (
    Counts,
    Evidence,
    Method,
    PublishedFigure,
    Reach,
    Treatment,
    Work,
    WorkKind,
)
from stillwatt.units import SCALES

_TOLD = ("energy_method", "boundary", "pue", "grid_factor", "water_scope", "embodied_method", "uncertainty")
_TOLD_OF_WORK = (*_TOLD, "functional_unit", "open", "note")
WORK_COLUMNS = (
    *("id", "title", "authors", "year", "kind", "source"),
    *(stage.value for stage in LifeStage),
    *("metrics", *_TOLD, "functional_unit", "open", "evidence", "verified", "note"),
)
FIGURE_COLUMNS = (
    *("id", "work", "subject", "stage", "metric", "value", "low", "high", "written", "unit", "per", "boundary"),
    *("counts", "method", "year", "evidence", "verified", "note"),
)
ADDED_COLUMNS = (
    *("title", "authors", "year", "kind", "source", "subject", "stage", "metric", "value", "low", "high", "unit"),
    *("per", "boundary", "counts", "method", "evidence", "verified", "note"),
)
"""One published figure of one's own choosing, with the work it stands in."""
_MAY_LACK = frozenset({"low", "high", "per", "counts", "verified", "note", "written", "kind", "authors", "method"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a file held: works and figures in the order of its rows, and all that is wrong with it."""

    works: tuple[Work, ...] = ()
    figures: tuple[PublishedFigure, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_table(text: str, path: str, known: Mapping[str, Work] | None = None) -> Table:
    """Read a table of any of the three forms.

    Args:
        text: the file.
        path: what problems call it.
        known: works that figures may belong to, by id; an added figure joins one of the same source or title.
    """
    known = known or {}
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True, restkey="")
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as err:
        return Table(problems=(_whole(path, 1, f"cannot be read as CSV: {err}; save it as 'CSV UTF-8'"),))
    reader.fieldnames = header
    form = _form(header)
    problems = list(_header_problems(path, header, form))
    if problems:
        return Table(problems=tuple(problems))
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as err:
        return Table(problems=(_whole(path, reader.reader.line_num, f"cannot be read as CSV: {err}"),))
    if not rows:
        return Table(problems=(_whole(path, 1, "has a header and no row"),))
    if form is WORK_COLUMNS:
        return _works(path, rows)
    if form is FIGURE_COLUMNS:
        return _figures(path, rows, known)
    return _added(path, rows, known)


def _form(header: Sequence[str]) -> tuple[str, ...]:
    if "work" in header:
        return FIGURE_COLUMNS
    return WORK_COLUMNS if LifeStage.HARDWARE.value in header else ADDED_COLUMNS


def _header_problems(path: str, header: Sequence[str], form: Sequence[str]) -> Iterator[Problem]:
    for name in header:
        if name not in form:
            near = suggest(name, form)
            yield _whole(path, 1, f"unknown column {name!r}; " + (f"did you mean {near!r}?" if near else _known(form)))
    for name in {name for name in header if header.count(name) > 1}:
        yield _whole(path, 1, f"column {name!r} stands there twice")
    missing = [name for name in form if name not in header and not (form is ADDED_COLUMNS and name in _MAY_LACK)]
    if missing:
        yield _whole(path, 1, f"no column {', '.join(missing)}; " + _known(form))


def _known(form: Sequence[str]) -> str:
    return f"a row has {', '.join(form)}"


def _whole(path: str, line: int, message: str) -> Problem:
    return Problem(path=path, line=line, column="", message=message)


def _cells(path: str, line: int, row: Mapping[str, str]) -> Cells:
    cells = Cells(path, line, row)
    if row.get(""):
        cells.complain("", "more cells than the header has names; quote cells that hold commas")
    if None in row.values():
        cells.complain("", "fewer cells than the header has names; leave a cell empty where there is nothing to say")
    return cells


def _works(path: str, rows: Iterable[tuple[int, Mapping[str, str]]]) -> Table:
    works: dict[str, Work] = {}
    problems: list[Problem] = []
    for line, row in rows:
        cells = _cells(path, line, row)
        work = _work(cells)
        if work.id in works:
            cells.complain("id", f"{work.id!r} stands there twice")
        works[work.id] = work
        problems += cells.problems
    return Table(works=tuple(works.values()), problems=tuple(problems))


def _work(cells: Cells) -> Work:
    treatments = tuple((stage, cells.needed_word(stage.value, Treatment)) for stage in LifeStage)
    metrics = _metrics(cells)
    coded = {stage for stage, _ in metrics}
    quantified = {stage for stage, treatment in treatments if treatment is Treatment.QUANTIFIED}
    for stage in sorted(coded ^ quantified):
        cells.complain("metrics", f"{stage}: a stage is quantified where it has a metric, and only there")
    told = {name: cells.text(name) for name in _TOLD_OF_WORK}
    return Work(
        id=cells.text("id", required=True),
        title=cells.text("title", required=True),
        authors=cells.text("authors", required=True),
        year=cells.year("year"),
        kind=cells.needed_word("kind", WorkKind),
        source=cells.source("source"),
        treatments=treatments,
        metrics=metrics,
        evidence=cells.needed_word("evidence", Evidence),
        verified=cells.claim("verified"),
        **told,
    )


def _metrics(cells: Cells) -> tuple[tuple[LifeStage, tuple[str, ...]], ...]:
    """`training:energy|co2e; deployment:energy`; `none` or `unknown` where there is nothing or nothing is seen."""
    text = cells.text("metrics")
    if text in ("none", "unknown", ""):
        return ()
    found: dict[LifeStage, tuple[str, ...]] = {}
    for part in text.split(";"):
        stage, _, names = part.strip().partition(":")
        if stage not in STAGE_NAMES:
            cells.unknown("metrics", stage, STAGE_NAMES)
            continue
        for name in names.split("|"):
            if name not in CODED_METRICS:
                cells.unknown("metrics", name, CODED_METRICS)
        named = {*found.get(STAGE_NAMES[stage], ()), *names.split("|")}
        found[STAGE_NAMES[stage]] = tuple(sorted(named & set(CODED_METRICS)))
    return tuple((stage, found[stage]) for stage in LifeStage if stage in found)


def _figures(path: str, rows: Iterable[tuple[int, Mapping[str, str]]], known: Mapping[str, Work]) -> Table:
    figures: dict[str, PublishedFigure] = {}
    problems: list[Problem] = []
    for line, row in rows:
        cells = _cells(path, line, row)
        work = cells.text("work", required=True)
        if work and work not in known:
            cells.unknown("work", work, known)
        figure = _figure(cells, cells.text("id", required=True), work)
        if figure.id in figures:
            cells.complain("id", f"{figure.id!r} stands there twice")
        figures[figure.id] = figure
        problems += cells.problems
    return Table(figures=tuple(figures.values()), problems=tuple(problems))


def _figure(cells: Cells, name: str, work: str) -> PublishedFigure:
    metric = cells.text("metric", required=True)
    if metric and metric not in METRICS:
        cells.unknown("metric", metric, METRICS)
    value, low, high = (cells.number(column) for column in ("value", "low", "high"))
    written = cells.text("written")
    if value is None and low is None and high is None and not written:
        cells.complain("value", "no value, nor low and high")
    if low is not None and high is not None and low > high:
        cells.complain("low", f"{low:g} lies above high {high:g}")
    if value is not None and not (low or 0.0) <= value <= (value if high is None else high):
        cells.complain("value", f"{value:g} lies outside low and high")
    unit = cells.text("unit", required=True)
    _check_unit(cells, metric, unit)
    if parse_per(cells.text("per")).count == 0.0:
        cells.complain("per", f"{cells.text('per')!r} is per nothing at all; leave it empty for a total")
    return PublishedFigure(
        id=name,
        work=work,
        subject=cells.text("subject", required=True),
        stages=cells.stages("stage"),
        metric=metric,
        value=value,
        low=low,
        high=high,
        written=written,
        unit=unit,
        per=cells.text("per"),
        reach=_reach(cells, metric),
        counts=_counts(cells, metric),
        method=cells.word("method", Method, Method.REPORTED),
        year=cells.year("year"),
        evidence=cells.needed_word("evidence", Evidence),
        verified=cells.claim("verified"),
        note=cells.text("note"),
    )


def _check_unit(cells: Cells, metric: str, unit: str) -> None:
    if not unit:
        return
    if unit not in SCALES:
        cells.unknown("unit", unit, SCALES)
        return
    wanted = METRICS[metric].dimension if metric in METRICS else ""
    if wanted and SCALES[unit].dimension != wanted:
        fitting = ", ".join(name for name, scale in SCALES.items() if scale.dimension == wanted)
        cells.complain("unit", f"{unit} is of {SCALES[unit].dimension} and {metric} of {wanted}; write {fitting}")


def _reach(cells: Cells, metric: str) -> Reach | None:
    if metric in METRICS and METRICS[metric].has_reach:
        return cells.needed_word("boundary", Reach)
    return cells.word("boundary", Reach, Reach.UNSTATED) if cells.text("boundary") else None


def _counts(cells: Cells, metric: str) -> Counts | None:
    text = cells.text("counts")
    allowed = METRICS[metric].counts if metric in METRICS else ()
    if not text:
        is_of_operation = cells.text("boundary") in {reach.value for reach in OPERATION}
        return Counts.UNSTATED if allowed and is_of_operation else None
    if text not in {one.value for one in allowed}:
        cells.unknown("counts", text, [one.value for one in allowed] or [f"nothing for {metric}"])
        return None
    return Counts(text)


def _added(path: str, rows: Iterable[tuple[int, Mapping[str, str]]], known: Mapping[str, Work]) -> Table:
    by_source = {_plain(work.source): work for work in known.values()}
    by_title = {_plain(work.title): work for work in known.values()}
    works: dict[str, Work] = {}
    figures: list[PublishedFigure] = []
    problems: list[Problem] = []
    for line, row in rows:
        cells = _cells(path, line, row)
        title, source = cells.text("title", required=True), cells.source("source")
        found = by_source.get(_plain(source)) or by_title.get(_plain(title))
        work = found or _new_work(cells, title, source, {*known, *works})
        if found is not None and not cells.text("year"):
            cells.said = {**row, "year": str(found.year)}
        figure = _figure(cells, f"added/{work.id}/{line}", work.id)
        works[work.id] = _with_figure(works.get(work.id, work), figure)
        by_source[_plain(source)] = by_title[_plain(title)] = works[work.id]
        figures.append(figure)
        problems += cells.problems
    return Table(works=tuple(works.values()), figures=tuple(figures), problems=tuple(problems))


def _new_work(cells: Cells, title: str, source: str, taken: Container[str]) -> Work:
    name = re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-")[:40]
    if f"added-{name}" in taken or not name:
        name = f"{name}-{hashlib.sha256(_plain(source).encode()).hexdigest()[:8]}".lstrip("-")
    return Work(
        id=f"added-{name}",
        title=title,
        authors=cells.text("authors") or "not given",
        year=int(year) if (year := cells.text("year")).isdecimal() else 0,
        kind=cells.word("kind", WorkKind, WorkKind.PAPER),
        source=source,
        treatments=tuple((stage, Treatment.UNKNOWN) for stage in LifeStage),
        metrics=(),
        evidence=cells.word("evidence", Evidence, Evidence.RECALLED),
        verified=cells.text("verified") == "yes",
        note=f"added by {cells.path}; only the stages of its added figures are coded",
    )


def _with_figure(work: Work, figure: PublishedFigure) -> Work:
    """The work with the stages of one more figure coded; what its coding rests on stays the weaker of the two."""
    if figure.metric not in CODED_METRICS:
        return work
    quantified = {stage: (*names, figure.metric) for stage, names in work.metrics if stage in figure.stages}
    coded = dict(work.metrics) | {stage: quantified.get(stage, (figure.metric,)) for stage in figure.stages}
    order = list(Evidence)
    return replace(
        work,
        treatments=tuple((s, Treatment.QUANTIFIED if s in figure.stages else t) for s, t in work.treatments),
        metrics=tuple((stage, tuple(sorted(set(coded[stage])))) for stage in LifeStage if stage in coded),
        evidence=max(work.evidence, figure.evidence, key=order.index),
    )


def _plain(text: str) -> str:
    """A source or title for comparing: without case, scheme, `www.`, version of a preprint and closing slash."""
    bare = re.sub(r"^https?://(www\.)?", "", text.strip().casefold()).rstrip("/")
    return re.sub(r"(arxiv\.org/)(pdf|abs)/([\d.]+?)(v\d+)?(\.pdf)?$", r"\1abs/\3", bare)
