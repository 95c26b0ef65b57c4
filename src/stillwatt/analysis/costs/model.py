"""Unit costs of stages, learnt from those that ran and drawn together by kind, method and device (method.md, eq. 93).

    ln y = ln sum_c n_c exp(b_c + e_c) + e + r + noise

y joules or seconds of a stage, n_c its counts (eq. 90), b_c the prior of a unit cost (eq. 91), e sums of effects of
device, kind, method and engine, r what a run does to all of its stages. A stage is a sum of costs and each cost a
product of effects: a plain product of powers would have no cost that stays when the work shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatt.analysis.contrast import Z_95
from stillwatt.analysis.costs.machines import COMPONENTS, amounts, unit_costs
from stillwatt.analysis.costs.posterior import Fit, Floats, Mixture, fit, mix
from stillwatt.records.forecast import Figure, Job, LeftOut, Outcome
from stillwatt.records.kinds import StageKind

__all__ = ["CostModel", "figure"]

DRAWS = 2_000
_SHARED = 0.5
"""How much of a unit cost's doubt all devices share, in logarithms; the rest is each device's own."""
_LEVEL_SD = {"device": 0.4, "kind": 0.3, "method": 0.15, "both": 0.15, "engine": 0.5}
"""Effects on all costs of a stage at once."""
_OWN_SD = {"kind": 0.35, "method": 0.2}
"""Effects on one unit cost."""
_BEGINNING_SD = {"kind": 0.8, "method": 0.6}
"""Effects on what a stage costs whatever it does: the first to use a model also pays for its software."""
_IDLE_NOISE = 0.3
"""Noise of idle stretches over that of work."""
_NOISE = (0.02, 0.04, 0.08, 0.15, 0.28, 0.5)
_RUN = (0.02, 0.06, 0.15, 0.3, 0.5, 0.8)
_NOISE_PRIOR, _RUN_PRIOR, _PRIOR_SD = 0.15, 0.2, 1.5
"""Medians of the two spreads, and the doubt of their logarithms."""
_OWN_ENGINE = "torch"

Effect = tuple[str, ...]
Places = NDArray[np.intp]


def figure(draws: Floats) -> Figure:
    """Median and 95 % interval of draws (method.md, eq. 93).

    >>> figure(np.arange(1001.0))
    Figure(value=500.0, low=25.0, high=975.0)
    """
    low, value, high = (float(entry) for entry in np.quantile(draws, (0.025, 0.5, 0.975)))
    return Figure(value=value, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """Jobs as arrays: the logarithm of each cost before its effects, and which effects are on it."""

    log_costs: Floats
    """Jobs by components; minus infinity where there is nothing of one."""
    own: Floats
    """Jobs by components by effects: the effects on one unit cost."""
    level: Floats
    """Jobs by effects: those on all costs at once."""

    def __call__(self, theta: Floats) -> tuple[Floats, Floats]:
        """Logarithms of what the jobs take, and their derivatives by the effects."""
        parts = self.log_costs + self.own @ theta
        top = parts.max(axis=1)
        shares = np.exp(parts - top[:, None])
        total = shares.sum(axis=1)
        slope = self.level + np.einsum("jc,jce->je", shares / total[:, None], self.own)
        return top + np.log(total) + self.level @ theta, slope

    def rows(self, chosen: Places) -> _Design:
        """Some of the jobs."""
        return _Design(log_costs=self.log_costs[chosen], own=self.own[chosen], level=self.level[chosen])

    def predict(self, theta_BE: Floats) -> Floats:
        """The same for draws of the effects: draws by jobs."""
        found = np.empty((len(theta_BE), len(self.log_costs)))
        for job in range(len(self.log_costs)):
            parts = self.log_costs[job] + theta_BE @ self.own[job].T
            top = parts.max(axis=1)
            found[:, job] = top + np.log(np.exp(parts - top[:, None]).sum(axis=1)) + theta_BE @ self.level[job]
        return found


class CostModel:
    """Joules, or seconds, of stages (method.md, eq. 93).

    What to predict is given when it is fitted, so that a kind, method or device that nobody has measured has its
    effects, with their prior doubt and nothing else.

    >>> from stillwatt.records.forecast import Counts, Device
    >>> from stillwatt.records.kinds import StageKind
    >>> job = Job(name="train", kind=StageKind.STUDENT_TRAIN, counts=Counts(flops=1e15),
    ...           device=Device(name="NVIDIA H100", is_gpu=True), dtype="bfloat16")
    >>> figures = CostModel([], [job], in_joules=False).figures(seed=1)
    >>> 0.2 < figures[0].low < figures[0].value < figures[0].high < 40.0
    True
    """

    def __init__(self, outcomes: Sequence[Outcome], jobs: Sequence[Job], *, in_joules: bool) -> None:
        self._outcomes, self._jobs = tuple(outcomes), tuple(jobs)
        self._in_joules = in_joules
        every = [*(outcome.job for outcome in outcomes), *jobs]
        runs = [*(outcome.run_id for outcome in outcomes), *(("",) * len(jobs))]
        self._effects = _effects(every, runs, in_joules=in_joules)
        design = _design(every, runs, self._effects, in_joules=in_joules)
        self._seen = design.rows(np.arange(len(outcomes)))
        self._asked = design.rows(np.arange(len(outcomes), len(every)))
        values = [outcome.energy_j if in_joules else outcome.duration_s for outcome in outcomes]
        self._log_seen = np.log(np.array(values, dtype=np.float64))
        rel = [outcome.energy_rel if in_joules else 0.0 for outcome in outcomes]
        self._meter_sd = np.array(rel, dtype=np.float64) / Z_95
        self._calm = np.array([_IDLE_NOISE if job.kind is StageKind.IDLE_BASELINE else 1.0 for job in every])
        self._mixture = self._fit_all()

    def _fit_all(self) -> Mixture:
        spreads = [(noise, run) for noise in _NOISE for run in _RUN]
        everything = np.arange(len(self._outcomes))
        fits: list[Fit] = []
        for spread in spreads:
            # neighbours on the grid lie near each other
            fits.append(self._fit(everything, spread, start=fits[-1].mean if fits else None))
        log_prior = -0.5 * (
            (np.log([noise for noise, _ in spreads]) - np.log(_NOISE_PRIOR)) ** 2
            + (np.log([run for _, run in spreads]) - np.log(_RUN_PRIOR)) ** 2
        )
        return mix(fits, spreads, log_prior / _PRIOR_SD**2)

    def _fit(self, kept: Places, spread: tuple[float, ...], *, start: Floats | None = None) -> Fit:
        noise, run = spread
        sd = np.array([run if name[0] == "run" else doubt for name, doubt in self._effects.items()])
        noise_sd = np.hypot(self._meter_sd[kept], noise * self._calm[kept])
        return fit(self._seen.rows(kept), self._log_seen[kept], np.zeros(len(sd)), sd, noise_sd, start=start)

    def draws(self, *, seed: int, count: int = DRAWS) -> Floats:
        """Draws of what each job would take in one run of all of them: draws by jobs, in joules or seconds."""
        rng = np.random.default_rng(seed)
        theta, spreads = self._mixture.draw(count, rng)
        calm = self._calm[len(self._outcomes) :]
        together = spreads[:, 1:] * np.where(calm < 1.0, 0.0, 1.0) * rng.standard_normal((count, 1))
        noise = spreads[:, :1] * calm * rng.standard_normal((count, len(self._jobs)))
        found: Floats = np.exp(self._asked.predict(theta) + together + noise)
        return found

    def figures(self, *, seed: int) -> tuple[Figure, ...]:
        """Median and 95 % interval of each job."""
        return tuple(figure(column) for column in self.draws(seed=seed).T)

    def leave_one_out(self) -> LeftOut | None:
        """How far the model is off on runs it has not seen, each left out in turn (method.md, eq. 94).

        Stages are left out one by one where they are all of one run. None where there are fewer than two.
        """
        runs = [outcome.run_id for outcome in self._outcomes]
        is_by_run = len(set(runs)) > 1
        groups = np.array(runs if is_by_run else [str(place) for place in range(len(runs))])
        if len(groups) < 2:
            return None
        predicted, sd = np.empty(len(groups)), np.empty(len(groups))
        for group in dict.fromkeys(groups.tolist()):
            out = groups == group
            predicted[out], sd[out] = self._predict_without(np.flatnonzero(out), np.flatnonzero(~out))
        off = predicted - self._log_seen
        return LeftOut(
            groups=len(set(groups.tolist())),
            stages=len(groups),
            median_error=float(np.median(np.abs(np.expm1(off)))),
            median_total_error=_total_error(groups, predicted, self._log_seen) if is_by_run else None,
            coverage=float(np.mean(np.abs(off) <= Z_95 * sd)),
        )

    def _predict_without(self, out: Places, kept: Places) -> tuple[Floats, Floats]:
        """Logarithms of what the rows left out would take, and their standard deviations, at the best spreads."""
        spread = self._mixture.spreads[self._mixture.best]
        found = self._fit(kept, spread, start=self._mixture.fits[self._mixture.best].mean)
        value, slope = self._seen.rows(out)(found.mean)
        # a run that was left out has its effect at 0 with its prior's spread, which is in the covariance already
        spent = np.einsum("je,ef,jf->j", slope, found.covariance, slope)
        noise = np.hypot(spread[0] * self._calm[out], self._meter_sd[out])
        return value, np.hypot(np.sqrt(spent), noise)


def _total_error(groups: NDArray[np.str_], predicted: Floats, seen: Floats) -> float:
    errors = [
        abs(float(np.exp(predicted[groups == group]).sum() / np.exp(seen[groups == group]).sum()) - 1.0)
        for group in dict.fromkeys(groups.tolist())
    ]
    return float(np.median(errors))


def _levels(job: Job, run_id: str, *, in_joules: bool) -> Iterator[tuple[Effect, float]]:
    """Effects on all costs of a stage, each with its prior spread; waiting is as long as it is asked for."""
    kind, method = job.kind.value, f"{job.kind.value}/{job.method}"
    if job.kind is StageKind.IDLE_BASELINE:
        if in_joules:
            yield ("kind", kind), _LEVEL_SD["kind"]
        return
    yield ("device", job.device.name), _LEVEL_SD["device"]
    yield ("kind", kind), _LEVEL_SD["kind"]
    yield ("method", method), _LEVEL_SD["method"]
    yield ("both", method, job.device.name), _LEVEL_SD["both"]
    if job.engine != _OWN_ENGINE:
        yield ("engine", job.engine), _LEVEL_SD["engine"]
    if run_id:
        yield ("run", run_id), 1.0  # its spread is one of those that are mixed over


def _owns(job: Job, component: str, doubt: float) -> Iterator[tuple[Effect, float]]:
    """Effects on one unit cost."""
    kind, method = job.kind.value, f"{job.kind.value}/{job.method}"
    yield ("all", component), min(_SHARED, doubt)
    yield ("device", component, job.device.name, job.dtype), max(doubt**2 - _SHARED**2, doubt**2 / 2.0) ** 0.5
    spread = _BEGINNING_SD if component == COMPONENTS[0] else _OWN_SD
    yield ("kind", component, kind), min(spread["kind"], doubt)
    yield ("method", component, method), min(spread["method"], doubt)


def _effects(jobs: Sequence[Job], runs: Sequence[str], *, in_joules: bool) -> dict[Effect, float]:
    """Every effect that some job has, with its prior spread."""
    found: dict[Effect, float] = {}
    for job, run_id in zip(jobs, runs, strict=True):
        found.update(_levels(job, run_id, in_joules=in_joules))
        _, doubts = unit_costs(job.device, job.dtype, in_joules=in_joules)
        for component, amount, doubt in zip(COMPONENTS, amounts(job.counts), doubts, strict=True):
            if amount > 0.0:
                found.update(_owns(job, component, float(doubt)))
    return found


def _design(jobs: Sequence[Job], runs: Sequence[str], effects: dict[Effect, float], *, in_joules: bool) -> _Design:
    place = {name: index for index, name in enumerate(effects)}
    log_costs = np.full((len(jobs), len(COMPONENTS)), -np.inf)
    own = np.zeros((len(jobs), len(COMPONENTS), len(place)))
    level = np.zeros((len(jobs), len(place)))
    for row, (job, run_id) in enumerate(zip(jobs, runs, strict=True)):
        priors, doubts = unit_costs(job.device, job.dtype, in_joules=in_joules)
        for name, _ in _levels(job, run_id, in_joules=in_joules):
            level[row, place[name]] = 1.0
        for column, (component, amount) in enumerate(zip(COMPONENTS, amounts(job.counts), strict=True)):
            if amount > 0.0:
                log_costs[row, column] = np.log(amount) + priors[column]
                for name, _ in _owns(job, component, float(doubts[column])):
                    own[row, column, place[name]] = 1.0
    return _Design(log_costs=log_costs, own=own, level=level)
