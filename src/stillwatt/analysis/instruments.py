"""What instruments may be off by, and what of it a ratio of energies that they read keeps (method.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.records.channel import is_summed
from stillwatt.records.energy import Energy, Total
from stillwatt.records.run import RunRecord, StageRecord

Key = tuple[str, str, str, str]
"""Host, part, device, driver: one instrument. What it may be off by moves all that it read alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one instrument read, and how far it may be off: the truth lies between `least` and `most` times that."""

    value_j: float
    least: float
    most: float


Instruments = Mapping[Key, Reading]


def read_instruments(run: RunRecord, stages: Iterable[StageRecord]) -> Instruments:
    """Each instrument's part of what the stages took, at the boundary at which each is summed."""
    host = str(run.environment.get("host") or run.run_id)
    sums: dict[Key, list[Energy]] = {}
    for stage in stages:
        for energy in stage.energies:
            inside = isinstance(stage.gross, Total) and is_summed(energy.boundary, stage.gross.boundary)
            if isinstance(energy, Energy) and inside:
                sums.setdefault((host, energy.part, energy.device, energy.driver), []).append(energy)
    return {key: _reading(energies) for key, energies in sums.items()}


def _reading(energies: Sequence[Energy]) -> Reading:
    value_j = math.fsum(one.value_j for one in energies)
    if value_j <= 0.0:
        return Reading(value_j=0.0, least=1.0, most=1.0)
    low_j = math.fsum(one.systematic_low_j for one in energies)
    high_j = math.fsum(one.systematic_high_j for one in energies)
    return Reading(value_j=value_j, least=max(1.0 - low_j / value_j, 0.0), most=1.0 + high_j / value_j)


def mean_reading(several: Sequence[Instruments]) -> Instruments:
    """The mean of several runs, instrument by instrument; one that a run was not read by read nothing of it."""
    keys = dict.fromkeys(key for one in several for key in one)
    return {key: _mean([one[key] for one in several if key in one], len(several)) for key in keys}


def _mean(readings: Sequence[Reading], count: int) -> Reading:
    return Reading(
        value_j=math.fsum(one.value_j for one in readings) / count,
        least=min(one.least for one in readings),
        most=max(one.most for one in readings),
    )


def gain_range(numerator: Instruments, denominator: Instruments) -> tuple[float, float]:
    """All that a ratio may be as far as its instruments are off, each within its own interval (method.md, section 4).

        extremes of sum_p g_p n_p / sum_p g_p d_p  over  least_p <= g_p <= most_p                             [1]

    They lie where the instruments that read the larger ratios are off to one end and all others to the other. What one
    instrument read in both moves both alike: with a single one nothing is left.

    Returns:
        The least and the most; infinity where the denominator may be 0.
    """
    rows = sorted(_rows(numerator, denominator), key=lambda row: row[0] / row[1] if row[1] > 0.0 else math.inf)
    cuts = range(len(rows) + 1)
    highest = max((_cut(rows, cut, low_first=True) for cut in cuts), default=math.inf)
    lowest = min((_cut(rows, cut, low_first=False) for cut in cuts), default=0.0)
    return lowest, highest


def _rows(numerator: Instruments, denominator: Instruments) -> Iterator[tuple[float, float, float, float]]:
    nothing = Reading(value_j=0.0, least=math.inf, most=0.0)
    for key in dict.fromkeys([*numerator, *denominator]):
        over, under = numerator.get(key, nothing), denominator.get(key, nothing)
        yield over.value_j, under.value_j, min(over.least, under.least), max(over.most, under.most)


def _cut(rows: Sequence[tuple[float, float, float, float]], cut: int, *, low_first: bool) -> float:
    """The ratio where the first `cut` instruments are off to one end, and the rest to the other."""
    gains = [least if (index < cut) == low_first else most for index, (_, _, least, most) in enumerate(rows)]
    over = math.fsum(gain * row[0] for gain, row in zip(gains, rows, strict=True))
    under = math.fsum(gain * row[1] for gain, row in zip(gains, rows, strict=True))
    return over / under if under > 0.0 else math.inf
