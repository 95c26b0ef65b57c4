"""Baselines as stairs: the cheapest at least as good, the best at least as cheap (method.md, eqs. 33 to 35)."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from stillwatt.analysis.plane import frontier_mask

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Item]):
    """One baseline."""

    energy_j: float
    quality: float
    item: Item


class Stairs(Generic[Item]):
    """Looks up baselines by quality or by energy in O(log n); of equals, the earlier one.

    >>> stairs = Stairs([Step(energy_j=7.0, quality=0.7, item="small"), Step(energy_j=20.0, quality=0.9, item="big")])
    >>> stairs.cheapest_as_good(0.8), stairs.cheapest_as_good(0.95), stairs.best_as_cheap(10.0)
    ('big', None, 'small')
    """

    def __init__(self, steps: Iterable[Step[Item]]) -> None:
        """Sort the steps both ways."""
        known = _unbeaten(list(steps))
        self._by_quality: list[tuple[float, Step[Item]]] = []
        for step in sorted(known, key=lambda s: (-s.quality, s.energy_j)):
            held = self._by_quality[-1][1] if self._by_quality else step
            self._by_quality.append((-step.quality, step if step.energy_j < held.energy_j else held))
        self._by_energy: list[tuple[float, Step[Item]]] = []
        for step in sorted(known, key=lambda s: (s.energy_j, -s.quality)):
            held = self._by_energy[-1][1] if self._by_energy else step
            self._by_energy.append((step.energy_j, step if step.quality > held.quality else held))

    def cheapest_as_good(self, quality: float) -> Item | None:
        """The cheapest of those with at least this quality."""
        count = bisect.bisect_right(self._by_quality, -quality, key=lambda entry: entry[0])
        return self._by_quality[count - 1][1].item if count else None

    def best(self) -> Item | None:
        """The best of all, whatever it took."""
        return self._by_quality[0][1].item if self._by_quality else None

    def best_as_cheap(self, energy_j: float) -> Item | None:
        """The best of those with at most this energy."""
        count = bisect.bisect_right(self._by_energy, energy_j, key=lambda entry: entry[0])
        return self._by_energy[count - 1][1].item if count else None


def _unbeaten(steps: Sequence[Step[Item]]) -> list[Step[Item]]:
    """Steps that none beats: another is never looked up."""
    if not steps:
        return []
    energy, quality = (np.array([getattr(step, name) for step in steps]) for name in ("energy_j", "quality"))
    return [steps[place] for place in np.flatnonzero(frontier_mask(energy, quality)).tolist()]
