"""`python -m stillwatt.workflows.rank_start PARENT ARGUMENTS…` becomes `python -m stillwatt ARGUMENTS…`.

Ray blocks SIGINT in all that it starts, and what is blocked or ignored stays so in the programs that a program starts.
A rank must hear it: it is how a launch is told to end its stages and its sessions. A rank must also not outlive who
looks after it, so that it is told to end where that dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def prepare(parent: int) -> None:
    """Hear SIGINT and SIGTERM, and get SIGINT when the parent dies; what is set here holds over `exec`.

    Args:
        parent: Who started this process; if it has died since, this process gets its SIGINT now.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    with contextlib.suppress(OSError, AttributeError):  # Linux has it; elsewhere the rank's peers notice
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", "stillwatt", *sys.argv[2:]])
