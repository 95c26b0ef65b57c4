"""`stillwatt analyse`: frontiers and break-evens of many trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import Number, json_option, runs_option
from stillwatt.cli.screen import columns, note, say, say_json, say_prose, width
from stillwatt.errors import UsageError

if TYPE_CHECKING:
    from stillwatt.workflows.analyse import Analysis


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--table", metavar="FILE", help="A CSV table of trainings instead of runs; `paper` is the published one.")
@click.option(
    "--reuse", type=click.IntRange(min=1), multiple=True, metavar="N", help="A further number of students that share."
)
@click.option(
    "--pretraining-kwh",
    type=Number(min=0.0),
    metavar="KWH",
    default=0.0,
    help="Energy of the teacher's own pre-training; left out unless a share of it is given.",
)
@click.option(
    "--pretraining-share",
    type=Number(min=0.0, max=1.0),
    metavar="SHARE",
    default=0.0,
    help="The share of it that each teacher artefact bears, 0 to 1.",
)
@click.option("--pue", type=Number(min=1.0), metavar="X", help="Facility energy over node energy.")
@click.option("--kgco2e-per-kwh", type=Number(min=0.0), metavar="X", help="Carbon of a kWh at the facility.")
@click.option("--water-l-per-kwh", type=Number(min=0.0), metavar="X", help="Litres of water of a kWh.")
@click.option("--price-per-kwh", type=Number(min=0.0), metavar="X", help="Price of a kWh, in any currency.")
@click.option("--html", "html_path", metavar="PATH", help="Also write the answer, with its figures, as one page.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@runs_option
@json_option
@click.pass_context
def analyse(
    context: click.Context,
    runs: tuple[str, ...],
    table: str | None,
    reuse: tuple[int, ...],
    pretraining_kwh: float,
    pretraining_share: float,
    pue: float | None,
    kgco2e_per_kwh: float | None,
    water_l_per_kwh: float | None,
    price_per_kwh: float | None,
    html_path: str | None,
    force: bool,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Compare trainings: frontiers of energy and quality, and when distilling pays.

    Where work ran (--pue and the costs of a kWh) gives frontiers of the facility's energy and of each impact; a table
    may say it row by row.

    RUN is a run's id, the beginning of one, its name, or `latest`; several runs of one arm are its seeds. A sweep's
    folder stands for the runs of its finished trials. A table has the
    columns label, method, student, seed, quality, quality_se, teacher_kwh, student_kwh, other_kwh, throughput; an empty
    cell is unknown.

    A file that --html names is left alone without --force, unless it is such a page.

    Exits with 3 where an energy of a run is not known or not whole.
    """
    from stillwatt.records.comparison import Site
    from stillwatt.workflows.analyse import Pretraining, Wishes, analyse_runs, analyse_table, runs_of_sweep

    if bool(runs) == (table is not None):
        raise UsageError("name runs or a table, one of the two: `stillwatt analyse latest` or `--table points.csv`")
    if bool(pretraining_kwh) != bool(pretraining_share):
        raise UsageError("--pretraining-kwh and --pretraining-share belong together")
    if html_path is not None:
        _refuse_taken(html_path, table, is_forced=force)
    wishes = Wishes(
        reuse=reuse,
        pretraining=Pretraining(energy_kwh=pretraining_kwh, share=pretraining_share),
        site=Site(pue=pue, kgco2e_per_kwh=kgco2e_per_kwh, water_l_per_kwh=water_l_per_kwh, price_per_kwh=price_per_kwh),
    )
    runs, runs_dir = runs_of_sweep(runs, runs_dir)
    found = analyse_table(table, wishes) if table is not None else analyse_runs(runs, runs_dir=runs_dir, wishes=wishes)
    page = None
    if html_path is not None:
        from stillwatt.workflows.figures import write_comparison_page

        # before the answer: its reader may go while it is printed (`| head`), and the command with it
        page = write_comparison_page(found.comparison, html_path)
    _print(found, as_json=as_json)
    if page is not None:
        note(f"page  {page}")
    context.exit(0 if found.complete else 3)


def _refuse_taken(page: str, table: str | None, *, is_forced: bool) -> None:
    from stillwatt.workflows.figures import COMPARISON_TITLE
    from stillwatt.workflows.outputs import refuse_taken

    inputs = [table] if table else []
    refuse_taken(Path(page), is_forced=is_forced, option="--html", inputs=inputs, own=COMPARISON_TITLE)


def _print(found: Analysis, *, as_json: bool) -> None:
    if as_json:
        from stillwatt.report.comparison import comparison_dict

        say_json(comparison_dict(found.comparison))
        return
    from stillwatt.report import verdicts
    from stillwatt.report.comparison_tables import PLUS_MINUS

    comparison = found.comparison
    say_prose(verdicts.whole_title(comparison))
    for rows in (
        verdicts.stage_rows(comparison),
        verdicts.frontier_rows(comparison),
        verdicts.reuse_rows(comparison),
        *verdicts.view_tables(comparison),
        verdicts.unbilled_rows(comparison),
    ):
        if rows:
            say()
            for line in columns(rows, most=width()):
                say(line)
    say()
    if any(front.placed for front in comparison.fronts):
        say_prose(f"* on the frontier, p: how surely{_shared(comparison.reuse_students)}. {PLUS_MINUS}")
    for sentence in (*verdicts.sentences(comparison), *verdicts.view_sentences(comparison)):
        say_prose(sentence)
    for warning in comparison.warnings:
        say_prose(f"note: {warning}")


def _shared(students: int) -> str:
    """What `reuse:N` stands for, where there is such a column."""
    return f"; reuse:{students} is the most students that one method distilled here" if students > 1 else ""
