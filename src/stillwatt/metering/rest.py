"""Whether a part was at rest while it should have been, and what it drew then (method.md, eq. 16a)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.cells import renewal_ns, teller
from stillwatt.metering.checks import doubts
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.series import BoolArray, FloatArray, Series
from stillwatt.records.energy import Absent, Energy
from stillwatt.units import NS_PER_MS, NS_PER_S, seconds

CONTAMINATED = "contaminated"
"""The word that problems of a rest begin with."""
LEAST_PIECES = 8
"""With fewer pieces nothing can be said of bursts or trends."""
_MOST_PIECES = 60
_LEAST_PIECE_NS = 200 * NS_PER_MS
_UPDATES_A_PIECE = 2
_BLOCKS = 10
"""The spread is that of at most this many blocks of about a second: shorter pieces lean on each other."""
_LOW_QUANTILE = 0.2
"""Work adds power, so the level is looked for among the lowest pieces: up to four fifths may be work."""
_RISE_REL, _RISE_W, _RISE_SIGMA = 0.1, 0.5, 3.5
"""A piece this far above the level was not at rest: share of the level, watts, multiples of the noise."""
_LEAST_DIRTY, _LEAST_DIRTY_SHARE = 2, 0.04
_SIGMA_FROM_MAD = 1.4826
_TREND_Z, _TREND_REL = 3.3, 0.05
"""Mann and Kendall's statistic is beyond this once in a thousand; a change below 5 % of the level is no trend."""
_ENOUGH_CLEAN = 0.5
"""Clean pieces stand for the whole where they are at least this share of it, and at least `LEAST_PIECES`."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What in a row of mean powers does not look like rest.

    Attributes:
        level_w: what the part draws at rest, as far as the pieces tell.
        is_dirty: shape [n], pieces in which something worked.
        change_w: by how much the other pieces rise or fall from first to last; 0 where no trend shows.
    """

    level_w: float
    is_dirty: BoolArray
    change_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """One part over windows in which it should be at rest.

    Attributes:
        energy: over what is used of them.
        used_s: seconds of that.
        blocks_w: mean powers of blocks of it, for the spread.
        pieces: into how many pieces the windows were cut; 0 where they are too short for that.
        clean: how many of these are at rest.
        widened_w: what the half-width of the mean power grows by, since something worked.
        problems: what worked, with figures, each beginning with `contaminated: `; empty for a clean rest.
    """

    energy: Energy | Absent
    used_s: float
    blocks_w: tuple[float, ...] = ()
    pieces: int = 0
    clean: int = 0
    widened_w: float = 0.0
    problems: tuple[str, ...] = ()


def find_work(power_w: FloatArray) -> Work:
    """Bursts and trends in mean powers of equal pieces (method.md, eq. 16a).

    >>> calm = np.tile([50.0, 51.0, 49.0, 50.0], 10)
    >>> find_work(calm).is_dirty.any(), find_work(calm).change_w
    (np.False_, 0.0)
    >>> int(np.count_nonzero(find_work(np.append(calm, [70.0] * 5)).is_dirty))
    5
    """
    if power_w.size < LEAST_PIECES:
        level_w = float(np.median(power_w)) if power_w.size else 0.0
        return Work(level_w, np.zeros(power_w.size, dtype=np.bool_), 0.0)
    # steps between neighbours: a burst has two edges, however long it lasts, and the median does not see them
    noise_w = _SIGMA_FROM_MAD * float(np.median(np.abs(np.diff(power_w)))) / math.sqrt(2.0)
    low_w = float(np.quantile(power_w, _LOW_QUANTILE))
    level_w = float(np.median(power_w[power_w <= low_w + _rise_w(low_w, noise_w)]))
    is_dirty = np.asarray(power_w > level_w + _rise_w(level_w, noise_w), dtype=np.bool_)
    if np.count_nonzero(is_dirty) < max(_LEAST_DIRTY, _LEAST_DIRTY_SHARE * power_w.size):
        is_dirty[:] = False
    return Work(level_w, is_dirty, _change_w(power_w[~is_dirty]))


def examine(
    ledger: Series,
    witness: Series | None,
    windows: Sequence[WeightedWindow],
    *,
    whole: Energy | Absent | None = None,
    marks_ns: Sequence[int] = (),
) -> Rest:
    """Look at one part over windows of rest, and take their clean pieces where something worked (method.md, eq. 16a).

    Args:
        ledger: the stream that is booked.
        witness: power of the same part, which shows shorter bursts than a counter's steps.
        windows: when the part should be at rest; weights are not looked at.
        whole: the energy over all of the windows, where it is known already.
        marks_ns: when stages began or ended.
    """
    energy = whole or estimate(ledger, witness, windows, marks_ns=marks_ns)
    length_s = float(seconds(sum(window.end_ns - window.start_ns for window in windows)))
    if isinstance(energy, Absent):
        return Rest(energy=energy, used_s=length_s)
    cut = [piece for window in windows for piece in _cut(window, _piece_ns(ledger, witness, windows))]
    power_w = _mean_w(ledger, witness, cut)
    work = find_work(power_w[np.isfinite(power_w)])
    is_dirty = np.zeros(len(cut), dtype=np.bool_)
    is_dirty[np.isfinite(power_w)] = work.is_dirty
    if witness is not None:
        is_dirty |= _seen_by_witness(witness, cut) & np.isfinite(power_w)
    piece_s = float(seconds(summed_ns(cut[:1])))
    problems = tuple(_problems(energy, work, power_w, is_dirty, piece_s))
    clean = [piece for piece, dirty in zip(cut, is_dirty, strict=True) if not dirty]
    uneven_w, uneven = _unevenness(power_w[np.isfinite(power_w)], piece_s)
    widened_w, reach_w = abs(work.change_w) / 2 + uneven_w, _reach_w(energy, witness, windows)
    used = windows
    if len(clean) < len(cut):
        if len(clean) >= max(LEAST_PIECES, _ENOUGH_CLEAN * len(cut)):
            used = joined(clean)
            energy = estimate(ledger, witness, used, marks_ns=marks_ns)
        else:
            widened_w += max(0.0, energy.value_j / max(length_s - energy.missing_s, length_s / 2) - work.level_w)
    used_s = float(seconds(summed_ns(used)))
    # an energy that was flagged itself holds both instruments already
    own_w = energy.random_j / used_s if isinstance(energy, Energy) else 0.0
    return Rest(
        energy=energy,
        used_s=used_s,
        blocks_w=_blocks_w(ledger, witness, used),
        pieces=len(cut) if len(cut) >= LEAST_PIECES else 0,
        clean=len(clean) if len(cut) >= LEAST_PIECES else 0,
        widened_w=widened_w + max(0.0, reach_w - own_w),
        problems=(*problems, *uneven),
    )


def _unevenness(power_w: FloatArray, piece_s: float) -> tuple[float, tuple[str, ...]]:
    """How far the mean of few pieces lies above the least of them, where they differ; and that in words (eq. 167)."""
    if not 2 <= power_w.size < LEAST_PIECES:
        return 0.0, ()
    least_w, most_w = float(power_w.min()), float(power_w.max())
    if most_w - least_w <= _rise_w(least_w, 0.0):
        return 0.0, ()
    return float(power_w.mean()) - least_w, (
        f"{CONTAMINATED}: power lies between {least_w:.4g} and {most_w:.4g} W in its {power_w.size} pieces of "
        f"{piece_s:.2g} s, too few to tell what of it was work; its interval is widened down to the least",
    )


def _problems(energy: Energy, work: Work, power_w: FloatArray, is_dirty: BoolArray, piece_s: float) -> Iterator[str]:
    """What does not look like rest, in words and figures."""
    dirty = int(np.count_nonzero(is_dirty))
    if dirty:
        clean = len(is_dirty) - dirty
        cure = "the rest of it is used"
        if clean < max(LEAST_PIECES, _ENOUGH_CLEAN * len(is_dirty)):
            cure = f"only {clean} are clean, so all of it is used and its interval widened"
        highest_w = float(np.nanmax(power_w[is_dirty]))
        yield (
            f"{CONTAMINATED}: something worked in {dirty} of {len(is_dirty)} pieces of {piece_s:.2g} s, up to "
            f"{highest_w:.4g} W over a level of {work.level_w:.4g} W; {cure}"
        )
    if work.change_w:
        way = "rises" if work.change_w > 0 else "falls"
        yield (
            f"{CONTAMINATED}: power {way} by {abs(work.change_w):.3g} W over it, from a level of {work.level_w:.4g} W; "
            "its interval is widened by half of that"
        )
    for flag in doubts(energy):
        yield f"{CONTAMINATED}: {flag}"


def _rise_w(level_w: float, noise_w: float) -> float:
    return max(_RISE_REL * abs(level_w), _RISE_W, _RISE_SIGMA * noise_w)


def _change_w(power_w: FloatArray) -> float:
    """By how much powers rise or fall from first to last: Theil and Sen's slope, where Mann and Kendall see one."""
    count = power_w.size
    if count < LEAST_PIECES:
        return 0.0
    earlier, later = np.triu_indices(count, 1)
    rises_w = power_w[later] - power_w[earlier]
    z = float(np.sum(np.sign(rises_w))) / math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    change_w = float(np.median(rises_w / (later - earlier))) * (count - 1)
    if abs(z) < _TREND_Z or abs(change_w) < max(_TREND_REL * abs(float(np.median(power_w))), _RISE_W):
        return 0.0
    return change_w


def _piece_ns(ledger: Series, witness: Series | None, windows: Sequence[WeightedWindow]) -> int:
    slowest_ns = renewal_ns(teller(ledger, witness))
    return max(_LEAST_PIECE_NS, _UPDATES_A_PIECE * slowest_ns, summed_ns(windows) // _MOST_PIECES)


def _cut(window: WeightedWindow, piece_ns: int) -> list[WeightedWindow]:
    """Equal pieces of at least that length."""
    length_ns = window.end_ns - window.start_ns
    count = max(1, length_ns // piece_ns)
    marks = [window.start_ns + length_ns * k // count for k in range(count + 1)]
    return [WeightedWindow(start, end) for start, end in pairwise(marks) if end > start]


def _mean_w(ledger: Series, witness: Series | None, cut: Sequence[WeightedWindow]) -> FloatArray:
    """Mean power of each piece; NaN where seconds are missing."""
    found = estimate_many(ledger, witness, [[piece] for piece in cut]).energies
    return np.array(
        [
            energy.value_j / seconds(piece.end_ns - piece.start_ns)
            if isinstance(energy, Energy) and energy.missing_s == 0
            else math.nan
            for energy, piece in zip(found, cut, strict=True)
        ]
    )


def _seen_by_witness(witness: Series, cut: Sequence[WeightedWindow]) -> BoolArray:
    power_w = _mean_w(witness, None, cut)
    is_dirty = np.zeros(len(cut), dtype=np.bool_)
    is_dirty[np.isfinite(power_w)] = find_work(power_w[np.isfinite(power_w)]).is_dirty
    return is_dirty


def _reach_w(energy: Energy, witness: Series | None, windows: Sequence[WeightedWindow]) -> float:
    """How far the witness's interval reaches from the counter's mean power, where they were flagged to disagree.

    Which of them is right is not known, so the idle power must hold all of it (eq. 7b).
    """
    if witness is None or not doubts(energy):
        return 0.0
    beside = estimate(witness, None, windows)
    if isinstance(beside, Absent):
        return 0.0
    systematic_j = max(beside.systematic_low_j, beside.systematic_high_j)
    reach_j = abs(energy.value_j - beside.value_j) + math.hypot(beside.random_j, systematic_j)
    return reach_j / seconds(summed_ns(windows))


def _blocks_w(ledger: Series, witness: Series | None, used: Sequence[WeightedWindow]) -> tuple[float, ...]:
    """Mean powers of blocks of about a second of what is used, ten at most and two at least."""
    length_ns = summed_ns(used)
    count = max(2, min(_BLOCKS, length_ns // NS_PER_S))
    cut = [piece for window in used for piece in _cut(window, max(1, length_ns // count))]
    power_w = _mean_w(ledger, witness, cut)
    return tuple(power_w[np.isfinite(power_w)].tolist())


def joined(cut: Sequence[WeightedWindow]) -> list[WeightedWindow]:
    """Pieces that touch, as one window each."""
    longer: list[WeightedWindow] = []
    for piece in cut:
        if longer and longer[-1].end_ns == piece.start_ns:
            longer[-1] = WeightedWindow(longer[-1].start_ns, piece.end_ns)
        else:
            longer.append(piece)
    return longer


def summed_ns(windows: Sequence[WeightedWindow]) -> int:
    """Nanoseconds of all windows, whatever their weights."""
    return sum(window.end_ns - window.start_ns for window in windows)
