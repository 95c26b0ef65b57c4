"""`stillwatt rules`: design rules as hypotheses, tested on your own runs, and new ones mined from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from stillwatt.cli.options import Number, json_option, runs_option
from stillwatt.cli.screen import say, say_json
from stillwatt.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., object])


def _trainings(command: Command) -> Command:
    """Which trainings: runs, or a table."""
    table = click.option(
        "--table", metavar="FILE", help="A CSV table of trainings instead of runs; `paper` is the published one."
    )
    return click.argument("runs", nargs=-1, metavar="[RUN]...")(table(runs_option(json_option(command))))


@click.group()
def rules() -> None:
    """Design rules for distilling: published ones as hypotheses, and what your own trainings say."""


@rules.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the rules that come along: statement, scope, what tests each, source."""
    from stillwatt.report.rules import list_lines, rules_dict
    from stillwatt.workflows.rules import list_rules

    found = list_rules()
    if as_json:
        say_json(rules_dict(found))
        return
    for line in list_lines(found):
        say(line)


@rules.command("test")
@click.option("--kgco2e-per-kwh", type=Number(min=0.0), metavar="X", help="Carbon of a kWh at the facility.")
@_trainings
@click.pass_context
def test_command(
    context: click.Context,
    runs: tuple[str, ...],
    table: str | None,
    kgco2e_per_kwh: float | None,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Test every rule on runs or on a table: holds, fails, undetermined, or untested here.

    Nothing holds or fails on one seed. RUN is a run's id, the beginning of one, its name, or `latest`.

    Exits with 3 where an energy of a run is not known or not whole.
    """
    from stillwatt.records.comparison import Site
    from stillwatt.report.rules import tested_dict, tested_lines
    from stillwatt.workflows.analyse import Wishes
    from stillwatt.workflows.rules import judge_rules

    _check(runs, table)
    wishes = Wishes(site=Site(kgco2e_per_kwh=kgco2e_per_kwh))
    done = judge_rules(runs, table=table, runs_dir=runs_dir, wishes=wishes)
    if as_json:
        say_json(tested_dict(done.found))
    else:
        _print([*tested_lines(done.found)], done.found.warnings)
    context.exit(0 if done.complete else 3)


@rules.command("mine")
@click.option(
    "--rate",
    type=Number(min=0.0, max=1.0, min_open=True, max_open=True),
    metavar="SHARE",
    default=0.05,
    show_default=True,
    help="Share of false statements among those found that is accepted on average.",
)
@_trainings
@click.pass_context
def mine_command(
    context: click.Context, runs: tuple[str, ...], table: str | None, rate: float, runs_dir: str, as_json: bool
) -> None:
    """Mine statements from runs or a table: each beyond what chance gives, all that were tried considered.

    Statements on one seed are not tried. RUN is a run's id, the beginning of one, its name, or `latest`.

    Exits with 3 where an energy of a run is not known or not whole.
    """
    from stillwatt.report.rules import mined_dict, mined_lines
    from stillwatt.workflows.rules import mine_rules

    _check(runs, table)
    done = mine_rules(runs, table=table, runs_dir=runs_dir, rate=rate)
    if as_json:
        say_json(mined_dict(done.found))
    else:
        _print([*mined_lines(done.found)], done.found.warnings)
    context.exit(0 if done.complete else 3)


def _check(runs: tuple[str, ...], table: str | None) -> None:
    if bool(runs) == (table is not None):
        called = click.get_current_context().command_path
        raise UsageError(f"name runs or a table, one of the two: `{called} latest` or `--table points.csv`")


def _print(lines: list[str], warnings: tuple[str, ...]) -> None:
    for line in lines:
        say(line)
    for warning in warnings:
        say(f"note: {warning}")
