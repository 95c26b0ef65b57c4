"""`stillwatt account`: runs at a place to a life-cycle account over eight stages, its pages, and one computed anew."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.factors import factor_options
from stillwatt.cli.options import INCOMPLETE, Number, json_option, refuse_beside_report, runs_option
from stillwatt.cli.screen import note, say

if TYPE_CHECKING:
    from stillwatt.workflows.account import Wanted

_OUTPUTS = {"-o": "out", "--html": "html", "--markdown": "markdown"}
_OF_A_SAVED_REPORT = {"runs", "runs_dir", "force", "as_json", *_OUTPUTS.values()}
"""What can be asked for where nothing is computed."""


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1)
@click.option("--region", metavar="PLACE", default="", help="Where the work ran, by any usual name: FRA, Texas, SE3.")
@click.option("--provider", metavar="NAME", default="", help="Who runs the data centre: its PUE, WUE and contracts.")
@click.option("--cloud-region", metavar="NAME", default="", help="A provider's region, e.g. aws/us-east-1.")
@click.option("--grid", metavar="SOURCE[:ZONE]", default="", help="Ask a live grid for the runs' own hours.")
@click.option("--student", metavar="ARM", help="The arm that was kept; what others alone needed was tried.")
@click.option("--stage", "stages", metavar="NAME=STAGE", multiple=True, help="Book the stage of that name elsewhere.")
@click.option("--device", "devices", metavar="[ROLE:]NAME[*COUNT]", multiple=True, help="A device that was held.")
@click.option("--machine", metavar="sockets=N[,…]", help="The host: sockets=2,memory=512,disk=2000 in gigabytes.")
@click.option("--downloaded", metavar="NAME=GB", multiple=True, help="Something that was fetched, e.g. text=0.4.")
@click.option("--stored", metavar="NAME=GB", multiple=True, help="Something more that is kept, e.g. corpus=120.")
@click.option("--drive", type=click.Choice(["ssd", "hdd"]), default="ssd", show_default=True, help="Where it is kept.")
@click.option("--keep-days", type=Number(min=0.0), default=365.0, show_default=True, help="For how long it is kept.")
@click.option("--lifetime", metavar="YEARS", help="Years in service of devices, or LOW..HIGH.")
@click.option(
    "--time",
    "time_share",
    type=click.Choice(["calendar", "busy"]),
    default="calendar",
    show_default=True,
    help="Which time devices are charged for.",
)
@click.option("--charge-idle", is_flag=True, help="Charge the fleet's idle hours to the work.")
@click.option("--no-hydro", is_flag=True, help="Charge what evaporates from reservoirs to nothing.")
@click.option("--pretraining", metavar="SPEC", default="excluded", help="ENERGY,use:N|tokens:A/B,BOUNDARY or excluded.")
@click.option("--serving", metavar="SPEC", help="TOKENS_PER_DAY,DAYS[,ledger|0.4J,BOUNDARY|ecologits:ACTIVE/TOTAL].")
@click.option(
    "--request-tokens", type=Number(min=0.0, min_open=True), help="Tokens of a request, for impacts per 1,000 requests."
)
@click.option("--draws", type=click.IntRange(100, 1_000_000), default=10_000, show_default=True, help="Random draws.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--recompute", metavar="FILE", help="Compute a report anew from its own inputs; 1 where it differs.")
@click.option("-o", "--out", metavar="FILE", help="Write the report there as JSON.")
@click.option("--html", metavar="PATH", help="Also write the report, with its figures, as one page; prints as PDF.")
@click.option("--markdown", metavar="PATH", help="Also write the report as Markdown.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@factor_options
@runs_option
@json_option
@click.pass_context
def account(context: click.Context, /, **asked: Any) -> None:
    """Account for runs over the eight stages of a life cycle.

    RUN is a run's id, the beginning of one, its name, or `latest`; or the file of one saved report, anybody's, which is
    shown and written as it is. Every cell of stage and impact has a status; what
    is not counted is never 0 and is named beside the total that it is missing from. Exits with 3 where a metered
    energy is not known or not whole. A file that is there is left alone without --force, unless it is such a page.
    """
    paths = _paths(asked)
    out = paths["-o"]
    if asked["recompute"]:
        context.exit(_recompute(asked["recompute"], paths))
    if not asked["runs"]:
        raise click.UsageError("name a run (`stillwatt ledger list`), or give --recompute FILE")
    from stillwatt.report.data import report_json
    from stillwatt.workflows.account import energy_is_whole
    from stillwatt.workflows.outputs import write_whole

    data = _report(context, asked)
    text = report_json(data)
    if out is not None:
        write_whole(out, text)
    pages = _write_pages(data, paths)  # before the answer, whose reader may go while it is printed
    if asked["as_json"]:
        click.echo(text, nl=False)
    else:
        say(_text(data))
        if out is not None:
            say(f"report  {out}")
    for line in pages:
        note(line)
    context.exit(0 if energy_is_whole(data) else INCOMPLETE)


def _wanted(asked: dict[str, Any]) -> Wanted:
    from stillwatt.config import account_options as options
    from stillwatt.records.lifecycle import TimeShare
    from stillwatt.workflows.account import Wanted

    return Wanted(
        region=asked["region"],
        provider=asked["provider"],
        cloud_region=asked["cloud_region"],
        factor_files=asked["files"],
        overrides=asked["overrides"],
        student=asked["student"],
        stages=dict(options.parse_stage(text) for text in asked["stages"]),
        devices=tuple(options.parse_device(text) for text in asked["devices"]),
        machine=options.parse_machine(asked["machine"]) if asked["machine"] else None,
        downloaded=tuple(options.parse_downloaded(text) for text in asked["downloaded"]),
        stored=tuple(options.parse_stored(text) for text in asked["stored"]),
        drive=asked["drive"],
        keep_days=options.parse_positive(asked["keep_days"], "--keep-days"),
        lifetime=options.parse_range(asked["lifetime"], ("",), "--lifetime")[0] if asked["lifetime"] else None,
        time_share=TimeShare(asked["time_share"]),
        charge_idle=asked["charge_idle"],
        charge_hydro=not asked["no_hydro"],
        pretraining=options.parse_pretraining(asked["pretraining"]),
        serving=options.parse_serving(asked["serving"]) if asked["serving"] else None,
        request_tokens=(
            options.parse_positive(asked["request_tokens"], "--request-tokens")
            if asked["request_tokens"] is not None
            else None
        ),
        draws=asked["draws"],
        seed=asked["seed"],
        grid=asked["grid"],
    )


def _report(context: click.Context, asked: dict[str, Any]) -> dict[str, Any]:
    """The account of runs, or a saved report as it is."""
    from stillwatt.workflows.account import account as account_for
    from stillwatt.workflows.lifecycle_pages import is_saved, saved_report

    files = [reference for reference in asked["runs"] if is_saved(reference)]
    if not files:
        return account_for(asked["runs"], _wanted(asked), runs_dir=asked["runs_dir"])
    if len(asked["runs"]) > 1:
        raise click.UsageError(f"{files[0]} is a saved report, and stands alone: name it, or runs")
    refuse_beside_report(context, files[0], _OF_A_SAVED_REPORT)
    return saved_report(files[0])


def _paths(asked: dict[str, Any]) -> dict[str, Path | None]:
    """Where to write what, with nothing written over unasked, and nothing that is read at all."""
    from stillwatt.workflows.lifecycle_pages import LIFECYCLE_TITLE
    from stillwatt.workflows.outputs import refuse_taken

    paths = {option: Path(asked[name]) if asked[name] else None for option, name in _OUTPUTS.items()}
    named = [path for path in paths.values() if path is not None]
    if len(set(named)) < len(named):
        raise click.UsageError("-o, --html and --markdown need a file each")
    inputs = [*asked["runs"], *asked["files"], *([asked["recompute"]] if asked["recompute"] else [])]
    for option, path in paths.items():
        if path is not None:
            own = LIFECYCLE_TITLE if option == "--html" else ""  # JSON and Markdown are edited by hand, and kept
            refuse_taken(path, is_forced=asked["force"], option=option, inputs=inputs, own=own)
    return paths


def _write_pages(data: dict[str, Any], paths: dict[str, Path | None]) -> list[str]:
    """Write the pages that were asked for; gives a line on each."""
    if paths["--html"] is None and paths["--markdown"] is None:
        return []
    from stillwatt.workflows.lifecycle_pages import write_pages

    return [f"{what}  {path}" for what, path in write_pages(data, html=paths["--html"], markdown=paths["--markdown"])]


def _recompute(path: str, paths: dict[str, Path | None]) -> int:
    import json

    from stillwatt.workflows.account import recompute
    from stillwatt.workflows.outputs import write_whole

    text, differs = recompute(path)
    out, pages = paths["-o"], _write_pages(json.loads(text), paths)
    if out is not None:
        write_whole(out, text)
    else:
        click.echo(text, nl=False)
    for line in pages:
        note(line)
    if differs:
        note(f"{path}: differs from what its inputs give, first at {differs}")
        return 1
    note(f"{path}: its inputs give the same bytes")
    return 0


def _text(data: dict[str, Any]) -> str:
    from stillwatt.report.lifecycle_text import COLUMNS, lifecycle_text

    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((COLUMNS, 24)).columns
    return lifecycle_text(data, columns=width, is_terminal=is_terminal).rstrip("\n")
