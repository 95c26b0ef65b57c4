"""A stage that keeps what it is told, for what is tested without a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stage:
    """A stage and a bar that keep what they are told."""

    counts: Counter[str] = field(default_factory=Counter)
    results: dict[str, Any] = field(default_factory=dict)
    stated: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **counts: float) -> None:
        self.counts.update({name: int(amount) for name, amount in counts.items()})

    def record(self, results: Mapping[str, Any]) -> None:
        self.results.update(results)

    def state_energy(self, part: str, **said: Any) -> None:
        self.stated.append({"part": part, **said})

    def advance(self, _amount: float = 1) -> None:
        """No bar is drawn."""
