"""Arms that a recipe asks for and a run does not have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingArm:
    """An arm that the recipe asks for and of which the run reached no checkpoint."""

    run_id: str
    arm: str
    """Its id, as of an `ArmPoint`."""
    reason: str
    """What became of it, in a few words: `cut off`, `not begun`."""
    asked: int
    """How many arms the recipe asks for, each student and seed by itself."""
