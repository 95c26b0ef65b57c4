"""A broken rule of a recipe, and where."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str | int, ...]
"""Where a setting stands: keys, and numbers for entries of arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A broken rule and the setting that breaks it."""

    place: Place
    message: str
