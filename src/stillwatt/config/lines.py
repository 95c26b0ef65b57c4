"""On which line of a TOML text each key stands. The standard reader keeps no lines; errors need them.

`key_lines` walks a text that `tomllib` has already accepted, so it knows no errors: it only has to tell keys,
strings, arrays and tables apart.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

Place = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[Place, int]:
    r"""Line (from 1) of each key, table and array entry of a valid TOML text.

    Entries of arrays, and of arrays of tables, are numbered from 0.

    >>> key_lines("a = 1\n\n[[arms]]\nname = 'sft'\n")[("arms", 0, "name")]
    4
    """
    return _Walk(text.replace("\r\n", "\n")).lines()


def line_of(place: Sequence[str | int], lines: dict[Place, int]) -> int | None:
    """Line of a place, or of the nearest thing around it that is written down; None where nothing is.

    >>> line_of(("train", "seeds"), {("train",): 7})
    7
    """
    for length in range(len(place), 0, -1):
        found = lines.get(tuple(place[:length]))
        if found is not None:
            return found
    return None


class _Walk:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Place, int] = {}
        self._entries: dict[Place, int] = {}

    def lines(self) -> dict[Place, int]:
        table: Place = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._here("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> Place:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        keys = self._key()
        self._at += 2 if is_array else 1
        place: Place = ()
        for key in keys[:-1]:
            self._note((*place, key), start)
            place = self._newest((*place, key))
        place = (*place, keys[-1])
        if is_array:
            self._entries[place] = self._entries.get(place, -1) + 1
            self._note(place, start)
            place = (*place, self._entries[place])
        self._note(place, start)
        return place

    def _newest(self, place: Place) -> Place:
        """A table of that name, or the newest entry of the array of tables of that name."""
        return (*place, self._entries[place]) if place in self._entries else place

    def _pair(self, table: Place) -> None:
        start = self._at
        keys = self._key()
        for length in range(1, len(keys) + 1):
            self._note((*table, *keys[:length]), start)
        self._at += 1
        self._skip(_SPACE)
        self._value((*table, *keys))

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                raw = self._skip(_STRING)
                parts.extend(tomllib.loads(f"{raw} = 0"))
            else:
                parts.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if not self._here("."):
                return parts
            self._at += 1

    def _value(self, place: Place) -> None:
        if self._here("["):
            self._array(place)
        elif self._here("{"):
            self._inline_table(place)
        elif self._text[self._at] in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, place: Place) -> None:
        self._at += 1
        number = 0
        self._skip(_BLANK)
        while not self._here("]"):
            self._note((*place, number), self._at)
            self._value((*place, number))
            number += 1
            self._comma()
        self._at += 1

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        self._skip(_BLANK)
        while not self._here("}"):
            self._pair(place)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self._here(","):
            self._at += 1
            self._skip(_BLANK)

    def _note(self, place: Place, at: int) -> None:
        self._lines.setdefault(place, self._text.count("\n", 0, at) + 1)

    def _here(self, character: str) -> bool:
        return self._text.startswith(character, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "tomllib has accepted this text"
        self._at = found.end()
        return found.group()
