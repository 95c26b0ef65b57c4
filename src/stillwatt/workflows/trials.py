"""One trial of a sweep: the recipe it runs, what it came to, and the file that keeps it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.config.load import load_recipe
from stillwatt.config.sweep import keys_of
from stillwatt.config.tomlvalue import toml_value
from stillwatt.errors import (
    EndpointError,
    LedgerError,
    MissingExtraError,
    MissingInputError,
    SensorError,
    StillwattError,
)
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.kinds import StageStatus
from stillwatt.workflows.books import show_run
from stillwatt.workflows.pipeline import run_recipe
from stillwatt.workflows.trial_values import Spread, held_out_loss, objectives_of
from stillwatt.workflows.unfinished import Wish

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.config.sweep import Scalar
    from stillwatt.pipelines.progress import Progress
    from stillwatt.records.finding import ArmPoint, Study

FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"
RECIPE_NAME = "recipe.toml"
_TRIALS = "trials"
_AGAIN = "again."
"""What stands before the name of a failed trial's file once it is to be run again."""
_NOT_ITS_OWN = (EndpointError, SensorError, OSError)
"""Faults of a server, an instrument or the machine, a full disk among them: they say nothing of a trial's settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a trial came to."""

    number: int
    parameters: Mapping[str, Scalar]
    status: str
    """`finished`, `pruned` or `failed`."""
    run_id: str | None = None
    """Its last; None where it failed before there was a run."""
    energy_j: float | None = None
    """Of all of its runs, which is experimentation; None where it is not known."""
    energy_low_j: float | None = None
    energy_high_j: float | None = None
    basis: str = Basis.ASSUMED.value
    """Of that energy."""
    duration_s: float = 0.0
    complete: bool = False
    """Whether that energy is whole."""
    why_not: str = ""
    """Why there is no energy, or why it was ended early or failed."""
    values: Mapping[str, float] = field(default_factory=dict)
    """By objective; only of a finished one."""
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    """How well each objective is known; empty of a trial that an earlier version carried out."""
    prepare_j: float | None = None
    """Of preparing the data, the loading of libraries among it: in no objective, since the first trial bears it."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Held-out loss in nats by share of the text, mean over seeds."""

    @property
    def energy(self) -> Total | NoTotal:
        """Of its whole run, with its interval and basis, or why it is not known."""
        value_j, low_j, high_j = self.energy_j, self.energy_low_j, self.energy_high_j
        if value_j is None or low_j is None or high_j is None:
            return NoTotal(reason=f"the energy of trial {self.number} is not known ({self.why_not})")
        return Total(value_j=value_j, low_j=low_j, high_j=high_j, basis=Basis(self.basis), complete=self.complete)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """All that carrying out a trial takes; the recipe lies in the sweep's folder."""

    folder: str
    number: int
    arm: str
    parameters: Mapping[str, Scalar]
    overrides: tuple[str, ...]
    objectives: tuple[str, ...]
    others: Mapping[str, tuple[float, ...]]
    """Losses of earlier trials by share of the text; empty where no trial is ended early."""
    sensors: tuple[str, ...] | None
    takes_over: bool = False
    """Whether a run of it that was cut short on another host, where it cannot be seen, is gone on with."""


class TrialEnded(StillwattError):
    """A trial that is worse than the median of those before it; the sweep takes note and goes on."""


class TrialLeftOpen(StillwattError):
    """A trial was cut short by what no trial could help; the sweep ends, and the same command goes on with it."""

    def __init__(self, number: int, cause: str) -> None:
        self.number, self.cause = number, cause
        super().__init__(
            f"trial {number} was cut short: {cause}; the sweep ends here, what it spent stays on the books, and the "
            "same command goes on with that trial"
        )


def trial_recipe(
    path: Path, overrides: Sequence[str], parameters: Mapping[str, Scalar], arm: str, number: int
) -> Recipe:
    """The recipe of a trial: the one arm, under a name of its own, with the trial's settings.

    Raises:
        ConfigError: A setting does not exist, or the recipe cannot be meant with that value.
    """
    changes = [f"{key}={toml_value(value)}" for name, value in parameters.items() for key in keys_of(name)]
    recipe = load_recipe(path, [*overrides, *changes])
    (chosen,) = [entry for entry in recipe.arms if entry.name == arm]
    own = chosen.model_copy(update={"name": f"{arm}-t{number:03d}"})
    # rules about arms together, such as a baseline, mean nothing for one alone
    return recipe.model_copy(update={"arms": (own,), "sweep": None})


def carry_out(job: TrialJob, progress: Progress, announce: Callable[[str], None]) -> Trial:
    """Run a trial, or what is left of one that was cut short; its outcome is on disk before it is returned.

    Raises:
        MissingInputError: A model or data set is not there: no other trial could do better.
        MissingExtraError: A package is not installed.
        TrialLeftOpen: A server, an instrument or the machine failed. The trial has no outcome and goes on when it is
            carried out again.
    """
    folder, watch = Path(job.folder), _Watch(job.others)
    recipe = trial_recipe(folder / RECIPE_NAME, job.overrides, job.parameters, job.arm, job.number)
    trial = Trial(number=job.number, parameters=dict(job.parameters), status=FAILED)

    try:
        study = _finished_before(folder, job.number)
        if study is None:
            outcome = run_recipe(
                recipe,
                runs_dir=folder,
                fresh=False,
                sensors=job.sensors,
                progress=progress,
                announce=announce,
                on_scored=watch.scored,
                on_run=partial(_note_run, folder, job.number),
                wish=Wish(takes_over=job.takes_over, is_trial=True),
            )
            assert outcome is not None  # a sweep is no launch of several ranks (`run_sweep` has seen to it)
            study = outcome.study
        trial = _compared(trial, study, job.objectives)
    except TrialEnded as err:
        trial = replace(trial, status=PRUNED, why_not=str(err))
    except (MissingInputError, MissingExtraError):
        raise
    except _NOT_ITS_OWN as err:
        raise TrialLeftOpen(job.number, str(err)) from err
    except (StillwattError, RuntimeError, ValueError, MemoryError) as err:
        trial = replace(trial, why_not=f"{type(err).__name__}: {err}"[:500])
    return _kept_with_energy(replace(trial, losses=watch.means), folder)


def give_up(job: TrialJob, why: str) -> Trial:
    """The outcome of a trial whose own doing ended its process, so that nobody there could write it down."""
    trial = Trial(number=job.number, parameters=dict(job.parameters), status=FAILED, why_not=why)
    return _kept_with_energy(trial, Path(job.folder))


def _compared(trial: Trial, study: Study, objectives: Sequence[str]) -> Trial:
    """A trial that is finished, with what it is compared by."""
    found = objectives_of(study, objectives)
    return replace(
        trial,
        status=FINISHED,
        values={name: one.value for name, one in found.items()},
        spreads={name: one.spread for name, one in found.items()},
        prepare_j=_prepare_j(study.final_points),
    )


@dataclass(slots=True)
class _Watch:
    """Looks at a trial's held-out losses as they come."""

    others: Mapping[str, tuple[float, ...]]
    found: dict[str, list[float]] = field(default_factory=dict)

    def scored(self, _arm: str, share: float, scores: Sequence[Mapping[str, Any]]) -> None:
        """Take note of a checkpoint's scores.

        Raises:
            TrialEnded: Its loss is above the median of the others', and there is text left.
        """
        losses = (held_out_loss(score["task"], score["value"]) for score in scores)
        loss = next((known for known in losses if known is not None), None)
        if loss is None:
            return
        self.found.setdefault(str(float(share)), []).append(loss)
        before = self.others.get(str(float(share)), ())
        if before and share < 1.0 and loss > (median := statistics.median(before)):
            raise TrialEnded(f"loss {loss:.4f} at {share:.0%} is above the median of {len(before)}, {median:.4f}")

    @property
    def means(self) -> dict[str, float]:
        """Mean loss over seeds, by share."""
        return {share: statistics.fmean(losses) for share, losses in self.found.items()}


def _run_note(folder: Path, number: int) -> Path:
    """Where a trial's runs are noted as they begin."""
    return folder / _TRIALS / f"run.{number:04d}"


def _runs_of(folder: Path, number: int) -> list[str]:
    """A trial's runs, the last one last: there are several where one was cut short and could not be gone on with."""
    note = _run_note(folder, number)
    return note.read_text(encoding="utf-8").split() if note.exists() else []


def _note_run(folder: Path, number: int, run_id: str) -> None:
    before = [other for other in _runs_of(folder, number) if other != run_id]
    note = _run_note(folder, number)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("\n".join((*before, run_id)), encoding="utf-8")


def _finished_before(folder: Path, number: int) -> Study | None:
    """What a run came to that ended just before a kill, so that only its outcome is missing."""
    runs = _runs_of(folder, number)
    if not runs:
        return None
    try:
        record = show_run(folder, runs[-1])
    except LedgerError:
        return None  # killed before the run was anything
    if record.status is not StageStatus.ENDED:
        return None
    from stillwatt.workflows.publish import summarise_run

    return summarise_run(record, runs_dir=folder)


def keep(folder: Path, trial: Trial) -> None:
    """Put a trial's outcome on disk, whole or not at all."""
    from stillwatt.pipelines.artifacts import write_json

    write_json(_place(folder, trial.number), asdict(trial))
    _place(folder, trial.number, _AGAIN).unlink(missing_ok=True)


def kept_trials(folder: Path) -> dict[int, Trial]:
    """Trials that are over, by number."""
    return _read(folder, "")


def open_again(folder: Path, trials: Iterable[Trial]) -> None:
    """Let trials that are over be run again, now or, after a kill, when the sweep is gone on with."""
    for trial in trials:
        _place(folder, trial.number).replace(_place(folder, trial.number, _AGAIN))


def opened_again(folder: Path) -> dict[int, Mapping[str, Scalar]]:
    """Trials that are to be run again and have no new outcome yet, with their values."""
    over = kept_trials(folder)
    return {number: trial.parameters for number, trial in _read(folder, _AGAIN).items() if number not in over}


def repeating_within(trials: Iterable[Trial], rel: float) -> tuple[Trial, ...]:
    """The trials, each single training's energy taken to repeat within that share of it (method.md, eq. 28).

    A trial alone shows but a few increments, and the luckiest would be told from all others: what all trials of a sweep
    show together goes for each of them.
    """
    return tuple(
        replace(trial, spreads={name: one.repeating(trial.values[name], rel) for name, one in trial.spreads.items()})
        for trial in trials
    )


def _place(folder: Path, number: int, before: str = "") -> Path:
    return folder / _TRIALS / f"{before}{number:04d}.json"


def _read(folder: Path, before: str) -> dict[int, Trial]:
    paths = (folder / _TRIALS).glob(f"{before}[0-9]*.json")
    found = [trial_of(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return {trial.number: trial for trial in sorted(found, key=lambda trial: trial.number)}


def trial_of(data: Mapping[str, Any]) -> Trial:
    """The trial that `asdict` made these of."""
    spreads = {name: Spread(**spread) for name, spread in data.get("spreads", {}).items()}
    return Trial(**{**data, "spreads": spreads})


def _kept_with_energy(trial: Trial, folder: Path) -> Trial:
    """The trial with the energy of its runs, lost attempts and all; it is on disk before it is returned."""
    trial = _with_energy(trial, folder)
    keep(folder, trial)
    return trial


def _with_energy(trial: Trial, folder: Path) -> Trial:
    runs = _runs_of(folder, trial.number)
    if not runs:
        return replace(trial, why_not=trial.why_not or "it never came to a run")
    try:
        records = [show_run(folder, run_id) for run_id in runs]
    except LedgerError as err:
        return replace(trial, run_id=runs[-1], why_not=trial.why_not or str(err))
    trial = replace(trial, run_id=runs[-1], duration_s=sum(record.duration_s for record in records))
    total = together([record.total for record in records])
    if isinstance(total, NoTotal):
        return replace(trial, why_not=trial.why_not or total.reason)
    return replace(
        trial,
        energy_j=total.value_j,
        energy_low_j=total.low_j,
        energy_high_j=total.high_j,
        basis=total.basis.value,
        complete=total.complete,
    )


def together(energies: Sequence[Total | NoTotal]) -> Total | NoTotal:
    """The sum of runs' energies; none where one of them is not known.

    Ends of intervals are added: what an instrument or a model gets wrong, it gets wrong alike in every run.
    """
    totals = [energy for energy in energies if isinstance(energy, Total)]
    if len(totals) < len(energies) or not totals:
        return next((energy for energy in energies if isinstance(energy, NoTotal)), NoTotal(reason="no trial is over"))
    return Total(
        value_j=sum(total.value_j for total in totals),
        low_j=sum(total.low_j for total in totals),
        high_j=sum(total.high_j for total in totals),
        basis=worst_basis([total.basis for total in totals]),
        complete=all(total.complete for total in totals),
    )


def _prepare_j(points: Sequence[ArmPoint]) -> float | None:
    known = [point.prepare_energy.value_j for point in points if not isinstance(point.prepare_energy, NoTotal)]
    return statistics.fmean(known) if known else None
