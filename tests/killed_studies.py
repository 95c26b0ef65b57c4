"""Kills a study at the first sign of progress of one stage, as a signal would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stillwatt.pipelines.progress import SilentProgress
from tiny_models import CountingTask


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


class _KillingTask(CountingTask):
    def advance(self, amount: float = 1) -> None:
        raise Killed


class KillingProgress(SilentProgress):
    """Kills the run at the first sign of progress of one stage."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    @contextmanager
    def task(self, description: str, *, total: float, unit: str) -> Iterator[Any]:
        yield _KillingTask() if description == self._stage else CountingTask()
