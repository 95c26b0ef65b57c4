"""A load that alternates faster than a counter steps: how far its power reaches beyond the steps' means (eq. 165)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stillwatt.metering.curve import Curve
from stillwatt.metering.series import BoolArray, FloatArray, IntArray

_ROWS = (16, 40)
"""Steps in a row that are looked at together: few for short stages, more for a beat that takes many steps."""
_STARTS = 4
"""So many rows begin in the length of one."""
_BLOCK = 1 << 12
_EQUAL_STEPS = 1.5
"""A step longer than so many usual ones is in no row."""
_SWING_REL, _SWING_W = 0.1, 5.0
"""Means that swing by less may do so because the counter is renewed a little early or late."""
_MORE = 1.5
"""A witness that swings by so much more than the steps' means sees what these hide."""
_ALIKE = 0.2
"""How near the steps' changes come to those of a load that repeats: correlations of so few steps scatter by as much."""
_AGAIN, _OPPOSITE = 0.7, -0.25
"""Correlations of a slow beat's means with those a whole beat later, and half a one."""
_QUICK = 0.2
"""A load that repeats as often in a step, and shows all of its swing, has no level that lasts for several steps."""
_SHORTEST, _BEATS = 4, 2
"""Steps of the shortest beat that is looked for by these, and how many are to lie in a row."""
_LEAST_W2 = 2.0**-30


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A counter's steps: n of them between n + 1 times, with their mean powers.

    Of steps that no mark, as at a stage's edge, lies near nothing is told: nobody cuts them. Without any mark, all are.
    """

    x_ns: IntArray
    mean_w: FloatArray
    is_read: BoolArray
    marks_ns: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of steps: where each begins, and its means as [rows, steps]."""

    start: IntArray
    mean_w: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Least and largest power of a load that alternates faster, for some steps or rows of them; NaN where none does."""

    low_w: FloatArray
    high_w: FloatArray

    @property
    def is_told(self) -> BoolArray:
        """Where one does."""
        return np.isfinite(self.low_w)


def alternation(steps: Steps, sharp: Curve | None, limit_w: float | None) -> Reach:
    """How far the power of a load reaches that alternates faster than a counter steps (method.md, eq. 165).

    Args:
        steps: the counter's.
        sharp: the curve of a witness that looks for a small part of each step, where there is one: it sees levels.
        limit_w: the most that the device may draw, where it tells.
    """
    low_w, high_w = np.full(steps.mean_w.size, np.inf), np.full(steps.mean_w.size, -np.inf)
    for rows in _rows(steps):
        found = _repeating(rows, limit_w) if sharp is None else _seen(rows, steps.x_ns, sharp)
        told, length = np.flatnonzero(found.is_told), rows.mean_w.shape[1]
        # a row tells of the step on either side too: a stage's edge cuts that, and its mean is no part of the row
        beside = np.clip(rows.start[told, None] + np.arange(-1, length + 1), 0, low_w.size - 1)
        np.minimum.at(low_w, beside, found.low_w[told, None])
        np.maximum.at(high_w, beside, found.high_w[told, None])
    is_told = low_w < np.inf
    return Reach(np.where(is_told, low_w, np.nan), np.where(is_told, high_w, np.nan))


def _rows(steps: Steps) -> Iterator[_Rows]:
    """Rows of steps of one length, without gaps and resets; a few thousand at a time."""
    if steps.mean_w.size < min(_ROWS):
        return
    length_ns = np.diff(steps.x_ns)
    is_other = ~steps.is_read | (length_ns > _EQUAL_STEPS * np.median(length_ns))
    others = np.append(0, np.cumsum(is_other))
    for length in _ROWS:
        start = np.arange(0, steps.mean_w.size - length + 1, length // _STARTS)
        start = start[(others[start + length] == others[start]) & _is_near(steps, length)[start]]
        for begin in range(0, start.size, _BLOCK):
            some = start[begin : begin + _BLOCK]
            yield _Rows(some, steps.mean_w[some[:, None] + np.arange(length)])


def _is_near(steps: Steps, length: int) -> BoolArray:
    """Whether a row that begins at a step holds one with a mark, or lies beside it."""
    if not steps.marks_ns.size:
        return np.ones(steps.mean_w.size, dtype=np.bool_)
    cut = np.searchsorted(steps.x_ns, steps.marks_ns) - 1
    turns = np.zeros(steps.mean_w.size + 1, dtype=np.int64)
    np.add.at(turns, np.clip(cut - length, 0, steps.mean_w.size), 1)
    np.add.at(turns, np.clip(cut + 2, 0, steps.mean_w.size), -1)
    return np.asarray(np.cumsum(turns)[:-1] > 0, dtype=np.bool_)


def _seen(rows: _Rows, x_ns: IntArray, sharp: Curve) -> Reach:
    """Rows in which a witness swings by more than the steps' means, or these as a load that repeats: as it saw it."""
    # without the outer steps: of a level that begins or ends in them the means show but a part
    first = np.searchsorted(sharp.x_ns[:-1], x_ns[rows.start + 1])
    last = np.maximum(np.searchsorted(sharp.x_ns[:-1], x_ns[rows.start + rows.mean_w.shape[1] - 1]), first + 1)
    seen_w, pairs = np.append(sharp.power_w, sharp.power_w[-1:]), np.stack((first, last)).T.ravel()
    pairs = np.minimum(pairs, sharp.power_w.size)
    low_w, high_w = (extreme.reduceat(seen_w, pairs)[::2] for extreme in (np.minimum, np.maximum))
    swing_w = rows.mean_w.max(axis=1) - rows.mean_w.min(axis=1)
    wave = _wave(rows)
    is_told = high_w - low_w > _MORE * swing_w + _SWING_W + _SWING_REL * high_w
    is_told |= wave.is_there & (wave.turn >= _QUICK)
    return Reach(np.where(is_told, low_w, np.nan), np.where(is_told, high_w, np.nan))


def _repeating(rows: _Rows, limit_w: float | None) -> Reach:
    """Rows whose means change as those of a load that repeats, with the power that such a load may reach."""
    middle_w, wave = rows.mean_w.mean(axis=1), _wave(rows)
    # the slowest load that swings by so little in the means, since it repeats nearly once in a step
    is_hidden = wave.swing_w * (1.0 - wave.turn) / (2 * wave.turn) <= middle_w
    is_told = wave.is_there & (is_hidden | (wave.turn >= _QUICK))
    reach_w = np.where(is_hidden, wave.swing_w / (2 * wave.turn), wave.swing_w / 2)
    high_w = middle_w + reach_w if limit_w is None else np.minimum(middle_w + reach_w, np.maximum(limit_w, middle_w))
    return Reach(
        np.where(is_told, np.maximum(middle_w - reach_w, 0.0), np.nan),
        np.where(is_told, high_w, np.nan),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Wave:
    """What rows of means show of a load that repeats: by how much they swing, and how often in a step."""

    swing_w: FloatArray
    turn: FloatArray
    is_there: BoolArray


def _wave(rows: _Rows) -> _Wave:
    """Whether the means of each row swing as those of a load that repeats, a step's beat with it or slower."""
    middle_w = rows.mean_w.mean(axis=1)
    off_w = rows.mean_w - middle_w[:, None]
    square_w2 = np.maximum((off_w**2).mean(axis=1), _LEAST_W2)
    swing_w = 2 * np.sqrt(2 * square_w2)
    change_w = np.diff(off_w, axis=1)
    change_w2 = np.maximum((change_w**2).mean(axis=1), _LEAST_W2)
    goes_on = (change_w[:, 1:] * change_w[:, :-1]).mean(axis=1) / change_w2
    turn = np.arcsin(np.minimum(np.sqrt(change_w2 / square_w2) / 2, 1.0)) / np.pi
    length = off_w.shape[1]
    is_quick = (np.abs(goes_on - np.cos(2 * np.pi * turn)) <= _ALIKE) & (turn * length >= _BEATS)
    # a beat of many steps shows two levels, as a slow load does: what tells is that it comes again and again
    lags = np.arange(1, length // _BEATS + 1)
    again = np.stack([(off_w[:, lag:] * off_w[:, :-lag]).mean(axis=1) for lag in lags], axis=1) / square_w2[:, None]
    slow = lags[_SHORTEST - 1 :]
    is_slow = (again[:, slow - 1] >= _AGAIN) & (again[:, slow // 2 - 1] <= _OPPOSITE)
    turn = np.where(is_quick, turn, 1.0 / slow[np.argmax(is_slow, axis=1)])
    is_there = (is_quick | is_slow.any(axis=1)) & (swing_w > _SWING_W + _SWING_REL * middle_w)
    return _Wave(swing_w, turn, is_there)
