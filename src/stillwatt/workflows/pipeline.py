"""Run a recipe: find a run to go on with or begin one, measure every stage, write the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, StillwattError, UsageError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.live import Run
from stillwatt.workflows.outputs import shown
from stillwatt.workflows.predictions import adopt_prediction
from stillwatt.workflows.publish import write_report

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A run of the same recipe that was cut short."""

    run_id: str
    sessions: int
    attempts: dict[str, int]
    """How often each stage was started so far, by name."""


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
) -> PipelineOutcome | None:
    """Carry a recipe out and account for it.

    A run of the same resolved recipe that did not reach its end is gone on with, unless `fresh`; its finished
    stages are not run again, and what the cut-off attempt spent stays on the books. Under `torchrun` all ranks call
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

    Returns:
        What it came to; None on a rank that is not the first.

    Raises:
        MissingExtraError: The training stack is not installed.
        MissingInputError: A model or data set is not there.
        UsageError: `runs_dir` has a name that models cannot be written under.
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
    unfinished = ranks.of_first(lambda: None if fresh else find_unfinished(root, recipe.settings_sha256))
    if unfinished is not None:
        announce(f"going on with {unfinished.run_id} (--fresh begins a new run)")
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
    paths = write_report(run_id, runs_dir=root)
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


def find_unfinished(runs_dir: Path, settings_sha256: str) -> Unfinished | None:
    """The newest run of the same resolved settings that was cut short, if no newer one reached its end.

    A run whose last process still lives is left alone: it may be on its way.
    """
    from stillwatt.ledger.rundir import list_run_dirs, read_manifest

    for run_dir in sorted(list_run_dirs(runs_dir), reverse=True):
        try:
            manifest = read_manifest(run_dir)
        except StillwattError:
            continue  # `ledger verify` reports it; it cannot be gone on with
        if manifest.get("settings_sha256") != settings_sha256:
            continue
        events = _session_events(run_dir)
        by_rank: dict[int, list[tuple[dict[str, Any], ...]]] = {}
        for session in events:
            by_rank.setdefault(session[0].get("rank") or 0, []).append(session)
        # the first rank ends last and is the only one with all stages
        if any(e["event"] == "session_ended" and e["status"] == "ended" for each in by_rank.get(0, ()) for e in each):
            return None
        if events and not any(_is_alive(run_dir, each[-1]) for each in by_rank.values()):
            return Unfinished(run_id=run_dir.name, sessions=len(events), attempts=_attempts(by_rank.values()))
    return None


def _attempts(of_ranks: Iterable[list[tuple[dict[str, Any], ...]]]) -> dict[str, int]:
    """How often each stage was begun; the ranks of a launch begin one together."""
    most: Counter[str] = Counter()
    for sessions in of_ranks:
        most |= Counter(e["name"] for session in sessions for e in session if e["event"] == "stage_started")
    return dict(most)


def _session_events(run_dir: Path) -> list[tuple[dict[str, Any], ...]]:
    """Each session's events, in the order in which the sessions began."""
    from stillwatt.ledger.journal import read_journal
    from stillwatt.ledger.rundir import program_journals

    journals = [read_journal(path).events for path in program_journals(run_dir)]
    started = [events for events in journals if events and events[0]["event"] == "session_started"]
    return sorted(started, key=lambda events: int(events[0]["utc_ns"]))


def _is_alive(run_dir: Path, events: tuple[dict[str, Any], ...]) -> bool:
    """Whether a session's process may still be at work."""
    from stillwatt.ledger.liveness import ThisHost

    first, last = events[0], events[-1]
    if last["event"] == "session_ended":
        return False
    alive = ThisHost().is_alive(first["host"], first["boot_id"], first["pid"], last["t_ns"])
    if alive is None:  # of another host's process only what was beside it can tell: two writers would be worse
        return not _is_seen_to_end(run_dir, first["session"])
    return alive


def _is_seen_to_end(run_dir: Path, session: str) -> bool:
    """Whether a session's sampling process, which outlives its program by a moment, has noted that it was gone."""
    from stillwatt.ledger.journal import read_journal
    from stillwatt.ledger.rundir import sessions

    paths = sessions(run_dir).get(session)
    if paths is None or paths.meter is None:
        return False
    return any(event["event"] == "parent_lost" for event in read_journal(paths.meter).events)
