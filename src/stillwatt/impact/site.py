"""Where the work ran, as the impacts need it: every factor that applies there, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillwatt.factors.catalog import Catalog, choose
from stillwatt.records.factor import Choice, Factor, NoFactor, Place, Water
from stillwatt.records.impact import Impact

FACTOR_OF: Mapping[Impact, str] = {
    Impact.GWP_LOCATION: "grid_gwp_location",
    Impact.GWP_MARKET: "grid_gwp_market",
    Impact.PRIMARY_ENERGY: "grid_primary_energy",
    Impact.ADPE: "grid_adpe",
    Impact.WATER_OFFSITE: "offsite_water",
}
"""Which factor the facility's energy is multiplied by, for each impact."""
_ALWAYS = ("node_overhead", "components_to_node", "pue", *FACTOR_OF.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with its factors."""

    place: Place
    found: Mapping[str, Choice | NoFactor]
    """By quantity; `offsite_water` holds the figure without hydro where that was asked for."""

    def factor(self, quantity: str) -> Factor | NoFactor:
        """The factor of a quantity, or why there is none."""
        found = self.found[quantity]
        return found.factor if isinstance(found, Choice) else found

    def cautions(self, quantity: str) -> tuple[str, ...]:
        """What must be known of it."""
        found = self.found[quantity]
        return found.cautions if isinstance(found, Choice) else ()


def site_at(catalog: Catalog, place: Place, *, charge_hydro: bool = True, year: int | None = None) -> Site:
    """The factors of a place.

    Args:
        catalog: where to look.
        place: where the work ran.
        charge_hydro: whether what evaporates from reservoirs is charged to hydro; the answer can differ tenfold.
        year: when the work ran, for cautions about old figures.
    """
    found = {quantity: choose(catalog, quantity, place, year=year) for quantity in _ALWAYS}
    if not charge_hydro:
        found["offsite_water"] = choose(catalog, "offsite_water_without_hydro", place, year=year)
    found["wue"] = _wue(catalog, place, year)
    return Site(place=place, found=found)


def _wue(catalog: Catalog, place: Place, year: int | None) -> Choice | NoFactor:
    """Consumption where it is known; else withdrawal, which the cell names and which is added to no consumption."""
    consumption = choose(catalog, "wue", place, water=Water.CONSUMPTION, year=year)
    if isinstance(consumption, Choice):
        return consumption
    withdrawal = choose(catalog, "wue", place, water=Water.WITHDRAWAL, year=year)
    return withdrawal if isinstance(withdrawal, Choice) else consumption
