"""What commands print and how: answers on stdout, remarks on stderr, nothing that a terminal cannot show."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import click

from stillwatt.metering.meter import MeterWarning


def prepare_streams() -> None:
    """Let a terminal or pipe that cannot show a character show `?` in its place, instead of failing the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


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
    """Print a remark on stderr, so that the answer can be piped on."""
    click.echo(text, err=True)


def say_json(data: Any) -> None:
    """Print the answer as JSON."""
    say(json.dumps(data, indent=2))


def columns(rows: Sequence[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """Lay rows out in columns; the last column is left ragged.

    >>> columns([["run", "status"], ["quickstart-1", "ended"]])
    ['run           status', 'quickstart-1  ended']
    """
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
