"""Who uses a device: processes as numbers and start times, never as names or command lines (method.md, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple


class Rule(StrEnum):
    """How the energy of a part is shared between sessions whose stages run at once on it (method.md, eq. 15)."""

    EVEN = "even"
    """Equally between the sessions that may use it."""
    UTILISATION = "utilisation"
    """By the multiprocessors' time of each session's processes."""
    PROCESS = "process"
    """Equally between the sessions that have a process on it."""


class ProcessId(NamedTuple):
    """A process of one boot of one machine: numbers are used again, a number with a start time is not."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to its start, as `/proc` tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUser:
    """One process that a driver lists on a device."""

    pid: int
    """As the driver gives it; 0 where it gives none."""
    chain: tuple[ProcessId, ...] = ()
    """The process itself, its parent, and so on up; empty where nobody can tell which process of this machine it is."""
    sm_share: float | None = None
    """Share of the multiprocessors' time, 0 to 1; None where the driver does not tell."""
    memory_bytes: int | None = None
    instance: str | None = None
    """Which of the card's instances it runs in, `1/0` for GPU and compute instance; None on a whole card."""
    same_user: bool | None = None
    """Whether it belongs to the user who measures; None where that cannot be told."""

    def __post_init__(self) -> None:
        if self.sm_share is not None and not 0.0 <= self.sm_share <= 1.0:
            raise ValueError(f"process {self.pid}: {self.sm_share} is not a share of the multiprocessors")

    @property
    def is_unknown(self) -> bool:
        """Whether it cannot be said which process this is, so neither whose.

        A process that `/proc` hides from this user is known to be somebody else's.
        """
        return not self.chain and self.same_user is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInstance:
    """One instance of a card that is cut into several (MIG)."""

    name: str
    """GPU instance and compute instance: `1/0`."""
    uuid: str
    slices: int
    """Compute slices that are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """Who was seen on one device at one look, which stands for the time since the look before."""

    part: str
    since_ns: int
    """When the look before was; the same as `t_ns` for the first."""
    t_ns: int
    users: tuple[DeviceUser, ...] | None
    """None where the driver does not list processes."""
    busy_share: float | None = None
    """Share of time in which anything ran on the device, as the driver has it; None where it does not tell."""
    reason: str = ""
    """Why `users`, shares or `busy_share` are missing, in the driver's words; empty where nothing is."""
    instances: tuple[DeviceInstance, ...] = ()
    slices: int | None = None
    """Compute slices of the whole card; None on a card without instances, or where it does not tell."""

    def __post_init__(self) -> None:
        if self.since_ns > self.t_ns:
            raise ValueError(f"{self.part}: a look cannot end ({self.t_ns}) before it begins ({self.since_ns})")
        if self.busy_share is not None and not 0.0 <= self.busy_share <= 1.0:
            raise ValueError(f"{self.part}: {self.busy_share} is not a share of time")
        if self.users is None and not self.reason:
            raise ValueError(f"{self.part}: processes that are not seen need a reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card of this machine as far as choosing it goes, whether its power can be read or not."""

    part: str
    index: int | None
    """The number that a list of cards means: the driver's, which follows the places on the PCI bus, or for `hip` that
    of HIP; None where nobody tells it."""
    uuid: str
    model: str = ""
    instances: tuple[str, ...] = ()
    """UUIDs of its instances."""
    runtime: Literal["cuda", "hip"] = "cuda"
    """Whose variables choose it."""
    holds_cpu: bool = False
    """Whether the part is a CPU's too, so that a program uses it whatever cards it chooses."""
