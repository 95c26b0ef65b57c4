"""`stillwatt ledger …`: look at runs, check them, take them elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import INCOMPLETE, json_option, runs_option
from stillwatt.cli.screen import say, say_json, width

if TYPE_CHECKING:
    from stillwatt.ledger.policy import PolicyView


@click.group()
def ledger() -> None:
    """Look at runs, check them, take them elsewhere.

    RUN is a run's id, the beginning of one, its name (the newest of that name), or `latest`.
    """


@ledger.command("list")
@runs_option
@json_option
def list_runs(runs_dir: str, as_json: bool) -> None:
    """List all runs, newest first."""
    from stillwatt.cli.account import run_dict, run_rows
    from stillwatt.workflows import books

    runs = books.list_runs(runs_dir)
    if as_json:
        say_json([run_dict(run) for run in runs])
        return
    for line in run_rows(runs):
        say(line)
    if not runs:
        say(f"no runs in {runs_dir}; `stillwatt run smoke_cpu` makes one in seconds")


@ledger.command()
@click.argument("run")
@click.option(
    "--policy",
    type=click.Choice(["gross", "net", "marginal"]),
    help="Compute energies anew from the run's own samples: all that was drawn, above idle, or above standing power.",
)
@click.option(
    "--rule",
    type=click.Choice(["even", "process", "utilisation"]),
    help="How ranks share a device that several use at once; accounts the run anew.  [default: process]",
)
@click.option(
    "--verdict",
    is_flag=True,
    help="Also say of each stage whether it was read often enough, for long enough and to within 5 %.",
)
@runs_option
@json_option
@click.pass_context
def show(
    context: click.Context, run: str, policy: str | None, rule: str | None, verdict: bool, runs_dir: str, as_json: bool
) -> None:
    """Show one run: its stages with their energies, and what is not known.

    Exits with 3 where the run's energy is incomplete, or not known under the policy.
    """
    from stillwatt.workflows import books

    if policy is not None and verdict:
        raise click.UsageError("--verdict judges the energies as metered; ask for it without --policy")
    if policy is not None:
        view = books.show_policy(runs_dir, run, policy, rule=rule)
        _show_policy(view, as_json=as_json)
        context.exit(0 if view.complete else INCOMPLETE)
    judged = books.judge(runs_dir, run, rule=rule) if verdict else None
    record = books.show_run(runs_dir, run, rule=rule) if judged is None else judged.record
    if as_json:
        say_json((judged or record).to_dict())
        context.exit(0 if record.complete else INCOMPLETE)
    from stillwatt.cli.account import record_lines
    from stillwatt.cli.verdict import verdict_lines

    for line in (*record_lines(record, most=width()), *(() if judged is None else verdict_lines(judged))):
        say(line)
    context.exit(0 if record.complete else INCOMPLETE)


def _show_policy(view: PolicyView, *, as_json: bool) -> None:
    if as_json:
        say_json(view.to_dict())
        return
    from stillwatt.cli.policy import policy_lines

    for line in policy_lines(view):
        say(line)


@ledger.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN[,RUN…] RUN[,RUN…]...")
@runs_option
@json_option
@click.pass_context
def compare(context: click.Context, runs: tuple[str, ...], runs_dir: str, as_json: bool) -> None:
    """Hold runs against the first of them: energy, time and tokens, and how many times its energy.

    For any measured runs; `stillwatt analyse` is for students, with their teachers and qualities. Runs joined by commas
    are repeats of each other, whose spread is in the interval. The idle machine is left out.

    Exits with 3 where an energy is not known or not whole.
    """
    from stillwatt.workflows import books

    found = books.side_by_side(runs_dir, runs)
    if as_json:
        say_json(found.to_dict())
        context.exit(0 if found.complete else INCOMPLETE)
    from stillwatt.cli.side_by_side import side_lines

    for line in side_lines(found, most=width()):
        say(line)
    context.exit(0 if found.complete else INCOMPLETE)


@ledger.command()
@click.argument("sources", nargs=-1, required=True, metavar="DIR...")
@runs_option
@json_option
@click.pass_context
def post(context: click.Context, sources: tuple[str, ...], runs_dir: str, as_json: bool) -> None:
    """Bring other nodes' runs into this ledger; those of one launch become one run.

    DIR is a run directory, or the folder a node kept its runs in. Doing it again changes nothing. Exits with 1 where a
    file had to be left out.
    """
    from stillwatt.workflows import books

    gathered = books.post(runs_dir, sources)
    if as_json:
        say_json([{**asdict(each), "source": str(each.source)} for each in gathered])
    else:
        for each in gathered:
            count = len(each.files)
            what = f"{count} {'file' if count == 1 else 'files'}" if count else "nothing new"
            say(f"{each.source} -> {each.run_id}{' (new)' if each.is_new else ''}: {what}")
            for problem in each.problems:
                say(f"  {problem}")
    context.exit(1 if any(each.problems for each in gathered) else 0)


@ledger.command()
@runs_option
@json_option
def rebuild(runs_dir: str, as_json: bool) -> None:
    """Drop the ledger and post it anew from the run directories, which are the truth."""
    from stillwatt.workflows import books

    count = books.rebuild(runs_dir)
    if as_json:
        say_json({"runs": count})
        return
    say(f"{count} {'run' if count == 1 else 'runs'} in the ledger of {runs_dir}")


@ledger.command()
@click.argument("run", required=False)
@runs_option
@json_option
@click.pass_context
def verify(context: click.Context, run: str | None, runs_dir: str, as_json: bool) -> None:
    """Check one run, or all, against their own files; changes nothing.

    Exits with 1 where a number may be wrong or a file was changed. What was lost and is said so in the record is a
    warning and exits with 0.
    """
    from stillwatt.cli.account import finding_rows
    from stillwatt.workflows import books

    findings = books.verify(runs_dir, run)
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        for line in finding_rows(findings) or ["everything is as it should be"]:
            say(line)
    context.exit(1 if any(finding.severity.value == "error" for finding in findings) else 0)


@ledger.command()
@click.argument("run")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "jsonl"]),
    required=True,
    help="Kind of file.",
)
@click.option("--out", "out_dir", metavar="PATH", required=True, help="Directory to write to; made if absent.")
@runs_option
@json_option
def export(run: str, form: str, out_dir: str, runs_dir: str, as_json: bool) -> None:
    """Write a run's stages, energies and samples as files for other programs."""
    from stillwatt.workflows import books

    paths = books.export(runs_dir, run, form=form, out=out_dir)
    if as_json:
        say_json({"files": [str(path) for path in paths]})
        return
    for path in paths:
        say(str(path))
