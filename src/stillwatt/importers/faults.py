"""Rows of a table that cannot be used: one entry for each kind of fault, so that a long log does not drown it."""

from __future__ import annotations

import re

from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import LeftOut

_VARYING = re.compile(r"'[^']*'|[-+]?\d[\d.e+-]*")


class Faults:
    """Rows that cannot be used, one entry for each kind of fault."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._found: dict[str, list[tuple[int, str]]] = {}

    def add(self, line: int, what: str) -> None:
        """Remember a row; faults that differ in their numbers and quotes only are of one kind."""
        self._found.setdefault(_VARYING.sub("…", what), []).append((line, what))

    def left_out(self) -> list[LeftOut]:
        """The first of each kind, with the number of the others."""
        left_out = []
        for found in self._found.values():
            line, what = found[0]
            more = f" (and {len(found) - 1} more rows like it)" if len(found) > 1 else ""
            left_out.append(LeftOut(name=self._file.name, line=line, reason=what + more))
        return left_out
