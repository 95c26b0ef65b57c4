"""Numbers in cells as spreadsheets write them: decimal points or commas, never guessed."""

from __future__ import annotations

import math
import re

from stillwatt.errors import ConfigError

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


class BadCellError(ValueError):
    """A cell that cannot be meant."""


class Numbers:
    """Reads the numbers of one table, and refuses one whose cells use both decimal marks."""

    def __init__(self) -> None:
        """Start with points for decimals, as a table with commas between cells has them."""
        self.comma_is_decimal = False
        self.first_comma: tuple[int, str] | None = None
        self._first_point: tuple[int, str] | None = None

    def read(self, text: str, column: str, line: int) -> float | None:
        """The number in a cell; None where it is empty.

        Raises:
            BadCellError: It is no finite number, or could be two.

        >>> Numbers().read("6.30", "student_kwh", 2), Numbers().read("", "student_kwh", 2)
        (6.3, None)
        """
        if not text:
            return None
        if not _PLAIN.fullmatch(text):
            return self._unplain(text, column, line)
        if "." in text and self._first_point is None:
            self._first_point = (line, text)
        value = float(text)
        if not math.isfinite(value):
            raise BadCellError(f"{column} is {text}, beyond all numbers; leave the cell empty if it is unknown")
        return value

    def check(self, path: str) -> None:
        """Refuse a table with decimal commas in one cell and points in another: one of them sets thousands apart.

        Raises:
            ConfigError: Both are there.
        """
        if self.first_comma is not None and self._first_point is not None:
            line, text = self._first_point
            raise ConfigError(
                path,
                f"{text} has a point and {self.first_comma[1]} on line {self.first_comma[0]} a comma: which is the "
                "decimal mark cannot be known; write all numbers alike",
                line=line,
            )

    def _unplain(self, text: str, column: str, line: int) -> float:
        if text.casefold().lstrip("+-") in ("nan", "inf", "infinity"):
            raise BadCellError(f"{column} is {text}; leave the cell empty if it is unknown")
        if not _COMMA.fullmatch(text):
            raise BadCellError(f"{column} is {text!r}, which is no number; leave the cell empty if it is unknown")
        if not self.comma_is_decimal:
            raise BadCellError(f"{column} is {text!r}: a decimal comma or thousands? write it with a point")
        if self.first_comma is None:
            self.first_comma = (line, text)
        return float(text.replace(",", "."))
