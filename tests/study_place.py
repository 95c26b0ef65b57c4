"""Where runs of one study go in a test, and kills at the first signs of progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import PipelineSpec
from tiny_models import CountingTask, ListJournal, list_meter


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


class KillingTask(CountingTask):
    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    def advance(self, amount: float = 1) -> None:
        self._left -= 1
        if self._left <= 0:
            raise Killed


class KillingProgress(SilentProgress):
    """Kills the run at the n-th sign of progress of one stage."""

    def __init__(self, stage: str, advances: int = 1) -> None:
        self._stage, self._advances = stage, advances

    @contextmanager
    def task(self, description: str, *, total: float, unit: str) -> Iterator[Any]:
        yield KillingTask(self._advances) if description == self._stage else CountingTask()


@dataclasses.dataclass
class Place:
    """Where runs of one study go, and what they said."""

    directory: Path
    said: list[str] = dataclasses.field(default_factory=list)
    journal: ListJournal = dataclasses.field(default_factory=ListJournal)
    """Of the latest session, one that raised among them."""

    def run(
        self, spec: PipelineSpec, run_id: str = "r1", *, progress: SilentProgress | None = None, prefix: str = "a"
    ) -> ListJournal:
        meter, self.journal = list_meter(prefix)
        try:
            run_pipeline(
                spec,
                meter=meter,
                run_id=run_id,
                run_dir=self.directory / run_id,
                artifacts_dir=self.directory / "artifacts",
                progress=progress or SilentProgress(),
                announce=self.said.append,
            )
        except Killed:
            self.journal.events.append({"event": "killed"})
        return self.journal

    def weights(self, arm: str, run_id: str = "r1") -> dict[str, torch.Tensor]:
        path = self.directory / run_id / "state" / "checkpoints" / arm / "1.0" / "model.safetensors"
        return dict(load_file(path))
