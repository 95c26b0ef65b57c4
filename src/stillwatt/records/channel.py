"""What is measured, where, in which unit: parts, boundaries, bases, channels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum


class Basis(StrEnum):
    """How a number came to be known, best first; a derived number takes the worst of its parts."""

    MEASURED = "measured"
    """Read from an instrument on this run."""
    MODELLED = "modelled"
    """Computed from a model of this device and a reading of its activity."""
    ASSUMED = "assumed"
    """Taken from a default."""

    @property
    def rank(self) -> int:
        """0 for the best basis, growing as it gets worse."""
        return list(Basis).index(self)


def worst_basis(bases: list[Basis]) -> Basis:
    """The basis of a number derived from several.

    >>> worst_basis([Basis.MEASURED, Basis.MODELLED]).value
    'modelled'
    """
    return max(bases, key=lambda basis: basis.rank)


class Boundary(StrEnum):
    """How much of the machine a number covers; numbers of different boundaries are never added silently."""

    RAIL = "rail"
    """One supply inside a chip or board; never added, since it lies within another number."""
    CHIP = "chip"
    BOARD = "board"
    NODE = "node"
    WALL = "wall"
    FACILITY = "facility"
    COMPONENTS = "components"
    """Sum of the metered boards, CPU packages and DRAM of one node: a subtotal of `node` without the rest."""


_COMPONENTS = frozenset({Boundary.CHIP, Boundary.BOARD, Boundary.COMPONENTS})
"""Boundaries that do not contain one another, so that they may be added."""


def is_summed(part: Boundary, total: Boundary) -> bool:
    """Whether a part's boundary is among those that a total of that boundary adds up (method.md, eq. 11).

    >>> is_summed(Boundary.CHIP, Boundary.COMPONENTS), is_summed(Boundary.CHIP, Boundary.WALL)
    (True, False)
    """
    return part in _COMPONENTS if total is Boundary.COMPONENTS else part is total


class Quantity(StrEnum):
    """What one count of a channel stands for."""

    POWER = "power"
    ENERGY_COUNTER = "energy_counter"


class Role(StrEnum):
    """What the accounting does with a channel."""

    LEDGER = "ledger"
    """Its energy is booked."""
    WITNESS = "witness"
    """It stands beside the ledger channel of the same part, to check it and to place stage edges."""


def is_part_name(text: str) -> bool:
    """Whether a part may be called so: it becomes part of a file's name.

    >>> is_part_name("gpu0"), is_part_name("node/0")
    (True, False)
    """
    return text.replace("-", "").replace("_", "").isalnum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One stream of numbers from one instrument.

    `unit_si` is the SI value of one stored count: 0.001 for a counter in millijoules, 1.0 for a power in
    watts. `gain_low_rel` and `gain_high_rel` bound the systematic error as fractions of the value: the true
    value is held to lie between `value * (1 - gain_low_rel)` and `value * (1 + gain_high_rel)`.
    """

    part: str
    device: str
    boundary: Boundary
    quantity: Quantity
    role: Role
    unit_si: float
    driver: str
    basis: Basis
    gain_low_rel: float
    gain_high_rel: float
    update_period_ns: int
    """How often the instrument's own value changes, at most."""
    averaging_ns: int | None = None
    """Over how long each of the instrument's own values averages: shorter than `update_period_ns` where it looks only
    part of the time, longer where it smooths; 0 for a value of one moment, None where nobody knows."""
    sampling_period_ns: int | None = None
    """How often the stream is read: as a driver gives it, a wish to be read more often than the run's period (None: no
    wish); as a journal tells it, what the sampling process does. Close looks at stage edges come on top."""
    is_stamped: bool = False
    """Whether readings carry the instrument's own time, at which the value was renewed, and not that of asking."""
    modulus: int | None = None
    """Counts after which an energy counter starts again at 0; None where it does not wrap in practice."""
    gain: float | None = None
    """Factor from a calibration against a meter, applied when energy is booked; stored counts stay as the instrument
    gave them. `gain_low_rel` and `gain_high_rel` then bound the value times this. None where nobody calibrated."""
    settling_ns: int | None = None
    """Time constant with which a power reading follows what is drawn, as the voltage of a charging capacitor does; None
    for instruments that do not lag in that way."""
    limit_w: float | None = None
    """The most that the device may draw, by a limit of its own; None where it tells none. While nothing was read it is
    held to have drawn anything up to that (method.md, eq. 7)."""
    is_constant: bool = False
    """Whether every reading gives one and the same value, because it is a model's constant: then nothing is estimated
    where nothing was read (method.md, eq. 8)."""
    source: str = ""
    """The call, file or formula the numbers come from, with the driver version where there is one."""

    def __post_init__(self) -> None:
        bounded = {"gain": self.gain, "limit_w": self.limit_w, "settling_ns": self.settling_ns}
        if wrong := [f"{name} = {value}" for name, value in bounded.items() if not _is_positive(value)]:
            raise ValueError(f"{self.part}: {', '.join(wrong)} must be above 0 and finite")
        if not is_part_name(self.part):
            raise ValueError(f"part {self.part!r} must be letters, digits, '-' and '_' (it becomes a file name)")
        if not 0.0 <= self.gain_low_rel <= 1.0 or self.gain_high_rel < 0.0:
            raise ValueError(f"{self.part}: gain bounds {self.gain_low_rel}, {self.gain_high_rel} are not fractions")
        if self.update_period_ns <= 0:
            raise ValueError(f"{self.part}: update period {self.update_period_ns} ns is not a length of time")
        if self.averaging_ns is not None and self.averaging_ns < 0:
            raise ValueError(f"{self.part}: averaging over {self.averaging_ns} ns is not a length of time")
        if self.sampling_period_ns is not None and self.sampling_period_ns <= 0:
            raise ValueError(f"{self.part}: sampling every {self.sampling_period_ns} ns cannot be meant")
        if self.modulus is not None and (self.quantity is not Quantity.ENERGY_COUNTER or self.modulus <= 0):
            raise ValueError(f"{self.part}: only an energy counter wraps, at a positive count")

    def calibrated(self) -> Channel:
        """The channel with its gain worked into `unit_si`, as its counts are booked; itself where it has none."""
        return self if self.gain is None else replace(self, unit_si=self.unit_si * self.gain, gain=None)

    @property
    def stream(self) -> str:
        """The channel's own name within a run: `gpu0.energy_counter`."""
        return f"{self.part}.{self.quantity.value}"


def _is_positive(value: float | None) -> bool:
    return value is None or 0.0 < value < math.inf
