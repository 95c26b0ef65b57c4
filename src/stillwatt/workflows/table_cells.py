"""The numbers of one row of a table: what they must be, and what they make together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stillwatt.records.comparison import CardEnergy
from stillwatt.units import KilowattHours, from_kwh
from stillwatt.workflows.cells import BadCellError
from stillwatt.workflows.table_names import BOUNDARIES, CARDS, HALF_WIDTHS, SETTINGS

_ABSOLUTE_KWH, _RELATIVE = 0.02, 0.005
"""How far stages may differ from the total they should sum to: what rounding to two decimals leaves."""

CARD_GAIN_REL = 0.05
"""How far a card that nobody compared with a meter may be off (method.md, section 1, rule 3)."""


def own_kwh_of(numbers: Mapping[str, float | None]) -> float | None:
    """All but the teacher's energy: from its parts, or from the total where they are unknown.

    Raises:
        BadCellError: The parts and the total disagree.
    """
    teacher, student, other, total = (numbers[f"{name}_kwh"] for name in ("teacher", "student", "other", "total"))
    if student is not None and other is not None:
        if total is not None and teacher is not None:
            stages = teacher + student + other
            if not math.isclose(stages, total, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE_KWH):
                raise BadCellError(f"its stages sum to {stages:g} kWh and total_kwh is {total:g}")
        return student + other
    if total is None or teacher is None:
        return None
    if total < teacher + (student or 0.0) + (other or 0.0):
        raise BadCellError(f"total_kwh is {total:g}, less than its stages")
    return total - teacher


def check_ranges(numbers: Mapping[str, float | None], given: Mapping[str, str]) -> None:
    """Refuse amounts below 0, and a facility that takes less than its machines.

    Raises:
        BadCellError: Such a cell.
    """
    for name, value in numbers.items():
        if value is not None and value < 0.0:
            raise BadCellError(f"{name} is {given[name]}: less than nothing; leave the cell empty if it is unknown")
        if value is not None and value < 1.0 and name.endswith("pue"):
            raise BadCellError(f"{name} is {given[name]}; a facility takes at least what its machines take: 1 or more")


def boundary_of(said: str) -> str:
    """What the energies cover, as it is called here.

    Raises:
        BadCellError: There is no such boundary.
    """
    boundary = said.casefold()
    if boundary not in ("", *BOUNDARIES):
        raise BadCellError(f"boundary is {said!r}; it is one of {', '.join(BOUNDARIES)}")
    return boundary


def half_widths_of(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Half-widths of the meter by field; what is not given is 0, as where nothing is known of the meter."""
    if all(numbers[name] is None for name in HALF_WIDTHS):
        return {}
    teacher, student, other = (from_kwh(KilowattHours(numbers[name] or 0.0)) for name in HALF_WIDTHS)
    return {"teacher_j": teacher, "student_j": student, "own_j": math.hypot(student, other)}


def settings_of(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """What the training was made with, as far as the row says."""
    return {name: value for name in SETTINGS if (value := numbers[name]) is not None}


def cards_of(numbers: Mapping[str, float | None]) -> CardEnergy | None:
    """The boards' part of the energies; None where no column says."""
    teacher, student, other = (joules_of(numbers[name]) for name in CARDS)
    if teacher is None and student is None:
        return None
    own_j = None if student is None or other is None else student + other
    return CardEnergy(teacher_j=teacher, student_j=student, own_j=own_j)


def cards_in(given: Mapping[str, str], numbers: Mapping[str, float | None]) -> dict[str, Any]:
    """On which card a row's energies were read, and how far its gain may move them; nothing where no column says."""
    device = given.get("device", "")
    if not device:
        return {}
    teacher = given.get("teacher_device", "") or device
    rel = CARD_GAIN_REL if numbers["gain_rel"] is None else numbers["gain_rel"]
    joules = {
        "teacher_j": joules_of(numbers["teacher_kwh"]),
        "student_j": joules_of(numbers["student_kwh"]),
        "own_j": joules_of(own_kwh_of(numbers)),
    }
    return {
        "devices": {name: frozenset({teacher if name == "teacher_j" else device}) for name in joules},
        "gains_j": {name: rel * (energy_j or 0.0) for name, energy_j in joules.items()},
    }


def joules_of(energy_kwh: float | None) -> float | None:
    """Joules of a cell in kWh; None is unknown."""
    return None if energy_kwh is None else from_kwh(KilowattHours(energy_kwh))
