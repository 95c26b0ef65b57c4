"""Intervals of sums and ratios of noisy energies, from seeds where there are several (method.md, eqs. 29 and 30)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillwatt.analysis.breakeven import Estimate, RatioInterval, ratio_interval
from stillwatt.errors import MissingExtraError
from stillwatt.records.comparison import Ratio
from stillwatt.records.finding import Verdict

Z_95 = 1.959963984540054
"""Half-width of a 95 % interval in standard deviations, where the standard deviation is known."""
_TWO_SIDED = 0.975


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What independent trainings say of a numerator and a denominator: one pair a seed.

    `known_*` are squared half-widths that are known beforehand, of the mean: a meter's error, an assumed
    repeatability. A single pair has nothing else.
    """

    pairs: tuple[tuple[float, float], ...]
    known_nn: float = 0.0
    known_nd: float = 0.0
    known_dd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A numerator and a denominator with the squares of their joint 95 % half-widths."""

    numerator: float
    denominator: float
    h_nn: float
    h_nd: float
    h_dd: float

    @property
    def extra(self) -> Estimate:
        """The numerator by itself."""
        return Estimate(value=self.numerator, random=math.sqrt(self.h_nn))

    @property
    def saving(self) -> Estimate:
        """The denominator by itself."""
        return Estimate(value=self.denominator, random=math.sqrt(self.h_dd))


@functools.cache
def student_t(freedom: int) -> float:
    """Half-width of a 95 % interval in standard errors, where the standard error rests on `freedom` + 1 seeds.

    Raises:
        MissingExtraError: SciPy is not installed.

    >>> round(student_t(2), 3)
    4.303
    """
    try:
        from scipy.special import stdtrit
    except ImportError as err:
        raise MissingExtraError("scipy", "analysis") from err
    return float(stdtrit(freedom, _TWO_SIDED))


def combine(evidence: Iterable[Evidence]) -> Contrast:
    """Sum independent evidence; each brings its own quantile of Student's t (method.md, eq. 29).

        h^2 = sum_g t_{n_g - 1}^2 s_g^2 / n_g + known

    For one piece of evidence this is exact under normal errors; for several it holds at least 95 % whatever their
    variances are (Banerjee 1960), where Welch's approximation falls to 90 % with two seeds against five.
    """
    sums = [0.0] * 5
    for entry in evidence:
        for index, part in enumerate(_moments(entry)):
            sums[index] += part
    return Contrast(numerator=sums[0], denominator=sums[1], h_nn=sums[2], h_nd=sums[3], h_dd=sums[4])


def _moments(entry: Evidence) -> tuple[float, float, float, float, float]:
    count = len(entry.pairs)
    n_mean = math.fsum(n for n, _ in entry.pairs) / count
    d_mean = math.fsum(d for _, d in entry.pairs) / count
    if count == 1:
        return n_mean, d_mean, entry.known_nn, entry.known_nd, entry.known_dd
    scale = student_t(count - 1) ** 2 / (count * (count - 1))
    off = [(n - n_mean, d - d_mean) for n, d in entry.pairs]
    return (
        n_mean,
        d_mean,
        scale * math.fsum(n * n for n, _ in off) + entry.known_nn,
        scale * math.fsum(n * d for n, d in off) + entry.known_nd,
        scale * math.fsum(d * d for _, d in off) + entry.known_dd,
    )


def ratio_of(contrast: Contrast) -> RatioInterval | None:
    """Fieller's set of the ratio, cut at 0; None where no ratio of 0 or more fits (method.md, eq. 30)."""
    return ratio_interval(contrast.extra, contrast.saving, shared=contrast.h_nd)


def judge(contrast: Contrast, *, unit: str, against: str) -> Ratio:
    """A break-even with its verdict (method.md, eq. 30).

    Args:
        contrast: What has to be earned back, over what one unit saves.
        unit: What is counted, in the singular: `student`, `token`, `sweep`.
        against: What the saving is held against, for the sentence.

    >>> judge(combine([Evidence(pairs=((11.0, 1.0),))]), unit="student", against="sft").value
    11.0
    """
    extra, saving = contrast.extra, contrast.saving
    if saving.value + saving.random <= 0.0:
        reason = f"nothing is saved against {against}: each {unit} takes more energy, beyond its error"
        return Ratio(verdict=Verdict.NEVER, value=None, low=None, high=None, reason=reason)
    interval = ratio_of(contrast) or RatioInterval(low=0.0, high=0.0)
    value = max(extra.value, 0.0) / saving.value if saving.value > 0.0 else None
    if saving.value - saving.random <= 0.0:
        verdict, reason = Verdict.UNDETERMINED, f"the saving against {against} cannot be told from 0"
    elif interval.high is not None and interval.high <= 1.0:
        verdict, reason = Verdict.ALWAYS, f"the first {unit} already repays it against {against}"
    else:
        verdict, reason = Verdict.VALUE, f"each {unit} saves energy against {against}"
    return Ratio(verdict=verdict, value=value, low=interval.low, high=interval.high, reason=reason)


def unknown(reason: str) -> Ratio:
    """A break-even that cannot be given."""
    return Ratio(verdict=Verdict.UNDETERMINED, value=None, low=None, high=None, reason=reason)


def paired_or_not(seeds: Sequence[frozenset[str]]) -> bool:
    """Whether several trainings have the same seeds, at least two, so that they are compared seed by seed.

    >>> paired_or_not([frozenset({"1", "2"}), frozenset({"2", "1"})]), paired_or_not([frozenset({"1"})] * 2)
    (True, False)
    """
    return len(set(seeds)) == 1 and len(seeds[0]) > 1
