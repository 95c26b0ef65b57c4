"""Where inside a counter's step the load changed, from the levels on both sides of it (method.md, eq. 3a)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.metering.updates import Updates

_SHARP_SHARE = 0.55
"""A witness that averages over at most this share of the counter's step tells the level at the step's end: over half of
it, as their makers have it, where the step that is observed may be a little shorter."""
_SAME_READ = 0.1
"""Witness and counter readings this near to each other, as a share of the counter's period, show one update."""
_TOGETHER = 0.5
"""Share of sharply seen updates that must show in counter and witness at once."""
_EQUAL_REL, _EQUAL_W = 0.03, 3.0
"""Levels nearer than this to each other are one: sensors' noise is a watt or two."""
_LEAST_STEADY = 5
"""Steady steps that are needed before the witness is scaled to the counter."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Power at both ends of every interval between two updates; shape [R - 1] each, NaN where nobody knows.

    Attributes:
        start_w: just after the interval began.
        end_w: just before it ended.
        is_seen: whether a witness saw both; else they are the neighbours' means.
        reach_ns: over how long before a knot the witness averages; 0 without one.
    """

    start_w: FloatArray
    end_w: FloatArray
    is_seen: BoolArray
    reach_ns: int


def find_levels(series: Series, witness: Series | None, updates: Updates, x_ns: IntArray, mean_w: FloatArray) -> Levels:
    """Levels from a sharp witness where there is one, else from the intervals on both sides.

    Args:
        series: the counter.
        witness: power of the same part.
        updates: the counter's updates.
        x_ns: shape [K], the curve's knots, the updates among them.
        mean_w: shape [K - 1], mean power between the knots.
    """
    around = neighbours(mean_w)
    seen_w = _at_updates(series, witness, updates)
    if witness is None or seen_w is None:
        return around
    at_knots_w = np.full(x_ns.size, np.nan)
    at_knots_w[np.searchsorted(x_ns, updates.x_ns)] = seen_w
    at_knots_w *= _scale(at_knots_w, mean_w)
    is_seen = np.isfinite(at_knots_w[:-1]) & np.isfinite(at_knots_w[1:])
    start_w = np.where(is_seen, at_knots_w[:-1], around.start_w)
    end_w = np.where(is_seen, at_knots_w[1:], around.end_w)
    return Levels(start_w, end_w, is_seen, witness.channel.averaging_ns or 0)


def neighbours(mean_w: FloatArray) -> Levels:
    """Levels as the intervals on both sides have them, where no witness tells.

    >>> neighbours(np.array([1.0, 2.0, 3.0])).start_w
    array([nan,  1.,  2.])
    """
    start_w, end_w = np.append(np.nan, mean_w)[:-1], np.append(mean_w, np.nan)[1:]
    return Levels(start_w, end_w, np.zeros(mean_w.size, dtype=np.bool_), 0)


def shows_levels(witness: Series | None, period_ns: int) -> bool:
    """Whether each of a witness's readings shows the level at its end of a counter's step.

    Args:
        witness: power of the same part.
        period_ns: the counter's update period.
    """
    if witness is None or witness.channel.averaging_ns is None or witness.t_ns.size == 0:
        return False
    return witness.channel.averaging_ns <= _SHARP_SHARE * period_ns


def same_level(one_w: FloatArray, other_w: FloatArray) -> BoolArray:
    """Whether two powers differ by no more than sensors' noise."""
    allowed_w = _EQUAL_W + _EQUAL_REL * np.maximum(np.abs(one_w), np.abs(other_w))
    return np.asarray(np.abs(one_w - other_w) <= allowed_w, dtype=np.bool_)


def equal_w(one_w: float, other_w: float) -> float:
    """How far two powers may differ and still be one."""
    return _EQUAL_W + _EQUAL_REL * max(abs(one_w), abs(other_w))


def _at_updates(series: Series, witness: Series | None, updates: Updates) -> FloatArray | None:
    """What the witness showed when each update was first read; None for one that is too slow to tell."""
    if witness is None or not shows_levels(witness, updates.period_ns):
        return None
    read_ns = series.t_ns[updates.first]
    nearest = _nearest(witness.t_ns, read_ns)
    is_near = np.abs(witness.t_ns[nearest] - read_ns) <= _SAME_READ * updates.period_ns
    since_ns = read_ns - series.t_ns[np.maximum(updates.first - 1, 0)]
    is_sharp = (updates.first > 0) & (since_ns <= _SAME_READ * updates.period_ns)
    if not _keep_step(witness, nearest[is_near & is_sharp]):
        return None
    return np.where(is_near, witness.count[nearest] * witness.channel.unit_si, np.nan)


def _nearest(t_ns: IntArray, asked_ns: IntArray) -> IntArray:
    """Index of the reading nearest in time."""
    after = np.clip(np.searchsorted(t_ns, asked_ns), 0, t_ns.size - 1)
    before = np.maximum(after - 1, 0)
    return np.where(asked_ns - t_ns[before] < t_ns[after] - asked_ns, before, after)


def _keep_step(witness: Series, at: IntArray) -> bool:
    """Whether counter and witness are renewed together: most updates seen while reading fast show in both.

    A witness that hardly ever changes says nothing against it, and its levels are the same wherever they are taken.

    Args:
        witness: the witness.
        at: its readings that go with sharply seen updates of the counter.
    """
    changes = np.append(False, np.diff(witness.count) != 0)
    together = int(np.count_nonzero(changes[at]))
    return together >= _TOGETHER * at.size or int(np.count_nonzero(changes)) - together < _TOGETHER * at.size


def _scale(seen_w: FloatArray, mean_w: FloatArray) -> float:
    """Counter over witness where the load is steady; 1 where it hardly ever is."""
    both_w = (seen_w[:-1] + seen_w[1:]) / 2
    is_steady = same_level(seen_w[:-1], seen_w[1:]) & same_level(both_w, mean_w) & (both_w > 0)
    is_steady &= np.isfinite(both_w)
    if np.count_nonzero(is_steady) < _LEAST_STEADY:
        return 1.0
    return float(np.median(mean_w[is_steady] / both_w[is_steady]))
