"""A console of Rich's whose output is a text: no escape sequences but for a terminal, no markup, no trailing blanks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def screen(
    columns: int, *, is_terminal: bool, colours: Literal["standard", "truecolor"] = "standard"
) -> Iterator[tuple[Console, Callable[[], str]]]:
    """A console to print to, and what gives the text once the block is left.

    Args:
        columns: How wide it is.
        is_terminal: Whether to write escape sequences.
        colours: How many a terminal is taken to have.
    """
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=columns,
        force_terminal=is_terminal,
        color_system=colours if is_terminal else None,
        highlight=False,
        emoji=False,
        markup=False,
    )
    with console.capture() as captured:
        yield console, lambda: "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
