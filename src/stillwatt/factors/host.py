"""Making a host, a server without its accelerators, from what a run recorded of it (docs/method.md, eq. 113).

A record says how many processors a system has and how much memory, never which server it is, nor whether it is all of
one. What is not known is a range and not a guess: ends are taken together, so the interval is wide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.factors.catalog import Catalog, choose_for_device
from stillwatt.records.factor import Choice, Distribution, Factor, NoFactor
from stillwatt.units import BYTES_PER_GB

MEMORY_IN_GB = 16.0
"""Memory that makers' figures of a server have in them."""
MOST_THREADS = 256.0
"""Logical processors of a large host with two sockets, of which a virtual machine may be a part."""
MOST_MEMORY_GB = 256.0
"""Memory that a host of unknown memory may have."""
MOST_DISK_GB = 4_000.0
"""Flash beyond a maker's figure that a host of unknown drives may have."""
_SOCKETS = (1, 2, 4)
_SERVERS = re.compile(r"xeon|epyc|neoverse|graviton|ampere|opteron|power\d", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What is known of a host; None is not known."""

    processor: str = ""
    logical_cpus: int | None = None
    memory_gb: float | None = None
    sockets: int | None = None
    """Stated by the user; then the record is of a whole server."""
    disk_gb: float | None = None
    """Flash beyond two to four drives; stated by the user."""

    @property
    def called(self) -> str:
        """What it is called in a report."""
        whole = f"{self.sockets} sockets" if self.sockets else f"{self.logical_cpus or '?'} logical CPUs"
        memory = "memory not known" if self.memory_gb is None else f"{self.memory_gb:.0f} GB"
        return f"{self.processor or 'server'} ({whole}, {memory})"


def host_of(environment: Mapping[str, Any]) -> Host:
    """A host as a run's record has it."""
    cpus, memory = environment.get("logical_cpus"), environment.get("memory_bytes")
    return Host(
        processor=str(environment.get("cpu_model") or ""),
        logical_cpus=cpus if isinstance(cpus, int) and cpus > 0 else None,
        memory_gb=memory / BYTES_PER_GB if isinstance(memory, int | float) and memory > 0 else None,
    )


def making_of_host(catalog: Catalog, host: Host) -> Choice | NoFactor:
    """GWP of making it, with a wide interval and what was assumed (eq. 113)."""
    if not host.sockets and not _SERVERS.search(host.processor):
        reason = f"no server's processor ({host.processor or 'none is recorded'}), and servers alone have a table"
        return _none("embodied_gwp", host, reason)
    servers = _servers(catalog, "embodied_gwp", host)
    memory, flash = (
        choose_for_device(catalog, "dram_gwp", "server memory"),
        choose_for_device(catalog, "ssd_gwp", "SSD average"),
    )
    if not servers or isinstance(memory, NoFactor) or isinstance(flash, NoFactor):
        return _none("embodied_gwp", host, "a server, its memory or its drives have no usable figure")
    more = _more_memory_gb(host)
    disk = (0.0, 0.0, MOST_DISK_GB) if host.disk_gb is None else (host.disk_gb,) * 3
    parts = ((_share(host), _hull(servers)), (more, _ends(memory.factor)), (disk, _ends(flash.factor)))
    low, value, high = (math.fsum(amounts[end] * factor[end] for amounts, factor in parts) for end in range(3))
    used = [*servers, memory.factor, flash.factor]
    return Choice(factor=_made(host, servers[-1], used, (low, value, high)), cautions=tuple(_cautions(host)))


def mass_of_host(catalog: Catalog, host: Host) -> Choice | NoFactor:
    """Mass of it that is thrown away in the end, by the same share."""
    servers = _servers(catalog, "ewaste_mass", host) if host.sockets or _SERVERS.search(host.processor) else []
    if not servers:
        return _none("ewaste_mass", host, "no mass of such a host is known")
    ends = tuple(share * mass for share, mass in zip(_share(host), _hull(servers), strict=True))
    return Choice(factor=_made(host, servers[-1], servers, ends), cautions=tuple(_cautions(host)))


def _servers(catalog: Catalog, quantity: str, host: Host) -> list[Factor]:
    """Servers with as many processors as are known; one or two where none is."""
    sockets = [min((k for k in _SOCKETS if k >= host.sockets), default=_SOCKETS[-1])] if host.sockets else [1, 2]
    found = [choose_for_device(catalog, quantity, f"server-{k}-socket") for k in sockets]
    return [one.factor for one in found if isinstance(one, Choice)]


def _share(host: Host) -> tuple[float, float, float]:
    """How much of a server it is: all of it where the user says its sockets, else from its threads' part up to all."""
    if host.sockets:
        return (1.0, 1.0, 1.0)
    part = min(1.0, (host.logical_cpus or 1) / MOST_THREADS)
    return part, math.sqrt(part), 1.0


def _more_memory_gb(host: Host) -> tuple[float, float, float]:
    if host.memory_gb is None:
        return (0.0, 0.0, MOST_MEMORY_GB)
    held = [share * MEMORY_IN_GB for share in _share(host)]
    return (max(0.0, host.memory_gb - held[2]), max(0.0, host.memory_gb - held[1]), max(0.0, host.memory_gb - held[0]))


def _ends(factor: Factor) -> tuple[float, float, float]:
    return factor.low, factor.value, factor.high


def _hull(factors: list[Factor]) -> tuple[float, float, float]:
    """The least low, the middle of the values, the largest high."""
    values = [factor.value for factor in factors]
    return min(f.low for f in factors), math.fsum(values) / len(values), max(f.high for f in factors)


def _cautions(host: Host) -> list[str]:
    said = []
    if not host.sockets:
        said.append(
            f"{host.called}: which part of which server this is, is not recorded; from {_share(host)[0]:.2g} of one to "
            "all of it. --machine sockets=2,memory=256,disk=2000 says it"
        )
    if host.disk_gb is None:
        flash = f"up to {MOST_DISK_GB:g} GB of flash are in the interval"
        said.append(f"{host.called}: its drives are not recorded; {flash}")
    return said


def _made(host: Host, like: Factor, used: list[Factor], ends: tuple[float, ...]) -> Factor:
    low, value, high = ends
    return Factor(
        id=f"{like.quantity} of {host.called}",
        quantity=like.quantity,
        value=value,
        low=low,
        high=high,
        distribution=Distribution.LOGNORMAL if 0.0 < low < high else Distribution.TRIANGULAR,
        unit=like.unit,
        where=host.called,
        year=like.year,
        vintage=like.vintage,
        boundary="a host from what was recorded of it (method eq. 113)",
        source=", ".join(dict.fromkeys(f"{one.id} of {one.origin}" for one in used)) + f"; {like.source}",
        source_url=like.source_url,
        licence=like.licence,
        verified=False,
        note="made by this project; ends are taken together",
        spread_is_ours=True,
        origin=like.origin,
    )


def _none(quantity: str, host: Host, reason: str) -> NoFactor:
    cure = f"give --device host:NAME with --factor '{quantity}@NAME=VALUE', or --machine sockets=2,memory=256,disk=2000"
    return NoFactor(quantity=quantity, where=host.called, reason=f"{reason}; {cure}")
