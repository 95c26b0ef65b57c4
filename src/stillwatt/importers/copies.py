"""CodeCarbon's totals, by which its row and the harness's stage that copied it are known to be the same work."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from stillwatt.ledger.rundir import one_line

_ROUNDED_REL, _ROUNDED_KWH = 0.000_000_001, 1e-15
"""A backup's figures were read and written again with 16 decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One total of one project, and where it is."""

    project: str
    total_kwh: float
    run_id: str = ""
    """The run that has it; empty where it is in a file of the same import."""
    file: str = ""

    @property
    def where(self) -> str:
        """The run, or the file."""
        return f"run {self.run_id}" if self.run_id else self.file

    @property
    def instead(self) -> str:
        """What to do to have the other one booked."""
        if self.run_id:
            return f"to have this instead, delete the directory of {self.run_id} and then import this again"
        return "to have this instead, import its file alone"


class Figures:
    """Totals that can be asked for; one of 0 is known by nothing."""

    def __init__(self, figures: Iterable[Figure] = ()) -> None:
        self._by_project: dict[str, list[Figure]] = {}
        for figure in figures:
            if figure.total_kwh > 0:
                self._by_project.setdefault(one_line(figure.project), []).append(figure)

    def find(self, project: str, total_kwh: float | None) -> Figure | None:
        """The same total of the same project, to the digits that a table keeps; None where there is none."""
        if total_kwh is None:
            return None
        return next((own for own in self._by_project.get(one_line(project), ()) if _is_same(own, total_kwh)), None)


def _is_same(figure: Figure, total_kwh: float) -> bool:
    return math.isclose(figure.total_kwh, total_kwh, rel_tol=_ROUNDED_REL, abs_tol=_ROUNDED_KWH)
