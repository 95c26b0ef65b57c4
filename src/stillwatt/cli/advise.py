"""`stillwatt advise`: what to run next, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import Number, json_option, runs_option
from stillwatt.cli.screen import columns, say, say_json
from stillwatt.config.amounts import Amount, parse_amount

if TYPE_CHECKING:
    from stillwatt.records.advice import Advice

_IMPOSSIBLE = 1


def _amounts(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[Amount, ...]:
    return tuple(_amount(value) for value in values)


def _amount(text: str) -> Amount:
    try:
        return parse_amount(text)
    except ValueError as err:
        raise click.BadParameter(str(err)) from err


def _of(unit: str) -> Callable[[click.Context, click.Parameter, str | None], Amount | None]:
    """Reads an amount of one unit."""

    def read(_context: click.Context, _option: click.Parameter, value: str | None) -> Amount | None:
        if value is None:
            return None
        amount = _amount(value)
        if amount.unit != unit:
            raise click.BadParameter(f"{value!r} is an amount in {amount.unit}, and {unit} is meant")
        return amount

    return read


@click.command()
@click.option(
    "--budget",
    "budgets",
    metavar="AMOUNT",
    multiple=True,
    required=True,
    callback=_amounts,
    help="What may be spent: '5 kWh', '300 kJ', '2 kgCO2e', '10 h' or '5e6 tokens'; may be given again.",
)
@click.option(
    "--quality", type=Number(min=0.0), metavar="Q", help="The least quality; the cheapest way there is looked for then."
)
@click.option(
    "--students", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Students to be made."
)
@click.option("--tokens-served", type=Number(min=0.0), default=0.0, metavar="T", help="Tokens to be served afterwards.")
@click.option("--co2", callback=_of("kgCO2e"), metavar="AMOUNT", help="A limit such as '2 kgCO2e'.")
@click.option("--deadline", callback=_of("s"), metavar="TIME", help="A limit such as '10 h'.")
@click.option(
    "--kgco2e-per-kwh",
    type=Number(min=0.0),
    metavar="X",
    help="Carbon of a metered kWh, for limits in kgCO2e; instead of --region.",
)
@click.option("--region", metavar="PLACE", default="", help="Where it would run, for kgCO2e: a country, state or town.")
@click.option("--table", metavar="FILE", help="A CSV table of trainings instead of runs; `paper` is the published one.")
@runs_option
@json_option
@click.pass_context
def advise(
    context: click.Context,
    budgets: tuple[Amount, ...],
    quality: float | None,
    students: int,
    tokens_served: float,
    co2: Amount | None,
    deadline: Amount | None,
    kgco2e_per_kwh: float | None,
    region: str,
    table: str | None,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Say what to run next: ways of training ranked within a budget, with their chance and their evidence.

    From the ledger's runs, at budgets around those that were tried, or from a table as `stillwatt analyse` reads it.
    Exits with 1 where no configuration can meet the limits; the nearest is named.
    """
    from stillwatt.workflows.advise import Request, advise_from_runs, advise_from_table, limits_of

    limits = limits_of([*budgets, *(amount for amount in (co2, deadline) if amount is not None)], quality=quality)
    request = Request(
        limits=limits,
        students=students,
        tokens_served=tokens_served,
        kgco2e_per_kwh=kgco2e_per_kwh,
        region=region,
        runs_dir=runs_dir,
    )
    found = advise_from_table(table, request) if table is not None else advise_from_runs(request)
    _print(found, as_json=as_json)
    from stillwatt.records.advice import Answer

    context.exit(_IMPOSSIBLE if found.answer is Answer.IMPOSSIBLE else 0)


def _print(found: Advice, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(found))
        return
    from stillwatt.report.advice import advice_rows, advice_sentences

    say(f"{found.answer.value}: {found.reason}")
    say()
    for line in columns(advice_rows(found)):
        say(line)
    say()
    for sentence in advice_sentences(found):
        say(sentence)
