"""What a counter may have counted between two of its values (method.md, eqs. 2 and 137)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillwatt.metering.series import BoolArray, FloatArray, IntArray, Series
from stillwatt.records.channel import Boundary
from stillwatt.units import NS_PER_S

_INNER_W, _AROUND_W = 2_000.0, 200_000.0
"""More than any single board or package draws, and more than any rack of them."""
_INNER = frozenset({Boundary.RAIL, Boundary.CHIP, Boundary.BOARD})
_FACTOR = 2.0
"""How far above its own limit, and above the largest power seen, a device may still go."""
_SPANS = 3
"""Power was seen where it held over so many spans in a row: one bad reading makes two of them large, at most."""

_USUAL_SPANS = 20
"""Of so many spans half tell of more than the device should draw that it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plausible:
    """What lets one value of a counter follow another.

    Attributes:
        most_w: more than this the device does not draw.
        seen_w: the largest power that was seen to last; 0 where nothing was.
        delay_ns: a value may show what was drawn so long before the last one was renewed.
        unit_j: joules of a count.
        modulus: counts after which the counter begins again; None where it does not wrap.
        is_clear: whether every reading may follow the one before, so that nothing is to be looked into.
    """

    most_w: float
    seen_w: float
    delay_ns: int
    unit_j: float
    modulus: int | None
    is_clear: bool = False

    def distance(self, before: FloatArray, after: FloatArray) -> FloatArray:
        """Counts from one value to another, once round where it went back; below 0 where it cannot have."""
        counts = np.asarray(after - before, dtype=np.float64)
        return counts if self.modulus is None else np.where(counts < 0, counts + self.modulus, counts)

    def follows(self, before: Any, after: Any, length_ns: Any) -> BoolArray:
        """Whether a value may follow another one that was renewed so long before it."""
        counts = self.distance(before, after)
        most_j = self.most_w * (length_ns + self.delay_ns) / NS_PER_S + self.unit_j
        return np.asarray((counts >= 0) & (counts * self.unit_j <= most_j), dtype=np.bool_)

    def may_have_gone_round(self, length_ns: IntArray) -> BoolArray:
        """Whether the counter may have passed its modulus unseen in so long a time."""
        if self.modulus is None:
            return np.zeros(length_ns.shape, dtype=np.bool_)
        expected_w = _FACTOR * self.seen_w if self.seen_w > 0 else self.most_w
        return np.asarray(length_ns / NS_PER_S * expected_w >= self.modulus * self.unit_j, dtype=np.bool_)


def plausible(series: Series) -> Plausible:
    """What a counter can do, from its channel and from its own readings (method.md, eq. 137).

    Readings are looked at only where the channel alone leaves a step in doubt.
    """
    channel = series.channel
    least_w = max(_INNER_W if channel.boundary in _INNER else _AROUND_W, _FACTOR * (channel.limit_w or 0.0))
    at_least = Plausible(
        most_w=least_w,
        seen_w=0.0,
        delay_ns=channel.update_period_ns,
        unit_j=channel.unit_si,
        modulus=channel.modulus,
    )
    length_ns = np.diff(series.t_ns)
    is_clear = at_least.follows(series.count[:-1], series.count[1:], length_ns)
    if is_clear.all() and not at_least.may_have_gone_round(length_ns).any():
        return replace(at_least, is_clear=True)
    delay_ns = _renewal_ns(series)
    seen_w = _seen_w(series, at_least, delay_ns + series.period_ns, least_w)
    return Plausible(
        most_w=max(least_w, _FACTOR * seen_w),
        seen_w=seen_w,
        delay_ns=delay_ns,
        unit_j=channel.unit_si,
        modulus=channel.modulus,
    )


def changes(count: FloatArray) -> IntArray:
    """Indices of the readings that first show a value."""
    return np.append(0, np.flatnonzero(np.diff(count) != 0) + 1).astype(np.int64)


def _renewal_ns(series: Series) -> int:
    """How far apart the counter's own values come: as its channel says, or as they are seen to."""
    declared_ns, seen_ns = series.channel.update_period_ns, np.diff(series.t_ns[changes(series.count)])
    return max(declared_ns, int(np.median(seen_ns)) if seen_ns.size else 0)


def _seen_w(series: Series, limits: Plausible, span_ns: int, most_w: float) -> float:
    """The largest power that held over several spans in a row, none shorter than an update and a sampling period.

    More than the device can do is believed only where half of all spans show it.
    """
    t_ns, last = series.t_ns, series.t_ns.size - 1
    end = np.searchsorted(t_ns, t_ns + span_ns)
    has_end = end <= last
    end = np.minimum(end, last)
    joules = limits.distance(series.count, series.count[end]) * limits.unit_j
    length_s = np.where(has_end, t_ns[end] - t_ns, NS_PER_S) / NS_PER_S
    power_w = np.where(has_end, joules / length_s, 0.0)
    at, held_w = end, power_w
    for _ in range(_SPANS - 1):
        held_w, at = np.minimum(held_w, power_w[at]), end[at]
    lasting_w = min(float(held_w.max()), most_w)
    if not has_end.any():
        return lasting_w
    usual_w = float(np.median(power_w[has_end]))
    is_sure = np.count_nonzero(has_end) >= _USUAL_SPANS
    return max(0.0, lasting_w, usual_w if is_sure else min(usual_w, most_w))
