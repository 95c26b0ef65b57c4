"""The end of devices: treatment and mass thrown away, by the same share of life as making them (method.md, eq. 74)."""

from __future__ import annotations

from collections.abc import Mapping

from stillwatt.impact.embodied import END_OF_LIFE, Tallies, book_devices
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.tally import Drawer, Tally
from stillwatt.records.factor import Choice, Factor
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.records.lifecycle import Found

PER_KG: Mapping[str, str] = {"eol_gwp": "eol_gwp_per_kg", "eol_adpe": "eol_adpe_per_kg"}
"""What stands in per kilogram where a device has no figure of its own."""


def book_end_of_life(tallies: Tallies, inputs: Inputs, drawer: Drawer) -> None:
    """Treatment and e-waste of all devices, into `end_of_life`; drives and buildings have no figures."""
    book_devices(tallies, LifeStage.END_OF_LIFE, END_OF_LIFE, inputs, drawer)
    rate = inputs.shared["recycling_rate"]
    for impact in END_OF_LIFE:
        tally = tallies.setdefault((LifeStage.END_OF_LIFE, impact), Tally())
        tally.lacking.append("drives and building: nobody gives their end of life")
        if impact is Impact.EWASTE and isinstance(rate, Choice) and tally.draws is not None:
            factor = rate.factor
            tally.cautions.append(f"mass thrown away, of which {factor.value:.0%} is collected ({factor.id})")


def per_device(per_kg: Found, mass: Found, quantity: str) -> Factor | None:
    """A device's end of life from its mass, where both are known; intervals are taken as if they moved together.

    Args:
        per_kg: impact of treating a kilogram.
        mass: the device's mass.
        quantity: what is made of them.
    """
    if not isinstance(per_kg, Choice) or not isinstance(mass, Choice):
        return None
    one, other = per_kg.factor, mass.factor
    return Factor(
        id=f"{one.id} x {other.id}",
        quantity=quantity,
        value=one.value * other.value,
        low=one.low * other.low,
        high=one.high * other.high,
        distribution=one.distribution,
        unit=one.unit.replace("/kg", "/device"),
        where=other.where,
        year=one.year,
        vintage=one.vintage,
        boundary=f"{one.boundary}, by the device's mass",
        source=f"{one.source}; {other.source}",
        source_url=one.source_url,
        licence=one.licence,
        verified=one.verified and other.verified,
        note="made by this project from a figure per kilogram and a mass",
        spread_is_ours=one.spread_is_ours,
        origin=one.origin,
    )
