"""From generation by source to the intensity of each hour (method.md, eq. 110)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillwatt.grids.source import Span
from stillwatt.records.factor import Factor
from stillwatt.records.grid import HOUR_NS, Hour, NoHour
from stillwatt.units import KG_PER_G, NS_PER_S

MOST_UNKNOWN = 0.05
"""Share of an hour's generation that may come from sources without a factor, before nothing is said of the hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuel:
    """Power of one type of plant over one step."""

    kind: str
    """As the service calls it; each kind must fill the hour."""
    source: str | None
    """Our source of electricity; None where it has none."""
    start_utc_ns: int
    length_ns: int
    power_mw: float


def mixed_hours(
    fuels: Iterable[Fuel], by_source: Mapping[str, Factor], span: Span
) -> tuple[tuple[Hour, ...], tuple[NoHour, ...]]:
    """Intensities of the hours of a span, and the hours of which nothing is said.

    A kind that is in the answer at all must fill each hour: an hour from which one is missing would look cleaner, or
    dirtier, than it was.
    """
    cells: defaultdict[int, dict[str, _Cell]] = defaultdict(dict)
    kinds: dict[str, None] = {}
    for fuel in fuels:
        kinds[fuel.kind] = None
        cell = cells[fuel.start_utc_ns // HOUR_NS * HOUR_NS].setdefault(fuel.kind, _Cell(fuel.source))
        cell.length_ns += fuel.length_ns
        cell.amount += fuel.power_mw * fuel.length_ns
    hours: list[Hour] = []
    missing: list[NoHour] = []
    for at in span.hours:
        found = _hour(at, cells.get(at, {}), tuple(kinds), by_source)
        if isinstance(found, Hour):
            hours.append(found)
        else:
            missing.append(NoHour(start_utc_ns=at, reason=found))
    return tuple(hours), tuple(missing)


@dataclass(slots=True)
class _Cell:
    source: str | None
    length_ns: int = 0
    amount: float = 0.0


def _hour(at: int, cells: Mapping[str, _Cell], kinds: tuple[str, ...], by_source: Mapping[str, Factor]) -> Hour | str:
    if not cells:
        return "the answer has nothing for this hour"
    for kind in kinds:
        length_ns = cells[kind].length_ns if kind in cells else 0
        if length_ns > HOUR_NS:
            return f"{kind} is given more than once in this hour"
        if length_ns < HOUR_NS:
            return f"{kind} covers {length_ns // (60 * NS_PER_S)} of 60 minutes of this hour"
    if any(cell.amount < 0.0 for cell in cells.values()):
        return "a generation below 0, which is none"
    total = math.fsum(cell.amount for cell in cells.values())
    factors = [(cell.amount, by_source.get(cell.source or "")) for cell in cells.values()]
    known = [(amount, factor) for amount, factor in factors if factor is not None]
    weight = math.fsum(amount for amount, _ in known)
    if total <= 0.0:
        return "nothing was generated in this hour"
    if (unknown := 1.0 - weight / total) > MOST_UNKNOWN:
        return f"{unknown:.1%} of the generation comes from sources without a factor"
    value, low, high = (
        math.fsum(amount * getattr(factor, end) for amount, factor in known) / weight / KG_PER_G
        for end in ("value", "low", "high")
    )
    return Hour(start_utc_ns=at, value_g_per_kwh=value, low_g_per_kwh=min(low, value), high_g_per_kwh=max(high, value))
