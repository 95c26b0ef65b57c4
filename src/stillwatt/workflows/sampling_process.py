"""The sampling process as the measured program has it: started, told of edges, replaced where it is lost, stopped.

Runs inside the measured program, in whatever thread of it writes something: standard library only, and no error of its
own gets out.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stillwatt.clock import Clock
from stillwatt.units import NS_PER_S
from stillwatt.workflows.sampler_start import StartedSampler

if TYPE_CHECKING:
    from stillwatt.metering.meter import Journal

_READY_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_LOCK_TIMEOUT_S = 1.0
_STEADY_NS = 60 * NS_PER_S
"""One that lasted so long was not lost for a reason that the next one will meet at once."""
_MOST_LOSSES = 3
"""So many that did not last, one after the other, and no other is started."""
_WAIT_NS = 2 * NS_PER_S
"""How much longer each of them has to wait for its start than the one before it; the first does not wait."""
_CUT_OFF_NS = 3 * NS_PER_S
"""How long one whose pipes the program has closed may take to its end, which nobody can tell it now."""
_NO_WORD = "it was killed, or ended without a word"


class Warn(Protocol):
    """Takes what went wrong with the sampling process, as what a sentence says of it."""

    def __call__(self, what: str, *, keeps: bool = False) -> object:
        """Warn of it; `keeps` if the run's record has no other way of telling it."""
        ...


class SamplingProcess:
    """Samples one session.

    Args:
        config: what it is told (`ledger.recorder.parse_config`).
        warn: takes what went wrong with it.
        clock: tells how long it lasted.
        command: what is run; None for the sampling process itself.
    """

    def __init__(
        self, config: Mapping[str, Any], warn: Warn, clock: Clock, *, command: Sequence[str] | None = None
    ) -> None:
        self._config = dict(config)
        self._command = command or (sys.executable, "-m", "stillwatt.ledger.apart")
        self._warn = warn
        self._clock = clock
        self.process: StartedSampler | None = None
        """None before it was started, and where it cannot be."""
        self._hears = False
        self._lock = threading.Lock()
        self._is_kept = False
        """Whether it is replaced where it is lost: from its first reading until it is told to stop."""
        self._losses = 0
        self._started_ns = self._not_before_ns = 0
        self._cut_off_ns: int | None = None

    def start(self) -> None:
        """Start it, and wait until it has read every stream once."""
        try:
            answer = self._begin().await_word(_READY_TIMEOUT_S)
        except OSError as err:
            self._warn(f"cannot be started ({err}); this run's energy will be absent")
            return
        if answer == "ready":
            self._is_kept = True
            return
        self._hears = False
        why = f"cannot measure ({answer.removeprefix('failed ')})" if answer else "did not answer"
        self._warn(f"{why}; this run's energy will be absent or incomplete")

    def say(self, word: str) -> None:
        """Tell it something; one write that never waits."""
        if not self._hears or self.process is None:
            return
        try:
            self.process.say(word.encode())
        except BlockingIOError:
            return  # it has more words to listen to than it can
        except OSError:
            self._hears = False
            self.look()

    def look(self) -> None:
        """Start another where it is gone; three questions to the system otherwise, and none that waits.

        The other reads as soon as it can, and nobody waits for that: the program has work to do.
        """
        if not self._is_kept or not self._lock.acquire(blocking=False):
            return  # another thread is at it, or this one, in the middle of warning of it
        try:
            process = self.process
            if process is not None and self._is_kept and (process.is_gone() or self._is_deaf(process)):
                self._replace(process)
        finally:
            self._lock.release()

    def _is_deaf(self, process: StartedSampler) -> bool:
        """Whether the program has closed its pipes a while ago, and somebody else's copy keeps it from its end."""
        if not process.is_cut_off:
            return False
        now_ns = self._clock.monotonic_ns()
        if self._cut_off_ns is None:
            self._cut_off_ns = now_ns
        return now_ns - self._cut_off_ns >= _CUT_OFF_NS

    def go_on_forked(self) -> None:
        """In a forked process: it is the parent's, which nothing here waits for or ends; words still reach it.

        What is held here of it stays: were its pipe closed, its number would soon be that of a file of the program's.
        """
        self._is_kept = False
        if self.process is not None:
            self.process.leave()

    def stop(self) -> None:
        """Let it take its last reading, and wait for its end."""
        was_kept, self._is_kept = self._is_kept, False
        # not for ever: a signal's handler may stop what the thread that it interrupted is about to replace
        is_alone = self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        try:
            if self.process is not None:
                self._stop(self.process, was_kept)
        finally:
            if is_alone:
                self._lock.release()

    def _stop(self, process: StartedSampler, was_kept: bool) -> None:
        self._hears = False
        if not process.stop(_STOP_TIMEOUT_S):
            self._warn("did not stop by itself and was ended; its last second may be lost")
        elif was_kept and "ended" not in process.words:
            self._warn(f"was lost ({_how_lost(process)}); this run has a gap")

    def _replace(self, lost: StartedSampler) -> None:
        """Start another in place of one that is gone, or give up, and say so."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._not_before_ns:
            return
        if lost.is_cut_off:
            lost.kill()
        lost.close()
        how = _how_lost(lost)
        self._hears, self._cut_off_ns = False, None
        self._losses = 1 if now_ns - self._started_ns >= _STEADY_NS else self._losses + 1
        if self._losses > _MOST_LOSSES:
            self._is_kept = False
            self._warn(
                f"was lost again and again ({how}); no other is started, and this run has a gap to its end", keeps=True
            )
            return
        self._not_before_ns = now_ns + self._losses * _WAIT_NS
        try:
            self._begin()
        except OSError as err:
            how += f", and another cannot be started: {err}"
        self._warn(f"was lost ({how}); another takes its place, and between them this run has a gap", keeps=True)

    def _begin(self) -> StartedSampler:
        """Start the process and tell it what to do.

        Raises:
            OSError: it cannot be started.
        """
        self._started_ns = self._clock.monotonic_ns()
        self.process = StartedSampler(self._command)
        self.process.tell(json.dumps({**self._config, "program": os.getpid()}).encode())
        self._hears = True
        return self.process


class KeepingJournal:
    """The measured program's journal; each event is an occasion to look after the sampling process."""

    def __init__(self, journal: Journal, look: Callable[[], object]) -> None:
        self._journal = journal
        self._look = look

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event, as the journal does."""
        self._journal.write(event)
        self._look()


def _how_lost(lost: StartedSampler) -> str:
    """What is known of why a process is gone; how it ended is told to its parent only."""
    if lost.is_cut_off:
        return "the program closed its pipes, as os.closerange does"
    said = [word.removeprefix("failed ") for word in lost.words if word != "ready"]
    return said[-1] if said else _NO_WORD
