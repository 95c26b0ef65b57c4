"""From the counts of one wrapping or resetting counter to distances (method.md, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.plausible import changes, plausible
from stillwatt.metering.series import FloatArray, IntArray, Series


@dataclass(frozen=True, slots=True, eq=False)
class Unwrapped:
    """Distances between neighbouring readings of one counter.

    Attributes:
        increments: shape [n - 1], counts; 0 where the distance is unknown, never negative.
        resets: indices i of the readings after which the distance to reading i + 1 is unknown.
    """

    increments: FloatArray
    resets: IntArray


def unwrap(series: Series) -> Unwrapped:
    """Distances travelled by one counter (method.md, eq. 2).

    Call it per counter: summing packages first hides which of them wrapped. A step back is a wrap where the
    counter has a modulus and the power it would imply is plausible; it is a reset otherwise. A step forward beyond
    what the device can draw is no distance, and a span in which a counter with a modulus may have gone round unseen
    has none that is known: both are reported like a reset.

    >>> from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
    >>> from stillwatt.units import NS_PER_S
    >>> channel = Channel(part="cpu0", device="x", boundary=Boundary.CHIP, quantity=Quantity.ENERGY_COUNTER,
    ...                   role=Role.LEDGER, unit_si=1.0, driver="rapl", basis=Basis.MEASURED, gain_low_rel=0.0,
    ...                   gain_high_rel=0.0, update_period_ns=1, modulus=100)
    >>> seconds = np.arange(4) * NS_PER_S
    >>> unwrap(Series(channel, seconds, np.array([90.0, 97.0, 4.0, 11.0]))).increments.sum()
    np.float64(21.0)
    """
    limits, count = plausible(series), series.count
    steps = limits.distance(count[:-1], count[1:])
    if limits.is_clear:
        return Unwrapped(steps, np.array([], dtype=np.int64))
    lengths_ns = np.diff(series.t_ns)
    is_known = limits.follows(count[:-1], count[1:], lengths_ns)
    if not is_known.all():
        # what a counter tells at once it may have counted ever since it was last renewed
        first = changes(count)
        since_ns = series.t_ns[first][np.searchsorted(first, np.arange(lengths_ns.size), side="right") - 1]
        is_known = limits.follows(count[:-1], count[1:], series.t_ns[1:] - since_ns)
    is_reset = ~is_known | limits.may_have_gone_round(lengths_ns)
    return Unwrapped(np.where(is_reset, 0.0, steps), np.flatnonzero(is_reset).astype(np.int64))
