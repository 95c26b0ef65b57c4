"""Quality against tokens: a power law that saturates, one for each method, with its doubt (method.md, eqs. 95 and 96).

    Q(n) = q + exp(a) (1 - (n / n_0)^(-b)) + noise,   Q(infinity) = q + exp(a)

q is the quality at n_0, in the middle of what was seen, exp(a) what is missing there of what the method comes to in the
end, b how fast that goes. Students and settings of a method have effects on q and a that are drawn together; b is the
method's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatt.analysis.contrast import Z_95
from stillwatt.analysis.costs.posterior import Fit, Floats, Mixture, fit, mix
from stillwatt.records.advice import CurveError, Scored

__all__ = ["Asked", "LearningCurve", "why_undetermined"]

_EXPONENTS = (0.1, 0.17, 0.28, 0.46, 0.77, 1.3, 2.0)
_NOISE = (0.01, 0.03, 0.08, 0.2, 0.5)
"""Of the qualities' spread."""
_EXPONENT_PRIOR, _EXPONENT_SD, _NOISE_PRIOR, _NOISE_SD = 0.4, 0.7, 0.15, 1.0
_LEAST_SPREAD = 0.05
"""Of 1, or of the mean quality: how far qualities may lie apart where few were seen."""
_LEVEL_SD = {"all": 1.5, "student": 1.0, "settings": 0.5}
"""Of q, in spreads."""
_MISSING_SD = {"all": 1.5, "student": 0.5, "settings": 0.3}
"""Of a, in logarithms."""
_FEWEST_BUDGETS, _FEWEST_POINTS = 3, 4
_ITEMS = 0
"""Names the random stream of the items, as letters name those of the methods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A training whose quality is to be predicted."""

    student: str
    settings: str
    tokens: float


def why_undetermined(scores: Sequence[Scored]) -> str:
    """Why scores of one method draw no curve; empty where they do (method.md, eq. 95).

    >>> one = Scored(method="sft", student="", settings="", tokens=1e3, quality=0.5, se=None, place="run")
    >>> why_undetermined([one])
    'undetermined: 1 score at 1 token budget; a curve needs 4 at 3'
    """
    budgets = len({score.tokens for score in scores})
    if budgets >= _FEWEST_BUDGETS and len(scores) >= _FEWEST_POINTS:
        return ""
    points = "1 score" if len(scores) == 1 else f"{len(scores)} scores"
    at = "1 token budget" if budgets == 1 else f"{budgets} token budgets"
    return f"undetermined: {points} at {at}; a curve needs {_FEWEST_POINTS} at {_FEWEST_BUDGETS}"


class LearningCurve:
    """The curve of one method, fitted to its scores, for what is asked (method.md, eq. 95).

    Raises:
        ValueError: There is no score, or one is no finite number.

    >>> seen = [Scored(method="sft", student="", settings="", tokens=n, quality=0.9 - n**-0.5, se=None, place="run")
    ...         for n in (10.0, 20.0, 40.0, 80.0, 160.0)]
    >>> curve = LearningCurve(seen, [Asked(student="", settings="", tokens=320.0)])
    >>> low, value, high = np.quantile(curve.draws(seed=1)[0], (0.025, 0.5, 0.975))
    >>> bool(low < 0.9 - 320**-0.5 < high), bool(high - low < 0.1)
    (True, True)
    """

    def __init__(self, scores: Sequence[Scored], asked: Sequence[Asked], *, ceiling: float | None = None) -> None:
        if not scores or not all(math.isfinite(score.quality) and score.tokens > 0.0 for score in scores):
            raise ValueError("a learning curve needs scores that are finite numbers, after more than no tokens")
        self._ceiling, self._method = ceiling, scores[0].method
        self._seen = np.array([score.quality for score in scores])
        # the items are the same for all scores: their error moves all alike and is no noise between them
        errors = [score.se for score in scores if score.se is not None]
        self._item_sd = float(np.median(errors)) if errors else 0.0
        spread = float(np.ptp(self._seen))
        self._spread = max(spread, _LEAST_SPREAD * max(1.0, float(np.abs(self._seen).mean())))
        every = [*(Asked(student=s.student, settings=s.settings, tokens=s.tokens) for s in scores), *asked]
        logs = np.log([entry.tokens for entry in every])
        self._log_n = logs - logs[: len(scores)].mean()
        self._level, self._level_sd = _columns(every, _LEVEL_SD)
        self._missing, self._missing_sd = _columns(every, _MISSING_SD)
        self._num_seen = len(scores)
        self._mixture = self._fit_all()

    def _prior(self) -> tuple[Floats, Floats]:
        mean = np.zeros(len(self._level_sd) + len(self._missing_sd))
        mean[0] = float(self._seen.mean())
        mean[len(self._level_sd)] = math.log(self._spread)
        return mean, np.concatenate([self._level_sd * self._spread, self._missing_sd])

    def _fit_all(self) -> Mixture:
        spreads = [(exponent, noise) for exponent in _EXPONENTS for noise in _NOISE]
        everything = np.arange(self._num_seen)
        log_prior = [
            -0.5 * ((math.log(b / _EXPONENT_PRIOR) / _EXPONENT_SD) ** 2 + (math.log(s / _NOISE_PRIOR) / _NOISE_SD) ** 2)
            for b, s in spreads
        ]
        return mix([self._fit(everything, spread) for spread in spreads], spreads, np.array(log_prior))

    def _fit(self, kept: NDArray[np.intp], spread: tuple[float, ...]) -> Fit:
        exponent, noise = spread
        mean, sd = self._prior()

        def curve(theta: Floats) -> tuple[Floats, Floats]:
            return self._curve(kept, exponent, theta)

        return fit(curve, self._seen[kept], mean, sd, np.full(len(kept), noise * self._spread))

    def _curve(self, rows: NDArray[np.intp], exponent: float, theta: Floats) -> tuple[Floats, Floats]:
        levels = self._level.shape[1]
        gained = np.exp(self._missing[rows] @ theta[levels:]) * -np.expm1(-exponent * self._log_n[rows])
        value = self._level[rows] @ theta[:levels] + gained
        return value, np.hstack([self._level[rows], gained[:, None] * self._missing[rows]])

    def draws(self, *, seed: int, count: int = 2_000) -> tuple[Floats, Floats]:
        """Draws of what is asked, with the noise of one training; and of the means behind them: draws by asked.

        With one seed, what is not known of one method has nothing to do with what is not known of another; the error
        of the items is theirs together.
        """
        rng = np.random.default_rng([seed, *self._method.encode()])
        theta, spreads = self._mixture.draw(count, rng)
        levels, rows = self._level.shape[1], slice(self._num_seen, None)
        gained = np.exp(theta[:, levels:] @ self._missing[rows].T) * -np.expm1(-spreads[:, :1] * self._log_n[rows])
        means = theta[:, :levels] @ self._level[rows].T + gained
        items = self._item_sd * np.random.default_rng([seed, _ITEMS]).standard_normal((count, 1))
        noise = spreads[:, 1:] * self._spread * rng.standard_normal(means.shape)
        found = means + items + noise
        if self._ceiling is not None:
            means, found = np.minimum(means, self._ceiling), np.minimum(found, self._ceiling)
        return found, means

    def leave_one_out(self) -> CurveError | None:
        """How far off the curve is on each score when that one is left out; None with a single score (eq. 96)."""
        if self._num_seen < 2:
            return None
        off, sd = [], []
        exponent, noise = self._mixture.spreads[self._mixture.best]
        for row in range(self._num_seen):
            kept = np.array([other for other in range(self._num_seen) if other != row])
            found = self._fit(kept, (exponent, noise))
            value, slope = self._curve(np.array([row]), exponent, found.mean)
            off.append(abs(float(value[0]) - float(self._seen[row])))
            spent = float(slope[0] @ found.covariance @ slope[0])
            sd.append(math.sqrt(spent + (noise * self._spread) ** 2))
        inside = np.array(off) <= Z_95 * np.array(sd)
        return CurveError(points=len(off), median_error=float(np.median(off)), coverage=float(inside.mean()))


def _columns(every: Sequence[Asked], spreads: dict[str, float]) -> tuple[Floats, Floats]:
    """Which effects each training has, and their prior spreads: all, the student's, the settings'."""
    names = [list(_effects(entry)) for entry in every]
    place = {name: index for index, name in enumerate(dict.fromkeys(name for row in names for name in row))}
    design = np.zeros((len(every), len(place)))
    for row, own in enumerate(names):
        for name in own:
            design[row, place[name]] = 1.0
    return design, np.array([spreads[kind] for kind, *_ in place])


def _effects(entry: Asked) -> Iterator[tuple[str, ...]]:
    yield ("all",)
    yield ("student", entry.student)
    yield ("settings", entry.student, entry.settings)
