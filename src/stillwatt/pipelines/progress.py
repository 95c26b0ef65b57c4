"""How long work tells how far it is; the command line draws it, tests ignore it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, amount: float = 1) -> None:
        """Move the bar on."""
        ...


class Progress(Protocol):
    """Something that can draw bars."""

    def task(self, description: str, *, total: float, unit: str) -> AbstractContextManager[Task]:
        """A context manager that yields the bar."""
        ...


class _Silent:
    def advance(self, amount: float = 1) -> None:
        """Nothing to draw."""


class Watched:
    """A bar that has something looked at each time that it moves on."""

    def __init__(self, task: Task, look: Callable[[], object]) -> None:
        self._task, self._look = task, look

    def advance(self, amount: float = 1) -> None:
        """Move the bar on."""
        self._task.advance(amount)
        self._look()


class SilentProgress:
    """Draws nothing."""

    @contextmanager
    def task(self, description: str, *, total: float, unit: str) -> Iterator[Task]:
        """Yield a bar that draws nothing."""
        yield _Silent()
