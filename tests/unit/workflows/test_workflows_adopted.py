"""A prediction is of the run that begins after it, and of no run that was under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planned_runs import smoke
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows import pipeline
from stillwatt.workflows.plan import plan_recipe
from stillwatt.workflows.predictions import FILE_NAME


def carry_out(runs_dir: Path) -> None:
    pipeline.run_recipe(
        smoke(),
        runs_dir=runs_dir,
        fresh=False,
        sensors=("synthetic",),
        progress=SilentProgress(),
        announce=lambda _text: None,
    )


def adopted(runs_dir: Path) -> list[bool]:
    """Whether each run has a prediction, in the order in which they began."""
    return [(path.parent / FILE_NAME).exists() for path in sorted(runs_dir.glob("*/manifest.json"))]


def test_only_a_run_that_begins_takes_a_prediction_along(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def cut_short(*_given: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillwatt.pipelines.runner.run_pipeline", cut_short)
    with pytest.raises(KeyboardInterrupt):
        carry_out(runs_dir)
    plan_recipe(smoke(), runs_dir=runs_dir)
    # the stand-ins do and tell nothing: what is looked at is what lies beside the run's journals
    monkeypatch.setattr("stillwatt.pipelines.runner.run_pipeline", lambda *_given, **_more: None)
    monkeypatch.setattr(pipeline, "_outcome", lambda *_given, **_more: None)
    carry_out(runs_dir)
    assert adopted(runs_dir) == [False]
    carry_out(runs_dir)
    assert adopted(runs_dir) == [False, True]
