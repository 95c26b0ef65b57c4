"""Whether a process that wrote a journal is still there, as far as can be told from this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from stillwatt.ledger.environment import boot_id, host_name
from stillwatt.units import NS_PER_S

_SLACK_NS = NS_PER_S
"""A process's start is known to a clock tick; a second of slack never calls a living process dead."""


class Liveness(Protocol):
    """Answers for the processes of one machine."""

    def is_alive(self, host: str, boot: str, pid: int, seen_ns: int) -> bool | None:
        """Whether process `pid`, seen at monotonic time `seen_ns`, lives; None where it cannot be told from here."""
        ...


class ThisHost:
    """Looks processes up in /proc; answers None for other hosts."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._host = host_name()
        self._boot = boot_id()

    def is_alive(self, host: str, boot: str, pid: int, seen_ns: int) -> bool | None:
        """Another boot of this host, no such pid, a zombie, or a pid given to a later process: dead."""
        if host != self._host or not boot or not self._boot:
            return None
        if boot != self._boot:
            return False
        try:
            stat = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        except OSError:
            return None
        # the command's name is in parentheses and may hold anything, spaces and parentheses included
        fields = stat.rpartition(")")[2].split()
        if not fields or fields[0] in ("Z", "X"):
            return False
        return not self._started_after(int(fields[19]), seen_ns)

    def _started_after(self, start_ticks: int, seen_ns: int) -> bool:
        """Whether a process started after a monotonic time; /proc counts from boot, suspended time included."""
        started_ns = start_ticks * NS_PER_S // os.sysconf("SC_CLK_TCK")
        suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return started_ns > seen_ns + suspended_ns + _SLACK_NS
