"""WattTime, API v3: the marginal intensity of a region, five minutes by five. Never an account's factor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from stillwatt.errors import GridError
from stillwatt.grids.source import Document, Reading, Span, binned, series_of, utc_text
from stillwatt.grids.web import GridWeb
from stillwatt.records.grid import HourlySeries, NoSeries, Signal
from stillwatt.units import KG_PER_G, KG_PER_LB, KWH_PER_MWH, NS_PER_S

URL = "https://api.watttime.org"
USER, PASSWORD = "WATTTIME_USER", "WATTTIME_PASSWORD"
_MOST_HOURS = 24 * 30
"""The service answers at most 32 days at a time."""
_G_PER_KWH: Mapping[str, float] = {"lbs_co2_per_mwh": KG_PER_LB / KG_PER_G / KWH_PER_MWH}
"""What brings the service's units to grams per kWh."""
_SIGNAL = "co2_moer"


class WattTime:
    """The service of that name.

    Args:
        web: its address; a token is fetched with user name and password before the first question.
        user: user name, and
        password: password, which go to the service's `/login` and nowhere else.
    """

    name: ClassVar[str] = "watttime"
    signal: ClassVar[Signal] = Signal.MARGINAL
    boundary: ClassVar[str] = "marginal operating CO2 of generation: what one kWh more causes"
    licence: ClassVar[str] = "WattTime's terms for API data; not to be passed on without their leave"
    url: ClassVar[str] = URL
    example: ClassVar[str] = "CAISO_NORTH"

    def __init__(self, web: GridWeb, *, user: str = "", password: str = "") -> None:
        self._web, self._user, self._password = web, user, password

    def zone_of(self, place: str) -> str | None:
        """None: the service's regions are its own, and are written as it writes them (`CAISO_NORTH`)."""
        return None

    def is_zone(self, code: str) -> bool:
        """Capitals, digits and underscores."""
        return re.fullmatch(r"[A-Z][A-Z0-9_]*", code) is not None

    def series(self, zone: str, span: Span) -> HourlySeries | NoSeries:
        """See `GridSource.series`."""
        readings, answers, models = [], [], set()
        for piece in span.pieces(_MOST_HOURS):
            query = (
                ("region", zone),
                ("start", utc_text(piece.start_utc_ns)),
                ("end", utc_text(piece.end_utc_ns)),
                ("signal_type", _SIGNAL),
            )
            body, answer = self._web.get("/v3/historical", query, end_utc_ns=piece.end_utc_ns, before=self._log_in)
            answers.append(answer)
            document = Document(self.name, self._web.json(body))
            meta = document.part("meta")
            scale, step_ns = self._scale(meta), self._step_ns(meta)
            models.add(meta.part("model").text("date", "unknown"))
            for row in document.rows("data"):
                at, value = row.time("point_time"), row.number("value")
                if piece.start_utc_ns <= at < piece.end_utc_ns:
                    readings.append(
                        Reading(start_utc_ns=at, length_ns=step_ns, value=None if value is None else value * scale)
                    )
        return series_of(
            self,
            zone,
            binned(readings, span),
            answers,
            cautions=(
                f"WattTime's model of {', '.join(sorted(models))}",
                "marginal: answers what a kWh more or less causes; not an account's intensity, never mixed with one",
            ),
        )

    def _log_in(self) -> None:
        """Fetch a token, once a process; it is held in memory alone."""
        if "Authorization" in self._web.access.headers:
            return
        body = self._web.ask("/login", user=self._user, password=self._password)
        token = Document(self.name, self._web.json(body)).text("token")
        self._web.access.headers["Authorization"] = f"Bearer {token}"
        self._web.access.secrets = (*self._web.access.secrets, token)

    def _scale(self, meta: Document) -> float:
        unit = meta.text("units")
        if unit not in _G_PER_KWH:
            raise GridError(self.name, f"its unit {unit[:40]!r} is not known here", "please report it")
        return _G_PER_KWH[unit]

    def _step_ns(self, meta: Document) -> int:
        step_s = meta.number("data_point_period_seconds")
        if step_s is None or step_s < 1.0:
            raise GridError(self.name, "its answer cannot be understood: no data_point_period_seconds")
        return round(step_s * NS_PER_S)
