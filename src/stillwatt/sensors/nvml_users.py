"""Who is on an NVIDIA card, as NVML tells it: processes, their utilisation, and the instances of a card in MIG mode.

What the driver does not tell stays unknown with its reason: it may refuse lists or utilisation, give no memory, give
numbers of another process namespace, or 0. Utilisation comes as samples every 1/6 to 1 s, and only of processes that
did something; none exists in MIG mode.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stillwatt.clock import Clock
from stillwatt.records import Card, DeviceInstance, DeviceUse, DeviceUser
from stillwatt.sensors import nvml_library
from stillwatt.sensors.processes import Processes
from stillwatt.units import NS_PER_S, NS_PER_US

_TRIES = 4
"""How often a list that grew between two calls is asked for."""
_MARK = 0xA5
_LAYOUTS = {16: struct.Struct("<I4xQ"), 24: struct.Struct("<I4xQII"), 32: struct.Struct("<I4xQII8x")}
"""Entries of process lists by their length: the oldest calls give no instances, drivers of the 535 series before
535.98 give eight bytes more than the interface says."""
_WIDEST = max(_LAYOUTS)
_SAMPLE = struct.Struct("<I4xQIIII")
_NO_MEMORY, _NO_INSTANCE = (1 << 64) - 1, (1 << 32) - 1
_WINDOW_NS = 2 * NS_PER_S
"""Over how long utilisation is averaged: two of the driver's longest sample periods."""
_BUSY_SHARE = 0.05
"""A card that says it is busier than this must have a process with samples."""
_INSTANCES_NS = 30 * NS_PER_S
"""How often it is looked whether a card's instances are still the same."""
_Entry = tuple[int, int, str | None]
"""Process, memory, instance."""
_PROFILES = 16
"""Numbers of instance profiles to ask for; the largest of them is the whole card."""


class _Lists:
    """The calls that list processes of one kind, with a buffer that is made once."""

    def __init__(self, kind: str) -> None:
        self._names = [f"nvmlDeviceGet{kind}RunningProcesses{version}" for version in ("_v3", "_v2", "")]
        self._count = ctypes.c_uint32()
        self._make_room(32)

    @property
    def call(self) -> str:
        """The call that is made."""
        return self._names[0]

    def read(self, nvml: Any, handle: Any) -> list[tuple[int, ...]]:
        """Entries of pid and memory, and of instances where the driver tells them.

        Raises:
            pynvml.NVMLError: the driver does not list them.
        """
        code = nvml_library.INSUFFICIENT_SIZE
        for _ in range(_TRIES):
            ctypes.memset(self._buffer, _MARK, ctypes.sizeof(self._buffer))
            self._count.value = self._room
            code = self._function(nvml)(handle, ctypes.byref(self._count), self._buffer)
            if code == 0:
                return self._entries()
            if code != nvml_library.INSUFFICIENT_SIZE:
                break
            self._make_room(2 * max(self._count.value, self._room))
        raise nvml.NVMLError(code)

    def _function(self, nvml: Any) -> Any:
        while True:
            try:
                return nvml._nvmlGetFunctionPointer(self._names[0])
            except nvml.NVMLError:
                if len(self._names) == 1:
                    raise
                del self._names[0]

    def _make_room(self, entries: int) -> None:
        self._room = entries
        self._buffer = (ctypes.c_uint8 * (entries * _WIDEST))()

    def _entries(self) -> list[tuple[int, ...]]:
        """What was written, in entries of the length that the driver really wrote."""
        count = self._count.value
        if not count:
            return []
        written = bytes(self._buffer).rstrip(bytes([_MARK]))
        layout = next((_LAYOUTS[size] for size in _LAYOUTS if count * size >= len(written)), _LAYOUTS[_WIDEST])
        return list(layout.iter_unpack(written.ljust(count * layout.size, b"\0")))


class _Utilisation:
    """Shares of the multiprocessors' time by process."""

    def __init__(self) -> None:
        self._count = ctypes.c_uint32()
        self._room = 0
        self._make_room(64)

    def read(self, nvml: Any, handle: Any, since_us: int) -> dict[int, float]:
        """Mean shares since a wall-clock time; processes without a sample did nothing and are not in it.

        Raises:
            pynvml.NVMLError: the driver does not tell.
        """
        call = nvml._nvmlGetFunctionPointer("nvmlDeviceGetProcessUtilization")
        code = nvml_library.INSUFFICIENT_SIZE
        for _ in range(_TRIES):
            self._count.value = self._room
            code = call(handle, self._buffer, ctypes.byref(self._count), ctypes.c_ulonglong(since_us))
            if code == 0:
                return self._shares(since_us)
            if code == nvml_library.NOT_FOUND:
                return {}
            if code != nvml_library.INSUFFICIENT_SIZE:
                break
            self._make_room(2 * max(self._count.value, self._room))
        raise nvml.NVMLError(code)

    def _make_room(self, entries: int) -> None:
        self._room = entries
        self._buffer = (ctypes.c_uint8 * (entries * _SAMPLE.size))()

    def _shares(self, since_us: int) -> dict[int, float]:
        written = bytes(self._buffer)[: self._count.value * _SAMPLE.size]
        # drivers are known to leave entries in the list that nothing was written to: their times and shares are noise
        samples = [sample for sample in _SAMPLE.iter_unpack(written) if sample[1] > since_us and sample[2] <= 100]
        moments = len({sample[1] for sample in samples})
        percents: dict[int, int] = {}
        for pid, _, sm_percent, *_ in samples:
            percents[pid] = percents.get(pid, 0) + sm_percent
        return {pid: min(percent / (100 * moments), 1.0) for pid, percent in percents.items()}


@dataclass(slots=True)
class _Seat:
    """What is remembered of one card between two looks."""

    t_ns: int | None = None
    instances: list[tuple[DeviceInstance, Any]] = field(default_factory=list)
    slices: int | None = None
    is_mig: bool = False
    checked_ns: int | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Calls that this card will never answer, with why."""


class NvmlUsers:
    """Looks at who is on cards; belongs to one thread at a time."""

    def __init__(self, clock: Clock, processes: Processes) -> None:
        self._clock = clock
        self._processes = processes
        self._compute, self._graphics = _Lists("Compute"), _Lists("Graphics")
        self._utilisation = _Utilisation()
        self._rates = (ctypes.c_uint32 * 2)()
        self._seats: dict[str, _Seat] = {}

    def look(self, nvml: Any, cards: Sequence[tuple[str, Any]]) -> tuple[DeviceUse, ...]:
        """Who is on each of these cards, given by part and handle."""
        found = tuple(self._look_at(nvml, part, handle) for part, handle in cards)
        self._processes.keep_only({user.pid for use in found for user in use.users or ()})
        return found

    def _look_at(self, nvml: Any, part: str, handle: Any) -> DeviceUse:
        seat = self._seats.setdefault(part, _Seat())
        now_ns = self._clock.monotonic_ns()
        since_ns, seat.t_ns = now_ns if seat.t_ns is None else seat.t_ns, now_ns
        if seat.checked_ns is None or now_ns - seat.checked_ns >= _INSTANCES_NS:
            seat.checked_ns = now_ns
            _find_instances(nvml, handle, seat)
        reasons: list[str] = []
        listed = self._listed(nvml, handle, seat, reasons)
        busy_share, shares = self._shares(nvml, handle, seat, reasons) if listed is not None else (None, None)
        users = None if listed is None else tuple(self._user(*entry, shares) for entry in listed)
        if users and any(user.is_unknown for user in users):
            reasons.append(self._why_unknown(users))
        return DeviceUse(
            part=part,
            since_ns=since_ns,
            t_ns=now_ns,
            users=users,
            busy_share=busy_share,
            reason="; ".join(reasons),
            instances=tuple(instance for instance, _ in seat.instances),
            slices=seat.slices,
        )

    def _listed(self, nvml: Any, handle: Any, seat: _Seat, reasons: list[str]) -> list[_Entry] | None:
        """What is listed, each process once an instance; None where nothing is."""
        places: list[tuple[Any, str | None]] = [(one, instance.name) for instance, one in seat.instances]
        places = places or [(handle, None)]
        found: dict[tuple[int, str | None], int] = {}
        is_listed = False
        for lists in (self._compute, self._graphics):
            if lists.call in seat.refused:
                continue
            for place, name in places:
                try:
                    entries = lists.read(nvml, place)
                except nvml.NVMLError as err:
                    self._refused(seat, lists.call, err, reasons, is_needed=lists is self._compute)
                    continue
                is_listed = True
                for entry in entries:
                    found.setdefault((entry[0], name or _instance_name(entry)), entry[1])
        if not is_listed:
            reasons += [reason for reason in seat.refused.values() if reason not in reasons]
            return None
        return [(pid, memory, name) for (pid, name), memory in found.items()]

    def _shares(
        self, nvml: Any, handle: Any, seat: _Seat, reasons: list[str]
    ) -> tuple[float | None, dict[int, float] | None]:
        """How busy the card is, and by process; a card of instances tells neither."""
        if seat.is_mig:
            reasons.append("MIG mode: the driver tells no utilisation")
            return None, None
        busy_share = self._busy(nvml, handle, seat, reasons)
        call = "nvmlDeviceGetProcessUtilization"
        if call in seat.refused:
            reasons.append(seat.refused[call])
            return busy_share, None
        try:
            shares = self._utilisation.read(nvml, handle, (self._clock.utc_ns() - _WINDOW_NS) // NS_PER_US)
        except nvml.NVMLError as err:
            self._refused(seat, call, err, reasons)
            return busy_share, None
        if not shares and busy_share is not None and busy_share > _BUSY_SHARE:
            reasons.append(f"{call}: no sample of any process although the card is busy")
            return busy_share, None
        return busy_share, shares

    def _busy(self, nvml: Any, handle: Any, seat: _Seat, reasons: list[str]) -> float | None:
        call = "nvmlDeviceGetUtilizationRates"
        if call in seat.refused:
            return None
        try:
            code = nvml._nvmlGetFunctionPointer(call)(handle, self._rates)
            if code:
                raise nvml.NVMLError(code)
        except nvml.NVMLError as err:
            self._refused(seat, call, err, reasons)
            return None
        return min(self._rates[0], 100) / 100

    def _refused(self, seat: _Seat, call: str, err: Any, reasons: list[str], *, is_needed: bool = True) -> None:
        reason = f"{call}: {err}"
        if err.value in (nvml_library.NOT_SUPPORTED, nvml_library.FUNCTION_NOT_FOUND):
            seat.refused[call] = reason
        if is_needed:
            reasons.append(reason)

    def _user(self, pid: int, memory: int, instance: str | None, shares: dict[int, float] | None) -> DeviceUser:
        return DeviceUser(
            pid=pid,
            chain=self._processes.chain(pid),
            sm_share=None if shares is None else shares.get(pid, 0.0),
            memory_bytes=None if memory == _NO_MEMORY else memory,
            instance=instance,
            same_user=self._processes.is_same_user(pid),
        )

    def _why_unknown(self, users: Sequence[DeviceUser]) -> str:
        if any(not user.pid for user in users):
            return "the driver gives processes without a number"
        if not self._processes.is_host:
            return "the driver's process numbers are not those of this container"
        return "a listed process is not in /proc"


def cards(nvml: Any) -> Iterator[Card]:
    """Every card that NVML lists, with what can be found out of each."""
    for index in range(_asked(nvml, nvml.nvmlDeviceGetCount) or 0):
        handle = _asked(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        about = (
            [None, None]
            if handle is None
            else [_asked(nvml, nvml.nvmlDeviceGetUUID, handle), _asked(nvml, nvml.nvmlDeviceGetName, handle)]
        )
        seat = _Seat()
        if handle is not None:
            _find_instances(nvml, handle, seat)
        yield Card(
            part=f"gpu{index}",
            index=index,
            uuid=about[0] or "",
            model=about[1] or "",
            instances=tuple(instance.uuid for instance, _ in seat.instances),
        )


def _find_instances(nvml: Any, handle: Any, seat: _Seat) -> None:
    """Note a card's instances and how many slices it has, where it is in MIG mode."""
    seat.instances, seat.slices = [], None
    mode = _asked(nvml, nvml.nvmlDeviceGetMigMode, handle)
    seat.is_mig = bool(mode and mode[0] == 1)
    if not seat.is_mig:
        return
    for index in range(_asked(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        one = _asked(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if one is None:
            continue  # places of instances that nobody made
        attributes = _asked(nvml, nvml.nvmlDeviceGetAttributes, one)
        gpu_instance = _asked(nvml, nvml.nvmlDeviceGetGpuInstanceId, one)
        compute_instance = _asked(nvml, nvml.nvmlDeviceGetComputeInstanceId, one)
        slices = 0 if attributes is None else attributes.computeInstanceSliceCount or attributes.gpuInstanceSliceCount
        uuid = _asked(nvml, nvml.nvmlDeviceGetUUID, one) or ""
        seat.instances.append(
            (DeviceInstance(name=f"{gpu_instance}/{compute_instance}", uuid=uuid, slices=slices), one)
        )
    profiles = [
        _asked(nvml, nvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number, 1) for number in range(_PROFILES)
    ]
    seat.slices = max((profile.sliceCount for profile in profiles if profile is not None), default=None)


def _instance_name(entry: tuple[int, ...]) -> str | None:
    return f"{entry[2]}/{entry[3]}" if len(entry) > 2 and entry[2] != _NO_INSTANCE else None


def _asked(nvml: Any, call: Any, *arguments: Any) -> Any:
    """What NVML answers, or None where it does not."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None
