"""One sampling process as the program that started it has it: two pipes and a number. Standard library only.

It is no child of the program (`ledger.apart`), so that its end is no status to wait for: the end of its pipe tells, and
where somebody else holds that open, such as a process that was forked just then, that nobody has its number.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from stillwatt.ledger.journal import Descriptor
from stillwatt.ledger.launched import OPEN_RUN
from stillwatt.units import NS_PER_MS, nanoseconds

if TYPE_CHECKING:
    import subprocess

_WORDS_BYTES = 4096
_LOOK_S = 1.0
"""How often a process is looked for by its number."""
_WAIT_S = 0.05
"""The same while its end is waited for."""
_REAP_S = 1.0
_CUT_OFF_S = 3.0
"""How long one may take to its end that cannot be told: somebody else may hold its pipe open."""
_PROCESS = "process "
"""How the line begins with which the process that was started tells of the one that goes on."""


def sampler_environment() -> dict[str, str]:
    """The program's own environment, less what would make the sampling process heavy or noisy."""
    environment = dict(os.environ)
    for name in ("PYTHONWARNINGS", "PYTHONPROFILEIMPORTTIME", "COVERAGE_PROCESS_START", "LD_PRELOAD", OPEN_RUN):
        environment.pop(name, None)
    return environment


@contextmanager
def sigpipe_held() -> Iterator[None]:
    """Keep a write to a sampling process that is gone from ending the program, whatever the program does on SIGPIPE.

    Python ignores that signal, and the write fails; command-line tools often let it end them. What this thread's own
    write brings is taken back here.
    """
    if signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait([signal.SIGPIPE], 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StartedSampler:
    """A sampling process from its start to its end.

    Args:
        command: what is run.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        import subprocess

        with _pipe() as hearing, _pipe() as saying:
            self._first: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=hearing[0], stdout=saying[1], env=sampler_environment(), start_new_session=True
            )
            self._ear, self._mouth = Descriptor(os.dup(saying[0])), Descriptor(os.dup(hearing[1]))
        os.set_blocking(self._ear.number, False)
        self._number = 0
        self._unread = b""
        self._is_silent = False
        self._look_s = 0.0
        self.words: list[str] = []
        """What it has said, but for its number."""
        self.is_cut_off = False
        """Whether the program has closed a pipe of it, which may be another file of the program's by now."""

    @property
    def pid(self) -> int:
        """Its number; that of the process that starts it until it has told its own."""
        return self._number or self._first.pid

    def tell(self, line: bytes) -> None:
        """Tell it what to do; the one line that is waited for.

        Raises:
            OSError: it does not hear.
        """
        data = line + b"\n"
        with sigpipe_held():
            while data:
                data = data[os.write(self._mouth.number, data) :]
        os.set_blocking(self._mouth.number, False)

    def say(self, word: bytes) -> None:
        """Tell it something, with one write that never waits.

        Raises:
            BlockingIOError: it has more to listen to than it can.
            OSError: it does not hear.
        """
        if not self._mouth.is_ours():
            self._cut_off()
            raise OSError(errno.EPIPE, "it has no pipe to be told by")
        with sigpipe_held():
            os.write(self._mouth.number, word + b"\n")

    def is_gone(self) -> bool:
        """Whether it is not there any more; never waits.

        Its pipe tells of its end at once; its number is asked for once a second, which costs more.
        """
        self._hear()
        if self.words and self._first.returncode is None:
            self._first.poll()  # not earlier: a program that collects whatever ends was at it first, and finds it
        now_s = time.monotonic()
        if self.is_cut_off or (not self._is_silent and now_s >= self._look_s):
            self._look_s = now_s + _LOOK_S
            return self._has_no_process()
        return self._is_silent

    def await_word(self, timeout_s: float) -> str:
        """Its first word; empty where none comes."""
        self._wait_until(lambda: self.is_gone() or bool(self.words), timeout_s)
        self._reap()
        return self.words[0] if self.words else ""

    def stop(self, timeout_s: float) -> bool:
        """Have it end, and wait for that; whether it did in that time. One that did not is ended."""
        self._wait_until(self._is_told, timeout_s)
        self._mouth.close()
        has_stopped = self._wait_until(self.is_gone, min(timeout_s, _CUT_OFF_S) if self.is_cut_off else timeout_s)
        if not has_stopped:
            self.kill()
        _is_gone(self.pid, _REAP_S)  # its pipe is closed a millisecond earlier
        self._hear()
        self.close()
        return has_stopped

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with suppress(OSError):
            os.killpg(self._first.pid, signal.SIGKILL)

    def close(self) -> None:
        """Neither hear nor tell it anything any more."""
        self._ear.close()
        with sigpipe_held():
            self._mouth.close()
        self._reap()

    def leave(self) -> None:
        """In a forked process: it is the parent's to wait for. Words still reach it, and its pipes stay open."""
        self._first.returncode = 0

    def _has_no_process(self) -> bool:
        """Whether nobody has its number, which somebody who holds its pipe open does not tell."""
        if not self._number:
            if self._first.poll() is None:
                return False
            self._hear()  # its number is the last thing that the first process says
        return not self._number or _is_gone(self._number)

    def _is_told(self) -> bool:
        try:
            self.say(b"stop")
        except BlockingIOError:
            return self.is_gone()
        except OSError:
            pass  # gone, or about to be: the end of its input says the same
        return True

    def _hear(self) -> None:
        """Take what it has said."""
        if self._is_silent or self.is_cut_off:
            return
        if not self._ear.is_ours():
            self._cut_off()
            return
        try:
            data = os.read(self._ear.number, _WORDS_BYTES)
        except BlockingIOError:
            return
        self._is_silent = not data
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            word = line.decode("utf-8", "replace").strip()
            number = word.removeprefix(_PROCESS)
            if number != word and number.isdecimal():
                self._number = int(number)
            else:
                self.words.append(word)

    def _cut_off(self) -> None:
        """The program has closed a pipe: the process is to end, and that number is some file of the program's now."""
        self.is_cut_off = True
        self._ear.close()
        self._mouth.close()

    def _reap(self) -> None:
        """Collect the process that was started, which has ended, and the other where an orphan falls to the program."""
        import subprocess

        with suppress(subprocess.TimeoutExpired):
            self._first.wait(_REAP_S)
        if self._number:
            with suppress(OSError):
                os.waitpid(self._number, os.WNOHANG)

    def _wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until it is so; False where it is not in that time."""
        import select

        limit_s = time.monotonic() + timeout_s
        while not is_so():
            left_s = limit_s - time.monotonic()
            if left_s <= 0:
                return False
            heard = select.poll()
            if not self._is_silent and not self.is_cut_off:
                heard.register(self._ear.number, select.POLLIN)
            heard.poll(nanoseconds(min(left_s, _WAIT_S)) / NS_PER_MS)
            self._look_s = 0.0
        return True


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """A pipe that is closed at the end of the block."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def _is_gone(pid: int, timeout_s: float = 0.0) -> bool:
    """Whether a process has come to its end, or does in that time; who has no child must ask by its number."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        return _is_unknown(pid)
    try:
        end = select.poll()
        end.register(descriptor, select.POLLIN)
        return bool(end.poll(nanoseconds(timeout_s) / NS_PER_MS))
    finally:
        os.close(descriptor)


def _is_unknown(pid: int) -> bool:
    """Whether there is no process of this number, where the system has no descriptors of processes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # the program has become another user
    return False
