"""What a trial is compared by: its objectives, how well each is known, and which trials that tells apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.analysis.contrast import Z_95, Evidence, combine
from stillwatt.errors import StillwattError
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint, NoQuality, Study

ENERGY, LOSS, QUALITY = "energy", "loss", "quality"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How well an objective is known."""

    low: float | None
    """Lower end of its 95 % interval; None where nothing is known of its error."""
    high: float | None
    random: float | None
    """95 % half-width by which trials are told apart: without what their instruments get wrong alike (method.md, eqs.
    28 and 29). Of a single training's energy the repeatability is in it, of a score the items alone."""
    basis: str = ""
    """Of an energy."""
    measured: float | None = None
    """Of a single training's energy that half-width without the repeatability, which all trials together tell best."""

    def repeating(self, value: float, rel: float) -> Spread:
        """The same where single trainings repeat within that share of their energy; whatever else it is, as it is."""
        return self if self.measured is None else replace(self, random=math.hypot(self.measured, rel * value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective of one trial: the mean over its seeds."""

    value: float
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class _One:
    """One seed's value, with 95 % half-widths."""

    value: float
    random: float | None
    """Without repeatability."""
    systematic_low: float = 0.0
    systematic_high: float = 0.0
    basis: str = ""


def objectives_of(study: Study, names: Sequence[str]) -> dict[str, Objective]:
    """The objectives of a trial's study.

    Raises:
        StillwattError: One of them is not known.
    """
    points = [point for point in study.arms if point.is_final]
    return {name: _mean([objective_of(point, name) for point in points], name, study.repeat_rel) for name in names}


def not_apart(objectives: Mapping[int, tuple[float, Spread | None]], best: int) -> tuple[int, ...] | None:
    """Trials whose objective is not told from that of the best one; None where nothing is known of the best's error.

        |x_a - x_b| <= sqrt(h_a^2 + h_b^2)

    with h the random half-widths. A trial of whose error nothing is known is told from none.

    >>> known = {n: (x, Spread(low=None, high=None, random=0.2)) for n, x in enumerate((1.9, 2.1, 2.5))}
    >>> not_apart(known, 0)
    (1,)
    """
    value, spread = objectives[best]
    if spread is None or spread.random is None:
        return None
    found = []
    for number, (other, beside) in objectives.items():
        width = math.inf if beside is None or beside.random is None else math.hypot(spread.random, beside.random)
        if number != best and abs(other - value) <= width:
            found.append(number)
    return tuple(found)


def held_out_loss(task: str, value: float) -> float | None:
    """Mean cross-entropy on held-out text, in nats, of a score; None of any but a perplexity."""
    return math.log(value) if task == "perplexity" and value > 0.0 and math.isfinite(value) else None


def _mean(ones: Sequence[_One], name: str, repeat_rel: float) -> Objective:
    value = statistics.fmean(one.value for one in ones)
    random, apart = _random(ones, repeat_rel if name == ENERGY else 0.0)
    if random is None:
        return Objective(value=value, spread=Spread(low=None, high=None, random=None))
    low = value - math.hypot(random, statistics.fmean(one.systematic_low for one in ones))
    high = value + math.hypot(random, statistics.fmean(one.systematic_high for one in ones))
    measured = random if name == ENERGY and len(ones) == 1 else None
    spread = Spread(low=low, high=high, random=apart, basis=_worst(ones), measured=measured)
    return Objective(value=value, spread=spread)


def _random(ones: Sequence[_One], repeat_rel: float) -> tuple[float | None, float | None]:
    """Half-widths of the mean: of what was measured, and of how far an equal trial may lie from it."""
    known = [one.random for one in ones if one.random is not None]
    if len(ones) == 1:
        random = known[0] if known else None
        return random, None if random is None else math.hypot(random, repeat_rel * ones[0].value)
    measured = math.fsum(width * width for width in known) / len(ones) ** 2
    pairs = tuple((one.value, 1.0) for one in ones)
    random = combine([Evidence(pairs=pairs, known_nn=measured)]).extra.random
    return random, random


def _worst(ones: Sequence[_One]) -> str:
    known = [Basis(one.basis) for one in ones if one.basis]
    return worst_basis(known).value if known else ""


def objective_of(point: ArmPoint, name: str) -> _One:
    """One seed's value of an objective, with its error.

    Raises:
        StillwattError: It is not known.
    """
    if name == ENERGY:
        return _energy(point)
    if name == LOSS:
        for score in point.scores:
            if (loss := held_out_loss(score.task, score.value)) is not None:
                return _One(value=loss, random=None if score.se is None else Z_95 * score.se / score.value)
        raise StillwattError(f"{point.key} has no perplexity")
    if isinstance(point.quality, NoQuality):
        raise StillwattError(f"the quality of {point.key} is not known: {point.quality.reason}; take loss as objective")
    se = point.quality.own_se
    return _One(value=point.quality.value, random=None if se is None else Z_95 * se)


def _energy(point: ArmPoint) -> _One:
    """One student's energy with all of its teacher's work, without the preparation of the data.

    Random parts of pieces are independent, so of their squares what is left is left; a gain is of every joule alike.
    """
    energy, prepare = point.energy_under("one-off"), point.prepare_energy
    if isinstance(energy, NoTotal):
        raise StillwattError(f"the energy of {point.key} is not known: {energy.reason}")
    basis = "" if energy.basis is None else energy.basis.value
    if isinstance(prepare, NoTotal):  # what is not known of the preparation is in no total either
        less_j = less_random_j = less_low_j = less_high_j = 0.0
    else:
        less_j, less_random_j = prepare.value_j, prepare.random_j
        less_low_j, less_high_j = prepare.systematic_low_j, prepare.systematic_high_j
    return _One(
        value=energy.value_j - less_j,
        random=math.sqrt(max(energy.random_j**2 - less_random_j**2, 0.0)),
        systematic_low=max(energy.systematic_low_j - less_low_j, 0.0),
        systematic_high=max(energy.systematic_high_j - less_high_j, 0.0),
        basis=basis,
    )
