"""A witness that sees all of the time and tells when, as steps of power (method.md, eq. 3b)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.records.channel import Quantity
from stillwatt.units import NS_PER_S

_FINE = 0.5
"""A witness renewed at most this share of the counter's period apart tells more than the counter's own steps."""
_HOLE_UPDATES = 4
"""Witness readings further apart than this many of its updates leave a hole that it tells nothing about."""


def is_fine(witness: Series | None, period_ns: int) -> bool:
    """Whether a witness sees all of the time, tells when, and is renewed far more often than the counter steps.

    Args:
        witness: power of the same part.
        period_ns: the counter's update period.
    """
    if witness is None or not witness.channel.is_stamped or witness.channel.averaging_ns is None:
        return False
    update_ns = witness.channel.update_period_ns
    return witness.channel.averaging_ns >= update_ns and update_ns <= _FINE * period_ns and witness.t_ns.size > 1


def teller(ledger: Series, witness: Series | None) -> Series:
    """The stream that tells when energy was drawn: the booked one, or a counter's witness that sees all of the time."""
    if witness is not None and ledger.channel.quantity is Quantity.ENERGY_COUNTER:
        return witness if is_fine(witness, ledger.channel.update_period_ns) else ledger
    return ledger


def renewal_ns(series: Series) -> int:
    """Time between readings that can differ: the instrument's update, or the sampling period where that is longer.

    Readings that carry the instrument's own time come in bunches, and none is left out between two of them.
    """
    update_ns = series.channel.update_period_ns
    return update_ns if series.channel.is_stamped else max(update_ns, series.period_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The witness as steps of power: cell i reaches from edge i to edge i + 1, n cells."""

    edges_ns: IntArray
    power_w: FloatArray
    energy_j: FloatArray
    """Shape [n + 1]: energy up to each edge."""
    is_hole: BoolArray
    averaging_ns: int
    """What each reading averages over."""
    update_ns: int
    """How far apart they are."""

    def energy_at(self, t_ns: IntArray) -> FloatArray:
        """Energy up to any times, from the first edge."""
        origin_ns = int(self.edges_ns[0])
        since, known = (t_ns - origin_ns).astype(np.float64), (self.edges_ns - origin_ns).astype(np.float64)
        return np.asarray(np.interp(since, known, self.energy_j), dtype=np.float64)

    def power_at(self, t_ns: IntArray) -> FloatArray:
        """Power at any times; that of the nearest cell outside."""
        return np.asarray(self.power_w[self.cell(t_ns)], dtype=np.float64)

    def has_hole(self, start_ns: IntArray, end_ns: IntArray) -> BoolArray:
        """Whether a span reaches beyond the readings, or over a hole between them."""
        holes = np.append(0, np.cumsum(self.is_hole))
        outside = (start_ns < self.edges_ns[0]) | (end_ns > self.edges_ns[-1])
        return np.asarray(outside | (holes[self.cell(end_ns) + 1] > holes[self.cell(start_ns)]), dtype=np.bool_)

    def cell(self, t_ns: IntArray) -> IntArray:
        """Number of the cell that a time lies in."""
        found = np.searchsorted(self.edges_ns, t_ns, side="right") - 1
        return np.clip(found, 0, self.power_w.size - 1).astype(np.int64)


def cells_of(witness: Series) -> Cells:
    """Each reading in the middle of what it averaged over, half-way to its neighbours."""
    update_ns, channel = witness.channel.update_period_ns, witness.channel
    middle_ns = witness.t_ns - (channel.averaging_ns or 0) // 2
    between_ns = (middle_ns[:-1] + middle_ns[1:]) // 2
    edges_ns = np.concatenate((middle_ns[:1] - update_ns // 2, between_ns, middle_ns[-1:] + update_ns // 2))
    power_w = witness.count * channel.unit_si
    length_ns = np.diff(edges_ns)
    is_apart = np.append(np.diff(middle_ns) > _HOLE_UPDATES * update_ns, False)
    return Cells(
        edges_ns=edges_ns,
        power_w=power_w,
        energy_j=np.append(0.0, np.cumsum(power_w * length_ns / NS_PER_S)),
        is_hole=is_apart | np.append(False, is_apart[:-1]),
        averaging_ns=channel.averaging_ns or 0,
        update_ns=update_ns,
    )
