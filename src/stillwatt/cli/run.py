"""`stillwatt run RECIPE`: a whole study, measured from end to end."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.interrupts import one_interrupt
from stillwatt.cli.options import INCOMPLETE, json_option, runs_option, sensors_option, set_option
from stillwatt.cli.screen import note, say, say_json, say_prose
from stillwatt.clock import SystemClock
from stillwatt.errors import UsageError
from stillwatt.records.energy import Total

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.workflows.pipeline import PipelineOutcome

_INTERRUPTED = 130
_GOES_ON = "interrupted: what is finished is kept and booked; the same command goes on from there"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM = "make room and give the same command once more"
_ENGINE_HELP = "In this process (one rank, where a launcher started several), or as ranks over the machines of the Ray \
cluster that RAY_ADDRESS names."
_RESUME_HELP = "Go on with this run (id, its beginning, name or `latest`), one last seen on another host too; only \
where no process is at it any more."
_RANKS_HELP = "Of --engine ray; by default as many as the cluster has free GPUs, or machines where it has none."


@click.command()
@click.argument("recipe")
@runs_option
@set_option
@click.option("--fresh", is_flag=True, help="Begin a new run even where one of the same settings was cut short.")
@click.option("--resume", metavar="RUN", help=_RESUME_HELP)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help=_ENGINE_HELP)
@click.option("--ranks", type=click.IntRange(min=1), metavar="N", help=_RANKS_HELP)
@sensors_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    recipe: str,
    runs_dir: str,
    overrides: tuple[str, ...],
    fresh: bool,
    resume: str | None,
    engine: str,
    ranks: int | None,
    sensors: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """Carry out a recipe, measure every stage, and write the report.

    RECIPE is a TOML file or the name of a recipe that comes along (`stillwatt recipe list`). A run of the same
    settings that was cut short is gone on with; its description and `[analysis]` may have changed since. Exits with 3
    where the energy of a part is not known.
    """
    from stillwatt.config.bundled import find_recipe
    from stillwatt.config.load import load_recipe

    settings = load_recipe(find_recipe(recipe), overrides)
    if fresh and resume is not None:
        raise UsageError("--fresh begins a new run and --resume goes on with an old one; leave one out")
    if engine == "ray":
        context.exit(_over_ray(context.params))
    if ranks is not None:
        raise UsageError("--ranks is of --engine ray; `torchrun --nproc-per-node N` starts several on this machine")
    with one_interrupt(SystemClock()):
        try:
            outcome = _carry_out(settings, runs_dir=runs_dir, fresh=fresh, resume=resume, sensors=sensors)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_GOES_ON) from None
        except OSError as err:
            if err.errno not in _FULL or _MAKE_ROOM in str(err.strerror):
                raise
            # who writes to an open file is told of no path
            told = f"{err.strerror} on the disk of {runs_dir}; {_MAKE_ROOM}: it goes on from the last finished stage"
            raise OSError(err.errno, told, err.filename) from err
    if outcome is None:
        return  # the first rank of the launch tells
    _tell(outcome, as_json=as_json)
    context.exit(0 if outcome.record.complete else INCOMPLETE)


def _carry_out(
    settings: Recipe, *, runs_dir: str, fresh: bool, resume: str | None, sensors: tuple[str, ...] | None
) -> PipelineOutcome | None:
    from stillwatt.cli.progress import reporter
    from stillwatt.workflows.pipeline import run_recipe
    from stillwatt.workflows.unfinished import Wish

    with reporter(SystemClock()) as progress:
        return run_recipe(
            settings,
            runs_dir=runs_dir,
            fresh=fresh,
            sensors=sensors,
            progress=progress,
            announce=progress.announce,
            wish=Wish(run=resume),
        )


def _over_ray(told: Mapping[str, Any]) -> int:
    """Have ranks of a Ray cluster do what this command was asked for; gives the first one's exit status."""
    from stillwatt.workflows.run_ray import Order, run_over_ray

    path, runs_dir = Path(told["recipe"]), Path(told["runs_dir"]).absolute()
    recipe = path.absolute() if path.is_file() else None
    order = Order(arguments=rank_arguments(told, recipe, runs_dir), runs_dir=runs_dir, recipe=recipe)

    def show(name: str, piece: bytes) -> None:
        stream = sys.stdout.buffer if name == "stdout" else sys.stderr.buffer
        stream.write(piece)
        stream.flush()

    try:
        return run_over_ray(order, ranks=told["ranks"], show=show, announce=note)
    except KeyboardInterrupt:
        note("interrupted: all ranks have ended")
        return _INTERRUPTED


def rank_arguments(told: Mapping[str, Any], recipe: Path | None, runs_dir: Path) -> tuple[str, ...]:
    """The command of each rank: this one, without what says how ranks are started.

    >>> told = {"recipe": "smoke_cpu", "overrides": ("data.seed=7",), "fresh": True, "resume": None}
    >>> rank_arguments({**told, "sensors": None, "as_json": False}, None, Path("/runs"))
    ('run', 'smoke_cpu', '--runs', '/runs', '--set', 'data.seed=7', '--fresh')
    """
    arguments = ["run", str(recipe or told["recipe"]), "--runs", str(runs_dir)]
    for change in told["overrides"]:
        arguments += ["--set", change]
    if told["fresh"]:
        arguments.append("--fresh")
    if told["resume"]:
        arguments += ["--resume", told["resume"]]
    if told["sensors"]:
        arguments += ["--sensors", ",".join(told["sensors"])]
    if told["as_json"]:
        arguments.append("--json")
    return tuple(arguments)


def _tell(outcome: PipelineOutcome, *, as_json: bool) -> None:
    if as_json:
        say_json(outcome_dict(outcome))
    else:
        from stillwatt.cli.account import study_text
        from stillwatt.report.forecasts import comparison_line

        say(study_text(outcome.record, outcome.study))
        if outcome.comparison is not None:
            say_prose(comparison_line(outcome.comparison))
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
