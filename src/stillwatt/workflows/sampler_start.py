"""What a sampling process is started with, and its first word. Standard library only."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from stillwatt.ledger.launched import OPEN_RUN

if TYPE_CHECKING:
    import io
    import subprocess


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


def first_line(sampler: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Wait for the sampling process's first line; empty when it dies or stays silent."""
    answer: list[bytes] = []
    stdout = sampler.stdout
    assert stdout is not None
    reader = threading.Thread(target=lambda: answer.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    return answer[0].decode("utf-8", "replace").strip() if answer else ""


def let_go(sampler: subprocess.Popen[bytes]) -> None:
    """In a forked process: close what it has of the pipes to its parent's sampling process."""
    for pipe in (sampler.stdin, sampler.stdout):
        # below the buffer, whose lock a thread of the parent's may have held
        cast("io.BufferedReader | io.BufferedWriter", pipe).raw.close()
