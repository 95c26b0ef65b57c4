"""Power from instruments whose averages leave no time out: what their sum does not know (method.md, eq. 142)."""

from __future__ import annotations

import numpy as np

from stillwatt.metering.series import FloatArray, Series
from stillwatt.records.channel import Channel
from stillwatt.units import NS_PER_S

_NEARLY = 0.25
"""An average this near to the update period, as a share of it, adjoins the next one; what it leaves out is counted."""
_TIMES = 0.02
"""Share of the time that is held to be out of place, or unseen, whatever the readings show: periods are known to a
hundredth or two, and an update that was missed beside one seen twice leaves no other trace."""
_MISSED = 1.5
"""A value that is first followed by another after so many updates stands for one that was missed."""
_NOISE_W, _NOISE_REL = 3.0, 0.03
"""The largest standard deviation that an instrument's own noise is held to have."""
SECOND_DIFFERENCE = 10.0
"""Eq. 7: half of each end's second difference over the 6 of its variance, and a fifth more for its own scatter."""
SECOND_DIFFERENCE_NOISE = 6.0
"""Squared second differences of noise, in its variance."""
_INSIDE = 1.0
"""Half-range of the energy at a moment inside an average, in update periods times the second differences beside it."""


def leaves_nothing_out(channel: Channel) -> bool:
    """Whether the instrument is known to average over all of the time between its updates, or nearly.

    >>> from stillwatt.records import Basis, Boundary, Quantity, Role
    >>> turing = Channel(part="gpu0", device="x", boundary=Boundary.BOARD, quantity=Quantity.POWER, unit_si=1.0,
    ...                  role=Role.LEDGER, driver="nvml", basis=Basis.MEASURED, gain_low_rel=0.05, gain_high_rel=0.05,
    ...                  update_period_ns=100_000_000, averaging_ns=100_000_000)
    >>> leaves_nothing_out(turing)
    True
    """
    averaging_ns, update_ns = channel.averaging_ns, channel.update_period_ns
    return averaging_ns is not None and abs(averaging_ns - update_ns) <= _NEARLY * update_ns


def unseen_j2(series: Series, power_w: FloatArray, second2: FloatArray) -> FloatArray:
    """Variance of each interval's energy: noise, and the share of it that no average has seen (method.md, eq. 142).

    Args:
        series: n readings of an instrument that leaves nothing out.
        power_w: shape [n], their powers.
        second2: shape [n], squared second differences.
    """
    length_s = np.diff(series.t_ns) / NS_PER_S
    noise2 = np.minimum(second2, SECOND_DIFFERENCE_NOISE * (_NOISE_W + _NOISE_REL * np.abs(power_w)) ** 2)
    noise2, rest2 = noise2[1:] + noise2[:-1], (second2 - noise2)[1:] + (second2 - noise2)[:-1]
    return np.asarray(length_s**2 * (noise2 + _unseen(series) * rest2) / SECOND_DIFFERENCE, dtype=np.float64)


def inside_averages_j(channel: Channel, second2: FloatArray) -> FloatArray:
    """Half-range of the energy at each reading's middle: where in its average the joules lie, nobody sees.

    A stage that begins and ends with its load loses at both ends, and a trace that runs ahead or behind loses as much
    again. A step of load in the middle of an average shows in the second differences on both sides of it.
    """
    padded = np.pad(second2, 1, mode="edge")
    beside2 = np.maximum(np.maximum(padded[:-2], padded[2:]), second2)
    return np.asarray(_INSIDE * channel.update_period_ns / NS_PER_S * np.sqrt(beside2), dtype=np.float64)


def _unseen(series: Series) -> FloatArray:
    """Share of each interval's variance between samples that remains, from 0 to 1."""
    update_ns = series.channel.update_period_ns
    averages = (series.channel.averaging_ns or 0) / update_ns
    left_over = averages % 1.0
    twice = left_over * (1.0 - left_over) / averages  # time in no average, or in one more than the rest
    is_new = np.append(True, np.diff(series.count) != 0)
    first_ns = series.t_ns[is_new]
    stood_ns = np.append(np.diff(first_ns), 0)
    run = np.cumsum(is_new)[:-1] - 1
    off = (np.diff(series.t_ns) - update_ns) / update_ns
    share = _TIMES + twice + np.where(is_new[1:], off**2, 0.0)
    return np.minimum(np.where(stood_ns[run] >= _MISSED * update_ns, 1.0, share), 1.0)
