"""`stillwatt measure -- COMMAND`: any program as one measured stage, transparent to whoever called it."""

from __future__ import annotations

import atexit
import json
import signal
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import Number, runs_option, sensor_option, sensors_option
from stillwatt.cli.screen import note
from stillwatt.records.window import StageKind

if TYPE_CHECKING:
    from stillwatt.workflows.measure import MeasureOutcome

_KINDS = [kind.value for kind in StageKind]


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Name of the run.  [default: the script's, module's or command's name]")
@click.option("--stage", metavar="NAME", help="Name of the stage.  [default: the script's, module's or command's]")
@click.option("--kind", type=click.Choice(_KINDS), default="other", show_default=True, help="What the stage does.")
@runs_option
@sensors_option
@sensor_option
@click.option(
    "--period-ms",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Time between two readings, in milliseconds.",
)
@click.option(
    "--idle",
    "idle_s",
    type=Number(min=0.0),
    default=0.0,
    metavar="SECONDS",
    help="Measure the idle machine for so long before the command, and after it where it ends with 0.",
)
@click.option(
    "--slow-after",
    "slow_after_s",
    type=Number(min=0.0, min_open=True),
    metavar="SECONDS",
    help="Read once a second after so long without a stage's edge, until the next: for runs of days.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the account as one JSON line, the last on stderr.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]...")
@click.pass_context
def measure(
    context: click.Context,
    name: str | None,
    stage: str | None,
    kind: str,
    runs_dir: str,
    sensors: tuple[str, ...] | None,
    sensor_options: dict[str, dict[str, Any]],
    period_ms: int,
    idle_s: float,
    slow_after_s: float | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command and account for its energy.

    The command keeps its own input, output and exit status (128 + n where signal n ended it, 127 where it was not
    found, 126 where it could not be started). What Stillwatt has to say goes to stderr. Ctrl-C is the command's; its
    account is written however it ends. Where the folder of runs cannot be written, the command is not run, and the
    status is 2.

    The run is called after the script or module: `python train.py` is train, `python -m pkg.mod` is pkg.mod.
    """
    from stillwatt.workflows.measure import measure_command, undisturbed

    if idle_s > 0:
        note(f"stillwatt: measuring the idle machine for {idle_s:g} s before the command, and as long after it")
    outcome = measure_command(
        command,
        name=name,
        stage=stage,
        kind=kind,
        runs_dir=runs_dir,
        sensors=sensors or ("auto",),
        period_ms=period_ms,
        idle_s=idle_s,
        slow_after_s=slow_after_s,
        options=sensor_options,
    )
    with undisturbed():
        if as_json:
            note(json.dumps(outcome_dict(outcome)))
        else:
            _summarise(outcome)
        # a Ctrl-C while the interpreter goes down would take the command's status away
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    context.exit(outcome.exit_code)


def outcome_dict(outcome: MeasureOutcome) -> dict[str, object]:
    """An outcome for programs: the run's record, or the reason there is none."""
    return {
        "run_id": outcome.run_id,
        "exit_code": outcome.exit_code,
        "problem": outcome.problem,
        "record": outcome.record.to_dict() if outcome.record else None,
    }


def _summarise(outcome: MeasureOutcome) -> None:
    from stillwatt.cli.account import record_lines

    if outcome.problem:
        note(f"stillwatt: {outcome.problem}")
    for line in record_lines(outcome.record) if outcome.record else [f"stillwatt: run {outcome.run_id}: no account"]:
        note(line)
