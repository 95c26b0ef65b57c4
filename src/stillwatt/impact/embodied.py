"""Making hardware and buildings, by the share of their life that the work took (method.md, eqs. 71 to 73).

Devices of one kind are summed over runs before anything is drawn, so that fifty runs cost no more than one. A device
without a factor is named as lacking, with what to give; it is never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from stillwatt.impact.draws import Draws
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.tally import Drawer, Tally
from stillwatt.records.factor import Choice, Factor, NoFactor, Water
from stillwatt.records.impact import Impact, LifeStage, Making, Status
from stillwatt.records.lifecycle import Found, Held, Kept, Role
from stillwatt.units import BYTES_PER_GB, DAYS_PER_YEAR, H_PER_YEAR, S_PER_YEAR

Tallies = dict[tuple[LifeStage, Impact], Tally]

EMBODIED: Mapping[Impact, str] = {
    Impact.PRIMARY_ENERGY: "embodied_primary_energy",
    Impact.GWP_LOCATION: "embodied_gwp",
    Impact.GWP_MARKET: "embodied_gwp",
    Impact.WATER_OFFSITE: "embodied_water",
    Impact.ADPE: "embodied_adpe",
}
"""Which factor of a device makes which impact; making it is the same under both GWPs of electricity."""
END_OF_LIFE: Mapping[Impact, str] = {
    Impact.PRIMARY_ENERGY: "eol_primary_energy",
    Impact.GWP_LOCATION: "eol_gwp",
    Impact.GWP_MARKET: "eol_gwp",
    Impact.WATER_OFFSITE: "eol_water",
    Impact.ADPE: "eol_adpe",
    Impact.EWASTE: "ewaste_mass",
}
"""The same at the end of its life. `eol_water` is no quantity: water there is known as weighted cubic metres alone."""
_BOTH_GWP = "making and disposing are the same under the location-based and the market-based account"


class Shares:
    """What part of a device's life the work took (method.md, eq. 71).

    Args:
        inputs: the account's inputs.
        drawer: where inputs are drawn.
    """

    def __init__(self, inputs: Inputs, drawer: Drawer) -> None:
        self._drawer = drawer
        self._life = inputs.shared["lifetime"]
        self._busy: Found | None = inputs.shared["utilisation"] if inputs.charge_idle else None

    @property
    def lacking(self) -> str:
        """Why no share can be given; empty where it can."""
        missing = [found.reason for found in (self._life, self._busy) if isinstance(found, NoFactor)]
        return "; ".join(missing)

    def of(self, device_s: float) -> tuple[float, Draws, tuple[Factor, ...]]:
        """The share that so many device-seconds are, with its draws and factors."""
        life, *rest = self._factors()
        value, draws = device_s / (S_PER_YEAR * life.value), device_s / (S_PER_YEAR * self._drawer.factor(life))
        for busy in rest:
            value, draws = value / busy.value, draws / self._drawer.factor(busy)
        return value, draws, (life, *rest)

    def _factors(self) -> list[Factor]:
        return [found.factor for found in (self._life, self._busy) if isinstance(found, Choice)]


def book_hardware(tallies: Tallies, inputs: Inputs, drawer: Drawer) -> None:
    """Manufacture of accelerators, hosts, network and drives, into `hardware_manufacturing`."""
    book_devices(tallies, LifeStage.HARDWARE, EMBODIED, inputs, drawer)
    for kept in inputs.kept:
        for impact in EMBODIED:
            _book_kept(tallies.setdefault((LifeStage.HARDWARE, impact), Tally()), impact, kept, inputs, drawer)


def book_devices(
    tallies: Tallies, stage: LifeStage, quantities: Mapping[Impact, str], inputs: Inputs, drawer: Drawer
) -> None:
    """One stage's impacts of all devices that were held."""
    shares = Shares(inputs, drawer)
    for group in _by_device(inputs.held):
        first = group[0]
        device_s = math.fsum(sorted(held.count * held.time_s for held in group))
        share = None if shares.lacking else shares.of(device_s)
        for impact, quantity in quantities.items():
            tally = tallies.setdefault((stage, impact), Tally())
            found = first.found.get(quantity)
            if share is None:
                tally.lacking.append(f"{_called(first)}: {shares.lacking}")
            elif not isinstance(found, Choice):
                tally.lacking.append(_no_factor(first, quantity, found))
            elif impact is Impact.WATER_OFFSITE and found.factor.water is not Water.CONSUMPTION:
                tally.lacking.append(f"{_called(first)}: {found.factor.id} counts no water consumed")
            else:
                value, draws, factors = share
                factor = found.factor
                tally.add(
                    value * factor.value,
                    draws * drawer.factor(factor),
                    Status.FACTOR,
                    Making.EQUIPMENT,
                    (factor, *factors),
                )
                tally.covers[first.role.value] = None
                tally.cautions += [*found.cautions, *first.cautions]
                if impact in (Impact.GWP_LOCATION, Impact.GWP_MARKET):
                    tally.cautions.append(_BOTH_GWP)


def book_building(tallies: Tallies, inputs: Inputs, drawer: Drawer, node: Sequence[Tally]) -> None:
    """The building, by the IT power that the work drew and for how long: by its energy (method.md, eq. 73)."""
    making, life = inputs.shared["building_gwp"], inputs.shared["building_lifetime"]
    for impact in EMBODIED:
        tally = tallies.setdefault((LifeStage.INFRASTRUCTURE, impact), Tally())
        if impact not in (Impact.GWP_LOCATION, Impact.GWP_MARKET):
            tally.lacking.append(f"building: nobody gives its {impact.value}")
            continue
        missing = [found.reason for found in (making, life) if isinstance(found, NoFactor)]
        lacking = [reason for one in node for reason in one.lacking]
        tally.lacking += [*missing, *lacking, "power, cooling and network plant beside the building: not known"]
        drawn = [(one.value, one.draws) for one in node if one.draws is not None]
        if isinstance(making, NoFactor) or isinstance(life, NoFactor) or not drawn:
            continue
        per_kwh = drawer.factor(making.factor) / (H_PER_YEAR * drawer.factor(life.factor))
        value = math.fsum(kwh for kwh, _ in drawn) * making.factor.value / (H_PER_YEAR * life.factor.value)
        draws = sum((draws for _, draws in drawn[1:]), drawn[0][1]) * per_kwh
        used = {name: None for one in node for name in one.factors}
        tally.add(value, draws, Status.FACTOR, Making.BUILDING, (making.factor, life.factor))
        tally.covers["building"] = None
        tally.factors.update(used)
        tally.cautions += [*making.cautions, *life.cautions, _BOTH_GWP]


def _book_kept(tally: Tally, impact: Impact, kept: Kept, inputs: Inputs, drawer: Drawer) -> None:
    """Drives for bytes that were kept (method.md, eq. 72)."""
    life = inputs.shared["storage_lifetime"]
    if impact not in (Impact.GWP_LOCATION, Impact.GWP_MARKET):
        tally.lacking.append(f"drives for {kept.what}: nobody gives their {impact.value} per gigabyte")
        return
    missing = [found.reason for found in (kept.found, life) if isinstance(found, NoFactor)]
    if isinstance(kept.found, NoFactor) or isinstance(life, NoFactor):
        tally.lacking.append(f"drives for {kept.what}: {'; '.join(missing)}")
        return
    amount = kept.size_bytes / BYTES_PER_GB * kept.days / DAYS_PER_YEAR
    making = kept.found.factor
    tally.add(
        amount * making.value / life.factor.value,
        amount * drawer.factor(making) / drawer.factor(life.factor),
        Status.FACTOR,
        Making.EQUIPMENT,
        (making, life.factor),
    )
    tally.covers["storage"] = None
    tally.cautions += kept.found.cautions


def _by_device(held: Sequence[Held]) -> list[list[Held]]:
    groups: dict[tuple[Role, str], list[Held]] = {}
    for one in sorted(held, key=lambda one: (one.role.value, one.device, one.name, one.run)):
        groups.setdefault((one.role, one.device), []).append(one)
    return list(groups.values())


def _called(held: Held) -> str:
    return f"{held.role.value} {held.name}"


def _no_factor(held: Held, quantity: str, found: Found | None) -> str:
    if isinstance(found, NoFactor):
        return f"{_called(held)}: {found.reason}"
    return f"{_called(held)}: nobody gives its {quantity}"
