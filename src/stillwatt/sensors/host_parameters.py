"""The host model's parameters, derived from published figures rather than stated (method.md, eq. 8).

A parameter is a value with the range it is held to lie in at 95 %. The ranges are those of whole lists, not of
one machine: without knowing the CPU or the memory modules nothing narrower can be defended.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number and the range in which it is held to lie."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.value <= self.high < math.inf:
            raise ValueError(f"{self.value} must lie in [{self.low}, {self.high}], above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCpu:
    """A CPU's rated power and logical CPUs, from its maker's product page."""

    name: str
    threads: int
    rated_w: float
    """TDP (AMD) or processor base power (Intel)."""
    limit_w: float
    """What it may draw for long under full load: Intel's maximum turbo power where stated, else the rated power."""


def _cpu(name: str, threads: int, rated_w: float, limit_w: float | None = None) -> PublishedCpu:
    return PublishedCpu(name=name, threads=threads, rated_w=rated_w, limit_w=limit_w or rated_w)


PUBLISHED_CPUS = (
    # servers
    _cpu("Intel Xeon E5-2680 v4", 28, 120),
    _cpu("Intel Xeon Gold 6148", 40, 150),
    _cpu("Intel Xeon Gold 6248R", 48, 205),
    _cpu("Intel Xeon Silver 4210R", 20, 100),
    _cpu("Intel Xeon Platinum 8380", 80, 270),
    _cpu("Intel Xeon Gold 6430", 64, 270),
    _cpu("Intel Xeon Platinum 8480+", 112, 350),
    _cpu("AMD EPYC 7742", 128, 225),
    _cpu("AMD EPYC 7763", 128, 280),
    _cpu("AMD EPYC 9554", 128, 360),
    _cpu("AMD EPYC 9654", 192, 360),
    # desktops
    _cpu("Intel Core i7-8700K", 12, 95),
    _cpu("Intel Core i5-10400", 12, 65),
    _cpu("Intel Core i7-12700K", 20, 125, 190),
    _cpu("Intel Core i9-13900K", 32, 125, 253),
    _cpu("AMD Ryzen 5 5600X", 12, 65),
    _cpu("AMD Ryzen 7 5800X", 16, 105),
    _cpu("AMD Ryzen 9 7950X", 32, 170),
    # laptops
    _cpu("Intel Core i5-8250U", 8, 15),
    _cpu("Intel Core i7-10750H", 12, 45),
    _cpu("Intel Core i7-1185G7", 8, 28),
    _cpu("Intel Core i7-12700H", 20, 45, 115),
    _cpu("AMD Ryzen 7 5800U", 16, 15),
    _cpu("AMD Ryzen 7 7840U", 16, 28),
)
"""Sources: the makers' product pages (ark.intel.com, amd.com), by name."""

WATTS_PER_THREAD = Parameter(
    value=statistics.median(cpu.rated_w / cpu.threads for cpu in PUBLISHED_CPUS),
    low=min(cpu.rated_w / cpu.threads for cpu in PUBLISHED_CPUS),
    high=max(cpu.limit_w / cpu.threads for cpu in PUBLISHED_CPUS),
)
"""W per logical CPU at full load: median and extremes of `PUBLISHED_CPUS`."""

IDLE_SHARE = Parameter(value=0.2, low=0.05, high=0.5)
"""Idle power over full-load power. Cloud Carbon Footprint's averages of SPECpower results for AWS's servers, 0.74 W
idle and 3.5 W busy per logical CPU, give 0.21; clients idle far lower, old servers higher."""

_WATTS_PER_MODULE = 5.0
"""W of one memory module in use, the round figure that CodeCarbon 3 also takes for x86."""
WATTS_PER_GIB = Parameter(value=_WATTS_PER_MODULE / 32, low=_WATTS_PER_MODULE / 128, high=_WATTS_PER_MODULE / 8)
"""W per GiB: one module's power over 32 GiB, and over 128 and 8 GiB for the range. The much-used 0.37 to 0.39 W/GB
(3 W for an 8 GB module) lies inside; for a server with a terabyte in large modules it would be far too much."""


def gain_bounds(*parameters: Parameter) -> tuple[float, float]:
    """How far below and above 1 the product of independent parameters may lie, relative to its value.

    The ranges are combined in quadrature on a logarithmic scale, since a product's errors multiply
    (method.md, eq. 8): `low = 1 - exp(-sqrt(sum ln(value/low)^2))`, `high = exp(sqrt(sum ln(high/value)^2)) - 1`.

    >>> low_rel, high_rel = gain_bounds(Parameter(value=2.0, low=1.0, high=4.0))
    >>> round(low_rel, 6), round(high_rel, 6)
    (0.5, 1.0)
    """
    low_log = math.hypot(*(math.log(parameter.value / parameter.low) for parameter in parameters))
    high_log = math.hypot(*(math.log(parameter.high / parameter.value) for parameter in parameters))
    return -math.expm1(-low_log), math.expm1(high_log)
