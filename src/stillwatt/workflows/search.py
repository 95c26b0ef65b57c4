"""Which values a sweep tries next: optuna behind a door of four verbs, its journal in the sweep's folder."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stillwatt.errors import MissingExtraError
from stillwatt.workflows.trials import FAILED, FINISHED, PRUNED, Trial

if TYPE_CHECKING:
    from stillwatt.config.sweep import ParameterSettings, Scalar, SweepSettings

JOURNAL_NAME = "search.journal"
_SECOND_TRY, _REPEAT = "second_try_of", "repeats_another"
_TRIES = 16
"""So often values are chosen; the last time from what no trial has had."""
_DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {
    "energy": "minimize",
    "quality": "maximize",
    "loss": "minimize",
}


class Search:
    """Chooses values, remembers what they came to, and goes on after a kill.

    Args:
        folder: The sweep's folder.
        sweep: What is searched.

    Raises:
        MissingExtraError: optuna is not installed.
    """

    def __init__(self, folder: Path, sweep: SweepSettings) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as err:
            raise MissingExtraError("optuna", "sweep") from err
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep, self._optuna = sweep, optuna
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL_NAME))),
            study_name="sweep",
            directions=[_DIRECTIONS[name] for name in sweep.objectives],
            load_if_exists=True,
        )
        # a seed alone would choose the first trials' values again after a kill
        self._study.sampler = self._make_sampler(sweep.seed + len(self._study.trials))
        grids = [parameter.grid or () for parameter in sweep.parameters.values()]
        self._cells = list(itertools.product(*grids))
        random.Random(sweep.seed).shuffle(self._cells)  # so that a grid that is cut short says something of all of it

    def open_trials(self) -> dict[int, Mapping[str, Scalar]]:
        """Trials that were asked for and never told of, with their values; those a kill left without any are closed."""
        found: dict[int, Mapping[str, Scalar]] = {}
        for trial in self._study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,)):
            if set(trial.params) == set(self._sweep.parameters):
                found[self._numbers().index(trial.number)] = dict(trial.params)
            else:
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return found

    @property
    def combinations(self) -> int | None:
        """How many there are of all values; None where there is no end of them."""
        return math.prod(len(_all_of(parameter)) for parameter in self._sweep.parameters.values()) or None

    def ask(self) -> tuple[int, Mapping[str, Scalar]] | None:
        """A new trial's number and values, which no trial has had; None where every combination was given out.

        A training is the same whenever it is carried out, so a second trial of the same values would be paid for
        nothing. Where the search keeps to what was tried, one that was not is taken at random.
        """
        if self._sweep.method == "grid":
            asked = self._ask() if self._put_next_cell() else None
        else:
            asked = self._ask() if self.combinations is None else self._ask_new(self.combinations)
        if asked is None:
            return None
        trial, values = asked
        return self._numbers().index(trial.number), values

    def _ask_new(self, most: int) -> tuple[Any, Mapping[str, Scalar]] | None:
        known = self._given_out()
        for left in range(_TRIES if len(known) < most else 0, 0, -1):
            if left == 1:
                self._study.enqueue_trial(self._untried(known))
            trial, values = self._ask()
            if _told(values.values()) not in known:
                return trial, values
            trial.set_user_attr(_REPEAT, True)  # and so it is no trial of the sweep's, and has no number there
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def _numbers(self) -> list[int]:
        """What optuna numbers the sweep's trials by, in their own order."""
        return [each.number for each in self._study.get_trials(deepcopy=False) if _REPEAT not in each.user_attrs]

    def _ask(self) -> tuple[Any, Mapping[str, Scalar]]:
        is_grid = self._sweep.method == "grid"
        trial = self._study.ask()
        real = self._begun_real()
        values = {
            key: _suggest(trial, key, each, is_grid=is_grid, is_whole=each.steps_are_whole and key not in real)
            for key, each in self._sweep.parameters.items()
        }
        return trial, values

    def _given_out(self) -> set[tuple[Scalar, ...]]:
        """The values of all trials so far, whatever became of them."""
        keys = list(self._sweep.parameters)
        found = [trial.params for trial in self._study.get_trials(deepcopy=False)]
        return {_told(params[key] for key in keys) for params in found if set(params) == set(keys)}

    def _untried(self, known: set[tuple[Scalar, ...]]) -> dict[str, Scalar]:
        """Values that no trial has had; there are such."""
        draw = random.Random(self._sweep.seed + len(known))
        while True:
            values = {key: draw.choice(_all_of(each)) for key, each in self._sweep.parameters.items()}
            if _told(values.values()) not in known:
                return values

    def tell(self, trial: Trial) -> None:
        """Take note of what a trial came to; one that is known already is left as it is, unless it had failed."""
        states, number = self._optuna.trial.TrialState, self._numbers()[trial.number]
        if trial.status == FINISHED:
            values = [trial.values[name] for name in self._sweep.objectives]
            told = self._study.tell(number, values, skip_if_finished=True)
            if told.state is states.FAIL:
                self._note_second_try(told, values)
            return
        state = {PRUNED: states.PRUNED, FAILED: states.FAIL}[trial.status]
        if state is states.PRUNED and len(self._sweep.objectives) > 1:
            state = states.FAIL  # optuna prunes for one objective only
        self._study.tell(number, state=state, skip_if_finished=True)

    def _note_second_try(self, failed: Any, values: list[float]) -> None:
        """Let the search learn of a failed trial that was run again: beside it, as optuna closes a trial for good."""
        known = {each.user_attrs.get(_SECOND_TRY) for each in self._study.get_trials(deepcopy=False)}
        if self._sweep.method == "grid" or failed.number in known:
            return  # a grid learns nothing, and counts its trials
        again = self._optuna.trial.create_trial(
            values=values,
            params=failed.params,
            distributions=failed.distributions,
            user_attrs={_SECOND_TRY: failed.number},
            system_attrs=failed.system_attrs,
        )
        self._study.add_trial(again)

    def _begun_real(self) -> set[str]:
        """Ranges that trials took real numbers from: whole steps once did, and optuna keeps one kind to a search."""
        kind = self._optuna.distributions.FloatDistribution
        trials = self._study.get_trials(deepcopy=False)
        return {key for each in trials for key, found in each.distributions.items() if isinstance(found, kind)}

    def _put_next_cell(self) -> bool:
        """Put the grid's next combination in line; False where there is none. The n-th trial has the n-th one."""
        waiting = self._optuna.trial.TrialState.WAITING
        states = [trial.state for trial in self._study.get_trials(deepcopy=False)]
        if waiting in states:
            return True  # a kill came between this and the asking
        if len(states) >= len(self._cells):
            return False
        self._study.enqueue_trial(dict(zip(self._sweep.parameters, self._cells[len(states)], strict=True)))
        return True

    def _make_sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        kinds = {"tpe": samplers.TPESampler, "nsga2": samplers.NSGAIISampler}
        return kinds.get(self._sweep.method, samplers.RandomSampler)(seed=seed)


def _all_of(parameter: ParameterSettings) -> Sequence[Scalar]:
    """All values of a parameter; none where there is no end of them."""
    if parameter.grid is not None:
        return parameter.grid
    if not parameter.steps_are_whole or parameter.low is None or parameter.high is None:
        return ()
    return range(round(parameter.low), round(parameter.high) + 1)


def _told(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Values by which trials are told apart: True is not 1 to a recipe, and sums of steps round as they may.

    >>> _told([0.1 + 0.2, 2]) == _told([0.3, 2.0]), _told([True]) == _told([1])
    (True, False)
    """
    return tuple(
        str(value) if isinstance(value, bool) else float(f"{value:.12g}") if isinstance(value, float) else value
        for value in values
    )


def _suggest(trial: Any, key: str, parameter: ParameterSettings, *, is_grid: bool, is_whole: bool) -> Scalar:
    grid = parameter.grid if parameter.choices or is_grid else None
    if grid is not None:
        value: Scalar = trial.suggest_categorical(key, list(grid))
        return value
    assert parameter.low is not None  # the settings have seen to it
    assert parameter.high is not None
    if is_whole:
        step = round(parameter.step or 1)
        low, high = round(parameter.low), round(parameter.high)
        whole: int = trial.suggest_int(key, low, high, log=parameter.log, **({} if parameter.log else {"step": step}))
        return whole
    real: float = trial.suggest_float(key, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return real
