"""All factors that are there, their faults, and which one applies.

Order of trust: what the user gave, then shipped figures that were read in their source, then shipped ones that
somebody quotes, then those of installed packages; within each the later year. A factor with a fault is listed and never
chosen. Nothing is taken from a wider place without saying so, and a quantity that no place on the way has is a
`NoFactor` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillwatt.errors import ImpossibleFactorError
from stillwatt.factors.mix import mix_factors
from stillwatt.factors.packages import PackageFactors
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.factors.sanity import check_factor, check_source, faulty, vendor_footprints
from stillwatt.factors.tables import shipped_factors
from stillwatt.records.factor import Choice, Factor, Fault, NoFactor, Place, Water

USER = "user"
"""How the origin of a factor that the user gave begins."""
FAR_YEARS = 3
"""From how many years between a factor and the work this is said."""
_WORLD_STANDS_IN = ("pue", "node_overhead", "components_to_node", "recycling_rate")
"""What may be taken from the world's average where nothing narrower is known; of a grid it never is."""
_GIVEN_BY = {"grid_adpe": "ecologits"}
"""Which optional package has what the shipped tables have not."""
_FROM_SITE = (
    "pue",
    "wue",
    "onsite_water_per_facility_kwh",
    "node_overhead",
    "components_to_node",
    "accelerator_to_facility",
    "grid_gwp_market",
)
"""What belongs to whoever runs the place: a provider's fleet stands in for its region, a country's average does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Factors by quantity and place, with what speaks against them."""

    factors: tuple[Factor, ...]
    faults: tuple[Fault, ...]
    missing: tuple[str, ...] = ()
    """One sentence for each optional package that could not be read."""

    def of(self, quantity: str, where: str) -> list[Factor]:
        """Usable factors of a quantity at exactly one place, the most trusted first."""
        bad = faulty(self.faults)
        return [f for f in self.factors if f.quantity == quantity and f.where == where and f.id not in bad]

    def cautions(self, factor: Factor) -> tuple[str, ...]:
        """What must be known of a factor that is used."""
        return tuple(f"{factor.id}: {fault.message}" for fault in self.faults if fault.factor == factor.id)


def build_catalog(
    packages: Iterable[PackageFactors] = (), user: Sequence[Factor] = (), shipped: Sequence[Factor] | None = None
) -> Catalog:
    """All factors together, each tested.

    Args:
        packages: what installed packages gave.
        user: what the user gave; later ones win.
        shipped: the project's own tables, or others in their place.

    Raises:
        ImpossibleFactorError: a factor that the user gave has a fault.
    """
    ours = (*(shipped_factors() if shipped is None else shipped), *mix_factors())
    vendor = vendor_footprints(ours)
    for factor in user:
        if found := [fault for fault in check_factor(factor, vendor) if fault.severity == "fault"]:
            raise ImpossibleFactorError(f"{factor.id} of {factor.origin}", found[0].message)
    theirs = tuple(packages)
    by_place: dict[tuple[str, str], Factor] = {}
    for factor in sorted(ours, key=_trust):
        by_place.setdefault((factor.quantity, factor.where), factor)
    everything = (*reversed(user), *ours, *(factor for package in theirs for factor in package.factors))
    faults = [fault for factor in everything for fault in check_factor(factor, vendor)]
    for package in theirs:
        faults += [*package.faults, *check_source(package.factors, by_place)]
    return Catalog(
        factors=tuple(sorted(everything, key=_trust)),
        faults=tuple(dict.fromkeys(faults)),
        missing=tuple(package.missing for package in theirs if package.missing),
    )


def choose(
    catalog: Catalog, quantity: str, place: Place, *, water: Water | None = None, year: int | None = None
) -> Choice | NoFactor:
    """The factor that applies at a place, or why there is none.

    Args:
        catalog: where to look.
        quantity: what is wanted.
        place: where the work ran.
        water: the one kind of water that is wanted, for a quantity that may count several.
        year: when the work ran; a factor of a year far from it says so.
    """
    on_the_way = [factor for where in _way(quantity, place) for factor in catalog.of(quantity, where)]
    # what the user says of a wider place comes before what anybody else says of a narrower one
    on_the_way.sort(key=lambda factor: not factor.origin.startswith(USER))
    unlike: list[Factor] = []
    for factor in on_the_way:
        if water is None or factor.water is water:
            return Choice(factor=factor, cautions=_said(catalog, factor, place, year))
        unlike.append(factor)
    return NoFactor(quantity=quantity, where=place.code, reason=_why_not(catalog, quantity, place, unlike, water))


def choose_for_device(catalog: Catalog, quantity: str, device: str) -> Choice | NoFactor:
    """The factor of a device by its code, or why there is none."""
    for factor in catalog.of(quantity, device):
        return Choice(factor=factor, cautions=catalog.cautions(factor))
    bad = sum(f.quantity == quantity and f.where == device for f in catalog.factors)
    why = f"{bad} of them, each with a fault: `stillwatt factors check`" if bad else "none for this device"
    return NoFactor(quantity=quantity, where=device, reason=f"no usable {quantity} of {device}: {why}")


def _way(quantity: str, place: Place) -> list[str]:
    if quantity in _FROM_SITE:
        way = [place.code, *([place.provider] if place.provider else [])]
    else:
        way = [place.code, *place.within]
    if quantity in _WORLD_STANDS_IN:
        way.append("world")
    return list(dict.fromkeys(way))


def _said(catalog: Catalog, factor: Factor, place: Place, year: int | None) -> tuple[str, ...]:
    said = catalog.cautions(factor)
    if year is not None and factor.year is not None and abs(year - factor.year) >= FAR_YEARS:
        said = (f"{factor.id} is for {factor.year}, and the work ran in {year}", *said)
    if factor.where != place.code:
        said = (f"{factor.quantity} of {factor.where} stands in for {place.code}", *said)
    return (*said, place.caution) if place.caution else said


def _why_not(catalog: Catalog, quantity: str, place: Place, unlike: Sequence[Factor], water: Water | None) -> str:
    what = f"no {quantity} for {place.name}"
    if unlike and water is not None:
        kinds = ", ".join(sorted({factor.water.value for factor in unlike if factor.water}))
        return f"{what} that counts {water.value}: {unlike[0].id} counts {kinds}"
    if quantity == "grid_gwp_market":
        return f"{what}: a market-based figure comes from a contract or a provider's table, and none was given"
    way = _way(quantity, place)
    if any(factor.quantity == quantity and factor.where in way for factor in catalog.factors):
        return f"{what} without a fault: `stillwatt factors check` says which"
    unit = QUANTITIES[quantity].unit.removeprefix("1")
    cure = f"give one with --factor {quantity}@{place.code}=VALUE{unit}"
    gone = [said for said in catalog.missing if said.startswith(_GIVEN_BY.get(quantity, " "))]
    return "; ".join((what, cure, *gone))


def _trust(factor: Factor) -> tuple[int, int]:
    if factor.origin.startswith(USER):
        rank = 0
    elif factor.origin == "stillwatt":
        rank = 1 if factor.verified else 2
    else:
        rank = 3
    return rank, 0 if rank == 0 else -(factor.year or 0)
