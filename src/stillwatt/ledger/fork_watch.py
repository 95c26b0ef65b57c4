"""When processes that the measured program forked are gone, seen by its sampling process.

A forked worker may be ended in the middle of a stage, by its pool or by a signal, and then nobody writes that stage's
end. The kernel tells whoever holds a descriptor of a process of its end at once and at no cost; where it knows no such
descriptors, processes are looked at with each flush, and how long one was not seen is written down beside its end.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.ledger.environment import boot_id, host_name
from stillwatt.ledger.liveness import Liveness, ThisHost
from stillwatt.ledger.rundir import fork_names

_MOST_DESCRIPTORS = 256
"""Processes beyond that are looked at; each descriptor is one of a number that the user is allowed."""
_LISTING_SHARE = 1000
"""A listing of the run directory may take this part of the time: some programs fork a hundred thousand times."""


class ForkWatch:
    """Forked processes of one session that have a journal, until each is gone.

    `find` may wait for the disk and belongs to the writing thread; the rest never waits, and is the sampling thread's.

    Args:
        run_dir: the run's directory.
        session: the session whose program forks.
        emit: takes an event for the sampling process's journal.
        clock: the clocks.
        liveness: tells whether a process lives.
        program: the measured program's number, whose end is noticed alike; None for nobody's.
        open_descriptor: gives a descriptor of a process that can be read when that is gone, or raises OSError.
    """

    def __init__(
        self,
        run_dir: Path,
        session: str,
        emit: Callable[[Mapping[str, Any]], None],
        clock: Clock,
        *,
        program: int | None = None,
        liveness: Liveness | None = None,
        open_descriptor: Callable[[int], int] | None = None,
    ) -> None:
        self._run_dir, self._session = Path(run_dir), session
        self._emit = emit
        self._clock = clock
        self._liveness = liveness or ThisHost()
        self._host, self._boot = host_name(), boot_id()
        by_kernel: Callable[[int], int] = getattr(os, "pidfd_open", _no_descriptor)
        self._open = open_descriptor or by_kernel
        self._found: deque[str] = deque()
        self._known: set[str] = set()
        self._by_descriptor: dict[int, str] = {}
        self._looked_at: dict[str, int] = {}
        """When each process without a descriptor was seen alive last."""
        self._poll = select.poll()
        self._changed_ns, self._list_ns = -1, 0
        self.is_program_gone = False
        """Whether the measured program was seen to be gone."""
        self._program = None if program is None else self._descriptor(program)
        # by number and time: what cannot be held, and what began only after the program was gone
        self._program_seen = None if program is None else (program, clock.monotonic_ns())
        if self._program is not None:
            self._poll.register(self._program, select.POLLIN)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What can be read as soon as one of the processes is gone, or the program; ask `look` then."""
        return (*self._by_descriptor, *(() if self._program is None else (self._program,)))

    def find(self) -> None:
        """Look for journals of processes that did not get through to say that they begin."""
        begun_ns = self._clock.monotonic_ns()
        if begun_ns < self._list_ns:
            return
        try:
            changed_ns = os.stat(self._run_dir).st_mtime_ns
            if changed_ns != self._changed_ns:
                self._found.extend(fork_names(self._run_dir, self._session))
        except OSError:
            return  # the next flush looks again
        self._changed_ns = changed_ns
        self._list_ns = begun_ns + _LISTING_SHARE * (self._clock.monotonic_ns() - begun_ns)

    def begun(self, name: str) -> None:
        """Watch a process from now on, by its name (`rundir.fork_name`); one that is known already is watched once."""
        pid, forked_ns = _parsed(name)
        if name in self._known or pid is None:
            return
        self._known.add(name)
        descriptor = self._descriptor(pid)
        # by number and time of its start, after it is held: another process of that number began later
        if self._is_gone(pid, forked_ns):
            if descriptor is not None:
                os.close(descriptor)
            self._end(name, since_ns=0)
        elif descriptor is not None:
            self._by_descriptor[descriptor] = name
            self._poll.register(descriptor, select.POLLIN)
        else:
            self._looked_at[name] = self._clock.monotonic_ns()

    def look(self) -> bool:
        """Write down who is gone; gives whether somebody is."""
        while self._found:
            self.begun(self._found.popleft())
        gone = [descriptor for descriptor, _ in self._poll.poll(0)]
        for descriptor in gone:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            if descriptor == self._program:
                self._program, self.is_program_gone = None, True
            else:
                self._end(self._by_descriptor.pop(descriptor))
        unseen = [name for name in self._looked_at if self._is_gone(*_parsed(name))]
        for name in unseen:
            self._end(name, since_ns=self._looked_at.pop(name))
        now_ns = self._clock.monotonic_ns()
        self._looked_at.update(dict.fromkeys(self._looked_at, now_ns))
        was_gone = self.is_program_gone
        self._look_at_program()
        return bool(gone or unseen) or self.is_program_gone != was_gone

    def _look_at_program(self) -> None:
        """Look for a program of which no descriptor can be had, or could be when it was asked for."""
        if self._program_seen is None or self._program is not None or self.is_program_gone:
            return
        try:
            os.kill(self._program_seen[0], 0)
        except ProcessLookupError:
            self.is_program_gone = True
        except OSError:
            pass  # it is another user's by now
        self.is_program_gone = self.is_program_gone or self._is_gone(*self._program_seen)

    def close(self) -> None:
        """Watch nobody any more."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self._by_descriptor.clear()
        self._program = None

    def _descriptor(self, pid: int) -> int | None:
        if len(self._by_descriptor) >= _MOST_DESCRIPTORS:
            return None
        try:
            return self._open(pid)
        except OSError:
            return None

    def _is_gone(self, pid: int | None, forked_ns: int) -> bool:
        return pid is not None and self._liveness.is_alive(self._host, self._boot, pid, forked_ns) is False

    def _end(self, name: str, *, since_ns: int | None = None) -> None:
        """Write down that a process is gone, which was seen alive last at `since_ns`; None: just now."""
        now_ns = self._clock.monotonic_ns()
        told_ns = now_ns if since_ns is None else since_ns
        self._emit({"event": "fork_ended", "t_ns": now_ns, "fork": name, "since_ns": told_ns})


def _parsed(name: str) -> tuple[int | None, int]:
    """A process's number and when it was forked; no number where the name is none."""
    pid, _, forked = name.partition("-")
    try:
        return int(pid), int(forked, 16)
    except ValueError:
        return None, 0


def _no_descriptor(pid: int) -> int:
    raise OSError(f"no descriptor of process {pid} on this system")
