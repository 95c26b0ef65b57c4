"""Figures and tables of a run, a table or a saved comparison as files for papers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import ConfigError, NoSuchInputError, UnknownNameError, UsageError
from stillwatt.workflows.outputs import refuse_taken
from stillwatt.workflows.publish import write_whole

if TYPE_CHECKING:
    from stillwatt.records.comparison import Comparison
    from stillwatt.report.figure import Figure
    from stillwatt.report.tables import Table

COMPARISON_SCHEMA = "stillwatt.comparison/1"
FORECAST_SCHEMA = "stillwatt.forecast/1"
REPORT_SCHEMA = "stillwatt.report/1"
COMPARISON_TITLE = " · Stillwatt comparison"
"""What the title of a comparison's page ends in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a source can show."""

    figures: tuple[Figure, ...]
    tables: dict[str, Table]
    complete: bool = True
    """Whether every energy in it is whole."""


def from_table(table: str | Path) -> Drawn:
    """The figures of a CSV table of trainings, or of `paper`.

    Raises:
        NoSuchInputError: There is no such file.
        ConfigError: The table cannot be used; names the line.
        MissingExtraError: SciPy or moocore is not installed.
    """
    from stillwatt.report.comparison import comparison_dict
    from stillwatt.workflows.analyse import analyse_table

    return _comparison(comparison_dict(analyse_table(table).comparison))


def from_runs(references: Sequence[str], *, runs_dir: str | Path) -> Drawn:
    """The figures of one run's report, or those of the comparison of several runs.

    Raises:
        RunNotFoundError: No such run.
        UsageError: A run is named twice, or none has an arm.
        MissingExtraError: SciPy or moocore is not installed, for several runs.
    """
    if len(references) > 1:
        from stillwatt.report.comparison import comparison_dict
        from stillwatt.workflows.analyse import analyse_runs

        found = analyse_runs(references, runs_dir=runs_dir)
        drawn = _comparison(comparison_dict(found.comparison))
        return Drawn(figures=drawn.figures, tables=drawn.tables, complete=found.complete)
    from stillwatt.report.data import report_dict
    from stillwatt.workflows.books import show_run
    from stillwatt.workflows.publish import summarise_run

    record = show_run(runs_dir, references[0])
    drawn = _report(report_dict(record, summarise_run(record, runs_dir=runs_dir)))
    return Drawn(figures=drawn.figures, tables=drawn.tables, complete=record.complete)


def from_file(path: Path) -> Drawn:
    """The figures of what `analyse --json`, `report` or a forecast saved as JSON.

    Raises:
        NoSuchInputError: There is no such file.
        ConfigError: It is none of these.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise NoSuchInputError(
            "comparison", str(path), "`stillwatt analyse … --json > comparison.json` makes one"
        ) from err
    except (ValueError, OSError) as err:
        raise ConfigError(str(path), f"cannot be read as JSON: {err}") from err
    makers = {COMPARISON_SCHEMA: _comparison, REPORT_SCHEMA: _report, FORECAST_SCHEMA: _forecast}
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema not in makers:
        raise ConfigError(str(path), f"its schema is {schema!r}; figures are made of {', '.join(makers)}")
    try:
        return makers[schema](data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
        raise ConfigError(str(path), f"it is not a whole {schema}: {type(err).__name__} {err}; write it anew") from err


def _comparison(data: dict[str, Any]) -> Drawn:
    from stillwatt.report import comparison_tables
    from stillwatt.report.comparison_figures import comparison_figures
    from stillwatt.report.data import writable

    known = writable(data)
    figures = comparison_figures(known)
    tables = {
        "frontier": comparison_tables.frontier_table(known),
        "students": comparison_tables.reuse_table(known),
        "bills": comparison_tables.stages_table(known),
    }
    return Drawn(figures=figures, tables={**tables, **{figure.name: figure.table for figure in figures}})


def _report(data: dict[str, Any]) -> Drawn:
    from stillwatt.report.figures import build_figures
    from stillwatt.report.tables import stage_table

    figures = build_figures(data)
    tables = {"stages": stage_table(data)}
    return Drawn(figures=figures, tables={**tables, **{figure.name: figure.table for figure in figures}})


def _forecast(data: dict[str, Any]) -> Drawn:
    from stillwatt.report.figure_forecast import forecast_figure, forecast_table, read_foretold

    entries = read_foretold(data["entries"])
    words = {"quantity": str(data.get("quantity", "energy")), "unit": str(data.get("unit", "kWh"))}
    figure = forecast_figure(entries, **words)
    return Drawn(figures=(figure,) if figure else (), tables={"forecast": forecast_table(entries, **words)})


def write_figures(
    drawn: Drawn,
    out_dir: str | Path,
    *,
    form: str,
    only: Sequence[str] = (),
    tables: str | None = None,
    is_forced: bool = False,
    inputs: Sequence[str | Path] = (),
) -> tuple[Path, ...]:
    """Write every panel of the figures, and the tables if asked for; each file appears whole or not at all.

    Args:
        drawn: What there is.
        out_dir: Where to; made if absent.
        form: `svg`, `png`, `pdf` or `json` (the Vega-Lite spec).
        only: Names of figures; all where empty.
        tables: `tex`, `csv` or `md`, or None for no tables.
        is_forced: Whether files that are there, and hold something else, are written over.
        inputs: Files that were read; never written over.

    Returns:
        The files written.

    Raises:
        FileExistsAlreadyError: One of the files is there already; none is written.
        ConfigError: A file stands where the folder is to be, or a folder or an input where a file is to be.
        UnknownNameError: There is no figure of a name in `only`.
        UsageError: There is nothing to draw.
        MissingDrawerError: vl-convert-python is not installed and the form needs it.
    """
    names = {figure.name for figure in drawn.figures} | (set(drawn.tables) if tables else set())
    for name in only:
        if name not in names:
            raise UnknownNameError("figure", name, names)
    if not names:
        raise UsageError("there is nothing to draw here: no label has the numbers that a figure needs")
    files = list(_contents(drawn, form, set(only) or names, tables))
    folder = Path(out_dir)
    refuse_taken(folder, is_forced=True, is_folder=True)
    for name, content in files:
        is_there = _holds(folder / name, content)
        refuse_taken(folder / name, is_forced=is_forced or is_there, inputs=() if is_there else inputs)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        write_whole(folder / name, content)
    return tuple(folder / name for name, _ in files)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _contents(drawn: Drawn, form: str, wanted: set[str], tables: str | None) -> Iterator[tuple[str, bytes]]:
    from stillwatt.report.drawing import draw, printable
    from stillwatt.report.table_text import table_text

    for figure in drawn.figures:
        if figure.name in wanted:
            for number, panel in enumerate(figure.panels, start=1):
                place = f"-{number}" if len(figure.panels) > 1 else ""
                yield f"{figure.name}{place}.{form}", draw(printable(figure, panel), form)
    if tables:
        for name, table in drawn.tables.items():
            if name in wanted:
                yield f"{name}.{tables}", table_text(table, tables).encode()


def write_comparison_page(found: Comparison, path: str | Path) -> Path:
    """Write a comparison as one self-contained page.

    Args:
        found: The comparison.
        path: The file; its folder must be there.

    Raises:
        MissingExtraError: The template engine is not installed.
        ConfigError: A folder stands there.
        StillwattError: The file cannot be written.
    """
    from stillwatt.report.comparison_html import comparison_html

    target = Path(path)
    refuse_taken(target, is_forced=True, option="--html")
    write_whole(target, comparison_html(found).encode())
    return target
