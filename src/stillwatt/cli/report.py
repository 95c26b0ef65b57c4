"""`stillwatt report`: a run's report as files, and its answer on the terminal."""

from __future__ import annotations

import click

from stillwatt.cli.options import json_option, runs_option
from stillwatt.cli.screen import say, say_json


@click.command()
@click.argument("run")
@runs_option
@click.option("--out", "out_dir", metavar="DIR", help="Where to write.  [default: the run's own directory]")
@json_option
def report(run: str, runs_dir: str, out_dir: str | None, as_json: bool) -> None:
    """Write a run's report.html and report.json, and print its answer.

    RUN is a run's id, the beginning of one, its name, or `latest`. The same ledger gives the same bytes.
    """
    from stillwatt.workflows.publish import write_report

    paths = write_report(run, runs_dir=runs_dir, out_dir=out_dir)
    if as_json:
        say_json({"run_id": paths.record.run_id, "html": str(paths.html), "json": str(paths.json)})
        return
    from stillwatt.cli.account import study_text
    from stillwatt.report.forecasts import comparison_line

    say(study_text(paths.record, paths.study))
    if paths.comparison is not None:
        say(comparison_line(paths.comparison))
    say(f"report  {paths.html}")
    say(f"data    {paths.json}")
