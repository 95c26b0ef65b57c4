"""`stillwatt factors grid`: hourly intensities of a live grid, and of a run's own hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import json_option, runs_option
from stillwatt.cli.screen import columns, note, say, say_json

if TYPE_CHECKING:
    from stillwatt.records.grid import HourlyResult, HourlySeries, NoHour
    from stillwatt.workflows.grids import Asked, Known

_MOST_MISSING = 5


@click.command("grid")
@click.argument("zone")
@click.option("--from", "start", metavar="TIME", help="First time, UTC: 2026-01-31 or 2026-01-31T14:00Z.")
@click.option("--to", "end", metavar="TIME", help="Last time; whole hours are taken.")
@click.option("--source", metavar="NAME", default="", help="electricitymaps, entsoe, ukcarbon or watttime.")
@click.option("--run", "run", metavar="RUN", default="", help="Apply the hours to this run, and take its hours.")
@click.option("--offline", is_flag=True, help="Answer from kept answers alone; ask nobody.")
@click.option("--url", metavar="URL", default="", help="Another address of the same API, e.g. your own proxy.")
@runs_option
@json_option
@click.pass_context
def grid_command(
    context: click.Context,
    zone: str,
    start: str | None,
    end: str | None,
    source: str,
    run: str,
    offline: bool,
    url: str,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Show a grid's intensity hour by hour, by a live service that you name.

    Without --source nothing is asked of the network: the services that know the zone are listed. Keys come from
    environment variables. An hour without a figure is listed as missing and is never filled.
    """
    from stillwatt.workflows.grids import what_is_known

    if not source:
        _show_known(zone, what_is_known(zone), as_json)
        return
    asked, results = _ask(zone, source, start, end, run=run, offline=offline, url=url, runs_dir=runs_dir)
    if as_json:
        say_json(_asked_dict(asked, results))
    else:
        _show(asked, results)
    context.exit(0 if _is_series(asked) else 1)


def _ask(
    zone: str, source: str, start: str | None, end: str | None, *, run: str, offline: bool, url: str, runs_dir: str
) -> tuple[Asked, tuple[HourlyResult, ...]]:
    from stillwatt.errors import UsageError
    from stillwatt.grids.source import utc_text
    from stillwatt.records.grid import HourlySeries
    from stillwatt.workflows.books import show_run
    from stillwatt.workflows.grids import ask_grid, by_hour, span_of_run

    record = show_run(runs_dir, run) if run else None
    span = span_of_run(record) if record else None
    if record is not None and span is None:
        raise UsageError(f"run {record.run_id} has no stage with a window, so it has no hours")
    if span is not None:
        start, end = start or utc_text(span.start_utc_ns), end or utc_text(span.end_utc_ns)
    if not start or not end:
        raise UsageError("say from when to when: --from 2026-01-31 --to 2026-02-01, or --run RUN")
    asked = ask_grid(source, zone, start, end, url=url, is_offline=offline)
    if record is None or not isinstance(asked.found, HourlySeries):
        return asked, ()
    return asked, by_hour(record, asked.found)


def _is_series(asked: Asked) -> bool:
    from stillwatt.records.grid import HourlySeries

    return isinstance(asked.found, HourlySeries)


def _show_known(zone: str, known: tuple[Known, ...], as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "zone": zone,
                "series": None,
                "reason": "no source was named, so nothing was asked",
                "sources": [
                    {
                        "source": one.source,
                        "zone": one.zone,
                        "is_own_code": one.is_own_code,
                        "signal": one.signal.value,
                        "means": one.means,
                        "keys": list(one.keys),
                    }
                    for one in known
                ],
            }
        )
        return
    rows = [("source", "zone", "signal", "key", "what it knows")]
    for one in known:
        rows.append(
            (one.source, one.zone or "none known", one.signal.value, " and ".join(one.keys) or "none", one.means)
        )
    for line in columns(rows):
        say(line)
    if any(one.is_own_code for one in known):
        note(f"no place known here is called {zone!r}: it is taken as the service's own code, which nobody has checked")
    note("nothing was asked; name one with --source, and say from when to when")


def _show(asked: Asked, results: tuple[HourlyResult, ...]) -> None:
    from stillwatt.grids.source import utc_text
    from stillwatt.records.grid import NoSeries

    found = asked.found
    if isinstance(found, NoSeries):
        say(f"{found.source} {found.zone}: no series: {found.reason}")
        return
    place = f" ({asked.place.name})" if asked.place else ""
    say(f"{found.source}, zone {found.zone}{place}: {found.signal.value}, {found.boundary}")
    say(f"answered {found.fetched_utc}; {found.licence}")
    rows = [("hour (UTC)", "gCO2e/kWh", "")]
    rows += [
        (utc_text(hour.start_utc_ns), f"{hour.value_g_per_kwh:.1f}", "estimated" if hour.is_estimated else "")
        for hour in found.hours
    ]
    for line in columns(rows):
        say(line.rstrip())
    _show_missing(found.missing)
    for result in results:
        say(_result_text(result))
    for caution in asked.cautions:
        say(f"note: {caution}")


def _show_missing(missing: tuple[NoHour, ...]) -> None:
    from stillwatt.grids.source import utc_text

    if missing:
        say(f"missing: {len(missing)} hours, which are not filled")
        for hour in missing[:_MOST_MISSING]:
            say(f"  {utc_text(hour.start_utc_ns)}  {hour.reason}")
        if len(missing) > _MOST_MISSING:
            say(f"  and {len(missing) - _MOST_MISSING} more (--json lists them)")


def _result_text(result: HourlyResult) -> str:
    if result.mean_g_per_kwh is None:
        return f"{result.name}: no mean: {result.reason}"
    text = (
        f"{result.name}: {result.mean_g_per_kwh:.1f} gCO2e/kWh over its own hours "
        f"(whatever its course, {result.low_g_per_kwh:.1f} to {result.high_g_per_kwh:.1f})"
    )
    if result.missing and result.energy_j:
        share = 1.0 - result.known_j / result.energy_j
        text += f"; {len(result.missing)} hours with {share:.1%} of its energy have no figure and are not in it"
    return text


def _asked_dict(asked: Asked, results: tuple[HourlyResult, ...]) -> dict[str, Any]:
    from dataclasses import asdict

    from stillwatt.impact.hourly import grams
    from stillwatt.records.grid import NoSeries
    from stillwatt.workflows.grids import hourly_factor

    found = asked.found
    place = asdict(asked.place) if asked.place else None
    if isinstance(found, NoSeries):
        return {"place": place, "source": found.source, "zone": found.zone, "series": None, "reason": found.reason}
    stages = [
        {
            **{key: value for key, value in asdict(result).items() if key != "missing"},
            "missing": _missing_dicts(result.missing),
            "known_gco2e": grams(result),
        }
        for result in results
    ]
    data: dict[str, Any] = {"place": place, "source": found.source, "zone": found.zone, "reason": None}
    data |= {"series": _series_dict(found), "cautions": list(asked.cautions), "stages": stages}
    if results:
        from stillwatt.cli.factors import choice_dict

        where = asked.place.code if asked.place else found.zone
        data["factor"] = choice_dict(hourly_factor(asked, results, where))
    return data


def _series_dict(series: HourlySeries) -> dict[str, Any]:
    from dataclasses import asdict

    from stillwatt.grids.source import utc_text

    return {
        "signal": series.signal.value,
        "boundary": series.boundary,
        "licence": series.licence,
        "source_url": series.source_url,
        "fetched_utc": series.fetched_utc,
        "hours": [
            {
                "start_utc": utc_text(hour.start_utc_ns),
                "value_g_per_kwh": hour.value_g_per_kwh,
                "low_g_per_kwh": hour.low_g_per_kwh,
                "high_g_per_kwh": hour.high_g_per_kwh,
                "estimated": hour.is_estimated,
            }
            for hour in series.hours
        ],
        "missing": _missing_dicts(series.missing),
        "answers": [asdict(answer) for answer in series.answers],
    }


def _missing_dicts(missing: tuple[NoHour, ...]) -> list[dict[str, str]]:
    from stillwatt.grids.source import utc_text

    return [{"start_utc": utc_text(hour.start_utc_ns), "reason": hour.reason} for hour in missing]
