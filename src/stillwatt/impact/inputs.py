"""All that a life-cycle account is computed from. Nothing else goes in, so a report that holds it can be redone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stillwatt.impact.site import Site
from stillwatt.records.factor import Choice, Factor
from stillwatt.records.impact import Use
from stillwatt.records.lifecycle import Count, Found, Held, Kept, Lack, Moved, TimeShare, Tried

SHARED = ("lifetime", "storage_lifetime", "utilisation", "building_gwp", "building_lifetime", "recycling_rate")
"""Factors that are looked up once for an account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inventory with its factors and conventions."""

    uses: tuple[Use, ...]
    site: Site
    shared: Mapping[str, Found]
    """By the names of `SHARED`."""
    held: tuple[Held, ...] = ()
    kept: tuple[Kept, ...] = ()
    moved: tuple[Moved, ...] = ()
    lacks: tuple[Lack, ...] = ()
    counts: tuple[Count, ...] = ()
    time_share: TimeShare = TimeShare.CALENDAR
    charge_idle: bool = False
    """Whether the fleet's idle hours are charged to the work (method.md, eq. 71)."""
    charge_hydro: bool = True
    draws: int = 10_000
    seed: int = 0
    tried: Tried | None = None
    """Where attempts were looked for; None where nobody says."""
    about: Mapping[str, object] = field(default_factory=dict)
    """What is said and not computed with: goal, names of runs, assumptions; JSON values."""

    def found(self) -> Iterator[Found]:
        """Every factor that was looked for."""
        yield from self.site.found.values()
        yield from self.shared.values()
        for held in self.held:
            yield from held.found.values()
        for kept in self.kept:
            yield kept.found
        for moved in self.moved:
            yield moved.found

    def factors(self) -> dict[str, Factor]:
        """Every factor that was found, by id, in the order of ids."""
        factors = {found.factor.id: found.factor for found in self.found() if isinstance(found, Choice)}
        return dict(sorted(factors.items()))
