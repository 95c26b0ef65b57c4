"""Whether a counter and its witness differ all along or by what the witness missed (method.md, eqs. 7b and 141)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.curve import Curve
from stillwatt.metering.halfwidth import Evaluation, evaluate
from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.metering.windows import Profile
from stillwatt.records.channel import Channel
from stillwatt.units import NS_PER_S

_LEAST_PIECES, _MOST_PIECES = 4, 400
_UPDATES_A_PIECE = 10
_ALL_ALONG = 0.9
"""Of a session's pieces, this share must show one ratio: each does so in 95 % of cases and more if there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What one instrument tells of a part: its readings, and the curve made of them."""

    series: Series
    curve: Curve

    @property
    def gain(self) -> float:
        """The larger of its bounds of systematic error."""
        return gain_bound(self.series.channel)


def gain_bound(channel: Channel) -> float:
    """The larger of a channel's bounds of systematic error, as a share of the value."""
    return max(channel.gain_low_rel, channel.gain_high_rel)


def apart(found: Evaluation, seen: Evaluation, gain: float, gain_seen: float) -> tuple[FloatArray, FloatArray]:
    """How far two instruments lie apart, and what both intervals allow, for each owner (eq. 7b)."""
    apart_j = np.abs(found.value_j - seen.value_j)
    gains_j = gain * np.abs(found.value_j) + gain_seen * np.abs(seen.value_j)
    return apart_j, found.random_j + seen.random_j + gains_j


def may_have_missed(booked: Told, found: Evaluation, witness: Told) -> BoolArray:
    """Whether the witness's swing explains that it differs, for each owner (method.md, eq. 141).

    A witness that looks away sees some of the levels of a load that is faster than it, so that the mean power which the
    counter tells lies among those that it has seen in the session.
    """
    seconds = np.maximum(found.total_s, 1.0 / NS_PER_S)
    told_w, open_w = found.value_j / seconds, found.random_j / seconds
    seen_w = witness.series.count * witness.series.channel.unit_si
    reaches_down = told_w * (1.0 + booked.gain) + open_w >= float(np.min(seen_w)) * (1.0 - witness.gain)
    reaches_up = told_w * (1.0 - booked.gain) - open_w <= float(np.max(seen_w)) * (1.0 + witness.gain)
    return np.asarray(reaches_down & reaches_up, dtype=np.bool_)


def common_ratio(booked: Told, witness: Told) -> float | None:
    """The one ratio of booked to witness's joules in all of a session, or None (method.md, eq. 141).

    None, too, where the intervals of both over the session meet. What a witness misses comes and goes with the load; an
    instrument that is off is so by the same factor in every piece of the session.
    """
    edges_ns = _edges_ns(booked.series, witness.series)
    count = edges_ns.size - 1
    if count < _LEAST_PIECES:
        return None
    # all pieces, and then the session as a whole
    starts_ns, ends_ns = np.append(edges_ns[:-1], edges_ns[0]), np.append(edges_ns[1:], edges_ns[-1])
    pieces = Profile(np.arange(count + 1), starts_ns, ends_ns, np.ones(count + 1), count + 1)
    found, seen = evaluate(booked.curve, pieces), evaluate(witness.curve, pieces)
    apart_j, joint_j = apart(found, seen, booked.gain, witness.gain)
    if apart_j[-1] <= joint_j[-1] or seen.value_j[-1] <= 0.0:
        return None
    ratio = float(found.value_j[-1] / seen.value_j[-1])
    fits = np.abs(found.value_j - ratio * seen.value_j) <= found.random_j + ratio * seen.random_j
    return ratio if np.mean(fits[:-1]) >= _ALL_ALONG else None


def _edges_ns(booked: Series, witness: Series) -> IntArray:
    """Edges of equal pieces of the time in which both were read."""
    start_ns = max(int(booked.t_ns[0]), int(witness.t_ns[0]))
    end_ns = min(int(booked.t_ns[-1]), int(witness.t_ns[-1]))
    update_ns = max(booked.channel.update_period_ns, witness.channel.update_period_ns)
    count = min(_MOST_PIECES, max(0, end_ns - start_ns) // max(NS_PER_S, _UPDATES_A_PIECE * update_ns))
    return np.linspace(start_ns, end_ns, count + 1).astype(np.int64)
