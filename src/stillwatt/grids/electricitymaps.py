"""Electricity Maps, API v3: hourly life-cycle intensity of what a zone consumes, imports traced."""

from __future__ import annotations

import re
from typing import ClassVar

from stillwatt.grids.source import Document, Reading, Span, binned, series_of, utc_text
from stillwatt.grids.web import GridWeb
from stillwatt.grids.zones import zones
from stillwatt.records.grid import HOUR_NS, HourlySeries, NoSeries, Signal

URL = "https://api.electricitymaps.com/v3"
KEY = "ELECTRICITYMAPS_API_KEY"
_MOST_HOURS = 240
"""The service answers at most ten days of hours at a time."""
_LIFECYCLE = "lifecycle"


class ElectricityMaps:
    """The service of that name.

    Args:
        web: its address, opened with the header `auth-token`.
    """

    name: ClassVar[str] = "electricitymaps"
    signal: ClassVar[Signal] = Signal.AVERAGE
    boundary: ClassVar[str] = "life-cycle GWP of electricity consumed in the zone, imports traced"
    licence: ClassVar[str] = "Electricity Maps' terms for API data; not to be passed on without their leave"
    url: ClassVar[str] = URL
    example: ClassVar[str] = "US-CAL-CISO"

    def __init__(self, web: GridWeb) -> None:
        self._web = web

    def zone_of(self, place: str) -> str | None:
        """`FR` for France, `SE-SE3` for a bidding zone."""
        return zones(self.name).get(place)

    def is_zone(self, code: str) -> bool:
        """Two letters of a country, and what follows them between hyphens."""
        return re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]+)*", code) is not None

    def series(self, zone: str, span: Span) -> HourlySeries | NoSeries:
        """See `GridSource.series`."""
        readings, answers, kinds = [], [], set()
        for piece in span.pieces(_MOST_HOURS):
            query = (
                ("zone", zone),
                ("start", utc_text(piece.start_utc_ns)),
                ("end", utc_text(piece.end_utc_ns)),
                ("emissionFactorType", _LIFECYCLE),
            )
            body, answer = self._web.get("/carbon-intensity/past-range", query, end_utc_ns=piece.end_utc_ns)
            answers.append(answer)
            for row in Document(self.name, self._web.json(body)).rows("data"):
                at = row.time("datetime")
                if piece.start_utc_ns <= at < piece.end_utc_ns:
                    kinds.add(row.text("emissionFactorType", _LIFECYCLE))
                    value = row.number("carbonIntensity")
                    readings.append(
                        Reading(start_utc_ns=at, length_ns=HOUR_NS, value=value, is_estimated=row.says("isEstimated"))
                    )
        if kinds - {_LIFECYCLE}:
            said = ", ".join(sorted(kinds))
            return NoSeries(source=self.name, zone=zone, reason=f"life-cycle figures were asked for, and {said} came")
        return series_of(self, zone, binned(readings, span), answers)
