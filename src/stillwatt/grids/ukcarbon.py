"""The Carbon Intensity API of Great Britain (NESO), v2: half-hours, no key; actual figures, and forecasts by region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from stillwatt.errors import UsageError
from stillwatt.grids.source import Document, Reading, Span, binned, series_of, utc_text
from stillwatt.grids.web import GridWeb
from stillwatt.grids.zones import zones
from stillwatt.records.grid import HOUR_NS, HourlySeries, NoSeries, Signal

URL = "https://api.carbonintensity.org.uk"
_MOST_HOURS = 24 * 13
"""The service answers at most 14 days at a time."""
_STEP_NS = HOUR_NS // 2
_NATION = "GB"
_REGIONS = 18


class UkCarbon:
    """The service of Great Britain's grid operator.

    Args:
        web: its address; it wants no key.
    """

    name: ClassVar[str] = "ukcarbon"
    signal: ClassVar[Signal] = Signal.AVERAGE
    boundary: ClassVar[str] = (
        "CO2 of generation alone (no other gases, no fuel supply, no plants), with imports and losses"
    )
    licence: ClassVar[str] = "CC-BY-4.0 (National Energy System Operator)"
    url: ClassVar[str] = URL
    example: ClassVar[str] = "GB-13"

    def __init__(self, web: GridWeb) -> None:
        self._web = web

    def zone_of(self, place: str) -> str | None:
        """`GB` for the United Kingdom; `GB-13` and the like are the service's regions."""
        return zones(self.name).get(place)

    def is_zone(self, code: str) -> bool:
        """`GB`, or one of the 18 regions."""
        return _region(code) is not None

    def series(self, zone: str, span: Span) -> HourlySeries | NoSeries:
        """See `GridSource.series`; of a region the service gives forecasts alone, so all its hours are estimated.

        Raises:
            UsageError: a zone that is neither `GB` nor one of the 18 regions.
        """
        region = _region(zone)
        if region is None:
            raise UsageError(f"grid source 'ukcarbon': {zone!r} is neither GB nor a region GB-1 to GB-{_REGIONS}")
        readings, answers = [], []
        for piece in span.pieces(_MOST_HOURS):
            start, end = utc_text(piece.start_utc_ns), utc_text(piece.end_utc_ns)
            path = f"/regional/intensity/{start}/{end}/regionid/{region}" if region else f"/intensity/{start}/{end}"
            body, answer = self._web.get(path, end_utc_ns=piece.end_utc_ns)
            answers.append(answer)
            readings += [
                reading
                for reading in self._readings(self._web.json(body), is_region=bool(region))
                if piece.start_utc_ns <= reading.start_utc_ns < piece.end_utc_ns
            ]
        forecast = ("figures of a region are forecasts; the service gives no others",) if region else ()
        return series_of(
            self,
            zone,
            binned(readings, span),
            answers,
            cautions=(*forecast, "counts CO2 of generation alone: lower than a life-cycle figure of the same hour"),
        )

    def _readings(self, data: Any, *, is_region: bool) -> Iterator[Reading]:
        """Half-hours; where the actual figure is not there yet, the forecast stands in and the hour is estimated."""
        document = Document(self.name, data)
        for row in (document.part("data") if is_region else document).rows("data"):
            intensity = row.part("intensity")
            actual = intensity.number("actual")
            value = intensity.number("forecast") if actual is None else actual
            at = row.time("from")
            yield Reading(
                start_utc_ns=at,
                length_ns=row.time("to") - at if row.time("to") > at else _STEP_NS,
                value=value,
                is_estimated=actual is None,
            )


def _region(zone: str) -> int | None:
    """The number of a region; 0 for the nation, None for any other word."""
    if zone == _NATION:
        return 0
    number = zone.removeprefix(f"{_NATION}-")
    if number.isdigit() and 1 <= int(number) <= _REGIONS and number != zone:
        return int(number)
    return None
