"""`stillwatt report`: a run's report as files, and its answer on the terminal."""

from __future__ import annotations

import click

from stillwatt.cli.options import INCOMPLETE, json_option, runs_option
from stillwatt.cli.screen import say, say_json, say_prose


@click.command()
@click.argument("run")
@runs_option
@click.option("--out", "out_dir", metavar="DIR", help="Where to write.  [default: the run's own directory]")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_option
@click.pass_context
def report(context: click.Context, run: str, runs_dir: str, out_dir: str | None, force: bool, as_json: bool) -> None:
    """Write a run's report.html and report.json, and print its answer.

    RUN is a run's id, the beginning of one, its name, or `latest`. The same ledger gives the same bytes. A file
    that is there is left alone without --force, unless it is such a report. Exits with 3 where the run's energy is
    incomplete.
    """
    from stillwatt.workflows.publish import write_report

    paths = write_report(run, runs_dir=runs_dir, out_dir=out_dir, is_forced=force)
    if as_json:
        say_json({"run_id": paths.record.run_id, "html": str(paths.html), "json": str(paths.json)})
        context.exit(0 if paths.record.complete else INCOMPLETE)
    from stillwatt.cli.account import study_text
    from stillwatt.report.forecasts import comparison_line

    say(study_text(paths.record, paths.study))
    if paths.comparison is not None:
        say_prose(comparison_line(paths.comparison))
    say(f"report  {paths.html}")
    say(f"data    {paths.json}")
    context.exit(0 if paths.record.complete else INCOMPLETE)
