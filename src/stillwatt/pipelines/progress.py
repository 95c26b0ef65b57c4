"""How long work tells how far it is; the command line draws it, tests ignore it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, amount: float = 1) -> None:
        """Move the bar on."""
        ...


class Progress(Protocol):
    """Something that can draw bars."""

    def task(self, description: str, *, total: float, unit: str) -> AbstractTask:
        """A context manager that yields the bar."""
        ...


class AbstractTask(Protocol):
    """A bar as a context manager."""

    def __enter__(self) -> Task: ...

    def __exit__(self, *exc: object) -> bool | None: ...


class _Silent:
    def advance(self, amount: float = 1) -> None:
        """Nothing to draw."""


class SilentProgress:
    """Draws nothing."""

    @contextmanager
    def task(self, description: str, *, total: float, unit: str) -> Iterator[Task]:
        """Yield a bar that draws nothing."""
        yield _Silent()
