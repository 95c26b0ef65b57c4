"""How far the work is, on stderr: bars on a terminal, a line at each end of a task elsewhere.

The machine is being measured while this draws, so it draws seldom (twice a second) and only when asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from stillwatt.cli.screen import note
from stillwatt.clock import Clock
from stillwatt.pipelines.progress import Progress
from stillwatt.units import seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

_DRAWS_PER_S = 2.0


class Reporter(Progress, Protocol):
    """Progress that can also say a line without tearing the bars."""

    def announce(self, text: str) -> None:
        """Print a line."""
        ...


@contextmanager
def reporter(clock: Clock, *, console: Console | None = None) -> Iterator[Reporter]:
    """Bars where stderr is a terminal, lines where it is not."""
    from rich.console import Console

    screen = console or Console(stderr=True, highlight=False)
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield LineReporter(clock)
        return
    with bars(screen) as drawn:
        yield BarReporter(drawn)


def bars(console: Console) -> Bars:
    """The bars: what, how far, how much, how long yet."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=_DRAWS_PER_S,
        transient=True,
    )


class LineReporter:
    """One line when a task starts and one when it ends, with its seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def announce(self, text: str) -> None:
        """Print a line."""
        note(text)

    def task(self, description: str, *, total: float, unit: str) -> LineTask:
        """Say when the task starts and ends, and how much of it was done."""
        return LineTask(self._clock, description, total, unit)


class LineTask:
    """A task that is told in two lines."""

    def __init__(self, clock: Clock, description: str, total: float, unit: str) -> None:
        self._clock = clock
        self._description = description
        self._total = total
        self._unit = unit
        self._amount = 0.0
        self._start_ns = clock.monotonic_ns()

    def __enter__(self) -> LineTask:
        self._start_ns = self._clock.monotonic_ns()
        note(f"{self._description}: {self._total:g} {self._unit}")
        return self

    def __exit__(self, *exc: object) -> None:
        length_s = seconds(self._clock.monotonic_ns() - self._start_ns)
        ending = "done" if exc[0] is None else "stopped"
        note(f"{self._description}: {ending}, {self._amount:g} {self._unit} in {length_s:.1f} s")

    def advance(self, amount: float = 1) -> None:
        """Move on."""
        self._amount += amount


class BarReporter:
    """A bar for each running task, gone when the task is."""

    def __init__(self, drawn: Bars) -> None:
        self._bars = drawn

    def announce(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def task(self, description: str, *, total: float, unit: str) -> BarTask:
        """Draw a bar while the task runs."""
        return BarTask(self._bars, description, total, unit)


class BarTask:
    """A task that is drawn as a bar."""

    def __init__(self, drawn: Bars, description: str, total: float, unit: str) -> None:
        self._bars = drawn
        self._bar = drawn.add_task(description, total=total, unit=unit, start=False, visible=False)

    def __enter__(self) -> BarTask:
        self._bars.start_task(self._bar)
        self._bars.update(self._bar, visible=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.remove_task(self._bar)

    def advance(self, amount: float = 1) -> None:
        """Move on."""
        self._bars.advance(self._bar, amount)
