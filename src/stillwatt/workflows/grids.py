"""Use case: hourly intensities of a grid, asked only where a service is named, and applied to a run's own hours.

`hourly_factor` is what an account calls: the run's own mean over its hours as a factor like any other, or why there is
none. Nothing here is asked of the network unless a source is given by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.factors.catalog import USER
from stillwatt.factors.making import Cell, make_factor
from stillwatt.factors.mix import by_source
from stillwatt.factors.places import find_place
from stillwatt.factors.tables import rows
from stillwatt.grids.answers import AnswerStore
from stillwatt.grids.electricitymaps import ElectricityMaps
from stillwatt.grids.registry import SERVICES, open_source
from stillwatt.grids.source import GridSource, Span, span_of, utc_ns, utc_text
from stillwatt.impact.hourly import apply_hours, hours_between, without
from stillwatt.impact.site import Site
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import LIVE, Choice, Distribution, Factor, NoFactor, Place
from stillwatt.records.grid import HOUR_NS, HourlyResult, HourlySeries, NoSeries, Signal, Worked
from stillwatt.records.repeats import titles
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.units import KG_PER_G, nanoseconds
from stillwatt.workflows.home import grid_answers_path

ELECTRICITY_MAPS = ElectricityMaps.name
OUTSIDE = "outside any stage"
_TOO = "the mean over the runs' own hours; pre-training and a serving scenario, which have none, take it too"
_QUANTITY = "grid_gwp_location"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a service would be asked for a place, and whether it could be."""

    source: str
    means: str
    signal: Signal
    zone: str | None
    is_own_code: bool
    """Whether the zone is what was written, which is no place known here but has the form of the service's codes."""
    keys: tuple[str, ...]
    """Environment variables that must be set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a service said of a zone."""

    place: Place | None
    """None where the zone was written in the service's own code."""
    found: HourlySeries | NoSeries
    cautions: tuple[str, ...]


def what_is_known(name: str) -> tuple[Known, ...]:
    """Every service, and the zone that a place has there; asks nothing.

    Raises:
        UnknownNameError: no place is called so, and no service's codes look so.
    """
    made = {service: open_source(service, by_source={}, is_offline=True) for service in SERVICES}
    place = _place(name)
    if isinstance(place, UnknownNameError) and not any(service.is_zone(name) for service in made.values()):
        raise place
    return tuple(
        Known(
            source=service.name,
            means=service.means,
            signal=service.signal,
            zone=_zone(made[service.name], place, name)[0],
            is_own_code=isinstance(place, UnknownNameError) and made[service.name].is_zone(name),
            keys=service.keys,
        )
        for service in SERVICES.values()
    )


def _place(name: str) -> Place | UnknownNameError:
    try:
        return find_place(name)
    except UnknownNameError as err:
        return err


def ask_grid(
    source: str,
    zone: str,
    start: str,
    end: str,
    *,
    url: str = "",
    is_offline: bool = False,
    folder: Path | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Asked:
    """Hours of a zone, by one service.

    Args:
        source: the service's name.
        zone: a place by any usual name, or the service's own code.
        start: first time, ISO 8601; whole hours are taken.
        end: last time.
        url: another address of the same API.
        is_offline: kept answers alone.
        folder: where answers are kept; the user's own folder where None.
        clock: gives the time of answers.
        sleep: waits between tries.

    Raises:
        UsageError: no such service, zone or time, or a key is not set.
        GridError: no answer that can be used.
    """
    more: dict[str, Any] = {} if sleep is None else {"sleep": sleep}
    service = open_source(
        source,
        by_source=by_source("grid_gwp_by_source"),
        store=AnswerStore(folder or grid_answers_path()),
        url=url,
        is_offline=is_offline,
        clock=clock,
        **more,
    )
    place = _place(zone)
    code, cautions = _zone(service, place, zone)
    if code is None and isinstance(place, UnknownNameError):
        raise UsageError(f"grid source {source!r}: {zone!r} is no code of its own, such as {service.example}; {place}")
    if code is None:
        raise UsageError(
            f"grid source {source!r} has no zone known here for {zone!r}; write the service's own code, or another "
            f"--source: {', '.join(name for name in SERVICES if name != source)}"
        )
    span = span_of(start, end)
    now_ns = (clock or SystemClock()).utc_ns()
    if span.start_utc_ns >= now_ns:
        raise UsageError(f"{start} lies in the future; live grids are asked for what has been")
    found = service.series(code, span)
    cautions = (*cautions, *(found.cautions if isinstance(found, HourlySeries) else ()))
    return Asked(place=place if isinstance(place, Place) else None, found=found, cautions=cautions)


def worked_of(record: RunRecord) -> tuple[Worked, ...]:
    """Every joule of a run once, with its windows on the wall clock (method.md, eq. 111).

    A stage that holds others has what is left of its energy and time without them; what was used outside any stage
    has the run's time outside any stage.
    """
    windows, names = {stage.stage_id: _window(stage) for stage in record.stages}, titles(record.stages)
    inner: dict[str | None, list[StageRecord]] = {}
    for stage in record.stages:
        inner.setdefault(stage.parent_id if stage.parent_id in windows else None, []).append(stage)
    found = []
    for stage in record.stages:
        children = inner.get(stage.stage_id, [])
        whole = (windows[stage.stage_id],)
        rest = without(whole, (windows[child.stage_id] for child in children)) if children else whole
        energy = _left(stage.gross, [child.gross for child in children])
        found.append(Worked(name=names[stage.stage_id], windows=rest or whole, energy=energy))
    outside = _outside(record, [windows[stage.stage_id] for stage in inner.get(None, [])])
    return (*found, outside) if outside else tuple(found)


def _window(stage: StageRecord) -> tuple[int, int]:
    start_ns = utc_ns(stage.start_utc)
    return start_ns, start_ns + nanoseconds(max(stage.duration_s, 0.0))


def _left(gross: Total | NoTotal, inside: Sequence[Total | NoTotal]) -> Total | NoTotal:
    """What is left of a stage's energy without its stages'; below 0 by readings' noise, it is 0."""
    if not inside or isinstance(gross, NoTotal):
        return gross
    unknown = [total.reason for total in inside if isinstance(total, NoTotal)]
    if unknown:
        return NoTotal(reason=f"the energy of a stage inside it is not known: {unknown[0]}")
    left_j = max(gross.value_j - math.fsum(total.value_j for total in inside if isinstance(total, Total)), 0.0)
    scale = left_j / gross.value_j if gross.value_j else 0.0
    return replace(gross, value_j=left_j, low_j=min(gross.low_j * scale, left_j), high_j=gross.high_j * scale)


def _outside(record: RunRecord, stages: Sequence[tuple[int, int]]) -> Worked | None:
    """Energy outside any stage, over the rest of the time from the run's beginning to its end."""
    energy = record.unallocated
    if isinstance(energy, Total) and energy.value_j <= 0.0:
        return None
    start_ns = utc_ns(record.start_utc)
    end_ns = max([start_ns + nanoseconds(max(record.duration_s, 0.0)), *(end for _, end in stages)])
    whole = ((start_ns, end_ns),)
    return Worked(name=OUTSIDE, windows=without(whole, stages) or whole, energy=energy)


def span_of_run(record: RunRecord) -> Span | None:
    """The hours that a run touches; None where it used no energy that has a time."""
    ends = [window for one in worked_of(record) for window in one.windows]
    if not ends:
        return None
    hours = hours_between(min(start for start, _ in ends), max(end for _, end in ends))
    return Span(start_utc_ns=hours[0], end_utc_ns=hours[-1] + HOUR_NS)


def by_hour(record: RunRecord, series: HourlySeries) -> tuple[HourlyResult, ...]:
    """What a series says of each stage of a run, and last of all together (method.md, eqs. 111, 112)."""
    return apply_hours(worked_of(record), series)


def factor_for_runs(
    records: Sequence[RunRecord], source: str, zone: str, **how: Any
) -> tuple[Choice | NoFactor, tuple[HourlyResult, ...]]:
    """One location-based factor over the own hours of several runs, and what it rests on; for an account.

    Args:
        records: the runs.
        source: the service that the user named.
        zone: where they ran.
        how: as for `ask_grid`.

    Raises:
        UsageError: no such service or zone, or a key is not set.
        GridError: no answer that can be used.
    """
    spans = [span for record in records if (span := span_of_run(record)) is not None]
    asked = [ask_grid(source, zone, utc_text(s.start_utc_ns), utc_text(s.end_utc_ns), **how) for s in spans]
    where = asked[0].place.code if asked and asked[0].place else zone
    for one in asked:
        if isinstance(one.found, NoSeries):
            return hourly_factor(one, (), where), ()
    if not asked:
        return _none(where, "no run has an hour of its own"), ()
    whole = replace(asked[0], found=_joined([one.found for one in asked if isinstance(one.found, HourlySeries)]))
    worked = [one for record in records for one in worked_of(record)]
    results = apply_hours(worked, whole.found) if isinstance(whole.found, HourlySeries) else ()
    return hourly_factor(whole, results, where), results


def site_by_the_hour(site: Site, records: Sequence[RunRecord], source: str, **how: Any) -> Site:
    """A site whose location-based GWP is the mean over the runs' own hours; the yearly one where that cannot be had.

    Args:
        site: where the work ran.
        records: the runs.
        source: the service, and its own zone after a colon where the place's is not meant.
        how: as for `ask_grid`.

    Raises:
        UsageError: no such service or zone, or a key is not set.
        GridError: no answer that can be used.
    """
    name, _, zone = source.partition(":")
    found, _ = factor_for_runs(records, name, zone or site.place.code, **how)
    if isinstance(found, Choice):
        factor = replace(found.factor, where=site.place.code)
        return replace(site, found={**site.found, _QUANTITY: Choice(factor=factor, cautions=(*found.cautions, _TOO))})
    yearly = site.found[_QUANTITY]
    if isinstance(yearly, Choice):
        said = f"no hourly figure: {found.reason}"
        return replace(site, found={**site.found, _QUANTITY: replace(yearly, cautions=(*yearly.cautions, said))})
    return site


def _joined(series: Sequence[HourlySeries]) -> HourlySeries:
    """Series of one zone as one; an hour that several hold is taken once."""
    hours = {hour.start_utc_ns: hour for one in series for hour in one.hours}
    missing = {gone.start_utc_ns: gone for one in series for gone in one.missing if gone.start_utc_ns not in hours}
    return replace(
        series[0],
        hours=tuple(hours[at] for at in sorted(hours)),
        missing=tuple(missing[at] for at in sorted(missing)),
        answers=tuple(dict.fromkeys(answer for one in series for answer in one.answers)),
        cautions=tuple(dict.fromkeys(caution for one in series for caution in one.cautions)),
    )


def hourly_factor(asked: Asked, results: Sequence[HourlyResult], where: str) -> Choice | NoFactor:
    """The run's own mean over its hours, as a location-based factor; or why there is none.

    A marginal series gives none, and neither does one that lacks an hour in which the run used energy: a mean over the
    others would fill it in silence.

    Args:
        asked: a service's series.
        results: what `by_hour` made of it.
        where: code of the place that the factor is for.
    """
    series, whole = asked.found, results[-1] if results else None
    if isinstance(series, NoSeries):
        return _none(where, f"{series.source} has no series for {series.zone}: {series.reason}")
    if series.signal is not Signal.AVERAGE:
        return _none(
            where, f"{series.source} is marginal: it answers another question, and is never an account's factor"
        )
    if whole is None or whole.mean_g_per_kwh is None:
        return _none(where, f"{series.source}: {whole.reason if whole else 'the run has no stages'}")
    if whole.missing:
        first = whole.missing[0].reason
        return _none(
            where,
            f"{series.source} lacks {len(whole.missing)} hours in which energy was used (first: {first}); they are not "
            "filled, so a yearly figure applies",
        )
    return Choice(factor=_factor(series, whole, where), cautions=_said(asked, series, whole))


def _factor(series: HourlySeries, whole: HourlyResult, where: str) -> Factor:
    """The mean as a factor; its interval is the wider of the quantity's own and what the hours' course leaves open."""
    value = whole.mean_g_per_kwh or 0.0
    hours = sorted(hour.start_utc_ns for hour in series.hours)
    row: dict[str, Cell] = {
        "id": f"{series.source}/{series.zone}/{utc_text(hours[0])}/{utc_text(hours[-1])}",
        "quantity": _QUANTITY,
        "where": where,
        "value": value,
        "unit": "gCO2e/kWh",
        "year": utc_text(hours[0], "%Y"),
        "boundary": f"{series.boundary}; mean over the run's own hours, weighted by its energy (method.md, eq. 112)",
        "source": f"{series.source}, zone {series.zone}, answered {series.fetched_utc}",
        "source_url": series.source_url,
        "licence": series.licence,
        "verified": series.is_read,
        "note": "sha256 of the answers: " + ", ".join(answer.sha256 for answer in series.answers),
    }
    factor = make_factor(row, origin=f"{USER}: {LIVE} {series.source}")
    low = min(factor.low, (whole.low_g_per_kwh or value) * KG_PER_G)
    high = max(factor.high, (whole.high_g_per_kwh or value) * KG_PER_G)
    return replace(factor, low=low, high=high, distribution=_shape(low, high))


def _shape(low: float, high: float) -> Distribution:
    if low == high:
        return Distribution.EXACT
    return Distribution.LOGNORMAL if low > 0.0 else Distribution.TRIANGULAR


def _said(asked: Asked, series: HourlySeries, whole: HourlyResult) -> tuple[str, ...]:
    said = list(asked.cautions)
    if whole.estimated_j:
        share = whole.estimated_j / whole.known_j
        said.append(f"{share:.0%} of the energy lies in hours that {series.source} calls estimated")
    return tuple(said)


def _none(where: str, reason: str) -> NoFactor:
    return NoFactor(quantity=_QUANTITY, where=where, reason=reason)


def _zone(service: GridSource, place: Place | UnknownNameError, name: str) -> tuple[str | None, tuple[str, ...]]:
    """The service's zone of a place, and what had to be accepted to find it; what is no place may be its own code."""
    if isinstance(place, UnknownNameError):
        return name if service.is_zone(name) else None, ()
    said = (place.caution,) if place.caution else ()
    if service.name == ELECTRICITY_MAPS and (own := _zone_of_region(place.code)):
        return own, said
    for code in (place.code, *place.within):
        if zone := service.zone_of(code):
            stands_in = () if code == place.code else (f"the zone of {code} stands in for {place.code}",)
            return zone, (*said, *stands_in)
    return None, said


def _zone_of_region(code: str) -> str:
    """The zone that the table of cloud regions names."""
    return next((row["zone"] for row in rows("cloud_regions") if row["code"] == code), "")
