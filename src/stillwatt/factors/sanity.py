"""Can this factor be true? Physical tests on every factor, our own and other people's.

A *fault* means that the figure cannot be what it says: it is listed and never used. A *caution* means that it can be
used and that something about it must be known. `docs/reference/factors.md` lists the tests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from stillwatt.factors.quantities import QUANTITIES
from stillwatt.records.factor import Factor, Fault, Water

VENDOR_RATIO = 3.0
"""How far from the vendor's own footprint an embodied figure of the same device may lie."""
VINTAGE_RATIO = 2.0
"""How far from ours another source's figure of one place may lie before it is said."""
CONDEMNED_SHARE = 0.02
"""Share of a source's column below a physical floor from which the whole column is not what it says."""
DEFAULT_REPEATS = 10
"""How often a source's world figure must stand for a place before that is called a default."""

_MAKERS = ("NVIDIA", "Dell PCF ")
"""How the source of a maker's own footprint begins; `Dell PCFs of …` is a row made of several."""

_FLOORS = {
    "grid_primary_energy": "a kWh cannot hold less energy than itself; this looks like fossil depletion (ADPf)",
    "primary_energy_by_source": "a kWh cannot hold less energy than itself",
    "pue": "a facility takes at least what its machines take",
    "node_overhead": "a node takes at least what its accelerators take",
}


def check_factor(factor: Factor, vendor: Mapping[str, Factor] | None = None) -> list[Fault]:
    """What speaks against one factor.

    Args:
        factor: any factor.
        vendor: the vendors' own embodied GWP by device.
    """
    return [fault for test in _TESTS for fault in test(factor)] + list(_vendor(factor, vendor or {}))


def check_source(factors: Sequence[Factor], ours: Mapping[tuple[str, str], Factor] | None = None) -> list[Fault]:
    """What speaks against the columns of one source: a column is one quantity in all its places.

    Args:
        factors: all factors of one source.
        ours: shipped factors by quantity and place, to compare with.
    """
    columns: dict[str, list[Factor]] = defaultdict(list)
    for factor in factors:
        columns[factor.quantity].append(factor)
    faults = [fault for column in columns.values() for fault in (*_condemned(column), *_world_default(column))]
    return faults + list(_unlike_ours(factors, ours or {}))


def vendor_footprints(factors: Iterable[Factor]) -> dict[str, Factor]:
    """The vendors' own product carbon footprints (ISO 14067) by device."""
    return {
        factor.where: factor
        for factor in factors
        if factor.quantity == "embodied_gwp"
        and "PCF " in f"{factor.source} "
        and factor.source.startswith(_MAKERS)
        and "full life cycle" not in factor.boundary
    }


def faulty(faults: Iterable[Fault]) -> frozenset[str]:
    """Ids of factors that have a fault."""
    return frozenset(fault.factor for fault in faults if fault.severity == "fault")


def _bounds(factor: Factor) -> Iterator[Fault]:
    quantity = QUANTITIES[factor.quantity]
    if factor.low < quantity.least:
        why = _FLOORS.get(quantity.name, "nothing real lies below")
        least = min(factor.value, factor.low)
        yield _fault("floor", factor, f"{least:g} {factor.unit} is below {quantity.least:g}: {why}")
    if factor.value > quantity.most:
        yield _fault(
            "ceiling", factor, f"{factor.value:g} {factor.unit} is above {quantity.most:g}: is its unit right?"
        )


def _water(factor: Factor) -> Iterator[Fault]:
    allowed = QUANTITIES[factor.quantity].waters
    if factor.water is None or not allowed:
        return
    if factor.water not in allowed:
        kinds = " or ".join(kind.value for kind in allowed)
        yield _fault("water-kind", factor, f"it counts {factor.water.value}, and {factor.quantity} counts {kinds} only")
    elif factor.water is Water.UNSTATED:
        yield _caution("water-kind", factor, "its source does not say whether water is consumed or withdrawn")
    elif factor.water is Water.WITHDRAWAL:
        yield _caution("water-kind", factor, "it counts withdrawal, which is never added to consumption")


def _basis(factor: Factor) -> Iterator[Fault]:
    if factor.quantity == "wue" and "facility kwh" in factor.boundary.casefold():
        yield _fault(
            "wue-basis",
            factor,
            "it is per kWh of the facility; a WUE is per kWh of IT, and on the facility's "
            "energy it would count the PUE twice; its quantity is onsite_water_per_facility_kwh",
        )


def _vintage(factor: Factor) -> Iterator[Fault]:
    if factor.year is None and factor.origin.startswith("user"):
        yield _caution("year", factor, "no year is given with it; a file of --factors says for which it is")
    elif factor.year is None:
        yield _caution("year", factor, "its source does not say for which year it is")


def _scope(factor: Factor) -> Iterator[Fault]:
    boundary = factor.boundary.casefold()
    if factor.quantity == "grid_gwp_location" and ("co2 only" in boundary or "stack" in boundary):
        yield _caution(
            "scope", factor, f"{factor.boundary}: lower than a life-cycle figure, and not to be compared with one"
        )
    if factor.quantity == "grid_gwp_market" and factor.value == 0.0:
        yield _caution("market-zero", factor, "0 is the provider's claim after contracts, not an absence of emissions")


_TESTS: tuple[Callable[[Factor], Iterator[Fault]], ...] = (_bounds, _water, _basis, _vintage, _scope)


def _vendor(factor: Factor, vendor: Mapping[str, Factor]) -> Iterator[Fault]:
    reference = vendor.get(factor.where)
    if factor.quantity != "embodied_gwp" or reference is None or factor.value <= 0.0:
        return
    ratio = factor.value / reference.value
    if not 1.0 / VENDOR_RATIO <= ratio <= VENDOR_RATIO:
        how = f"{ratio:.1f} times" if ratio > 1.0 else f"1/{1.0 / ratio:.1f} of"
        yield _fault(
            "vendor-footprint",
            factor,
            f"{factor.value:g} {factor.unit} is {how} the vendor's {reference.value:g} ({reference.id}): "
            "another boundary, or a wrong model",
        )


def _condemned(column: Sequence[Factor]) -> Iterator[Fault]:
    least = QUANTITIES[column[0].quantity].least
    below = [factor for factor in column if factor.value < least]
    if least <= 0.0 or len(column) < DEFAULT_REPEATS or len(below) <= CONDEMNED_SHARE * len(column):
        return
    message = (
        f"{len(below)} of {len(column)} figures of {column[0].quantity} lie below {least:g} {column[0].unit}: "
        "the column is not what it is called, and none of it is used"
    )
    yield Fault(check="column", severity="fault", factor=_column_name(column), message=message)
    for factor in column:
        yield _fault("column", factor, message)


def _world_default(column: Sequence[Factor]) -> Iterator[Fault]:
    world = next((factor.value for factor in column if factor.where == "world"), None)
    if world is None:
        world, _ = Counter(factor.value for factor in column).most_common(1)[0]
    same = [factor for factor in column if factor.value == world and factor.where != "world"]
    if world == 0.0 or len(same) < DEFAULT_REPEATS or QUANTITIES[column[0].quantity].of != "place":
        return
    message = f"{len(same)} of {len(column)} places of {column[0].quantity} carry {world:g}, the world's figure"
    yield Fault(check="world-default", severity="caution", factor=_column_name(column), message=message)
    for factor in same:
        yield _caution("world-default", factor, f"{factor.value:g} is the source's world figure, not this place's")


def _unlike_ours(factors: Sequence[Factor], ours: Mapping[tuple[str, str], Factor]) -> Iterator[Fault]:
    for factor in factors:
        mine = ours.get((factor.quantity, factor.where))
        if mine is None or min(mine.value, factor.value) <= 0.0:
            continue
        ratio = max(mine.value, factor.value) / min(mine.value, factor.value)
        if ratio > VINTAGE_RATIO:
            yield _caution(
                "unlike-sources",
                factor,
                f"{factor.value:g} here and {mine.value:g} in {mine.id} ({mine.vintage or 'no year'}): "
                f"{ratio:.1f} times apart",
            )


def mean_outside_parts(name: str, mean: float, parts: Mapping[str, float]) -> list[Fault]:
    """A fault where a mean lies outside its parts: whatever their weights, it cannot.

    >>> mean_outside_parts("x/fossil", 635.0, {"coal": 995.0, "gas": 743.0})[0].check
    'mean-outside-parts'
    """
    if not parts or min(parts.values()) <= mean <= max(parts.values()):
        return []
    said = ", ".join(f"{part} {value:g}" for part, value in sorted(parts.items()))
    message = f"{mean:g} is said to be the mean of {said}: no weights give that"
    return [Fault(check="mean-outside-parts", severity="fault", factor=name, message=message)]


def _column_name(column: Sequence[Factor]) -> str:
    return f"{column[0].origin}: {column[0].quantity}"


def _fault(check: str, factor: Factor, message: str) -> Fault:
    return Fault(check=check, severity="fault", factor=factor.id, message=message)


def _caution(check: str, factor: Factor, message: str) -> Fault:
    return Fault(check=check, severity="caution", factor=factor.id, message=message)
