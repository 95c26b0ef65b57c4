"""`stillwatt plan RECIPE`: what a recipe would take, before a joule is spent; and afterwards, how right that was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import json_option, runs_option, set_option
from stillwatt.cli.screen import columns, say, say_json
from stillwatt.config.amounts import parse_amount
from stillwatt.errors import UsageError

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.workflows.plan import Probing


def seconds_of(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Seconds of an option such as `30s`."""
    if value is None:
        return None
    try:
        amount = parse_amount(value)
    except ValueError as err:
        raise click.BadParameter(str(err)) from err
    if amount.unit != "s" or amount.value <= 0.0:
        raise click.BadParameter(f"{value!r} is no length of time; write it as in '30s' or '5 min'")
    return amount.value


@click.command()
@click.argument("recipe")
@runs_option
@set_option
@click.option(
    "--probe",
    "probe_s",
    metavar="TIME",
    callback=seconds_of,
    help="First run a few steps of every stage on this machine for about so long, e.g. 30s; booked as experimentation.",
)
@click.option("--region", metavar="PLACE", default="", help="Where it would run, for kgCO2e: a country, state or town.")
@click.option("--device", metavar="NAME", default="", help="A GPU to plan for instead of this machine, e.g. 'H100'.")
@click.option("--against", metavar="RUN", help="Hold a run of the recipe against what was predicted.")
@json_option
def plan(
    recipe: str,
    runs_dir: str,
    overrides: tuple[str, ...],
    probe_s: float | None,
    region: str,
    device: str,
    against: str | None,
    as_json: bool,
) -> None:
    """Predict energy, time, disk and kgCO2e of every stage of a recipe, each with its interval.

    Learnt from the ledger's runs, from a probe, and from first principles; each figure says which. The prediction is
    kept in the folder of runs, and a run of these settings takes it along, so that `--against RUN` can hold the two
    side by side afterwards.
    """
    from stillwatt.config.bundled import find_recipe
    from stillwatt.config.load import load_recipe

    settings = load_recipe(find_recipe(recipe), overrides)
    if against is not None:
        if probe_s is not None or region or device:
            raise UsageError("--against looks back at a run; --probe, --region and --device look ahead")
        _compare(settings, against, runs_dir, as_json=as_json)
        return
    if probe_s is None:
        _plan(settings, runs_dir, device, region, None, as_json=as_json)
        return
    from stillwatt.cli.progress import reporter
    from stillwatt.clock import SystemClock
    from stillwatt.workflows.plan import Probing

    with reporter(SystemClock()) as progress:
        probing = Probing(seconds=probe_s, progress=progress, announce=progress.announce)
        _plan(settings, runs_dir, device, region, probing, as_json=as_json)


def _plan(settings: Recipe, runs_dir: str, device: str, region: str, probing: Probing | None, *, as_json: bool) -> None:
    from stillwatt.report.forecasts import prediction_rows, prediction_sentences
    from stillwatt.workflows.plan import plan_recipe
    from stillwatt.workflows.predictions import prediction_dict

    planned = plan_recipe(settings, runs_dir=runs_dir, device_name=device, region=region, probing=probing)
    if as_json:
        say_json(prediction_dict(planned.prediction))
        return
    for line in columns(prediction_rows(planned.prediction)):
        say(line)
    say()
    for sentence in prediction_sentences(planned.prediction):
        say(sentence)


def _compare(settings: Recipe, against: str, runs_dir: str, *, as_json: bool) -> None:
    from stillwatt.report.forecasts import comparison_dict, comparison_sentences, comparison_table
    from stillwatt.workflows.plan import compare_with_run

    told = comparison_dict(compare_with_run(against, runs_dir=runs_dir, recipe=settings))
    if as_json:
        say_json(told)
        return
    table = comparison_table(told)
    for line in columns([[column.title for column in table.columns], *(list(row.cells) for row in table.rows)]):
        say(line)
    say()
    for sentence in comparison_sentences(told):
        say(sentence)
