"""Sweeps with an engine of plain code: what is tried, what is told, what a kill leaves, and what is refused."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna", reason="the sweep extra is not installed")

from planned_runs import smoke, study_run
from stillwatt.cli.sweep import _best
from stillwatt.config.bundled import find_recipe
from stillwatt.config.sweep import ParameterSettings, SweepSettings
from stillwatt.errors import StillwattError, UsageError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.finding import Bill, Score
from stillwatt.workflows import sweep as sweep_module
from stillwatt.workflows.books import show_run
from stillwatt.workflows.publish import summarise_run
from stillwatt.workflows.search import Search
from stillwatt.workflows.sweep import SweepOutcome, run_sweep
from stillwatt.workflows.trial_values import Spread, not_apart, objective_of, objectives_of
from stillwatt.workflows.trials import (
    FAILED,
    FINISHED,
    PRUNED,
    Trial,
    TrialEnded,
    TrialJob,
    _Watch,
    keep,
    repeating_within,
    trial_recipe,
)

HEAD = """
[sweep]
recipe = "smoke_cpu"
arm = "kd"
seed = 1
"""
GRID = """
[sweep.parameters]
"arms.kd.alpha" = { choices = [0.0, 0.5, 1.0] }
"train.learning_rate" = { low = 0.001, high = 0.003, step = 0.001 }
"""


class Killed(BaseException):
    """Stands for a signal."""


@dataclass
class FakeEngine:
    """Gives each trial an energy and a loss worked out from its settings; may be killed while one is under way."""

    slots: int = 1
    kill_at: int | None = None
    unknown_at: int | None = None
    jobs: list[TrialJob] = field(default_factory=list)
    at_once: list[int] = field(default_factory=list)
    seen: list[TrialJob] = field(default_factory=list)

    def submit(self, job: TrialJob) -> None:
        self.jobs.append(job)
        self.seen.append(job)

    def wait(self) -> Trial:
        self.at_once.append(len(self.jobs))
        job = self.jobs.pop(0)
        if self.kill_at == len(self.seen) - 1:
            raise Killed
        alpha = float(job.parameters["arms.kd.alpha"])
        trial = Trial(
            number=job.number,
            parameters=dict(job.parameters),
            status=FAILED if alpha == 1.0 else FINISHED,
            energy_j=None if self.unknown_at == job.number else 100.0,
            energy_low_j=90.0,
            energy_high_j=120.0,
            basis="modelled" if job.number == 4 else "measured",
            duration_s=10.0,
            complete=True,
            why_not="it broke" if alpha == 1.0 else "",
            values={} if alpha == 1.0 else {name: alpha for name in job.objectives},
            losses={"0.5": alpha},
        )
        keep(Path(job.folder), trial)
        return trial


def sweep(folder: Path, text: str, engine: FakeEngine, **more: Any) -> SweepOutcome:
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return run_sweep(
        path,
        runs_dir=folder / "runs",
        engine=lambda: engine,
        progress=SilentProgress(),
        announce=lambda _text: None,
        **more,
    )


@pytest.fixture(autouse=True)
def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake engine makes no runs, so there is nothing to analyse."""
    monkeypatch.setattr(sweep_module, "analyse_runs", lambda *_args, **_more: None)


def tried(engine: FakeEngine) -> list[Mapping[str, Any]]:
    return [job.parameters for job in engine.seen]


def table(method: str, more: str = "") -> str:
    return f'{HEAD}method = "{method}"\nobjectives = ["loss"]\n{more}\n{GRID}'


def test_trials_are_compared_without_what_the_first_one_loads(tmp_path: Path) -> None:
    study = summarise_run(show_run(study_run(tmp_path, smoke()).path.parent, "latest"), runs_dir=tmp_path)
    (point, *_) = study.final_points
    prepare = point.prepare_energy
    (allocated,) = (entry for entry in point.allocated if entry.allocation.label == "one-off")
    assert isinstance(prepare, Bill)
    assert isinstance(allocated.energy, Bill)
    own_j = objective_of(point, "energy").value
    assert own_j == pytest.approx(allocated.energy.value_j - prepare.value_j)
    loading_j = 54.0
    first = replace(
        point,
        prepare_energy=replace(prepare, value_j=prepare.value_j + loading_j),
        allocated=tuple(
            replace(entry, energy=replace(entry.energy, value_j=entry.energy.value_j + loading_j))
            for entry in point.allocated
            if isinstance(entry.energy, Bill)
        ),
    )
    assert objective_of(first, "energy").value == pytest.approx(own_j)


def test_a_single_training_is_as_well_known_as_its_meter_and_repeats_within_its_repeatability(tmp_path: Path) -> None:
    study = summarise_run(show_run(study_run(tmp_path, smoke()).path.parent, "latest"), runs_dir=tmp_path)
    point = study.final_points[0]
    one = replace(study, arms=(point,), repeat_rel=0.1)
    found = objectives_of(one, ("energy",))["energy"]
    bill = point.energy_under("one-off")
    assert isinstance(bill, Bill)
    assert bill.basis is not None
    assert found.spread.basis == bill.basis.value
    assert found.spread.low is not None
    assert found.spread.high is not None
    assert found.spread.random is not None
    assert found.spread.low < found.value < found.spread.high
    assert found.spread.random >= 0.1 * found.value  # whatever the meter: equal trials do not repeat better
    exact = objectives_of(replace(one, repeat_rel=0.0), ("energy",))["energy"]
    assert exact.spread.random is not None
    assert exact.spread.random < found.spread.random
    assert (exact.spread.low, exact.spread.high) == (found.spread.low, found.spread.high)


def test_with_several_seeds_their_own_spread_counts(tmp_path: Path) -> None:
    """Worked by hand: two losses x apart have a half-width of t_1 x / 2, with t_1 = 12.706 (method.md, eq. 29)."""
    study = summarise_run(show_run(study_run(tmp_path, smoke()).path.parent, "latest"), runs_dir=tmp_path)
    point = study.final_points[0]
    score = Score(task="perplexity", value=20.0, se=0.0, n=100, higher_is_better=False)
    near = replace(point, scores=(score,))
    far = replace(point, scores=(replace(score, value=score.value * math.exp(0.02)),))
    found = objectives_of(replace(study, arms=(near, far)), ("loss",))["loss"]
    assert found.value == pytest.approx(math.log(score.value) + 0.01)
    assert found.spread.random == pytest.approx(12.706 * 0.02 / 2.0, rel=1e-3)


EXACT = Spread(low=2.9, high=3.1, random=0.1)


def test_trials_repeat_within_what_all_of_them_show(tmp_path: Path) -> None:
    """Two of three trials have lucky increments, so that by its own the nearest was told apart and the farthest not."""
    study = summarise_run(show_run(study_run(tmp_path, smoke()).path.parent, "latest"), runs_dir=tmp_path)
    one = replace(study, arms=(study.final_points[0],))
    trials = []
    for number, (energy_j, own_rel) in enumerate(((3.6, 0.1), (4.6, 0.1), (6.8, 0.807))):
        spread = objectives_of(replace(one, repeat_rel=own_rel), ("energy",))["energy"].spread
        assert spread.measured is not None
        alone = replace(spread, measured=0.01, random=math.hypot(0.01, own_rel * energy_j))
        values, spreads = {"energy": energy_j, "loss": 3.0}, {"energy": alone, "loss": EXACT}
        trials.append(Trial(number=number, parameters={}, status=FINISHED, values=values, spreads=spreads))

    def near(trials: Sequence[Trial]) -> tuple[int, ...] | None:
        return not_apart({t.number: (t.values["energy"], t.spreads["energy"]) for t in trials}, 0)

    assert near(trials) == (2,)
    together = repeating_within(trials, 0.47)
    assert near(together) == (1, 2)
    assert [t.spreads["energy"].random for t in together] == [math.hypot(0.01, 0.47 * e) for e in (3.6, 4.6, 6.8)]
    assert [t.spreads["loss"] for t in together] == [EXACT] * 3


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.0, 1e5)), min_size=2, max_size=8))
def test_what_is_told_apart_is_so_from_both_sides_and_wider_errors_tell_no_more(
    trials: list[tuple[float, float]],
) -> None:
    def known(factor: float) -> dict[int, tuple[float, Spread | None]]:
        return {n: (x, Spread(low=None, high=None, random=h * factor)) for n, (x, h) in enumerate(trials)}

    for best in range(len(trials)):
        near, nearer = not_apart(known(1.0), best), not_apart(known(2.0), best)
        assert near is not None
        assert nearer is not None
        assert best not in near
        assert set(near) <= set(nearer)
        assert all(best in (not_apart(known(1.0), other) or ()) for other in near)
        assert not_apart({**known(1.0), best: (1.0, None)}, best) is None


def test_the_winner_by_energy_says_what_is_left_out() -> None:
    trials = [
        Trial(number=n, parameters={}, status=FINISHED, values={"energy": 26.0 - n}, prepare_j=prepare_j)
        for n, prepare_j in enumerate((182.0, 0.83))
    ]
    winner, beside = _best(trials, ["energy"])
    assert winner == "least energy: trial 1, 25 J; its error is not known, so it cannot be told apart from the others"
    assert "182 J in trial 0, in the others at most 830 mJ" in beside
    assert len(_best(trials[:1], ["loss"])) == 0


def test_a_grid_tries_every_combination_once(tmp_path: Path) -> None:
    engine = FakeEngine()
    outcome = sweep(tmp_path, table("grid"), engine)
    seen = {(p["arms.kd.alpha"], round(float(p["train.learning_rate"]), 6)) for p in tried(engine)}
    assert seen == {(alpha, rate) for alpha in (0.0, 0.5, 1.0) for rate in (0.001, 0.002, 0.003)}
    assert len(engine.seen) == 9
    spent = outcome.experimentation  # the failed ones among them, intervals added, of the worst basis
    assert isinstance(spent, Total)
    assert (spent.value_j, spent.low_j, spent.high_j, spent.basis.value) == (900.0, 810.0, 1080.0, "modelled")
    assert sum(trial.status == FAILED for trial in outcome.trials) == 3
    assert outcome.complete


@pytest.mark.parametrize("method", ["random", "tpe", "nsga2"])
@pytest.mark.parametrize("objectives", ['["loss"]', '["energy", "loss"]'])
def test_a_search_that_was_killed_runs_no_finished_trial_again(tmp_path: Path, method: str, objectives: str) -> None:
    text = table(method, "trials = 6").replace('["loss"]', objectives)
    killed = FakeEngine(kill_at=3)
    with pytest.raises(Killed):
        sweep(tmp_path, text, killed)
    rest = FakeEngine()
    outcome = sweep(tmp_path, text, rest)
    assert [job.number for job in rest.seen] == [3, 4, 5]
    assert rest.seen[0].parameters == killed.seen[3].parameters  # the trial that was under way goes on
    assert [trial.number for trial in outcome.trials] == [0, 1, 2, 3, 4, 5]
    assert not sweep(tmp_path, text, again := FakeEngine()).stopped_by
    assert again.seen == []
    sweep(tmp_path, text, more := FakeEngine(), trials=8)
    assert [job.number for job in more.seen] == [6, 7]


@pytest.mark.parametrize("method", ["random", "tpe", "nsga2"])
@pytest.mark.parametrize(
    ("range_of", "count"),
    [
        ("{ choices = [true, 0.5, 'z'] }", 3),
        ("{ low = 0.1, high = 0.5, step = 0.1 }", 5),
        ("{ low = 1.0, high = 4.0, is_whole = true }", 4),
    ],
)
def test_no_combination_of_values_is_paid_for_twice(tmp_path: Path, method: str, range_of: str, count: int) -> None:
    settings = SweepSettings.model_validate(
        tomllib.loads(
            f'arm = "kd"\nmethod = "{method}"\ntrials = 99\nseed = 1\nobjectives = ["loss"]\n'
            f'[parameters]\na = {range_of}\nb = {{ choices = ["x", "y"] }}'
        ),
        strict=False,
    )
    numbers, tried = list[int](), list[str]()
    for _ in range(2 * count):
        asked = Search(tmp_path, settings).ask()  # as after a kill, each time
        assert asked is not None
        number, values = asked
        numbers.append(number)
        tried.append(repr(values))
        # the search would stay with the first one for good
        loss = 0.0 if number == 0 else 9.0
        told = Trial(number=number, parameters=values, status=FINISHED, values={"loss": loss})
        Search(tmp_path, settings).tell(told)
    assert numbers == list(range(2 * count))
    assert len(set(tried)) == 2 * count
    assert Search(tmp_path, settings).ask() is None


def test_a_search_that_has_tried_everything_says_so(tmp_path: Path) -> None:
    outcome = sweep(tmp_path, table("tpe", "trials = 30"), engine := FakeEngine(slots=2))
    cells = {tuple(values.values()) for values in tried(engine)}
    assert len(engine.seen) == len(cells) == len(outcome.trials) < 30
    assert outcome.stopped_by == f"having tried all {len(cells)} combinations of values"


def test_a_resumed_random_search_does_not_choose_the_same_values_again(tmp_path: Path) -> None:
    text = table("random", "trials = 3").replace("step = 0.001", "log = true")
    sweep(tmp_path, text, first := FakeEngine())
    sweep(tmp_path, text, second := FakeEngine(), trials=6)
    rates = [p["train.learning_rate"] for p in tried(first) + tried(second)]
    assert len(set(rates)) == 6


def test_a_budget_of_the_sweep_begins_no_trial_that_would_pass_it(tmp_path: Path) -> None:
    engine = FakeEngine()
    outcome = sweep(tmp_path, table("grid"), engine, budget="420 J")
    assert len(engine.seen) == 4
    assert outcome.stopped_by == "the budget of 420 J: 400 J are spent"
    more = FakeEngine()
    sweep(tmp_path, table("grid"), more, budget="61 s")
    assert len(more.seen) == 2


def test_unknown_energy_is_no_zero(tmp_path: Path) -> None:
    outcome = sweep(tmp_path, table("grid"), FakeEngine(unknown_at=1), budget="10 kJ")
    assert isinstance(outcome.experimentation, NoTotal)
    assert "cannot be held to" in outcome.stopped_by
    assert len(outcome.trials) == 2


def test_several_trials_at_once_are_all_told_once_the_teacher_has_worked_for_one(tmp_path: Path) -> None:
    engine = FakeEngine(slots=4)
    outcome = sweep(tmp_path, table("grid"), engine)
    assert [trial.number for trial in sorted(outcome.trials, key=lambda t: t.number)] == list(range(9))
    first = next(number for number, trial in enumerate(outcome.trials) if trial.status != FAILED)
    assert engine.at_once == [1] * (first + 1) + [4] * (5 - first) + [3, 2, 1]
    sweep(tmp_path, table("random", "trials = 4"), FakeEngine())
    sweep(tmp_path, table("random", "trials = 4"), goes_on := FakeEngine(slots=4), trials=8)
    assert goes_on.at_once[0] == 4


def test_early_stopping_compares_with_the_median_at_the_same_share(tmp_path: Path) -> None:
    engine = FakeEngine()
    sweep(tmp_path, table("grid", 'early_stopping = "median"\nwarmup_trials = 2'), engine)
    assert [len(job.others) for job in engine.seen[:3]] == [0, 0, 1]
    watch = _Watch({"0.5": (1.0, 2.0, 3.0)})
    watch.scored("kd", 0.5, [{"task": "perplexity", "value": 2.718281828**2.0}])
    with pytest.raises(TrialEnded, match=r"loss 2\.1000 at 50% is above the median of 3, 2\.0000"):
        watch.scored("kd", 0.5, [{"task": "perplexity", "value": 2.718281828**2.1}])
    watch.scored("kd", 1.0, [{"task": "perplexity", "value": 1e9}])
    watch.scored("kd", 0.5, [{"task": "choice4", "value": 0.5}])
    assert watch.means["0.5"] == pytest.approx(2.05)


def test_pruned_trials_are_told_to_the_search(tmp_path: Path) -> None:
    class Pruning(FakeEngine):
        def wait(self) -> Trial:
            job = self.jobs.pop(0)
            trial = Trial(
                number=job.number, parameters=dict(job.parameters), status=PRUNED,
                energy_j=5.0, energy_low_j=4.0, energy_high_j=6.0,
            )  # fmt: skip
            keep(Path(job.folder), trial)
            return trial

    for objectives in ('["loss"]', '["energy", "loss"]'):
        text = table("tpe", "trials = 2").replace('["loss"]', objectives)
        spent = sweep(tmp_path, text, Pruning()).experimentation
        assert isinstance(spent, Total)
        assert spent.value_j == 10.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table("grid").replace("learning_rate", "learning_rat"), "did you mean 'learning_rate'?"),
        (table("grid").replace("arms.kd.alpha", "arms.kdd.alpha"), "did you mean 'kd'?"),
        (table("grid").replace("[0.0, 0.5, 1.0]", "[0.0, 1.5]"), "less than or equal to 1"),
        (table("grid").replace('arm = "kd"', 'arm = "kdd"'), "unknown arm of the sweep 'kdd'; did you mean 'kd'?"),
        (table("gird"), "did you mean 'grid'?"),
        (table("random"), "needs trials, unless the method is 'grid'"),
        (table("grid").replace("step = 0.001", "log = true"), "a grid needs choices or a step"),
        (table("grid").replace("high = 0.003", "high = 0.0001"), "low must be below high"),
        (table("grid").replace("choices = [0.0, 0.5, 1.0]", "log = true"), "needs either choices, or low and high"),
        (table("grid").replace("step = 0.001", "step = 0.001, log = true"), "log needs a range above 0 and no step"),
        (table("grid", 'budget = "3 apples"'), "unknown unit 'apples'"),
        (table("grid", 'budget = "300 tokens"'), "trials limit tokens"),
        (table("grid").replace('["loss"]', '["loss", "loss"]'), "objectives must differ"),
        (table("grid").replace("smoke_cpu", "smoke_cpus"), "did you mean 'smoke_cpu'?"),
        (table("grid").replace("seed = 1", "sead = 1"), "did you mean 'seed'?"),
        (table("grid").replace("[0.0, 0.5, 1.0]", "[0.5, 0.1, 0.5]"), "0.5 stands among the choices twice"),
        (table("grid").replace("[0.0, 0.5, 1.0]", "[1, 1.0]"), "1.0 stands among the choices twice"),
        (table("grid").replace("train.learning_rate", "sweep.seed"), "sweep.seed alters nothing of a trial"),
        (table("grid") + 'name = { choices = ["a", "b"] }', "name alters nothing of a trial, so all would be the same"),
        (table("grid").replace("train.learning_rate", "arms.kd.alpha + train.seed"), "arms.kd.alpha is set by two"),
        (table("grid").replace("train.learning_rate", "train.learning_rate +"), "KEY.KEY=VALUE"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused_before_anything_is_spent(
    tmp_path: Path, text: str, words: str
) -> None:
    engine = FakeEngine()
    with pytest.raises(StillwattError) as caught:
        sweep(tmp_path, text, engine)
    assert words in str(caught.value)
    assert engine.seen == []
    assert not (tmp_path / "runs").exists()


def test_a_range_written_in_whole_steps_is_of_whole_numbers(tmp_path: Path) -> None:
    for number, method in enumerate(("grid", "random")):
        text = table(method, "trials = 12").replace("train.learning_rate", "train.batch_size")
        text = text.replace("low = 0.001, high = 0.003, step = 0.001", "low = 1, high = 4, step = 1")
        (tmp_path / str(number)).mkdir()
        engine = FakeEngine()
        sweep(tmp_path / str(number), text, engine)
        sizes = [job.parameters["train.batch_size"] for job in engine.seen]
        assert len(sizes) == 12
        assert all(type(size) is int for size in sizes)
        assert set(sizes) <= {1, 2, 3, 4}


@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
def test_a_search_begun_when_whole_steps_were_no_whole_numbers_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    text = table(method, "trials = 12").replace("train.learning_rate", "train.max_grad_norm")
    text = text.replace("low = 0.001, high = 0.003, step = 0.001", "low = 1, high = 4, step = 1")
    with monkeypatch.context() as earlier:
        earlier.setattr(ParameterSettings, "steps_are_whole", property(lambda settings: settings.is_whole))
        killed = FakeEngine(kill_at=3)
        with pytest.raises(Killed):
            sweep(tmp_path, text, killed)
    rest = FakeEngine()
    outcome = sweep(tmp_path, text, rest)
    assert [trial.number for trial in outcome.trials] == list(range(12))
    assert [job.number for job in rest.seen] == list(range(3, 12))
    norms = [job.parameters["train.max_grad_norm"] for job in (*killed.seen, *rest.seen)]
    assert set(norms) <= {1, 2, 3, 4}


def test_a_parameter_may_set_several_keys_to_one_value(tmp_path: Path) -> None:
    """A cache is read at the temperature that it was written at, so that the two are changed together."""
    both = "arms.kd.temperature + teacher_logits.temperature"
    text = table("grid").replace("train.learning_rate", both)
    engine = FakeEngine()
    sweep(tmp_path, text.replace("low = 0.001, high = 0.003, step = 0.001", "choices = [1.0, 2.0]"), engine)
    assert {job.parameters[both] for job in engine.seen} == {1.0, 2.0}
    job = next(job for job in engine.seen if job.parameters[both] == 2.0)
    recipe = trial_recipe(Path(job.folder) / "recipe.toml", (), job.parameters, "kd", 3)
    assert recipe.teacher_logits is not None
    assert recipe.arms[0].temperature == recipe.teacher_logits.temperature == 2.0


def test_a_sweep_is_no_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StillwattError, match="without torchrun, and --engine ray"):
        run_sweep(
            tmp_path / "none.toml", runs_dir=tmp_path, engine=FakeEngine, progress=SilentProgress(), announce=print
        )


def test_a_recipe_without_the_table_says_where_to_look(tmp_path: Path) -> None:
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8")
    with pytest.raises(StillwattError, match=r"has no table \[sweep\]"):
        sweep(tmp_path, text, FakeEngine())
    own = text + table("grid").replace('recipe = "smoke_cpu"\n', "")
    assert len(sweep(tmp_path, own, FakeEngine()).trials) == 9


def test_a_budget_on_the_command_line_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(StillwattError, match="budget of the sweep: 'much' must be an amount"):
        sweep(tmp_path, table("grid"), FakeEngine(), budget="much")
    with pytest.raises(UsageError, match="budget of the sweep: '1__0 J' must be an amount"):
        sweep(tmp_path, table("grid"), FakeEngine(), budget="1__0 J")
