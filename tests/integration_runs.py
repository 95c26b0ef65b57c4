"""What tests of hooks share: real runs with a made-up instrument, their stages by name, and missing libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import stillwatt
from stillwatt.records import RunRecord, StageRecord, Total


def synthetic_run(runs_dir: Path, name: str = "hooked") -> stillwatt.Run:
    """A run that reads the made-up instrument."""
    return stillwatt.Run(name, runs_dir=runs_dir, sensors=("synthetic",), period_ms=50)


def stages(record: RunRecord, name: str) -> list[StageRecord]:
    """All attempts of a stage, in order."""
    return [stage for stage in record.stages if stage.name == name]


def value_j(total: object) -> float:
    """A total's joules; there must be some."""
    assert isinstance(total, Total)
    return total.value_j


def assert_books_close(record: RunRecord) -> None:
    """Outermost stages and what is outside them make the total, and no stage holds less than its children."""
    outermost = [stage for stage in record.stages if stage.parent_id is None]
    summed_j = sum(value_j(stage.gross) for stage in outermost) + value_j(record.unallocated)
    assert summed_j == pytest.approx(value_j(record.total), rel=1e-9)
    for stage in record.stages:
        children_j = sum(value_j(child.gross) for child in record.stages if child.parent_id == stage.stage_id)
        assert children_j <= value_j(stage.gross) * (1 + 1e-9)


def message_without(blocked: Sequence[str], statement: str) -> str:
    """What a statement says, as type and text, in a new process where some libraries cannot be imported."""
    script = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {tuple(blocked)!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Blocker())
try:
    {statement}
except Exception as err:
    print(f'{{type(err).__name__}}: {{err}}')
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()
