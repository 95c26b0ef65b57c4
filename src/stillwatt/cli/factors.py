"""`stillwatt factors`: the numbers that turn joules into impacts, their sources, and whether they can be true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stillwatt.cli.grid import grid_command
from stillwatt.cli.options import json_option
from stillwatt.cli.screen import columns, note, say, say_json

if TYPE_CHECKING:
    from stillwatt.factors.catalog import Catalog
    from stillwatt.records.factor import Choice, Factor, Fault, NoFactor

Command = TypeVar("Command", bound=Callable[..., object])


def factor_options(command: Command) -> Command:
    """The user's own factors, called the same wherever factors are used."""
    file = click.option(
        "--factor-file",
        "--factors",
        "files",
        metavar="FILE",
        multiple=True,
        help="Your own factors, TOML or CSV; they come before all others.",
    )
    single = click.option(
        "--factor",
        "overrides",
        metavar="QUANTITY@PLACE=VALUE",
        multiple=True,
        help="One factor of your own, e.g. grid_gwp_location@FRA=56gCO2e/kWh; comes before files.",
    )
    return file(single(command))


@click.group()
def factors() -> None:
    """Factors: grids, data centres, devices; each with interval, year, source and licence."""


factors.add_command(grid_command)


@factors.command("list")
@click.option("--quantity", metavar="NAME", default="", help="Only this kind, e.g. grid_gwp_location.")
@click.option("--where", metavar="PLACE", default="", help="Only this place, provider or device, by any usual name.")
@factor_options
@json_option
def list_command(quantity: str, where: str, files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """List factors, the most trusted first; those with a fault are marked and never used."""
    from stillwatt.factors.sanity import faulty
    from stillwatt.workflows.factors import list_factors, open_catalog

    catalog = open_catalog(files, overrides)
    found = list_factors(catalog, quantity, where)
    bad = faulty(catalog.faults)
    if as_json:
        say_json({"factors": [{**factor_dict(factor), "usable": factor.id not in bad} for factor in found]})
        return
    rows: list[tuple[str, ...]] = [("quantity", "where", "value", "low", "high", "unit", "year", "source")]
    rows += [(*_row(factor), factor.source + (" (faulty)" if factor.id in bad else "")) for factor in found]
    for line in columns(rows):
        say(line)
    _tell_missing(catalog)


@factors.command("show")
@click.argument("name", metavar="PLACE|DEVICE|NAME")
@factor_options
@json_option
def show_command(name: str, files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Show which factors apply to a place, a device or what else `list` names, and what was accepted to find them."""
    from stillwatt.workflows.factors import open_catalog, show_factors

    catalog = open_catalog(files, overrides)
    shown = show_factors(catalog, name)
    if as_json:
        place = asdict(shown.place) if shown.place else None
        found = {quantity: choice_dict(choice) for quantity, choice in shown.found}
        named = {"device": shown.device or None, "other": shown.other or None}
        say_json({"place": place, **named, "factors": found})
        return
    if shown.place:
        say(f"{shown.place.name} ({shown.place.code}), {shown.place.kind}" + _inside(shown.place.within))
    else:
        say(f"device {shown.device}" if shown.device else shown.other)
    for line in columns([(quantity, *_found(choice)) for quantity, choice in shown.found]):
        say(line)
    for _, choice in shown.found:
        for caution in getattr(choice, "cautions", ()):
            say(f"note: {caution}")
    _tell_missing(catalog)


@factors.command("check")
@factor_options
@json_option
@click.pass_context
def check_command(context: click.Context, files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Test every factor, shipped, installed and your own, for what is physically possible.

    Exits with 1 where a shipped factor has a fault; faults of installed packages are listed, and not used.
    """
    from stillwatt.factors.sanity import faulty
    from stillwatt.workflows.factors import open_catalog

    catalog = open_catalog(files, overrides)
    ours = {factor.id for factor in catalog.factors if factor.origin == "stillwatt"}
    failed = bool(faulty(catalog.faults) & ours)
    if as_json:
        say_json(
            {
                "factors": len(catalog.factors),
                "faults": [asdict(fault) for fault in catalog.faults],
                "missing": list(catalog.missing),
            }
        )
    else:
        for line in _summary(catalog):
            say(line)
        _tell_missing(catalog)
    context.exit(1 if failed else 0)


def factor_dict(factor: Factor) -> dict[str, Any]:
    """A factor for programs, with its content hash."""
    return {
        **asdict(factor),
        "distribution": factor.distribution.value,
        "water": factor.water.value if factor.water else None,
        "hash": factor.content_hash,
    }


def choice_dict(choice: Choice | NoFactor) -> dict[str, Any]:
    """What was found, or `factor` null and the reason."""
    from stillwatt.records.factor import NoFactor

    if isinstance(choice, NoFactor):
        return {"factor": None, "reason": choice.reason, "cautions": []}
    return {"factor": factor_dict(choice.factor), "reason": None, "cautions": list(choice.cautions)}


def _row(factor: Factor) -> tuple[str, ...]:
    numbers = (f"{number:.4g}" for number in (factor.value, factor.low, factor.high))
    return (factor.quantity, factor.where, *numbers, factor.unit, str(factor.year or "unknown"))


def _found(choice: Choice | NoFactor) -> tuple[str, ...]:
    from stillwatt.records.factor import NoFactor

    if isinstance(choice, NoFactor):
        return ("none", choice.reason)
    factor = choice.factor
    ours = ", interval assumed" if factor.spread_is_ours else ""
    numbers = f"{factor.value:.4g} ({factor.low:.4g} to {factor.high:.4g}{ours}) {factor.unit}"
    return (numbers, f"{factor.where}, {factor.year or 'no year'}, {factor.source}")


def _inside(within: tuple[str, ...]) -> str:
    return f", in {', '.join(within)}" if within else ""


def _summary(catalog: Catalog) -> list[str]:
    """Every fault that is not one of a column, then how often each caution stands."""
    origins: dict[str, int] = {}
    for factor in catalog.factors:
        origins[factor.origin] = origins.get(factor.origin, 0) + 1
    lines = [f"{count:,} factors of {origin}" for origin, count in origins.items()]
    by_check: dict[tuple[str, str], list[Fault]] = {}
    for fault in catalog.faults:
        by_check.setdefault((fault.severity, fault.check), []).append(fault)
    for (severity, check), faults in sorted(by_check.items(), reverse=True):
        lines.append(f"{severity} {check}: {len(faults):,}")
        columns_first = sorted(faults, key=lambda fault: ": " not in fault.factor)
        lines += [f"  {fault.factor}: {fault.message}" for fault in columns_first[:3]]
        if len(faults) > 3:
            lines.append(f"  and {len(faults) - 3:,} more (--json lists them)")
    return lines


def _tell_missing(catalog: Catalog) -> None:
    for sentence in catalog.missing:
        note(sentence)
