"""From the counts of one wrapping or resetting counter to distances (method.md, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.units import NS_PER_S

_PLAUSIBLE_W = 2000.0
"""More than any single board or package draws; a wrap that implies less is believed."""
_PLAUSIBLE_FACTOR = 2.0
"""How far above the largest power seen a wrap may still reach."""


@dataclass(frozen=True, slots=True, eq=False)
class Unwrapped:
    """Distances between neighbouring readings of one counter.

    Attributes:
        increments: shape [n - 1], counts; 0 across a reset, never negative.
        resets: indices i of the readings after which the distance to reading i + 1 is unknown.
    """

    increments: FloatArray
    resets: IntArray


def unwrap(series: Series) -> Unwrapped:
    """Distances travelled by one counter (method.md, eq. 2).

    Call it per counter: summing packages first hides which of them wrapped. A step back is a wrap where the
    counter has a modulus and the power it would imply is plausible; it is a reset otherwise. A span in which a
    counter with a modulus may have gone round unseen is reported like a reset.

    >>> from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
    >>> channel = Channel(part="cpu0", device="x", boundary=Boundary.CHIP, quantity=Quantity.ENERGY_COUNTER,
    ...                   role=Role.LEDGER, unit_si=1.0, driver="rapl", basis=Basis.MEASURED, gain_low_rel=0.0,
    ...                   gain_high_rel=0.0, update_period_ns=1, modulus=100)
    >>> seconds = np.arange(4) * NS_PER_S
    >>> unwrap(Series(channel, seconds, np.array([90.0, 97.0, 4.0, 11.0]))).increments.sum()
    np.float64(21.0)
    """
    steps = np.diff(series.count)
    modulus = series.channel.modulus
    is_reset = steps < 0
    if modulus is not None:
        lengths_s = np.diff(series.t_ns) / NS_PER_S
        unit_j = series.channel.unit_si
        goes_on = (steps >= 0) & (lengths_s * NS_PER_S <= series.max_gap_ns)
        seen_w = float(np.max(steps[goes_on] * unit_j / lengths_s[goes_on], initial=0.0))
        steps = np.where(steps < 0, steps + modulus, steps)
        largest_w = max(_PLAUSIBLE_FACTOR * seen_w, _PLAUSIBLE_W)
        is_implausible = is_reset & ((steps < 0) | (steps * unit_j > largest_w * lengths_s))
        expected_w = _PLAUSIBLE_FACTOR * seen_w if seen_w > 0 else _PLAUSIBLE_W
        is_reset = is_implausible | (lengths_s * expected_w >= modulus * unit_j)
    return Unwrapped(np.where(is_reset, 0.0, steps), np.flatnonzero(is_reset).astype(np.int64))
