"""Use case: which factors there are, which one applies, and what speaks against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.config.factor_file import load_factors, parse_override
from stillwatt.errors import ConfigError, UnknownNameError, UsageError
from stillwatt.factors.catalog import Catalog, build_catalog, choose, choose_for_device
from stillwatt.factors.devices import device_code
from stillwatt.factors.packages import PackageFactors, read_packages
from stillwatt.factors.places import find_place
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.records.factor import Choice, Factor, NoFactor, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What applies at a place or for a device."""

    place: Place | None
    device: str
    other: str
    """What is neither, as a factor names it: a technology, a source of power, a data centre."""
    found: tuple[tuple[str, Choice | NoFactor], ...]
    """Quantity, and what was found."""


def open_catalog(
    files: Sequence[str] = (), overrides: Sequence[str] = (), packages: Sequence[PackageFactors] | None = None
) -> Catalog:
    """The catalogue with the user's own factors on top; overrides come before files.

    Raises:
        ConfigError: a file or an override cannot be meant.
    """
    given = [parse_override(text) for text in overrides]
    for number, factor in enumerate(given):
        if any(_told(factor) == _told(other) for other in given[:number]):
            raise ConfigError("--factor", f"{factor.quantity}@{factor.where} is given twice; only one can be meant")
    user = [*(factor for path in files for factor in load_factors(path)), *given]
    return build_catalog(read_packages() if packages is None else packages, user)


def _told(factor: Factor) -> tuple[str, str, str]:
    return factor.quantity, factor.where, factor.water.value if factor.water else ""


def list_factors(catalog: Catalog, quantity: str = "", where: str = "") -> list[Factor]:
    """Factors of a quantity, of a place or device, or of both; all where nothing is asked.

    Raises:
        UnknownNameError: no such quantity; or the name is no place, and no factor is of it.
    """
    if quantity and quantity not in QUANTITIES:
        raise UnknownNameError("quantity", quantity, QUANTITIES)
    wanted = _codes(where)
    if where and not any(factor.where in wanted for factor in catalog.factors):
        find_place(where)  # a place that nobody has a factor for has an empty list, what is no name at all has none
    return [
        factor
        for factor in catalog.factors
        if (not quantity or factor.quantity == quantity) and (not where or factor.where in wanted)
    ]


def show_factors(catalog: Catalog, name: str) -> Shown:
    """What applies at a place, for a device where the name is one that the catalogue has, or for what a factor names.

    Raises:
        UnknownNameError: the name is no place, and the catalogue has no factor of that name.
        AmbiguousNameError: it means several places.
    """
    device = device_code(name)
    kinds = [quantity for quantity in QUANTITIES.values() if quantity.of == "device"]
    if any(factor.where == device and QUANTITIES[factor.quantity].of == "device" for factor in catalog.factors):
        found = tuple((kind.name, choose_for_device(catalog, kind.name, device)) for kind in kinds)
        return Shown(place=None, device=device, other="", found=found)
    named = {factor.quantity for factor in catalog.factors if factor.where == name}
    try:
        place = find_place(name)
    except UsageError:
        if not named:
            raise
        place = None
    if place is None or (named and place.code != name):
        of_it = [kind.name for kind in QUANTITIES.values() if kind.name in named]
        found = tuple((kind, choose_for_device(catalog, kind, name)) for kind in of_it)
        return Shown(place=None, device="", other=name, found=found)
    of_places = [quantity for quantity in QUANTITIES.values() if quantity.of in ("place", "provider")]
    return Shown(
        place=place, device="", other="", found=tuple((one.name, choose(catalog, one.name, place)) for one in of_places)
    )


def _codes(where: str) -> tuple[str, ...]:
    if not where:
        return ()
    try:
        return (find_place(where).code, device_code(where), where)
    except UnknownNameError:
        return (device_code(where), where)
