"""Which of the processors that `amdsmi` lists are one socket with one meter, and which of the sockets hold a CPU too.

A socket in partitions (MI300 in DPX, QPX, CPX) is listed once for each, and each may show the power and the energy of
the whole socket: booked by partition, eight of them would be eight times the socket. They share bus and device number
and differ in the function, where the library puts the partition.

Power of an APU is that of its whole socket, CPU included (the kernel's documentation of `amdgpu`, power1_average).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.records import Card
from stillwatt.sensors.counting_files import first_line

_PROPERTY = re.compile(r"^(domain|location_id) (\d+)$", re.MULTILINE)
_SLOT = re.compile(r"([0-9a-f]+:[0-9a-f]+:[0-9a-f]+)\.[0-9a-f]+", re.IGNORECASE)
_UUID = re.compile(r"GPU-[0-9a-f]{16}", re.IGNORECASE)
_APU_TABLES = (2, 3)
"""Revisions of the kernel's table of metrics that are an APU's; those of cards are 1."""
_APU_NAME = re.compile(r"\bMI300A\b", re.IGNORECASE)
"""An APU whose table is a card's."""


@dataclass(frozen=True, slots=True)
class Socket:
    """One piece of hardware with one meter."""

    index: int
    """Of its first processor in the library's list."""
    handles: tuple[Any, ...]
    """Of its partitions; of one processor where it is in none."""
    holds_cpu: bool

    def has(self, indices: Sequence[int] | None) -> bool:
        """Whether one of its processors is among these; None stands for all."""
        return indices is None or any(self.index + place in indices for place in range(len(self.handles)))


def sockets(smi: Any, handles: Sequence[Any], pci_root: Path) -> list[Socket]:
    """The sockets behind the library's list of processors, in its order.

    Args:
        smi: The binding, initialised.
        handles: The list.
        pci_root: Where the kernel shows devices by their addresses on the bus.
    """
    found: list[Socket] = []
    last_slot = ""
    for index, handle in enumerate(handles):
        address = _asked(smi, "amdsmi_get_gpu_device_bdf", handle)
        match = _SLOT.fullmatch(address) if isinstance(address, str) else None
        slot = match[1].lower() if match else ""
        if slot and slot == last_slot and _is_partition(smi, handle):
            last = found[-1]
            found[-1] = Socket(last.index, (*last.handles, handle), last.holds_cpu)
        else:
            found.append(Socket(index, (handle,), _holds_cpu(smi, handle, pci_root / str(address))))
        last_slot = slot
    return found


def as_hip_counts(smi: Any, found: Sequence[Socket], parts: Sequence[str]) -> Iterator[Card]:
    """Each processor of these sockets as HIP counts it, under the part that its socket's power is.

    Args:
        smi: The binding, initialised.
        found: All sockets.
        parts: The part of each.
    """
    for socket, part in zip(found, parts, strict=True):
        for handle in socket.handles:
            about = _asked(smi, "amdsmi_get_gpu_enumeration_info", handle)  # from ROCm 6.4 on
            told = about if isinstance(about, dict) else {}
            number, uuid = told.get("hip_id"), told.get("hip_uuid")
            yield Card(
                part=part,
                index=number if type(number) is int else None,
                uuid=uuid if isinstance(uuid, str) and _UUID.fullmatch(uuid) else "",
                runtime="hip",
                holds_cpu=socket.holds_cpu,
            )


def num_cards_seen(kfd_root: Path, pci_root: Path) -> int:
    """How many cards the kernel knows: partitions are one, and an APU's GPU, whose energy is its CPU's, is none."""
    places = set()
    for node in sorted(kfd_root.glob("*/gpu_id")):
        if first_line(node) in ("", "0"):
            continue  # a CPU
        about = dict(_PROPERTY.findall(first_line(node.with_name("properties"))))
        domain, location = int(about.get("domain", 0)), int(about.get("location_id", 0))
        slot = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 0x1F:02x}"
        if not location:
            places.add(str(node))
        elif not _has_apu_table(pci_root / f"{slot}.0"):
            places.add(slot)
    return len(places)


def _is_partition(smi: Any, handle: Any) -> bool:
    """Whether a processor in the slot of the one before is a partition; what cannot be asked is taken for one."""
    about = _asked(smi, "amdsmi_get_gpu_kfd_info", handle)
    return not isinstance(about, dict) or about.get("current_partition_id") != 0


def _holds_cpu(smi: Any, handle: Any, device_at: Path) -> bool:
    if _has_apu_table(device_at):
        return True
    about = _asked(smi, "amdsmi_get_gpu_asic_info", handle)
    return isinstance(about, dict) and _APU_NAME.search(str(about.get("market_name"))) is not None


def _has_apu_table(device_at: Path) -> bool:
    """Whether the kernel gives an APU's table of metrics for the device."""
    try:
        with (device_at / "gpu_metrics").open("rb") as file:
            header = file.read(4)  # size of the table in two bytes, then its format and its content revision
    except OSError:
        return False
    return len(header) == 4 and header[2] in _APU_TABLES


def _asked(smi: Any, call: str, handle: Any) -> Any:
    """What the library answers, or None where it does not."""
    try:
        return getattr(smi, call)(handle)
    except (smi.AmdSmiException, AttributeError, KeyError, TypeError, ValueError):
        return None
