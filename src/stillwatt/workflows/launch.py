"""A launch over machines, as plain facts: which rank sits where, what it is told, and what its end means for the rest.

Nothing here knows Ray. Ranks are numbered machine by machine, as `torchrun` numbers them, and told what it would tell.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatt.clock import Clock
from stillwatt.errors import LaunchError, LostTouchError, UsageError
from stillwatt.units import NS_PER_S

_FIRST_ENDS = (0, 3)
"""Statuses of a first rank that did its work: 3 says that the energy is not whole."""
_PATIENCE_S = 5.0
"""After a rank was lost, for the others to find out by themselves and say so in their own words."""
_LAST_PATIENCE_S = 30.0
"""For ranks that were told to end: they end their stages, their sessions and their sampling processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node of a cluster."""

    node_id: str
    host: str
    address: str
    cpus: float = 0.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of the cluster: one bundle of resources a rank."""

    bundles: tuple[Mapping[str, float], ...]
    strategy: str
    """Of the placement group."""

    @property
    def said(self) -> str:
        """What is wanted, for people."""
        gpus = sum(bundle.get("GPU", 0) for bundle in self.bundles)
        cpus = sum(bundle.get("CPU", 0) for bundle in self.bundles)
        noun = "rank" if len(self.bundles) == 1 else "ranks"
        return f"{len(self.bundles)} {noun} with " + (f"{gpus:g} GPU and " if gpus else "") + f"{cpus:g} CPU together"


def plan(machines: Sequence[Machine], *, free_gpus: int, ranks: int | None) -> Plan:
    """How many ranks, and what each of them takes.

    Where the cluster has GPUs a rank takes one, with its share of its machine's CPUs, on as few machines as there may
    be; by default there are as many as GPUs are free. Elsewhere a machine's ranks take all its CPUs, so that no other
    work of Ray's is on their meter; by default there is one on each machine.

    Args:
        machines: Those that are there.
        free_gpus: How many GPUs nobody uses now.
        ranks: How many are wanted; None for the default.

    Raises:
        LaunchError: Nothing is free, or there are fewer CPUs than ranks.

    >>> one, two = (Machine(node_id=name, host=name, address=name, cpus=8.0) for name in "ab")
    >>> plan([one, two], free_gpus=0, ranks=3)
    Plan(bundles=({'CPU': 4}, {'CPU': 4}, {'CPU': 8}), strategy='SPREAD')
    """
    with_gpus = [machine for machine in machines if machine.gpus >= 1]
    if with_gpus:
        count = ranks or free_gpus
        if not count:
            cure = "wait until one is (`ray status`), or say with --ranks how many to wait for"
            raise LaunchError("the Ray cluster", "has no free GPU", cure)
        cpus = max(1, min(int(machine.cpus // machine.gpus) for machine in with_gpus))
        return Plan(bundles=({"GPU": 1, "CPU": cpus},) * count, strategy="PACK")
    able = sorted((machine for machine in machines if machine.cpus >= 1), key=lambda machine: -machine.cpus)
    count = ranks or len(able)
    dealt = _deal(count, [int(machine.cpus) for machine in able])
    bundles = tuple(
        {"CPU": int(able[place].cpus) // number} for place, number in enumerate(dealt) for _ in range(number)
    )
    return Plan(bundles=bundles, strategy="STRICT_SPREAD" if max(dealt) == 1 else "SPREAD")


def _deal(count: int, cpus: Sequence[int]) -> list[int]:
    """How many ranks each machine has: in turns, the largest first, and none beyond its CPUs."""
    if not 0 < count <= sum(cpus):
        have = f"has {sum(cpus)} CPUs, and {count} ranks take one each" if cpus else "has no machine with a CPU"
        raise LaunchError("the Ray cluster", have, "`ray status` shows what it has; ask for fewer with --ranks")
    dealt = [0] * len(cpus)
    while sum(dealt) < count:
        for place, most in enumerate(cpus):
            if sum(dealt) < count and dealt[place] < most:
                dealt[place] += 1
    return [number for number in dealt if number]  # the smallest go without, where there are fewer ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A rank's place."""

    rank: int
    bundle: int
    """Of the placement group."""
    node_id: str
    local_rank: int
    local_count: int
    """Ranks on its machine."""


def seats(node_of_bundle: Mapping[int, str]) -> tuple[Seat, ...]:
    """Ranks over the bundles: all of a machine one after the other, as collectives expect it.

    >>> [(seat.rank, seat.bundle, seat.local_rank, seat.local_count) for seat in seats({0: "a", 1: "b", 2: "a"})]
    [(0, 0, 0, 2), (1, 2, 1, 2), (2, 1, 0, 1)]
    """
    by_node: dict[str, list[int]] = {}
    for bundle in sorted(node_of_bundle):
        by_node.setdefault(node_of_bundle[bundle], []).append(bundle)
    placed = [
        (node_id, bundle, local, len(bundles))
        for node_id, bundles in by_node.items()
        for local, bundle in enumerate(bundles)
    ]
    return tuple(
        Seat(rank=rank, bundle=bundle, node_id=node_id, local_rank=local, local_count=count)
        for rank, (node_id, bundle, local, count) in enumerate(placed)
    )


def rank_environment(seat: Seat, count: int, *, master: str, port: int, launch_id: str) -> dict[str, str]:
    """What a rank is told: all that `torchrun` tells, and which launch it is of (`ledger.group`)."""
    told = {
        "RANK": seat.rank,
        "WORLD_SIZE": count,
        "LOCAL_RANK": seat.local_rank,
        "LOCAL_WORLD_SIZE": seat.local_count,
        "MASTER_ADDR": master,
        "MASTER_PORT": port,
        "STILLWATT_RUN_GROUP": launch_id,
        "STILLWATT_RANK": seat.rank,
        "STILLWATT_WORLD_SIZE": count,
    }
    return {name: str(value) for name, value in told.items()}


def refuse_nested(environment: Mapping[str, str]) -> None:
    """Refuse to launch from inside a launch.

    Raises:
        UsageError: This process is itself one of several.
    """
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--engine ray starts the ranks itself; start it once, without torchrun")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a rank came to its end."""

    rank: int
    status: int | None
    """Of its process, negative for a signal; None where Ray lost sight of it."""
    last_lines: tuple[str, ...] = ()
    why: str = ""
    """What Ray said, where it lost sight of it."""

    @property
    def is_good(self) -> bool:
        """Whether it did its work."""
        return self.status in (_FIRST_ENDS if self.rank == 0 else (0,))

    @property
    def is_sudden(self) -> bool:
        """Whether it could not say a word itself."""
        return self.status is None or self.status < 0

    @property
    def is_of_another(self) -> bool:
        """Whether it ended because another rank had."""
        return any(LostTouchError.WORDS in line for line in self.last_lines)


class Watch:
    """The ranks that are still at work, and what is to become of them once one is lost.

    Args:
        names: What each rank is called when it is told of: machine, address, process.
        clock: Tells how long the others have had.
    """

    def __init__(self, names: Sequence[str], clock: Clock) -> None:
        self._names, self._clock = tuple(names), clock
        self._ends: dict[int, End] = {}
        self._bad: list[End] = []
        """In the order in which they were told; those that we ended by force are none."""
        self._next: int | None = None
        self._due_ns: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether no rank is at work."""
        return len(self._ends) == len(self._names)

    @property
    def first(self) -> End | None:
        """How the first rank ended, if it has."""
        return self._ends.get(0)

    def over(self, end: End) -> None:
        """A rank has come to its end."""
        self._ends[end.rank] = end
        if end.is_good:
            return
        if not (self._is_forced and end.is_sudden):
            self._bad.append(end)
        if self._due_ns is None:
            self._wait_until(_PATIENCE_S, signal.SIGINT)

    def interrupt(self) -> int:
        """Somebody wants all to end; gives the signal for that: a second wish is no longer polite."""
        signal_number = signal.SIGINT if self._next != signal.SIGKILL else signal.SIGKILL
        self._sent(signal_number)
        return signal_number

    @property
    def wait_s(self) -> float | None:
        """How long nothing need be done; None for as long as nobody ends."""
        return None if self._due_ns is None else max(0.0, (self._due_ns - self._clock.monotonic_ns()) / NS_PER_S)

    def due(self) -> int | None:
        """The signal that those still at work are to get now, if any; those that none has ended are given up."""
        if self._due_ns is None or self._clock.monotonic_ns() < self._due_ns:
            return None
        if self._next is None:
            why = f"it did not end within {_LAST_PATIENCE_S:g} s of SIGKILL"
            for rank in range(len(self._names)):
                self._ends.setdefault(rank, End(rank=rank, status=None, why=why))
            return None
        signal_number = self._next
        self._sent(signal_number)
        return signal_number

    def status(self) -> int:
        """The launch's exit status: the first rank's.

        Raises:
            LaunchError: Another rank was lost, or the first one without a word of its own.
        """
        first = self._ends[0]
        # in the order in which they were told of, which is not quite that in which they ended
        causes = sorted(self._bad, key=lambda end: (end.is_of_another, not end.is_sudden))
        lost = causes[0] if causes else None
        if lost is None or (lost.rank == 0 and not lost.is_sudden) or _is_same_word(lost, first):
            return first.status or 0
        raise LaunchError(
            f"rank {lost.rank} on {self._names[lost.rank]}",
            _how(lost),
            "what is finished is kept and booked, and the same command goes on from there",
            last_lines=lost.last_lines if lost.rank else (),  # the first one's were shown as it wrote them
        )

    @property
    def _is_forced(self) -> bool:
        return self._next is None and self._due_ns is not None

    def _sent(self, signal_number: int) -> None:
        if signal_number == signal.SIGKILL:
            self._next, self._due_ns = None, self._clock.monotonic_ns() + round(_LAST_PATIENCE_S * NS_PER_S)
        else:
            self._wait_until(_LAST_PATIENCE_S, signal.SIGKILL)

    def _wait_until(self, patience_s: float, signal_number: int) -> None:
        self._next = signal_number
        self._due_ns = self._clock.monotonic_ns() + round(patience_s * NS_PER_S)


def _is_same_word(lost: End, first: End) -> bool:
    """Whether the first rank ended over the same, and has told of it."""
    is_said = not first.is_good and not first.is_sudden and lost.status == first.status
    return is_said and lost.last_lines[-1:] == first.last_lines[-1:]


def _how(end: End) -> str:
    if end.status is None:
        return f"was lost by Ray ({end.why})"
    if end.status >= 0:
        return f"ended with status {end.status}"
    name = signal.Signals(-end.status).name if -end.status in list(signal.Signals) else f"signal {-end.status}"
    perhaps = ", perhaps for want of memory" if end.status == -signal.SIGKILL else ""
    return f"was ended by {name}{perhaps}"
