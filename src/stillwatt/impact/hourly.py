"""A run's own hours: the energy of each stage by hour, times the intensity of the hour (method.md, eqs. 111, 112)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stillwatt.records.energy import Total
from stillwatt.records.grid import HOUR_NS, Hour, HourlyResult, HourlySeries, NoHour, Worked
from stillwatt.units import J_PER_KWH

WHOLE_RUN = "the whole run"
"""What the sum over stages is called."""


def hours_between(start_utc_ns: int, end_utc_ns: int) -> range:
    """Beginnings of the hours that a window touches.

    >>> len(hours_between(0, HOUR_NS)), len(hours_between(HOUR_NS - 1, HOUR_NS + 1))
    (1, 2)
    """
    first = start_utc_ns // HOUR_NS * HOUR_NS
    return range(first, max(end_utc_ns, start_utc_ns + 1), HOUR_NS)


def shares_by_hour(windows: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Share of some windows' length that lies in each hour (eq. 111); windows without length lie in the first hour.

    >>> shares_by_hour([(HOUR_NS // 2, 2 * HOUR_NS)])[HOUR_NS]
    0.6666666666666666
    """
    length_ns = sum(end - start for start, end in windows)
    if length_ns == 0:
        return {windows[0][0] // HOUR_NS * HOUR_NS: 1.0}
    lengths: dict[int, int] = {}
    for start, end in windows:
        for hour in hours_between(start, end) if end > start else ():
            lengths[hour] = lengths.get(hour, 0) + min(end, hour + HOUR_NS) - max(start, hour)
    return {hour: inside_ns / length_ns for hour, inside_ns in lengths.items()}


def without(windows: Sequence[tuple[int, int]], holes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Windows less what lies in some others.

    >>> without([(0, 10)], [(2, 3), (8, 12)])
    ((0, 2), (3, 8))
    """
    left = list(windows)
    for hole_start, hole_end in holes:
        cut = [((start, min(end, hole_start)), (max(start, hole_end), end)) for start, end in left]
        left = [(start, end) for pair in cut for start, end in pair if end > start]
    return tuple(sorted(left))


def apply_hours(worked: Sequence[Worked], series: HourlySeries) -> tuple[HourlyResult, ...]:
    """What a series says of each stage, and last of all stages together.

    An hour with energy and without an intensity is named and stays out of the mean. A stage whose energy is not known
    has no mean, and neither has the whole run then.
    """
    known = {hour.start_utc_ns: hour for hour in series.hours}
    reasons = {hour.start_utc_ns: hour.reason for hour in series.missing}
    rows = tuple(_result(stage, known, reasons) for stage in worked)
    return (*rows, _whole(rows))


def _result(stage: Worked, known: Mapping[int, Hour], reasons: Mapping[int, str]) -> HourlyResult:
    shares = shares_by_hour(stage.windows)
    missing = tuple(NoHour(start_utc_ns=at, reason=_why(at, reasons)) for at in shares if at not in known)
    if not isinstance(stage.energy, Total):
        return _without(stage.name, missing, f"its energy is not known: {stage.energy.reason}")
    energy_j = stage.energy.value_j
    found = [(known[at], share) for at, share in shares.items() if at in known]
    weight = math.fsum(share for _, share in found)
    if not weight:
        return _without(stage.name, missing, "none of its hours has an intensity", energy_j)
    ends = [end for hour, _ in found for end in _ends(hour)]
    return HourlyResult(
        name=stage.name,
        energy_j=energy_j,
        known_j=energy_j * min(weight, 1.0),
        mean_g_per_kwh=math.fsum(hour.value_g_per_kwh * share for hour, share in found) / weight,
        low_g_per_kwh=min(ends),
        high_g_per_kwh=max(ends),
        missing=missing,
        estimated_j=energy_j * math.fsum(share for hour, share in found if hour.is_estimated),
    )


def _ends(hour: Hour) -> Iterator[float]:
    yield hour.value_g_per_kwh if hour.low_g_per_kwh is None else hour.low_g_per_kwh
    yield hour.value_g_per_kwh if hour.high_g_per_kwh is None else hour.high_g_per_kwh


def _whole(rows: Sequence[HourlyResult]) -> HourlyResult:
    """Means weighted by energy (eq. 112); missing hours are those of any stage."""
    missing = tuple({hour.start_utc_ns: hour for row in rows for hour in row.missing}.values())
    unknown = [row.name for row in rows if row.energy_j is None]
    known_j = math.fsum(row.known_j for row in rows)
    if unknown or not rows:
        what = f"energy of {', '.join(unknown)} is not known" if unknown else "no stage has a window"
        return _without(WHOLE_RUN, missing, what)
    energy_j = math.fsum(row.energy_j or 0.0 for row in rows)
    if known_j <= 0.0:
        return _without(WHOLE_RUN, missing, "no energy lies in hours that have an intensity", energy_j)
    return HourlyResult(
        name=WHOLE_RUN,
        energy_j=energy_j,
        known_j=known_j,
        mean_g_per_kwh=_weighted(rows, known_j, "mean_g_per_kwh"),
        low_g_per_kwh=_weighted(rows, known_j, "low_g_per_kwh"),
        high_g_per_kwh=_weighted(rows, known_j, "high_g_per_kwh"),
        missing=missing,
        estimated_j=math.fsum(row.estimated_j for row in rows),
    )


def _weighted(rows: Iterable[HourlyResult], known_j: float, end: str) -> float:
    return math.fsum((getattr(row, end) or 0.0) * (row.known_j / known_j) for row in rows)


def grams(result: HourlyResult) -> float | None:
    """Emissions of the energy whose hours are known (eq. 112); None where there is no mean."""
    return None if result.mean_g_per_kwh is None else result.mean_g_per_kwh * result.known_j / J_PER_KWH


def _why(at: int, reasons: Mapping[int, str]) -> str:
    return reasons.get(at, "the series does not reach this hour")


def _without(name: str, missing: tuple[NoHour, ...], reason: str, energy_j: float | None = None) -> HourlyResult:
    return HourlyResult(
        name=name,
        energy_j=energy_j,
        known_j=0.0,
        mean_g_per_kwh=None,
        low_g_per_kwh=None,
        high_g_per_kwh=None,
        missing=missing,
        estimated_j=0.0,
        reason=reason,
    )
