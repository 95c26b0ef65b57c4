"""Carbon of a metered kWh where something would run: a place's factors with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.costs.model import figure
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.errors import UsageError
from stillwatt.records.channel import Basis, Boundary
from stillwatt.units import J_PER_KWH, Joules

__all__ = ["Carbon", "carbon_at"]

_NAME = "advice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """kgCO2e of a metered kWh, drawn: one draw for all options, since they would run in one place."""

    draws: Floats
    note: str


def carbon_at(region: str, boundary: Boundary, *, count: int, seed: int) -> Carbon:
    """Draws of what a metered kWh would emit at a place, with all that lies between meter and grid (eqs. 64 to 66).

    Args:
        region: Any name that the factors know.
        boundary: What the energies cover.
        count: Draws.
        seed: Of the draws.

    Raises:
        UnknownNameError: There is no such place.
        UsageError: A factor that is needed is not known there.
    """
    from stillwatt.factors.places import find_place
    from stillwatt.impact.operational import Operational
    from stillwatt.impact.site import site_at
    from stillwatt.records.energy import Total
    from stillwatt.records.factor import Factor
    from stillwatt.records.impact import Impact, LifeStage, Use
    from stillwatt.workflows.factors import open_catalog

    place = find_place(region)
    one_kwh = Total(
        value_j=Joules(J_PER_KWH),
        low_j=Joules(J_PER_KWH),
        high_j=Joules(J_PER_KWH),
        basis=Basis.MODELLED,
        complete=True,
        boundary=boundary,
    )
    use = Use(run=_NAME, stage=LifeStage.POST_TRAINING, energy=one_kwh, meter=_NAME)
    site = site_at(open_catalog(), place)
    found = Operational([use], site, draws=count, seed=seed, by_run=False)
    tally = found.tallies[LifeStage.POST_TRAINING, Impact.GWP_LOCATION]
    if tally.lacking or tally.draws is None:
        raise UsageError(
            f"--region {region}: carbon is not known there ({'; '.join(tally.lacking)}); name another place, or say it "
            "with --kgco2e-per-kwh"
        )
    draws: Floats = np.asarray(tally.draws, dtype=np.float64)
    known = figure(draws)
    factors = [site.factor(quantity) for quantity in site.found]
    used = [entry for entry in factors if isinstance(entry, Factor) and entry.id in tally.factors]
    rests_on = " × ".join(f"{entry.quantity} {entry.value:.4g} ({entry.id})" for entry in used)
    return Carbon(
        draws=draws,
        note=(
            f"carbon: {known.value:.3g} [{known.low:.3g}, {known.high:.3g}] kgCO2e per metered kWh in {place.name}, "
            f"95 %, location-based: {rests_on}; the same draw for all options"
        ),
    )
