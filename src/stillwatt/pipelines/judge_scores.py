"""From a judge's readings to a score with its standard error (method.md, eqs. 132 and 133); pure functions.

A reading is what a judge's probabilities at the place of the verdict come to, or the verdict that a server wrote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.errors import StillwattError

__all__ = [
    "NO_VERDICT",
    "REFUSED",
    "Duel",
    "Mean",
    "NoReading",
    "Reading",
    "duels_of",
    "flip_share",
    "grade",
    "mean_grade",
    "planted_accuracy",
    "verdict_mass",
    "win_rate",
]

_UNDECIDED = 4
"""Questions that the smallest standard error is reckoned with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a judge gives the verdicts on one prompt."""

    shares: tuple[float, ...]
    """Of each verdict among the verdicts; they sum to 1."""
    mass: float | None
    """Probability of all verdicts together, among all tokens; None where a verdict was written and nobody knows it."""
    tokens: int
    """That the judge read, where it read them in this process."""
    is_cut_off: bool = False
    """Whether some verdict was not among the tokens whose probabilities were told, and counts as 0."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.mass or 0.0) or not math.isclose(math.fsum(self.shares), 1.0, abs_tol=1e-5):
            raise StillwattError(f"the judge gives no probabilities: shares {self.shares}, mass {self.mass}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReading:
    """A prompt on which a judge gave no verdict. It is in no mean, and counted beside it."""

    why: str
    """`NO_VERDICT` or `REFUSED`."""
    said: str
    """What was said in the place of one."""


NO_VERDICT, REFUSED = "no verdict", "refused"
"""Why there is no reading: something else was answered, or nothing on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """One question, both answers shown in both orders."""

    own_first: float
    """Probability of the model's own answer where it stands first."""
    own_second: float
    """The same where it stands second."""

    @property
    def win(self) -> float:
        """Probability that the model's own answer is the better one.

        >>> Duel(own_first=0.9, own_second=0.1).win
        0.5
        """
        return (self.own_first + self.own_second) / 2

    @property
    def is_flipped(self) -> bool:
        """Whether the winner changes with the order; a tie has no winner."""
        return (self.own_first - 0.5) * (self.own_second - 0.5) < 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over questions."""

    value: float
    se: float
    n: int


def win_rate(duels: Sequence[Duel]) -> Mean:
    """Mean probability of winning, and its standard error (method.md, eq. 132).

        W = 1/n sum_q p_q,   SE(W) = max( sqrt( sum_q (p_q - W)^2 / (n (n - 1)) ), |4 W - 2| / (n + 4) )      [1]

    Raises:
        StillwattError: Fewer than two questions; there is no standard error then.

    >>> win_rate([Duel(own_first=1.0, own_second=1.0)] * 6)
    Mean(value=1.0, se=0.2, n=6)
    """
    return _mean([duel.win for duel in duels])


def planted_accuracy(wins: Sequence[float]) -> Mean:
    """Share of planted pairs whose better side the judge prefers, and its standard error (method.md, eq. 132).

    Args:
        wins: Probability of the better side, one a question; at 1/2, half a pair is right.

    >>> planted_accuracy([0.9, 0.6, 0.5, 0.4]).value
    0.625
    """
    return _mean([0.5 if win == 0.5 else float(win > 0.5) for win in wins])


def grade(reading: Reading) -> float:
    """The expected grade, from 1 to as many as there are verdicts (method.md, eq. 133).

    >>> grade(Reading(shares=(0.5, 0.0, 0.5), mass=1.0, tokens=9))
    2.0
    """
    return math.fsum(number * share for number, share in enumerate(reading.shares, start=1))


def mean_grade(grades: Sequence[float], *, best: int) -> Mean:
    """Mean grade, and its standard error (method.md, eq. 133).

    Args:
        grades: One a question, each from 1 to `best`.
        best: The best grade.

    >>> mean_grade([2.0, 4.0], best=5)
    Mean(value=3.0, se=1.0, n=2)
    """
    found = _mean([(each - 1.0) / (best - 1) for each in grades])
    return Mean(value=1.0 + (best - 1) * found.value, se=(best - 1) * found.se, n=found.n)


def duels_of(readings: Sequence[Reading | NoReading]) -> list[Duel]:
    """Both orders of each question together: first the own answer is A, then it is B.

    A question of which one order has no verdict is in none.
    """
    return [
        Duel(own_first=first.shares[0], own_second=second.shares[1])
        for first, second in zip(readings[::2], readings[1::2], strict=True)
        if isinstance(first, Reading) and isinstance(second, Reading)
    ]


def flip_share(duels: Sequence[Duel]) -> float:
    """Share of questions whose winner changes with the order of the answers (method.md, eq. 132).

    >>> flip_share([Duel(own_first=0.9, own_second=0.2), Duel(own_first=0.9, own_second=0.6)])
    0.5
    """
    return sum(duel.is_flipped for duel in duels) / len(duels)


def verdict_mass(readings: Sequence[Reading]) -> float | None:
    """Mean probability that the judge gives to any verdict at all; None where it is not known of any."""
    known = [reading.mass for reading in readings if reading.mass is not None]
    return math.fsum(known) / len(known) if known else None


def _mean(values: Sequence[float]) -> Mean:
    """Of values between 0 and 1, one a question."""
    count = len(values)
    if count < 2:
        raise StillwattError("a judged score needs at least two questions; raise evaluate.judge.prompts")
    mean = math.fsum(values) / count
    sampled = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count * (count - 1)))
    # unanimous verdicts vary by nothing and are no certainty
    least = abs(_UNDECIDED * mean - _UNDECIDED / 2) / (count + _UNDECIDED)
    return Mean(value=mean, se=max(sampled, least), n=count)
