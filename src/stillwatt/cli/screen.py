"""What commands print and how: answers on stdout, remarks on stderr, nothing that a terminal cannot show."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

import click


def prepare_streams() -> None:
    """Let a terminal or pipe that cannot show a character show `?` in its place, instead of failing the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


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
