"""Who is on the devices while they are measured: a look a second, beside the sampling, and what of it is written.

The looks run in a thread of their own: a driver that hangs in one costs looks and no reading.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stillwatt.clock import Clock
from stillwatt.records import DeviceUse, ProcessId
from stillwatt.sensors.base import SeesUsers
from stillwatt.sensors.processes import Processes
from stillwatt.sensors.registry import Resolution
from stillwatt.sensors.visible import used_parts
from stillwatt.sensors.worker import Job, WorkerLike
from stillwatt.units import NS_PER_S

LOOK_NS = NS_PER_S
_PATIENCE_S = 0.5
_SHARE_STEP = 0.05
"""By how much the share of one of several processes must differ from what was written last."""
_LONE_SHARE_STEP = 0.1
_LONE_NS = 10 * NS_PER_S
"""The same for a process that is alone on its device, where shares decide nothing, and how often that is written."""
_BUSY_SHARE = 0.05


class UserWatch:
    """Looks at who is on the devices of a sampling process and hands on what changed.

    `tick` and `finish` belong to the sampling thread, as `emit` does.
    """

    def __init__(
        self,
        resolution: Resolution,
        emit: Callable[[Mapping[str, Any]], None],
        clock: Clock,
        make_worker: Callable[[str, Job], WorkerLike],
        *,
        processes: Processes | None = None,
    ) -> None:
        self._sensors = [item.sensor for item in resolution.opened if isinstance(item.sensor, SeesUsers)]
        self._emit = emit
        self._clock = clock
        self._parts = frozenset(channel.part for channel in resolution.channels)
        self._worker = make_worker("users", self._look) if self._sensors else None
        self._is_due = False
        self._found: tuple[DeviceUse, ...] = ()
        self._written: dict[str, DeviceUse] = {}
        self._problems: set[str] = set()
        self._processes = processes or Processes()
        self._is_sampling: dict[ProcessId, bool] = {}
        """By process that was seen; for as long as it is there."""

    @property
    def is_needed(self) -> bool:
        """Whether some sensor can see users of a device that is looked at."""
        return self._worker is not None and bool(self._parts)

    def keep_only(self, parts: Iterable[str]) -> None:
        """Look at these parts from now on: those that this process counts."""
        self._parts = frozenset(parts)

    def tick(self, skipped: int = 0) -> None:
        """Write what the last look found, and look again unless it has not returned."""
        del skipped  # a look stands for the time since the one before, however long that was
        if self._worker is not None and self.is_needed:
            self._collect(0.0)
            self._is_due = self._worker.ask() or self._is_due

    def finish(self) -> None:
        """Write what the last look found, if it comes soon, and look no more."""
        if self._worker is not None:
            self._collect(_PATIENCE_S)
            self._worker.close()

    def _look(self) -> None:
        """The worker's job."""
        parts = self._parts
        found = [use for sensor in self._sensors for use in sensor.users(parts)]
        known = self._is_sampling
        seen = {user.chain[0]: user.pid for use in found for user in use.users or () if user.chain}
        self._is_sampling = {
            process: known[process] if process in known else self._processes.is_sampling(pid)
            for process, pid in seen.items()
        }
        self._found = tuple(self._without_sampling(use) for use in found)

    def _without_sampling(self, use: DeviceUse) -> DeviceUse:
        """Without sampling processes: they are nobody's children, and would be taken for tenants."""
        if use.users is None:
            return use
        users = tuple(user for user in use.users if not (user.chain and self._is_sampling[user.chain[0]]))
        return use if len(users) == len(use.users) else dataclasses.replace(use, users=users)

    def _collect(self, patience_s: float) -> None:
        if self._worker is None or not self._is_due or not self._worker.wait(patience_s):
            return
        self._is_due = False
        if self._worker.error is not None:
            self._report(self._worker.error)
            return
        for use in self._found:
            if is_news(use, self._written.get(use.part)):
                self._written[use.part] = use
                self._emit(use_event(use))

    def _report(self, error: BaseException) -> None:
        """Say of each kind of mistake once that looks fail."""
        problem = f"who uses the devices cannot be seen: {type(error).__name__}: {error}"
        if problem not in self._problems:
            self._problems.add(problem)
            self._emit({"event": "warning", "t_ns": self._clock.monotonic_ns(), "message": problem})


def is_news(use: DeviceUse, written: DeviceUse | None) -> bool:
    """Whether a look has to be written beside the last one of the same part that was.

    Other processes always; other shares where several processes are there, if one differs by 0.05 or more; the share
    of a process that is alone every ten seconds, if it differs by 0.1.
    """
    if written is None or _who(use) != _who(written):
        return True
    shares = [(user.sm_share, before.sm_share) for user, before in zip(_users(use), _users(written), strict=True)]
    if any((share is None) != (before is None) for share, before in shares):
        return True
    most = max((abs(share - before) for share, before in shares if share is not None and before is not None), default=0)
    if len(shares) > 1:
        return most >= _SHARE_STEP
    return most >= _LONE_SHARE_STEP and use.t_ns - written.t_ns >= _LONE_NS


def use_event(use: DeviceUse) -> dict[str, Any]:
    """A look as an event of the journal."""
    return {"event": "device_users", **dataclasses.asdict(use)}


def parts_of_program(resolution: Resolution, environment: Mapping[str, str]) -> dict[str, Any]:
    """The parts that the measured program uses with their devices, the cards beside them that it cannot use, and why.

    Parts that no variable chooses (CPUs, DRAM, Intel's cards) are always used.
    """
    cards = [card for item in resolution.opened if isinstance(item.sensor, SeesUsers) for card in item.sensor.cards()]
    here = {channel.part: channel.device for channel in resolution.channels}
    if not cards:
        return {"parts": here, "beside": [], "parts_reason": ""}
    used = used_parts(environment, cards)
    beside = {card.part for card in cards} - used.parts
    known = dict.fromkeys([*here, *(absent.part for absent in resolution.absent)])
    return {
        "parts": {part: device for part, device in here.items() if part not in beside},
        "beside": [part for part in known if part in beside],
        "parts_reason": used.reason,
    }


def _users(use: DeviceUse) -> list[Any]:
    return sorted(use.users or (), key=lambda user: (user.pid, user.instance or ""))


def _who(use: DeviceUse) -> tuple[Any, ...]:
    """What makes two looks the same but for their shares."""
    is_busy = not use.users and use.busy_share is not None and use.busy_share > _BUSY_SHARE
    who = None if use.users is None else [(user.pid, user.instance, user.chain[:1]) for user in _users(use)]
    return (who, is_busy, use.instances, use.slices)
