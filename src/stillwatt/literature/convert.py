"""From one boundary to another by named factors of the catalogue, or a refusal that says why.

Only what one factor says is joined: board to node by `node_overhead`, components to node by `components_to_node`, node
to facility by `pue`. A figure goes outward, never inward: nobody's PUE takes the cooling back out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillwatt.factors.catalog import Catalog, choose
from stillwatt.literature.vocabulary import OPERATION, PRODUCT
from stillwatt.records.factor import Factor, NoFactor, Place
from stillwatt.records.literature import Reach

_STEPS: Mapping[tuple[Reach, Reach], tuple[str, ...]] = {
    (Reach.BOARD, Reach.NODE): ("node_overhead",),
    (Reach.COMPONENTS, Reach.NODE): ("components_to_node",),
    (Reach.BOARD, Reach.BOARD_X_PUE): ("pue",),
    (Reach.COMPONENTS, Reach.COMPONENTS_X_PUE): ("pue",),
    (Reach.BOARD_X_PUE, Reach.FACILITY): ("node_overhead",),
    (Reach.COMPONENTS_X_PUE, Reach.FACILITY): ("components_to_node",),
    (Reach.NODE, Reach.FACILITY): ("pue",),
    (Reach.BOARD, Reach.FACILITY): ("node_overhead", "pue"),
    (Reach.COMPONENTS, Reach.FACILITY): ("components_to_node", "pue"),
}
CONVERTIBLE_METRICS = frozenset({"energy"})
"""What scales with energy alone; carbon and water depend on the grid and site that they were computed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Factors that carry a figure from one boundary to another."""

    begin: Reach | None
    end: Reach | None
    factors: tuple[Factor, ...] = ()
    cautions: tuple[str, ...] = ()

    def apply(self, value: float, low: float, high: float) -> tuple[float, float, float]:
        """Value and interval times the factors'; ends times ends, the widest that both allow."""
        for factor in self.factors:
            value, low, high = value * factor.value, low * factor.low, high * factor.high
        return value, low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why two figures are not set beside each other."""

    reason: str


def conversion(begin: Reach, end: Reach, metric: str, catalog: Catalog, place: Place) -> Conversion | Refusal:
    """How a figure at one boundary is brought to another.

    Args:
        begin: where the figure stands.
        end: where it should stand.
        metric: what it is a figure of.
        catalog: where factors are looked for.
        place: where the work ran, for PUE and overhead; the world's where nothing else is known.
    """
    if begin is end and begin not in (Reach.UNSTATED, Reach.PART, Reach.SECTOR):
        return Conversion(begin=begin, end=end)
    if reason := _unlike(begin, end, metric):
        return Refusal(reason=reason)
    factors: list[Factor] = []
    cautions: list[str] = []
    for quantity in _STEPS[begin, end]:
        found = choose(catalog, quantity, place)
        if isinstance(found, NoFactor):
            return Refusal(reason=f"{begin} to {end} needs {quantity}: {found.reason}")
        factors.append(found.factor)
        cautions += found.cautions
    return Conversion(begin=begin, end=end, factors=tuple(factors), cautions=tuple(cautions))


def _unlike(begin: Reach, end: Reach, metric: str) -> str:
    for reach in (begin, end):
        if reach in (Reach.UNSTATED, Reach.PART, Reach.SECTOR):
            return f"boundary {reach}: " + _NEVER[reach]
    if {begin, end} & set(PRODUCT) or Reach.LIFE_CYCLE in (begin, end):
        return f"{begin} and {end} are different things, and no factor joins them"
    if metric not in CONVERTIBLE_METRICS:
        return f"{metric} at {begin} is not {metric} at {end}, and hangs on the grid and site it was computed with"
    if (begin, end) not in _STEPS:
        return f"no factor leads from {begin} to {end}; figures are brought outward only"
    return ""


_NEVER = {
    Reach.UNSTATED: "what it covers is not stated or was not seen",
    Reach.PART: "it is a part of another figure",
    Reach.SECTOR: "it is of a company, a fleet or all data centres",
}


def nearest_common(first: Reach, second: Reach) -> Reach | None:
    """The innermost boundary that both can be brought to, or None.

    >>> nearest_common(Reach.NODE, Reach.COMPONENTS), nearest_common(Reach.BOARD_X_PUE, Reach.NODE)
    (<Reach.NODE: 'node'>, <Reach.FACILITY: 'facility'>)
    """
    for end in OPERATION:
        if all(begin is end or (begin, end) in _STEPS for begin in (first, second)):
            return end
    return None
