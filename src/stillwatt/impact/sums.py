"""What may be added: not litres to weighted cubic metres, consumption to withdrawal, or a chip to a facility."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from stillwatt.errors import UnlikeAmountsError
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import VALUED, Amount, Cell, Extent, Status

_SIDES: tuple[tuple[str, Callable[[Amount], str]], ...] = (
    ("impacts of unlike kinds", lambda amount: amount.impact.value),
    ("amounts in unlike units", lambda amount: amount.unit),
    ("water of unlike kinds", lambda amount: amount.water.value if amount.water else "no water"),
)


def unlike_boundaries(extents: Iterable[Extent]) -> tuple[str, ...]:
    """The metered boundaries among these, where there are two or more: one lies within another, so they never add up.

    What it took to make things lies beside them all, and is added to any.

    >>> from stillwatt.records.impact import Making
    >>> unlike_boundaries([Making.EQUIPMENT, Boundary.FACILITY, Making.BUILDING])
    ()
    >>> unlike_boundaries([Boundary.BOARD, Boundary.FACILITY])
    ('board', 'facility')
    """
    metered = tuple(dict.fromkeys(one.value for one in extents if isinstance(one, Boundary)))
    return metered if len(metered) > 1 else ()


def add_amounts(amounts: Sequence[Amount]) -> Amount:
    """The sum of amounts of one kind, unit, boundary and kind of water.

    Raises:
        UnlikeAmountsError: two of them may not be added.
        ValueError: there are none.
    """
    if not amounts:
        raise ValueError("a sum of no amounts has no kind")
    for what, side in _SIDES:
        kinds = list(dict.fromkeys(side(amount) for amount in amounts))
        if len(kinds) > 1:
            raise UnlikeAmountsError(what, kinds)
    if unlike := unlike_boundaries(amount.boundary for amount in amounts):
        raise UnlikeAmountsError("amounts of unlike boundaries", unlike)
    metered = [amount.boundary for amount in amounts if isinstance(amount.boundary, Boundary)]
    first = replace(amounts[0], boundary=metered[0]) if metered else amounts[0]
    return replace(first, value=math.fsum(amount.value for amount in amounts))


def missing_from(cells: Sequence[Cell]) -> tuple[str, ...]:
    """What a sum over these cells would leave out: cells that are not counted, and what counted ones lack."""
    missing = [f"{cell.stage}: {cell.reason}" for cell in cells if cell.status is Status.NOT_COUNTED]
    return (*missing, *(f"{cell.stage}: {part}" for cell in cells for part in cell.incomplete))


def add_cells(cells: Sequence[Cell]) -> tuple[Amount | None, tuple[str, ...]]:
    """The sum of the cells that have a value, and what is missing from it.

    A cell that is not counted is never 0 in it: it is named. None where no cell has a value.

    Raises:
        UnlikeAmountsError: two of them may not be added.
    """
    amounts = [
        Amount(impact=cell.impact, unit=cell.unit, value=cell.value, boundary=cell.boundary, water=cell.water)
        for cell in cells
        if cell.status in VALUED and cell.value is not None and cell.boundary is not None
    ]
    return (add_amounts(amounts) if amounts else None), missing_from(cells)
