"""One row of a table, cell by cell: what is wrong is gathered, with its line and column, and nothing is guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from stillwatt.errors import suggest
from stillwatt.literature.vocabulary import STAGE_NAMES
from stillwatt.records.impact import LifeStage

Word = TypeVar("Word", bound=StrEnum)

FIRST_YEAR, LAST_YEAR = 1990, 2100
_UNSAID = frozenset({"", "-", "?", "n/a", "none", "unknown", "tbd", "todo"})
_ADDRESS = re.compile(r"https?://[^\s/]+\.[^\s]+", re.IGNORECASE)
_LEAST_SOURCE = 8
"""Letters that name a printed source, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one cell, or with a whole row or file."""

    path: str
    line: int
    column: str
    message: str

    def __str__(self) -> str:
        """As an error message says it."""
        return f"{self.path}:{self.line}, " + (f"column {self.column}: " if self.column else "") + self.message


class Cells:
    """The cells of one row. Every reader returns a value that can be gone on with, and notes what is wrong."""

    def __init__(self, path: str, line: int, said: Mapping[str, str]) -> None:
        self.path, self.line, self.said = path, line, said
        self.problems: list[Problem] = []

    def complain(self, column: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path=self.path, line=self.line, column=column, message=message))

    def text(self, column: str, *, required: bool = False) -> str:
        """The cell as it stands; empty where it is required and says nothing."""
        text = (self.said.get(column) or "").strip()
        if required and text.casefold() in _UNSAID:
            self.complain(column, f"is required, and says {text!r}")
            return ""
        return text

    def source(self, column: str) -> str:
        """Where the work can be looked up: an address, or where it was printed."""
        text = self.text(column, required=True)
        if not text:
            return text
        if ("://" in text or text.startswith("www.")) and not _ADDRESS.fullmatch(text):
            self.complain(column, f"{text!r} is no address; write https://…, or name the journal, volume and page")
        elif len(text) < _LEAST_SOURCE:
            self.complain(column, f"{text!r} is too short for a source; write an address, or journal, volume and page")
        return text

    def year(self, column: str) -> int:
        """A year of four digits."""
        text = self.text(column, required=True)
        if text and not (text.isdecimal() and FIRST_YEAR <= int(text) <= LAST_YEAR):
            self.complain(column, f"{text!r} is no year from {FIRST_YEAR} to {LAST_YEAR}")
        return int(text) if text.isdecimal() else 0

    def number(self, column: str) -> float | None:
        """A finite number of 0 or more, or None where the cell is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            self.complain(column, f"{text!r} is no number; write 1234.5, without thousands marks or unit")
            return None
        if not math.isfinite(number) or number < 0.0:
            self.complain(column, f"{text} is not a finite number of 0 or more")
            return None
        return number

    def word(self, column: str, words: type[Word], default: Word) -> Word:
        """One word of a list; where the cell is empty or wrong, the default stands in and a wrong one is noted."""
        text = self.text(column)
        if not text:
            return default
        known = {word.value: word for word in words}
        if text not in known:
            self.unknown(column, text, known)
        return known.get(text, default)

    def needed_word(self, column: str, words: type[Word]) -> Word:
        """One word of a list, which must be there."""
        if not self.text(column):
            self.complain(column, f"is required; one of {', '.join(word.value for word in words)}")
        return self.word(column, words, next(iter(words)))

    def claim(self, column: str) -> bool:
        """`yes` or `no`; an empty cell is no."""
        text = self.text(column)
        if text not in ("", "yes", "no"):
            self.complain(column, f"{text!r} is neither yes nor no")
        return text == "yes"

    def stages(self, column: str) -> tuple[LifeStage, ...]:
        """One or several stages, `a|b`, in the order of the life cycle."""
        text = self.text(column, required=True)
        found = set()
        for name in (part.strip() for part in text.split("|") if part.strip()):
            if name not in STAGE_NAMES:
                self.unknown(column, name, STAGE_NAMES)
            else:
                found.add(STAGE_NAMES[name])
        return tuple(stage for stage in LifeStage if stage in found)

    def unknown(self, column: str, name: str, known: Iterable[str]) -> None:
        """Note a name that is not known, with the nearest that is."""
        names = sorted(known)
        near = suggest(name, names)
        self.complain(
            column, f"unknown {name!r}; " + (f"did you mean {near!r}?" if near else "known: " + ", ".join(names))
        )
