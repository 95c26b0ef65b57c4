"""Advice: what is chosen within limits, what is impossible, and which training settles most doubt a joule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillwatt.analysis.advice import Drawn, advise
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.records.advice import Answer, Limits, Option
from synthetic_worlds import regrets

COUNT = 2_000


def option(name: str, answer: Answer = Answer.DISTIL) -> Option:
    return Option(name=name, answer=answer, method=name, student="", settings={}, tokens=None, evidence=(name,))


OPTIONS = (option("sft", Answer.TRAIN_PLAINLY), option("kd"), option("kd again", Answer.REUSE))


def draws(energies: list[float], qualities: list[float], *, energy_rel: float = 0.02, sd: float = 0.02) -> Drawn:
    rng = np.random.default_rng(1)
    energy = np.array(energies) * np.exp(energy_rel * rng.standard_normal((COUNT, len(energies))))
    means: Floats = np.array(qualities) + sd * rng.standard_normal((COUNT, len(qualities)))
    noisy = means + 0.005 * rng.standard_normal(means.shape)
    return Drawn(energy_j=energy, quality=noisy, mean_quality=means, trial_j=energy)


def test_the_best_that_the_budget_allows_is_advised() -> None:
    drawn = draws([10.0, 30.0, 12.0], [0.70, 0.80, 0.75])
    assert advise(OPTIONS, drawn, Limits(energy_j=40.0)).ranked[0].option.name == "kd"
    reuse = advise(OPTIONS, drawn, Limits(energy_j=20.0))
    assert reuse.answer is Answer.REUSE
    assert reuse.ranked[-1].chance == 0.0
    assert advise(OPTIONS, drawn, Limits(energy_j=11.0)).answer is Answer.TRAIN_PLAINLY
    assert "limits met with a chance of 100 %" in reuse.reason


def test_with_a_quality_the_cheapest_way_to_it_is_advised() -> None:
    drawn = draws([10.0, 30.0, 12.0], [0.70, 0.80, 0.80])
    found = advise(OPTIONS, drawn, Limits(energy_j=40.0, quality=0.72))
    assert found.ranked[0].option.name == "kd again"
    assert "share of the budget that is saved" in found.objective
    free = advise(OPTIONS, drawn, Limits(quality=0.72))
    assert free.ranked[0].option.name == "kd again"


def test_every_limit_counts() -> None:
    drawn = draws([10.0, 30.0, 12.0], [0.70, 0.80, 0.75])
    longer = np.array([[5.0, 50.0, 50.0]]) * np.ones((COUNT, 1))
    limited = replace(drawn, duration_s=longer, kgco2e=longer, tokens=longer)
    for name in ("duration_s", "kgco2e", "tokens"):
        found = advise(OPTIONS, limited, Limits(energy_j=40.0, **{name: 10.0}))
        assert found.answer is Answer.TRAIN_PLAINLY
        assert found.ranked[0].duration_s is not None


def test_the_impossible_is_said_with_the_nearest() -> None:
    drawn = draws([10.0, 30.0, 12.0], [0.70, 0.80, 0.75])
    found = advise(OPTIONS, drawn, Limits(energy_j=1.0))
    assert found.answer is Answer.IMPOSSIBLE
    assert found.reason.endswith("nearest is sft, at 10 times the energy")
    assert found.experiment is None
    high = advise(OPTIONS, drawn, Limits(energy_j=100.0, quality=0.99))
    assert high.answer is Answer.IMPOSSIBLE
    assert "nearest is kd, at a quality of 0." in high.reason


def test_an_experiment_is_named_where_the_choice_is_in_doubt() -> None:
    doubtful = draws([10.0, 10.0, 10.0], [0.70, 0.70, 0.3], sd=0.1)
    found = advise(
        OPTIONS[:2], replace(doubtful, **{n: getattr(doubtful, n)[:, :2] for n in _ARRAYS}), Limits(energy_j=20.0)
    )
    assert found.experiment is not None
    assert 0.0 < found.experiment.worth < found.experiment.doubt


def test_of_two_experiments_that_tell_the_same_the_cheaper_is_named() -> None:
    doubtful = draws([10.0, 10.0, 10.0], [0.70, 0.70, 0.3], sd=0.1)
    small = doubtful.quality.copy()
    small[:, 2] = doubtful.mean_quality[:, 1] - 0.4  # a training in small shows what the second option is worth
    means = doubtful.mean_quality.copy()
    means[:, 2] = small[:, 2]
    trial = doubtful.trial_j.copy()
    trial[:, 2] /= 10.0
    found = advise(OPTIONS, replace(doubtful, quality=small, mean_quality=means, trial_j=trial), Limits(energy_j=20.0))
    assert found.experiment is not None
    assert found.experiment.option.name == "kd again"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("edge", [-1.0, 0.0, 1.0])
def test_no_experiment_is_worth_more_than_knowing_everything(seed: int, edge: float) -> None:
    """A worth with a step in what is seen: any cubic of it overshoots, here above the other option."""
    seen = np.random.default_rng(seed).standard_normal(COUNT)
    means = np.stack([np.full(COUNT, 0.7), np.where(seen > edge, 0.7001, 0.5)], axis=1)
    quality = np.stack([means[:, 0], seen], axis=1)
    energy = np.full_like(means, 10.0)
    drawn = Drawn(energy_j=energy, quality=quality, mean_quality=means, trial_j=energy)
    found = advise(OPTIONS[:2], drawn, Limits(energy_j=20.0)).experiment
    assert found is None or 0.0 < found.worth <= found.doubt


@pytest.mark.parametrize("seed", range(8))
def test_what_shows_only_noise_is_no_experiment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = 0.7 + 0.1 * rng.standard_normal((400, 4))
    noise = rng.standard_normal(means.shape)
    drawn = Drawn(energy_j=np.full_like(means, 10.0), quality=noise, mean_quality=means, trial_j=np.ones_like(means))
    assert advise([option(name) for name in "abcd"], drawn, Limits(energy_j=20.0)).experiment is None


def test_an_experiment_that_shows_all_is_worth_what_knowing_it_is() -> None:
    """Of two options one is certain: the gain of trying the other is E max(q, 0) of a normal q."""
    rng = np.random.default_rng(5)
    means = np.stack([0.7 + 0.1 * rng.standard_normal(20_000), np.full(20_000, 0.7)], axis=1)
    energy = np.full_like(means, 10.0)
    drawn = Drawn(energy_j=energy, quality=means, mean_quality=means, trial_j=energy)
    found = advise(OPTIONS[:2], drawn, Limits(energy_j=20.0)).experiment
    assert found is not None
    assert found.worth == pytest.approx(0.1 / (2.0 * np.pi) ** 0.5, rel=0.03)
    assert found.doubt == pytest.approx(found.worth, rel=0.01)


def test_no_experiment_where_nothing_is_in_doubt_or_none_can_be_made() -> None:
    clear = draws([10.0, 10.0, 10.0], [0.2, 0.9, 0.3], sd=0.001)
    assert advise(OPTIONS, clear, Limits(energy_j=20.0)).experiment is None
    doubtful = draws([10.0, 10.0, 10.0], [0.70, 0.70, 0.7], sd=0.1)
    untried = replace(doubtful, trial_j=np.full_like(doubtful.trial_j, np.nan))
    assert advise(OPTIONS, untried, Limits(energy_j=20.0)).experiment is None


def test_without_an_option_there_is_no_advice() -> None:
    nothing = np.empty((COUNT, 0))
    with pytest.raises(ValueError, match="no option"):
        advise([], Drawn(energy_j=nothing, quality=nothing, mean_quality=nothing, trial_j=nothing), Limits())


def test_advice_in_known_worlds_is_near_the_best() -> None:
    """Eight worlds of three methods; the long form is `benchmarks/proof_advice.py`."""
    found = list(regrets(worlds=8, seed=20261126))
    assert sum(world.is_feasible for world in found) >= 6
    assert float(np.median([world.advised for world in found])) <= 0.03
    assert float(np.mean([world.advised for world in found])) <= float(np.mean([world.plain for world in found])) + 0.01


_ARRAYS = ("energy_j", "quality", "mean_quality", "trial_j")


def test_of_options_that_the_draws_cannot_tell_apart_the_cheaper_is_advised() -> None:
    rng = np.random.default_rng(1)
    quality = 0.7 + 0.1 * rng.standard_normal((2_000, len(OPTIONS)))
    quality += quality.mean() - quality.mean(axis=0)
    for cheap in range(len(OPTIONS)):
        energies = np.where(np.arange(len(OPTIONS)) == cheap, 5.0, 10.0) * np.ones_like(quality)
        # one of the others is a little better, by less than the draws can tell
        better = quality + np.where(np.arange(len(OPTIONS)) == cheap, 0.0, 0.001)
        drawn = Drawn(energy_j=energies, quality=better, mean_quality=better, trial_j=energies)
        assert advise(OPTIONS, drawn, Limits(energy_j=20.0)).ranked[0].option == OPTIONS[cheap]
        clear = replace(drawn, quality=quality + np.where(np.arange(len(OPTIONS)) == cheap, 0.0, 0.1))
        assert advise(OPTIONS, clear, Limits(energy_j=20.0)).ranked[0].option != OPTIONS[cheap]
