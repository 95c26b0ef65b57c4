"""`stillwatt run RECIPE`: a whole study, measured from end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import json_option, runs_option, sensors_option, set_option
from stillwatt.cli.screen import note, say, say_json
from stillwatt.records.energy import Total

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.workflows.pipeline import PipelineOutcome

_INCOMPLETE = 3
_INTERRUPTED = 130


@click.command()
@click.argument("recipe")
@runs_option
@set_option
@click.option("--fresh", is_flag=True, help="Begin a new run even where one of the same settings was cut short.")
@sensors_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    recipe: str,
    runs_dir: str,
    overrides: tuple[str, ...],
    fresh: bool,
    sensors: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """Carry out a recipe, measure every stage, and write the report.

    RECIPE is a TOML file or the name of a recipe that comes along (`stillwatt recipe list`). A run of the same
    settings that was cut short is gone on with. Exits with 3 where the energy of a part is not known.
    """
    from stillwatt.config.bundled import find_recipe
    from stillwatt.config.load import load_recipe

    settings = load_recipe(find_recipe(recipe), overrides)
    try:
        outcome = _carry_out(settings, runs_dir=runs_dir, fresh=fresh, sensors=sensors)
    except KeyboardInterrupt:
        note("interrupted: what is finished is kept and booked; the same command goes on from there")
        context.exit(_INTERRUPTED)
    if outcome is None:
        return  # the first rank of the launch tells
    _tell(outcome, as_json=as_json)
    context.exit(0 if outcome.record.complete else _INCOMPLETE)


def _carry_out(
    settings: Recipe, *, runs_dir: str, fresh: bool, sensors: tuple[str, ...] | None
) -> PipelineOutcome | None:
    from stillwatt.cli.progress import reporter
    from stillwatt.clock import SystemClock
    from stillwatt.workflows.pipeline import run_recipe

    with reporter(SystemClock()) as progress:
        return run_recipe(
            settings, runs_dir=runs_dir, fresh=fresh, sensors=sensors, progress=progress, announce=progress.announce
        )


def _tell(outcome: PipelineOutcome, *, as_json: bool) -> None:
    if as_json:
        say_json(outcome_dict(outcome))
    else:
        from stillwatt.cli.account import study_text
        from stillwatt.report.forecasts import comparison_line

        say(study_text(outcome.record, outcome.study))
        if outcome.comparison is not None:
            say(comparison_line(outcome.comparison))
        say(f"report  {outcome.report_html}")
    if not outcome.record.complete:
        total = outcome.record.total
        missing = ", ".join(total.absent) if isinstance(total, Total) and total.absent else "part of the run"
        note(f"incomplete: the energy of {missing} is not known (exit status 3)")


def outcome_dict(outcome: PipelineOutcome) -> dict[str, Any]:
    """An outcome for programs."""
    return {
        "run_id": outcome.run_id,
        "resumed": outcome.resumed,
        "complete": outcome.record.complete,
        "report_html": str(outcome.report_html),
        "report_json": str(outcome.report_json),
        "record": outcome.record.to_dict(),
    }
