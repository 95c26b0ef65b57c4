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
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from stillwatt.clock import Clock
from stillwatt.units import NS_PER_S
from stillwatt.workflows.sampler_start import first_line, sampler_environment, sigpipe_held

if TYPE_CHECKING:
    import subprocess

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
_WORDS_BYTES = 4096


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
        self._command = command or (sys.executable, "-m", "stillwatt.ledger.recorder")
        self._warn = warn
        self._clock = clock
        self.process: subprocess.Popen[bytes] | None = None
        """None before it was started, and where it cannot be."""
        self._words_fd = -1
        self._lock = threading.Lock()
        self._is_kept = False
        """Whether it is replaced where it is lost: from its first reading until it is told to stop."""
        self._losses = 0
        self._started_ns = self._not_before_ns = 0

    def start(self) -> None:
        """Start it, and wait until it has read every stream once."""
        try:
            answer = self._first_word()
        except OSError as err:
            self._warn(f"cannot be started ({err}); this run's energy will be absent")
            return
        if answer == "ready":
            self._is_kept = True
            return
        self._words_fd = -1
        why = f"cannot measure ({answer.removeprefix('failed ')})" if answer else "did not answer"
        self._warn(f"{why}; this run's energy will be absent or incomplete")

    def say(self, word: str) -> None:
        """Tell it something; one write that never waits."""
        if self._words_fd < 0:
            return
        try:
            with sigpipe_held():
                os.write(self._words_fd, word.encode() + b"\n")
        except BlockingIOError:
            return  # it has more words to listen to than it can
        except OSError:
            self._words_fd = -1
            self.look()

    def look(self) -> None:
        """Start another where it is gone; one question to the system otherwise, and none that waits.

        The other reads as soon as it can, and nobody waits for that: the program has work to do.
        """
        if not self._is_kept or not self._lock.acquire(blocking=False):
            return  # another thread is at it, or this one, in the middle of warning of it
        try:
            process = self.process
            # a status that its program collected itself is as good: what is not there has one
            if process is not None and process.poll() is not None and self._is_kept:
                self._replace(process)
        finally:
            self._lock.release()

    def go_on_forked(self) -> None:
        """In a forked process: it is the parent's child, which nothing here waits for or ends; words still reach it.

        What is held here of it stays: were its pipe closed, its number would soon be that of a file of the program's.
        """
        self._is_kept = False
        if self.process is not None:
            self.process.returncode = 0

    def stop(self) -> None:
        """Let it take its last reading, and wait for its end."""
        self._is_kept = False
        # not for ever: a signal's handler may stop what the thread that it interrupted is about to replace
        is_alone = self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        try:
            if self.process is not None:
                self._stop(self.process)
        finally:
            if is_alone:
                self._lock.release()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        import subprocess

        if self._words_fd >= 0:
            os.set_blocking(self._words_fd, True)
            self._words_fd = -1
        try:
            with sigpipe_held():
                process.communicate(b"stop\n", timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._warn("did not stop by itself and was ended; its last second may be lost")
        except (OSError, ValueError) as err:
            self._warn(f"was lost ({err}); see `stillwatt ledger verify`")
        assert process.stdout is not None
        process.stdout.close()
        if process.returncode:
            self._warn(f"was lost (status {process.returncode}); this run has a gap")

    def _replace(self, lost: subprocess.Popen[bytes]) -> None:
        """Start another in place of one that is gone, or give up, and say so."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._not_before_ns:
            return
        how = _how_lost(lost)
        self._words_fd = -1
        self._losses = 1 if now_ns - self._started_ns >= _STEADY_NS else self._losses + 1
        if self._losses > _MOST_LOSSES:
            self._is_kept = False
            self._warn(
                f"was lost again and again ({how}); no other is started, and this run has a gap to its end", keeps=True
            )
            return
        self._not_before_ns = now_ns + self._losses * _WAIT_NS
        try:
            self._words_fd = self._begin()
        except OSError as err:
            how += f", and another cannot be started: {err}"
        self._warn(f"was lost ({how}); another takes its place, and between them this run has a gap", keeps=True)

    def _begin(self) -> int:
        """Start the process and tell it what to do; gives the descriptor of its words.

        Raises:
            OSError: it cannot be started.
        """
        import subprocess

        self._started_ns = self._clock.monotonic_ns()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=sampler_environment(),
            start_new_session=True,
        )
        self.process = process
        assert process.stdin is not None
        with sigpipe_held():
            process.stdin.write(json.dumps(self._config).encode() + b"\n")
            process.stdin.flush()
        os.set_blocking(process.stdin.fileno(), False)
        return process.stdin.fileno()

    def _first_word(self) -> str:
        """Start the process; gives its answer, empty where none comes."""
        self._words_fd = self._begin()
        assert self.process is not None
        return first_line(self.process, _READY_TIMEOUT_S)


class KeepingJournal:
    """The measured program's journal; each event is an occasion to look after the sampling process."""

    def __init__(self, journal: Journal, look: Callable[[], object]) -> None:
        self._journal = journal
        self._look = look

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event, as the journal does."""
        self._journal.write(event)
        self._look()


def _how_lost(lost: subprocess.Popen[bytes]) -> str:
    """What is known of why a process is gone: its own last word, or how it ended; its pipes are closed."""
    assert lost.stdin is not None
    assert lost.stdout is not None
    word = b""
    # somebody who was forked just then holds the other end; or it was closed when no other could be started
    with suppress(OSError, ValueError):
        os.set_blocking(lost.stdout.fileno(), False)
        word = os.read(lost.stdout.fileno(), _WORDS_BYTES)
    lost.stdout.close()
    with sigpipe_held(), suppress(OSError):  # what it was to be told and did not hear any more
        lost.stdin.close()
    said = word.decode("utf-8", "replace").strip().removeprefix("ready").removeprefix("failed").strip()
    return said or (f"signal {-lost.returncode}" if lost.returncode < 0 else f"status {lost.returncode}")
