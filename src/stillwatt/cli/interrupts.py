"""What an interrupt does to a command that has books to close."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stillwatt.clock import Clock
from stillwatt.units import NS_PER_S

__all__ = ["one_interrupt"]

_BURST_NS = 2 * NS_PER_S
"""As long as what an interrupted run writes down may take on a busy machine; whoever still waits is heard again."""


@contextmanager
def one_interrupt(clock: Clock) -> Iterator[None]:
    """In the block an interrupt is one KeyboardInterrupt, however many SIGINTs come at once.

    The second of a burst would be raised while the first one's stages and session are being ended, and keep their ends
    off the books. Bursts are usual: Linux tells a child once for each thread of a parent that dies, milliseconds apart,
    and launchers pass on what the terminal has sent already.

    Nothing changes outside the main thread, or where SIGINT is ignored or somebody else's.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    heard_ns: int | None = None

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard_ns
        now_ns = clock.monotonic_ns()
        if heard_ns is None or now_ns - heard_ns >= _BURST_NS:
            heard_ns = now_ns
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
