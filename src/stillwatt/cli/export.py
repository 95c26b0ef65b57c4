"""`stillwatt export`: a run's life-cycle report in another format, and the list of what was lost on the way."""

from __future__ import annotations

from dataclasses import asdict

import click

from stillwatt.cli.factors import factor_options
from stillwatt.cli.options import INCOMPLETE, json_option, refuse_beside_report, runs_option
from stillwatt.cli.screen import note, say, say_json

_MOST_LOSSES = 3
"""What is lost, told on the terminal; the file beside the export has all of it."""
_OF_A_SAVED_REPORT = {"source", "form", "out", "spec_version", "details", "force", "runs_dir", "as_json"}
"""What can be asked for where nothing is computed."""
_FORMATS = ("cyclonedx", "spdx", "huggingface", "boamps", "sci", "eu-gpai", "rocrate", "opentelemetry")


@click.command()
@click.argument("source", metavar="RUN|REPORT.json")
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True, help="What to write.")
@click.option("-o", "--out", metavar="PATH", required=True, help="File, or folder for rocrate.")
@click.option(
    "--spec-version", type=click.Choice(["1.6", "1.7"]), default="1.6", show_default=True, help="CycloneDX's."
)
@click.option("--detail", "details", metavar="KEY=VALUE", multiple=True, help="What no report holds, e.g. model=NAME.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--region", metavar="PLACE", default="", help="Of a run: where it ran.")
@click.option("--cloud-region", metavar="NAME", default="", help="Of a run: a provider's region.")
@click.option("--student", metavar="ARM", help="Of a run: the arm that was kept.")
@click.option("--grid", metavar="SOURCE[:ZONE]", default="", help="Of a run: ask a live grid for its own hours.")
@factor_options
@runs_option
@json_option
@click.pass_context
def export(
    context: click.Context,
    source: str,
    form: str,
    out: str,
    spec_version: str,
    details: tuple[str, ...],
    force: bool,
    region: str,
    cloud_region: str,
    student: str | None,
    grid: str,
    files: tuple[str, ...],
    overrides: tuple[str, ...],
    runs_dir: str,
    as_json: bool,
) -> None:
    """Write a life-cycle report as CycloneDX, SPDX, model card, BoAmps, SCI, EU form, RO-Crate or OTLP metrics.

    Takes the report that `stillwatt account -o` wrote, or makes one of a run. What the format cannot carry is in
    PATH.losses.json, and the first of it on stderr. A file that is there is left alone without --force; of a model card
    only the own section and co2_eq_emissions change. Exits with 3 where a metered energy is not known or not whole.

    Details: model, version, organisation, base_model, licence, release_date, model_hash, parameters, training_flop,
    compute_methodology, inference_flop, inference_task, infrastructure.
    """
    from stillwatt.clock import SystemClock, iso_utc
    from stillwatt.config.export_details import parse_details
    from stillwatt.workflows.account import Wanted, energy_is_whole
    from stillwatt.workflows.export import export as write_export
    from stillwatt.workflows.export import report_of
    from stillwatt.workflows.lifecycle_pages import is_saved

    if is_saved(source):
        refuse_beside_report(context, source, _OF_A_SAVED_REPORT)
    said = parse_details(details, created_utc=iso_utc(SystemClock().utc_ns()))
    wanted = Wanted(
        region=region, cloud_region=cloud_region, student=student, grid=grid, factor_files=files, overrides=overrides
    )
    report = report_of(source, wanted, runs_dir=runs_dir)
    inputs = (source, *files)
    written = write_export(report, form, out, said, version=spec_version, is_forced=force, inputs=inputs)
    for loss in written.losses[:_MOST_LOSSES]:
        note(f"lost: {loss.what}{f' ({loss.path})' if loss.path else ''}: {loss.why}")
    if len(written.losses) > _MOST_LOSSES:
        note(f"… and {len(written.losses) - _MOST_LOSSES} more, all in {written.losses_path}")
    if written.note:
        note(written.note)
    if as_json:
        said_json = {
            "format": form,
            "path": str(written.path),
            "losses_path": str(written.losses_path),
            "validated_by": written.validated_by or None,
            "losses": [asdict(loss) for loss in written.losses],
        }
        say_json(said_json)
    else:
        checked = f", checked by {written.validated_by}" if written.validated_by else ""
        say(f"{written.path}{checked}; {len(written.losses)} losses in {written.losses_path}")
    context.exit(0 if energy_is_whole(report) else INCOMPLETE)
