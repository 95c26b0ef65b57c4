"""ENTSO-E's Transparency Platform: generation by type (document A75), made an intensity by factors of each source."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar
from xml.etree import ElementTree

from stillwatt.errors import GridError, UsageError
from stillwatt.grids.mixing import Fuel, mixed_hours
from stillwatt.grids.source import Span, series_of, utc_ns, utc_text
from stillwatt.grids.web import GridWeb
from stillwatt.grids.zones import is_eic, zones
from stillwatt.records.factor import Factor
from stillwatt.records.grid import Answer, HourlySeries, NoSeries, Signal
from stillwatt.units import NS_PER_S

URL = "https://web-api.tp.entsoe.eu"
KEY = "ENTSOE_API_KEY"
_MOST_HOURS = 24 * 7
_COMPACT = "%Y%m%d%H%M"
_MINUTE_NS = 60 * NS_PER_S
_STEPS = {"PT15M": 15 * _MINUTE_NS, "PT30M": 30 * _MINUTE_NS, "PT60M": 60 * _MINUTE_NS, "PT1H": 60 * _MINUTE_NS}
_HOLDS = "A03"
"""Curve type in which a value holds until the next one that is given."""
_NO_DATA = "999"
FUEL_OF: Mapping[str, str | None] = {
    "B01": "bioenergy",
    "B02": "coal",
    "B04": "gas",
    "B05": "coal",
    "B06": "oil",
    "B09": "geothermal",
    "B11": "hydro",
    "B12": "hydro",
    "B14": "nuclear",
    "B16": "solar",
    "B18": "wind",
    "B19": "wind",
}
"""Our source of electricity for each of ENTSO-E's types; all others have no factor (coal gas, shale, peat, waste …)."""
STORED = frozenset({"B10", "B25"})
"""Pumped and other storage: what it gives was generated, and counted, before."""


@dataclass(frozen=True, slots=True)
class _Step:
    """Power of one type over one step."""

    kind: str
    start_utc_ns: int
    length_ns: int
    power_mw: float

    def as_fuel(self) -> Fuel:
        """The same with our source of electricity."""
        return Fuel(
            kind=self.kind,
            source=FUEL_OF.get(self.kind),
            start_utc_ns=self.start_utc_ns,
            length_ns=self.length_ns,
            power_mw=self.power_mw,
        )


class EntsoE:
    """The platform of Europe's grid operators.

    Args:
        web: its address, opened with the parameter `securityToken`.
        by_source: GWP of a kWh from each source of electricity.
    """

    name: ClassVar[str] = "entsoe"
    signal: ClassVar[Signal] = Signal.AVERAGE
    boundary: ClassVar[str] = (
        "life-cycle GWP of net generation in the zone by source; no imports, storage left out, no losses"
    )
    licence: ClassVar[str] = (
        "ENTSO-E Transparency Platform, free re-use with attribution (its own terms name the exceptions)"
    )
    url: ClassVar[str] = URL
    example: ClassVar[str] = "10YFR-RTE------C"

    def __init__(self, web: GridWeb, by_source: Mapping[str, Factor]) -> None:
        self._web, self._by_source = web, dict(by_source)

    def zone_of(self, place: str) -> str | None:
        """The EIC code of a country or bidding zone."""
        return zones(self.name).get(place)

    def is_zone(self, code: str) -> bool:
        """An EIC code."""
        return is_eic(code)

    def series(self, zone: str, span: Span) -> HourlySeries | NoSeries:
        """See `GridSource.series`; the intensity of each hour follows method.md, eq. 110.

        Raises:
            UsageError: the zone is no EIC code.
        """
        if not is_eic(zone):
            raise UsageError(f"grid source 'entsoe': {zone!r} is no EIC code, such as 10YFR-RTE------C")
        steps, answers, said = self._ask(zone, span)
        if not steps:
            return NoSeries(source=self.name, zone=zone, reason=said or "the answers hold no generation")
        fuels = (step.as_fuel() for step in steps if step.kind not in STORED)
        cautions = tuple(_cautions(steps, self._by_source))
        found = mixed_hours(fuels, self._by_source, span)
        is_read = not _quoted(steps, self._by_source)
        return series_of(self, zone, found, answers, cautions=cautions, is_read=is_read)

    def _ask(self, zone: str, span: Span) -> tuple[list[_Step], list[Answer], str]:
        """All steps of a span, the answers that hold them, and why there are none."""
        steps: list[_Step] = []
        answers: list[Answer] = []
        said = ""
        for piece in span.pieces(_MOST_HOURS):
            query = (
                ("documentType", "A75"),
                ("processType", "A16"),
                ("in_Domain", zone),
                ("periodStart", utc_text(piece.start_utc_ns, _COMPACT)),
                ("periodEnd", utc_text(piece.end_utc_ns, _COMPACT)),
            )
            body, answer = self._web.get("/api", query, end_utc_ns=piece.end_utc_ns)
            answers.append(answer)
            root = self._root(body)
            if _tag(root) == "Acknowledgement_MarketDocument":
                said = self._acknowledged(root)
                continue
            steps += [step for step in self._steps(root) if piece.start_utc_ns <= step.start_utc_ns < piece.end_utc_ns]
        return steps, answers, said

    def _root(self, body: bytes) -> ElementTree.Element:
        if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
            raise GridError(self.name, "its answer brings definitions of its own, which are not read")
        try:
            return ElementTree.fromstring(body)
        except ElementTree.ParseError as err:
            raise GridError(self.name, f"its answer is not XML ({err})", "ask again later") from None

    def _acknowledged(self, root: ElementTree.Element) -> str:
        """Why the platform has no data; anything else that it acknowledges is an error.

        Raises:
            GridError: the question was refused.
        """
        reason = _child(root, "Reason")
        code, text = (_text(reason, "code"), _text(reason, "text")) if reason is not None else ("", "")
        if code != _NO_DATA:
            raise GridError(self.name, f"refuses the question: {self._web.clean(text) or 'no reason given'}")
        return self._web.clean(text) or "no data for this zone and period"

    def _steps(self, root: ElementTree.Element) -> Iterator[_Step]:
        if _tag(root) != "GL_MarketDocument":
            raise GridError(self.name, f"its answer cannot be understood: a document {_tag(root)[:40]!r}")
        for series in _children(root, "TimeSeries"):
            if _child(series, "outBiddingZone_Domain.mRID") is not None:
                continue  # what the type consumes, above all pumps
            kind = _text(_child(series, "MktPSRType"), "psrType")
            unit = _text(series, "quantity_Measure_Unit.name") or "MAW"
            if not kind or unit != "MAW":
                raise GridError(self.name, f"its answer cannot be understood: type {kind!r} in unit {unit!r}")
            for period in _children(series, "Period"):
                yield from self._period(kind, period, holds=_text(series, "curveType") == _HOLDS)

    def _period(self, kind: str, period: ElementTree.Element, *, holds: bool) -> Iterator[_Step]:
        interval = _child(period, "timeInterval")
        step_ns = _STEPS.get(_text(period, "resolution"))
        try:
            start_ns, end_ns = utc_ns(_text(interval, "start")), utc_ns(_text(interval, "end"))
            points = {
                int(_text(point, "position")): float(_text(point, "quantity")) for point in _children(period, "Point")
            }
        except (ValueError, OverflowError):
            raise GridError(self.name, f"its answer cannot be understood: a period of {kind}") from None
        if step_ns is None:
            raise GridError(self.name, f"its answer has steps of {_text(period, 'resolution')[:20]!r}, not known here")
        power_mw: float | None = None
        for number in range((end_ns - start_ns) // step_ns):
            given = points.get(number + 1)
            power_mw = given if given is not None or not holds else power_mw
            if power_mw is not None:
                yield _Step(kind, start_ns + number * step_ns, step_ns, power_mw)


def _cautions(steps: list[_Step], by_source: Mapping[str, Factor]) -> Iterator[str]:
    mwh: defaultdict[str, float] = defaultdict(float)
    for step in steps:
        mwh[step.kind] += step.power_mw * step.length_ns
    if mwh.get("B02"):
        yield "lignite takes the factor of coal, which is lower than its own"
    if any(mwh.get(kind) for kind in STORED):
        yield "what storage gave is left out of the mix: it was generated, and counted, before"
    without = math.fsum(amount for kind, amount in mwh.items() if kind not in STORED and not _known(kind, by_source))
    if without:
        share = without / math.fsum(amount for kind, amount in mwh.items() if kind not in STORED)
        yield f"{share:.1%} of the generation has no factor and is left out; the mean of the rest stands for it"
    if quoted := _quoted(steps, by_source):
        yield f"factors of {', '.join(quoted)} are quoted, not read in their source"


def _quoted(steps: Iterable[_Step], by_source: Mapping[str, Factor]) -> list[str]:
    """Sources of electricity in the mix whose factor nobody read where it stands."""
    used = {FUEL_OF.get(step.kind) for step in steps}
    return sorted(name for name, factor in by_source.items() if name in used and not factor.verified)


def _known(kind: str, by_source: Mapping[str, Factor]) -> bool:
    return FUEL_OF.get(kind) in by_source


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _tag(child) == name)


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next(_children(element, name), None)


def _text(element: ElementTree.Element | None, name: str) -> str:
    found = None if element is None else _child(element, name)
    return (found.text or "").strip() if found is not None else ""
