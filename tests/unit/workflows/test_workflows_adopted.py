"""What a run that is gone on with takes along: no prediction of later, and the words that its recipe has now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planned_runs import smoke
from stillwatt.errors import UsageError
from stillwatt.ledger.rundir import read_manifest
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows import pipeline
from stillwatt.workflows.plan import plan_recipe
from stillwatt.workflows.predictions import FILE_NAME
from stillwatt.workflows.unfinished import Wish


def carry_out(
    runs_dir: Path, wish: Wish | None = None, description: str | None = None, said: list[str] | None = None
) -> None:
    recipe = smoke() if description is None else smoke().model_copy(update={"description": description})
    pipeline.run_recipe(
        recipe,
        runs_dir=runs_dir,
        fresh=False,
        sensors=("synthetic",),
        progress=SilentProgress(),
        announce=(list[str]() if said is None else said).append,
        wish=wish,
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


def test_a_run_that_is_gone_on_with_has_its_recipes_words_of_now(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")

    def cut_short(*_given: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillwatt.pipelines.runner.run_pipeline", cut_short)
    with pytest.raises(KeyboardInterrupt):
        carry_out(runs_dir)
    (run_dir,) = (path.parent for path in runs_dir.glob("*/manifest.json"))
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        carry_out(runs_dir, description="other words", said=said)
    assert said[0] == f"going on with {run_dir.name} (--fresh begins a new run)"
    assert read_manifest(run_dir)["settings"]["description"] == "other words"
    with pytest.raises(UsageError, match="--resume no-such-run: no run 'no-such-run' in"):
        carry_out(runs_dir, wish=Wish(run="no-such-run"))
    assert len(list(runs_dir.glob("*/manifest.json"))) == 1
