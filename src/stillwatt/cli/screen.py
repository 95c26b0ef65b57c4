"""What commands print and how: answers on stdout, remarks on stderr, nothing that a terminal cannot show."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TextIO

import click

from stillwatt.metering.meter import MeterWarning

_COLUMNS, _FEWEST_COLUMNS = 100, 40
_NARROWEST = 8
"""Columns below which a cell is not folded."""


def prepare_streams() -> None:
    """Let no stream fail the command for a remark, or for a character that it cannot show (`?` stands in its place).

    What stderr does not take (its reader has gone, its disk is full) is dropped, whoever wrote it: a remark, a bar, a
    library's warning. An answer that stdout does not take still fails the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _forgiving(sys.stderr)


class _ForgivingFile(io.FileIO):
    """A file to which every write succeeds: what it cannot take is dropped."""

    def write(self, data: Any, /) -> int:
        """Write what can be written; gives all of it as written, so that no buffer keeps the rest and fails later."""
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def _forgiving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same file behind a stream of the same kind, to which every write succeeds.

    Python's own stream cannot be mended: it keeps what it could not write, and makes the exit status of a program 120
    where that cannot be written at its end either.
    """
    file = _ForgivingFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def show_meter_warnings_plainly() -> None:
    """Let the meter's own warnings appear as one line, without the place in the code; other warnings as ever."""
    show = warnings.showwarning

    def show_plainly(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MeterWarning):
            note(f"stillwatt: {message}")
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_plainly


def say(text: str = "") -> None:
    """Print a line of the answer."""
    click.echo(text)


def note(text: str) -> None:
    """Print a remark on stderr, so that the answer can be piped on; the command goes on where stderr takes none."""
    click.echo(text, err=True)


def say_json(data: Any) -> None:
    """Print the answer as JSON."""
    say(json.dumps(data, indent=2))


def width() -> int:
    """Columns of the terminal: those of COLUMNS or of stdout, a hundred where stdout is none."""
    return max(shutil.get_terminal_size((_COLUMNS, 24)).columns, _FEWEST_COLUMNS)


def say_prose(text: str) -> None:
    """Print a sentence, folded at the terminal's width."""
    for line in folded(text, width()):
        say(line)


def folded(text: str, most: int) -> list[str]:
    """A sentence as lines of so many columns at most, the further ones set in; a longer word stays whole.

    >>> folded("note: one seed", 10), folded("", 10)
    (['note: one', '  seed'], [''])
    """
    inset = text[: len(text) - len(text.lstrip())] + "  "
    return textwrap.wrap(text, most, subsequent_indent=inset, break_long_words=False, break_on_hyphens=False) or [""]


def columns(rows: Sequence[Sequence[str]], *, gap: str = "  ", most: int | None = None) -> list[str]:
    """Lay rows out in columns; the last column is left ragged.

    Args:
        rows: Rows of as many cells each.
        gap: What stands between two columns.
        most: Columns of the terminal; the widest cells are folded until all fits, if it can. None: no cell is.

    >>> columns([["run", "status"], ["quickstart-1", "ended"]])
    ['run           status', 'quickstart-1  ended']
    >>> columns([["a", "so much to say"], ["b", "little"]], most=10)
    ['a  so much', '   to say', 'b  little']
    """
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if most is not None:
        _narrow(widths, most - len(gap) * (len(widths) - 1))
    return [line for row in rows for line in _row_lines(row, widths, gap)]


def _narrow(widths: list[int], most: int) -> None:
    """Take columns from the widest until they fit, or are as narrow as is of use."""
    while sum(widths) > most and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1


def _row_lines(row: Sequence[str], widths: Sequence[int], gap: str) -> Iterator[str]:
    cells = [
        [cell] if len(cell) <= most else textwrap.wrap(cell, most, break_on_hyphens=False)
        for cell, most in zip(row, widths, strict=True)
    ]
    for parts in itertools.zip_longest(*cells, fillvalue=""):
        yield gap.join(part.ljust(most) for part, most in zip(parts, widths, strict=True)).rstrip()
