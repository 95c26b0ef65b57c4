"""What instruments may be off by, and what of it a ratio of energies that they read keeps (method.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from stillwatt.records.channel import Basis, is_summed
from stillwatt.records.energy import Energy, Total
from stillwatt.records.run import RunRecord, StageRecord

Key = tuple[str, str, str, str]
"""Host, part, device, driver: one instrument. What it may be off by moves all that it read alike."""
_CLOCK_S = 0.002
"""Wall clocks are told in milliseconds: a stage that begins where another ends may seem to begin that much earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one instrument read, and how far it may be off: the truth lies between `least` and `most` times that."""

    value_j: float
    least: float
    most: float
    seconds: float = 0.0
    """Of work that it was read in."""
    is_model: bool = False
    """Whether nothing was measured, so that it may be off otherwise at another power."""
    unread_j: float = 0.0
    """What may have been drawn while it was silent, and is not in `value_j`; infinity where nobody knows."""


Instruments = Mapping[Key, Reading]


def read_instruments(run: RunRecord, stages: Iterable[StageRecord]) -> Instruments:
    """Each instrument's part of what the stages took, at the boundary at which each is summed."""
    hosts, peaks_w = _hosts(run), _peaks_w(run)
    found: dict[Key, list[tuple[StageRecord, Energy]]] = {}
    for stage in stages:
        host = hosts.get(stage.stage_id) or str(run.environment.get("host") or run.run_id)
        for energy in stage.energies:
            inside = isinstance(stage.gross, Total) and is_summed(energy.boundary, stage.gross.boundary)
            if isinstance(energy, Energy) and inside:
                found.setdefault((host, energy.part, energy.device, energy.driver), []).append((stage, energy))
    return {
        key: _reading([energy for _, energy in some], work_s(stage for stage, _ in some), peaks_w.get(key[1], math.inf))
        for key, some in found.items()
    }


def work_s(stages: Iterable[StageRecord]) -> float:
    """How long any of them was under way: ranks and threads work side by side, each in a stage of its own.

    >>> work_s([])
    0.0
    """
    total_s, end_s = 0.0, -math.inf
    for start_s, length_s in sorted(
        (datetime.fromisoformat(stage.start_utc).timestamp(), stage.duration_s) for stage in stages
    ):
        beside_s = end_s - start_s
        total_s += max(length_s - (beside_s if beside_s > _CLOCK_S else 0.0), 0.0)
        end_s = max(end_s, start_s + length_s)
    return total_s


def _hosts(run: RunRecord) -> dict[str, str]:
    """The machine of each stage, by which its session's name begins; none of a run that came from a log."""
    if not run.environment.get("host"):
        return {}
    return {span.stage_id: span.session.rsplit("-", 2)[0] for span in run.spans}


def _peaks_w(run: RunRecord) -> dict[str, float]:
    """The most that each part was seen to draw."""
    peaks_w: dict[str, float] = {}
    for trace in run.traces:
        peaks_w[trace.part] = max([peaks_w.get(trace.part, 0.0), *(point.high_w for point in trace.points)])
    return peaks_w


def _reading(energies: Sequence[Energy], seconds: float, peak_w: float) -> Reading:
    value_j = math.fsum(one.value_j for one in energies)
    missing_s = math.fsum(one.missing_s for one in energies)
    low_j = math.fsum(one.systematic_low_j for one in energies)
    high_j = math.fsum(one.systematic_high_j for one in energies)
    return Reading(
        value_j=max(value_j, 0.0),
        least=max(1.0 - low_j / value_j, 0.0) if value_j > 0.0 else 1.0,
        most=1.0 + high_j / value_j if value_j > 0.0 else 1.0,
        seconds=seconds,
        is_model=any(one.basis is not Basis.MEASURED for one in energies),
        unread_j=missing_s * peak_w if missing_s > 0.0 else 0.0,
    )


def mean_reading(several: Sequence[Instruments]) -> Instruments:
    """The mean of several runs, instrument by instrument; one that a run was not read by read nothing of it."""
    keys = dict.fromkeys(key for one in several for key in one)
    return {key: _mean([one[key] for one in several if key in one], len(several)) for key in keys}


def _mean(readings: Sequence[Reading], count: int) -> Reading:
    return Reading(
        value_j=math.fsum(one.value_j for one in readings) / count,
        least=min(one.least for one in readings),
        most=max(one.most for one in readings),
        seconds=math.fsum(one.seconds for one in readings) / count,
        is_model=any(one.is_model for one in readings),
        unread_j=math.fsum(one.unread_j for one in readings) / count,
    )


def unread_share(instruments: Instruments) -> float:
    """How much more was drawn than was read, at most, since instruments were silent for a time."""
    unread_j = math.fsum(one.unread_j for one in instruments.values())
    return unread_j / math.fsum(one.value_j for one in instruments.values()) if unread_j > 0.0 else 0.0


def gain_range(numerator: Instruments, denominator: Instruments) -> tuple[float, float]:
    """All that a ratio may be as far as its instruments are off, each within its own interval (method.md, eq. 185).

        extremes of sum_p g_p n_p / sum_p g_p h_p d_p  over  least_p <= g_p <= most_p,  1/b_p <= h_p <= b_p     [1]

    They lie where the instruments that read the larger ratios are off to one end and all others to the other. What one
    instrument read in both moves both alike: with a single one nothing is left, but for a model at unlike powers.

    Returns:
        The least and the most; infinity where the denominator may be 0.
    """
    rows = list(_rows(numerator, denominator))
    cuts = range(len(rows) + 1)
    most_of = sorted((row._replace(under=row.under / row.bend) for row in rows), key=_ratio)
    least_of = sorted((row._replace(under=row.under * row.bend) for row in rows), key=_ratio)
    highest = max((_cut(most_of, cut, low_first=True) for cut in cuts), default=math.inf)
    lowest = min((_cut(least_of, cut, low_first=False) for cut in cuts), default=0.0)
    return lowest, highest


class _Row(NamedTuple):
    """One instrument on both sides."""

    over: float
    under: float
    least: float
    most: float
    bend: float
    """So much more or less than on the one side it may be off on the other."""


def _ratio(row: _Row) -> float:
    return row.over / row.under if row.under > 0.0 else math.inf


def _rows(numerator: Instruments, denominator: Instruments) -> Iterator[_Row]:
    nothing = Reading(value_j=0.0, least=math.inf, most=0.0)
    for key in dict.fromkeys([*numerator, *denominator]):
        over, under = numerator.get(key, nothing), denominator.get(key, nothing)
        least, most = min(over.least, under.least), max(over.most, under.most)
        yield _Row(over.value_j, under.value_j, least, most, _bend(over, under, least, most))


def _bend(over: Reading, under: Reading, least: float, most: float) -> float:
    """1 for what measures; a model's power may grow with anything between no and the square of what it should."""
    if not (over.is_model or under.is_model) or min(over.value_j, under.value_j, over.seconds, under.seconds) <= 0.0:
        return 1.0
    powers = math.log((over.value_j / over.seconds) / (under.value_j / under.seconds))
    return min(math.exp(abs(powers)), most / least if least > 0.0 else math.inf)


def _cut(rows: Sequence[_Row], cut: int, *, low_first: bool) -> float:
    """The ratio where the first `cut` instruments are off to one end, and the rest to the other."""
    gains = [row.least if (index < cut) == low_first else row.most for index, row in enumerate(rows)]
    over = math.fsum(gain * row.over for gain, row in zip(gains, rows, strict=True))
    under = math.fsum(gain * row.under for gain, row in zip(gains, rows, strict=True))
    return over / under if under > 0.0 else math.inf
