"""Where a point's name goes on a plane, so that names do not lie on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LETTER = 0.026
"""Width of a letter as a share of a panel's width, on the narrowest panel of a wide page."""
_LINE = 0.055
"""Height of a line of text as a share of a panel's height."""
_GAP_X, _GAP_Y = 0.035, 0.02
_MARK = 0.018
"""Half of a point's mark, as a share of a panel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A point in shares of the panel (0 to 1 from left and bottom) and its name."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where a name would lie."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether two boxes share ground."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )


CORNERS = ("right above", "left above", "right below", "left below")
"""Sides of a point where its name may stand, as preferred in the left half."""


def place_names(spots: Sequence[Spot], points: Sequence[Spot] = ()) -> tuple[str | None, ...]:
    """A corner for each name, earlier spots first; None where there is room for it nowhere.

    A name never lies on another one, and on as few points as it can.

    Args:
        spots: Points to be named.
        points: All that are drawn, named or not.

    >>> place_names([Spot(x=0.2, y=0.5, name="a"), Spot(x=0.2, y=0.5, name="b")])
    ('right above', 'right below')
    """
    taken: list[Box] = []
    corners: list[str | None] = []
    for spot in spots:
        corner = _best_corner(spot, taken, points)
        if corner is not None:
            taken.append(name_box(spot, corner))
        corners.append(corner)
    return tuple(corners)


def _best_corner(spot: Spot, taken: Sequence[Box], points: Sequence[Spot]) -> str | None:
    free = [corner for corner in _preferred(spot) if _fits(name_box(spot, corner), taken)]
    return min(free, key=lambda corner: _hidden(name_box(spot, corner), points), default=None)


def _preferred(spot: Spot) -> list[str]:
    first = "left" if spot.x > 0.5 else "right"
    return sorted(CORNERS, key=lambda corner: (not corner.startswith(first), "below" in corner))


def name_box(spot: Spot, corner: str) -> Box:
    """Where a name at that corner would lie, in shares of the panel."""
    width = _LETTER * len(spot.name)
    is_right, is_above = corner.startswith("right"), corner.endswith("above")
    left = spot.x + _GAP_X if is_right else spot.x - _GAP_X - width
    bottom = spot.y + _GAP_Y if is_above else spot.y - _GAP_Y - _LINE
    return Box(left=left, right=left + width, bottom=bottom, top=bottom + _LINE)


def _hidden(box: Box, points: Sequence[Spot]) -> int:
    """How many points a name there would lie on."""
    return sum(
        box.left - _MARK < point.x < box.right + _MARK and box.bottom - _MARK < point.y < box.top + _MARK
        for point in points
    )


def _fits(box: Box, taken: Sequence[Box]) -> bool:
    return box.left >= -0.1 and box.right <= 1.05 and not any(box.meets(other) for other in taken)
