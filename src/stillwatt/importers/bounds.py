"""How far the truth may lie from what another tool says, where its file holds no readings (method.md, eq. 19).

The bounds come from playing known power traces to each tool through a simulated NVML, with its defaults; the table is
in docs/method.md. They are wide because the file does not tell what the tool could read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stillwatt.units import NS_PER_MS, NS_PER_S

_COUNTER_STEP_S = 100 * NS_PER_MS / NS_PER_S
_TWO_EDGES = 0.8
"""Eq. 6: two edges inside a counter's step, as a share of step times power."""
_HAS_COUNTER = re.compile(
    r"\b(V100|T4|TITAN (V|RTX)|A\d{1,4}[GXi]?|H\d{2,3}|GH200|B\d{3}|GB\d{3}|L\d{1,2}S?|RTX)\b", re.IGNORECASE
)
"""Volta and later, all of which have an energy counter."""

MOST_PUE = 2.0
"""What a facility takes for each joule of its machines where nobody tells: few take more."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The truth lies between `value * (1 - low_rel)` and `value * (1 + high_rel)`, and why."""

    low_rel: float
    high_rel: float
    why: str


COUNTER = Bound(0.06, 0.06, "energy counter: gain 5 % and up to 3 % at stage edges")
"""Gain in quadrature with the worst single stage of four seconds that was seen."""
ZEUS = Bound(
    0.28, 0.06, "energy counter, or power joined up where the card has none (up to +37 %); the file tells neither"
)
POLLED_1S = Bound(
    0.41, 2.0, "power polled once a second: a load that repeats beats with it (-67 % to +69 % on simulated cards)"
)
POLLED_HALF_S = Bound(
    0.41, 2.0, "power polled twice a second: a load that repeats beats with it (-78 % to +68 % on simulated cards)"
)
CPU_UNKNOWN = Bound(
    0.86, 2.69, "RAPL, CPU load times rated power, or a default wattage: the file does not tell which; bounds of eq. 8"
)
CPU_RAPL = Bound(0.05, 2.69, "RAPL read twice with at most one wrap put right: more wraps in a long stage are lost")
RAM_MODEL = Bound(0.75, 3.0, "a model of power by memory size, no reading; bounds of eq. 8")


def counter_or_polled(gpu_model: str) -> Bound:
    """The bound of a tool that reads the counter where the card has one.

    >>> counter_or_polled("1 x NVIDIA H100 80GB HBM3").high_rel
    0.06
    >>> counter_or_polled("Tesla P100").high_rel
    2.0
    """
    return COUNTER if _HAS_COUNTER.search(gpu_model) else POLLED_1S


def low_with_untold_pue(low_rel: float) -> float:
    """How far below a value the truth may lie where a PUE from 1 to MOST_PUE may be multiplied into it.

    >>> low_with_untold_pue(0.06)
    0.53
    """
    return 1.0 - (1.0 - low_rel) / MOST_PUE


def edge_j(value_j: float, length_s: float) -> float:
    """Random half-width of a counter read at both ends of a window (method.md, eqs. 6 and 19).

    >>> round(edge_j(3000.0, 10.0), 9)
    24.0
    """
    if length_s <= 0:
        return abs(value_j)
    return abs(value_j) * min(1.0, _TWO_EDGES * _COUNTER_STEP_S / length_s)
