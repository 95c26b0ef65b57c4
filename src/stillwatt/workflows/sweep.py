"""A sweep: trials one after another or over machines, each a run with its books, and what they come to together.

The sweep's folder is a folder of runs like any other, with a ledger of its own: teacher artefacts are made by the
first trial that needs them and used by all that follow. It is named by what is searched, so the same command goes on
where a kill stopped it: a trial that is over is read from its file, one that was under way goes on as its own run.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stillwatt.analysis.trainings import Repeats, gather_labels, repeats_within
from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import sweep_recipe
from stillwatt.errors import StillwattError, UnknownNameError, UsageError
from stillwatt.pipelines.spec import Limit, LimitKind
from stillwatt.records.energy import NoTotal, Total
from stillwatt.workflows.analyse import analyse_runs
from stillwatt.workflows.held import held
from stillwatt.workflows.search import Search
from stillwatt.workflows.trial_lines import begun_line, over_line
from stillwatt.workflows.trials import (
    FAILED,
    FINISHED,
    RECIPE_NAME,
    Trial,
    TrialJob,
    carry_out,
    kept_trials,
    open_again,
    opened_again,
    repeating_within,
    together,
    trial_recipe,
)

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.config.sweep import Scalar, SweepSettings
    from stillwatt.pipelines.progress import Progress
    from stillwatt.workflows.analyse import Analysis

SWEEP_NAME = "sweep.json"


class Engine(Protocol):
    """What carries trials out."""

    slots: int
    """How many at once."""

    def submit(self, job: TrialJob) -> None:
        """Begin a trial, or put it next."""
        ...

    def wait(self) -> Trial:
        """The next trial that is over."""
        ...


class LocalEngine:
    """One trial after another, in this process."""

    slots = 1

    def __init__(self, progress: Progress, announce: Callable[[str], None]) -> None:
        self._progress, self._announce = progress, announce
        self._jobs: list[TrialJob] = []

    def submit(self, job: TrialJob) -> None:
        """Put it next."""
        self._jobs.append(job)

    def wait(self) -> Trial:
        """Carry out the first that waits."""
        return carry_out(self._jobs.pop(0), self._progress, self._announce)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """What a sweep came to."""

    folder: Path
    settings: SweepSettings
    trials: tuple[Trial, ...]
    experimentation: Total | NoTotal
    """Energy of all trials, whatever became of them."""
    stopped_by: str
    """Why no further trial was begun; empty where all were."""
    analysis: Analysis | None
    """Of the finished trials; None where there is none."""
    repeats: Repeats | None = None
    """Within what a single training is taken to repeat, as all finished trials tell."""

    @property
    def complete(self) -> bool:
        """Whether the energy of every trial is known and whole."""
        return all(trial.complete for trial in self.trials)


def run_sweep(
    reference: str | Path,
    overrides: Sequence[str] = (),
    *,
    runs_dir: str | Path,
    engine: Callable[[], Engine],
    progress: Progress,
    announce: Callable[[str], None],
    trials: int | None = None,
    budget: str | None = None,
    sensors: Sequence[str] | None = None,
    retry_failed: bool = False,
    takes_over: bool = False,
) -> SweepOutcome:
    """Search, or go on with a search that was cut short.

    Args:
        reference: A recipe with a table `[sweep]`, or a file with that table alone.
        overrides: Changes to the recipe, of every trial.
        runs_dir: Where the sweep's folder is made.
        engine: Makes what carries trials out; called once everything else is known to be right.
        progress: Draws bars.
        announce: Told one line now and then.
        trials: How many trials, in stead of the table's number.
        budget: Of all trials together, in stead of the table's.
        sensors: Instruments in stead of the recipe's.
        retry_failed: Whether trials that failed are run again, each as its own run.
        takes_over: Whether a trial goes on with its run that was cut short on another host, where it cannot be seen.

    Raises:
        ConfigError: The recipe, or a value that is tried, cannot be meant.
        UsageError: There is no table `[sweep]`, its arm or budget cannot be meant, several ranks were launched, or the
            same sweep is under way.
        TrialLeftOpen: A server, an instrument or the machine failed; so does MissingInputError end it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a sweep is one process; start it without torchrun, and --engine ray takes it over machines")
    path, recipe = sweep_recipe(find_recipe(reference), overrides)
    settings = recipe.sweep
    if settings is None:
        raise UsageError(f"{path} has no table [sweep]; docs/how-to/budgets-and-sweeps.md shows one")
    limit = _limit(recipe, budget or settings.budget)
    check(path, overrides, recipe, settings)
    folder = _folder(Path(runs_dir), recipe, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, f"the sweep {folder}"):  # two would carry out the same trials
        _begin(folder, path, recipe)
        if retry_failed:
            open_again(folder, [trial for trial in kept_trials(folder).values() if trial.status == FAILED])
        search = Search(folder, settings)
        told = tuple(sensors) if sensors else None
        desk = _Desk(folder, settings, tuple(overrides), told, search, limit, trials, takes_over=takes_over)
        stopped_by = desk.run(engine(), progress, announce)
    found = tuple(desk.done[number] for number in sorted(desk.done))  # trials beside each other end as they may
    finished = [trial.run_id for trial in found if trial.status == FINISHED and trial.run_id]
    analysis = analyse_runs(finished, runs_dir=folder) if finished else None
    repeats = None if analysis is None else repeats_within(gather_labels(analysis.rows))
    return SweepOutcome(
        folder=folder,
        settings=settings,
        trials=found if repeats is None else repeating_within(found, repeats.rel),
        experimentation=experimentation(found),
        stopped_by=stopped_by,
        analysis=analysis,
        repeats=repeats,
    )


def experimentation(trials: Sequence[Trial]) -> Total | NoTotal:
    """The energy of all trials, whatever became of them; none where that of one is not known."""
    return together([trial.energy for trial in trials])


def check(path: Path, overrides: Sequence[str], recipe: Recipe, settings: SweepSettings) -> None:
    """Refuse, before anything is spent, an arm that is not there, or a setting or value that cannot be meant.

    Raises:
        UnknownNameError: No such arm.
        ConfigError: A setting that does not exist, with the nearest one, or an impossible value.
    """
    names = [arm.name for arm in recipe.arms]
    if settings.arm not in names:
        raise UnknownNameError("arm of the sweep", settings.arm, names)
    for key, parameter in settings.parameters.items():
        ends = parameter.grid or tuple(end for end in (parameter.low, parameter.high) if end is not None)
        for value in ends:
            meant = round(value) if parameter.steps_are_whole and isinstance(value, float) else value
            trial_recipe(path, overrides, {key: meant}, settings.arm, 0)


def _limit(recipe: Recipe, text: str | None) -> Limit | None:
    if text is None:
        return None
    from pydantic_core import PydanticCustomError

    try:
        limit = recipe.budgets.limit(text)
    except PydanticCustomError as err:
        raise UsageError(f"budget of the sweep: {text!r} {err.message()}") from err
    if limit.kind is LimitKind.TOKENS:
        raise UsageError("a sweep's budget is of energy, carbon, money or time; trials limit tokens")
    return limit


def _folder(runs_dir: Path, recipe: Recipe, settings: SweepSettings) -> Path:
    """Named by all that makes trials what they are; more trials or a larger budget go on with the same sweep."""
    same = {**recipe.resolved(), "sweep": settings.model_dump(mode="json", exclude={"trials", "budget"})}
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    return runs_dir / f"sweep-{recipe.name}-{digest[:8]}"


def _begin(folder: Path, path: Path, recipe: Recipe) -> None:
    from stillwatt.pipelines.artifacts import write_json

    target = folder / RECIPE_NAME
    if not target.exists():
        target.write_bytes(path.read_bytes())
        told = {"schema": "stillwatt.sweep/1", "name": recipe.name, "recipe": recipe.resolved()}
        write_json(folder / SWEEP_NAME, told)


class _Desk:
    """Hands trials out and takes them back."""

    def __init__(
        self,
        folder: Path,
        settings: SweepSettings,
        overrides: tuple[str, ...],
        sensors: tuple[str, ...] | None,
        search: Search,
        limit: Limit | None,
        trials: int | None,
        *,
        takes_over: bool,
    ) -> None:
        self._folder, self._settings, self._search, self._limit = folder, settings, search, limit
        self._overrides, self._sensors = overrides, sensors
        self._most, self._takes_over = trials or settings.trials, takes_over
        self.done = kept_trials(folder)
        self._cut_short: StillwattError | None = None
        self._is_all_tried = False

    def run(self, engine: Engine, progress: Progress, announce: Callable[[str], None]) -> str:
        """Carry trials out until there are enough; returns why it ended before."""
        for trial in self.done.values():
            self._search.tell(trial)
        if self.done:
            announce(self._over_already())
        waiting, under_way, stopped_by = self._next_trials(), 0, ""
        with progress.task("sweep", total=self._most or self._grid_size(), unit="trials") as bar:
            bar.advance(len(self.done))
            while True:
                while under_way < self._slots(engine) and not stopped_by:
                    stopped_by = self._why_stop(under_way)
                    asked = None if stopped_by else next(waiting, None)
                    if asked is None:
                        break
                    announce(begun_line(*asked))
                    engine.submit(self._job(*asked))
                    under_way += 1
                if not under_way:
                    return self._ended(stopped_by)
                under_way -= 1
                if self._take_back(engine, announce):
                    bar.advance()
                else:
                    stopped_by = "a trial that was cut short"

    def _take_back(self, engine: Engine, announce: Callable[[str], None]) -> bool:
        """Take note of the next trial that is over; False where it was cut short, and so ends the sweep.

        Trials that others have under way come to their own end first.
        """
        try:
            trial = engine.wait()
        except StillwattError as err:
            self._cut_short = self._cut_short or err
            return False
        self.done[trial.number] = trial
        self._search.tell(trial)
        announce(over_line(trial))
        return True

    def _ended(self, stopped_by: str) -> str:
        if self._cut_short is not None:
            raise self._cut_short
        if self._is_all_tried and not stopped_by:
            return f"having tried all {self._search.combinations:,} combinations of values"
        return stopped_by

    def _over_already(self) -> str:
        failed = sum(trial.status == FAILED for trial in self.done.values())
        told = f" ({failed} of them failed: --retry-failed runs those again)" if failed else ""
        return f"{self._folder}: {len(self.done)} trials are over and not run again{told}"

    def _slots(self, engine: Engine) -> int:
        """How many at once: one alone until one has left the teacher's artefacts behind, which all others then use."""
        return engine.slots if any(trial.status != FAILED for trial in self.done.values()) else 1

    def _next_trials(self) -> Iterator[tuple[int, Mapping[str, Scalar]]]:
        """Those to be run again and those left open, then new ones."""
        left = {**opened_again(self._folder), **self._search.open_trials()}
        begun = len(self.done) + len(left)
        yield from left.items()
        while self._most is None or begun < self._most:
            asked = self._search.ask()
            if asked is None:
                self._is_all_tried = self._most is not None
                return
            yield asked
            begun += 1

    def _why_stop(self, under_way: int) -> str:
        """Why no further trial is begun: it would be likely to end beyond the budget."""
        limit = self._limit
        if limit is None or not self.done:
            return ""
        if limit.kind is LimitKind.ENERGY:
            energy = experimentation(tuple(self.done.values()))
            if isinstance(energy, NoTotal):
                return f"the budget of {limit.said} cannot be held to: {energy.reason}"
            spent = energy.value_j
            each = [trial.energy_j or 0.0 for trial in self.done.values()]
        else:
            each = [trial.duration_s for trial in self.done.values()]
            spent = sum(each)
        if spent + (under_way + 0.5) * statistics.median(each) < limit.amount:
            return ""
        return f"the budget of {limit.said}: {limit.text(spent)} are spent"

    def _job(self, number: int, parameters: Mapping[str, Scalar]) -> TrialJob:
        return TrialJob(
            folder=str(self._folder),
            number=number,
            arm=self._settings.arm,
            parameters=parameters,
            overrides=self._overrides,
            objectives=self._settings.objectives,
            others=self._others(),
            sensors=self._sensors,
            takes_over=self._takes_over,
        )

    def _others(self) -> dict[str, tuple[float, ...]]:
        finished = [trial for trial in self.done.values() if trial.losses]
        if self._settings.early_stopping == "none" or len(finished) < self._settings.warmup_trials:
            return {}
        shares = {share for trial in finished for share in trial.losses}
        return {share: tuple(t.losses[share] for t in finished if share in t.losses) for share in shares}

    def _grid_size(self) -> int:
        size = 1
        for parameter in self._settings.parameters.values():
            size *= len(parameter.grid or ())
        return size
