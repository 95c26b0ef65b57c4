"""Worlds whose costs and qualities are known: what a planner predicts in them, and how good advice is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.advice import Drawn, advise
from stillwatt.analysis.costs.counts import loaded, read, trained, written
from stillwatt.analysis.costs.model import CostModel
from stillwatt.analysis.learning import Asked, LearningCurve
from stillwatt.records.advice import Answer, Limits, Option, Scored
from stillwatt.records.forecast import Counts, Device, Job, ModelSize, Outcome
from stillwatt.records.kinds import StageKind

KINDS = (StageKind.STUDENT_TRAIN, StageKind.TEACHER_LOGITS, StageKind.TEACHER_GENERATE, StageKind.EVALUATE)
_METHODS = ("sft", "kd", "synthetic_sft")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWorld:
    """What a study of costs looks like."""

    name: str
    runs: int = 4
    stages: int = 6
    noise: float = 0.1
    """Standard deviation of a stage's logarithm."""
    run_noise: float = 0.05
    device_off: float = 0.5
    """How far a device's unit costs lie from its prior, one sigma of the logarithm."""
    kind_off: float = 0.25
    is_new_device: bool = False
    """Whether what is predicted runs on a device that no run was on."""
    growth: float = 1.0
    """How much larger the work that is predicted is."""
    has_heavy_tails: bool = False


COST_WORLDS = (
    CostWorld(name="a handful of runs"),
    CostWorld(name="no run at all", runs=0),
    CostWorld(name="one run", runs=1),
    CostWorld(name="a loud machine", noise=0.3, run_noise=0.3),
    CostWorld(name="a quiet machine", noise=0.02, run_noise=0.01),
    CostWorld(name="a device far from its data sheet", device_off=1.0),
    CostWorld(name="another device", is_new_device=True),
    CostWorld(name="a hundred times the work", growth=100.0),
    CostWorld(name="heavy tails", has_heavy_tails=True),
)


class _Truth:
    """Unit costs of one drawn world: what the model calls effects, drawn from other distributions than its own."""

    def __init__(self, world: CostWorld, stream: np.random.Generator) -> None:
        self._world, self._stream = world, stream
        self._effects: dict[tuple[str, ...], float] = {}

    def _effect(self, name: tuple[str, ...], spread: float) -> float:
        if name not in self._effects:
            self._effects[name] = float(self._stream.normal(0.0, spread))
        return self._effects[name]

    def log_cost(self, job: Job) -> float:
        """The logarithm of what a job takes before its noise, in joules."""
        from stillwatt.analysis.costs.machines import COMPONENTS, amounts, unit_costs

        priors, _ = unit_costs(job.device, job.dtype, in_joules=True)
        parts = []
        for component, amount, prior in zip(COMPONENTS, amounts(job.counts), priors, strict=True):
            if amount > 0.0:
                off = self._effect(("device", component, job.device.name), self._world.device_off)
                off += self._effect(("kind", component, job.kind.value), self._world.kind_off)
                parts.append(np.log(amount) + prior + off)
        off = self._effect(("method", job.kind.value, job.method), 0.1)
        return float(np.logaddexp.reduce(parts)) + off

    def outcome(self, job: Job, run_id: str) -> Outcome:
        """What the job takes in a run."""
        noise = self._stream.standard_t(4) / 2.0**0.5 if self._world.has_heavy_tails else self._stream.normal()
        together = self._effect(("run", run_id), self._world.run_noise)
        log_energy = self.log_cost(job) + together + self._world.noise * noise
        energy_j = float(np.exp(log_energy))
        return Outcome(job=job, run_id=run_id, energy_j=energy_j, duration_s=energy_j / 100.0)


def draw_jobs(count: int, device: Device, stream: np.random.Generator, *, growth: float = 1.0) -> list[Job]:
    """Stages of varied kinds, models and budgets."""
    jobs = []
    for number in range(count):
        width = float(stream.choice([256, 512, 1024, 2048]))
        layers = float(stream.integers(4, 24))
        weights = 12.0 * layers * width**2
        size = ModelSize(
            parameters=weights, active=weights, layers=layers, width=width, vocabulary=32_000.0, source="drawn"
        )
        tokens = float(10 ** stream.uniform(4.0, 6.0)) * growth
        kind = KINDS[int(stream.integers(len(KINDS)))]
        method = str(stream.choice(_METHODS)) if kind is StageKind.STUDENT_TRAIN else ""
        jobs.append(
            Job(
                name=f"stage{number}",
                kind=kind,
                counts=_counts(kind, size, tokens),
                device=device,
                method=method,
                dtype="bfloat16",
                tokens=tokens,
            )
        )
    return jobs


def _counts(kind: StageKind, size: ModelSize, tokens: float) -> Counts:
    if kind is StageKind.STUDENT_TRAIN:
        return loaded(size) + trained(size, tokens=tokens, sequence=512, batch=8, accumulation=2)
    if kind is StageKind.TEACHER_GENERATE:
        return written(size, texts=np.ceil(tokens / 512), prompt=128, new=384, batch=32)
    return loaded(size) + read(size, tokens=tokens, sequence=512, batch=16)


def cost_coverage(world: CostWorld, *, studies: int, seed: int) -> dict[str, float]:
    """Share of the studies' predictions whose 95 % interval holds what then was drawn: of stages, and of whole runs."""
    stream = np.random.default_rng(seed)
    stages, totals, errors = [], [], []
    for number in range(studies):
        truth = _Truth(world, stream)
        known = Device(name="NVIDIA H100", is_gpu=True)
        other = Device(name="NVIDIA A100", is_gpu=True) if world.is_new_device else known
        outcomes = [
            truth.outcome(job, f"run{run}")
            for run in range(world.runs)
            for job in draw_jobs(world.stages, known, stream)
        ]
        jobs = draw_jobs(world.stages, other, stream, growth=world.growth)
        drawn = CostModel(outcomes, jobs, in_joules=True).draws(seed=number, count=1_000)
        measured = np.array([truth.outcome(job, "coming").energy_j for job in jobs])
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        stages += ((low <= measured) & (measured <= high)).tolist()
        total_low, total_high = np.quantile(drawn.sum(axis=1), (0.025, 0.975))
        totals.append(bool(total_low <= measured.sum() <= total_high))
        errors.append(abs(float(np.median(drawn.sum(axis=1)) / measured.sum()) - 1.0))
    return {
        "stages": float(np.mean(stages)),
        "totals": float(np.mean(totals)),
        "median_error": float(np.median(errors)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveWorld:
    """How quality grows with tokens in a study."""

    name: str
    budgets: tuple[float, ...] = (1e5, 2e5, 4e5, 8e5)
    seeds: int = 2
    noise: float = 0.01
    asked: float = 1.6e6
    settings: int = 1


CURVE_WORLDS = (
    CurveWorld(name="four budgets, two seeds"),
    CurveWorld(name="three budgets, one seed", budgets=(1e5, 3e5, 9e5), seeds=1),
    CurveWorld(name="one budget, the same asked", budgets=(4e5,), seeds=2, asked=4e5),
    CurveWorld(name="two budgets, four times the larger", budgets=(1e5, 4e5), seeds=2),
    CurveWorld(name="loud", noise=0.04),
    CurveWorld(name="three settings", settings=3, seeds=1),
    CurveWorld(name="between the budgets", asked=3e5),
)


def curve_coverage(world: CurveWorld, *, studies: int, seed: int) -> float:
    """Share of studies whose 95 % interval for one more training holds its quality."""
    stream = np.random.default_rng(seed)
    held = []
    for number in range(studies):
        limit, missing = stream.uniform(0.6, 1.0), stream.uniform(0.05, 0.4)
        exponent = float(np.exp(stream.normal(np.log(0.4), 0.4)))
        off = stream.normal(0.0, 0.03, world.settings)

        def mean(tokens: float, setting: int, truth: tuple[float, float, float, list[float]]) -> float:
            top, gap, power, offsets = truth
            return top + offsets[setting] - gap * float((tokens / 4e5) ** -power)

        truth = (float(limit), float(missing), exponent, off.tolist())
        scores = [
            Scored(
                method="kd",
                student="one",
                settings=str(setting),
                tokens=tokens,
                quality=mean(tokens, setting, truth) + float(stream.normal(0.0, world.noise)),
                se=None,
                place="drawn",
            )
            for setting in range(world.settings)
            for tokens in world.budgets
            for _ in range(world.seeds)
        ]
        curve = LearningCurve(scores, [Asked(student="one", settings="0", tokens=world.asked)])
        low, high = np.quantile(curve.draws(seed=number)[0][:, 0], (0.025, 0.975))
        coming = mean(world.asked, 0, truth) + float(stream.normal(0.0, world.noise))
        held.append(bool(low <= coming <= high))
    return float(np.mean(held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """How far what was advised lies below the best there was, in units of quality."""

    advised: float
    plain: float
    """Of always training plainly at the largest budget that the point prediction allows."""
    is_feasible: bool
    best: float


def regrets(*, worlds: int, seed: int) -> Iterator[Regret]:
    """Advice in worlds of three methods with their own curves and costs, from two to six trainings of each."""
    stream = np.random.default_rng(seed)
    for number in range(worlds):
        yield _regret(stream, number)


_BUDGETS = (2e5, 4e5, 8e5, 1.6e6, 3.2e6)


def _regret(stream: np.random.Generator, number: int) -> Regret:
    truth = _Truth(CostWorld(name="advice", noise=0.05, run_noise=0.03), stream)
    device = Device(name="NVIDIA H100", is_gpu=True)
    size = ModelSize(parameters=1e9, active=1e9, layers=16, width=2048, vocabulary=1e5, source="drawn")
    teacher = ModelSize(parameters=8e9, active=8e9, layers=32, width=4096, vocabulary=1e5, source="drawn")
    limits = {method: float(stream.uniform(0.7, 1.0)) for method in _METHODS}
    gaps = {method: float(stream.uniform(0.1, 0.4)) for method in _METHODS}
    powers = {method: float(stream.uniform(0.2, 0.8)) for method in _METHODS}

    def quality(method: str, tokens: float) -> float:
        return limits[method] - gaps[method] * float((tokens / 4e5) ** -powers[method])

    plans = [
        (method, tokens, _stages(method, tokens, size, teacher, device)) for method in _METHODS for tokens in _BUDGETS
    ]
    outcomes: list[Outcome] = []
    scores: list[Scored] = []
    for method in _METHODS:
        for tokens in stream.choice(_BUDGETS[:3], size=int(stream.integers(2, 7))):
            run_id = f"{method}{len(scores)}"
            outcomes += [truth.outcome(job, run_id) for job in _stages(method, float(tokens), size, teacher, device)]
            noisy = quality(method, float(tokens)) + float(stream.normal(0.0, 0.01))
            scores.append(
                Scored(
                    method=method, student="", settings="", tokens=float(tokens), quality=noisy, se=None, place=run_id
                )
            )
    true_j = np.array([sum(np.exp(truth.log_cost(job)) for job in jobs) for _, _, jobs in plans])
    true_q = np.array([quality(method, tokens) for method, tokens, _ in plans])
    budget = float(np.exp(stream.uniform(np.log(true_j.min() * 1.2), np.log(true_j.max()))))
    drawn = _drawn(plans, outcomes, scores, number)
    options = [_option(method, tokens) for method, tokens, _ in plans]
    found = advise(options, drawn, Limits(energy_j=budget), seed=number)
    best = float(true_q[true_j <= budget].max())
    chosen = options.index(found.ranked[0].option)
    plain = [place for place in range(len(_BUDGETS)) if float(np.median(drawn.energy_j[:, place])) <= budget]
    return Regret(
        advised=best - (true_q[chosen] if true_j[chosen] <= budget else 0.0),
        plain=best - (true_q[plain[-1]] if plain and true_j[plain[-1]] <= budget else 0.0),
        is_feasible=bool(true_j[chosen] <= budget),
        best=best,
    )


def _stages(method: str, tokens: float, size: ModelSize, teacher: ModelSize, device: Device) -> list[Job]:
    train = Job(
        name="train",
        kind=StageKind.STUDENT_TRAIN,
        counts=trained(size, tokens=tokens, sequence=512, batch=8, accumulation=2),
        device=device,
        method=method,
        dtype="bfloat16",
    )
    if method == "sft":
        return [train]
    kind = StageKind.TEACHER_LOGITS if method == "kd" else StageKind.TEACHER_GENERATE
    counts = _counts(kind, teacher, tokens)
    return [Job(name="teacher", kind=kind, counts=counts, device=device, dtype="bfloat16"), train]


def _drawn(
    plans: Sequence[tuple[str, float, list[Job]]], outcomes: list[Outcome], scores: list[Scored], seed: int
) -> Drawn:
    jobs = [job for _, _, stages in plans for job in stages]
    energies = CostModel(outcomes, jobs, in_joules=True).draws(seed=seed)
    ends = np.cumsum([len(stages) for _, _, stages in plans])
    energy = np.stack([part.sum(axis=1) for part in np.split(energies, ends[:-1], axis=1)], axis=1)
    quality, means = np.empty_like(energy), np.empty_like(energy)
    for method in _METHODS:
        own = [place for place, plan in enumerate(plans) if plan[0] == method]
        asked = [Asked(student="", settings="", tokens=plans[place][1]) for place in own]
        curve = LearningCurve([score for score in scores if score.method == method], asked)
        quality[:, own], means[:, own] = curve.draws(seed=seed)
    return Drawn(energy_j=energy, quality=quality, mean_quality=means, trial_j=energy)


def _option(method: str, tokens: float) -> Option:
    answer = Answer.TRAIN_PLAINLY if method == "sft" else Answer.DISTIL
    return Option(
        name=f"{method} {tokens:g}",
        answer=answer,
        method=method,
        student="",
        settings={},
        tokens=tokens,
        evidence=("drawn",),
    )
