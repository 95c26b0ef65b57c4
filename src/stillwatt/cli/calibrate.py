"""`stillwatt doctor --calibrate`: a card's gain from an external meter's log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click
from click.core import ParameterSource

from stillwatt.cli.options import Number
from stillwatt.cli.screen import say, say_json

if TYPE_CHECKING:
    from stillwatt.workflows.calibrate import CalibrationOutcome

Command = TypeVar("Command", bound=Callable[..., object])


class Given(TypedDict):
    """What was said of the meter and the run."""

    part: str
    run: str
    boundary: str
    meter: str
    meter_accuracy: float
    efficiency: tuple[float, float] | None
    max_offset: float


def calibrate_options(command: Command) -> Command:
    """The log, and what is said of the meter and the run."""
    options = [
        click.option("--calibrate", metavar="CSV", help="A meter's log with the columns time and watts."),
        click.option("--part", metavar="PART", default="gpu0", show_default=True, help="The card to calibrate."),
        click.option(
            "--run", metavar="RUN", default="latest", show_default=True, help="The run that the meter watched."
        ),
        click.option(
            "--boundary",
            type=click.Choice(["board", "node", "wall"]),
            default="board",
            show_default=True,
            help="What the meter measures: the card's own supplies, the node, or the wall.",
        ),
        click.option("--meter", metavar="NAME", default="", help="The meter's name.  [default: the file's]"),
        click.option(
            "--meter-accuracy",
            metavar="SHARE",
            type=Number(min=0.0),
            default=0.01,
            show_default=True,
            help="The meter's own error, as a share; it is part of the gain's interval.",
        ),
        click.option(
            "--efficiency",
            metavar="LOW HIGH",
            type=(Number(min=0.0, max=1.0), Number(min=0.0, max=1.0)),
            help="Range of the supply's efficiency, where the meter is not at the board.",
        ),
        click.option(
            "--max-offset",
            metavar="SECONDS",
            type=Number(min=0.0),
            default=120.0,
            show_default=True,
            help="How far the meter's clock may be off.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def refuse_without_log(context: click.Context, names: Iterable[str]) -> None:
    """Options about a meter say nothing where there is no log of it.

    Raises:
        click.UsageError: one of them was typed.
    """
    typed = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    options = [param.opts[0] for param in context.command.params if param.name in typed]
    if options:
        raise click.UsageError(f"{', '.join(options)}: only with --calibrate CSV, which names the meter's log")


def run_calibration(csv_path: str, runs_dir: str, given: Given, *, as_json: bool) -> None:
    """Calibrate, and print what was found and where it was written."""
    from stillwatt.clock import SystemClock
    from stillwatt.workflows.calibrate import MeterFacts, calibrate
    from stillwatt.workflows.home import calibration_path

    outcome = calibrate(
        Path(csv_path),
        MeterFacts(
            boundary=given["boundary"],
            name=given["meter"],
            accuracy_rel=given["meter_accuracy"],
            efficiency=given["efficiency"],
        ),
        part=given["part"],
        runs_dir=Path(runs_dir),
        run=given["run"],
        max_offset_s=given["max_offset"],
        out=calibration_path(),
        clock=SystemClock(),
    )
    if as_json:
        say_json({**asdict(outcome), "path": str(outcome.path)})
        return
    for line in calibration_lines(outcome):
        say(line)


def calibration_lines(outcome: CalibrationOutcome) -> Iterator[str]:
    """Each stream's gain with its interval and what it rests on."""
    for found in outcome.calibrations:
        yield (
            f"{outcome.part} {found.quantity}: gain {found.gain:.4f} ({found.gain_low:.4f} to {found.gain_high:.4f}) "
            f"by {found.meter}; card {found.device}, driver {found.driver_version or 'of unknown version'}"
        )
        yield (
            f"  {found.readings} readings over {found.length_s:.0f} s from {found.low_w:.4g} to {found.high_w:.4g} W; "
            f"correlation {found.correlation:.4f}, residual {found.residual_w:.2g} W, offset {found.offset_w:+.2g} ± "
            f"{found.offset_half_w:.2g} W, the meter's clock {found.shift_s:+.1f} s off"
        )
    yield f"written to {outcome.path}; it counts for this card and this driver, from the next run on"
    yield from (f"note: {note}" for note in outcome.notes)
