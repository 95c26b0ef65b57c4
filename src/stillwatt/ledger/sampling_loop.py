"""What the sampling process does when: deadlines, words from the measured program and from other ranks, writing."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from stillwatt.clock import Clock
from stillwatt.sensors.beat import Beat
from stillwatt.units import NS_PER_MS, NS_PER_S, nanoseconds, seconds

if TYPE_CHECKING:
    from stillwatt.ledger.recorder import Recorder

HEARD = "heard"
"""The command that stands for word from elsewhere: of another rank's edge, or of a forked process's end."""
_FORK = "fork "
"""How the word of a forked process begins that has written something; its name follows."""
_FLUSH_NS = 3 * NS_PER_S // 4
"""So that a kill costs less than a second: what was read since the last flush, and the readings not collected yet."""
_ACCOUNT_NS = 10 * NS_PER_S
_CLAIM_NS = NS_PER_S // 5
"""How often a device that somebody else reads is tried: so often that what he leaves has no gap worth speaking of."""
_EARLY_NS = NS_PER_S // 10
"""How much earlier than it has to be something is done together with a reading."""
_LONG_WAIT_NS = 50 * NS_PER_MS
"""A wait longer than this may end a millisecond late: readings carry their own times."""
_LINE_BYTES = 65_536


class Commands:
    """Lines from the measured program, and word of edges from other ranks' sampling processes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self._ears: tuple[socket.socket | int, ...] = ()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def listen(self, ears: Iterable[socket.socket | int]) -> None:
        """Hear at these sockets and other descriptors from now on."""
        for ear in self._ears:
            self._poll.unregister(ear)
        self._ears = tuple(ears)
        for ear in self._ears:
            self._poll.register(ear, select.POLLIN)

    def wait(self, timeout_s: float | None) -> str | None:
        """The next line without its newline; `""` at the end of input, None when none came in time.

        `HEARD` where another rank told of an edge of its own, or a forked process is gone.
        """
        while b"\n" not in self._buffer:
            ready = self._ready(timeout_s)
            if not ready:
                return None
            if self._fd not in ready:
                return HEARD
            data = os.read(self._fd, _LINE_BYTES)
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", errors="replace").strip() or " "

    def speaks_within(self, timeout_ns: int) -> bool:
        """Whether there is something to be heard with `wait`, now or in that time; may be a millisecond late."""
        return b"\n" in self._buffer or bool(self._poll.poll(max(timeout_ns, 0) / NS_PER_MS))

    def _ready(self, timeout_s: float | None) -> Container[object]:
        """Wait for input; what is kept registered costs less, but it wakes up at whole milliseconds only."""
        if timeout_s is None or nanoseconds(timeout_s) > _LONG_WAIT_NS:
            found = self._poll.poll(None if timeout_s is None else nanoseconds(timeout_s) / NS_PER_MS)
            return [fd for fd, _ in found]
        return select.select([self._fd, *self._ears], [], [], timeout_s)[0]


class Loop:
    """Samples at the deadlines until told to stop; one that was left in the middle of a reading can be run again."""

    def __init__(self, recorder: Recorder, commands: Commands, clock: Clock) -> None:
        self._recorder, self._commands, self._clock = recorder, commands, clock
        self._is_parent_lost = False
        self._writes = Beat(_FLUSH_NS, self._write, early_ns=_EARLY_NS)
        self._claims = recorder.claims
        self._tries = Beat(
            _CLAIM_NS, self._take_over, is_on=lambda: self._claims is not None and self._claims.is_waiting
        )
        self._beats = self._all_beats()
        self._account_ns = clock.monotonic_ns() + _ACCOUNT_NS

    def run(self) -> bool:
        """Sample; True when the measured program was lost, False when told to stop.

        A program that is gone while something else holds its end of the pipe open (a forked worker) is noticed by
        its descriptor, or is looked for with each flush.
        """
        while True:
            wake_ns = self._keep_beats()
            if self._is_parent_lost:
                return True
            wake_ns = self._read_in_turn(wake_ns)
            command = self._commands.wait(max(seconds(wake_ns - self._clock.monotonic_ns()), 0.0))
            if command == HEARD:
                self._hear()
            elif command == "mark":
                self._recorder.edge()
            elif command is not None and command.startswith(_FORK):
                self._recorder.watch_fork(command.removeprefix(_FORK))
                self._listen()
            elif command in ("stop", ""):
                return command == ""

    def _keep_beats(self) -> int:
        """Do what is due now; gives when something is to be done next."""
        now_ns = self._clock.monotonic_ns()
        wake_ns, beats = now_ns + _FLUSH_NS, self._beats
        for beat in beats:
            # these lines run at every reading: what nobody has to be asked for is decided without a call
            rests = beat.is_on is None and now_ns < beat.deadline_ns - beat.early_ns
            due_ns = beat.deadline_ns if rests else beat.keep(now_ns)
            if due_ns is not None and due_ns < wake_ns:
                wake_ns = due_ns
        return wake_ns if self._beats is beats else now_ns  # other beats from now on: they are asked at once

    def _read_in_turn(self, wake_ns: int) -> int:
        """Take the readings that are due before anything else is; gives when something is to be done next.

        This is what a sampling process does most of its time, ten times a second with cold caches, so it is done with
        next to nothing around it. It ends where somebody speaks, deadlines were missed or a sensor did not answer as
        it should: the usual way knows what to do then.
        """
        beat, *others = self._beats
        if wake_ns != beat.deadline_ns or beat.period_ns <= _LONG_WAIT_NS:
            return wake_ns
        turn = self._recorder.quick_turn()
        if turn is None:
            return wake_ns
        others = [other for other in others if other.deadline_ns]
        until_ns = min(other.deadline_ns - other.early_ns for other in others)
        speaks_within, now_ns = self._commands.speaks_within, self._clock.monotonic_ns
        while beat.deadline_ns < until_ns and not speaks_within(beat.deadline_ns - now_ns()):
            if now_ns() - beat.deadline_ns >= beat.period_ns:
                break
            beat.deadline_ns += beat.period_ns  # before the reading: who goes on after one that hung finds it done
            if not turn():
                break
        return min(beat.deadline_ns, *(other.deadline_ns for other in others))

    def _all_beats(self) -> list[Beat]:
        self._listen()
        return [*self._recorder.beats(), self._tries, self._writes]

    def _listen(self) -> None:
        """Hear other ranks' edges and the ends of forked processes from now on."""
        ears = self._claims.ears if self._claims is not None else ()
        self._commands.listen((*ears, *self._recorder.fork_descriptors))

    def _hear(self) -> None:
        """Take what was told elsewhere than on the pipe; whichever it was, somebody's stage begins or ends."""
        if self._claims is not None:
            self._claims.hear()
        is_own = self._recorder.look_at_forks()
        if is_own:
            self._listen()
            self._is_parent_lost = self._recorder.is_program_gone
        self._recorder.edge(is_own=is_own)

    def _take_over(self, _skipped: int) -> None:
        """Look whether a device is free that somebody else has read until now."""
        if self._recorder.take_over():
            self._beats = self._all_beats()

    def _write(self, _skipped: int) -> None:
        """Have what is held written, with the account at its time."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._account_ns:
            self._recorder.account()
            self._account_ns = now_ns + _ACCOUNT_NS
        before = self._recorder.fork_descriptors
        self._recorder.flush()
        if self._recorder.fork_descriptors != before:
            self._listen()
        self._is_parent_lost = self._recorder.is_program_gone
