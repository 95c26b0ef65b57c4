"""Figures that a model of a device made, not its maker: their interval is a factor of three (method.md, eq. 71)."""

from __future__ import annotations

from dataclasses import replace

from stillwatt.factors.catalog import Catalog, choose_for_device
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.records.factor import Choice, Factor, NoFactor

PARAMETRIC_RATIO = 3.0
"""How far a parametric model of a board lies from its maker's own figure, as found in installed packages."""
_MODELS = ("ecologits", "boaviztapi")


def is_parametric(factor: Factor) -> bool:
    """Whether a model made the figure: a package says so, or is known to."""
    said = f"{factor.boundary} {factor.source} {factor.note}".casefold()
    return "parametric" in said or factor.origin.startswith(_MODELS)


def making_of(catalog: Catalog, quantity: str, device: str) -> Choice | NoFactor:
    """The factor for making or ending a device; a parametric one with its wide interval, one that holds use refused.

    Args:
        catalog: where to look.
        quantity: `embodied_…`, `eol_…` or `ewaste_mass`.
        device: the device's code.
    """
    found = choose_for_device(catalog, quantity, device)
    if isinstance(found, NoFactor):
        return NoFactor(quantity=quantity, where=device, reason=f"{found.reason}; {_cure(quantity, device)}")
    factor = found.factor
    if quantity.startswith("embodied") and "full life cycle" in factor.boundary.casefold():
        reason = f"{factor.id} covers {factor.boundary}, so use would count twice; {_cure(quantity, device)}"
        return NoFactor(quantity=quantity, where=device, reason=reason)
    if factor.note.casefold().startswith("suspect"):
        found = Choice(factor=factor, cautions=(*found.cautions, f"{factor.id} is {factor.note}"))
    if not (factor.spread_is_ours and is_parametric(factor)):
        return found
    wide = replace(factor, low=factor.value / PARAMETRIC_RATIO, high=factor.value * PARAMETRIC_RATIO)
    return Choice(factor=wide, cautions=(*found.cautions, f"{factor.id} comes from a parametric model: factor 3"))


def _cure(quantity: str, device: str) -> str:
    return f"give one with --factor '{quantity}@{device}=VALUE{QUANTITIES[quantity].unit}'"
