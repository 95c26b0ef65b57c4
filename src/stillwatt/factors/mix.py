"""Electricity by source: primary energy and power plants' water of a mix, from its shares (method.md, eqs. 62, 63)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from stillwatt.factors.tables import rows, shipped_factors
from stillwatt.records.factor import Distribution, Factor

_TWH = "_twh"
_MOST_UNKNOWN = 0.05
"""Share of a mix that may come from sources without a factor, before nothing is said of the mix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Where a country's electricity came from in a year."""

    where: str
    name: str
    year: int
    shares: Mapping[str, float]
    """Share of each source; they sum to 1."""


@cache
def mixes() -> Mapping[str, Mix]:
    """The mix of each country that is known."""
    return {mix.where: mix for mix in map(_mix, rows("mix"))}


def _mix(row: Mapping[str, str]) -> Mix:
    twh = {
        key.removesuffix(_TWH): float(cell) for key, cell in row.items() if key.endswith(_TWH) and key != "total_twh"
    }
    total = math.fsum(twh.values())
    shares = {source: amount / total for source, amount in twh.items()} if total else {}
    return Mix(where=row["where"], name=row["name"], year=int(row["year"]), shares=shares)


def by_source(quantity: str) -> dict[str, Factor]:
    """The shipped factor of each source for one quantity."""
    return {factor.where: factor for factor in shipped_factors() if factor.quantity == quantity}


@cache
def mix_factors() -> tuple[Factor, ...]:
    """Primary energy and off-site water without hydro of each mix that is known well enough."""
    primary, water = by_source("primary_energy_by_source"), by_source("offsite_water_by_source")
    primary["other_renewable"] = _other_renewable(primary)
    water["other_renewable"] = _other_renewable(water)
    made = []
    for mix in mixes().values():
        made.append(_weighted(mix, primary, "grid_primary_energy"))
        made.append(_weighted(mix, water, "offsite_water_without_hydro", without=("hydro",)))
    return tuple(factor for factor in made if factor is not None)


def _other_renewable(factors: Mapping[str, Factor]) -> Factor:
    """Geothermal, for the most part: the statistics keep it with waves and tides."""
    return factors["geothermal"]


def _weighted(mix: Mix, factors: Mapping[str, Factor], quantity: str, without: tuple[str, ...] = ()) -> Factor | None:
    """Mean over sources; each end of the interval is the mean of the sources' ends, as if they moved together."""
    known = {source: share for source, share in mix.shares.items() if source in factors}
    unknown = 1.0 - math.fsum(known.values())
    if not known or unknown > _MOST_UNKNOWN:
        return None
    parts = [(share, factors[source]) for source, share in known.items() if source not in without]
    scale = 1.0 / math.fsum(known.values())
    value, low, high = (
        math.fsum(share * getattr(factor, end) for share, factor in parts) * scale for end in ("value", "low", "high")
    )
    sample = next(iter(factors.values()))
    return Factor(
        id=f"mix/{quantity}/{mix.where}",
        quantity=quantity,
        value=value,
        low=min(low, value),
        high=max(high, value),
        distribution=Distribution.TRIANGULAR if low < high else Distribution.EXACT,
        unit=sample.unit,
        where=mix.where,
        year=mix.year,
        vintage=str(mix.year),
        boundary="from the generation mix by source; no trade, no losses in transmission"
        + ("; nothing charged to hydro" if without else ""),
        source="Stillwatt, method.md eq. 63 on the mix of Our World in Data and Ember"
        if without
        else "Stillwatt, method.md eq. 62 on the mix of Our World in Data and Ember",
        source_url="https://github.com/owid/energy-data",
        licence="CC-BY-4.0 (Our World in Data, Ember)",
        verified=False,
        note="computed from shares by source; sources' factors are world averages",
        water=sample.water,
    )
