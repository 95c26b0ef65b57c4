"""Run a recipe: find a run to go on with or begin one, measure every stage, write the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, UsageError
from stillwatt.ledger.rundir import change_settings
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.live import Run
from stillwatt.workflows.outputs import shown
from stillwatt.workflows.predictions import adopt_prediction
from stillwatt.workflows.publish import write_report
from stillwatt.workflows.unfinished import Found, Unfinished, Wish, find_unfinished

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.ledger.gauge import LiveGauge
    from stillwatt.pipelines.bench import OnScored
    from stillwatt.pipelines.progress import Progress
    from stillwatt.pipelines.ranks import Ranks
    from stillwatt.pipelines.spec import PipelineSpec
    from stillwatt.records.finding import Study
    from stillwatt.records.forecast import PredictionCheck
    from stillwatt.records.run import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOutcome:
    """A finished recipe."""

    run_id: str
    record: RunRecord
    study: Study
    report_html: Path
    report_json: Path
    resumed: bool
    comparison: PredictionCheck | None = None
    """With what was predicted before it; None where nothing was."""


def run_recipe(
    recipe: Recipe,
    *,
    runs_dir: str | Path,
    fresh: bool,
    sensors: Sequence[str] | None = None,
    progress: Progress,
    announce: Callable[[str], None],
    on_scored: OnScored | None = None,
    on_run: Callable[[str], None] | None = None,
    wish: Wish | None = None,
) -> PipelineOutcome | None:
    """Carry a recipe out and account for it.

    A run of the same resolved recipe that did not reach its end is gone on with, unless `fresh`; its finished
    stages are not run again, and what the cut-off attempt spent stays on the books. `description` and `[analysis]` may
    have changed since: the run then has them as they are now. Under `torchrun` all ranks call
    this alike and share the teacher's reading, its writing and the training; the first one does all else and tells.

    Args:
        recipe: What to carry out.
        runs_dir: Where runs are.
        fresh: Whether to begin a new run where one could be gone on with.
        sensors: Instruments in stead of the recipe's.
        progress: Draws bars.
        announce: Told one line now and then.
        on_scored: Told of each arm's scores at each checkpoint; what it raises ends the run.
        on_run: Told the run's id once it is under way.
        wish: Which run is to be gone on with, where it is not the newest that is known to be dead; not with `fresh`.

    Returns:
        What it came to; None on a rank that is not the first.

    Raises:
        MissingExtraError: The training stack is not installed.
        MissingInputError: A model or data set is not there.
        UsageError: `runs_dir` has a name that models cannot be written under, or the run that `wish` names has other
            settings, reached its end, or is under way.
    """
    root = _writable_by_all(Path(runs_dir))
    try:
        from stillwatt.pipelines.ranks import join_launch
        from stillwatt.pipelines.runner import run_pipeline
    except ModuleNotFoundError as err:
        raise MissingExtraError(str(err.name), "distill") from err

    ranks = join_launch()
    if not ranks.is_first:
        progress, announce, on_scored, on_run = SilentProgress(), _nobody, None, None
    unfinished = _looked(ranks, lambda: Found() if fresh else find_unfinished(root, recipe.resolved(), wish), announce)
    if unfinished is not None and ranks.is_first:
        change_settings(root / unfinished.run_id, recipe.resolved())
    run = _run(recipe, root, sensors, unfinished, is_launch=ranks.count > 1)
    spec = recipe.to_spec()
    # what looks at the run is let go of after the run has ended, so that waiting for it is on no bill
    with ExitStack() as after, run:
        launch = 0 if unfinished is None else unfinished.sessions
        _mark_together(run, ranks, f"launch.{launch}.begun")
        gauge = after.enter_context(_gauge(run, spec)) if ranks.is_first else None
        announce(f"run {run.run_id}")
        if on_run is not None:
            on_run(run.run_id)
        if ranks.is_first and unfinished is None:  # what is predicted later has seen the run's own stages
            adopt_prediction(root, run.run_dir, recipe.settings_sha256)
        run_pipeline(
            spec,
            meter=run.meter,
            run_id=run.run_id,
            run_dir=run.run_dir,
            artifacts_dir=root / "artifacts",
            progress=progress,
            announce=announce,
            gauge=gauge,
            on_scored=on_scored,
        )
        _mark_together(run, ranks, f"launch.{launch}.over")
    ranks.wait()  # until every rank's session has its end
    return _outcome(run.run_id, root, resumed=unfinished is not None) if ranks.is_first else None


def _looked(ranks: Ranks, look: Callable[[], Found], announce: Callable[[str], None]) -> Unfinished | None:
    """The run to go on with, as the first rank finds it; None where a new one is to begin.

    Raises:
        UsageError: On every rank, where one was asked for that cannot be gone on with.
    """
    found = ranks.of_first(look)
    if found.refusal is not None:
        raise UsageError(found.refusal)
    for line in found.said:
        announce(line)
    if found.run is not None:
        announce(f"going on with {found.run.run_id} (--fresh begins a new run)")
    return found.run


def _writable_by_all(root: Path) -> Path:
    """The folder, where its name is UTF-8: tokenizers and safetensors open no other, and a study would break midway."""
    told = shown(root)
    if told != str(root):
        raise UsageError(f"--runs {told}: models cannot be saved under a name that is not UTF-8; name another folder")
    return root


def _mark_together(run: Run, ranks: Ranks, name: str) -> None:
    """Tie the clocks of the launch's machines together; a name is of one launch, as a run may have several."""
    if ranks.count > 1:
        ranks.wait()
        run.mark(name)


def _nobody(_text: str) -> None:
    """The first rank tells for all."""


def _outcome(run_id: str, root: Path, *, resumed: bool) -> PipelineOutcome:
    paths = write_report(run_id, runs_dir=root, is_forced=True)
    return PipelineOutcome(
        run_id=run_id,
        record=paths.record,
        study=paths.study,
        report_html=paths.html,
        report_json=paths.json,
        resumed=resumed,
        comparison=paths.comparison,
    )


def _run(
    recipe: Recipe, root: Path, sensors: Sequence[str] | None, unfinished: Unfinished | None, *, is_launch: bool
) -> Run:
    return Run(
        recipe.name,
        runs_dir=root,
        sensors=tuple(sensors or recipe.sensors),
        period_ms=recipe.meter.sample_period_ms,
        settings=recipe.resolved(),
        options=recipe.meter.options,
        slow_after_s=recipe.meter.slow_after_s,
        **_going_on(unfinished, is_launch=is_launch),
    )


@contextmanager
def _gauge(run: Run, spec: PipelineSpec) -> Iterator[LiveGauge | None]:
    """What tells the study how much is spent; nothing is started where there is no budget."""
    if not spec.has_budget:
        yield None
        return
    from stillwatt.ledger.gauge import LiveGauge

    with LiveGauge(run.run_dir) as gauge:
        yield gauge


def _going_on(unfinished: Unfinished | None, *, is_launch: bool) -> dict[str, Any]:
    """What a run is told that is gone on with."""
    if unfinished is None:
        return {}
    return {
        "run_id": unfinished.run_id,
        "earlier_attempts": unfinished.attempts,
        "session_number": unfinished.sessions,
        "with_launch": is_launch,
    }
