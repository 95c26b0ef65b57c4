"""Draws of factors and energies (method.md, eqs. 61 and 67).

A stream is named after what is drawn, so the same factor gives the same draws wherever it is used (what rests on one
factor moves together), and the order of rows changes nothing.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from stillwatt.records.energy import Total
from stillwatt.records.factor import Distribution, Factor

Draws = NDArray[np.float64]

Z_95 = 1.6448536269514722
"""Standard normal deviate with 5 % above: the ends of a 90 % interval."""
Z_975 = 1.959963984540054
"""Standard normal deviate with 2.5 % above: the ends of an energy's 95 % interval."""


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one name."""
    return np.random.default_rng([seed, int.from_bytes(sha256(name.encode("utf-8")).digest()[:8], "big")])


def draw_factor(factor: Factor, count: int, seed: int) -> Draws:
    """Draws of a factor (method.md, eq. 61)."""
    low, value, high = factor.low, factor.value, factor.high
    if factor.distribution is Distribution.EXACT or low == high:
        return np.full(count, value)
    numbers = stream(seed, factor.id)
    if factor.distribution is Distribution.TRIANGULAR:
        return numbers.triangular(low, value, high, count)
    if factor.distribution is Distribution.UNIFORM:
        return numbers.uniform(low, high, count)
    z = numbers.standard_normal(count) / Z_95
    if factor.distribution is Distribution.NORMAL:
        return value + np.where(z > 0.0, z * (high - value), z * (value - low))
    draws: Draws = value * np.exp(np.where(z > 0.0, z * np.log(high / value), z * np.log(value / low)))
    return draws


def draw_energy(total: Total, meter: str, count: int, seed: int) -> Draws:
    """Draws of a metered energy, never below 0 (method.md, eq. 67).

    Totals of one meter take the same deviate: their errors are held to move together, which makes sums no narrower
    than they are. An interval that was cut at 0 does not tell how far below the value its half-width reached: there it
    reaches as far as the one above, so that draws are not bunched around the value.
    """
    z = stream(seed, f"meter {meter}").standard_normal(count) / Z_975
    above_j, below_j = total.high_j - total.value_j, total.value_j - total.low_j
    if total.low_j <= 0.0:
        below_j = max(below_j, above_j)
    spread = np.where(z > 0.0, z * above_j, z * below_j)
    return np.maximum(total.value_j + spread, 0.0)


def interval(draws: Draws, value: float) -> tuple[float, float]:
    """The 5 % and 95 % points of draws, widened to hold the value where that lies outside."""
    last = len(draws) - 1
    ends = (int(0.05 * last), last - int(0.05 * last))
    part = np.partition(draws, ends)
    return min(float(part[ends[0]]), value), max(float(part[ends[1]]), value)
