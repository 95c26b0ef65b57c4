"""`stillwatt figures`: figures and tables for papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import json_option, runs_option
from stillwatt.cli.screen import say, say_json
from stillwatt.errors import UsageError

if TYPE_CHECKING:
    from stillwatt.workflows.figures import Drawn


@click.command()
@click.argument("sources", nargs=-1, metavar="[RUN|FILE.json]...")
@click.option("--table", metavar="FILE", help="A CSV table of trainings instead of runs; `paper` is the published one.")
@click.option("-o", "--out", "out_dir", metavar="DIR", required=True, help="Where to write; made if absent.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["svg", "png", "pdf", "json"]),
    default="svg",
    show_default=True,
    help="`json` is the Vega-Lite spec and needs no library.",
)
@click.option("--only", metavar="NAME[,NAME…]", help="Of the figures and tables, these alone.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--tables", type=click.Choice(["tex", "csv", "md"]), help="Also write the tables behind the figures.")
@runs_option
@json_option
@click.pass_context
def figures(
    context: click.Context,
    sources: tuple[str, ...],
    table: str | None,
    out_dir: str,
    form: str,
    only: str | None,
    tables: str | None,
    force: bool,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Draw figures for papers, and write their tables, from a run, several runs, a table or a saved comparison.

    One RUN gives the figures of its report; several are compared. FILE.json is what `analyse --json` or `report` wrote.
    Each panel is a file of its own, in ink on white, with its legend. Where a file of its name is there
    and holds something else, nothing is written without --force.

    Exits with 3 where an energy is not known or not whole.
    """
    from stillwatt.workflows.figures import write_figures
    from stillwatt.workflows.outputs import refuse_taken

    if bool(sources) == (table is not None):
        raise UsageError("name runs, a JSON file or a table, one of the three: `stillwatt figures latest -o figures`")
    names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
    if only is not None and not names:
        raise UsageError("--only names at least one figure, for example frontier")
    refuse_taken(Path(out_dir), is_forced=True, is_folder=True)
    drawn = _drawn(sources, table, runs_dir)
    read = [source for source in (*sources, table) if source is not None]
    paths = write_figures(drawn, out_dir, form=form, only=names, tables=tables, is_forced=force, inputs=read)
    if as_json:
        say_json({"files": [str(path) for path in paths]})
    else:
        for path in paths:
            say(str(path))
    context.exit(0 if drawn.complete else 3)


def _drawn(sources: tuple[str, ...], table: str | None, runs_dir: str) -> Drawn:
    from stillwatt.workflows.figures import from_file, from_runs, from_table

    if table is not None:
        return from_table(table)
    saved = [source for source in sources if source.endswith(".json")]
    if saved and len(sources) > 1:
        raise UsageError(f"{saved[0]} is drawn by itself; name one file, or runs")
    return from_file(Path(sources[0])) if saved else from_runs(sources, runs_dir=runs_dir)
