"""What data leave of a doubt: a normal approximation at the most probable point, mixed over unknown spreads.

    log p(theta | y) = const - 1/2 sum ((y - f(theta)) / s)^2 - 1/2 sum ((theta - m) / d)^2          (method.md, eq. 92)

Nothing here knows of energy: the cost models and the learning curves are both fitted so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fit", "Floats", "Mixture", "fit", "mix"]

Floats = NDArray[np.float64]
Curve = Callable[[Floats], tuple[Floats, Floats]]
"""From parameters to predictions and their derivatives, rows by parameters."""
_MOST_STEPS = 60
_ENOUGH = 1e-7
_SMALLEST_STEP = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The most probable parameters, and a normal distribution around them."""

    mean: Floats
    covariance: Floats
    log_evidence: float
    """Of the data, all parameters integrated out; up to a constant that depends on the data alone."""

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Draws by parameters."""
        root = np.linalg.cholesky(self.covariance)
        noise: Floats = rng.standard_normal((count, len(self.mean)))
        return self.mean + noise @ root.T


def fit(
    curve: Curve,
    seen: Floats,
    prior_mean: Floats,
    prior_sd: Floats,
    noise_sd: Floats,
    *,
    start: Floats | None = None,
) -> Fit:
    """Find the most probable parameters, by Gauss and Newton's steps, halved where they lead uphill (eq. 92).

    For a straight `curve` this is the exact conjugate posterior. The search begins at `start`, else at the prior.

    >>> line = lambda theta: (theta[:1], np.ones((1, 1)))
    >>> found = fit(line, np.array([2.0]), np.array([0.0]), np.array([1.0]), np.array([1.0]))
    >>> found.mean.tolist(), found.covariance.tolist()
    ([1.0], [[0.5]])
    """
    theta = (prior_mean if start is None else start).copy()
    value, slope = curve(theta)
    loss = _loss(theta, value, seen, prior_mean, prior_sd, noise_sd)
    for _ in range(_MOST_STEPS):
        weighed = slope / noise_sd[:, None] ** 2
        precision = slope.T @ weighed + np.diag(prior_sd**-2.0)
        downhill = weighed.T @ (seen - value) - (theta - prior_mean) / prior_sd**2
        step = np.linalg.solve(precision, downhill)
        share = 1.0
        while share > _SMALLEST_STEP:
            new_value, new_slope = curve(theta + share * step)
            new_loss = _loss(theta + share * step, new_value, seen, prior_mean, prior_sd, noise_sd)
            if new_loss <= loss:
                break
            share /= 2.0
        gained = loss - new_loss
        if gained < 0.0:
            break
        theta, value, slope, loss = theta + share * step, new_value, new_slope, new_loss
        if gained < _ENOUGH:
            break
    weighed = slope / noise_sd[:, None] ** 2
    precision = slope.T @ weighed + np.diag(prior_sd**-2.0)
    covariance = np.linalg.inv(precision)
    log_det = float(np.linalg.slogdet(precision)[1])
    evidence = -loss - float(np.log(noise_sd).sum()) - float(np.log(prior_sd).sum()) - 0.5 * log_det
    return Fit(mean=theta, covariance=(covariance + covariance.T) / 2.0, log_evidence=evidence)


def _loss(theta: Floats, value: Floats, seen: Floats, mean: Floats, sd: Floats, noise_sd: Floats) -> float:
    return 0.5 * float((((seen - value) / noise_sd) ** 2).sum() + (((theta - mean) / sd) ** 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Fits under several spreads of the noise, weighed by how well each explains the data."""

    fits: tuple[Fit, ...]
    spreads: tuple[tuple[float, ...], ...]
    """What each fit took for granted."""
    weights: Floats

    @property
    def best(self) -> int:
        """The most probable of them."""
        return int(self.weights.argmax())

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draws by parameters, and draws by spreads that they go with."""
        picked = rng.choice(len(self.fits), size=count, p=self.weights)
        theta = np.empty((count, len(self.fits[0].mean)))
        for index in np.unique(picked):
            rows = picked == index
            theta[rows] = self.fits[index].draw(int(rows.sum()), rng)
        return theta, np.array(self.spreads)[picked]


def mix(fits: Sequence[Fit], spreads: Sequence[tuple[float, ...]], log_prior: Floats) -> Mixture:
    """Weigh fits by evidence times prior (method.md, eq. 92).

    >>> one = Fit(mean=np.zeros(1), covariance=np.eye(1), log_evidence=0.0)
    >>> mix([one, one], [(0.1,), (0.2,)], np.log([3.0, 1.0])).weights.tolist()
    [0.75, 0.25]
    """
    score = np.array([entry.log_evidence for entry in fits]) + log_prior
    weights = np.exp(score - score.max())
    return Mixture(fits=tuple(fits), spreads=tuple(spreads), weights=weights / weights.sum())
