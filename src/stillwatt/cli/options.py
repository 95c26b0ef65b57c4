"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., object])
INCOMPLETE = 3
"""Exit status: done, but the energy of a part is not known."""


class Number(click.FloatRange):
    """A finite number, within ends where there are any; NaN lies on neither side of an end, so it needs a look."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            click.BadParameter: it is none, is not finite, or lies beyond an end.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        """The ends as help shows them; nothing where there are none, which click would print as `x<=None`."""
        return "" if self.min is None and self.max is None else super()._describe_range()


def runs_option(command: Command) -> Command:
    """Where run directories and the ledger are."""
    return click.option(
        "--runs",
        "runs_dir",
        metavar="DIR",
        default="runs",
        show_default=True,
        callback=_no_file,
        help="Directory of run directories and the ledger.",
    )(command)


def _no_file(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """The folder; what is a file already cannot become one."""
    if Path(value).is_file():
        raise click.BadParameter(f"{value} is a file; name a folder")
    return value


def json_option(command: Command) -> Command:
    """The answer for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")(command)


def sensors_option(command: Command) -> Command:
    """Which instruments to read."""
    return click.option(
        "--sensors",
        metavar="NAME[,NAME…]",
        callback=_split_names,
        help="Instruments to read, in order; `auto` takes what this machine has.",
    )(command)


def sensor_option(command: Command) -> Command:
    """Options of single instruments."""
    return click.option(
        "--sensor-option",
        "sensor_options",
        metavar="DRIVER.KEY=VALUE",
        multiple=True,
        callback=_parse_sensor_options,
        help="Give an instrument an option, e.g. smart_plug.url=http://10.0.0.7; may be given again.",
    )(command)


def set_option(command: Command) -> Command:
    """Changes to a recipe."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change one setting of the recipe, e.g. data.seed=7 or arms.kd.alpha=0.3; may be given again.",
    )(command)


def refuse_beside_report(context: click.Context, report: str, allowed: Container[str]) -> None:
    """Let nothing be asked of a saved report that would be left aside: what it says was computed when it was made.

    Args:
        context: of the command, with what was typed.
        report: the saved report.
        allowed: parameters that are of use beside one.

    Raises:
        click.UsageError: another option was given; names it.
    """
    for option in sorted(context.command.params, key=lambda one: one.name or ""):
        name = option.name or ""
        if name not in allowed and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            said = max(option.opts, key=len)
            raise click.UsageError(f"{report} is a saved report and is shown as it is: leave out {said}")


def _parse_sensor_options(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    if not texts:
        return {}
    from stillwatt.config.overrides import parse_sensor_options

    return parse_sensor_options(texts)


def _split_names(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names as a tuple; None where the option is not given."""
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise click.BadParameter("names at least one instrument, for example auto or nvml,rapl")
    return names
