"""Which option to choose within limits, and which training would settle the doubt (method.md, eqs. 97 and 98)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatt.analysis.costs.model import figure
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.records.advice import Advice, Answer, Experiment, Limits, Option, Ranked

__all__ = ["Drawn", "advise"]

LEAST_CHANCE = 0.05
"""Below it an option is held to be impossible."""
_MOST_RANKED = 20
_WORTH_TRYING = 0.01
"""Share of the doubt that an experiment must be expected to remove to be named."""
_THOUSAND = 1_000.0
_SURE = 0.000_001
_TIED = 2.0
"""Standard errors of the draws within which two options, or an experiment and none, are worth the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What the options would take and give: draws by options, all from the same draws of what is not known."""

    energy_j: Floats
    quality: Floats
    """With the noise of one training."""
    mean_quality: Floats
    """Without it."""
    trial_j: Floats
    """Energy of one training alone, as an experiment; not a number where the option trains nothing."""
    duration_s: Floats | None = None
    kgco2e: Floats | None = None
    tokens: Floats | None = None
    """Through all students, by option."""

    @classmethod
    def nothing(cls, count: int) -> Drawn:
        """That many draws of no option."""
        none = np.empty((count, 0))
        return cls(energy_j=none, quality=none, mean_quality=none, trial_j=none)


def advise(options: Sequence[Option], drawn: Drawn, limits: Limits, *, seed: int = 0) -> Advice:
    """Rank options by expected worth within the limits (method.md, eq. 97).

        worth = E[Q; limits met],   or   E[1 - E / budget; limits met]   where a quality is asked for

    Of those whose quality the draws cannot tell from the best one's the cheapest comes first.

    Args:
        options: At least one.
        drawn: Their draws.
        limits: What must be met.
        seed: Of the halves of the draws by which an experiment is judged.

    Raises:
        ValueError: There is no option.

    >>> option = Option(name="sft", answer=Answer.TRAIN_PLAINLY, method="sft", student="", settings={}, tokens=None,
    ...                 evidence=())
    >>> sure = np.ones((200, 1))
    >>> drawn = Drawn(energy_j=10 * sure, quality=0.7 * sure, mean_quality=0.7 * sure, trial_j=10 * sure)
    >>> advise([option], drawn, Limits(energy_j=20.0)).answer.value
    'train plainly'
    >>> advise([option], drawn, Limits(energy_j=5.0)).reason
    'nothing meets the limits in 5 % of the draws or more; nearest is sft, at 2 times the energy'
    """
    if not options:
        raise ValueError("there is no option to choose from")
    met = _met(drawn, drawn.quality, limits)
    chances = met.mean(axis=0)
    worth = met * _gain(drawn, drawn.quality, limits)
    worths = worth.mean(axis=0)
    rows = [_ranked(option, place, drawn, chances, worths) for place, option in enumerate(options)]
    missed = "a draw that misses a limit is worth 0"
    objective = f"expected quality; {missed}; of what the draws cannot tell from the best the cheapest comes first"
    if limits.quality is not None:
        objective = f"expected share of the budget that is saved; {missed}"
    if float(chances.max()) < LEAST_CHANCE:
        far, what = _distances(drawn, limits)
        order = sorted(range(len(options)), key=lambda place: (-chances[place], far[place]))
        nearest = order[0]
        reason = (
            f"nothing meets the limits in {100 * LEAST_CHANCE:.0f} % of the draws or more; nearest is "
            f"{options[nearest].name}, at {what[nearest]}"
        )
        best = Answer.IMPOSSIBLE
        experiment = None
    else:
        order = sorted(range(len(options)), key=lambda place: (-worths[place], -chances[place]))
        if limits.quality is None:
            order = _cheapest_of_best(order, worth, [row.energy_j.value for row in rows])
        best = options[order[0]].answer
        reason = _reason(rows[order[0]])
        experiment = _experiment(options, drawn, limits, seed)
    return Advice(
        answer=best,
        reason=reason,
        objective=objective,
        ranked=tuple(rows[place] for place in order[:_MOST_RANKED]),
        experiment=experiment,
        left_out=(),
    )


def _cheapest_of_best(order: list[int], worth: Floats, energies_j: Sequence[float]) -> list[int]:
    """The same order, led by the cheapest of those that the draws cannot tell from the first.

    >>> _cheapest_of_best([0, 1, 2], np.array([[1.0, 0.9, 0.0], [1.0, 1.1, 0.0]]), [5.0, 3.0, 1.0])
    [1, 0, 2]
    """
    less = worth[:, order[:1]] - worth
    error = less.std(axis=0) / len(worth) ** 0.5
    alike = [place for place in order if less[:, place].mean() <= _TIED * error[place]]
    first = min(alike, key=lambda place: energies_j[place])
    return [first, *(place for place in order if place != first)]


def _met(drawn: Drawn, quality: Floats, limits: Limits) -> Floats:
    """Which draws of which options meet every limit."""
    met = np.ones(drawn.energy_j.shape, dtype=bool)
    for _, used, most in _uses(drawn, limits):
        met &= used <= most
    if limits.quality is not None:
        met &= quality >= limits.quality
    return met.astype(np.float64)


def _uses(drawn: Drawn, limits: Limits) -> list[tuple[str, Floats, float]]:
    """What is limited: its name, its draws, and how much there may be at most."""
    every = (
        ("the energy", drawn.energy_j, limits.energy_j),
        ("the kgCO2e", drawn.kgco2e, limits.kgco2e),
        ("the time", drawn.duration_s, limits.duration_s),
        ("the tokens", drawn.tokens, limits.tokens),
    )
    return [(name, used, most) for name, used, most in every if used is not None and most is not None]


def _gain(drawn: Drawn, quality: Floats, limits: Limits) -> Floats:
    """What a draw is worth where it meets every limit (eq. 97)."""
    if limits.quality is None:
        return quality
    uses = _uses(drawn, limits)
    if not uses:
        return 1.0 / (1.0 + drawn.energy_j / np.median(drawn.energy_j))
    _, used, most = uses[0]
    return 1.0 - used / max(most, _SURE)


def _distances(drawn: Drawn, limits: Limits) -> tuple[list[float], list[str]]:
    """How far each option is from the limits, in the median, and by which of them: 1 is on the limit."""
    columns, words = [], []
    for name, used, most in _uses(drawn, limits):
        times = np.median(used, axis=0) / max(most, _SURE)
        columns.append(times)
        words.append([f"{_plain(ratio)} times {name}" for ratio in times])
    if limits.quality is not None:
        quality = np.median(drawn.quality, axis=0)
        columns.append(1.0 + np.maximum(limits.quality - quality, 0.0) / max(abs(limits.quality), _SURE))
        words.append([f"a quality of {value:.3g}" for value in quality])
    far = np.array(columns)
    which = far.argmax(axis=0)
    return far.max(axis=0).tolist(), [words[row][place] for place, row in enumerate(which)]


def _plain(ratio: float) -> str:
    """A factor without an exponent, to three digits at most.

    >>> _plain(2.0), _plain(21_234_567.0)
    ('2', '21,000,000')
    """
    return f"{ratio:.3g}" if ratio < _THOUSAND else f"{float(f'{ratio:.2g}'):,.0f}"


def _ranked(option: Option, place: int, drawn: Drawn, chances: Floats, worths: Floats) -> Ranked:
    def one(draws: Floats | None) -> Floats | None:
        return None if draws is None else draws[:, place]

    duration, kgco2e = one(drawn.duration_s), one(drawn.kgco2e)
    return Ranked(
        option=option,
        energy_j=figure(drawn.energy_j[:, place]),
        duration_s=None if duration is None else figure(duration),
        kgco2e=None if kgco2e is None else figure(kgco2e),
        quality=figure(drawn.quality[:, place]),
        chance=float(chances[place]),
        worth=float(worths[place]),
    )


def _reason(best: Ranked) -> str:
    return (
        f"{best.option.name}: quality {best.quality.value:.3g} [{best.quality.low:.3g}, {best.quality.high:.3g}], "
        f"limits met with a chance of {100.0 * best.chance:.0f} %"
    )


def _experiment(options: Sequence[Option], drawn: Drawn, limits: Limits, seed: int) -> Experiment | None:
    """The training with the largest expected gain of the choice per joule (method.md, eq. 98).

        gain_x = E[w of c_x(y_x)] - max_c E[w_c],   c_x(y) = argmax_c of the fitted E[w_c | y]

    y_x is what training x would show: a quality with its noise, and an energy. E[w_c | y] is a cubic in y, and each
    half of the draws is chosen for by the cubic that was fitted to the other: so nothing is gained from noise, and
    no gain exceeds what knowing everything would gain. One that the draws cannot tell from none is none.
    """
    worth = _met(drawn, drawn.mean_quality, limits) * _gain(drawn, drawn.mean_quality, limits)
    now = int(worth.mean(axis=0).argmax())
    doubt = float((worth.max(axis=1) - worth[:, now]).mean())
    if doubt <= _SURE:
        return None
    halves = np.array_split(np.random.default_rng(seed).permutation(len(worth)), 2)
    gains = np.zeros(len(options))
    joules = np.median(drawn.trial_j, axis=0)
    for place in np.flatnonzero(np.isfinite(joules)):
        seen = _features(drawn.quality[:, place], drawn.energy_j[:, place])
        more = _chosen(seen, worth, halves) - worth[:, now]
        gain, error = float(more.mean()), float(more.std()) / len(more) ** 0.5
        gains[place] = gain if gain > max(_WORTH_TRYING * doubt, _TIED * error) else 0.0
    per_joule = np.nan_to_num(gains / np.maximum(joules, _SURE))
    best = int(per_joule.argmax())
    if not gains[best]:
        return None
    return Experiment(option=options[best], energy_j=float(joules[best]), worth=float(gains[best]), doubt=doubt)


def _features(quality: Floats, energy_j: Floats) -> Floats:
    """What is seen of an experiment, to the third power."""
    q, e = _standard(quality), _standard(np.log(np.maximum(energy_j, _SURE)))
    return np.stack([np.ones_like(q), q, q**2, q**3, e, e**2, q * e], axis=1)


def _standard(values: Floats) -> Floats:
    scaled: Floats = np.clip((values - values.mean()) / max(float(values.std()), _SURE), -4.0, 4.0)
    return scaled


def _chosen(seen: Floats, worth: Floats, halves: Sequence[NDArray[np.intp]]) -> Floats:
    """What is got, draw by draw, where the option is chosen by what is seen."""
    found = np.empty(len(worth))
    for own, other in (halves, halves[::-1]):
        expected = seen[own] @ np.linalg.lstsq(seen[other], worth[other], rcond=None)[0]
        found[own] = worth[own, expected.argmax(axis=1)]
    return found
